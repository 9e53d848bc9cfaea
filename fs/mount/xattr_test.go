package mount

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"blocktree"
)

// W11: attributes of users are those of the service, each failure has its errno, and of others no service is asked.
func TestMountedXattrs(t *testing.T) {
	c := newAble()
	_, dir := mountedAs(t, c, Options{})
	a := filepath.Join(dir, "a")
	if err := os.WriteFile(a, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	set := func(name, value string, flags int) func() error {
		return func() error { return unix.Setxattr(a, name, []byte(value), flags) }
	}
	get := func(name string, bytes int) func() error {
		return func() error { _, err := unix.Getxattr(a, name, make([]byte, bytes)); return err }
	}
	for _, x := range []struct {
		what string
		do   func() error
		want error
	}{
		{"none yet", get("user.a", 10), syscall.ENODATA},
		{"replace none", set("user.a", "x", unix.XATTR_REPLACE), syscall.ENODATA},
		{"remove none", func() error { return unix.Removexattr(a, "user.a") }, syscall.ENODATA},
		{"create", set("user.a", "first", unix.XATTR_CREATE), nil},
		{"create again", set("user.a", "x", unix.XATTR_CREATE), syscall.EEXIST},
		{"replace", set("user.a", "longer than before", unix.XATTR_REPLACE), nil},
		{"no room", get("user.a", 3), syscall.ERANGE},
		{"another", set("user.b", "", 0), nil},
		{"too long", set("user.c", strings.Repeat("x", 64<<10), 0), syscall.E2BIG},
		{"of root", set("trusted.a", "x", 0), syscall.EOPNOTSUPP},
		{"of the system", set("security.a", "x", 0), syscall.EOPNOTSUPP},
		{"of root, read", get("trusted.a", 10), syscall.EOPNOTSUPP},
		{"of the system, read", get("security.capability", 10), syscall.EOPNOTSUPP},
		{"of the system, removed", func() error { return unix.Removexattr(a, "security.a") }, syscall.EOPNOTSUPP},
		{"list, no room", func() error { _, err := unix.Listxattr(a, make([]byte, 3)); return err }, syscall.ERANGE},
		{"of a directory", func() error { return unix.Setxattr(dir, "user.d", []byte("x"), 0) }, nil},
	} {
		if err := x.do(); !errors.Is(err, x.want) && (err != nil || x.want != nil) {
			t.Errorf("%s: %v, not %v", x.what, err, x.want)
		}
	}
	buf := make([]byte, 100)
	if n, err := unix.Getxattr(a, "user.a", buf); err != nil || string(buf[:max(n, 0)]) != "longer than before" {
		t.Errorf("%q, %v", buf[:max(n, 0)], err)
	}
	if n, err := unix.Getxattr(a, "user.a", nil); err != nil || n != len("longer than before") {
		t.Errorf("its length is %d, %v", n, err)
	}
	if n, err := unix.Listxattr(a, buf); err != nil || string(buf[:max(n, 0)]) != "user.a\x00user.b\x00" {
		t.Errorf("%q, %v", buf[:max(n, 0)], err)
	}
	if err := unix.Removexattr(a, "user.a"); err != nil {
		t.Error(err)
	}
	if n, err := unix.Listxattr(a, buf); err != nil || string(buf[:max(n, 0)]) != "user.b\x00" {
		t.Errorf("%q, %v", buf[:max(n, 0)], err)
	}
}

// W11, where an answer is missing, and where no service is asked.
func TestXattrsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newAble()
		a, h := create(t, grow(c), "a", syscall.O_RDWR, 0o644)
		h.Release(t.Context())
		vague := func() { c.vague = blocktree.E("fake", blocktree.Unavailable, nil) }
		vague()
		if e := a.Setxattr(t.Context(), "user.a", []byte("x"), 0); e != 0 {
			t.Errorf("set: %v", e)
		}
		vague()
		if e := a.Setxattr(t.Context(), "user.b", []byte("x"), xattrCreate); e != syscall.EIO {
			t.Errorf("made by whom nobody knows: %v", e)
		}
		vague()
		if e := a.Removexattr(t.Context(), "user.a"); e != 0 {
			t.Errorf("removed: %v", e)
		}
		before := c.looks
		for range 3 {
			if _, e := a.Getxattr(t.Context(), "security.capability", nil); e != syscall.EOPNOTSUPP {
				t.Errorf("security.capability: %v", e)
			}
		}
		if c.looks != before {
			t.Errorf("a service was asked")
		}
		_ = c.Remove(t.Context(), testRoot.Join("a"))
		if _, e := a.Getxattr(t.Context(), "user.a", nil); e != syscall.ENOENT {
			t.Errorf("of a file that is gone: %v", e)
		}
	})
}
