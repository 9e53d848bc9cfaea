package mount

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"blocktree"
)

// B1 of 0080: a new file has its name in MountUnnamedFor, also where nothing is asked of it; and where no service is there by then it is not lost for that, and has it when one is there again.
func TestNamedInTime(t *testing.T) {
	for what, x := range map[string]struct {
		write  string
		outage time.Duration
	}{"empty": {}, "held": {write: "mine"}, "an outage": {"mine", 3 * blocktree.MountWaitMax}, "an outage, empty": {"", 3 * blocktree.MountWaitMax}} {
		synctest.Test(t, func(t *testing.T) {
			a, dir := newUnnamed()
			_, h := create(t, dir, "a", syscall.O_RDWR, 0o644)
			if x.write != "" {
				writes(t, h, x.write, 0, 0)
			}
			if time.Sleep(blocktree.MountUnnamedFor - 1); a.content("a") != "absent" {
				t.Errorf("%s: it is named at once", what)
			}
			if x.outage != 0 {
				a.fail(blocktree.E("fake", blocktree.Undeliverable, nil))
				time.Sleep(x.outage)
				a.fail(nil)
				time.Sleep(blocktree.MountWaitMax)
			}
			time.Sleep(1)
			synctest.Wait()
			if got := a.content("a"); got != x.write {
				t.Errorf("%s: it is %q", what, got)
			}
			writes(t, h, "more", int64(len(x.write)), 0)
			if e := h.sync(t.Context()); e != 0 || a.content("a") != x.write+"more" {
				t.Errorf("%s: %v, %q", what, e, a.content("a"))
			}
			h.Release(t.Context())
			n := dir.tree.unnamed.count.Load()
			if dir.tree.notices.Wait(); n != 0 || len(dir.tree.unnamed.all) != 0 {
				t.Errorf("%s: %d have no name", what, n)
			}
		})
	}
}

// B1: those of a directory are named at once, not one after the other: else who lists it would wait for as many services as there are files.
func TestNamedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, dir := newUnnamed()
		for _, name := range []string{"a", "b", "c"} {
			_, h := create(t, dir, name, syscall.O_RDWR, 0o644)
			defer h.Release(t.Context())
		}
		a.fail(blocktree.E("fake", blocktree.Undeliverable, nil))
		began := time.Now()
		_ = dir.tree.nameIn(t.Context(), testRoot)
		if took := time.Since(began); took > blocktree.MountWaitMax {
			t.Errorf("it took %v", took)
		}
		dir.tree.notices.Wait()
	})
}

// B1: what is named as it is time takes some of the places alone, for as long as no service is there.
func TestNamingLeavesPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, dir := newUnnamed()
		for i := range blocktree.MountRequestsMax + 1 {
			_, h := create(t, dir, strconv.Itoa(i), syscall.O_RDWR, 0o644)
			defer h.Release(t.Context())
		}
		a.fail(blocktree.E("fake", blocktree.Undeliverable, nil))
		for range 3 {
			time.Sleep(blocktree.MountWaitMax / 3)
			if n := len(dir.tree.requests); n == 0 || n > blocktree.MountNamingsMax {
				t.Errorf("%d places are taken", n)
			}
		}
		a.fail(nil)
	})
}

// B7 of 0080: an fsync of a directory that succeeds leaves what was made in it with its name; where that cannot be it fails, for as long as anybody has the file open.
func TestFsyncOfADirectory(t *testing.T) {
	for what, refused := range map[string]error{"named": nil, "refused": blocktree.E("fake", blocktree.Permission, nil)} {
		for _, late := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				a, root := newUnnamed()
				a.mkdir("d", 3)
				a.mkdir("e", 4)
				d, e := lookup(t, root, "d"), lookup(t, root, "e")
				_, h := create(t, d, "a", syscall.O_RDWR, 0o644)
				a.refuses = refused
				if errno := (&listing{node: e}).Fsyncdir(t.Context(), 0); errno != 0 || a.content("d/a") != "absent" {
					t.Errorf("%s: another directory: %v", what, errno)
				}
				if late { // it was named, or not, as it was time
					time.Sleep(blocktree.MountUnnamedFor)
					synctest.Wait()
				}
				for range 2 {
					if errno := (&listing{node: d}).Fsyncdir(t.Context(), 0); (errno == 0) != (refused == nil) || errno == 0 && a.content("d/a") != "" {
						t.Errorf("%s: %v, it is %q", what, errno, a.content("d/a"))
					}
				}
				h.Release(t.Context())
				if errno := (&listing{node: d}).Fsyncdir(t.Context(), 0); errno != 0 {
					t.Errorf("%s: after the last close: %v", what, errno)
				}
				root.tree.notices.Wait()
			})
		}
	}
}

// B4 of 0080: a new file whose first bytes could not be written replaces nothing, also where its service has named it when it was made, and where nobody was told yet.
func TestNotWrittenReplacesNothing(t *testing.T) {
	for what, rename := range map[string]func(t *testing.T, root *node) syscall.Errno{
		"the file": func(t *testing.T, root *node) syscall.Errno {
			return lookup(t, root, "d").Rename(t.Context(), "a", root, "old", 0)
		},
		"its directory": func(t *testing.T, root *node) syscall.Errno {
			return root.Rename(t.Context(), "d", root, "e", 0)
		},
	} {
		for _, hides := range []bool{false, true} {
			for _, late := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					a, root := newUnnamed()
					a.hides = hides
					a.put("old", 70, "old content")
					a.mkdir("d", 3)
					lookup(t, root, "old")
					_, h := create(t, lookup(t, root, "d"), "a", syscall.O_RDWR, 0o644)
					a.full = 2
					writes(t, h, "new content", 0, 0)
					if late {
						time.Sleep(blocktree.MountUnnamedFor)
						synctest.Wait()
					}
					if e := rename(t, root); e != syscall.ENOSPC {
						t.Errorf("%s, %v, %v: %v", what, hides, late, e)
					}
					if got := a.content("old"); got != "old content" {
						t.Errorf("%s, %v, %v: it was replaced: %q", what, hides, late, got)
					}
					h.Release(t.Context())
					root.tree.notices.Wait()
				})
			}
		}
	}
}

// W2 of 0060 and B7 of 0080, by the kernel: a write to what was opened O_SYNC is durable when it is answered, also the first of a new file; and so is a name after an fsync of its directory.
func TestMountedSync(t *testing.T) {
	a := newAble()
	a.epochs = true
	_, dir := mountedAs(t, a, Options{})
	for name, flag := range map[string]int{"sync": unix.O_SYNC, "dsync": unix.O_DSYNC, "direct": unix.O_SYNC | unix.O_DIRECT} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL|flag, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"x", "xx"} {
			if _, err := f.WriteString("x"); err != nil || a.content(name) != want {
				t.Errorf("%s: %v, it is %q", name, err, a.content(name))
			}
		}
		_ = f.Close()
	}
	f, err := os.Create(filepath.Join(dir, "made"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil || a.content("made") != "" {
		t.Errorf("fsync of the directory: %v, it is %q", err, a.content("made"))
	}
}

// setModeOf is chmod.
func setModeOf(t *testing.T, n *node, mode uint32) syscall.Errno {
	t.Helper()
	return n.Setattr(t.Context(), nil, &fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{Valid: fuse.FATTR_MODE, Mode: mode}}, &fuse.AttrOut{})
}
