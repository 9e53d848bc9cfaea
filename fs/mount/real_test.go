package mount

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"blocktree"
)

// mounted mounts a fake, to read.
func mounted(t *testing.T, c *fake) (*Mount, string) {
	t.Helper()
	return mountedAs(t, c, Options{ReadOnly: true})
}

func mountedAs(t *testing.T, c Source, o Options) (*Mount, string) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("needs /dev/fuse")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	m, err := Dir(t.Context(), c, testRoot, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Unmount(); err != nil {
			t.Error(err)
		}
		<-m.Ended()
		if err := m.Unmount(); err != nil {
			t.Errorf("once more: %v", err)
		}
	})
	return m, dir
}

// reads demands what a program reads now.
func reads(t *testing.T, name, want string) {
	t.Helper()
	got, err := os.ReadFile(name)
	if err != nil || string(got) != want {
		t.Errorf("%s is %d bytes that begin with %.20q, %v, not %d with %.20q", filepath.Base(name), len(got), got, err, len(want), want)
	}
}

func TestMounted(t *testing.T) {
	c := newFake()
	large := strings.Repeat("0123456789abcdef", 40000)
	c.mkdir("d", 3)
	c.put("d/a", 10, "first")
	c.put("d/b", 11, large)
	_, dir := mounted(t, c)
	a, b := filepath.Join(dir, "d", "a"), filepath.Join(dir, "d", "b")

	reads(t, a, "first")
	reads(t, b, large)
	for _, now := range []string{"other", "longer than before", "x", ""} { // at once each time: the second that attributes are believed has not passed
		c.put("d/a", 10, now)
		reads(t, a, now)
	}
	if _, err := os.ReadFile(filepath.Join(dir, "new")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
	c.put("new", 12, "made elsewhere")
	reads(t, filepath.Join(dir, "new"), "made elsewhere")
	c.put("d/a", 20, "another file of that name")
	reads(t, a, "another file of that name")

	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 || entries[0].Name() != "d" || !entries[0].IsDir() || entries[1].Name() != "new" {
		t.Errorf("listed %v, %v", entries, err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(b, &st); err != nil || st.Ino != 1<<inodeBits|11 || st.Size != int64(len(large)) || st.Mode != syscall.S_IFREG|0o644 {
		t.Errorf("%+v, %v", st, err)
	}

	f, err := os.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil { // not mapped: a fault would wait for this process, which waits for it; git maps, in test/shown/7-01-mount
		t.Error(err)
	}
	changesNothing(t, dir, a)
}

// changesNothing tries every change.
func changesNothing(t *testing.T, dir, file string) {
	t.Helper()
	other := filepath.Join(dir, "other")
	for what, do := range map[string]func() error{
		"open to write": func() error { _, err := os.OpenFile(file, os.O_WRONLY, 0); return err },
		"truncate":      func() error { return os.Truncate(file, 0) },
		"create":        func() error { return os.WriteFile(other, nil, 0o600) },
		"mkdir":         func() error { return os.Mkdir(other, 0o700) },
		"remove":        func() error { return os.Remove(file) },
		"rename":        func() error { return os.Rename(file, other) },
		"link":          func() error { return os.Link(file, other) },
		"symlink":       func() error { return os.Symlink("a", other) },
		"chmod":         func() error { return os.Chmod(file, 0o777) },
		"chown":         func() error { return os.Chown(file, 1, 1) },
		"setxattr":      func() error { return unix.Setxattr(file, "user.a", []byte("b"), 0) },
		"access":        func() error { return unix.Access(file, unix.W_OK) },
	} {
		if err := do(); !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestBusyMountStays(t *testing.T) {
	c := newFake()
	c.put("a", 10, "content")
	m, dir := mounted(t, c)
	f, err := os.Open(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := m.Unmount(); blocktree.KindOf(err) != blocktree.Busy {
		t.Fatalf("a mount that is used: %v", err)
	}
	reads(t, filepath.Join(dir, "a"), "content")
}

func TestMountsDirectoriesOnly(t *testing.T) {
	c := newFake()
	c.put("a", 10, "content")
	dir := t.TempDir()
	for _, what := range []struct {
		path blocktree.Path
		dir  string
		want blocktree.Kind
	}{{testRoot.Join("a"), dir, blocktree.Invalid}, {testRoot.Join("b"), dir, blocktree.NotFound}, {testRoot, filepath.Join(dir, "absent"), blocktree.Invalid}} {
		if _, err := Dir(t.Context(), c, what.path, what.dir, Options{}); blocktree.KindOf(err) != what.want {
			t.Errorf("%s on %s: %v", what.path.Short(), what.dir, err)
		}
	}
}

// M3, with the kernel's pages: a program that has the file open since it was shorter reads it, and then one that opened it after.
func TestMountedLonger(t *testing.T) {
	c := newFake()
	c.unheard = true
	c.put("a", 10, "short")
	_, dir := mounted(t, c)
	early, err := os.Open(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	long := strings.Repeat("longer than before. ", 1000)
	c.put("a", 10, long)
	late, err := os.Open(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	_, _ = early.ReadAt(make([]byte, 100), 3) // what it reads is its own affair
	if got, err := io.ReadAll(late); string(got) != long || err != nil {
		t.Errorf("who opened it after it became longer reads %d bytes of %d, %v", len(got), len(long), err)
	}
}
