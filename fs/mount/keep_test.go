package mount

import (
	"bytes"
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

func keptAgainstBytes(t *testing.T, c *fake, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 75))
	name := fmt.Sprintf("f%d", seed)
	path := testRoot.Join(name)
	a, h := create(t, grow(c), name, syscall.O_RDWR, 0o644)
	var model, flushed []byte
	dirty, lost, what := false, false, ""
	for step := range 150 {
		bad := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("seed %d step %d: after %s: %s", seed, step, what, fmt.Sprintf(format, args...))
		}
		c.mu.Lock()
		c.holds = rng.IntN(2) == 0
		c.mu.Unlock()
		switch k := rng.IntN(16); {
		case k < 6:
			p := bytes.Repeat([]byte{byte(1 + rng.IntN(255))}, 1+rng.IntN(9000))
			off := rng.IntN(20000)
			what = fmt.Sprintf("a write of %d at %d", len(p), off)
			writes(t, h, string(p), int64(off), 0)
			model = reach(model, off+len(p))
			copy(model[off:], p)
			dirty = true
		case k < 8:
			n := rng.IntN(25000)
			what = fmt.Sprintf("a cut at %d", n)
			var in fuse.SetAttrIn
			in.Valid, in.Size = fuse.FATTR_SIZE, uint64(n)
			if e := a.Setattr(t.Context(), h, &in, &fuse.AttrOut{}); e != 0 {
				bad("%v", e)
			}
			model = reach(model, n)[:n]
			flushed, dirty = bytes.Clone(model), false
		case k == 8:
			off, n := rng.IntN(20000), rng.IntN(9000)
			what = fmt.Sprintf("a hole of %d at %d", n, off)
			if e := h.Allocate(t.Context(), uint64(off), uint64(n), allocatePunch|allocateKeepSize); e != 0 {
				bad("%v", e)
			}
			if off <= len(model) {
				clear(model[off:min(len(model), off+n)])
				dirty = true
			}
		case k == 9:
			what = "fsync"
			if e := h.sync(t.Context()); e != 0 {
				bad("%v", e)
			}
			flushed, dirty = bytes.Clone(model), false
		case k == 10:
			what = "an append"
			h.append = true
			writes(t, h, "appended", int64(len(model)), 0)
			h.append = false
			model, dirty = append(model, "appended"...), true
		case k == 11:
			what = "a close"
			h.Release(t.Context())
			h = openRW(t, a, 0)
			flushed, dirty = bytes.Clone(model), false
		default:
			what = "a failover"
			c.kill(false)
			for range rng.IntN(3) { // what others have open, and do not write
				f, _ := c.Open(t.Context(), path, fs.OpenOptions{Write: true})
				_ = f.Close()
			}
			if rng.IntN(8) > 0 {
				break
			}
			what = "a failover with another writer"
			f, _ := c.Open(t.Context(), path, fs.OpenOptions{Write: true})
			if err := f.WriteAt(t.Context(), []byte("theirs"), uint64(rng.IntN(20000))); err != nil {
				bad("%v", err)
			}
			_ = f.Flush(t.Context())
			_ = f.Close()
			theirs := c.content(name)
			if rng.IntN(2) == 0 {
				f, _ := c.Open(t.Context(), path, fs.OpenOptions{Write: true})
				_ = f.Close()
			}
			if lost = dirty; lost {
				for range 2 {
					if e := h.sync(t.Context()); e != syscall.EIO {
						bad("fsync: %v", e)
					}
				}
				writes(t, h, "x", 0, syscall.EIO)
				h.Release(t.Context())
				h = openRW(t, a, 0)
			}
			if got := c.content(name); got != theirs {
				bad("their bytes are written over")
			}
			model, dirty = []byte(theirs), false
			flushed = bytes.Clone(model)
			if e := h.sync(t.Context()); e != 0 {
				bad("fsync of the next one: %v", e)
			}
		}
		r, e := h.Read(t.Context(), make([]byte, 60000), 0)
		if e != 0 {
			bad("read: %v", e)
		}
		if got, _ := r.Bytes(nil); !bytes.Equal(got, model) {
			bad("%d bytes are read that are not the %d", len(got), len(model))
		}
		if !dirty && c.content(name) != string(flushed) {
			bad("the service has other bytes")
		}
		var out fuse.AttrOut
		if e := a.Getattr(t.Context(), h, &out); e != 0 || out.Size != uint64(len(model)) {
			bad("%d bytes, %v, not %d", out.Size, e, len(model))
		}
	}
	h.Release(t.Context())
	if n := a.tree.kept.Load(); n != 0 {
		t.Fatalf("seed %d: %d bytes are kept of nothing", seed, n)
	}
}
