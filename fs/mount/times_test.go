package mount

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"blocktree"
	"blocktree/fs"
)

// setTime sets the time of the last write as the kernel asks for it.
func setTime(t *testing.T, n *node, at time.Time, flags uint32) syscall.Errno {
	t.Helper()
	in := &fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{Valid: fuse.FATTR_MTIME | flags, Mtime: uint64(at.Unix()), Mtimensec: uint32(at.Nanosecond())}}
	return n.Setattr(t.Context(), nil, in, &fuse.AttrOut{})
}

// isOf demands the time of the last write that programs are told.
func isOf(t *testing.T, n *node, want time.Time) {
	t.Helper()
	var out fuse.AttrOut
	if e := n.Getattr(t.Context(), nil, &out); e != 0 || !time.Unix(int64(out.Mtime), int64(out.Mtimensec)).Equal(want) {
		t.Errorf("%v: its time is %v, not %v", e, time.Unix(int64(out.Mtime), int64(out.Mtimensec)), want)
	}
}

// W10: a time that a program sets stays, whatever was written before, and a write after it is of its own time.
func TestTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newAble()
		c.now = fakeNow + 5
		a, h := create(t, grow(c), "a", syscall.O_RDWR, 0o644)
		writes(t, h, "before", 0, 0)
		isOf(t, a, time.Now())
		old := time.Unix(1000, 7)
		if e := setTime(t, a, old, 0); e != 0 {
			t.Fatal(e)
		}
		isOf(t, a, old)
		if e := h.Flush(t.Context()); e != 0 {
			t.Error(e)
		}
		isOf(t, a, old)
		if e := setTime(t, a, time.Now(), fuse.FATTR_MTIME_NOW); e != 0 {
			t.Error(e)
		}
		isOf(t, a, time.Unix(0, fakeNow)) // by the service's clock
		writes(t, h, "after", 0, 0)
		isOf(t, a, time.Now())
		h.Release(t.Context())
		for _, at := range []time.Time{time.Unix(-1, 0), time.Unix(1<<40, 0)} {
			if e := setTime(t, a, at, 0); e != syscall.EINVAL {
				t.Errorf("%v: %v", at, e)
			}
		}
	})
}

// P4 of 0068: of a time only the owner says another than now; who may not write, not even that.
func TestOwnerAlone(t *testing.T) {
	c := newAble()
	c.put("a", 3, "text")
	a := lookup(t, grow(c), "a")
	c.fail(blocktree.E("fake", blocktree.Permission, nil))
	for valid, want := range map[uint32]syscall.Errno{0: syscall.EPERM, fuse.FATTR_MTIME_NOW: syscall.EACCES} {
		if e := setTime(t, a, time.Unix(1000, 0), valid); e != want {
			t.Errorf("with %x: %v", valid, e)
		}
	}
}

// W10, also where the file is being closed meanwhile, with which the service tells when it was written.
func TestTimesWhileClosed(t *testing.T) {
	c := newAble()
	a, h := create(t, grow(c), "a", syscall.O_RDWR, 0o644)
	writes(t, h, "before", 0, 0)
	old, done := time.Unix(1000, 7), make(chan syscall.Errno, 1)
	c.closing = func() {
		go func() { done <- setTime(t, a, old, 0) }()
		for range 10_000 { // it would be done by now if it did not wait
			runtime.Gosched()
		}
		_ = c.SetTimes(t.Context(), testRoot.Join("a"), fs.TimeNow)
	}
	h.Release(t.Context())
	if e := <-done; e != 0 {
		t.Error(e)
	}
	isOf(t, a, old)
}

// W10, by the kernel; and what is said of the file system's room.
func TestMountedTimes(t *testing.T) {
	c := newAble()
	_, dir := mountedAs(t, c, Options{})
	name := filepath.Join(dir, "a")
	if err := os.WriteFile(name, make([]byte, 5000), 0o644); err != nil {
		t.Fatal(err)
	}
	is := func(name string, want time.Time) {
		t.Helper()
		if st, err := os.Lstat(name); err != nil || !st.ModTime().Equal(want) {
			t.Errorf("%v, %v, not %v", st.ModTime(), err, want)
		}
	}
	old := time.Unix(1_000_000, 123_456_789)
	if err := os.Chtimes(name, time.Now(), old); err != nil {
		t.Error(err)
	}
	is(name, old)
	now := unix.Timespec{Nsec: unix.UTIME_NOW}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{now, now}, 0); err != nil {
		t.Error(err)
	}
	is(name, time.Unix(0, fakeNow))
	if err := os.Chtimes(dir, time.Time{}, old); err != nil {
		t.Error(err)
	}
	is(dir, old)
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil || st.Blocks != 2*4096/512 {
		t.Errorf("%d blocks, %v", st.Blocks, err)
	}
	var space unix.Statfs_t // a source that does not say
	if err := unix.Statfs(dir, &space); err != nil || space.Namelen != 255 || space.Blocks != 0 || space.Bsize != 4096 {
		t.Errorf("%+v, %v", space, err)
	}
}
