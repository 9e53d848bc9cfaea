package mount

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blocktree"
)

// writable mounts a fake, to write, of a service of the version before and of one that can grow what is open.
func writable(t *testing.T, test func(t *testing.T, c *fake, m *Mount, dir string)) {
	t.Helper()
	for _, grows := range []bool{false, true} {
		t.Run(map[bool]string{false: "before", true: "grows"}[grows], func(t *testing.T) {
			c := newFake()
			c.grows = grows
			m, dir := mountedAs(t, c, Options{})
			test(t, c, m, dir)
		})
	}
}

// W8: what programs do, and what each is told.
func TestMountedWrites(t *testing.T) {
	writable(t, func(t *testing.T, c *fake, _ *Mount, dir string) {
		at := func(name string) string { return filepath.Join(dir, name) }
		write := func(name, content string) error { return os.WriteFile(at(name), []byte(content), 0o644) }
		open := func(name string, flags int) error {
			f, err := os.OpenFile(at(name), flags, 0o644)
			if err == nil {
				err = f.Close()
			}
			return err
		}
		for _, x := range []struct {
			what string
			do   func() error
			want error
		}{
			{"create", func() error { return write("a", "first") }, nil},
			{"once more, O_EXCL", func() error { return open("a", os.O_RDWR|os.O_CREATE|os.O_EXCL) }, syscall.EEXIST},
			{"O_TRUNC", func() error { return write("a", "x") }, nil},
			{"mkdir", func() error { return os.Mkdir(at("d"), 0o755) }, nil},
			{"mkdir once more", func() error { return os.Mkdir(at("d"), 0o755) }, syscall.EEXIST},
			{"mkdir in nothing", func() error { return os.Mkdir(at("no/d"), 0o755) }, syscall.ENOENT},
			{"create in nothing", func() error { return write("no/a", "") }, syscall.ENOENT},
			{"create in a file", func() error { return write("a/a", "") }, syscall.ENOTDIR},
			{"write a directory", func() error { return open("d", os.O_RDWR) }, syscall.EISDIR},
			{"a long name", func() error { return write(strings.Repeat("n", blocktree.NameBytesMax+1), "") }, syscall.ENAMETOOLONG},
			{"create in a directory", func() error { return write("d/b", "second") }, nil},
			{"rmdir, not empty", func() error { return syscall.Rmdir(at("d")) }, syscall.ENOTEMPTY},
			{"unlink a directory", func() error { return syscall.Unlink(at("d")) }, syscall.EISDIR},
			{"rmdir a file", func() error { return syscall.Rmdir(at("a")) }, syscall.ENOTDIR},
			{"rename over", func() error { return os.Rename(at("a"), at("d/b")) }, nil},
			{"rename what is not there", func() error { return os.Rename(at("a"), at("b")) }, syscall.ENOENT},
			{"create again", func() error { return write("a", "third") }, nil},
			{"RENAME_NOREPLACE", func() error {
				return unix.Renameat2(unix.AT_FDCWD, at("a"), unix.AT_FDCWD, at("d/b"), unix.RENAME_NOREPLACE)
			}, syscall.EEXIST},
			{"RENAME_EXCHANGE", func() error {
				return unix.Renameat2(unix.AT_FDCWD, at("a"), unix.AT_FDCWD, at("d/b"), unix.RENAME_EXCHANGE)
			}, syscall.EINVAL},
			{"a directory into itself", func() error { return os.Rename(at("d"), at("d/e")) }, syscall.EINVAL},
			{"a file over a directory", func() error { return os.Rename(at("a"), at("d")) }, syscall.EEXIST},
			{"a directory over a file", func() error { return syscall.Rename(at("d"), at("a")) }, syscall.ENOTDIR},
			{"mkdir e", func() error { return os.Mkdir(at("e"), 0o755) }, nil},
			{"a directory over one that is not empty", func() error { return syscall.Rename(at("e"), at("d")) }, syscall.ENOTEMPTY},
			{"a directory over an empty one", func() error { return syscall.Rename(at("d"), at("e")) }, nil},
			{"link", func() error { return os.Link(at("a"), at("l")) }, syscall.EPERM},
			{"symlink", func() error { return os.Symlink("a", at("l")) }, syscall.EPERM},
			{"fifo", func() error { return unix.Mkfifo(at("p"), 0o644) }, syscall.EPERM},
			{"device", func() error { return unix.Mknod(at("p"), unix.S_IFCHR|0o600, 0x103) }, syscall.EPERM},
			{"mknod of a file", func() error { return unix.Mknod(at("n"), unix.S_IFREG|0o600, 0) }, nil},
			{"chmod", func() error { return os.Chmod(at("a"), 0o400) }, nil},
			{"set-user-id", func() error { return unix.Chmod(at("a"), 0o4755) }, syscall.EPERM},
			{"chown to who mounts", func() error { return os.Chown(at("a"), os.Geteuid(), os.Getegid()) }, nil},
			{"chown", func() error { return os.Chown(at("a"), 12, -1) }, syscall.EPERM},
			{"truncate", func() error { return os.Truncate(at("a"), 100_000) }, nil},
			{"too large", func() error { return os.Truncate(at("a"), 1<<62) }, syscall.EFBIG},
			{"truncate a directory", func() error { return os.Truncate(at("e"), 0) }, syscall.EISDIR},
			{"unlink", func() error { return os.Remove(at("a")) }, nil},
			{"unlink once more", func() error { return os.Remove(at("a")) }, syscall.ENOENT},
		} {
			if err := x.do(); !errors.Is(err, x.want) && (err != nil || x.want != nil) {
				t.Errorf("%s: %v, not %v", x.what, err, x.want)
			}
		}
		reads(t, at("e/b"), "x")
		if got := c.content("e/b"); got != "x" {
			t.Errorf("the service has %q", got)
		}
	})
}

// W8: what is not there says so.
func TestMountedWithout(t *testing.T) {
	c := newFake()
	_, dir := mountedAs(t, c, Options{})
	a := filepath.Join(dir, "a")
	if err := os.WriteFile(a, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for what, do := range map[string]func() error{
		"setxattr":  func() error { return unix.Setxattr(a, "user.a", []byte("b"), 0) },
		"getxattr":  func() error { _, err := unix.Getxattr(a, "user.a", nil); return err },
		"listxattr": func() error { _, err := unix.Listxattr(a, nil); return err },
		"times":     func() error { return os.Chtimes(a, time.Unix(1, 0), time.Unix(2, 0)) },
	} {
		if err := do(); !errors.Is(err, syscall.EOPNOTSUPP) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// What is said of a file while programs have it open.
func TestMountedHandles(t *testing.T) {
	writable(t, func(t *testing.T, c *fake, _ *Mount, dir string) {
		name := filepath.Join(dir, "a")
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o444) // as git makes its objects
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString("hello"); err != nil {
			t.Error(err)
		}
		reads(t, name, "hello")
		if st, err := os.Stat(name); err != nil || st.Size() != 5 || st.Mode() != 0o444 {
			t.Errorf("%v, %v", st, err)
		}
		if _, err := f.WriteAt([]byte("far"), 300_000); err != nil {
			t.Error(err)
		}
		reads(t, name, "hello"+strings.Repeat("\x00", 300_000-5)+"far")
		if err := f.Truncate(3); err != nil {
			t.Error(err)
		}
		reads(t, name, "hel")
		if err := unix.Fallocate(int(f.Fd()), 0, 0, 8); err != nil {
			t.Error(err)
		}
		if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 1, 100); err != nil {
			t.Error(err)
		}
		reads(t, name, "h"+strings.Repeat("\x00", 7))
		if err := os.Rename(name, name+"2"); err != nil {
			t.Error(err)
		}
		if _, err := f.WriteAt([]byte("moved, and longer than before"), 0); err != nil {
			t.Error(err)
		}
		if err := f.Sync(); err != nil {
			t.Error(err)
		}
		if got := c.content("a2"); got != "moved, and longer than before" {
			t.Errorf("the service has %q", got)
		}
		add, err := os.OpenFile(name+"2", os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := add.WriteString(", and more"); err != nil {
			t.Error(err)
		}
		if err := add.Close(); err != nil {
			t.Error(err)
		}
		reads(t, name+"2", "moved, and longer than before, and more")
		c.kill(false)
		if _, err := f.WriteAt([]byte("Moved"), 0); err != nil {
			t.Errorf("after a failover: %v", err)
		}
		c.kill(false)
		if err := f.Sync(); !errors.Is(err, syscall.EIO) {
			t.Errorf("fsync of what was lost: %v", err)
		}
		if err := f.Close(); !errors.Is(err, syscall.EIO) {
			t.Errorf("close of what was lost: %v", err)
		}
	})
}

// What was closed is flushed when the mount is gone, and what could not be is said.
func TestUnmountFlushes(t *testing.T) {
	c := newFake()
	m, dir := mountedAs(t, c, Options{})
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := m.Unmount(); err != nil || m.Unsaved() != nil || c.content("a") != "content" || len(c.leases) != 0 {
		t.Errorf("%v, %v, %q, %d leases", err, m.Unsaved(), c.content("a"), len(c.leases))
	}
}
