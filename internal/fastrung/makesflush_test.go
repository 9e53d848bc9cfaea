package fastrung

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/fs"
)

// lazily are the options of a small file of durability flush.
var lazily = fs.CreateOptions{SizeBytes: 64 << 10, Code: blocktree.Code{Data: 2, Parity: 1}, Mode: 0o600, Tell: true, Durability: stripe.DurabilityFlush}

// TestServiceMakesFlush: D1 of 0085. A file is of the durability that it is asked to be, by each way of making it.
func TestServiceMakesFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newKeptWorld(t)
		c, kept := w.DoorAt(0, "alice", 1000, 1000), w.Path("/files/kept")
		w.must(c.Mkdir(t.Context(), kept, 0o755))
		w.must(made(t, c, kept.Join("first"), []byte("x"))) // there are no spares yet
		for _, path := range []blocktree.Path{w.Path("/files/held"), kept.Join("a"), kept.Join("b"), kept.Join("c")} {
			f, err := c.MakeOpen(t.Context(), path, lazily)
			w.must(err)
			w.must(f.WriteAt(t.Context(), []byte("hello"), 0))
			w.must(f.(fs.Finisher).Finish(t.Context()))
			w.durability(path, stripe.DurabilityFlush)
			time.Sleep(50 * time.Millisecond) // spares are made
		}
		_, err := c.Make(t.Context(), w.Path("/files/made"), lazily)
		w.must(err)
		w.durability(w.Path("/files/made"), stripe.DurabilityFlush)
		w.must(made(t, c, kept.Join("last"), []byte("x")))
		w.durability(kept.Join("last"), stripe.DurabilityAck)
	})
}

func (w *unlinkWorld) durability(path blocktree.Path, want stripe.Durability) {
	w.T.Helper()
	inode, err := w.admin.Stat(w.T.Context(), path)
	w.must(err)
	d, err := w.admin.Durability(w.T.Context(), inode)
	if err != nil || d.Durability != want {
		w.T.Errorf("%s is of durability %v, %v", path.Short(), d.Durability, err)
	}
}

// TestServiceLosesMemory: D2 and D3 of 0085. All nodes lose their memory at once, and the services with them: what was flushed, or closed, is there; what was only answered is written again by who has it, as nobody else has written the file, or a flush by the old handle fails.
func TestServiceLosesMemory(t *testing.T) {
	old := bytes.Repeat([]byte("old, "), 60<<10/5)
	again := bytes.Repeat([]byte("new "), 60<<10/4)
	lost := 0
	for seed := range uint64(3) {
		synctest.Test(t, func(t *testing.T) {
			w := newKeptWorld(t)
			c, kept := w.DoorAt(int(seed), "alice", 1000, 1000), w.Path("/files/kept")
			w.must(c.Mkdir(t.Context(), kept, 0o755))
			path := kept.Join("open")
			f, err := c.MakeOpen(t.Context(), path, lazily)
			w.must(err)
			w.must(f.WriteAt(t.Context(), old, 0))
			w.must(f.Flush(t.Context()))
			closed, err := c.MakeOpen(t.Context(), kept.Join("closed"), lazily)
			w.must(err)
			w.must(closed.WriteAt(t.Context(), old, 0))
			w.must(closed.(fs.Finisher).Finish(t.Context()))
			under, _ := f.(fs.Epocher).Epochs()
			w.must(f.WriteAt(t.Context(), again, 0))

			w.powerFails(seed)
			if err := f.Flush(t.Context()); err == nil {
				t.Error("a flush of what was lost")
			}
			_ = f.Close() // it is gone
			w.holds(t, c, kept.Join("closed"), old)
			f = w.opened(t, c, path, fs.OpenOptions{Write: true, Tell: true, Anew: true})
			held, written := f.(fs.Epocher).Epochs()
			if written > under || held <= under {
				t.Errorf("opened under %d, after %d; it was %d", held, written, under)
			}
			got := make([]byte, len(old))
			_, err = f.ReadAt(t.Context(), got, 0)
			w.must(err)
			for at := 0; at < len(got); at += 4096 { // each sector is what was flushed, or newer
				switch part := got[at:min(at+4096, len(got))]; {
				case bytes.Equal(part, old[at:at+len(part)]):
					lost++
				case !bytes.Equal(part, again[at:at+len(part)]):
					t.Errorf("at byte %d is neither what was flushed nor what was written after", at)
				}
			}
			w.must(f.(fs.Againer).WriteAgain(t.Context(), again, 0))
			w.must(f.Flush(t.Context()))
			w.powerFails(seed + 10)
			w.holds(t, c, path, again)
		})
	}
	if lost == 0 {
		t.Error("nothing was ever lost")
	}
}

// powerFails takes the power of all nodes, and brings it back.
func (w *unlinkWorld) powerFails(seed uint64) {
	w.PowerLoss(seed, 0, 1, 2)
	for i := range 3 {
		w.On(w.NodeAddr(i))
	}
	w.StartAll()
	w.Await("all to be up", w.AllStarted)
}

// opened opens a file, once the lease of before has run out.
func (w *unlinkWorld) opened(t *testing.T, c *fs.Client, path blocktree.Path, o fs.OpenOptions) (f fs.File) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var err error
	for {
		if f, err = c.Open(ctx, path, o); err == nil || ctx.Err() != nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.must(err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// holds demands that a file begins with that. Who opened it before the loss was noticed is told of that, once.
func (w *unlinkWorld) holds(t *testing.T, c *fs.Client, path blocktree.Path, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	_, err := w.opened(t, c, path, fs.OpenOptions{}).ReadAt(t.Context(), got, 0)
	if blocktree.KindOf(err) == blocktree.Lost && err != nil {
		_, err = w.opened(t, c, path, fs.OpenOptions{}).ReadAt(t.Context(), got, 0)
	}
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes are right: %v", path.Short(), common(got, want), err)
	}
}

// common is how many bytes are the same from the first on.
func common(a, b []byte) (n int) {
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}
