package mount

import (
	"bytes"
	"log/slog"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
	"blocktree/fs"
)

// 0086, 6: the files that are closed and not sent are bounded, so are those that are being sent, and who closes one more waits.
func TestCloseLaterIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d := newFilled(t)
		stuck := make(chan struct{})
		c.whole = func() {
			if n, m := len(d.tree.sends), len(d.tree.requests); n > blocktree.MountLaterSendsMax || m > blocktree.MountLaterSendsMax {
				t.Errorf("%d are sent at a time, %d places are taken", n, m)
			}
			<-stuck
		}
		var all []*writing
		for i := range blocktree.MountLaterMax + 1 {
			_, h := makes(t, d, strconv.Itoa(i), "content")
			all = append(all, h)
		}
		for _, h := range all[1:] {
			closes(t, h, 0)
		}
		if n := len(d.tree.later); n != blocktree.MountLaterMax {
			t.Errorf("%d are closed", n)
		}
		began := time.Now()
		time.AfterFunc(blocktree.MountWaitMax/2, func() { close(stuck) })
		if closes(t, all[0], 0); time.Since(began) < blocktree.MountWaitMax/2 {
			t.Errorf("it waited %v", time.Since(began))
		}
		d.tree.senders.Wait()
		for i := range all {
			if got := c.content("d/" + strconv.Itoa(i)); got != "content" {
				t.Errorf("%d is %q", i, got)
			}
		}
		if d.tree.unsaved.Load() != nil || len(d.tree.later) != 0 || d.tree.fills.out != 0 {
			t.Errorf("%v, %d places", d.tree.unsaved.Load(), len(d.tree.later))
		}
	})
}

// H2 of 0086: what is closed and cannot be sent is not told not to be there: who asks for it waits, and is told of an error.
func TestUnsentIsNotAbsent(t *testing.T) {
	for what, ask := range map[string]func(d, n *node) syscall.Errno{
		"look": func(d, _ *node) syscall.Errno {
			_, e := d.Lookup(t.Context(), "a", &fuse.EntryOut{})
			return e
		},
		"list": func(d, _ *node) syscall.Errno {
			_, _, err := (&listing{node: d}).next(t.Context())
			return errno(err)
		},
		"fsync of the directory": func(d, _ *node) syscall.Errno { return (&listing{node: d}).Fsyncdir(t.Context(), 0) },
		"open":                   func(_, n *node) syscall.Errno { _, _, e := n.Open(t.Context(), syscall.O_RDONLY); return e },
		"open to write":          func(_, n *node) syscall.Errno { _, _, e := n.Open(t.Context(), syscall.O_RDWR); return e },
		"cut": func(_, n *node) syscall.Errno {
			return n.Setattr(t.Context(), nil, &fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{Valid: fuse.FATTR_SIZE}}, &fuse.AttrOut{})
		},
		"unlink":                func(d, _ *node) syscall.Errno { return d.Unlink(t.Context(), "a") },
		"rename":                func(d, _ *node) syscall.Errno { return d.Rename(t.Context(), "a", d, "b", 0) },
		"replace":               func(d, _ *node) syscall.Errno { return d.Rename(t.Context(), "b", d, "a", 0) },
		"rmdir":                 func(d, _ *node) syscall.Errno { return d.Root().Operations().(*node).Rmdir(t.Context(), "d") },
		"mode of its directory": func(d, _ *node) syscall.Errno { return setModeOf(t, d, 0o500) },
		"mode":                  func(_, n *node) syscall.Errno { return setModeOf(t, n, 0o400) },
		"attribute":             func(_, n *node) syscall.Errno { return n.Setxattr(t.Context(), "user.a", nil, 0) },
		"make once more": func(d, _ *node) syscall.Errno {
			_, _, _, e := d.Create(t.Context(), "a", syscall.O_RDWR|syscall.O_EXCL, 0o644, &fuse.EntryOut{})
			return e
		},
		"make a directory": func(d, _ *node) syscall.Errno {
			_, e := d.Mkdir(t.Context(), "a", 0o755, &fuse.EntryOut{})
			return e
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, d := newFilled(t)
			n, h := makes(t, d, "a", "content")
			stuck := blocktree.E("fake", blocktree.Busy, nil)
			for range 1000 {
				c.wholes = append(c.wholes, stuck)
			}
			closes(t, h, 0)
			synctest.Wait()
			began := time.Now()
			if e := ask(d, n); e != syscall.EIO {
				t.Errorf("%s: %v", what, e)
			}
			if took := time.Since(began); took < blocktree.MountWaitMax/2 || took > 2*blocktree.MountWaitMax {
				t.Errorf("%s: it took %v", what, took)
			}
			c.mu.Lock()
			c.wholes = nil
			c.mu.Unlock()
			d.tree.senders.Wait()
			if got := c.content("d/a"); got != "content" {
				t.Errorf("%s: it is %q", what, got)
			}
			d.tree.notices.Wait()
		})
	}
}

// 0086, 6: the end of the mount sends what is closed, for MountWaitMax at most, and says what it could not; what is open it closes.
func TestEndSendsWhatIsClosed(t *testing.T) {
	for what, outage := range map[string]time.Duration{"at once": 0, "after an outage": blocktree.MountWaitMax / 2, "never": 10 * blocktree.MountWaitMax} {
		synctest.Test(t, func(t *testing.T) {
			c, d := newFilled(t)
			log := &bytes.Buffer{}
			d.tree.o.Logger = slog.New(slog.NewTextHandler(log, nil))
			_, h := makes(t, d, "a", "closed")
			_, _ = makes(t, d, "b", "open")
			c.fail(blocktree.E("fake", blocktree.Undeliverable, nil))
			closes(t, h, 0)
			time.AfterFunc(outage, func() { c.fail(nil) })
			began := time.Now()
			d.tree.end()
			lost := d.tree.unsaved.Load() != nil
			if want := what == "never"; lost != want || !want && (c.content("d/a") != "closed" || c.content("d/b") != "open") {
				t.Errorf("%s: %v, they are %q and %q", what, lost, c.content("d/a"), c.content("d/b"))
			}
			if lines := strings.Count(log.String(), "/d/a"); (lines == 1) != lost {
				t.Errorf("%s: the log: %s", what, log)
			}
			if took := time.Since(began); took > 5*blocktree.MountWaitMax {
				t.Errorf("%s: it took %v", what, took)
			}
			time.Sleep(20 * blocktree.MountWaitMax)
		})
	}
}

// 0086, 6: with too little left of the term the close waits, so that nobody else is told that there is nothing.
func TestCloseWaitsAtTheEndOfTheTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d := newFilled(t)
		_, h := makes(t, d, "a", "content")
		time.Sleep(blocktree.MountUnnamedFor - 1)
		d.tree.fills.mu.Lock()
		d.tree.fills.dirs[d.id].until -= fillTerm - blocktree.MountUnnamedFor - blocktree.MountFillMargin/4
		d.tree.fills.mu.Unlock()
		if e := h.Flush(closer(true)); e != 0 || c.content("d/a") != "content" {
			t.Errorf("%v, it is %q", e, c.content("d/a"))
		}
		h.Release(t.Context())
	})
}

// A closed pending file whose node the kernel forgets is sent to where it was made, and is the same file for who looks for it then.
func TestForgottenWhilePending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d := newFilled(t)
		c.wholes, c.not = []error{blocktree.E("fake", blocktree.Undeliverable, nil)}, true
		n, h := makes(t, d, "a", "content")
		closes(t, h, 0)
		synctest.Wait()
		d.RmChild("a")
		var out fuse.EntryOut
		ino, _ := number(n.id)
		i, e := d.Lookup(t.Context(), "a", &out)
		if e != 0 || out.Ino != ino || out.Size != 7 {
			t.Fatalf("%v, %+v", e, out.Attr)
		}
		d.AddChild("a", i, true)
		o := openRW(t, i.Operations().(*node), 0)
		writes(t, o, "C", 0, 0)
		closes(t, o, 0)
		if d.tree.senders.Wait(); c.content("d/a") != "Content" || len(d.tree.writers) != 0 {
			t.Errorf("it is %q", c.content("d/a"))
		}
	})
}

// H2 of 0086: so is one that no service made whole, and that was made empty then, of which the answer was lost: it is opened where it was made.
func TestForgottenWhenMadeEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d := newFilled(t)
		_, h := makes(t, d, "a", "content")
		c.mu.Lock()
		c.older, c.makesUnheard = true, []bool{true}
		c.mu.Unlock()
		closes(t, h, 0)
		d.RmChild("a")
		if d.tree.senders.Wait(); c.content("d/a") != "content" || len(d.tree.writers) != 0 || d.tree.unsaved.Load() != nil || len(c.makesUnheard) > 0 {
			t.Errorf("it is %q", c.content("d/a"))
		}
	})
}

// H3 of 0086: a file that is made anew by another service, with another identity, keeps its number; files that are made then have their own.
func TestPendingIdentities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d := newFilled(t)
		seen := map[uint64]string{}
		for i := range 20 {
			name := strconv.Itoa(i)
			n, h := makes(t, d, name, name)
			if i%3 == 0 {
				c.mu.Lock()
				clear(c.spares) // as the service has others by now
				c.mu.Unlock()
			}
			closes(t, h, 0)
			d.tree.senders.Wait()
			var out fuse.EntryOut
			if _, e := d.Lookup(t.Context(), name, &out); e != 0 {
				t.Fatal(e)
			}
			if ino, _ := number(n.id); out.Ino != ino || seen[ino] != "" {
				t.Errorf("%s is %d by its name, and was %d, as is %q", name, out.Ino, ino, seen[ino])
			}
			seen[out.Ino] = name
		}
	})
}

// 0086, 5: a directory that the mount fills is described from memory for MountCacheFor, with the time of what was made in it; what is set of it is told at once.
func TestFilledIsDescribed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d := newFilled(t)
		d.tree.o.CloseLater = false
		is := func(mode uint32, at time.Time, took string) {
			t.Helper()
			var out fuse.AttrOut
			if e := d.Getattr(t.Context(), nil, &out); e != 0 || out.Mode != syscall.S_IFDIR|mode || out.Mtime != uint64(at.Unix()) || out.Timeout() > blocktree.MountCacheFor {
				t.Errorf("%v, %+v", e, out.Attr)
			}
			var entry fuse.EntryOut
			if took == "" { // by its name, too
				if i, e := d.Root().Operations().(*node).Lookup(t.Context(), "d", &entry); e != 0 || i != d.EmbeddedInode() || entry.Attr != out.Attr || entry.AttrTimeout() > blocktree.MountCacheFor {
					t.Errorf("%v, %+v", e, entry.Attr)
				}
			}
			if got := c.took(); got != took {
				t.Errorf("it took %q, not %q", got, took)
			}
		}
		for range 30 {
			_, h := makes(t, d, strconv.Itoa(len(c.files)), "x")
			closes(t, h, 0)
			c.took()
			time.Sleep(20 * time.Millisecond)
			is(0o755, time.Now(), "")
		}
		time.Sleep(blocktree.MountCacheFor - 600*time.Millisecond)
		_, h := makes(t, d, "last", "x")
		closes(t, h, 0)
		c.took()
		is(0o755, time.Unix(0, 0), "stat") // as the fake's directories have no time
		_, h = makes(t, d, "one more", "x")
		closes(t, h, 0)
		if e := setModeOf(t, d, 0o700); e != 0 {
			t.Error(e)
		}
		c.took()
		is(0o700, time.Unix(0, 0), "")
		if e := setTime(t, d, time.Unix(1000, 0), 0); e != 0 {
			t.Error(e)
		}
		c.took()
		is(0o700, time.Unix(1000, 0), "")
		if e := d.Unlink(t.Context(), "last"); e != 0 {
			t.Error(e)
		}
		c.took()
		is(0o700, time.Unix(1000, 0), "stat")
	})
}

// What is remembered of directories is bounded, and given back.
func TestFilledIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFiller()
		root := grow(c)
		x := root.tree.fills
		for i := range blocktree.MountFilledDirsMax + 2 {
			mkdir(t, root, strconv.Itoa(i))
		}
		if n := len(x.dirs); n != blocktree.MountFilledDirsMax {
			t.Errorf("%d are remembered", n)
		}
		d := lookup(t, root, "0")
		_, h := makes(t, d, "a", "x")
		closes(t, h, 0)
		d.tree.senders.Wait()
		x.mu.Lock()
		x.named = blocktree.MountFilledNamesMax
		x.mu.Unlock()
		looks(t, d, "b", syscall.ENOENT)
		_, h = create(t, d, "b", syscall.O_RDWR, 0o644)
		if closes(t, h, 0); x.of(d.id) != nil || h.writer.made.Load() != nil {
			t.Error("there are more names than are to be")
		}
		x.mu.Lock()
		x.named -= blocktree.MountFilledNamesMax - 1
		x.mu.Unlock()
		time.Sleep(3 * blocktree.MountFilledIdle)
		x.mu.Lock()
		defer x.mu.Unlock()
		if len(x.dirs) != 0 || x.named != 0 || len(x.spares) != 0 || x.sweep != nil {
			t.Errorf("%d directories are left, %d names, %d spares", len(x.dirs), x.named, len(x.spares))
		}
	})
}

// Of services that let nobody fill anything little is asked in vain.
func TestFilledNowhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFiller()
		c.older = true
		root := grow(c)
		for i := range 50 {
			d := mkdir(t, root, strconv.Itoa(i))
			looks(t, d, "a", syscall.ENOENT)
			_, h := create(t, d, "a", syscall.O_RDWR, 0o644)
			closes(t, h, 0)
		}
		if c.fills != 1 {
			t.Errorf("%d times", c.fills)
		}
	})
}

// D1 of 0086: a change of a name, and each fsync, has all sent that was closed before, in whatever directory.
func TestChangesSendWhatIsClosed(t *testing.T) {
	for what, change := range map[string]func(t *testing.T, root, e *node) syscall.Errno{
		"rename": func(t *testing.T, _, e *node) syscall.Errno { return e.Rename(t.Context(), "old", e, "new", 0) },
		"unlink": func(t *testing.T, _, e *node) syscall.Errno { return e.Unlink(t.Context(), "old") },
		"symlink": func(t *testing.T, _, e *node) syscall.Errno {
			_, errno := e.Symlink(t.Context(), "x", "l", &fuse.EntryOut{})
			return errno
		},
		"fsync": func(t *testing.T, _, e *node) syscall.Errno {
			h := openRW(t, e.named("old"), 0)
			defer h.Release(t.Context())
			return h.node.Fsync(t.Context(), h, 0)
		},
		"fsync of a directory": func(t *testing.T, root, _ *node) syscall.Errno {
			return (&listing{node: root}).Fsyncdir(t.Context(), 0)
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, d := newFilled(t)
			root := d.Root().Operations().(*node)
			e := mkdir(t, root, "e")
			_, h := makes(t, e, "old", "old")
			closes(t, h, 0)
			d.tree.senders.Wait()
			_, h = makes(t, d, "a", "content")
			c.wholes, c.not = []error{blocktree.E("fake", blocktree.Undeliverable, nil)}, true
			closes(t, h, 0)
			synctest.Wait()
			if c.content("d/a") != "absent" {
				t.Errorf("%s: it is there already", what)
			}
			if errno := change(t, root, e); errno != 0 || c.content("d/a") != "content" {
				t.Errorf("%s: %v, it is %q", what, errno, c.content("d/a"))
			}
		})
	}
}

// D1: while a file waits after an error the next close waits, too; what is refused for want of room for MountWaitMax is lost.
func TestCloseAfterAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d := newFilled(t)
		_, h := makes(t, d, "a", "content")
		_, o := makes(t, d, "b", "other")
		for range 1000 {
			c.wholes = append(c.wholes, blocktree.E("fake", blocktree.NoSpace, nil))
		}
		closes(t, h, 0)
		synctest.Wait()
		closes(t, o, syscall.ENOSPC)
		d.tree.senders.Wait()
		if e := (&listing{node: d}).Fsyncdir(t.Context(), 0); e != syscall.EIO || d.tree.unsaved.Load() == nil {
			t.Errorf("fsync of the directory: %v, at the end: %v", e, d.tree.unsaved.Load())
		}
	})
}

// H2 of 0086: what is named as it is time, when its close has returned and the kernel has not given the handle back yet, is made whole, as whoever kills the mount then is not to leave a part of it.
func TestNamedBeforeItsRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d := newFilled(t)
		_, h := makes(t, d, "a", "content")
		if e := h.Flush(closer(true)); e != 0 {
			t.Errorf("close: %v", e)
		}
		time.Sleep(blocktree.MountUnnamedFor)
		synctest.Wait()
		if took := c.took(); strings.Contains(took, "make") || !strings.Contains(took, "whole") {
			t.Errorf("it took %s", took)
		}
		h.Release(t.Context())
		d.tree.senders.Wait()
		if got := c.content("d/a"); got != "content" {
			t.Errorf("it is %q", got)
		}
		d.tree.notices.Wait()
		if d.tree.fills.out != 0 || len(d.tree.later) != 0 || len(d.tree.writers) != 0 || len(c.leases) != 0 {
			t.Errorf("%d spares, %d places, %d writers, %d leases", d.tree.fills.out, len(d.tree.later), len(d.tree.writers), len(c.leases))
		}
	})
}

// H2 of 0086: the close of what a service may have made empty, as its answer is missing, waits: it is not made whole any more.
func TestCloseOfWhatMayBeEmptyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d := newFilled(t)
		_, h := makes(t, d, "a", "content")
		c.vague, c.hides = blocktree.E("fake", blocktree.Undeliverable, nil), false
		if err := h.writer.renew(t.Context(), nil); !passing(err) {
			t.Fatal(err)
		}
		c.kill(false)
		if e := h.Flush(closer(true)); e != 0 || c.content("d/a") != "content" {
			t.Errorf("closed: %v, it is %q", e, c.content("d/a"))
		}
		h.Release(t.Context())
	})
}

// H2 of 0086: what is closed, and cannot be made whole just now, as there is no spare, is made whole when it can be, or, after a second, as any.
func TestClosedWaitsForASpare(t *testing.T) {
	for refusals, want := range map[int]string{3: "fill, whole, whole, whole, whole", 1000: "make, write, flush, close"} {
		synctest.Test(t, func(t *testing.T) {
			c, d := newFilled(t)
			_, h := makes(t, d, "a", "content")
			for range refusals {
				c.wholes = append(c.wholes, blocktree.E("fake", blocktree.Unsupported, nil))
			}
			closes(t, h, 0)
			d.tree.senders.Wait()
			if took := c.took(); !strings.HasSuffix(took, want) || c.content("d/a") != "content" {
				t.Errorf("%d refusals: it took %s, it is %q", refusals, took, c.content("d/a"))
			}
		})
	}
}

// D2 to D4 of 0086: a term ends with the connection that it came by, and is of the directory that the service says.
func TestTermsEnd(t *testing.T) {
	for what, ends := range map[string]func(t *testing.T, c *filler, root, d *node){
		"the connection is gone": func(t *testing.T, c *filler, root, d *node) {
			e := mkdir(t, root, "e")
			_, h := makes(t, e, "a", "x")
			c.wholes = []error{blocktree.E("fake", blocktree.Undeliverable, nil)}
			closes(t, h, 0)
			d.tree.senders.Wait()
		},
		"it is another's": func(_ *testing.T, c *filler, _, d *node) {
			x := d.tree.fills
			x.mu.Lock()
			defer x.mu.Unlock()
			x.hear(x.dirs[d.id], x.clock(), fs.Filling{Term: fillTerm, Dir: blocktree.FileID{Generation: 1, Inode: 1}})
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, d := newFilled(t)
			_, h := makes(t, d, "a", "x")
			closes(t, h, 0)
			d.tree.senders.Wait()
			if !d.absent(t.Context(), "b") {
				t.Errorf("%s: it has no term", what)
			}
			ends(t, c, d.Root().Operations().(*node), d)
			if d.absent(t.Context(), "b") {
				t.Errorf("%s: its term goes on", what)
			}
		})
	}
}

// D1 of 0086: who has something be durable just as the kernel gives a handle back waits for what was closed by it, though nobody has begun to send that.
func TestJustClosedIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 20 {
			c, d := newFilled(t)
			_, h := makes(t, d, "f", "content")
			closes(t, h, 0)
			if err := d.tree.sendClosed(t.Context()); err != nil || c.files[d.path().Join("f")] == nil {
				t.Fatalf("it was not sent: %v", err)
			}
			d.tree.senders.Wait()
		}
	})
}
