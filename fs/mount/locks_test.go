package mount

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"blocktree"
)

// locks is what the kernel asks.
type locks struct {
	n     *node
	f     gofs.FileHandle
	owner uint64
}

func (l locks) set(ctx context.Context, kind uint32, from, to uint64, flags uint32, wait bool) syscall.Errno {
	lk := &fuse.FileLock{Start: from, End: to, Typ: kind}
	if wait {
		return l.n.Setlkw(ctx, l.f, l.owner, lk, flags)
	}
	return l.n.Setlk(ctx, l.f, l.owner, lk, flags)
}

// closes is the close of a handle by the owner.
func (l locks) closes(t *testing.T) {
	t.Helper()
	by := make(chan struct{})
	l.n.tree.closings.Store((<-chan struct{})(by), l.owner)
	defer l.n.tree.closings.Delete((<-chan struct{})(by))
	if e := l.f.(gofs.FileFlusher).Flush(&fuse.Context{Cancel: by}); e != 0 {
		t.Errorf("close: %v", e)
	}
}

func (c *fake) lockedBy(n *node) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.locked[n.id])
}

// twoMounts has a file that one mount reads, and another one writes.
func twoMounts(t *testing.T) (a *able, r, w locks) {
	t.Helper()
	a = newAble()
	dir := grow(a)
	made, h := create(t, dir, "a", syscall.O_RDWR, 0o644)
	writes(t, h, "content", 0, 0)
	h.Release(t.Context())
	reader, _, e := made.Open(t.Context(), syscall.O_RDONLY)
	if e != 0 {
		t.Fatal(e)
	}
	b := &able{fake: a.fake, xattrs: a.xattrs, client: 1}
	other := lookup(t, grow(b), "a")
	return a, locks{made, reader, 7}, locks{other, openRW(t, other, 0), 7}
}

const end = math.MaxInt64

// W12: locks hold among mounts, of bytes and of whole files apart, for each owner by itself; who waits gets them, unless interrupted, and they end at the close of their owner.
func TestLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r, w := twoMounts(t)
		ctx := t.Context()
		want := func(what string, got, want syscall.Errno) {
			t.Helper()
			if got != want {
				t.Errorf("%s: %v, not %v", what, got, want)
			}
		}
		want("shared", r.set(ctx, syscall.F_RDLCK, 0, 9, 0, false), 0)
		want("exclusive, of others", w.set(ctx, syscall.F_WRLCK, 9, end, 0, false), syscall.EAGAIN)
		want("beside", w.set(ctx, syscall.F_WRLCK, 10, end, 0, false), 0)
		want("the whole file", w.set(ctx, syscall.F_WRLCK, 0, end, flockFlag, false), 0)
		want("the whole file, of two", r.set(ctx, syscall.F_RDLCK, 0, end, flockFlag, false), syscall.EAGAIN)
		var out fuse.FileLock
		want("ask", r.n.Getlk(ctx, r.f, r.owner, &fuse.FileLock{Start: 5, End: end, Typ: syscall.F_RDLCK}, 0, &out), 0)
		if out.Typ != syscall.F_WRLCK || out.Start != 10 || out.End != end {
			t.Errorf("in the way is %+v", out)
		}
		want("ask where nothing is", r.n.Getlk(ctx, r.f, r.owner, &fuse.FileLock{Start: 5, End: 6, Typ: syscall.F_WRLCK}, 0, &out), 0)
		if out.Typ != syscall.F_UNLCK {
			t.Errorf("in the way is %+v", out)
		}

		interrupted, cancel := context.WithCancel(ctx)
		got := make(chan syscall.Errno)
		go func() { got <- w.set(interrupted, syscall.F_WRLCK, 0, end, 0, true) }()
		synctest.Wait()
		cancel()
		want("interrupted", <-got, syscall.EINTR)
		go func() { got <- w.set(ctx, syscall.F_WRLCK, 0, end, 0, true) }()
		synctest.Wait()
		another := r
		another.owner = 8
		another.closes(t)
		synctest.Wait()
		select {
		case e := <-got:
			t.Errorf("another's close gave the lock away: %v", e)
		default:
		}
		r.closes(t)
		want("waited", <-got, 0)
		a.mu.Lock()
		a.leases[w.n.id].written = []byte("written by the same service")
		a.mu.Unlock()
		want("once more", w.set(ctx, syscall.F_WRLCK, 0, end, 0, false), 0)
		if got, e := readAll(t, w.f, 0); e != 0 || got != "written by the same service" || w.f.(*writing).writer.end.Load() != uint64(len(got)) {
			t.Errorf("who has the lock reads %q, %v", got, e)
		}
		want("unlock", w.set(ctx, syscall.F_UNLCK, 0, end, 0, false), 0)
		h, first, second := openRW(t, w.n, 0), w, w // handles of one writer
		first.f, first.owner, second.owner = h, 20, 21
		want("unlock the whole file", w.set(ctx, syscall.F_UNLCK, 0, end, flockFlag, false), 0)
		want("flock of a handle", first.set(ctx, syscall.F_WRLCK, 0, end, flockFlag, false), 0)
		want("of another", second.set(ctx, syscall.F_WRLCK, 0, end, flockFlag, false), syscall.EAGAIN)
		h.Release(ctx)
		want("after the first was closed", second.set(ctx, syscall.F_WRLCK, 0, end, flockFlag, false), 0)
		r.f.(*handle).Release(ctx)
		w.f.(*writing).Release(ctx)
		if n := a.lockedBy(r.n); n != 0 || len(r.n.tree.locks.files) != 0 || len(w.n.tree.locks.files) != 0 || len(a.leases) != 0 {
			t.Errorf("%d locks are left, %v, %v", n, r.n.tree.locks.files, w.n.tree.locks.files)
		}
	})
}

// W12: an exclusive lock of flock by who reads has the file open to write, until it is closed, and a mount to read has none.
func TestLocksOfReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, r, w := twoMounts(t)
		ctx := t.Context()
		if e := r.set(ctx, syscall.F_WRLCK, 0, end, flockFlag, false); e != syscall.EAGAIN {
			t.Errorf("while another service has it: %v", e)
		}
		w.f.(*writing).Release(ctx)
		if e := r.set(ctx, syscall.F_WRLCK, 0, end, flockFlag, false); e != 0 {
			t.Error(e)
		}
		r.n.tree.o.ReadOnly = true
		h, _, _ := r.n.Open(ctx, syscall.O_RDONLY)
		if e := (locks{r.n, h, 9}).set(ctx, syscall.F_WRLCK, 0, end, flockFlag, false); e != syscall.EBADF {
			t.Errorf("to read: %v", e)
		}
		h.(*handle).Release(ctx)
		r.f.(*handle).Release(ctx)
		if len(r.n.tree.writers) != 0 || len(r.n.tree.locks.files) != 0 {
			t.Errorf("%v, %v are left", r.n.tree.writers, r.n.tree.locks.files)
		}
	})
}

// W12: what was locked at a service that is gone is an error until it is given back; without locks the file goes on.
func TestLocksAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, r, w := twoMounts(t)
		ctx := t.Context()
		r.f.(*handle).Release(ctx)
		h := w.f.(*writing)
		if e := w.set(ctx, syscall.F_WRLCK, 0, 9, 0, false); e != 0 {
			t.Fatal(e)
		}
		a.kill(false)
		for range 2 {
			writes(t, h, "x", 0, syscall.EIO)
		}
		if e := w.set(ctx, syscall.F_WRLCK, 0, 3, 0, false); e != syscall.EIO {
			t.Errorf("more of them: %v", e)
		}
		if e := w.set(ctx, syscall.F_UNLCK, 0, end, 0, false); e != syscall.EIO {
			t.Errorf("unlock: %v", e)
		}
		if e := w.set(ctx, syscall.F_WRLCK, 0, 9, 0, false); e != 0 {
			t.Errorf("after that: %v", e)
		}
		writes(t, h, "anew", 0, 0)
		if e := w.set(ctx, syscall.F_UNLCK, 0, end, 0, false); e != 0 {
			t.Error(e)
		}
		_ = h.sync(ctx)
		a.kill(false)
		writes(t, h, "goes on", 0, 0)
		h.Release(ctx)
		if got := a.content("a"); got != "goes on" {
			t.Errorf("the service has %q", got)
		}
	})
}

// W12: a service that has no locks, and one that is not that of the others.
func TestLocksThatAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		n, h := create(t, grow(c), "a", syscall.O_RDWR, 0o644)
		if e := (locks{n, h, 7}).set(t.Context(), syscall.F_WRLCK, 0, end, 0, false); e != syscall.ENOLCK {
			t.Errorf("a service of a version before: %v", e)
		}
		h.Release(t.Context())
		var x lockTable
		one := blocktree.FileID{Generation: 1, Inode: 9}
		if !x.enter(one, "/a") || !x.enter(one, "/a") || x.enter(one, "/b") {
			t.Error("a file may have locks at two services")
		}
		x.leave(one, h.writer, 7, span{0, 10}, true)
		x.leave(one, h.writer, 7, span{10, 20}, true)
		if x.enter(one, "/b") || len(x.files[one].by[h.writer][7]) != 1 {
			t.Errorf("%v", x.files[one])
		}
		x.cut(one, 7, span{5, 15})
		if got := x.files[one].by[h.writer][7]; len(got) != 2 || got[0] != (span{0, 5}) || got[1] != (span{15, 20}) {
			t.Errorf("left are %v", got)
		}
		x.cut(one, 7, span{0, 100})
		if !x.enter(one, "/b") {
			t.Error("locks that are not there any more")
		}
	})
}

// W12, by the kernel.
func TestMountedLocks(t *testing.T) {
	a := newAble()
	_, here := mountedAs(t, a, Options{})
	_, there := mountedAs(t, &able{fake: a.fake, xattrs: a.xattrs, client: 1}, Options{})
	a.put("a", 90, "content") // not by a mount, which closes it at the service some time after the program has
	open := func(dir string, flags int) *os.File {
		f, err := os.OpenFile(filepath.Join(dir, "a"), flags, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() }) // before the mounts end: else they would wait for it
		return f
	}
	lock := func(f *os.File, kind int16, wait bool) error {
		how := unix.F_SETLK
		if wait {
			how = unix.F_SETLKW
		}
		return unix.FcntlFlock(f.Fd(), how, &unix.Flock_t{Type: kind, Whence: io.SeekStart})
	}
	reader, again, writer := open(here, os.O_RDONLY), open(here, os.O_RDONLY), open(there, os.O_RDWR)
	defer reader.Close()
	defer writer.Close()
	if err := errors.Join(lock(reader, unix.F_RDLCK, false), unix.Flock(int(reader.Fd()), unix.LOCK_SH)); err != nil {
		t.Fatal(err)
	}
	if err := lock(writer, unix.F_WRLCK, false); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("fcntl of two: %v", err)
	}
	if err := unix.Flock(int(writer.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("flock of two: %v", err)
	}
	got := make(chan error, 2)
	go func() { got <- lock(writer, unix.F_WRLCK, true) }()
	if err := again.Close(); err != nil { // any close by the process gives back what it has by fcntl
		t.Error(err)
	}
	if err := <-got; err != nil {
		t.Errorf("waited: %v", err)
	}
	go func() { got <- unix.Flock(int(writer.Fd()), unix.LOCK_EX) }()
	if err := reader.Close(); err != nil {
		t.Error(err)
	}
	if err := <-got; err != nil {
		t.Errorf("waited: %v", err)
	}
}
