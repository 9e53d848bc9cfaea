package mount

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"blocktree"
	"blocktree/fs"
)

// slow is a Source whose files say how many bytes are read at a time, and take a while.
type slow struct {
	*fake
	now, most, longest atomic.Int64
	pause              time.Duration
}

type slowFile struct {
	fs.File
	of *slow
}

func (s *slow) Open(ctx context.Context, path blocktree.Path, o fs.OpenOptions) (fs.File, error) {
	f, err := s.fake.Open(ctx, path, o)
	return slowFile{f, s}, err
}

func (f slowFile) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	n := int64(len(p))
	for all := f.of.now.Add(n); ; {
		if most := f.of.most.Load(); most >= all || f.of.most.CompareAndSwap(most, all) {
			break
		}
	}
	defer f.of.now.Add(-n)
	f.of.longest.Store(max(f.of.longest.Load(), n))
	time.Sleep(f.of.pause)
	return f.File.ReadAt(ctx, p, off)
}

// R1: with reads of any length no more bytes are on their way than a service takes of one connection, and short ones go beside long ones that wait.
func TestLongReadsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{fake: newFake(), pause: time.Second}
		s.put("a", 10, strings.Repeat("x", 1<<20))
		h, e := lookup(t, grow(s), "a").open(t.Context())
		if e != 0 {
			t.Fatal(e)
		}
		var wg sync.WaitGroup
		for i := range 3 * blocktree.MountRequestsMax {
			bytes := blocktree.MountLongReadBytesMax
			if i%4 == 0 {
				bytes = blocktree.MountReadBytesMax
			}
			wg.Go(func() {
				if r, e := h.Read(t.Context(), make([]byte, bytes), 0); e != 0 || r.Size() != bytes {
					t.Errorf("%d bytes: %v", bytes, e)
				}
			})
		}
		time.Sleep(time.Second + 1)
		if s.most.Load() > blocktree.FSInFlightBytesPerConnectionMax {
			t.Errorf("%d bytes at a time", s.most.Load())
		}
		if left := len(h.node.tree.requests); left != blocktree.MountLongReadsMax { // all short ones were done in the first second
			t.Errorf("%d are on their way after a second", left)
		}
		wg.Wait()
		h.Release(t.Context())
	})
}

// R2: what the kernel writes at a time is written in parts, and what was written of it is told.
func TestLongWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAble()
		_, h := create(t, grow(a), "a", syscall.O_WRONLY|syscall.O_APPEND, 0o600)
		data := bytes.Repeat([]byte("0123456789abcdef"), 40000)
		if n, e := h.Write(t.Context(), data, 0); e != 0 || int(n) != len(data) {
			t.Error(n, e)
		}
		a.mu.Lock()
		a.full = uint64(len(data)) + 2*blocktree.MountWriteBytesMax
		a.mu.Unlock()
		if n, e := h.Write(t.Context(), data, int64(len(data))); e != 0 || n != 2*blocktree.MountWriteBytesMax {
			t.Error(n, e)
		}
		if n, e := h.Write(t.Context(), data, int64(a.full)); e != syscall.ENOSPC || n != 0 {
			t.Error(n, e)
		}
		h.Release(t.Context())
		if got := a.content("a"); len(got) != int(a.full) || got[:len(data)] != string(data) {
			t.Errorf("%d bytes", len(got))
		}
	})
}

// R3: the kernel reads ahead as it was told, of this mount alone; who is anonymous reads as before.
func TestMountedReadAhead(t *testing.T) {
	s := &slow{fake: newFake()}
	want := strings.Repeat("0123456789abcdef", 1<<18)
	s.put("a", 10, want)
	for _, c := range []struct {
		o                     Options
		ahead                 string
		most, longest, direct int64
	}{
		{Options{ReadOnly: true}, "512", blocktree.FSInFlightBytesPerConnectionMax, 512 << 10, 1 << 20},
		{Options{ReadOnly: true, ReadAhead: -1}, "128", blocktree.FSInFlightBytesPerConnectionMax, 128 << 10, 1 << 20},
		{Options{ReadOnly: true, Anonymous: true}, "128", blocktree.FSAnonymousBytesPerConnectionMax, 128 << 10, 128 << 10},
	} {
		_, dir := mountedAs(t, s, c.o)
		var st unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(filepath.Join(dir, "a"))
		if err != nil {
			t.Fatal(err)
		}
		s.most.Store(0)
		s.longest.Store(0)
		var got []byte
		for p := make([]byte, 64<<10); err == nil; { // programs read less at a time
			n := 0
			n, err = f.Read(p)
			got = append(got, p[:n]...)
		}
		_ = f.Close()
		if string(got) != want || s.longest.Load() != c.longest || s.most.Load() > c.most {
			t.Errorf("%+v: %d bytes, %d at a time, %d in all", c.o, len(got), s.longest.Load(), s.most.Load())
		}
		s.longest.Store(0)
		if f, err = os.OpenFile(f.Name(), os.O_RDONLY|syscall.O_DIRECT, 0); err != nil {
			t.Fatal(err)
		}
		if n, err := f.Read(got[:1<<20]); n != 1<<20 || s.longest.Load() != c.direct {
			t.Errorf("%+v: past the kernel's pages %d bytes, %d at a time, %v", c.o, n, s.longest.Load(), err)
		}
		_ = f.Close()
		if b, err := os.ReadFile(filepath.Join("/sys/class/bdi", device(&st), "read_ahead_kb")); err != nil || strings.TrimSpace(string(b)) != c.ahead {
			t.Errorf("%+v: %s, %v", c.o, b, err)
		}
	}
}

// R3: only a mount of this kind is told.
func TestIsMount(t *testing.T) {
	const mounts = `30 1 253:0 / / rw - ext4 /dev/root rw
54 27 0:44 / /tmp/a\040b rw,nosuid shared:1 - fuse.blocktree /bench rw,user_id=0
55 27 0:45 / /mnt rw - fuse.sshfs x rw
56 27 0:46 / /mnt rw - tmpfs fuse.blocktree rw
`
	for device, want := range map[string]bool{"0:44": true, "0:45": false, "0:46": false, "253:0": false, "0:4": false, "": false} {
		if isMount(mounts, device) != want {
			t.Errorf("%q", device)
		}
	}
}
