package mount

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
	"blocktree/fs"
)

// told runs a test with a service that tells who writes a file alone under which epoch.
func told(t *testing.T, test func(t *testing.T, c *fake)) {
	t.Helper()
	grown(t, func(t *testing.T, c *fake) {
		c.epochs = true
		test(t, c)
	})
}

// R3 of 0075: what was answered and not flushed is written again when the service is gone, also where the lease of before takes a while to run out; fsync answers when it is flushed there.
func TestWritesAgain(t *testing.T) {
	told(t, func(t *testing.T, c *fake) {
		a, h := create(t, grow(c), "a", syscall.O_RDWR, 0o644)
		writes(t, h, "flushed, ", 0, 0)
		if e := h.sync(t.Context()); e != 0 {
			t.Fatal(e)
		}
		writes(t, h, "answered", 9, 0)
		writes(t, h, "F", 0, 0)
		c.kill(true)
		go func() {
			time.Sleep(7 * time.Second)
			c.mu.Lock()
			defer c.mu.Unlock()
			clear(c.leases)
		}()
		began := time.Now()
		if got, e := readAll(t, h, 0); e != 0 || got != "Flushed, answered" {
			t.Errorf("it reads %q, %v", got, e)
		}
		if took := time.Since(began); took < 7*time.Second || took > 9*time.Second {
			t.Errorf("it took %v", took)
		}
		if got := c.content("a"); got != "flushed, " {
			t.Errorf("the service has %q before it was flushed", got)
		}
		c.kill(false) // and once more, with what was written again
		if e := h.sync(t.Context()); e != 0 || c.content("a") != "Flushed, answered" {
			t.Errorf("fsync: %v, the service has %q", e, c.content("a"))
		}
		writes(t, h, "!", 17, 0)
		c.kill(false)
		h.Release(t.Context())
		if got := c.content("a"); got != "Flushed, answered!" || a.tree.unsaved.Load() != nil {
			t.Errorf("closed, the service has %q", got)
		}
		if n := a.tree.kept.Load(); n != 0 {
			t.Errorf("%d bytes are kept of nothing", n)
		}
	})
}

// R4 of 0075: where somebody else may have written in between, or it cannot be known, nothing is written again, and the loss is told for good.
func TestWritesNothingAgain(t *testing.T) {
	told(t, func(t *testing.T, c *fake) {
		dir := grow(c)
		path := testRoot.Join("a")
		other := func(write string, off uint64) func() { // has it open by another service
			return func() {
				f, err := c.Open(t.Context(), path, fs.OpenOptions{Write: true})
				if err == nil && write != "" {
					if err = f.WriteAt(t.Context(), []byte(write), off); err == nil {
						err = f.Flush(t.Context())
					}
				}
				if err != nil {
					t.Error(err)
				}
				_ = f.Close()
			}
		}
		for name, x := range map[string]struct {
			between func()
			want    syscall.Errno
		}{
			"nobody":                {func() {}, 0},
			"one who wrote":         {other("theirs", 0), syscall.EIO},
			"one who wrote nothing": {other("", 0), 0},
			"two":                   {func() { other("theirs", 100)(); other("", 0)() }, syscall.EIO},
			"one who cut it":        {func() { _ = c.SetLength(t.Context(), path, 2) }, syscall.EIO},
			"one who removed it":    {func() { _ = c.Remove(t.Context(), path) }, syscall.EIO},
			"one who replaced it":   {func() { c.put("a", 77, "another file") }, syscall.EIO},
			"one who writes it yet": {func() { c.shared = true }, syscall.EIO},
		} {
			c.mu.Lock()
			delete(c.files, path)
			c.mu.Unlock()
			_, h := create(t, dir, "a", syscall.O_RDWR, 0o644)
			writes(t, h, "before", 0, 0)
			_ = h.sync(t.Context())
			writes(t, h, "mine", 0, 0)
			c.kill(false)
			x.between()
			was := c.content("a")
			writes(t, h, "x", 9, x.want)
			for range 2 {
				if e := h.sync(t.Context()); e != x.want {
					t.Errorf("%s: fsync: %v, not %v", name, e, x.want)
				}
			}
			c.shared = false
			if got := c.content("a"); x.want != 0 && got != was || x.want == 0 && got[:10] != "minere\x00\x00\x00x" {
				t.Errorf("%s: it is %q by now", name, got)
			}
			h.Release(t.Context())
		}
	})
}

// R4 of 0075: who comes to write the file by the service that it is being written again by has it to himself: nothing is written over what he has written and flushed.
func TestSomebodyComesWhileItIsWrittenAgain(t *testing.T) {
	told(t, func(t *testing.T, c *fake) {
		for at := range 3 {
			c.put("a", 70+blocktree.Inode(at), "")
			h := openRW(t, lookup(t, grow(c), "a"), 0)
			for range 2 {
				writes(t, h, "mine", 0, 0)
			}
			c.kill(false)
			n := 0
			c.comes = func(f *opened) {
				if n++; n == at+1 {
					f.written = []byte("theirs")
					f.keep()
					f.file.epoch++
					f.file.wrote = f.file.epoch
					f.gone = blocktree.E("fake", blocktree.Fenced, nil) // to what is written again
					delete(c.leases, f.info.ID)
				}
			}
			want := syscall.EIO
			if at == 2 {
				want = 0 // nobody came before it was done
			}
			if e := h.sync(t.Context()); e != want {
				t.Errorf("fsync: %v, not %v", e, want)
			}
			c.comes = nil
			if got := c.content("a"); want != 0 && got != "theirs" || want == 0 && got != "mine" {
				t.Errorf("it is %q by now", got)
			}
			h.Release(t.Context())
		}
	})
}

// R4 of 0075: what reaches behind where somebody made the file smaller is not written again.
func TestMadeSmallerMeanwhile(t *testing.T) {
	told(t, func(t *testing.T, c *fake) {
		_, h := create(t, grow(c), "a", syscall.O_RDWR, 0o644)
		writes(t, h, "mine", 8190, 0)
		c.kill(false)
		if err := c.Resize(t.Context(), testRoot.Join("a"), 8192); err != nil {
			t.Fatal(err)
		}
		if e := h.sync(t.Context()); e != syscall.EIO || c.content("a") != "" {
			t.Errorf("fsync: %v, it has %d bytes", e, len(c.content("a")))
		}
		h.Release(t.Context())
	})
}

// 0075, 5: who closes a file of which the service says that acknowledged data may be lost is told.
func TestLostAtTheClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAble()
		a.epochs = true
		_, h := create(t, grow(a), "a", syscall.O_WRONLY, 0o644)
		h.by = os.Getpid()
		writes(t, h, "small", 0, 0)
		a.stuck = blocktree.E("fake", blocktree.Lost, nil)
		a.closing = func() { a.stuck = nil }
		if e := h.Flush(closer(true)); e != syscall.EIO {
			t.Errorf("close: %v", e)
		}
		h.Release(t.Context())
	})
}

// R5 of 0075: what comes of a file that is made, written at once and closed when the service goes before its close is answered.
func TestFinishedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAble()
		a.epochs = true
		n, h := create(t, grow(a), "a", syscall.O_WRONLY, 0o644)
		h.by = os.Getpid()
		writes(t, h, "small", 0, 0)
		a.kill(false)
		if e := h.Flush(closer(true)); e != 0 || a.content("a") != "small" {
			t.Errorf("close: %v, the service has %q", e, a.content("a"))
		}
		h.Release(t.Context())
		if n := n.tree.kept.Load(); n != 0 {
			t.Errorf("%d bytes are kept of nothing", n)
		}
	})
}

// R6 of 0075: what is kept is bounded, of a file and of a mount: the file with most of it is flushed.
func TestKeptIsBounded(t *testing.T) {
	told(t, func(t *testing.T, c *fake) {
		dir := grow(c)
		p := strings.Repeat("x", blocktree.MountWriteBytesMax)
		var all []*writing
		most := int64(0)
		for i := range 6 {
			_, h := create(t, dir, fmt.Sprintf("f%d", i), syscall.O_RDWR, 0o644)
			all = append(all, h)
			for j := range int64(blocktree.MountUnflushedFileBytesMax/blocktree.MountWriteBytesMax - 1) {
				writes(t, h, p, j%8*blocktree.MountWriteBytesMax, 0)
				most = max(most, h.writer.tree.kept.Load())
			}
		}
		if most > blocktree.MountUnflushedBytesMax+2*blocktree.MountWriteBytesMax || most < blocktree.MountUnflushedBytesMax/2 {
			t.Errorf("%d bytes were kept", most)
		}
		h := all[5]
		for j := range int64(20) {
			writes(t, h, p, j%8*blocktree.MountWriteBytesMax, 0)
		}
		if n := h.writer.kept.size(); n > blocktree.MountUnflushedFileBytesMax {
			t.Errorf("%d bytes of one file are kept", n)
		}
		_ = h.sync(t.Context())
		for j := range int64(blocktree.MountUnflushedFileBytesMax/blocktree.MountWriteBytesMax - 1) {
			writes(t, h, p, j%8*blocktree.MountWriteBytesMax, 0)
		}
		for range blocktree.MountWriteBytesMax/blocktree.MountUnflushedWriteBytes + 1 { // who goes on with holes alone
			if e := h.Allocate(t.Context(), 0, 1, allocatePunch|allocateKeepSize); e != 0 {
				t.Fatal(e)
			}
		}
		if n := h.writer.kept.size(); n > blocktree.MountUnflushedFileBytesMax {
			t.Errorf("%d bytes of one file's holes are kept", n)
		}
		small := all[0]
		if e := small.sync(t.Context()); e != 0 {
			t.Error(e)
		}
		writes(t, small, "", 5, 0)
		writes(t, small, "s", 5, 0)
		if n := small.writer.kept.size(); n != 2*blocktree.MountUnflushedWriteBytes+1 {
			t.Errorf("one byte, and none, count %d", n)
		}
		c.kill(false)
		for _, h := range all {
			if e := h.sync(t.Context()); e != 0 {
				t.Error(e)
			}
			h.Release(t.Context())
		}
		if n := h.writer.tree.kept.Load(); n != 0 {
			t.Errorf("%d bytes are kept of nothing", n)
		}
	})
}

// R7 of 0075: writes that overlap are on their way one after the other, so that it is known which was last; others are not held up.
func TestOverlappingWrites(t *testing.T) {
	told(t, func(t *testing.T, c *fake) {
		_, h := create(t, grow(c), "a", syscall.O_RDWR, 0o644)
		end := h.writer.kept.begin(span{0, 10})
		var done atomic.Int32
		for _, off := range []int64{5, 10} {
			go func() {
				writes(t, h, "later", off, 0)
				done.Add(1)
			}()
		}
		synctest.Wait()
		if n := done.Load(); n != 1 {
			t.Errorf("%d are done", n)
		}
		end()
		synctest.Wait()
		if n := done.Load(); n != 2 {
			t.Errorf("%d are done after it", n)
		}
		h.Release(t.Context())
	})
}

// R3, R4 of 0075: any sequence of writes, holes, ends and failovers, with and without others in between: the file is an array of bytes, or it is lost to who had it open, and nobody's bytes are written over.
func TestKeptAgainstBytes(t *testing.T) {
	told(t, func(t *testing.T, c *fake) {
		for seed := range uint64(40) {
			keptAgainstBytes(t, c, seed)
		}
	})
}

// keptWorld is a file of a mount, beside an array of bytes.
type keptWorld struct {
	t    *testing.T
	c    *fake
	rng  *rand.Rand
	name string
	path blocktree.Path
	dir  *node
	node *node
	h    *writing

	model, flushed []byte
	dirty          bool
	seed           uint64
	step           int
	what           string
}

func keptAgainstBytes(t *testing.T, c *fake, seed uint64) {
	w := &keptWorld{t: t, c: c, seed: seed, rng: rand.New(rand.NewPCG(seed, 75)), name: fmt.Sprintf("f%d", seed)}
	w.path = testRoot.Join(w.name)
	w.dir = grow(c)
	if seed%2 == 1 { // also a file whose name its service keeps to itself
		w.dir = grow(&able{fake: c})
		c.hides = true
	}
	w.node, w.h = create(t, w.dir, w.name, syscall.O_RDWR, 0o644)
	for w.step = range 150 {
		c.mu.Lock()
		c.holds = w.rng.IntN(2) == 0
		c.mu.Unlock()
		w.does()
		w.check()
	}
	w.h.Release(t.Context())
	if n := w.node.tree.kept.Load(); n != 0 {
		t.Fatalf("seed %d: %d bytes are kept of nothing", seed, n)
	}
}

func (w *keptWorld) bad(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d step %d: after %s: %s", w.seed, w.step, w.what, fmt.Sprintf(format, args...))
}

// durable is what all is after an fsync, a cut or a close.
func (w *keptWorld) durable() { w.flushed, w.dirty = bytes.Clone(w.model), false }

func (w *keptWorld) does() {
	t, rng := w.t, w.rng
	switch k := rng.IntN(16); {
	case k < 6:
		p := bytes.Repeat([]byte{byte(1 + rng.IntN(255))}, 1+rng.IntN(9000))
		off := rng.IntN(20000)
		w.what = fmt.Sprintf("a write of %d at %d", len(p), off)
		writes(t, w.h, string(p), int64(off), 0)
		w.model = reach(w.model, off+len(p))
		copy(w.model[off:], p)
		w.dirty = true
	case k < 8:
		n := rng.IntN(25000)
		w.what = fmt.Sprintf("a cut at %d", n)
		var in fuse.SetAttrIn
		in.Valid, in.Size = fuse.FATTR_SIZE, uint64(n)
		if e := w.node.Setattr(t.Context(), w.h, &in, &fuse.AttrOut{}); e != 0 {
			w.bad("%v", e)
		}
		w.model = reach(w.model, n)[:n]
		w.durable()
	case k == 8:
		off, n := rng.IntN(20000), rng.IntN(9000)
		w.what = fmt.Sprintf("a hole of %d at %d", n, off)
		if e := w.h.Allocate(t.Context(), uint64(off), uint64(n), allocatePunch|allocateKeepSize); e != 0 {
			w.bad("%v", e)
		}
		if off <= len(w.model) {
			clear(w.model[off:min(len(w.model), off+n)])
			w.dirty = true
		}
	case k == 9:
		w.what = "fsync"
		if e := w.h.sync(t.Context()); e != 0 {
			w.bad("%v", e)
		}
		w.durable()
	case k == 10:
		w.what = "an append"
		w.h.append = true
		writes(t, w.h, "appended", int64(len(w.model)), 0)
		w.h.append = false
		w.model, w.dirty = append(w.model, "appended"...), true
	case k == 11:
		w.what = "a close"
		w.h.Release(t.Context())
		w.h = openRW(t, w.node, 0)
		w.durable()
	default:
		w.failover()
	}
}

// other has the file open by another service, after the one of before has died.
func (w *keptWorld) other(write bool) {
	switch absent := w.c.content(w.name) == "absent"; {
	case absent && write:
		w.c.put(w.name, blocktree.Inode(5000+w.step), "theirs")
		return
	case absent:
		return
	}
	f, err := w.c.Open(w.t.Context(), w.path, fs.OpenOptions{Write: true})
	if err == nil && write {
		err = f.WriteAt(w.t.Context(), []byte("theirs"), uint64(w.rng.IntN(20000)))
		_ = f.Flush(w.t.Context())
	}
	if err != nil {
		w.bad("another one: %v", err)
	}
	_ = f.Close()
}

func (w *keptWorld) failover() {
	w.what = "a failover"
	w.c.kill(false)
	for range w.rng.IntN(3) {
		w.other(false)
	}
	if w.rng.IntN(8) > 0 {
		return
	}
	w.what = "a failover with another writer"
	unnamed := w.c.content(w.name) == "absent"
	w.other(true)
	theirs := w.c.content(w.name)
	lost := w.dirty || unnamed
	for range w.rng.IntN(2) {
		w.other(false)
	}
	if lost {
		for range 2 {
			if e := w.h.sync(w.t.Context()); e != syscall.EIO {
				w.bad("fsync: %v", e)
			}
		}
		writes(w.t, w.h, "x", 0, syscall.EIO)
		w.h.Release(w.t.Context())
		if unnamed {
			w.node = lookup(w.t, w.dir, w.name)
		}
		w.h = openRW(w.t, w.node, 0)
	}
	if got := w.c.content(w.name); got != theirs {
		w.bad("their bytes are written over")
	}
	w.model = []byte(theirs)
	w.durable()
	if e := w.h.sync(w.t.Context()); e != 0 {
		w.bad("fsync of the next one: %v", e)
	}
}

func (w *keptWorld) check() {
	r, e := w.h.Read(w.t.Context(), make([]byte, 60000), 0)
	if e != 0 {
		w.bad("read: %v", e)
	}
	if got, _ := r.Bytes(nil); !bytes.Equal(got, w.model) {
		w.bad("%d bytes are read that are not the %d", len(got), len(w.model))
	}
	if !w.dirty && !w.h.writer.isUnnamed() && w.c.content(w.name) != string(w.flushed) {
		w.bad("the service has other bytes")
	}
	var out fuse.AttrOut
	if e := w.node.Getattr(w.t.Context(), w.h, &out); e != 0 || out.Size != uint64(len(w.model)) {
		w.bad("%d bytes, %v, not %d", out.Size, e, len(w.model))
	}
}

// telling is one whose writer is alone, and told under which epoch.
type telling struct {
	*growing
	held, written blocktree.Epoch
}

func (f *telling) Epochs() (held, written blocktree.Epoch) { return f.held, f.written }

// comes is when somebody else may come to write the file.
func (f *telling) comes() {
	f.fake.mu.Lock()
	defer f.fake.mu.Unlock()
	if f.fake.comes != nil {
		f.fake.comes(f.opened)
	}
}

func (f *telling) WriteAgain(ctx context.Context, p []byte, off uint64) error {
	f.comes()
	return f.WriteAt(ctx, p, off)
}

func (f *telling) PunchAgain(ctx context.Context, off, n uint64) error {
	f.comes()
	return f.Punch(ctx, off, n)
}
