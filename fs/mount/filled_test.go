package mount

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/hanwen/go-fuse/v2/fuse"
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
