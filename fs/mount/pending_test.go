package mount

import (
	"bytes"
	"log/slog"
	"maps"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
	"blocktree/fs"
)

// H2 of 0086: whatever is asked for that finds a pending file, open or closed and on its way, by its name or identity, or that of a directory above, finds it, by whatever service.
func TestPendingIsFound(t *testing.T) {
	asks := asksOfAttributes()
	maps.Copy(asks, asksOfNames())
	for what, ask := range asks {
		for _, closed := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				c, d := newFilled(t)
				if closed { // it is on its way for a while
					c.wholes, c.not = []error{blocktree.E("fake", blocktree.Undeliverable, nil)}, true
				}
				n, h := makes(t, d, "a", "")
				if closed {
					closes(t, h, 0)
					synctest.Wait()
				}
				if e := ask(t, c.able, d, n); e != 0 {
					t.Errorf("%s, closed %v: %v", what, closed, e)
				}
				if left := d.tree.unnamed.count.Load(); left != 0 && what != "mode" && what != "time" {
					t.Errorf("%s, closed %v: %d have no name", what, closed, left)
				}
				if !closed {
					closes(t, h, 0)
				}
				d.tree.senders.Wait()
				if d.tree.unsaved.Load() != nil || c.opens > c.closed || len(c.leases) != 0 || d.tree.fills.out != 0 {
					t.Errorf("%s, closed %v: %v, %d opened, %d closed", what, closed, d.tree.unsaved.Load(), c.opens, c.closed)
				}
			})
		}
	}
}

// pendingUse does something with a pending file that is open, of heldContent, and says what its content is then.
func pendingUses() map[string]func(t *testing.T, c *filler, n *node, h *writing) string {
	all := map[string]func(t *testing.T, c *filler, n *node, h *writing) string{
		"failover": func(_ *testing.T, c *filler, _ *node, _ *writing) string { c.kill(false); return heldContent },
		"a second descriptor": func(t *testing.T, _ *filler, n *node, h *writing) string {
			o := openRW(t, n, 0)
			writes(t, o, "H", 0, 0)
			closes(t, o, 0)
			writes(t, h, "!", int64(len(heldContent)), 0)
			return "H" + heldContent[1:] + "!"
		},
		"a copy is closed before": func(t *testing.T, _ *filler, _ *node, h *writing) string {
			if e := h.Flush(closer(true)); e != 0 {
				t.Error(e)
			}
			writes(t, h, "!", int64(len(heldContent)), 0)
			return heldContent + "!"
		},
		"a copy is closed long before": func(t *testing.T, _ *filler, _ *node, h *writing) string {
			if e := h.Flush(closer(false)); e != 0 {
				t.Error(e)
			}
			time.Sleep(time.Minute)
			writes(t, h, "!", int64(len(heldContent)), 0)
			return heldContent + "!"
		},
		"fsync, and more": func(t *testing.T, c *filler, _ *node, h *writing) string {
			if e := h.node.Fsync(closer(true), h, 0); e != 0 || c.content("d/a") != heldContent {
				t.Errorf("fsync: %v, it is %q", e, c.content("d/a"))
			}
			writes(t, h, "!", int64(len(heldContent)), 0)
			return heldContent + "!"
		},
		"the term ends": func(_ *testing.T, c *filler, _ *node, _ *writing) string {
			time.Sleep(fillTerm)
			c.forgets()
			return heldContent
		},
		"locks": func(t *testing.T, _ *filler, n *node, h *writing) string {
			lk := &fuse.FileLock{Typ: syscall.F_WRLCK, End: 10}
			if e := n.Setlk(t.Context(), h, 7, lk, 0); e != 0 && e != syscall.ENOLCK {
				t.Error(e)
			}
			return heldContent
		},
	}
	firsts := firstReads()
	maps.Copy(firsts, firstChanges())
	for what, x := range firsts {
		if what != "a failover" && what != "an older service" && what != "a look by another" {
			all["held: "+what] = func(t *testing.T, _ *filler, n *node, h *writing) string { return x.do(t, n, h) }
		}
	}
	return all
}

// B4 of 0080 of what is pending: it is read, described, written, cut and closed as any, and given back.
func TestPendingIsUsed(t *testing.T) {
	for what, use := range pendingUses() {
		for _, wait := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				c, d := newFilled(t)
				d.tree.o.CloseLater = !wait
				n, h := makes(t, d, "a", heldContent[:4])
				writes(t, h, heldContent[4:], 4, 0)
				if took := c.took(); took != "fill" {
					t.Errorf("%s: it took %s before", what, took)
				}
				want := use(t, c, n, h)
				ino, _ := number(n.id)
				var out fuse.AttrOut
				if e := n.Getattr(t.Context(), h, &out); e != 0 || out.Size != uint64(len(want)) || out.Ino != ino {
					t.Errorf("%s: %v, %+v", what, e, out.Attr)
				}
				closes(t, h, 0)
				d.tree.senders.Wait()
				if got := c.content("d/a"); got != want {
					t.Errorf("%s: closed, it is %.40q", what, got)
				}
				d.tree.notices.Wait()
				if k := d.tree.kept.Load(); k != 0 || c.opens > c.closed || len(c.leases) != 0 || d.tree.fills.out != 0 || len(d.tree.later) != 0 {
					t.Errorf("%s: %d bytes are kept, %d leases, %d spares, %d places", what, k, len(c.leases), d.tree.fills.out, len(d.tree.later))
				}
			})
		}
	}
}

// pendingEnd is what comes of a pending file whose whole is not answered as it should be.
type pendingEnd struct {
	before  func(c *filler)
	want    syscall.Errno // of fsync, and of a close that waits
	content string
	lost    bool // also where nobody waits
}

// doneAtMake has a service die, the next not answer, and another that has no spare find what that one did only when it is asked to make it without one.
func doneAtMake(c *filler) {
	c.kill(false)
	c.wholes, c.not = []error{blocktree.E("fake", blocktree.Undeliverable, nil)}, true
	c.whole = func() {
		if len(c.wholes) == 0 { // it was asked for with the other one, and not heard
			c.forgets()
			c.few, c.spares[blocktree.FileID{Generation: 9}] = 1, true // which is none of this mount
		}
	}
	c.makes = func(id blocktree.FileID) {
		if id == (blocktree.FileID{}) {
			c.put("d/a", 100_000+c.told, "mine")
			c.makes = nil
		}
	}
}

func pendingEnds() map[string]pendingEnd {
	unheard := blocktree.E("fake", blocktree.Undeliverable, nil)
	return map[string]pendingEnd{
		"answered":                         {func(*filler) {}, 0, "mine", false},
		"its answer is lost":               {func(c *filler) { c.wholes = []error{unheard} }, 0, "mine", false},
		"its answer is lost twice":         {func(c *filler) { c.wholes = []error{unheard, unheard} }, 0, "mine", false},
		"it is lost":                       {func(c *filler) { c.wholes, c.not = []error{unheard, unheard}, true }, 0, "mine", false},
		"busy for a while":                 {func(c *filler) { b := blocktree.E("fake", blocktree.Busy, nil); c.wholes = []error{b, b} }, 0, "mine", false},
		"its service dies before":          {func(c *filler) { c.kill(false) }, 0, "mine", false},
		"its service dies when it is done": {func(c *filler) { c.wholes = []error{unheard}; c.between = func() { clear(c.filled); clear(c.spares) } }, 0, "mine", false},
		"the next one is of before":        {func(c *filler) { c.kill(false); c.older = true }, 0, "mine", false},
		"the next one dies when it is done": {func(c *filler) {
			c.kill(false)
			c.wholes = []error{unheard}
			c.between = func() { clear(c.spares) }
		}, 0, "mine", false},
		"the next one dies before it is done":                    {func(c *filler) { c.kill(false); c.wholes, c.not = []error{unheard}, true }, 0, "mine", false},
		"the next one does with another what it has no spare of": {func(c *filler) { c.kill(false); c.before = true }, 0, "mine", false},
		"its service has it done when the next has named another": {func(c *filler) {
			id := blocktree.FileID{Generation: 1, Inode: 100_000 + 1} // told first
			c.kill(false)
			c.whole = func() {
				c.mu.Lock()
				named := len(c.spares) > 0
				c.mu.Unlock()
				if named {
					c.put("d/a", id.Inode, "mine")
					c.whole = nil
				}
			}
		}, 0, "mine", false},
		"the next one has it done when one that has no spare makes it": {doneAtMake, 0, "mine", false},
		"the next one names others for ever":                           {func(c *filler) { c.kill(false); c.whole = func() { c.forgets() } }, 0, "mine", false},
		"somebody made it":                                             {func(c *filler) { c.put("d/a", 80, "theirs") }, syscall.EIO, "theirs", true},
		"somebody made it, as long":                                    {func(c *filler) { c.put("d/a", 80, "THEY") }, syscall.EIO, "THEY", true},
		"its answer is lost, and it is gone": {func(c *filler) {
			c.wholes = []error{unheard}
			c.between = func() { delete(c.files, testRoot.Join("d").Join("a")); c.between = nil }
		}, 0, "mine", false}, // the window of 0080
		"its answer is lost, and another is there": {func(c *filler) {
			c.wholes = []error{unheard}
			c.between = func() {
				p := testRoot.Join("d").Join("a")
				delete(c.files, p)
				_ = c.add(p, fs.Info{})
				c.between = nil
			}
		}, syscall.EIO, "", true},
		"its answer is lost, and somebody wrote it": {func(c *filler) {
			c.wholes = []error{unheard}
			c.between = func() {
				f := c.files[testRoot.Join("d").Join("a")]
				f.data, f.info.Length, f.wrote, f.epoch = []byte("theirs"), 6, 9, 9
				c.between = nil
			}
		}, 0, "theirs", false},
		"the directory is gone": {func(c *filler) { delete(c.files, testRoot.Join("d")) }, syscall.EIO, "absent", true},
		"it is refused":         {func(c *filler) { c.wholes = []error{blocktree.E("fake", blocktree.Permission, nil)} }, syscall.EACCES, "absent", true},
		"no room for a while":   {func(c *filler) { c.wholes = []error{blocktree.E("fake", blocktree.NoSpace, nil)} }, syscall.ENOSPC, "absent", false},
	}
}

// H2, H3, H4 of 0086: what was fsynced, or closed by a close that waits, is there, or that is told; what is closed later is there, or lost as a whole, which the log says once, and the next fsync of the directory, and the end of the mount. Nothing is done to what is there.
func TestPendingEnds(t *testing.T) {
	for what, x := range pendingEnds() {
		for _, how := range []string{"later", "close", "fsync"} {
			synctest.Test(t, func(t *testing.T) {
				c, d := newFilled(t)
				log := &bytes.Buffer{}
				d.tree.o.Logger = slog.New(slog.NewTextHandler(log, nil))
				d.tree.o.CloseLater = how == "later"
				_, h := makes(t, d, "a", "mine")
				c.vague = nil
				x.before(c)
				want, lost, content := x.want, x.lost, x.content
				switch how {
				case "later":
					if want = 0; x.want == syscall.ENOSPC {
						content = "mine"
					}
				case "fsync":
					if e := h.node.Fsync(closer(true), h, 0); e != want {
						t.Errorf("%s: fsync: %v, not %v", what, e, want)
					}
				}
				closes(t, h, want)
				d.tree.senders.Wait()
				if got := c.content("d/a"); got != content {
					t.Errorf("%s, %s: it is %q", what, how, got)
				}
				if lines := strings.Count(log.String(), "is lost"); lines != 0 && !lost && x.want == 0 || lines != 1 && lost {
					t.Errorf("%s, %s: the log: %s", what, how, log)
				}
				later := how == "later" && lost
				if gone := d.tree.unsaved.Load() != nil; gone != later {
					t.Errorf("%s, %s: at the end of the mount: %v", what, how, gone)
				}
				for _, told := range []bool{later, false} {
					if e := (&listing{node: d}).Fsyncdir(t.Context(), 0); (e == syscall.EIO) != told {
						t.Errorf("%s, %s: fsync of the directory: %v", what, how, e)
					}
				}
				d.tree.notices.Wait()
				if d.tree.fills.out != 0 || d.tree.kept.Load() != 0 || len(d.tree.writers) != 0 || len(d.tree.later) != 0 || len(c.leases) != 0 || d.tree.unnamed.count.Load() != 0 {
					t.Errorf("%s, %s: %d spares are out, %d writers, %d leases", what, how, d.tree.fills.out, len(d.tree.writers), len(c.leases))
				}
			})
		}
	}
}

// 0089, 2: what was made with its spare, and whose service died before its first flush, is made anew by the next, which does not have that.
func TestPendingMadeAndLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d := newFilled(t)
		n, h := makes(t, d, "a", "mine")
		if got, e := readAll(t, h, 0); e != 0 || got != "mine" || h.writer.pending.Load() || !h.writer.isUnnamed() {
			t.Fatalf("%q, %v", got, e)
		}
		c.kill(false)
		closes(t, h, 0)
		var out fuse.AttrOut
		ino, _ := number(n.id)
		if e := n.Getattr(t.Context(), nil, &out); e != 0 || out.Ino != ino || c.content("d/a") != "mine" {
			t.Errorf("%v, %+v, it is %q", e, out.Attr, c.content("d/a"))
		}
	})
}

// parentOf is the directory that a node is in.
func parentOf(n *node) *node {
	_, p := n.Parent()
	return p.Operations().(*node)
}

// D6 of 0086: a file that may have been made empty, as the answer is missing, is opened and written by whatever comes next: what asked for it whole would be told that it is there.
func TestPendingMadeEmptyAndNotHeard(t *testing.T) {
	for what, ends := range map[string]func(c *filler, h *writing) syscall.Errno{
		"close":            func(_ *filler, h *writing) syscall.Errno { return h.Flush(closer(true)) },
		"close by another": func(_ *filler, h *writing) syscall.Errno { return h.Flush(closer(false)) },
		"fsync":            func(_ *filler, h *writing) syscall.Errno { return h.node.Fsync(closer(true), h, 0) },
		"fsync of the dir": func(_ *filler, h *writing) syscall.Errno {
			return (&listing{node: parentOf(h.node)}).Fsyncdir(closer(true), 0)
		},
		"fsync, a failover": func(c *filler, h *writing) syscall.Errno { c.kill(false); return h.node.Fsync(closer(true), h, 0) },
	} {
		for _, later := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				c, d := newFilled(t)
				d.tree.o.CloseLater = later
				_, h := makes(t, d, "a", "mine")
				c.mu.Lock()
				c.vague = blocktree.E("fake", blocktree.Undeliverable, nil)
				c.between = func() { // and the service has given it its name since
					for _, f := range c.leases {
						f.hidden, c.files[f.path] = false, f.file
					}
					clear(c.leases)
					c.between = nil
				}
				c.mu.Unlock()
				time.Sleep(blocktree.MountUnnamedFor)
				synctest.Wait()
				if took := c.took(); took != "fill, make" || !h.writer.pending.Load() {
					t.Fatalf("%s: it took %s before", what, took)
				}
				if e := ends(c, h); e != 0 {
					t.Errorf("%s, later %v: %v", what, later, e)
				}
				if got := c.content("d/a"); !later && got != "mine" {
					t.Errorf("%s: it is %q", what, got)
				}
				closes(t, h, 0)
				d.tree.senders.Wait()
				if got := c.content("d/a"); got != "mine" {
					t.Errorf("%s, later %v: closed, it is %q", what, later, got)
				}
				d.tree.notices.Wait()
				if d.tree.fills.out != 0 || len(d.tree.writers) != 0 || len(c.leases) != 0 || d.tree.unnamed.count.Load() != 0 {
					t.Errorf("%s, later %v: %d spares are out, %d writers, %d leases", what, later, d.tree.fills.out, len(d.tree.writers), len(c.leases))
				}
			})
		}
	}
}

// 0086, 5: the mode and the time of a pending file are set here, and go with it, whatever makes it; what cannot be is set as of any.
func TestPendingModeAndTime(t *testing.T) {
	at, ahead := time.Unix(1000, 5), time.Now().Add(1000*time.Hour)
	for what, x := range map[string]struct {
		mode uint32
		at   time.Time
		then func(t *testing.T, c *filler, n *node, h *writing)
		took string // of what is closed then
	}{
		"close":      {0o640, at, func(*testing.T, *filler, *node, *writing) {}, "whole"},
		"fsync":      {0o640, at, func(t *testing.T, _ *filler, n *node, h *writing) { _ = n.Fsync(closer(true), h, 0) }, "whole, open, close"},
		"a while":    {0o640, at, func(*testing.T, *filler, *node, *writing) { time.Sleep(blocktree.MountUnnamedFor); synctest.Wait() }, "whole, open, close"},
		"read":       {0o640, at, func(t *testing.T, _ *filler, _ *node, h *writing) { _, _ = readAll(t, h, 0) }, "whole, open, close"},
		"a failover": {0o640, at, func(_ *testing.T, c *filler, _ *node, _ *writing) { c.kill(false) }, "whole, whole"},
		"its answer is lost": {0o640, at, func(_ *testing.T, c *filler, _ *node, _ *writing) {
			c.wholes = []error{blocktree.E("fake", blocktree.Undeliverable, nil)}
		}, "whole, whole"},
		"of 1970":           {0o640, time.Unix(0, 0), func(*testing.T, *filler, *node, *writing) {}, ""},
		"a moment ago":      {0o640, time.Time{}, func(_ *testing.T, c *filler, _ *node, _ *writing) { c.behind = 30 * time.Second }, ""},
		"not to be written": {0o444, at, func(*testing.T, *filler, *node, *writing) {}, ""},
		"ahead of now":      {0o640, ahead, func(*testing.T, *filler, *node, *writing) {}, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, d := newFilled(t)
			if x.at.IsZero() {
				x.at = time.Now().Add(-10 * time.Second)
			}
			n, h := makes(t, d, "a", "content")
			if e := setModeOf(t, n, x.mode); e != 0 {
				t.Errorf("%s: chmod: %v", what, e)
			}
			if e := setTime(t, n, x.at, 0); e != 0 {
				t.Errorf("%s: a time: %v", what, e)
			}
			if took := c.took(); x.took != "" && took != "fill" {
				t.Errorf("%s: it took %s", what, took)
			}
			is := func(when string) {
				t.Helper()
				var out fuse.AttrOut
				if e := n.Getattr(t.Context(), nil, &out); e != 0 || out.Mode != syscall.S_IFREG|x.mode || out.Mtime != uint64(x.at.Unix()) || out.Size != 7 {
					t.Errorf("%s, %s: %v, %+v", what, when, e, out.Attr)
				}
			}
			is("pending")
			x.then(t, c, n, h)
			is("then")
			closes(t, h, 0)
			d.tree.senders.Wait()
			if took := c.took(); x.took != "" && strings.ReplaceAll(strings.ReplaceAll(took, ", stat", ""), "stat, ", "") != x.took {
				t.Errorf("%s: it took %s, not %s", what, took, x.took)
			}
			is("closed")
			if f := c.files[testRoot.Join("d").Join("a")]; f.info.Mode != x.mode || f.info.Modified != x.at.UnixNano() || string(f.data[:7]) != "content" {
				t.Errorf("%s: %+v", what, f.info)
			}
		})
	}
}

// 0086, 5: what is written after a time was set has another, and a mode that was set meanwhile stays.
func TestPendingWrittenAfterItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d := newFilled(t)
		n, h := makes(t, d, "a", "con")
		_ = setTime(t, n, time.Unix(1000, 0), 0)
		time.Sleep(time.Millisecond)
		writes(t, h, "tent", 3, 0)
		wrote := time.Now()
		time.Sleep(time.Millisecond)
		closes(t, h, 0)
		d.tree.senders.Wait()
		if f := c.files[testRoot.Join("d").Join("a")]; f.info.Modified != wrote.UnixNano() {
			t.Errorf("it was written at %v, not %v", time.Unix(0, f.info.Modified), wrote)
		}
	})
}

// H6 of 0086, and what is durable with each write: what is made by no mount itself.
func TestNotPending(t *testing.T) {
	for what, x := range map[string]struct {
		before func(t *testing.T, c *filler, d *node)
		flags  uint32
		mode   uint32
	}{
		"O_SYNC":                             {nil, syscall.O_RDWR | syscall.O_SYNC, 0o644},
		"O_DSYNC":                            {nil, syscall.O_RDWR | syscall.O_DSYNC, 0o644},
		"not to be written":                  {nil, syscall.O_RDWR, 0o444},
		"not to be read":                     {nil, syscall.O_RDWR, 0o244},
		"an older service":                   {func(_ *testing.T, c *filler, _ *node) { c.older = true }, syscall.O_RDWR, 0o644},
		"no spare":                           {func(_ *testing.T, c *filler, _ *node) { c.few = 1; c.spares[blocktree.FileID{}] = true }, syscall.O_RDWR, 0o644},
		"others have asked":                  {func(_ *testing.T, c *filler, _ *node) { c.forgets() }, syscall.O_RDWR, 0o644},
		"the directory is not to be changed": {func(t *testing.T, _ *filler, d *node) { _ = setModeOf(t, d, 0o500) }, syscall.O_RDWR, 0o644},
		"a name that was there": {func(t *testing.T, c *filler, d *node) {
			_, h := makes(t, d, "a", "")
			closes(t, h, 0)
			d.tree.senders.Wait()
			c.vague = blocktree.E("fake", blocktree.Undeliverable, nil)
			if e := d.Unlink(t.Context(), "a"); e != 0 { // whose answer was lost
				t.Error(e)
			}
			d.RmChild("a")
		}, syscall.O_RDWR, 0o644},
		"its directory was renamed": {func(t *testing.T, _ *filler, d *node) {
			root := d.Root().Operations().(*node)
			if e := root.Rename(t.Context(), "d", root, "e", 0); e != 0 {
				t.Error(e)
			}
			root.MvChild("d", root.EmbeddedInode(), "e", true)
			if e := root.Rename(t.Context(), "e", root, "d", 0); e != 0 {
				t.Error(e)
			}
			root.MvChild("e", root.EmbeddedInode(), "d", true)
		}, syscall.O_RDWR, 0o644},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, d := newFilled(t)
			if x.before != nil {
				x.before(t, c, d)
			}
			_, h := create(t, d, "a", x.flags, x.mode)
			h.by = os.Getpid()
			if took := c.took(); !strings.Contains(took, "make") {
				t.Errorf("%s: it took %s", what, took)
			}
			if h.writer.pending.Load() {
				t.Errorf("%s: it is pending", what)
			}
			writes(t, h, "x", 0, 0)
			closes(t, h, 0)
			if c.content("d/a") != "x" {
				t.Errorf("%s: it is %q", what, c.content("d/a"))
			}
		})
	}
}
