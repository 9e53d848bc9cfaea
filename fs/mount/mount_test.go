package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
	"blocktree/fs"
)

// grow makes a tree of nodes that no kernel asks.
func grow(c Source) *node {
	n := &node{tree: newTree(c, testRoot, Options{Fill: true}), id: blocktree.FileID{Generation: 1, Inode: 2}}
	gofs.NewNodeFS(n, &gofs.Options{})
	return n
}

// lookup adds what the kernel would.
func lookup(t *testing.T, dir *node, name string) *node {
	t.Helper()
	var out fuse.EntryOut
	i, e := dir.Lookup(t.Context(), name, &out)
	if e != 0 {
		t.Fatalf("lookup of %s: %v", name, e)
	}
	dir.AddChild(name, i, true)
	return i.Operations().(*node)
}

func TestErrnos(t *testing.T) {
	table := errnos()
	for k := range blocktree.Kinds() {
		kind := blocktree.Kind(k)
		e, ok := table[kind]
		if !ok || e == 0 {
			t.Errorf("%v has no errno", kind)
		}
		if e == syscall.ENOENT && kind != blocktree.NotFound {
			t.Errorf("%v is no such file", kind)
		}
		if got := errno(fmt.Errorf("around: %w", blocktree.E("x", kind, nil))); got != e {
			t.Errorf("%v inside an error is %v, not %v", kind, got, e)
		}
		if passing(blocktree.E("x", kind, nil)) && e != syscall.EIO {
			t.Errorf("%v is asked again, and then %v", kind, e)
		}
	}
	if errno(nil) != 0 || errno(errors.New("plain")) != syscall.EIO || passing(nil) {
		t.Error("nil and errors of others")
	}
}

func TestNoServiceIsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nobody, err := fs.Dial(fs.ClientConfig{Root: testKey.Principal(), Transport: "tcp", Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer nobody.Close()
		n := grow(newFake())
		n.tree.source = nobody
		began := time.Now()
		if _, e := n.Lookup(t.Context(), "a", &fuse.EntryOut{}); e != syscall.EIO {
			t.Errorf("without a service a name is %v", e)
		}
		if took := time.Since(began); took != blocktree.MountWaitMax {
			t.Errorf("that took %v", took)
		}
	})
}

func TestInodeNumbers(t *testing.T) {
	seen := map[uint64]blocktree.FileID{}
	for _, g := range []blocktree.Generation{0, 1, 2, 1<<generationBits - 1} {
		for _, i := range []blocktree.Inode{0, 1, 2, 1<<inodeBits - 1} {
			id := blocktree.FileID{Generation: g, Inode: i}
			ino, ok := number(id)
			if !ok {
				if g != 0 || i != 0 {
					t.Errorf("%v has no number", id)
				}
				continue
			}
			if other, ok := seen[ino]; ok || ino == 0 || ino >= 1<<63 {
				t.Errorf("%v and %v are both %d", id, other, ino)
			}
			seen[ino] = id
		}
	}
	for _, id := range []blocktree.FileID{{Generation: 1 << generationBits, Inode: 1}, {Generation: 1, Inode: 1 << inodeBits}} {
		if ino, ok := number(id); ok {
			t.Errorf("%v is %d", id, ino)
		}
	}
	c := newFake()
	c.put("far", 1<<inodeBits, "x")
	if _, e := grow(c).Lookup(t.Context(), "far", &fuse.EntryOut{}); e != syscall.EOVERFLOW {
		t.Errorf("an identity that does not fit: %v", e)
	}
}

func TestAnotherFile(t *testing.T) {
	c := newFake()
	c.put("a", 10, "first")
	a := lookup(t, grow(c), "a")
	c.put("a", 11, "second")
	if _, _, e := a.Open(t.Context(), syscall.O_RDONLY); e != syscall.ESTALE {
		t.Errorf("open: %v", e)
	}
	if e := a.Getattr(t.Context(), nil, &fuse.AttrOut{}); e != syscall.ESTALE {
		t.Errorf("getattr: %v", e)
	}
	if e := a.Access(t.Context(), 4); e != syscall.ESTALE {
		t.Errorf("access: %v", e)
	}
	if c.opens != c.closed || len(a.tree.open) != 0 {
		t.Errorf("%d opened, %d closed, %d places taken", c.opens, c.closed, len(a.tree.open))
	}
}

// readAll reads what an open file has, at most 100 bytes.
func readAll(t *testing.T, h gofs.FileHandle, off int64) (string, syscall.Errno) {
	r, e := h.(gofs.FileReader).Read(t.Context(), make([]byte, 100), off)
	if e != 0 {
		return "", e
	}
	b, _ := r.Bytes(nil) // it is in memory
	return string(b), 0
}

func TestReadOutlivesService(t *testing.T) {
	for _, kind := range []blocktree.Kind{blocktree.Unavailable, blocktree.Undeliverable, blocktree.Closed, blocktree.Timeout} {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newFake()
				c.put("a", 10, "content")
				a := lookup(t, grow(c), "a")
				h, _, e := a.Open(t.Context(), syscall.O_RDONLY)
				if e != 0 {
					t.Fatal(e)
				}
				c.fail(blocktree.E("fake", kind, nil))
				go func() {
					time.Sleep(blocktree.MountWaitMax / 2)
					c.fail(nil)
				}()
				if got, e := readAll(t, h, 3); got != "tent" || e != 0 {
					t.Errorf("read %q, %v", got, e)
				}
				if got, e := readAll(t, h, 50); got != "" || e != 0 {
					t.Errorf("behind the end: %q, %v", got, e)
				}
				h.(gofs.FileReleaser).Release(t.Context())
				if c.opens != 2 || c.closed != 2 {
					t.Errorf("%d opened, %d closed", c.opens, c.closed)
				}
			})
		})
	}
}

func TestReadGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		c.put("a", 10, "content")
		a := lookup(t, grow(c), "a")
		h, _, _ := a.Open(t.Context(), syscall.O_RDONLY)
		c.fail(blocktree.E("fake", blocktree.Unavailable, nil))
		began := time.Now()
		if _, e := readAll(t, h, 0); e != syscall.EIO || time.Since(began) != blocktree.MountWaitMax {
			t.Errorf("%v after %v", e, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		go func() {
			time.Sleep(time.Second)
			cancel()
		}()
		began = time.Now()
		if _, e := h.(gofs.FileReader).Read(ctx, make([]byte, 1), 0); e != syscall.EIO || time.Since(began) != blocktree.MountWaitMax {
			t.Errorf("one that a signal came to: %v after %v", e, time.Since(began))
		}
		c.fail(nil)
		c.put("a", 11, "another file")
		if _, e := readAll(t, h, 0); e != syscall.ESTALE {
			t.Errorf("another file has the name when it is opened anew: %v", e)
		}
		c.fail(blocktree.E("fake", blocktree.Lost, nil))
		began = time.Now()
		if _, e := readAll(t, &handle{node: a, file: &opened{fake: c}}, 0); e != syscall.EIO || time.Since(began) != 0 {
			t.Errorf("what does not pass: %v after %v", e, time.Since(began))
		}
	})
}

// M3: who opened a file before it became longer does not have the kernel believe, for all, that it ends where it did; the service tells what is open of it only later.
func TestLongerThanAHandleKnows(t *testing.T) {
	c := newFake()
	c.unheard = true
	c.put("a", 10, "short")
	a := lookup(t, grow(c), "a")
	early, _, _ := a.Open(t.Context(), syscall.O_RDONLY)
	if got, e := readAll(t, early, 0); got != "short" || e != 0 || c.opens != 1 {
		t.Errorf("read %q, %v, opened %d times", got, e, c.opens)
	}
	c.put("a", 10, "longer than before")
	late, _, _ := a.Open(t.Context(), syscall.O_RDONLY)
	for what, off := range map[string]int64{"the beginning": 0, "the end of before": 5, "behind that": 7} {
		if got, e := readAll(t, early, off); got != "longer than before"[off:] || e != 0 {
			t.Errorf("%s is %q, %v", what, got, e)
		}
	}
	if c.opens != 3 {
		t.Errorf("opened %d times", c.opens)
	}
	c.put("a", 10, "x") // shorter: of that the kernel hears with the next open or attributes
	if got, e := readAll(t, early, 0); got != "x" || e != 0 || c.opens != 4 {
		t.Errorf("read %q, %v, opened %d times", got, e, c.opens)
	}
	if got, e := readAll(t, early, 0); got != "x" || e != 0 || c.opens != 4 {
		t.Errorf("once more: %q, %v, opened %d times", got, e, c.opens)
	}
	early.(gofs.FileReleaser).Release(t.Context())
	late.(gofs.FileReleaser).Release(t.Context())
	if c.opens != c.closed {
		t.Errorf("%d opened, %d closed", c.opens, c.closed)
	}
}

// TestFoundAgain: what the kernel is told of a file that it knows, by another look at it, by whatever name, or by a listing, is known to what is open of it, though go-fuse makes a node for each look.
func TestFoundAgain(t *testing.T) {
	for what, look := range map[string]func(dir *node) syscall.Errno{
		"a look": func(dir *node) syscall.Errno {
			_, e := dir.Lookup(t.Context(), "a", &fuse.EntryOut{})
			return e
		},
		"a listing": func(dir *node) syscall.Errno {
			h, _, e := dir.OpendirHandle(t.Context(), 0)
			if e != 0 {
				return e
			}
			l := h.(*listing)
			defer l.Releasedir(t.Context(), 0)
			if _, e := l.Readdirent(t.Context()); e != 0 {
				return e
			}
			_, e = l.Lookup(t.Context(), "a", &fuse.EntryOut{})
			return e
		},
		"a look at another name that it has": func(dir *node) syscall.Errno {
			if err := dir.tree.source.Rename(t.Context(), testRoot.Join("a"), testRoot.Join("b"), false); err != nil {
				t.Error(err)
			}
			_, e := dir.Lookup(t.Context(), "b", &fuse.EntryOut{})
			dir.AddChild("b", dir.GetChild("a"), true) // go-fuse does so with the node that the kernel has
			return e
		},
	} {
		c := newFake()
		c.unheard, c.keeps = true, true
		c.put("a", 10, "short")
		dir := grow(c)
		a := lookup(t, dir, "a")
		early, _, _ := a.Open(t.Context(), syscall.O_RDONLY)
		c.put("a", 10, "longer than before")
		if e := look(dir); e != 0 {
			t.Errorf("%s: %v", what, e)
		}
		if got, e := readAll(t, early, 0); got != "longer than before" || e != 0 {
			t.Errorf("after %s the file is %q, %v", what, got, e)
		}
		early.(gofs.FileReleaser).Release(t.Context())
	}
}

func TestListing(t *testing.T) {
	c := newFake()
	var want []string
	for i := range 10 {
		want = append(want, "f"+strconv.Itoa(i))
		c.put(want[i], blocktree.Inode(10+i), "x")
	}
	n := grow(c)
	d, _, _ := n.OpendirHandle(t.Context(), 0)
	l := d.(*listing)
	for from := len(want); from >= 0; from-- {
		if e := l.Seekdir(t.Context(), uint64(from)); e != 0 {
			t.Fatal(e)
		}
		var got []string
		for {
			e, errno := l.Readdirent(t.Context())
			if errno != 0 {
				t.Fatal(errno)
			}
			if e == nil {
				break
			}
			got = append(got, e.Name)
			if e.Off != uint64(from+len(got)) {
				t.Errorf("%s is at %d", e.Name, e.Off)
			}
			if i, errno := l.Lookup(t.Context(), e.Name, &fuse.EntryOut{}); errno != 0 || i.StableAttr().Ino != e.Ino {
				t.Errorf("%s is %v, %v, and %d in the listing", e.Name, i, errno, e.Ino)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want[from:]) {
			t.Errorf("from %d: %v", from, got)
		}
	}
}

// M3: whoever lists a directory slowly is told what its files are then, not what they were when the page was asked for.
func TestSlowListing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		for i, name := range []string{"a", "b", "c"} {
			c.put(name, blocktree.Inode(10+i), "short")
		}
		d, _, _ := grow(c).OpendirHandle(t.Context(), 0)
		l := d.(*listing)
		defer l.Releasedir(t.Context(), 0)
		next := func(name string, length uint64, errno syscall.Errno) {
			t.Helper()
			var out fuse.EntryOut
			if e, err := l.Readdirent(t.Context()); err != 0 || e.Name != name {
				t.Fatalf("%v, %v, not %s", e, err, name)
			}
			if _, err := l.Lookup(t.Context(), name, &out); err != errno || out.Attr.Size != length {
				t.Errorf("%s is of %d bytes, %v, not %d", name, out.Attr.Size, err, length)
			}
		}
		next("a", 5, 0)
		c.put("b", 11, "longer than before")
		c.mu.Lock()
		delete(c.files, testRoot.Join("c"))
		c.mu.Unlock()
		time.Sleep(blocktree.MountCacheFor + time.Millisecond)
		next("b", 18, 0)
		next("c", 0, syscall.ENOENT)
	})
}

func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		c.put("a", 10, "content")
		n := grow(c)
		a := lookup(t, n, "a")
		var open []gofs.FileHandle
		for range blocktree.MountOpenFilesMax {
			h, _, e := a.Open(t.Context(), syscall.O_RDONLY)
			if e != 0 {
				t.Fatal(e)
			}
			open = append(open, h)
		}
		if _, _, e := a.Open(t.Context(), syscall.O_RDONLY); e != syscall.ENFILE {
			t.Errorf("one more file: %v", e)
		}
		if _, _, e := n.OpendirHandle(t.Context(), 0); e != syscall.ENFILE {
			t.Errorf("one more directory: %v", e)
		}
		for _, h := range open {
			h.(gofs.FileReleaser).Release(t.Context())
		}
		if d, _, e := n.OpendirHandle(t.Context(), 0); e != 0 {
			t.Errorf("after all were closed: %v", e)
		} else {
			d.(gofs.FileReleasedirer).Releasedir(t.Context(), 0)
		}
		if len(n.tree.open) != 0 || c.opens != c.closed {
			t.Errorf("%d places taken, %d opened, %d closed", len(n.tree.open), c.opens, c.closed)
		}

		asked, most := make(chan struct{}), 0
		c.during = func() { <-asked }
		for range 3 * blocktree.MountRequestsMax {
			go a.Getattr(t.Context(), nil, &fuse.AttrOut{})
		}
		synctest.Wait()
		most = len(n.tree.requests)
		close(asked)
		synctest.Wait()
		if most != blocktree.MountRequestsMax || len(n.tree.requests) != 0 {
			t.Errorf("%d requests at a time, %d left", most, len(n.tree.requests))
		}
	})
}
