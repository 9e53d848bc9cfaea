package mount

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
)

// looks demands what a look at a name comes to.
func looks(t *testing.T, dir *node, name string, want syscall.Errno) {
	t.Helper()
	if _, e := dir.Lookup(t.Context(), name, &fuse.EntryOut{}); e != want {
		t.Errorf("a look at %s: %v, not %v", name, e, want)
	}
}

// closes closes what has one descriptor, as the kernel does.
func closes(t *testing.T, h *writing, want syscall.Errno) {
	t.Helper()
	if e := h.Flush(closer(true)); e != want {
		t.Errorf("close: %v, not %v", e, want)
	}
	h.Release(t.Context())
}

// makes makes a file of a content as the kernel does: it looks before.
func makes(t *testing.T, dir *node, name, content string) (*node, *writing) {
	t.Helper()
	looks(t, dir, name, syscall.ENOENT)
	n, h := create(t, dir, name, syscall.O_RDWR, 0o644)
	h.by = os.Getpid()
	if content != "" {
		writes(t, h, content, 0, 0)
	}
	return n, h
}

// H7 of 0086: what files cost in a directory that the mount made: one request each.
func TestFilledCosts(t *testing.T) {
	for what, x := range map[string]struct {
		wait bool
		one  func(t *testing.T, h *writing)
	}{
		"close later": {false, func(t *testing.T, h *writing) { closes(t, h, 0) }},
		"close":       {true, func(t *testing.T, h *writing) { closes(t, h, 0) }},
		"fsync": {false, func(t *testing.T, h *writing) {
			if e := h.node.Fsync(closer(true), h, 0); e != 0 {
				t.Error(e)
			}
			closes(t, h, 0)
		}},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, d := newFilled(t)
			d.tree.o.CloseLater = !x.wait
			const n = 100
			if strings.HasPrefix(what, "fsync") { // its process is done with a file that it flushes
				d.tree.endedBySync(os.Getpid(), true)
			}
			for i := range n {
				_, h := makes(t, d, strconv.Itoa(i), "content")
				x.one(t, h)
				if got := c.content("d/" + strconv.Itoa(i)); x.wait && got != "content" {
					t.Errorf("%s: closed, it is %q", what, got)
				}
				if i%8 == 0 { // a service is as fast
					synctest.Wait()
				}
			}
			d.tree.senders.Wait()
			took := c.took()
			if wholes, fills := strings.Count(took, "whole"), strings.Count(took, "fill"); wholes != n || fills > 4 || len(strings.Split(took, ", ")) != wholes+fills {
				t.Errorf("%s: %d files took %s", what, n, took)
			}
			for i := range n {
				if got := c.content("d/" + strconv.Itoa(i)); got != "content" {
					t.Errorf("%s: it is %q", what, got)
				}
			}
			d.tree.notices.Wait()
			if x := d.tree.fills; x.out != 0 || d.tree.kept.Load() != 0 || len(d.tree.writers) != 0 || len(d.tree.later) != 0 || d.tree.unnamed.count.Load() != 0 {
				t.Errorf("%s: %d spares are out, %d bytes kept, %d writers, %d places", what, x.out, d.tree.kept.Load(), len(d.tree.writers), len(d.tree.later))
			}
		})
	}
}

// 0072, 4: a new file that is fsynced stays open at its service, where nobody else may write it, unless its process is known to be done with it by then.
func TestPendingIsKeptOpen(t *testing.T) {
	for _, more := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c, d := newFilled(t)
			d.tree.o.CloseLater = false
			for i := range 4 {
				n, h := makes(t, d, strconv.Itoa(i), "content")
				if e := n.Fsync(closer(true), h, 0); e != 0 {
					t.Error(e)
				}
				if open := len(c.leases) == 1; open != (more || i == 0) {
					t.Errorf("more %v, file %d: open at its service: %v", more, i, open)
				}
				if more {
					writes(t, h, "!", 7, 0)
				}
				closes(t, h, 0)
				if len(c.leases) != 0 {
					t.Errorf("more %v, file %d: it is open at its service when it is closed", more, i)
				}
			}
		})
	}
}

// Where no term is ever of use, as the service is too far away, none is asked for with each file.
func TestUselessTerms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d := newFilled(t)
		c.far = fillTerm - blocktree.MountFillMargin + 1
		for i := range 20 {
			_, h := create(t, d, strconv.Itoa(i), syscall.O_RDWR, 0o644)
			closes(t, h, 0)
		}
		if c.fills != uselessMax || len(d.tree.fills.dirs) != 0 {
			t.Errorf("%d were asked for", c.fills)
		}
	})
}

// A directory that is being changed is not described from memory as it was before, also to who asked meanwhile.
func TestDescribedMeanwhile(t *testing.T) {
	for what, change := range map[string]func(t *testing.T, d *node) syscall.Errno{
		"mkdir": func(t *testing.T, d *node) syscall.Errno {
			_, e := d.Mkdir(t.Context(), "b", 0o755, &fuse.EntryOut{})
			return e
		},
		"mknod": func(t *testing.T, d *node) syscall.Errno {
			_, e := d.Mknod(t.Context(), "b", syscall.S_IFREG|0o644, 0, &fuse.EntryOut{})
			return e
		},
		"open": func(t *testing.T, d *node) syscall.Errno {
			_, h, _, e := d.Create(t.Context(), "b", syscall.O_RDWR|syscall.O_SYNC, 0o644, &fuse.EntryOut{})
			if e == 0 {
				closes(t, h.(*writing), 0)
			}
			return e
		},
		"symlink": func(t *testing.T, d *node) syscall.Errno {
			_, e := d.Symlink(t.Context(), "a", "b", &fuse.EntryOut{})
			return e
		},
		"rename": func(t *testing.T, d *node) syscall.Errno {
			root := parentOf(d)
			return root.Rename(t.Context(), "a", d, "b", 0)
		},
		"unlink":    func(t *testing.T, d *node) syscall.Errno { return d.Unlink(t.Context(), "first") },
		"attribute": func(t *testing.T, d *node) syscall.Errno { return d.Setxattr(t.Context(), "user.a", nil, 0) },
	} {
		synctest.Test(t, func(t *testing.T) {
			c, d := newFilled(t)
			_, h := create(t, parentOf(d), "a", syscall.O_RDWR, 0o644)
			closes(t, h, 0)
			_, h = makes(t, d, "first", "") // it is filled
			closes(t, h, 0)
			d.tree.senders.Wait()
			x := d.tree.fills
			c.midst = func() { // somebody asks how it is
				x.mu.Lock()
				defer x.mu.Unlock()
				if f := x.dirs[d.id]; f != nil {
					f.at = x.clock()
				}
			}
			if e := change(t, d); e != 0 {
				t.Errorf("%s: %v", what, e)
			}
			if x.of(d.id) == nil {
				t.Fatalf("%s: it is not filled any more", what)
			}
			if d.remembered(&fuse.AttrOut{}) {
				t.Errorf("%s: it is described as it was before", what)
			}
		})
	}
}

// H6 of 0086: without the right to make names in a directory nothing is made there by the mount itself: not while it is being taken, and also where it is taken above.
func TestNotPendingBeneath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d := newFilled(t)
		e := mkdir(t, d, "e")
		n, h := makes(t, e, "a", "x")
		if errno := setTime(t, n, time.Unix(1000, 0), 0); errno != 0 { // so it is sent whole
			t.Error(errno)
		}
		asked := false
		c.whole = func() {
			if _, h := create(t, e, "b", syscall.O_RDWR, 0o644); h.writer.pending.Load() {
				t.Error("it is pending, and the right is being taken")
			} else {
				t.Cleanup(func() { h.Release(t.Context()) })
			}
			asked, c.whole = true, nil
		}
		if errno := setModeOf(t, e, 0o500); errno != 0 || !asked {
			t.Errorf("%v, %v", errno, asked)
		}
		closes(t, h, 0)
		f := mkdir(t, d, "f")
		_, h = makes(t, f, "a", "x")
		closes(t, h, 0)
		d.tree.senders.Wait()
		d.tree.fills.mu.Lock()
		d.tree.fills.forget(d.tree.fills.dirs[d.id]) // it is not filled itself
		d.tree.fills.mu.Unlock()
		if errno := setModeOf(t, d, 0o600); errno != 0 {
			t.Error(errno)
		}
		_, h = create(t, f, "b", syscall.O_RDWR, 0o644)
		if h.writer.pending.Load() {
			t.Error("it is pending, and the right is taken above")
		}
		closes(t, h, 0)
	})
}

// What was closed and is lost is told also where that is found before the kernel has let go of it.
func TestLostBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d := newFilled(t)
		_, h := makes(t, d, "a", "x")
		if e := h.Flush(closer(true)); e != 0 {
			t.Error(e)
		}
		c.mu.Lock()
		c.wholes = []error{blocktree.E("fake", blocktree.Permission, nil)}
		c.mu.Unlock()
		time.Sleep(blocktree.MountUnnamedFor)
		synctest.Wait()
		h.Release(t.Context())
		if d.tree.unsaved.Load() == nil {
			t.Error("it is not told at the end of the mount")
		}
		for _, told := range []bool{true, false} {
			if e := (&listing{node: d}).Fsyncdir(t.Context(), 0); (e == syscall.EIO) != told {
				t.Errorf("fsync of the directory: %v", e)
			}
		}
	})
}
