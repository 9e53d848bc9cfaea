package fastrung

import (
	"strings"
	"testing"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/crypto/keys"
	"blocktree/internal/bttp"
	"blocktree/internal/file"
)

// TestNearerKeyUnseen: who may not look at the record of the nearest directory with a key wraps nothing to the key of one farther up in its place, as the readers of the nearer would not read it then: not a
// new file, which is refused, and not the next record of one that is there, which keeps its wraps.
func TestNearerKeyUnseen(t *testing.T) {
	within(t, bttp.TCP, 16, func(b *bed) {
		ctx := b.T.Context()
		must := func(err error) {
			b.T.Helper()
			if err != nil {
				b.T.Fatal(err)
			}
		}
		admin, far, near, own := b.admin(b.client), keys.NewReaderKey(), keys.NewReaderKey(), keys.NewReaderKey()
		must(admin.MakeDir(ctx, b.Path("/team"), 0o755, false, keys.X25519, []keys.PublicKey{far.Public()}))
		must(admin.MakeDir(ctx, b.Path("/team/secret"), 0o700, false, keys.X25519, []keys.PublicKey{near.Public()}))
		must(b.client.MakeDir(ctx, b.Path("/team/secret/in"), 0o777, false))
		c, at := b.ClientAs(user)
		name := b.Path("/team/secret/in/mine")
		create := func() error {
			return file.Create(ctx, c, name, file.CreateOptions{SizeBytes: 1 << 20, Readers: []keys.PublicKey{own.Public()}})
		}
		if err := create(); blocktree.KindOf(err) != blocktree.Permission || !strings.Contains(err.Error(), "/team/secret ") || blocktree.HintOf(err) == "" {
			b.T.Errorf("made beneath a directory that it may not look at: %v", err)
		}
		look := func() {
			b.T.Helper()
			_, err := b.client.Grant(ctx, b.Path("/team/secret"), meta.Grant{Subject: meta.Subject{Path: at}, Rights: meta.RightList})
			must(err)
		}
		look()
		must(create())
		_, err := b.client.Revoke(ctx, b.Path("/team/secret"), meta.Subject{Path: at})
		must(err)
		must((&file.Admin{Client: c, Reader: own}).Grant(ctx, name, keys.NewReaderKey().Public()))
		for what, key := range map[string]*keys.ReaderKey{"its own reader": own, "who reads the directory": near, "who reads the one above": far} {
			f, err := file.Open(ctx, b.client, name, file.OpenOptions{ReadOnly: true, Reader: key})
			if err != nil {
				b.T.Errorf("%s: %v", what, err)
				continue
			}
			_ = f.Close() // nothing was done with it
		}
	})
}

// N3 of 0072: a directory that had no key is taken to have none while a file is made in it, but the file is wrapped to the one that it has by then, and there is one file.
func TestKeylessNoMore(t *testing.T) {
	within(t, bttp.TCP, 17, func(b *bed) {
		ctx := b.T.Context()
		must := func(err error) {
			b.T.Helper()
			if err != nil {
				b.T.Fatal(err)
			}
		}
		admin, reader, own := b.admin(b.client), keys.NewReaderKey(), keys.NewReaderKey()
		dir, name := b.Path("/team"), b.Path("/team/mine")
		o := file.CreateOptions{SizeBytes: 1 << 20, Readers: []keys.PublicKey{own.Public()}, Keyless: new(file.Keyless)}
		create := func() *meta.Inode {
			b.T.Helper()
			f, inode, err := file.MakeHeld(ctx, b.client, name, o, 0, file.OpenOptions{Reader: own})
			must(err)
			must(f.WriteSectors(ctx, 0, make([]byte, blocktree.SectorBytesDefault)))
			must(f.Close())
			return inode
		}
		must(b.client.MakeDir(ctx, dir, 0o755, false))
		begun := create().ID
		must(b.client.Remove(ctx, name))
		if next := create().ID; next.Inode != begun.Inode+1 {
			b.T.Errorf("%v was made after %v: not at once", next, begun)
		}
		must(b.client.Remove(ctx, name))
		must(b.client.Remove(ctx, dir))
		must(admin.MakeDir(ctx, dir, 0o755, false, keys.X25519, []keys.PublicKey{reader.Public()}))
		made := create()
		if now, err := b.client.Stat(ctx, name); err != nil || now.ID != made.ID || made.ID.Inode != begun.Inode+4 { // the directory, and one that went
			b.T.Errorf("%v was made after %v, and %v is there: %v", made.ID, begun, now, err)
		}
		f, err := file.Open(ctx, b.client, name, file.OpenOptions{ReadOnly: true, Reader: reader})
		must(err)
		must(f.Close())
	})
}
