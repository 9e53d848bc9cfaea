package mount

import (
	"context"
	"maps"
	"os"
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

// WriteFinish implements fs.WriteFinisher.
func (f *telling) WriteFinish(ctx context.Context, p []byte, off uint64) error {
	f.fake.mu.Lock()
	apart, what := f.fake.apart, "write and finish"
	if apart {
		what = "not at once"
	}
	f.fake.log = append(f.fake.log, what)
	f.fake.mu.Unlock()
	if apart {
		return blocktree.E("fake", blocktree.Unsupported, nil)
	}
	if err := f.WriteAgain(ctx, p, off); err != nil {
		return err
	}
	return f.Finish(ctx)
}

// took is what was asked for since it was asked the last time, without what is part of another.
func (c *fake) took() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := strings.Join(c.log, ", ")
	c.log = nil
	return strings.ReplaceAll(s, "write and finish, write, finish", "write and finish")
}

// heldContent is what is held, of two writes.
const heldContent = "held, and more"

// firstUse is something done with a file of which something is held: what its content is then, and what that and its close took.
type firstUse struct {
	do   func(t *testing.T, n *node, h *writing) (want string)
	took string
}

// firstReads are those that follow what is held, or look at it.
func firstReads() map[string]firstUse {
	const content = heldContent
	return map[string]firstUse{
		"close":           {func(*testing.T, *node, *writing) string { return content }, "write and finish"},
		"fsync and close": {func(t *testing.T, _ *node, h *writing) string { _ = h.sync(t.Context()); return content }, "write, flush, close"},
		"read": {func(t *testing.T, _ *node, h *writing) string {
			if got, e := readAll(t, h, 0); e != 0 || got != content {
				t.Errorf("it reads %q, %v", got, e)
			}
			return content
		}, "write, finish"},
		"describe": {func(t *testing.T, n *node, h *writing) string {
			var out fuse.AttrOut
			for _, f := range []gofs.FileHandle{nil, h} {
				if e := n.Getattr(t.Context(), f, &out); e != 0 || out.Size != uint64(len(content)) || out.Nlink != 1 || out.Mtime != uint64(time.Now().Unix()) {
					t.Errorf("%v: %+v", e, out.Attr)
				}
			}
			return content
		}, "write and finish"},
		"a write elsewhere": {func(t *testing.T, _ *node, h *writing) string { writes(t, h, "H", 0, 0); return "H" + content[1:] }, "write, write, finish"},
		"a write that is more": {func(t *testing.T, _ *node, h *writing) string {
			more := strings.Repeat("x", blocktree.MountHeldBytesMax)
			writes(t, h, more, int64(len(content)), 0)
			return content + more
		}, "write, write, finish"},
		"an append": {func(t *testing.T, _ *node, h *writing) string {
			h.append = true
			writes(t, h, "!", int64(len(content)), 0)
			return content + "!"
		}, "write, write, finish"},
	}
}

// firstChanges are those that do not.
func firstChanges() map[string]firstUse {
	const content = heldContent
	return map[string]firstUse{
		"a cut": {func(t *testing.T, n *node, h *writing) string {
			if e := n.truncate(t.Context(), h, 4); e != 0 {
				t.Error(e)
			}
			return content[:4]
		}, "write, close"},
		"a hole": {func(t *testing.T, _ *node, h *writing) string {
			if e := h.Allocate(t.Context(), 0, 4, allocatePunch|allocateKeepSize); e != 0 {
				t.Error(e)
			}
			return "\x00\x00\x00\x00" + content[4:]
		}, "write, finish"},
		"a page": {func(t *testing.T, _ *node, h *writing) string {
			c := closer(true)
			c.Pid = pagesPid
			if _, e := h.Write(c, []byte("!"), int64(len(content))); e != 0 {
				t.Error(e)
			}
			return content + "!"
		}, "write, write, finish"},
		"a lock": {func(t *testing.T, n *node, h *writing) string {
			lk := &fuse.FileLock{Typ: syscall.F_WRLCK, End: 10}
			if e := n.Setlk(t.Context(), h, 7, lk, 0); e != 0 && e != syscall.ENOLCK {
				t.Error(e)
			}
			return content
		}, "write, finish"},
		"a look by another": {func(t *testing.T, n *node, _ *writing) string {
			if _, e := n.Root().Operations().(*node).Lookup(t.Context(), "a", &fuse.EntryOut{}); e != 0 {
				t.Error(e)
			}
			return content
		}, "write, flush, stat, close"},
		"a while": {func(*testing.T, *node, *writing) string {
			time.Sleep(blocktree.MountUnnamedFor)
			synctest.Wait()
			return content
		}, "write, flush, close"},
		"a failover": {func(t *testing.T, n *node, _ *writing) string { n.tree.source.(identified).kill(false); return content }, "write and finish, close, open, open, make, write, write, flush, close"},
		"an older service": {func(t *testing.T, n *node, _ *writing) string {
			n.tree.source.(identified).apart = true
			return content
		}, "not at once, write, finish"},
	}
}

// B4 of 0080: what is held is read, described and cut as if it had been sent, and goes before all else that is asked of the open file.
func TestFirstBytes(t *testing.T) {
	const content = heldContent
	uses := firstReads()
	maps.Copy(uses, firstChanges())
	for what, x := range uses {
		synctest.Test(t, func(t *testing.T) {
			a, dir := newUnnamed()
			n, h := create(t, dir, "a", syscall.O_RDWR, 0o644)
			h.by = os.Getpid()
			writes(t, h, content[:4], 0, 0)
			writes(t, h, content[4:], 4, 0)
			if took := a.took(); took != "make" {
				t.Errorf("%s: it took %s before", what, took)
			}
			want := x.do(t, n, h)
			for range 2 {
				if e := h.Flush(closer(true)); e != 0 {
					t.Errorf("%s: close: %v", what, e)
				}
			}
			if got := a.content("a"); got != want {
				t.Errorf("%s: closed, it is %.40q", what, got)
			}
			h.Release(t.Context())
			if took := a.took(); took != x.took {
				t.Errorf("%s: it took %q, not %q", what, took, x.took)
			}
			n.tree.notices.Wait()
			if k := n.tree.kept.Load(); k != 0 || a.opens > a.closed || len(a.leases) != 0 {
				t.Errorf("%s: %d bytes are kept, %d leases", what, k, len(a.leases))
			}
		})
	}
}

// B4: an error of what was held is told by what comes next, as what it is, and by each close; and nobody's bytes are written over.
func TestFirstBytesThatFail(t *testing.T) {
	for what, x := range map[string]struct {
		before func(a *able)
		use    func(t *testing.T, h *writing) syscall.Errno
		want   syscall.Errno
	}{
		"no room, at the close":  {func(a *able) { a.full = 2 }, func(t *testing.T, h *writing) syscall.Errno { return h.Flush(closer(true)) }, syscall.ENOSPC},
		"no room, at fsync":      {func(a *able) { a.full = 2 }, func(t *testing.T, h *writing) syscall.Errno { return h.sync(t.Context()) }, syscall.ENOSPC},
		"no room, after a while": {func(a *able) { a.full = 2 }, func(*testing.T, *writing) syscall.Errno { time.Sleep(time.Second); return syscall.ENOSPC }, syscall.ENOSPC},
		"no room, at a read": {func(a *able) { a.full = 2 }, func(t *testing.T, h *writing) syscall.Errno {
			_, e := h.Read(t.Context(), make([]byte, 1), 0)
			return e
		}, syscall.ENOSPC},
		"no room, of an older service": {func(a *able) { a.full, a.apart = 2, true }, func(t *testing.T, h *writing) syscall.Errno { return h.Flush(closer(true)) }, syscall.ENOSPC},
		"lost":                         {func(a *able) { a.stuck = blocktree.E("fake", blocktree.Lost, nil) }, func(t *testing.T, h *writing) syscall.Errno { return h.Flush(closer(true)) }, syscall.EIO},
		"somebody came, and wrote": {func(a *able) {
			a.comes = func(f *opened) {
				a.comes = nil
				f.hidden = false
				f.written = []byte("theirs")
				a.files[f.path] = f.file
				f.keep()
				f.file.epoch++
				f.file.wrote = f.file.epoch
				f.gone = blocktree.E("fake", blocktree.Fenced, nil)
				delete(a.leases, f.info.ID)
			}
		}, func(t *testing.T, h *writing) syscall.Errno { return h.Flush(closer(true)) }, syscall.EIO},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, dir := newUnnamed()
			_, h := create(t, dir, "a", syscall.O_RDWR, 0o644)
			h.by = os.Getpid()
			x.before(a)
			writes(t, h, "held", 0, 0)
			if e := x.use(t, h); e != x.want {
				t.Errorf("%s: %v", what, e)
			}
			synctest.Wait()
			a.mu.Lock()
			a.full = 0
			a.mu.Unlock()
			for range 2 {
				if e := h.Flush(closer(true)); e != x.want {
					t.Errorf("%s: a close: %v", what, e)
				}
			}
			writes(t, h, "more", 4, x.want)
			h.Release(t.Context())
			if got := a.content("a"); got != "theirs" && x.want == syscall.EIO && strings.HasPrefix(what, "somebody") {
				t.Errorf("%s: it is %q", what, got)
			}
			if h.writer.tree.kept.Load() != 0 || h.writer.held.Load() != 0 {
				t.Errorf("%s: something is kept", what)
			}
			h.writer.tree.notices.Wait()
		})
	}
}

// B4: nothing is held of a file that is not new, nor new from here, nor where nothing would be kept of it.
func TestNothingIsHeld(t *testing.T) {
	for what, begin := range map[string]func(t *testing.T, a *able, dir *node) *writing{
		"flushed before": func(t *testing.T, _ *able, dir *node) *writing {
			_, h := create(t, dir, "a", syscall.O_RDWR, 0o644)
			_ = h.sync(t.Context())
			return h
		},
		"found": func(t *testing.T, a *able, dir *node) *writing {
			a.put("a", 70, "")
			return openRW(t, lookup(t, dir, "a"), 0)
		},
		"written by others, too": func(t *testing.T, a *able, dir *node) *writing {
			a.shared = true
			_, h := create(t, dir, "a", syscall.O_RDWR, 0o644)
			return h
		},
		"to append": func(t *testing.T, a *able, dir *node) *writing {
			_, h := create(t, dir, "a", syscall.O_WRONLY|syscall.O_APPEND, 0o644)
			return h
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, dir := newUnnamed()
			h := begin(t, a, dir)
			writes(t, h, "content", 0, 0)
			if took := a.log; !slices.Contains(took, "write") {
				t.Errorf("%s: it took %v", what, took)
			}
			h.Release(t.Context())
			if got := a.content("a"); got != "content" {
				t.Errorf("%s: it is %q", what, got)
			}
		})
	}
}
