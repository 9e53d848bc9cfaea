package vfs

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"blocktree"
)

// clones calls f with clones of many seeds.
func clones(c *Crash, f func(seed uint64, c *Crash)) {
	for seed := range uint64(300) {
		f(seed, c.Clone(seed))
	}
}

func newFile(t *testing.T, c *Crash, name string) File {
	t.Helper()
	ok(t, c.MkdirAll("/d"))
	return must[File](t)(c.Create(name))
}

func TestCrashKeepsWhatWasSynced(t *testing.T) {
	c := NewCrash()
	f := newFile(t, c, "/d/f")
	a, b := bytes.Repeat([]byte{'a'}, 3*SectorBytes), bytes.Repeat([]byte{'b'}, 3*SectorBytes)
	_ = must[int](t)(f.WriteAt(a, 0))
	ok(t, f.Datasync())
	ok(t, c.SyncDir("/d"))
	_ = must[int](t)(f.WriteAt(b, 0))
	seen := map[string]bool{}
	clones(c, func(seed uint64, c *Crash) {
		got := content(t, c, "/d/f")
		if len(got) != len(a) {
			t.Fatalf("seed %d: %d bytes", seed, len(got))
		}
		shape := ""
		for i := 0; i < len(got); i += SectorBytes {
			s := got[i : i+SectorBytes]
			if !bytes.Equal(s, a[:SectorBytes]) && !bytes.Equal(s, b[:SectorBytes]) {
				t.Fatalf("seed %d: a sector is torn", seed)
			}
			shape += string(s[:1])
		}
		seen[shape] = true
	})
	if len(seen) != 8 {
		t.Errorf("only %d of 8 outcomes: %v", len(seen), seen)
	}
	ok(t, f.Sync())
	clones(c, func(seed uint64, c *Crash) {
		if !bytes.Equal(content(t, c, "/d/f"), b) {
			t.Fatalf("seed %d: synced bytes are gone", seed)
		}
	})
}

func TestCrashReordersWrites(t *testing.T) {
	c := NewCrash()
	f := newFile(t, c, "/d/f")
	ok(t, c.SyncDir("/d"))
	for i := range 3 {
		_ = must[int](t)(f.WriteAt([]byte{byte('1' + i)}, int64(i)*SectorBytes))
	}
	_ = must[int](t)(f.WriteAt([]byte{'9'}, 0))
	seen := map[string]bool{}
	clones(c, func(_ uint64, c *Crash) {
		got := content(t, c, "/d/f")
		shape := ""
		for i := 0; i < len(got); i += SectorBytes {
			shape += string(got[i] | '0')
		}
		seen[shape] = true
	})
	for _, want := range []string{"", "1", "9", "123", "923", "003"} {
		if !seen[want] {
			t.Errorf("never saw %q: %v", want, seen)
		}
	}
}

func TestCrashNames(t *testing.T) {
	c := NewCrash()
	f := newFile(t, c, "/d/f")
	_ = must[int](t)(f.WriteAt([]byte("x"), 0))
	ok(t, f.Sync())
	lost, kept := 0, 0
	clones(c, func(seed uint64, c *Crash) {
		if _, err := c.Stat("/d/f"); err != nil {
			lost++
			return
		}
		kept++
		if string(content(t, c, "/d/f")) != "x" {
			t.Fatalf("seed %d: a synced file with a name lost its bytes", seed)
		}
	})
	if lost == 0 || kept == 0 {
		t.Errorf("an unsynced name was kept %d times and lost %d times", kept, lost)
	}
	ok(t, c.SyncDir("/d"))
	g := must[File](t)(c.Create("/d/g"))
	_ = must[int](t)(g.WriteAt([]byte("y"), 0))
	ok(t, g.Sync())
	ok(t, c.Rename("/d/g", "/d/f"))
	clones(c, func(seed uint64, c *Crash) {
		got := string(content(t, c, "/d/f"))
		_, err := c.Stat("/d/g")
		if got == "y" && err == nil || got != "x" && got != "y" {
			t.Fatalf("seed %d: renamed by half: f is %q, g: %v", seed, got, err)
		}
	})
	ok(t, c.SyncDir("/d"))
	clones(c, func(seed uint64, c *Crash) {
		if string(content(t, c, "/d/f")) != "y" {
			t.Fatalf("seed %d: the rename was synced", seed)
		}
	})
	ok(t, c.Remove("/d/f"))
	back := 0
	clones(c, func(_ uint64, c *Crash) {
		if _, err := c.Stat("/d/f"); err == nil {
			back++
		}
	})
	if back == 0 {
		t.Error("an unsynced removal was never undone")
	}
}

func TestCrashSameSeedSameClone(t *testing.T) {
	c := NewCrash()
	for i := range 20 {
		f := newFile(t, c, fmt.Sprintf("/d/%d", i))
		_ = must[int](t)(f.WriteAt(bytes.Repeat([]byte{byte(i + 1)}, 5000), 0))
		if i%3 == 0 {
			ok(t, f.Sync())
		}
	}
	clones(c, func(seed uint64, a *Crash) {
		b := c.Clone(seed)
		names := must[[]string](t)(a.List("/d"))
		if fmt.Sprint(names) != fmt.Sprint(must[[]string](t)(b.List("/d"))) {
			t.Fatalf("seed %d: names differ", seed)
		}
		for _, n := range names {
			if !bytes.Equal(content(t, a, "/d/"+n), content(t, b, "/d/"+n)) {
				t.Fatalf("seed %d: %s differs", seed, n)
			}
		}
	})
}

func TestCrashOnSync(t *testing.T) {
	c := NewCrash()
	var points []string
	c.OnSync = func(p SyncPoint) {
		points = append(points, fmt.Sprint(p.Op, " ", p.Name, " ", p.After))
		_ = c.Clone(1) // no lock is held
	}
	f := newFile(t, c, "/d/f")
	ok(t, f.Datasync())
	ok(t, f.Sync())
	ok(t, c.SyncDir("/d"))
	want := "[Datasync /d/f false Datasync /d/f true Sync /d/f false Sync /d/f true SyncDir /d false SyncDir /d true]"
	if fmt.Sprint(points) != want {
		t.Errorf("got %v", points)
	}
}

func TestCrashKill(t *testing.T) {
	c := NewCrash()
	f := newFile(t, c, "/d/f")
	_ = must[int](t)(f.WriteAt([]byte("x"), 0))
	_ = must[interface{ Close() error }](t)(c.Lock("/d/lock"))
	k := c.Kill()
	if _, err := k.Lock("/d/lock"); err != nil {
		t.Errorf("a lock outlived its process: %v", err)
	}
	if got := content(t, k, "/d/f"); string(got) != "x" {
		t.Errorf("the page cache holds %q", got)
	}
	lost := 0
	clones(k, func(_ uint64, c *Crash) {
		if _, err := c.Stat("/d/f"); err != nil {
			lost++
		}
	})
	if lost == 0 {
		t.Error("a kill made a name durable")
	}
	g := must[File](t)(k.Open("/d/f"))
	ok(t, g.Sync())
	ok(t, k.SyncDir("/d"))
	clones(k, func(seed uint64, c *Crash) {
		if string(content(t, c, "/d/f")) != "x" {
			t.Fatalf("seed %d: synced after the kill, and lost", seed)
		}
	})
	if n := must[int64](t)(f.Size()); n != 1 {
		t.Errorf("%d bytes", n)
	}
}

func TestCrashCapacity(t *testing.T) {
	c := NewCrash()
	f := newFile(t, c, "/d/f")
	c.SetCapacity(1000)
	if n, err := f.WriteAt(make([]byte, 1200), 0); n != 1000 || blocktree.KindOf(err) != blocktree.NoSpace {
		t.Errorf("wrote %d: %v", n, err)
	}
	wantKind(t, "allocate", f.Allocate(1001), blocktree.NoSpace)
	if n, err := f.WriteAt(make([]byte, 1000), 0); n != 1000 || err != nil {
		t.Errorf("overwriting: %d, %v", n, err)
	}
	ok(t, f.Truncate(0))
	g := must[File](t)(c.Create("/d/g"))
	ok(t, g.Allocate(1000))
	ok(t, c.Remove("/d/g"))
	if c.Used() != 0 {
		t.Errorf("%d bytes are used", c.Used())
	}
}

func TestFault(t *testing.T) {
	fs := NewFault(NewCrash())
	ok(t, fs.MkdirAll("/d"))
	f := must[File](t)(fs.Create("/d/f"))
	fs.Inject(Injection{Op: FaultWrite, Skip: 1, Err: syscall.ENOSPC})
	_ = must[int](t)(f.WriteAt([]byte("one"), 0))
	_, err := f.WriteAt([]byte("two"), 0)
	wantKind(t, "second write", err, blocktree.NoSpace)
	fs.Inject(Injection{Op: FaultWrite, Short: true})
	n, err := f.WriteAt([]byte("TWO!"), 0)
	wantKind(t, "short write", err, blocktree.IO)
	if got := content(t, fs, "/d/f"); n != 2 || string(got) != "TWe" {
		t.Errorf("short write: %d, %q", n, got)
	}
	fs.Inject(Injection{Op: FaultWrite, Flip: 6})
	_ = must[int](t)(f.WritevAt([][]byte{[]byte("A"), []byte("B")}, 0))
	if got := content(t, fs, "/d/f"); string(got) != "aBe" {
		t.Errorf("flipped write: %q", got)
	}
	fs.Inject(Injection{Op: FaultRead, Flip: 9})
	if got := content(t, fs, "/d/f"); string(got) != "aCe" {
		t.Errorf("flipped read: %q", got)
	}
	for _, x := range []struct {
		op FaultOp
		do func() error
	}{
		{FaultRead, func() error { _, err := f.ReadAt(make([]byte, 1), 0); return err }},
		{FaultSync, f.Datasync}, {FaultSync, f.Sync},
		{FaultSyncDir, func() error { return fs.SyncDir("/d") }},
		{FaultCreate, func() error { _, err := fs.Create("/d/g"); return err }},
		{FaultAllocate, func() error { return f.Allocate(1) }},
		{FaultTruncate, func() error { return f.Truncate(3) }},
		{FaultRename, func() error { return fs.Rename("/d/f", "/d/f") }},
		{FaultRemove, func() error { return fs.Remove("/d/none") }},
	} {
		fs.Inject(Injection{Op: x.op, Name: "/elsewhere"})
		fs.Inject(Injection{Op: x.op, Name: "/d"})
		before := fs.Injected()
		wantKind(t, fmt.Sprint("operation ", x.op), x.do(), blocktree.IO)
		if fs.Injected() != before+1 {
			t.Errorf("operation %d: %d faults injected", x.op, fs.Injected()-before)
		}
		if err := x.do(); x.op != FaultRemove && err != nil {
			t.Errorf("operation %d, second time: %v", x.op, err)
		}
		fs.Clear()
	}
}

// TestDiskLockBesideAStart: a lock that was given back can be taken, though a program that this process is about to start has its descriptor still.
func TestDiskLockBesideAStart(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	for _, fs := range []FS{Disk{}, DiskReadOnly{}} { // the latter makes none
		l := must[io.Closer](t)(fs.Lock(name))
		held, err := unix.Dup(int(l.(locked).file.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(held)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if again, err := (Disk{}).Lock(name); err != nil {
			t.Error(err)
		} else if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestDiskLockOtherProcess starts this test again as a process that tries to take a lock that is held.
func TestDiskLockOtherProcess(t *testing.T) {
	if name := os.Getenv("VFS_TEST_LOCK"); name != "" {
		_, err := Disk{}.Lock(name)
		fmt.Printf("kind=%v;", blocktree.KindOf(err))
		return
	}
	name := filepath.Join(t.TempDir(), "lock")
	other := func() string {
		cmd := exec.Command(os.Args[0], "-test.run=^TestDiskLockOtherProcess$")
		cmd.Env = append(os.Environ(), "VFS_TEST_LOCK="+name)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := bytes.Cut(out, []byte(";"))
		return string(kind)
	}
	l := must[interface{ Close() error }](t)(Disk{}.Lock(name))
	if got := other(); got != "kind=busy" {
		t.Errorf("while held: %s", got)
	}
	ok(t, l.Close())
	if got := other(); got != "kind=error" { // no error has kind Other
		t.Errorf("after release: %s", got)
	}
}
