package mount

import (
	"strconv"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
	"blocktree/fs"
)

// 0088: a directory and its first file are a request each, by both kinds of close, and what the kernel is told of the directory is what a look would say.
func TestMkdirFillCosts(t *testing.T) {
	for _, later := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := newFiller()
			root := grow(c)
			root.tree.o.CloseLater = later
			const n = 20
			for i := range n {
				name := strconv.Itoa(i)
				var out, looked fuse.EntryOut
				inode, e := root.Mkdir(t.Context(), name, 0o750, &out)
				if e != 0 {
					t.Fatal(e)
				}
				root.AddChild(name, inode, true)
				d := inode.Operations().(*node)
				asks := c.asks
				_, h := makes(t, d, "f", "content")
				closes(t, h, 0)
				d.tree.senders.Wait()
				if took := c.took(); took != "whole" || c.asks != asks+1 {
					t.Errorf("%d, later %v: %s, %d changes", i, later, took, c.asks-asks)
				}
				if _, e = root.Lookup(t.Context(), name, &looked); e != 0 || c.took() != "" || out.Mode != syscall.S_IFDIR|0o750 || out.Ino != looked.Ino || out.Mode != looked.Mode || out.AttrTimeout() != blocktree.MountCacheFor {
					t.Errorf("%+v, looked at %+v, %v", out, looked, e)
				}
			}
			if x := root.tree.fills; x.out != 0 || len(x.dirs) != n {
				t.Errorf("%d spares are out, %d directories", x.out, len(x.dirs))
			}
		})
	}
}

// mkdirFillCase is something that happens to a directory that is made.
type mkdirFillCase struct {
	before func(c *filler, root *node)
	after  func(c *filler, d *node)
	took   string // by the mkdir
	want   syscall.Errno
	first  string // by a look at the first name
}

func mkdirFillCases() map[string]mkdirFillCase {
	gone := blocktree.E("fake", blocktree.Unavailable, nil)
	return map[string]mkdirFillCase{
		"all":              {took: "", first: ""},
		"no term":          {before: func(c *filler, _ *node) { c.noTerm = true }, first: "fill"},
		"not described":    {before: func(c *filler, _ *node) { c.untold = true }, took: "stat"},
		"an older service": {before: func(c *filler, _ *node) { c.olderDirs = true }, took: "stat", first: "fill"},
		"the term is over": {after: func(*filler, *node) { time.Sleep(fillTerm) }, first: "fill"},
		"the term is over, and it is not kept any more": {after: func(c *filler, _ *node) { c.forgets(); time.Sleep(fillTerm) }, first: "fill, stat"},
		"the connection is another":                     {after: func(_ *filler, d *node) { d.tree.fills.breaks() }, first: "fill"},
		"nothing is filled": {before: func(_ *filler, root *node) {
			root.tree.o.Fill = false
			root.tree.fills = newFills(root.tree)
		}, took: "stat", first: "stat"},
		"anonymous": {before: func(_ *filler, root *node) {
			root.tree.o.Anonymous = true
			root.tree.fills = newFills(root.tree)
		}, took: "stat", first: "stat"},
		"no answer, and it was done": {before: func(c *filler, _ *node) { c.vague = gone }, want: syscall.EIO},
		"no answer, and it was not done": {before: func(c *filler, _ *node) {
			c.fail(gone)
			time.AfterFunc(pauseMin/2, func() { c.fail(nil) })
		}, took: "stat", first: "stat"},
		"no answer, and it was not done, and the next is older": {before: func(c *filler, _ *node) {
			c.fail(gone)
			time.AfterFunc(pauseMin/2, func() {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.down, c.olderDirs = nil, true
			})
		}, took: "stat", first: "stat"},
		"no answer, and it was done, and the next is older": {before: func(c *filler, _ *node) {
			c.vague, c.between = gone, func() { c.olderDirs = true }
		}, want: syscall.EIO},
		"another has its path": {before: func(c *filler, _ *node) {
			c.untold = true
			c.during = func() {
				c.mu.Lock()
				defer c.mu.Unlock()
				if f := c.files[testRoot.Join("d")]; f != nil {
					c.during, f.info.ID = nil, blocktree.FileID{Generation: 1, Inode: 77}
				}
			}
		}, took: "stat", first: "stat"},
	}
}

// What is missing in the answer is asked for as before; what is not certain is looked at, and not filled.
func TestMkdirFillNot(t *testing.T) {
	for name, x := range mkdirFillCases() {
		synctest.Test(t, func(t *testing.T) {
			c := newFiller()
			root := grow(c)
			if x.before != nil {
				x.before(c, root)
			}
			i, e := root.Mkdir(t.Context(), "d", 0o755, &fuse.EntryOut{})
			if took := c.took(); e != x.want || took != x.took {
				t.Errorf("%s: %v, %s", name, e, took)
			}
			if e != 0 {
				if len(root.tree.fills.dirs) != 0 {
					t.Errorf("%s: it is filled", name)
				}
				return
			}
			root.AddChild("d", i, true)
			d := i.Operations().(*node)
			if x.after != nil {
				x.after(c, d)
			}
			looks(t, d, "f", syscall.ENOENT)
			if took := c.took(); took != x.first {
				t.Errorf("%s: the look at the first name took %q, not %q", name, took, x.first)
			}
		})
	}
}

// A service of a version before is asked as before, and once in a while whether it is one yet.
func TestMkdirFillOlder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFiller()
		c.olderDirs = true
		root := grow(c)
		for i, want := range []int{1, 1, 2} {
			mkdir(t, root, strconv.Itoa(i))
			if c.asksOlder != want {
				t.Errorf("after %d: %d", i, c.asksOlder)
			}
			time.Sleep(olderFor / 2)
		}
		c.olderDirs = false
		time.Sleep(olderFor)
		c.took()
		if mkdir(t, root, "new"); c.took() != "" {
			t.Error("it is not asked any more")
		}
	})
}

// A directory whose identity another file has here (docs/design/0080) is known, and filled, by the one that it has here.
func TestMkdirFillIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFiller()
		root := grow(c)
		here, there := blocktree.FileID{Generation: 1, Inode: 9}, blocktree.FileID{Generation: 1, Inode: 1000 + c.made + 1}
		if !root.tree.identities.swap(here, there) {
			t.Fatal("too many")
		}
		d := mkdir(t, root, "d")
		_, h := makes(t, d, "f", "content")
		closes(t, h, 0)
		if took := c.took(); d.id != here || took != "whole" {
			t.Errorf("it is %v, %s", d.id, took)
		}
	})
}

// Of too many directories those that were filled last of all are not filled any more: not those that are new, nor those of which a term runs.
func TestFilledAreEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := grow(newFiller())
		x := root.tree.fills
		attr, n := &fuse.Attr{}, blocktree.MountFilledDirsMax
		made := func(i int, term time.Duration) bool {
			id := blocktree.FileID{Generation: 1, Inode: blocktree.Inode(100 + i)}
			x.made(id, attr, x.clock(), &madeDir{path: testRoot.Join(strconv.Itoa(i)), asked: x.clock(), got: fs.Filling{Term: term, Dir: id}})
			return x.of(id) != nil
		}
		for i := range n {
			made(i, fillTerm)
			time.Sleep(fillTerm / time.Duration(2*n))
		}
		if made(n, fillTerm) {
			t.Error("one was forgotten whose term runs")
		}
		time.Sleep(fillTerm/2 + time.Millisecond)
		if !made(n, fillTerm) || x.of(blocktree.FileID{Generation: 1, Inode: 100}) != nil || len(x.dirs) != n || x.of(blocktree.FileID{Generation: 1, Inode: 101}) == nil {
			t.Errorf("%d are filled", len(x.dirs))
		}
		x.end()
	})
}

// Who renames a directory, or takes the right to make names there, while another one is made in it waits for no term of that: so it is not filled, whichever of the two comes first. (H1 and D2 of 0086: the service did not wait for the term, and anybody else might make the names that the mount said were not there.)
func TestMkdirFillWhileOneAboveChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFiller()
		root := grow(c)
		root.tree.o.CloseLater = true
		was, x := mkdir(t, root, "was"), root.tree.fills
		for name, change := range map[string]func(){
			"renamed": func() {
				if e := root.Rename(t.Context(), "was", root, "is", 0); e != 0 {
					t.Error(e)
				}
				root.MvChild("was", &root.Inode, "is", false)
			},
			"closed": func() {
				if e := was.setMode(t.Context(), 0o500); e != 0 {
					t.Error(e)
				}
			},
		} {
			c.granted = func() { c.granted = nil; change() }
			if d := mkdir(t, was, "meanwhile "+name); x.of(d.id) != nil {
				t.Errorf("%s while it was made: it is filled", name)
			}
		}
		if d := mkdir(t, was, "after"); x.of(d.id) == nil || len(x.begun)+len(x.drops) != 0 {
			t.Errorf("a later one is not filled, or something is left: %d, %d", len(x.begun), len(x.drops))
		}
		_, h := makes(t, mkdir(t, root, "sent"), "f", "content")
		c.whole = func() { // a rename waits for what was closed
			c.whole = nil
			if d := mkdir(t, was, "before"); x.of(d.id) != nil {
				t.Error("it was made while the rename waited, and is filled")
			}
		}
		for range cap(root.tree.sends) { // it sends that itself
			root.tree.sends <- struct{}{}
		}
		closes(t, h, 0)
		if e := root.Rename(t.Context(), "is", root, "was", 0); e != 0 {
			t.Error(e)
		}
		for range cap(root.tree.sends) {
			<-root.tree.sends
		}
		if c.whole != nil {
			t.Error("the rename has not waited")
		}
	})
}
