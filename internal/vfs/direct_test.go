package vfs

import (
	"bytes"
	"os"
	"path"
	"path/filepath"
	"syscall"
	"testing"

	"blocktree"
)

// conformDirect: what is written past the cache is what is read, among what is written through it, and nothing is written that a disk may refuse.
func conformDirect(t *testing.T, fs FS, dir string) {
	f := must[File](t)(fs.Create(path.Join(dir, "f")))
	defer f.Close()
	ok(t, f.Allocate(8*DirectBytes))
	d, can := f.(Direct)
	if !can {
		t.Fatal("no direct writes")
	}
	want := bytes.Repeat([]byte{1}, 8*DirectBytes)
	if _, err := f.WriteAt(want, 0); err != nil {
		t.Fatal(err)
	}
	a, b := DirectMemory(DirectBytes), DirectMemory(3*DirectBytes)
	copy(b, bytes.Repeat([]byte{2, 3}, len(b)))
	if _, err := d.WriteDirectAt([][]byte{a, b}, DirectBytes); err != nil {
		t.Fatal(err)
	}
	copy(want[copy(want[DirectBytes:], a)+DirectBytes:], b)
	if _, err := f.WriteAt([]byte{9}, 3*DirectBytes+5); err != nil { // in what was just written
		t.Fatal(err)
	}
	want[3*DirectBytes+5] = 9
	ok(t, f.Datasync())
	for name, x := range map[string]struct {
		buf []byte
		off int64
	}{
		"memory elsewhere": {DirectMemory(2 * DirectBytes)[1 : DirectBytes+1], 0}, "less than a block": {DirectMemory(DirectBytes)[:512], 0}, "nothing": {nil, 0},
		"a place elsewhere": {a, 512}, "a place before the file": {a, -DirectBytes},
	} {
		_, err := d.WriteDirectAt([][]byte{x.buf}, x.off)
		wantKind(t, name, err, blocktree.Invalid)
	}
	if got := content(t, fs, path.Join(dir, "f")); !bytes.Equal(got, want) {
		t.Error("read something else than was written")
	}
	ok(t, f.Close())
	if _, err := d.WriteDirectAt([][]byte{a}, 0); err == nil {
		t.Error("written to a closed file")
	}
}

// TestNoDirectWay: where the system has no direct writes, or the file has another name by now, it is an ordinary write, and said so.
func TestNoDirectWay(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	for what, harm := range map[string]func(f *diskFile){
		"ended":          func(f *diskFile) { f.EndDirect() },
		"without a name": func(*diskFile) { ok(t, Disk{}.Remove(name)) },
		"another's name": func(*diskFile) {
			ok(t, Disk{}.Rename(name, name+"2"))
			ok(t, must[File](t)(Disk{}.Create(name)).Close())
		},
		"refused by then": func(f *diskFile) { f.direct.file, f.direct.refused = nil, true },
		// The kernel says EINVAL to whoever writes what is no number there, as a disk does that has larger blocks.
		"refused when it is written": func(f *diskFile) {
			d, err := os.OpenFile("/proc/self/oom_score_adj", os.O_WRONLY, 0)
			ok(t, err)
			f.direct.file = d
		},
	} {
		f := must[File](t)(Disk{}.Create(name)).(*diskFile)
		harm(f)
		b := DirectMemory(2 * DirectBytes)
		b[5] = 7
		direct, err := f.WriteDirectAt([][]byte{b[:DirectBytes], b[DirectBytes:]}, DirectBytes)
		got := make([]byte, DirectBytes)
		if _, err := f.ReadAt(got, DirectBytes); err != nil || !bytes.Equal(got, b[:DirectBytes]) {
			t.Errorf("%s: read something else: %v", what, err)
		}
		if direct || err != nil {
			t.Errorf("%s: direct %t, %v", what, direct, err)
		}
		ok(t, f.Close())
	}
}

// TestRefusesDirect: only what says that a direct write cannot be is done again as another; an error of the disk is one.
func TestRefusesDirect(t *testing.T) {
	for err, want := range map[error]bool{syscall.EINVAL: true, syscall.EOPNOTSUPP: true, syscall.EIO: false, syscall.ENOSPC: false, nil: false} {
		if refusesDirect(err) != want {
			t.Errorf("%v: want %t", err, want)
		}
	}
}

// TestDirectMemory lies and is long as it should be, and no more of it can be reached.
func TestDirectMemory(t *testing.T) {
	for _, n := range []int{DirectBytes, 3 * DirectBytes, 32 * DirectBytes} {
		if b := DirectMemory(n); !CanBeDirect(b) || len(b) != n || cap(b) != n {
			t.Errorf("%d bytes: %d of %d", n, len(b), cap(b))
		}
	}
	if CanBeDirect(nil) || CanBeDirect(DirectMemory(DirectBytes)[:100]) {
		t.Error("takes what is no block")
	}
}

// TestDirectWritesAreLost: as others are, until something syncs them.
func TestDirectWritesAreLost(t *testing.T) {
	c := NewCrash()
	ok(t, c.MkdirAll("/d"))
	f := must[File](t)(c.Create("/d/f"))
	ok(t, c.SyncDir("/d"))
	b := DirectMemory(DirectBytes)
	b[0] = 1
	if direct, err := f.(Direct).WriteDirectAt([][]byte{b}, 0); !direct || err != nil {
		t.Fatal(direct, err)
	}
	lost := 0
	for seed := range uint64(20) {
		if n := must[int64](t)(c.Clone(seed).Stat("/d/f")); n == 0 {
			lost++
		}
	}
	if lost == 0 || lost == 20 {
		t.Errorf("%d of 20 losses of power took it", lost)
	}
	ok(t, f.Datasync())
	for seed := range uint64(20) {
		if got := content(t, c.Clone(seed), "/d/f"); !bytes.Equal(got, b) {
			t.Fatal("lost what was synced")
		}
	}
	c.NoDirect = true
	if direct, err := f.(Direct).WriteDirectAt([][]byte{b}, DirectBytes); direct || err != nil {
		t.Error(direct, err)
	}
}
