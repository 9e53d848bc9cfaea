package fastrung

import (
	"testing"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/crypto/keys"
	"blocktree/internal/bttp"
	"blocktree/internal/file"
	"blocktree/internal/testenv"
)

// TestChownHandsOverTheRecord: who owns a file by chown rekeys it and gives its key to others; who owned it before does not, and nobody but user 0 has the record name himself. A
// holder goes on; a client that has seen the record of before takes the one of after.
func TestChownHandsOverTheRecord(t *testing.T) {
	within(t, bttp.TCP, 7, func(b *bed) {
		ctx, path := b.T.Context(), b.Path("/vm/disk0")
		bob, eve := b.clientOf(1001), b.clientOf(1002)
		pins := memoryPins{}
		if _, err := file.Describe(path, b.stat("/vm/disk0"), pins); err != nil {
			b.T.Fatal(err)
		}
		chown := func(uid uint32) {
			b.T.Helper()
			if _, err := b.admin(b.client).Chown(ctx, path, &uid, nil); err != nil {
				b.T.Fatal(err)
			}
			d, err := file.Describe(path, b.stat("/vm/disk0"), pins)
			if err != nil || d.Owner != uid || d.Generation == 0 {
				b.T.Fatalf("after chown to %d: %+v, %v", uid, d, err)
			}
		}
		chown(1001)
		if r, err := bob.Rekey(ctx, path); err != nil || r.Generation != 2 {
			b.T.Fatalf("its owner's rekey: %+v, %v", r, err)
		}
		other := keys.NewReaderKey().Public()
		if err := bob.Grant(ctx, path, other); err != nil {
			b.T.Fatal(err)
		}
		chown(1002)
		if _, err := bob.Rekey(ctx, path); blocktree.KindOf(err) != blocktree.Permission {
			b.T.Errorf("a rekey by who owned it: %v", err)
		}
		if _, err := eve.Rekey(ctx, path); err != nil {
			b.T.Error(err)
		}
		if err := b.file.WriteSectors(ctx, 1, numbered(1, 1)); err != nil {
			b.T.Error(err)
		}
		uid := uint32(1003) // as a chown of the version before left it: the inode has one owner, the record another
		if _, err := b.client.SetOwner(ctx, path, &uid, nil); err != nil {
			b.T.Fatal(err)
		}
		if _, err := b.clientOf(1003).Chown(ctx, path, &uid, nil); blocktree.KindOf(err) != blocktree.Permission {
			b.T.Errorf("who owns the inode has the record name himself: %v", err)
		}
		chown(1003)
	})
}

// memoryPins are pins of one test.
type memoryPins map[blocktree.Path]keys.Pin

// Pin implements file.Pins.
func (m memoryPins) Pin(p blocktree.Path) (keys.Pin, bool, error) {
	seen, ok := m[p]
	return seen, ok, nil
}

// SetPin implements file.Pins.
func (m memoryPins) SetPin(p blocktree.Path, seen keys.Pin) error { m[p] = seen; return nil }

// Where implements file.Pins.
func (m memoryPins) Where(p blocktree.Path) string { return "the pin of " + p.Short() }

// stat is what is known of a file.
func (b *bed) stat(name string) *meta.Inode {
	b.T.Helper()
	i, _ := b.record(b.client, name)
	return i
}

// clientOf administers as a user.
func (b *bed) clientOf(uid uint32) *file.Admin {
	c, _ := b.ClientAs(testenv.User{UID: uid})
	return b.admin(c)
}
