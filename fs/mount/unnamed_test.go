package mount

import (
	"bytes"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
	"blocktree/fs"
)

// newUnnamed is a service that keeps the names of new files to itself, and a directory of it.
func newUnnamed() (*able, *node) {
	a := newAble()
	a.epochs, a.keeps = true, true
	return a, grow(identified{a})
}

// asksOfAttributes ask for what a new file is like.
func asksOfAttributes() map[string]func(t *testing.T, a *able, dir, n *node) syscall.Errno {
	return map[string]func(t *testing.T, a *able, dir, n *node) syscall.Errno{
		"look": func(t *testing.T, _ *able, dir, _ *node) syscall.Errno {
			_, e := dir.Lookup(t.Context(), "a", &fuse.EntryOut{})
			return e
		},
		"access": func(t *testing.T, _ *able, _, n *node) syscall.Errno { return n.Access(t.Context(), 4) },
		"mode": func(t *testing.T, _ *able, _, n *node) syscall.Errno {
			return setModeOf(t, n, 0o640)
		},
		"time": func(t *testing.T, _ *able, _, n *node) syscall.Errno { return setTime(t, n, time.Unix(1000, 0), 0) },
		"set attribute": func(t *testing.T, _ *able, _, n *node) syscall.Errno {
			return n.Setxattr(t.Context(), "user.a", nil, 0)
		},
		"list attributes": func(t *testing.T, _ *able, _, n *node) syscall.Errno {
			_, e := n.Listxattr(t.Context(), nil)
			return e
		},
		"get attribute": func(t *testing.T, _ *able, _, n *node) syscall.Errno {
			if _, e := n.Getxattr(t.Context(), "user.a", nil); e != syscall.ENODATA {
				return syscall.EIO
			}
			return 0
		},
		"remove attribute": func(t *testing.T, _ *able, _, n *node) syscall.Errno {
			if e := n.Removexattr(t.Context(), "user.a"); e != syscall.ENODATA {
				return syscall.EIO
			}
			return 0
		},
	}
}

// asksOfNames ask for it, or for what it is in, by names.
func asksOfNames() map[string]func(t *testing.T, a *able, dir, n *node) syscall.Errno {
	return map[string]func(t *testing.T, a *able, dir, n *node) syscall.Errno{
		"open": func(t *testing.T, _ *able, _, n *node) syscall.Errno {
			h, _, e := n.Open(t.Context(), syscall.O_RDONLY)
			if e == 0 {
				h.(*handle).Release(t.Context())
			}
			return e
		},
		"list": func(t *testing.T, _ *able, dir, _ *node) syscall.Errno {
			l := listing{node: dir}
			if e, ok, err := l.next(t.Context()); err != nil || !ok || e.Name != "a" {
				return syscall.EIO
			}
			return 0
		},
		"remove": func(t *testing.T, _ *able, dir, _ *node) syscall.Errno { return dir.Unlink(t.Context(), "a") },
		"rename": func(t *testing.T, _ *able, dir, _ *node) syscall.Errno {
			return dir.Rename(t.Context(), "a", dir, "b", 0)
		},
		"replace": func(t *testing.T, a *able, dir, _ *node) syscall.Errno {
			a.put("d/b", 80, "other")
			if e := dir.Rename(t.Context(), "b", dir, "a", renameNoReplace); e != syscall.EEXIST {
				return syscall.EIO
			}
			return dir.Rename(t.Context(), "b", dir, "a", 0)
		},
		"rename the directory": func(t *testing.T, a *able, _, n *node) syscall.Errno {
			if e := n.Root().Operations().(*node).Rename(t.Context(), "d", n.Root().Operations(), "e", 0); e != 0 {
				return e
			}
			if a.content("e/a") != "" || a.content("d/a") != "absent" {
				return syscall.EIO
			}
			return 0
		},
		"mode of the directory": func(t *testing.T, _ *able, dir, _ *node) syscall.Errno { return setModeOf(t, dir, 0o500) },
		"time of the directory": func(t *testing.T, _ *able, dir, _ *node) syscall.Errno { return setTime(t, dir, time.Unix(1000, 0), 0) },
		"fsync of the directory": func(t *testing.T, _ *able, dir, _ *node) syscall.Errno {
			return (&listing{node: dir}).Fsyncdir(t.Context(), 0)
		},
		"remove the directory": func(t *testing.T, _ *able, _, n *node) syscall.Errno {
			if e := n.Root().Operations().(*node).Rmdir(t.Context(), "d"); e != syscall.ENOTEMPTY {
				return syscall.EIO
			}
			return 0
		},
	}
}

// B1 of 0080: whatever is asked for of a new file by its name or identity, or that of a directory above, another service would know it.
func TestNamedBeforeItIsAskedFor(t *testing.T) {
	asks := asksOfAttributes()
	maps.Copy(asks, asksOfNames())
	for what, ask := range asks {
		synctest.Test(t, func(t *testing.T) {
			a, root := newUnnamed()
			a.mkdir("d", 3)
			dir := lookup(t, root, "d")
			n, h := create(t, dir, "a", syscall.O_RDWR, 0o644)
			if e := n.Getattr(t.Context(), h, &fuse.AttrOut{}); e != 0 || a.content("d/a") != "absent" {
				t.Errorf("%s: described by what is open: %v, named", what, e)
			}
			if e := ask(t, a, dir, n); e != 0 {
				t.Errorf("%s: %v", what, e)
			}
			if left := root.tree.unnamed.count.Load(); left != 0 {
				t.Errorf("%s: %d have no name", what, left)
			}
			h.Release(t.Context())
			if root.tree.unsaved.Load() != nil || a.opens > a.closed || len(a.leases) != 0 {
				t.Errorf("%s: %v, %d opened, %d closed", what, root.tree.unsaved.Load(), a.opens, a.closed)
			}
		})
	}
}

// B1: nothing is flushed for who asks for something else, nor twice.
func TestNamedForNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, root := newUnnamed()
		a.mkdir("d", 3)
		a.put("b", 80, "other")
		dir := lookup(t, root, "d")
		_, h := create(t, dir, "a", syscall.O_RDWR, 0o644)
		a.log = nil
		b := lookup(t, root, "b")
		r, _, _ := b.Open(t.Context(), syscall.O_RDONLY)
		r.(*handle).Release(t.Context())
		_ = root.Unlink(t.Context(), "b")
		_, _, _ = (&listing{node: root}).next(t.Context())
		if slices.Contains(a.log, "flush") {
			t.Errorf("it took %v", a.log)
		}
		_, _ = dir.Lookup(t.Context(), "a", &fuse.EntryOut{})
		_, _ = dir.Lookup(t.Context(), "a", &fuse.EntryOut{})
		if n := strings.Count(strings.Join(a.log, " "), "flush"); n != 1 {
			t.Errorf("it took %v", a.log)
		}
		h.Release(t.Context())
	})
}

// B2 of 0080: a new file that went with its service is made anew, with all that was written, however often; what the kernel knows of it stays so, and what is asked for reaches the new one.
func TestMadeAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, dir := newUnnamed()
		n, h := create(t, dir, "a", syscall.O_RDWR, 0o400)
		writes(t, h, "writ", 0, 0)
		var was, is fuse.AttrOut
		if e := n.Getattr(t.Context(), h, &was); e != 0 {
			t.Fatal(e)
		}
		for range 2 {
			a.kill(false)
			if e := n.Getattr(t.Context(), h, &is); e != 0 || is.Ino != was.Ino || is.Size != 4 || is.Mode != syscall.S_IFREG|0o400 {
				t.Errorf("%v: %+v", e, is.Attr)
			}
		}
		writes(t, h, "ten!", 4, 0)
		a.kill(false)
		if e := h.sync(t.Context()); e != 0 || a.content("a") != "written!" {
			t.Errorf("fsync: %v, %q", e, a.content("a"))
		}
		there := a.files[testRoot.Join("a")].info.ID
		if there == n.id || dir.tree.identities.there(n.id) != there {
			t.Errorf("it is %v, and known as %v", there, n.id)
		}
		var again fuse.EntryOut
		if _, e := dir.Lookup(t.Context(), "a", &again); e != 0 || again.Ino != was.Ino {
			t.Errorf("it is looked up as %v, not %v", again.Ino, was.Ino)
		}
		l := listing{node: dir}
		if e, _, err := l.next(t.Context()); err != nil || e.Info.ID != n.id {
			t.Errorf("it is listed as %v, %v", e.Info.ID, err)
		}
		writes(t, h, "W", 0, 0)
		a.kill(false) // now it has a name
		if e := n.Setxattr(t.Context(), "user.a", []byte("b"), 0); e != 0 || a.xattrs[there]["user.a"] != "b" {
			t.Errorf("an attribute: %v, %v", e, a.xattrs)
		}
		in := &fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{Valid: fuse.FATTR_MODE, Mode: 0o640}}
		if e := n.Setattr(t.Context(), nil, in, &is); e != 0 || a.files[testRoot.Join("a")].info.Mode != 0o640 {
			t.Errorf("mode: %v", e)
		}
		h.Release(t.Context())
		r, _, e := n.Open(t.Context(), syscall.O_RDONLY)
		if e != 0 {
			t.Fatal(e)
		}
		if got, e := readAll(t, r, 0); e != 0 || got != "Written!" {
			t.Errorf("closed, it reads %q, %v", got, e)
		}
		r.(*handle).Release(t.Context())
		if e = dir.Unlink(t.Context(), "a"); e != 0 || a.content("a") != "absent" {
			t.Errorf("removed: %v", e)
		}
		if k := dir.tree.kept.Load(); k != 0 || dir.tree.unnamed.count.Load() != 0 || a.opens > a.closed {
			t.Errorf("%d bytes are kept, %d opened, %d closed", k, a.opens, a.closed)
		}
	})
}

// B3 of 0080: no two files have one number, also where the identity of before turns up.
func TestIdentitiesAreSwapped(t *testing.T) {
	id := func(i blocktree.Inode) blocktree.FileID { return blocktree.FileID{Generation: 1, Inode: i} }
	x := &identities{}
	if x.here(id(1)) != id(1) || x.there(id(1)) != id(1) {
		t.Error("they begin otherwise")
	}
	for _, s := range [][2]blocktree.Inode{{1, 5}, {2, 6}, {1, 7}, {1, 2}, {3, 3}, {2, 2}} {
		if !x.swap(id(s[0]), id(s[1])) || x.there(id(s[0])) != id(s[1]) {
			t.Errorf("%v is %v", s, x.there(id(s[0])))
		}
		seen := map[blocktree.FileID]bool{}
		for i := range blocktree.Inode(9) {
			if seen[x.here(id(i))] || x.there(x.here(id(i))) != id(i) || x.here(x.there(id(i))) != id(i) {
				t.Errorf("after %v: %v is %v here", s, id(i), x.here(id(i)))
			}
			seen[x.here(id(i))] = true
		}
	}
	x.count.Store(identitiesMax)
	was := x.there(id(1))
	if x.swap(id(1), id(9)) || x.there(id(1)) != was {
		t.Error("there is no bound")
	}
	if !x.swap(id(1), was) || !x.swap(id(8), id(8)) || x.count.Load() != identitiesMax {
		t.Error("what is so already is counted")
	}
}

// between is what happens between the end of a new file's service and its next use, of a file to which something was written or nothing, and what comes of it.
type between struct {
	between func(a *able)
	write   bool
	want    syscall.Errno
	content string
}

// allBetween are such.
func allBetween(t *testing.T) map[string]between {
	return map[string]between{
		"nobody":                                        {func(*able) {}, true, 0, "mine"},
		"nothing was written":                           {func(*able) {}, false, 0, ""},
		"somebody made it":                              {func(a *able) { a.put("d/a", 80, "theirs") }, true, syscall.EIO, "theirs"},
		"somebody made it, empty":                       {func(a *able) { a.put("d/a", 80, "theirs") }, false, syscall.EIO, "theirs"},
		"the directory is gone":                         {func(a *able) { _ = a.Remove(t.Context(), testRoot.Join("d")) }, true, syscall.EIO, "absent"},
		"it is not kept":                                {func(a *able) { a.epochs = false }, true, syscall.EIO, ""},
		"it is not kept, but was empty":                 {func(a *able) { a.epochs = false }, false, 0, ""},
		"it was named by whom it was at":                {func(a *able) { a.late() }, true, 0, "mine"},
		"as much, and somebody wrote it":                {func(a *able) { a.late(); a.files[testRoot.Join("d").Join("a")].wrote = 9 }, true, syscall.EIO, ""},
		"it is named in the moment in which it is made": {func(a *able) { late := a.late; a.makes = func() error { late(); return nil } }, true, 0, "mine"},
		"another is made in that moment": {func(a *able) {
			a.makes = func() error { a.makes = nil; return a.add(testRoot.Join("d").Join("a"), fs.Info{}) }
		}, true, syscall.EIO, ""},
		"who died keeps the directory for a while": {func(a *able) {
			n := 0
			a.makes = func() error {
				if n++; n < 4 {
					return blocktree.E("fake", blocktree.Busy, nil)
				}
				return nil
			}
		}, true, 0, "mine"},
		"its name is refused":             {func(a *able) { a.refuses = blocktree.E("fake", blocktree.Permission, nil) }, true, syscall.EIO, "absent"},
		"its name is refused, when empty": {func(a *able) { a.refuses = blocktree.E("fake", blocktree.Permission, nil) }, false, syscall.EIO, "absent"},
	}
}

// B2, where it cannot be: the loss is told at each use, and at the close, and in the log once; nothing is done to what is there.
func TestNotMadeAnew(t *testing.T) {
	for what, x := range allBetween(t) {
		synctest.Test(t, func(t *testing.T) {
			a, root := newUnnamed()
			log := &bytes.Buffer{}
			root.tree.o.Logger = slog.New(slog.NewTextHandler(log, nil))
			a.mkdir("d", 3)
			dir := lookup(t, root, "d")
			n, h := create(t, dir, "a", syscall.O_RDWR, 0o644)
			h.by = os.Getpid()
			file := h.writer.file.(*telling).opened.file
			a.fake.late = func() { a.files[testRoot.Join("d").Join("a")] = file }
			if x.write {
				writes(t, h, "mine", 0, 0)
			}
			if a.refuses == nil {
				a.kill(false)
			}
			x.between(a)
			a.fake.late = nil
			for range 2 {
				if e := h.Flush(closer(true)); e != x.want {
					t.Errorf("%s: close: %v", what, e)
				}
			}
			if x.want != 0 {
				writes(t, h, "x", 0, x.want)
			}
			if got := a.content("d/a"); got != x.content {
				t.Errorf("%s: it is %q by now", what, got)
			}
			h.Release(t.Context())
			if lines := strings.Count(log.String(), "d/a"); lines != 0 && x.want == 0 || lines != 1 && x.want != 0 && x.content != "" {
				t.Errorf("%s: the log: %s", what, log)
			}
			n.tree.notices.Wait()
			if n.tree.unnamed.count.Load() != 0 || n.tree.kept.Load() != 0 || len(n.tree.unnamed.all) != 0 {
				t.Errorf("%s: %d have no name", what, n.tree.unnamed.count.Load())
			}
		})
	}
}

// B1, B2, by the kernel.
func TestMountedMadeAnew(t *testing.T) {
	a := newAble()
	a.epochs = true
	_, dir := mountedAs(t, a, Options{})
	name := filepath.Join(dir, "a")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	was, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("written "); err != nil {
		t.Error(err)
	}
	a.kill(false)
	if _, err := f.WriteString("before, and after"); err != nil {
		t.Error(err)
	}
	if st, err := f.Stat(); err != nil || !os.SameFile(st, was) || st.Size() != 25 {
		t.Errorf("%v, %v", st, err)
	}
	other := filepath.Join(dir, "b")
	if err := os.Rename(name, other); err != nil {
		t.Error(err)
	}
	reads(t, other, "written before, and after")
	if st, err := os.Stat(other); err != nil || !os.SameFile(st, was) {
		t.Errorf("%v, %v", st, err)
	}
	if err := f.Close(); err != nil || a.content("b") != "written before, and after" {
		t.Errorf("%v, the service has %q", err, a.content("b"))
	}
}
