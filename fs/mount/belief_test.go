package mount

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
)

// forgetter is a kernel that counts how often it was to forget.
type forgetter struct {
	gofs.ServerCallbacks
	n      int
	status fuse.Status
	during func()
}

func (k *forgetter) InodeNotify(uint64, int64, int64) fuse.Status {
	k.n++
	if k.during != nil {
		k.during()
	}
	return k.status
}

// growKernel is grow with such a kernel.
func growKernel(c Source) (*node, *forgetter) {
	n, k := &node{tree: newTree(c, testRoot, Options{}), id: blocktree.FileID{Generation: 1, Inode: 2}}, &forgetter{}
	gofs.NewNodeFS(n, &gofs.Options{ServerCallbacks: k})
	return n, k
}

// opensToRead opens a node, and says how often the kernel was to forget.
func opensToRead(t *testing.T, n *node, k *forgetter) int {
	t.Helper()
	was := k.n
	h, _, e := n.Open(t.Context(), syscall.O_RDONLY)
	if e != 0 {
		t.Fatal(e)
	}
	h.(gofs.FileReleaser).Release(t.Context())
	return k.n - was
}

// sizeOf is what the kernel is told now.
func sizeOf(t *testing.T, n *node) uint64 {
	t.Helper()
	var out fuse.AttrOut
	if e := n.Getattr(t.Context(), nil, &out); e != 0 {
		t.Fatal(e)
	}
	return out.Size
}

// L1: an open has the kernel forget unless it believes the same, and nothing else was told since it last forgot.
func TestOpenForgets(t *testing.T) {
	c := newFake()
	c.put("a", 10, "first")
	dir, k := growKernel(c)
	a := lookup(t, dir, "a")
	wants := func(what string, want int) {
		t.Helper()
		if n := opensToRead(t, a, k); n != want {
			t.Errorf("%s: %d times", what, n)
		}
	}
	wants("the same", 0)
	c.put("a", 10, "longer")
	wants("longer", 1)
	wants("nothing told since", 0)
	sizeOf(t, a)
	wants("told", 0)
	c.put("a", 10, "other than that")
	sizeOf(t, a) // which may come late, and be what is believed
	c.put("a", 10, "longer")
	wants("two were told", 1)
	sizeOf(t, a)
	c.files[testRoot.Join("a")].info.Mode = 0o600
	wants("another mode", 1)
	sizeOf(t, a)
	k.status = fuse.ENOSYS
	c.put("a", 10, "x")
	wants("a kernel that cannot", 1)
	wants("a kernel that could not", 1)
}

// L2: what was asked before a file was opened that the kernel goes by other attributes of is asked anew, whoever asks.
func TestAskedBeforeAnOpen(t *testing.T) {
	for what, ask := range map[string]func(t *testing.T, dir, a *node) uint64{
		"attributes": func(t *testing.T, _, a *node) uint64 { return sizeOf(t, a) },
		"name": func(t *testing.T, dir, _ *node) uint64 {
			var out fuse.EntryOut
			if _, e := dir.Lookup(t.Context(), "a", &out); e != 0 {
				t.Fatal(e)
			}
			return out.Size
		},
	} {
		t.Run(what, func(t *testing.T) {
			c := newFake()
			c.put("a", 10, "1")
			dir, k := growKernel(c)
			a := lookup(t, dir, "a")
			times := 0
			change := func() { // after it was looked at, and before that is told
				if times++; times == 2 && a.told().Load() != 3 {
					t.Errorf("handles go by a length of %d, which nobody was told", a.told().Load())
				}
				c.put("a", 10, strings.Repeat("x", 2+times))
				if n := opensToRead(t, a, k); n != times-1 {
					t.Errorf("open %d: %d times", times, n)
				}
			}
			c.put("a", 10, "22")
			opensToRead(t, a, k) // it believes nothing now
			c.late = func() {
				change()
				c.late = change // and once more, where no open goes by what was told
			}
			if size := ask(t, dir, a); size != 3 || times != 2 {
				t.Errorf("%d is told after %d opens", size, times)
			}
			if n := opensToRead(t, a, k); n > 1 {
				t.Errorf("%d times", n)
			}
			if a.belief.held != 0 {
				t.Errorf("%d hold it", a.belief.held)
			}
		})
	}
}

// L2, of what a listing says.
func TestListedBeforeAnOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		c.put("a", 10, "1")
		dir, k := growKernel(c)
		a := lookup(t, dir, "a")
		c.put("a", 10, "22")
		opensToRead(t, a, k)
		h, _, _ := dir.OpendirHandle(t.Context(), 0)
		l := h.(*listing)
		defer l.Releasedir(t.Context(), 0)
		if _, e := l.Readdirent(t.Context()); e != 0 {
			t.Fatal(e)
		}
		time.Sleep(blocktree.MountCacheFor / 2)
		c.put("a", 10, "333")
		if n := opensToRead(t, a, k); n != 0 {
			t.Errorf("%d times", n)
		}
		var out fuse.EntryOut
		if _, e := l.Lookup(t.Context(), "a", &out); e != 0 || out.Size != 3 {
			t.Errorf("%d, %v", out.Size, e)
		}
	})
}

// L2, of a page that was listed before an open that had the kernel forget, or before a change made here: the kernel asks for its entries after that, and would take them.
func TestListedBeforeItForgot(t *testing.T) {
	for what, change := range map[string]func(t *testing.T, c *able, n *node, k *forgetter){
		"an open": func(t *testing.T, c *able, n *node, k *forgetter) {
			c.put("a", 10, "333")
			if n := opensToRead(t, n, k); n != 1 {
				t.Errorf("%d times", n)
			}
		},
		"a change": func(t *testing.T, c *able, n *node, _ *forgetter) {
			c.put("a", 10, "333")
			in := fuse.SetAttrIn{}
			in.Valid, in.Mode = fuse.FATTR_MODE, 0o600
			if e := n.Setattr(t.Context(), nil, &in, &fuse.AttrOut{}); e != 0 {
				t.Fatal(e)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newAble()
				c.put("a", 10, "1")
				dir, k := growKernel(c)
				a := lookup(t, dir, "a")
				h, _, _ := dir.OpendirHandle(t.Context(), 0)
				l := h.(*listing)
				defer l.Releasedir(t.Context(), 0)
				if _, e := l.Readdirent(t.Context()); e != 0 {
					t.Fatal(e)
				}
				change(t, c, a, k)
				var out fuse.EntryOut
				if _, e := l.Lookup(t.Context(), "a", &out); e != 0 || out.Size != 3 {
					t.Errorf("%d bytes are told, %v", out.Size, e)
				}
			})
		})
	}
}

// ofThread is the context of a request of a thread.
func ofThread(t *testing.T, thread uint32) context.Context {
	return fuse.NewContext(t.Context(), &fuse.Caller{Pid: thread})
}

// goodFor is for how long an answer about a file named a is good that a thread is given, by what it may ask.
func goodFor(t *testing.T, dir, a *node) map[string]func(thread uint32) time.Duration {
	must := func(e syscall.Errno) {
		t.Helper()
		if e != 0 {
			t.Fatal(e)
		}
	}
	return map[string]func(thread uint32) time.Duration{
		"attributes": func(thread uint32) time.Duration {
			var out fuse.AttrOut
			must(a.Getattr(ofThread(t, thread), nil, &out))
			return out.Timeout()
		},
		"name": func(thread uint32) time.Duration {
			var out fuse.EntryOut
			_, e := dir.Lookup(ofThread(t, thread), "a", &out)
			must(e)
			return out.AttrTimeout()
		},
		"listing": func(thread uint32) time.Duration {
			h, _, e := dir.OpendirHandle(t.Context(), 0)
			must(e)
			l := h.(*listing)
			defer l.Releasedir(t.Context(), 0)
			_, e = l.Readdirent(ofThread(t, 9))
			must(e)
			var out fuse.EntryOut
			_, e = l.Lookup(ofThread(t, thread), "a", &out)
			must(e)
			return out.AttrTimeout()
		},
	}
}

// L6: after an open had the kernel forget it is to go by no answer, until it has certainly taken one that it asked for after that.
func TestTakenForCertain(t *testing.T) {
	const good = blocktree.MountCacheFor
	c := newFake()
	c.put("a", 10, "1")
	dir, k := growKernel(c)
	a := lookup(t, dir, "a")
	looks := goodFor(t, dir, a)
	length := 1
	opens := func(change bool) { // by thread 1
		t.Helper()
		if change {
			length++
			c.put("a", 10, strings.Repeat("x", length))
		}
		h, _, e := a.Open(ofThread(t, 1), syscall.O_RDONLY)
		if e != 0 {
			t.Fatal(e)
		}
		h.(gofs.FileReleaser).Release(t.Context())
	}
	opens(false) // it has the kernel forget nothing
	if d := looks["attributes"](1); d != good {
		t.Errorf("good for %v", d)
	}
	for what, look := range looks {
		wants := func(thread uint32, want ...time.Duration) {
			t.Helper()
			for i, d := range want {
				if got := look(thread); got != d {
					t.Errorf("%s: answer %d to thread %d is good for %v", what, i+1, thread, got)
				}
			}
		}
		opens(true)
		opens(true)
		wants(2, 0, 0) // the first may have been asked for before
		opens(false)
		wants(3, 0, 0)
		wants(2, good)
		wants(4, good)
		opens(true)
		wants(1, 0, good) // it asked for both after its open
		wants(2, good)
		k.during = func() { // one that asks, and asks again, before it forgot
			k.during = nil
			wants(2, 0, 0, 0, 0)
		}
		opens(true)
		wants(2, 0, 0, good)
		k.during = func() { // likewise many
			k.during = nil
			for thread := range uint32(tornTellsMax + 1) {
				wants(100+thread, 0)
			}
		}
		opens(true)
		wants(3, 0, 0, good)
		opens(true)
		for thread := range uint32(tornTellsMax) {
			wants(100+thread, 0)
		}
		wants(1, good)
		opens(true)
		for range tornTellsMax { // threads that the mount does not tell apart
			wants(0, 0)
		}
		wants(0, good)
	}
}

// L6, of what is opened to write: what the kernel has, and is to forget, is what the open says, unless another client has changed the file.
func TestTakenForCertainByWriters(t *testing.T) {
	a := newAble()
	a.put("a", 10, "1")
	dir, _ := growKernel(a)
	n := lookup(t, dir, "a")
	look := goodFor(t, dir, n)["attributes"]
	openRW(t, n, 0).Release(t.Context())
	if d := look(1); d != blocktree.MountCacheFor {
		t.Errorf("what is the same is good for %v", d)
	}
	a.put("a", 10, "22")
	openRW(t, n, 0).Release(t.Context())
	if d := look(1); d != 0 {
		t.Errorf("what is another is good for %v", d)
	}
}

// L3: while the kernel forgets no open goes by what it believes.
func TestOpenWhileItForgets(t *testing.T) {
	c := newFake()
	c.put("a", 10, "1")
	dir, k := growKernel(c)
	a := lookup(t, dir, "a")
	c.put("a", 10, "22")
	k.during = func() {
		k.during = nil
		if n := opensToRead(t, a, k); n != 1 {
			t.Errorf("%d times", n)
		}
	}
	opensToRead(t, a, k)
	if n := opensToRead(t, a, k); n != 0 {
		t.Errorf("%d times after it", n)
	}
}

// L4: while a file is written here, and after its attributes were set, an open has the kernel forget; after the last who wrote it has closed it nothing is believed.
func TestOpenOfWhatChangesHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAble()
		dir, k := growKernel(a)
		n, h := create(t, dir, "a", syscall.O_RDWR, 0o600)
		time.Sleep(3 * blocktree.MountCacheFor)
		if times := opensToRead(t, n, k); times != 1 {
			t.Errorf("while it is written: %d times", times)
		}
		sizeOf(t, n)
		writes(t, h, "x", 0, 0)
		if e := h.Flush(t.Context()); e != 0 {
			t.Error(e)
		}
		h.Release(t.Context())
		time.Sleep(1)
		sizeOf(t, n)
		if times := opensToRead(t, n, k); times != 0 {
			t.Errorf("after it was written: %d times", times)
		}
		h = openRW(t, n, 0)
		sizeOf(t, n)
		if times := opensToRead(t, n, k); times != 1 {
			t.Errorf("while it is open to write: %d times", times)
		}
		h.Release(t.Context())
		sizeOf(t, n)
		if times := opensToRead(t, n, k); times != 1 {
			t.Errorf("at the moment when it was closed: %d times", times)
		}
		in := fuse.SetAttrIn{}
		in.Valid, in.Mode = fuse.FATTR_MODE, 0o600
		if e := n.Setattr(t.Context(), nil, &in, &fuse.AttrOut{}); e != 0 {
			t.Fatal(e)
		}
		if times := opensToRead(t, n, k); times != 1 {
			t.Errorf("after its mode was set: %d times", times)
		}
		time.Sleep(2*blocktree.MountCacheFor + 1)
		if times := opensToRead(t, n, k); times != 0 {
			t.Errorf("long after: %d times", times)
		}
	})
}

// L1 with the kernel, of all that another mount may change: who opens the file after that is told it, whoever looks meanwhile.
func TestMountedChangedElsewhere(t *testing.T) {
	c := newAble()
	_, dir := mountedAs(t, c, Options{})
	_, other := mountedAs(t, c, Options{ReadOnly: true})
	name := "a"
	if err := os.WriteFile(filepath.Join(dir, name), []byte("twelve bytes"), 0o600); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					entries, _ := os.ReadDir(other)
					for _, e := range entries {
						_, _ = os.Stat(filepath.Join(other, e.Name()))
					}
				}
			}
		})
	}
	told := func(what string, is func(os.FileInfo) bool) {
		t.Helper()
		for range 2 {
			f, err := os.Open(filepath.Join(other, name))
			if err != nil {
				t.Fatal(err)
			}
			if st, err := f.Stat(); err != nil || !is(st) {
				t.Errorf("%s: %v %d bytes of %v are told, %v", what, st.Mode(), st.Size(), st.ModTime(), err)
			}
			_ = f.Close()
		}
	}
	for i := range 20 {
		at := func() string { return filepath.Join(dir, name) }
		mode, when, length := os.FileMode(0o600|i%2*0o44), time.Unix(int64(1e9+i), 5), int64(1+i%7)
		if err := os.Chmod(at(), mode); err != nil {
			t.Fatal(err)
		}
		told("its mode", func(st os.FileInfo) bool { return st.Mode() == mode })
		if err := os.Truncate(at(), length); err != nil {
			t.Fatal(err)
		}
		told("its length", func(st os.FileInfo) bool { return st.Size() == length && st.Mode() == mode })
		if err := os.Chtimes(at(), time.Time{}, when); err != nil {
			t.Fatal(err)
		}
		told("its time", func(st os.FileInfo) bool { return st.ModTime().Equal(when) && st.Size() == length })
		renamed := fmt.Sprintf("b%d", i)
		if err := os.Rename(at(), filepath.Join(dir, renamed)); err != nil {
			t.Fatal(err)
		}
		name = renamed
		told("all of it, by another name", func(st os.FileInfo) bool {
			return st.ModTime().Equal(when) && st.Size() == length && st.Mode() == mode
		})
	}
}

// What was renamed elsewhere is looked for again, and not said to be nowhere: a look at its old name that is answered late leaves its node with that.
func TestRenamedElsewhere(t *testing.T) {
	c := newAble()
	c.put("a", 10, "1")
	n := lookup(t, grow(c), "a")
	if err := c.Rename(t.Context(), testRoot.Join("a"), testRoot.Join("b"), false); err != nil {
		t.Fatal(err)
	}
	for _, flags := range []uint32{syscall.O_RDONLY, syscall.O_RDWR} {
		if _, _, e := n.Open(t.Context(), flags); e != syscall.ESTALE {
			t.Errorf("open %o: %v", flags, e)
		}
	}
	if e := n.Getattr(t.Context(), nil, &fuse.AttrOut{}); e != syscall.ESTALE {
		t.Errorf("attributes: %v", e)
	}
	if e := n.Access(t.Context(), 4); e != syscall.ESTALE {
		t.Errorf("access: %v", e)
	}
}

// L5: what is kept of a file is one thing as long as a node of it is there, and goes with the last.
func TestBeliefsAreForgotten(t *testing.T) {
	tree := newTree(newFake(), testRoot, Options{})
	id := blocktree.FileID{Generation: 1, Inode: 10}
	s := tree.beliefOf(id)
	runtime.GC()
	if tree.beliefOf(id) != s {
		t.Error("another one")
	}
	s = nil
	left := func() int {
		tree.beliefsMu.Lock()
		defer tree.beliefsMu.Unlock()
		return len(tree.beliefs)
	}
	for left() > 0 { // cleanups run some time after
		runtime.GC()
		runtime.Gosched()
	}
}

// L1 to L4 with the kernel: in one mount a file is written, in another it is opened, and looked at by others all the time. Who opens it sees what was closed before.
func TestMountedBelief(t *testing.T) {
	c := newAble()
	_, dir := mountedAs(t, c, Options{})
	_, other := mountedAs(t, c, Options{ReadOnly: true})
	write, read := filepath.Join(dir, "a"), filepath.Join(other, "a")
	if err := os.WriteFile(write, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = os.Stat(read)
					_, _ = os.ReadDir(other)
				}
			}
		})
	}
	for i := 1; i <= 30; i++ {
		if err := os.WriteFile(write, []byte(strings.Repeat("x", i)), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			f, err := os.Open(read)
			if err != nil {
				t.Fatal(err)
			}
			if st, err := f.Stat(); err != nil || st.Size() != int64(i) {
				t.Errorf("%d bytes were closed before it was opened, %d are told, %v", i, st.Size(), err)
			}
			_ = f.Close()
		}
	}
	close(stop)
	wg.Wait()

	for i := range 3 {
		name := fmt.Sprintf("quiet%d", i)
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		c.mu.Lock()
		c.log = nil
		c.mu.Unlock()
		reads(t, filepath.Join(other, name), "x") // which looks at it after it was opened
		c.mu.Lock()
		if got := slices.DeleteFunc(c.log, func(s string) bool { return s == "close" }); !slices.Equal(got, []string{"stat", "open"}) && i > 0 {
			t.Errorf("it took %v", got)
		}
		c.mu.Unlock()
	}
}
