package mount

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
)

// both runs a test with a service of the version before, which cannot grow an open file, and with one that can.
func both(t *testing.T, test func(t *testing.T, c *fake)) {
	t.Helper()
	for _, grows := range []bool{false, true} {
		t.Run(fmt.Sprintf("grows=%v", grows), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newFake()
				c.grows = grows
				test(t, c)
				if len(c.leases) != 0 || c.opens != c.closed {
					t.Errorf("%d leases are left, %d opened, %d closed", len(c.leases), c.opens, c.closed)
				}
			})
		})
	}
}

// create makes a file as the kernel does.
func create(t *testing.T, dir *node, name string, flags, mode uint32) (*node, *writing) {
	t.Helper()
	var out fuse.EntryOut
	i, h, _, e := dir.Create(t.Context(), name, flags, mode, &out)
	if e != 0 {
		t.Fatalf("create %s: %v", name, e)
	}
	dir.AddChild(name, i, true)
	t.Cleanup(dir.tree.notices.Wait) // for who names it as it is time
	t.Cleanup(dir.tree.senders.Wait)
	return i.Operations().(*node), h.(*writing)
}

// openRW opens a node for writing.
func openRW(t *testing.T, n *node, flags uint32) *writing {
	t.Helper()
	h, _, e := n.Open(t.Context(), syscall.O_RDWR|flags)
	if e != 0 {
		t.Fatalf("open: %v", e)
	}
	return h.(*writing)
}

// writes demands what a write comes to.
func writes(t *testing.T, h *writing, p string, off int64, want syscall.Errno) {
	t.Helper()
	if n, e := h.Write(t.Context(), []byte(p), off); e != want || e == 0 && int(n) != len(p) {
		t.Errorf("a write of %.20q at %d: %d, %v, not %v", p, off, n, e, want)
	}
}

// W2: what fsync and close answered for is at the service, with its end.
func TestFsyncTells(t *testing.T) {
	both(t, func(t *testing.T, c *fake) {
		_, h := create(t, grow(c), "a", syscall.O_RDWR, 0o644)
		for i := range 5 {
			writes(t, h, "0123456789", int64(10*i), 0)
			if e := h.node.Fsync(t.Context(), h, 0); e != 0 {
				t.Fatal(e)
			}
			if got := c.content("a"); got != strings.Repeat("0123456789", i+1) {
				t.Errorf("after %d the service has %.60q", i, got)
			}
		}
		h.Release(t.Context())
	})
}

func TestCloseTells(t *testing.T) {
	both(t, func(t *testing.T, c *fake) {
		a, h := create(t, grow(c), "a", syscall.O_RDWR, 0o644)
		writes(t, h, "closed", 0, 0)
		if e := h.Flush(t.Context()); e != 0 || c.content("a") != "closed" {
			t.Errorf("%v, %q", e, c.content("a"))
		}
		writes(t, h, "released", 0, 0) // as the kernel does with what is mapped
		h.Release(t.Context())
		if got := c.content("a"); got != "released" {
			t.Errorf("the service has %.60q", got)
		}
		if c.stuck = blocktree.E("fake", blocktree.IO, nil); a.tree.unsaved.Load() != nil {
			t.Error("nothing was unsaved")
		}
		h = openRW(t, a, 0)
		writes(t, h, "lost", 0, 0)
		h.Release(t.Context())
		if a.tree.unsaved.Load() == nil {
			t.Error("a file was lost without a word")
		}
	})
}

// W1: after a loss every handle of before fails, at everything; who opens the file then has it as it is there.
func TestLossIsTold(t *testing.T) {
	both(t, func(t *testing.T, c *fake) {
		a, h := create(t, grow(c), "a", syscall.O_RDWR, 0o644)
		writes(t, h, "flushed", 0, 0)
		if e := h.sync(t.Context()); e != 0 {
			t.Fatal(e)
		}
		other := openRW(t, a, 0)
		writes(t, h, "answered, not flushed", 0, 0)
		c.kill(false)
		writes(t, h, "x", 0, syscall.EIO)
		for what, h := range map[string]*writing{"who wrote": h, "another": other} {
			for range 2 {
				writes(t, h, "x", 0, syscall.EIO)
				if e := h.sync(t.Context()); e != syscall.EIO {
					t.Errorf("fsync of %s: %v", what, e)
				}
				if e := h.Flush(t.Context()); e != syscall.EIO {
					t.Errorf("close of %s: %v", what, e)
				}
				if _, e := h.Read(t.Context(), make([]byte, 10), 0); e != syscall.EIO {
					t.Errorf("read of %s: %v", what, e)
				}
			}
		}
		later := openRW(t, a, 0)
		if got, e := readAll(t, later, 0); e != 0 || strings.TrimRight(got, "\x00") != "flushed" { // and zeros, where its end was not told
			t.Errorf("who opens it after that reads %q, %v", got, e)
		}
		writes(t, later, "anew", 0, 0)
		if e := later.sync(t.Context()); e != 0 || strings.TrimRight(c.content("a"), "\x00") != "anewhed" {
			t.Errorf("%v, the service has %.60q", e, c.content("a"))
		}
		for _, h := range []*writing{h, other, later} {
			h.Release(t.Context())
		}
		if len(a.tree.writers) != 0 || len(a.tree.open) != 0 {
			t.Errorf("%d writers, %d places are left", len(a.tree.writers), len(a.tree.open))
		}
	})
}

func TestLossAtFlush(t *testing.T) {
	both(t, func(t *testing.T, c *fake) {
		_, h := create(t, grow(c), "a", syscall.O_RDWR, 0o644)
		writes(t, h, "first", 0, 0)
		_ = h.sync(t.Context())
		writes(t, h, "other", 0, 0)
		c.stuck = blocktree.E("fake", blocktree.IO, nil)
		if e := h.sync(t.Context()); e != syscall.EIO {
			t.Errorf("fsync: %v", e)
		}
		c.stuck = nil
		if e := h.sync(t.Context()); e != syscall.EIO {
			t.Errorf("a flush that failed was forgotten: %v", e)
		}
		writes(t, h, "x", 0, syscall.EIO)
		h.Release(t.Context())
		if got := c.content("a"); got != "first" {
			t.Errorf("the service has %.60q", got)
		}
	})
}

// W3: without writes that are not flushed it goes on, also when the lease of before takes a while to run out.
func TestWriteOutlivesService(t *testing.T) {
	both(t, func(t *testing.T, c *fake) {
		_, h := create(t, grow(c), "a", syscall.O_RDWR, 0o644)
		writes(t, h, "before", 0, 0)
		_ = h.sync(t.Context())
		c.kill(true)
		go func() {
			time.Sleep(7 * time.Second)
			c.mu.Lock()
			defer c.mu.Unlock()
			clear(c.leases)
		}()
		began := time.Now()
		writes(t, h, "after that", 0, 0)
		if took := time.Since(began); took < 7*time.Second || took > 9*time.Second {
			t.Errorf("it took %v", took)
		}
		if e := h.sync(t.Context()); e != 0 || c.content("a") != "after that" {
			t.Errorf("%v, %q", e, c.content("a"))
		}
		if c.anew[0] || !slices.Contains(c.anew[len(c.anew)-1:], true) { // what is on its way to the old one must not come after
			t.Errorf("opened anew: %v", c.anew)
		}
		c.fail(blocktree.E("fake", blocktree.Unavailable, nil))
		writes(t, h, "for nobody", 0, syscall.EIO)
		c.kill(false)
		c.fail(nil)
		if e := h.sync(t.Context()); e != syscall.EIO {
			t.Errorf("the first fsync after a write that failed: %v", e)
		}
		if e := h.sync(t.Context()); e != 0 {
			t.Errorf("the second: %v", e)
		}
		h.Release(t.Context())
	})
}

// W3: nothing is written over what somebody else made of it.
func TestWriterFindsAnother(t *testing.T) {
	both(t, func(t *testing.T, c *fake) {
		dir := grow(c)
		for name, change := range map[string]func(){
			"another": func() { c.put("a", 77, "another file") },
			"longer": func() {
				_ = c.Resize(t.Context(), testRoot.Join("a"), 1<<20)
				_ = c.SetLength(t.Context(), testRoot.Join("a"), 9)
			},
			"removed": func() { _ = c.Remove(t.Context(), testRoot.Join("a")) },
		} {
			c.mu.Lock()
			delete(c.files, testRoot.Join("a"))
			c.mu.Unlock()
			_, h := create(t, dir, "a", syscall.O_RDWR, 0o644)
			writes(t, h, "mine", 0, 0)
			_ = h.sync(t.Context())
			c.kill(false)
			if change(); name == "longer" && c.grows { // others may write it at that service
				h.Release(t.Context())
				continue
			}
			was := c.content("a")
			writes(t, h, "x", 0, syscall.ESTALE)
			h.Release(t.Context())
			if got := c.content("a"); got != was {
				t.Errorf("%s: it is %q by now", name, got)
			}
		}
	})
}

// W4: one mount, several handles.
func TestReadsOwnWrites(t *testing.T) {
	both(t, func(t *testing.T, c *fake) {
		c.put("a", 10, "of before")
		a := lookup(t, grow(c), "a")
		early, _, _ := a.Open(t.Context(), syscall.O_RDONLY)
		h := openRW(t, a, 0)
		writes(t, h, "now, and longer than before", 0, 0)
		late, _, _ := a.Open(t.Context(), syscall.O_RDONLY)
		second := openRW(t, a, 0)
		for what, x := range map[string]gofs.FileHandle{"early": early, "late": late, "writer": h, "second": second} {
			if got, e := readAll(t, x, 0); e != 0 || got != "now, and longer than before" {
				t.Errorf("%s reads %q, %v", what, got, e)
			}
		}
		h.Release(t.Context())
		second.Release(t.Context())
		for what, x := range map[string]gofs.FileHandle{"early": early, "late": late} {
			if got, e := readAll(t, x, 0); e != 0 || got != "now, and longer than before" {
				t.Errorf("after close %s reads %q, %v", what, got, e)
			}
			x.(gofs.FileReleaser).Release(t.Context())
		}
	})
}

// W4: attributes while it is written, and when they were asked for before it was closed.
func TestStatWhileWritten(t *testing.T) {
	both(t, func(t *testing.T, c *fake) {
		dir := grow(c)
		a, h := create(t, dir, "a", syscall.O_RDWR, 0o444)
		writes(t, h, "five!", 0, 0)
		var out fuse.AttrOut
		var entry fuse.EntryOut
		if e := a.Getattr(t.Context(), nil, &out); e != 0 || out.Size != 5 || out.Mode&0o777 != 0o444 || out.Mtime == 0 {
			t.Errorf("%d bytes, mode %o, time %d, %v", out.Size, out.Mode, out.Mtime, e)
		}
		if _, e := dir.Lookup(t.Context(), "a", &entry); e != 0 || entry.Size != 5 {
			t.Errorf("looked up it has %d bytes, %v", entry.Size, e)
		}
		writes(t, h, "longer", 0, 0)
		c.late = func() { h.Release(t.Context()) } // what the service has said is of before
		if e := a.Getattr(t.Context(), nil, &out); e != 0 || out.Size != 6 || out.Mode&0o777 != 0o444 {
			t.Errorf("%d bytes, mode %o, %v", out.Size, out.Mode, e)
		}
	})
}

// W5: what was behind an end that somebody else set is not shown when the file grows, nor when it was made shorter first.
func TestGrowsByZeros(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, keep := range []int{10, 5} {
			c := newFake()
			c.put("a", 10, "0123456789 of a former life, which was longer than anything here")
			f := c.files[testRoot.Join("a")]
			f.info.Length, f.info.SizeBytes = 10, 4096
			a := lookup(t, grow(c), "a")
			h := openRW(t, a, 0)
			var in fuse.SetAttrIn
			in.Valid, in.Size = fuse.FATTR_SIZE, uint64(keep)
			if e := a.Setattr(t.Context(), h, &in, &fuse.AttrOut{}); e != 0 {
				t.Error(e)
			}
			writes(t, h, "end", 30, 0)
			want := "0123456789"[:keep] + strings.Repeat("\x00", 30-keep) + "end"
			if got, _ := readAll(t, h, 0); got != want {
				t.Errorf("it reads %q", got)
			}
			h.Release(t.Context())
			if got := c.content("a"); got != want {
				t.Errorf("the service has %.60q", got)
			}
		}
	})
}

// W6: to the end, or nowhere.
func TestAppend(t *testing.T) {
	both(t, func(t *testing.T, c *fake) {
		c.put("a", 10, "first ")
		dir := grow(c)
		a := lookup(t, dir, "a")
		c.put("a", 10, "first longer ") // the kernel was told of another end
		if _, _, e := a.Open(t.Context(), syscall.O_WRONLY|syscall.O_APPEND); e != syscall.ESTALE {
			t.Errorf("an end that the kernel does not know: %v", e)
		}
		a = lookup(t, dir, "a")
		h := openRW(t, a, syscall.O_APPEND)
		writes(t, h, "second", 13, 0)
		writes(t, h, "over", 3, syscall.ESTALE)
		h.Release(t.Context())
		if got := c.content("a"); got != "first longer second" {
			t.Errorf("it is %q", got)
		}
	})
}

// W7: what is asked for again is done once, and what may be another's is not taken for ours.
func TestChangesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		dir := grow(c)
		vague := func() { c.vague = blocktree.E("fake", blocktree.Unavailable, nil) }
		vague()
		if _, e := dir.Mkdir(t.Context(), "d", 0o755, &fuse.EntryOut{}); e != syscall.EIO {
			t.Errorf("mkdir: %v", e)
		}
		vague()
		if _, _, _, e := dir.Create(t.Context(), "x", syscall.O_RDWR|syscall.O_EXCL, 0o644, &fuse.EntryOut{}); e != syscall.EIO {
			t.Errorf("create: %v", e)
		}
		vague()
		if _, _, _, e := dir.Create(t.Context(), "y", syscall.O_RDWR, 0o644, &fuse.EntryOut{}); e != syscall.EIO {
			t.Errorf("create of what may be there, half made: %v", e)
		}
		vague()
		_, h := create(t, dir, "a", syscall.O_RDWR|syscall.O_TRUNC, 0o644)
		writes(t, h, "content", 0, 0)
		h.Release(t.Context())
		vague()
		if e := dir.Rename(t.Context(), "a", dir, "b", 0); e != 0 || c.content("a") != "absent" || c.content("b") != "content" {
			t.Errorf("rename: %v", e)
		}
		vague()
		if e := dir.Unlink(t.Context(), "b"); e != 0 || c.content("b") != "absent" {
			t.Errorf("unlink: %v", e)
		}
		if e := dir.Unlink(t.Context(), "b"); e != syscall.ENOENT {
			t.Errorf("once more: %v", e)
		}
	})
}

// Errors of a cluster that is full are told at the write, and once more at fsync.
func TestNoSpace(t *testing.T) {
	both(t, func(t *testing.T, c *fake) {
		_, h := create(t, grow(c), "a", syscall.O_RDWR, 0o644)
		c.full = 8192
		writes(t, h, "fits", 0, 0)
		writes(t, h, "does not", 9000, syscall.ENOSPC)
		if e := h.sync(t.Context()); e != syscall.ENOSPC {
			t.Errorf("fsync: %v", e)
		}
		if e := h.Flush(t.Context()); e != 0 {
			t.Errorf("close, when it was told: %v", e)
		}
		h.Release(t.Context())
		if got := c.content("a"); got != "fits" {
			t.Errorf("the service has %.60q", got)
		}
	})
}

// W2: any sequence of operations, beside an array of bytes.
func TestFileIsBytes(t *testing.T) {
	both(t, func(t *testing.T, c *fake) {
		for seed := range uint64(12) {
			fileIsBytes(t, c, seed)
		}
	})
}

func fileIsBytes(t *testing.T, c *fake, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	name := fmt.Sprintf("f%d", seed)
	a, h := create(t, grow(c), name, syscall.O_RDWR, 0o644)
	var model, flushed []byte
	synced := true
	for step := range 120 {
		what := ""
		switch k := rng.IntN(10); {
		case k < 4:
			p := bytes.Repeat([]byte{byte(1 + rng.IntN(255))}, 1+rng.IntN(9000))
			off := rng.IntN(20000)
			what = fmt.Sprintf("write %d at %d", len(p), off)
			writes(t, h, string(p), int64(off), 0)
			model = reach(model, off+len(p))
			copy(model[off:], p)
			synced = false
		case k < 6:
			n := rng.IntN(25000)
			what = fmt.Sprintf("truncate %d", n)
			var in fuse.SetAttrIn
			in.Valid, in.Size = fuse.FATTR_SIZE, uint64(n)
			if e := a.Setattr(t.Context(), h, &in, &fuse.AttrOut{}); e != 0 {
				t.Fatalf("seed %d step %d: %s: %v", seed, step, what, e)
			}
			model = reach(model, n)[:n]
			synced = false
		case k == 6:
			off, n := rng.IntN(20000), rng.IntN(9000)
			what = fmt.Sprintf("punch %d at %d: %v", n, off, h.Allocate(t.Context(), uint64(off), uint64(n), allocatePunch|allocateKeepSize))
			if off < len(model) {
				clear(model[off:min(len(model), off+n)])
			}
			synced = false
		case k == 7:
			what = "fsync"
			if e := h.sync(t.Context()); e != 0 {
				t.Fatal(e)
			}
			flushed, synced = bytes.Clone(model), true
		case k == 8:
			what = "reopen"
			h.Release(t.Context())
			h = openRW(t, a, 0)
			flushed, synced = bytes.Clone(model), true
		default:
			if synced { // else it is lost, as it must be
				what = "failover"
				c.kill(false)
			}
		}
		r, e := h.Read(t.Context(), make([]byte, 40000), 0)
		if e != 0 {
			t.Fatalf("seed %d step %d: read after %s: %v", seed, step, what, e)
		}
		if got, _ := r.Bytes(nil); !bytes.Equal(got, model) {
			t.Fatalf("seed %d step %d: after %s %d bytes are read that are not the %d", seed, step, what, len(got), len(model))
		}
		if synced && c.content(name) != string(flushed) {
			t.Fatalf("seed %d step %d: after %s the service has other bytes", seed, step, what)
		}
		var out fuse.AttrOut
		if e := a.Getattr(t.Context(), h, &out); e != 0 || out.Size != uint64(len(model)) {
			t.Fatalf("seed %d step %d: after %s %d bytes, %v, not %d", seed, step, what, out.Size, e, len(model))
		}
	}
	h.Release(t.Context())
}

func reach(b []byte, n int) []byte {
	if len(b) < n {
		b = append(b, make([]byte, n-len(b))...)
	}
	return b
}
