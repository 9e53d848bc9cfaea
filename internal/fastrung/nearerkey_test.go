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
