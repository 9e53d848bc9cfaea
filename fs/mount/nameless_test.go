package mount

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
)

// keeping runs a test with a service that keeps what is removed for those who have it open.
func keeping(t *testing.T, test func(t *testing.T, c *fake, dir *node)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		c.grows, c.keeps = true, true
		test(t, c, grow(c))
	})
}

// TestNameless: U7 of 0066. What is removed, or replaced, is described by what has it open, without links; what is set of it reaches nobody else; and another file of its name is another.
func TestNameless(t *testing.T) {
	for name, take := range map[string]func(dir *node) syscall.Errno{
		"removed": func(dir *node) syscall.Errno { return dir.Unlink(t.Context(), "a") },
		"replaced": func(dir *node) syscall.Errno {
			_, h := create(t, dir, "b", syscall.O_RDWR, 0o644)
			writes(t, h, "another", 0, 0)
			h.Release(t.Context())
			return dir.Rename(t.Context(), "b", dir, "a", 0)
		},
	} {
		keeping(t, func(t *testing.T, c *fake, dir *node) {
			a, h := create(t, dir, "a", syscall.O_RDWR, 0o644)
			writes(t, h, "before", 0, 0)
			if e := h.sync(t.Context()); e != 0 {
				t.Fatal(e)
			}
			r, _, e := a.Open(t.Context(), syscall.O_RDONLY)
			if e != 0 {
				t.Fatal(e)
			}
			if e := take(dir); e != 0 {
				t.Fatalf("%s: %v", name, e)
			}
			left := c.content("a")
			writes(t, h, "after", 6, 0)
			for what, f := range map[string]gofs.FileHandle{"written": h, "read": r} {
				var out fuse.AttrOut
				if e := a.Getattr(t.Context(), f, &out); e != 0 || out.Nlink != 0 || out.Size != 11 {
					t.Errorf("%s, by what is %s: %v, %d links, %d bytes", name, what, e, out.Nlink, out.Size)
				}
			}
			var in fuse.SetAttrIn
			var out fuse.AttrOut
			in.Valid, in.Mode, in.Size = fuse.FATTR_MODE|fuse.FATTR_SIZE, 0o400, 8
			if e := a.Setattr(t.Context(), h, &in, &out); e != 0 || out.Mode&0o777 != 0o400 || out.Size != 8 {
				t.Errorf("%s: it is cut: %v, mode %o, %d bytes", name, e, out.Mode, out.Size)
			}
			if got, e := readAll(t, h, 0); e != 0 || got != "beforeaf" {
				t.Errorf("%s: %q, %v", name, got, e)
			}
			if _, _, e := a.Open(t.Context(), syscall.O_RDONLY); e != syscall.ESTALE {
				t.Errorf("%s: opened again: %v", name, e)
			}
			if e := h.Flush(t.Context()); e != 0 {
				t.Errorf("%s: close: %v", name, e)
			}
			h.Release(t.Context())
			p := make([]byte, 20)
			res, e := r.(gofs.FileReader).Read(t.Context(), p, 0)
			if e != 0 {
				t.Fatalf("%s: read by who only reads: %v", name, e)
			}
			if got, _ := res.Bytes(p); string(got) != "beforeaf" {
				t.Errorf("%s: read by who only reads: %q", name, got)
			}
			r.(gofs.FileReleaser).Release(t.Context())
			if got := c.content("a"); got != left || c.opens != c.closed || len(c.leases) != 0 {
				t.Errorf("%s: the name has %q, not %q; %d opened, %d closed", name, got, left, c.opens, c.closed)
			}
		})
	}
}

// TestNamelessLoss: W1 of 0060, of what has no name: when its service is gone it is not found again, and nothing is passed over.
func TestNamelessLoss(t *testing.T) {
	keeping(t, func(t *testing.T, c *fake, dir *node) {
		a, h := create(t, dir, "a", syscall.O_RDWR, 0o644)
		writes(t, h, "before", 0, 0)
		if e := dir.Unlink(t.Context(), "a"); e != 0 {
			t.Fatal(e)
		}
		c.put("a", 900, "another's")
		c.kill(false)
		writes(t, h, "after", 0, syscall.EIO)
		var out fuse.AttrOut
		if e := a.Getattr(t.Context(), h, &out); e == 0 {
			t.Error("it is described")
		}
		if e := h.sync(t.Context()); e != syscall.EIO {
			t.Errorf("fsync: %v", e)
		}
		h.Release(t.Context())
		if got := c.content("a"); got != "another's" {
			t.Errorf("another's file has %q", got)
		}
	})
}

// TestMountedUnlink: U7 of 0066, by the kernel.
func TestMountedUnlink(t *testing.T) {
	c := newFake()
	c.grows, c.keeps = true, true
	_, dir := mountedAs(t, c, Options{})
	name := filepath.Join(dir, "a")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("here is "); err != nil {
		t.Fatal(err)
	}
	r, err := os.Open(name) // as the shell does for a here-document
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the name: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("listed %v, %v", entries, err)
	}
	if _, err := f.WriteString("a document"); err != nil {
		t.Error(err)
	}
	for what, f := range map[string]*os.File{"written": f, "read": r} {
		if st, err := f.Stat(); err != nil || st.Sys().(*syscall.Stat_t).Nlink != 0 || st.Size() != 18 {
			t.Errorf("what is %s: %+v, %v", what, st, err)
		}
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != "here is a document" {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.WriteFile(name, []byte("another"), 0o600); err != nil {
		t.Error(err)
	}
	if err := errors.Join(f.Truncate(4), f.Chmod(0o400), f.Sync(), f.Close(), r.Close()); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != "another" {
		t.Errorf("%q, %v", got, err)
	}
}

// overtaken is a fake where somebody else gives another name to what is about to be replaced, and makes another file by its name.
type overtaken struct {
	*fake
	once sync.Once
}

func (c *overtaken) Rename(ctx context.Context, from, to blocktree.Path, keep bool) (err error) {
	c.once.Do(func() {
		err = c.fake.Rename(ctx, to, testRoot.Join("c"), false)
		c.put(to.Base(), 902, "another's")
	})
	if err != nil {
		return err
	}
	return c.fake.Rename(ctx, from, to, keep)
}

// TestReplacedByAnotherName: what the kernel took to be replaced had another name by then, by somebody else's doing: it is found by that.
func TestReplacedByAnotherName(t *testing.T) {
	c := &overtaken{fake: newFake()}
	c.grows, c.keeps = true, true
	c.put("a", 900, "new")
	c.put("b", 901, "old")
	_, dir := mountedAs(t, c, Options{})
	name := func(n string) string { return filepath.Join(dir, n) }
	f, err := os.Open(name("b")) // so that the kernel knows it on
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name("a"), name("b")); err != nil {
		t.Fatal(err)
	}
	for n, want := range map[string]string{"b": "new", "c": "old"} {
		if got, err := os.ReadFile(name(n)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", n, got, err)
		}
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// TestSetByIdentity: U8 of 0066. Times and attributes that are set of what is open reach it, when it was removed and when somebody else has given its name to another file, and no other.
func TestSetByIdentity(t *testing.T) {
	for name, take := range map[string]func(c *able, dir *node){
		"removed here": func(c *able, dir *node) {
			if e := dir.Unlink(t.Context(), "a"); e != 0 {
				t.Error(e)
			}
			c.put("a", 900, "another's")
		},
		"renamed and replaced elsewhere": func(c *able, dir *node) {
			if err := c.fake.Rename(t.Context(), testRoot.Join("a"), testRoot.Join("b"), false); err != nil {
				t.Error(err)
			}
			c.put("a", 900, "another's")
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := newAble()
			c.keeps = true
			dir := grow(identified{c})
			a, h := create(t, dir, "a", syscall.O_RDWR, 0o644)
			if e := h.sync(t.Context()); e != 0 { // others see it
				t.Fatal(e)
			}
			id := a.id
			take(c, dir)
			file, other := c.leases[id].file, c.files[testRoot.Join("a")]
			was := other.info.Modified
			if e := setTime(t, a, time.Unix(1000, 0), 0); e != 0 && e != syscall.ESTALE { // which is fstat's, of a name that is another's
				t.Errorf("%s: its time: %v", name, e)
			}
			if file.info.Modified != 1000e9 || other.info.Modified != was {
				t.Errorf("%s: the file is of %d, the other of %d", name, file.info.Modified, other.info.Modified)
			}
			if e := a.Setxattr(t.Context(), "user.a", []byte("its own"), 0); e != 0 {
				t.Errorf("%s: an attribute: %v", name, e)
			}
			buf := make([]byte, 20)
			if n, e := a.Getxattr(t.Context(), "user.a", buf); e != 0 || string(buf[:n]) != "its own" || len(c.xattrs[other.info.ID]) != 0 {
				t.Errorf("%s: %q, %v, the other has %v", name, buf[:n], e, c.xattrs[other.info.ID])
			}
			if n, e := a.Listxattr(t.Context(), buf); e != 0 || string(buf[:n]) != "user.a\x00" {
				t.Errorf("%s: %q, %v", name, buf[:n], e)
			}
			if e := a.Removexattr(t.Context(), "user.a"); e != 0 || len(c.xattrs[id]) != 0 {
				t.Errorf("%s: removed: %v, %v", name, e, c.xattrs[id])
			}
			modeByIdentity(t, name, a, h, file, other)
		})
	}
}

// modeByIdentity sets modes of what is open: one that is given at once, and one that is given when it is closed.
func modeByIdentity(t *testing.T, name string, a *node, h *writing, file, other *fakeFile) {
	t.Helper()
	was, nameless := other.info.Mode, a.isNameless()
	for _, mode := range []uint32{0o640, 0o440} {
		in := &fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{Valid: fuse.FATTR_MODE, Mode: mode}}
		if e := a.Setattr(t.Context(), h, in, &fuse.AttrOut{}); e != 0 {
			t.Errorf("%s: mode %o: %v", name, mode, e)
		}
		if mode == 0o440 {
			h.Release(t.Context())
		}
		if other.info.Mode != was || !nameless && file.info.Mode != mode { // of what has no name nobody sees the mode
			t.Errorf("%s: mode %o: the file has %o, the other %o", name, mode, file.info.Mode, other.info.Mode)
		}
	}
}
