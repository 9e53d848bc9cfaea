package mount

import (
	"context"
	"slices"
	"syscall"
	"testing"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/fs"
)

// asked notes of which durability files are to be.
type asked struct {
	*able
	durabilities []stripe.Durability
}

func (a *asked) Make(ctx context.Context, path blocktree.Path, o fs.CreateOptions) (blocktree.FileID, error) {
	a.durabilities = append(a.durabilities, o.Durability)
	return a.able.Make(ctx, path, o)
}

func (a *asked) MakeOpen(ctx context.Context, path blocktree.Path, o fs.CreateOptions) (fs.File, error) {
	a.durabilities = append(a.durabilities, o.Durability)
	if path.Base() == "old" {
		return nil, blocktree.E("fake", blocktree.Unsupported, nil)
	}
	return a.able.MakeOpen(ctx, path, o)
}

// D1 of 0085: new files are of the durability that the mount was told, by each way of making them.
func TestDurabilityOfNewFiles(t *testing.T) {
	for _, want := range []stripe.Durability{stripe.DurabilityAck, stripe.DurabilityFlush} {
		a := &asked{able: newAble()}
		dir := grow(a)
		dir.tree.o.Durability = want
		for name, flags := range map[string]uint32{"written": syscall.O_RDWR, "read": syscall.O_RDONLY, "old": syscall.O_RDWR} {
			var out fuse.EntryOut
			_, h, _, e := dir.Create(t.Context(), name, flags, 0o644, &out)
			if e != 0 {
				t.Fatal(e)
			}
			h.(gofs.FileReleaser).Release(t.Context())
		}
		if len(a.durabilities) != 5 || slices.ContainsFunc(a.durabilities, func(d stripe.Durability) bool { return d != want }) {
			t.Errorf("of durability %v are wanted: %v", want, a.durabilities)
		}
	}
}

// loses has those who write files hear that what was acknowledged may be lost; what was not flushed is.
func (c *fake) loses() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, w := range c.leases {
		w.gone = blocktree.E("fake", blocktree.Lost, nil)
		delete(c.leases, id)
	}
}

// D3 of 0085: a loss of what was not flushed, of which the service tells, is told at fsync and by all after that, to all who had the file open for writing; where all was flushed nobody is told of anything.
func TestLostByTheService(t *testing.T) {
	told(t, func(t *testing.T, c *fake) {
		a, h := create(t, grow(c), "a", syscall.O_RDWR, 0o644)
		writes(t, h, "flushed", 0, 0)
		if e := h.sync(t.Context()); e != 0 {
			t.Fatal(e)
		}
		c.loses()
		writes(t, h, "answered, not flushed", 0, 0)
		other := openRW(t, a, 0)
		c.loses()
		for range 2 {
			for what, h := range map[string]*writing{"who wrote": h, "another": other} {
				if e := h.sync(t.Context()); e != syscall.EIO {
					t.Errorf("fsync of %s: %v", what, e)
				}
				writes(t, h, "x", 0, syscall.EIO)
				if e := h.Flush(t.Context()); e != syscall.EIO {
					t.Errorf("close of %s: %v", what, e)
				}
				if _, e := h.Read(t.Context(), make([]byte, 10), 0); e != syscall.EIO {
					t.Errorf("read of %s: %v", what, e)
				}
			}
		}
		later := openRW(t, a, 0)
		if got, e := readAll(t, later, 0); e != 0 || got != "flushed" {
			t.Errorf("who opens it after that reads %q, %v", got, e)
		}
		for _, h := range []*writing{h, other, later} {
			h.Release(t.Context())
		}
	})
}
