package mount

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
	"blocktree/fs"
)

// What others do to a file meanwhile, in this mount or by the same service.

// W2: fsync of a handle that is open to read flushes what others of the mount have written, as `sync FILE` asks for; after a loss it fails.
func TestFsyncOfAReader(t *testing.T) {
	both(t, func(t *testing.T, c *fake) {
		a, h := create(t, grow(c), "a", syscall.O_RDWR, 0o644)
		writes(t, h, "written", 0, 0)
		r, _, e := a.Open(t.Context(), syscall.O_RDONLY)
		if e != 0 {
			t.Fatal(e)
		}
		if e := a.Fsync(t.Context(), r, 0); e != 0 || c.content("a") != "written" {
			t.Errorf("%v, the service has %.20q", e, c.content("a"))
		}
		writes(t, h, "more", 0, 0)
		c.kill(false)
		for range 2 {
			if e := a.Fsync(t.Context(), r, 0); e != syscall.EIO {
				t.Errorf("fsync after a loss: %v", e)
			}
		}
		h.Release(t.Context())
		r.(gofs.FileReleaser).Release(t.Context())
	})
}

// grown runs a test with a service that several may write a file by.
func grown(t *testing.T, test func(t *testing.T, c *fake)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		c.grows = true
		test(t, c)
	})
}

// W1: fallocate makes nothing shorter that another writer of the file, by the same service, has made longer.
func TestAllocateCutsNothing(t *testing.T) {
	grown(t, func(t *testing.T, c *fake) {
		_, h := create(t, grow(c), "a", syscall.O_RDWR, 0o644)
		writes(t, h, "mine", 0, 0)
		c.beside("a", "mine, and what somebody else wrote")
		if e := h.Allocate(t.Context(), 0, 10, 0); e != 0 {
			t.Error(e)
		}
		if e := h.sync(t.Context()); e != 0 || c.content("a") != "mine, and what somebody else wrote" {
			t.Errorf("%v, the service has %q", e, c.content("a"))
		}
		if e := h.Allocate(t.Context(), 30, 10, 0); e != 0 {
			t.Error(e)
		}
		h.Release(t.Context())
		if got := c.content("a"); got != "mine, and what somebody else wrote"+strings.Repeat("\x00", 6) {
			t.Errorf("made longer the service has %q", got)
		}
	})
}

// W5: a hole reaches as far as the file does, whoever made it longer; one that begins behind an end that another has set is nothing, and the file goes on.
func TestPunchGoesByTheService(t *testing.T) {
	grown(t, func(t *testing.T, c *fake) {
		_, h := create(t, grow(c), "a", syscall.O_RDWR, 0o644)
		writes(t, h, "1234", 0, 0)
		c.beside("a", "123456789")
		if e := h.Allocate(t.Context(), 2, 100, allocatePunch|allocateKeepSize); e != 0 {
			t.Error(e)
		}
		if got, e := readAll(t, h, 0); e != 0 || got != "12\x00\x00\x00\x00\x00\x00\x00" {
			t.Errorf("%q, %v", got, e)
		}
		c.beside("a", "1")
		if e := h.Allocate(t.Context(), 3, 1, allocatePunch|allocateKeepSize); e != 0 {
			t.Error(e)
		}
		writes(t, h, "again", 0, 0)
		writes(t, h, "end", 9000, 0)
		if e := h.sync(t.Context()); e != 0 || len(c.content("a")) != 9003 {
			t.Errorf("%v, the service has %d bytes", e, len(c.content("a")))
		}
		h.Release(t.Context())
	})
}

// W4: what another writer, by the same service, has made longer is as long here, too, while it is being written here.
func TestLongerBeside(t *testing.T) {
	grown(t, func(t *testing.T, c *fake) {
		dir := grow(c)
		a, h := create(t, dir, "a", syscall.O_RDWR, 0o644)
		writes(t, h, "mine", 0, 0)
		c.beside("a", "mine, and longer")
		var out fuse.AttrOut
		if e := a.Getattr(t.Context(), nil, &out); e != 0 || out.Size != 16 {
			t.Errorf("%d bytes, %v", out.Size, e)
		}
		c.beside("a", "mine, and longer still")
		var entry fuse.EntryOut
		if _, e := dir.Lookup(t.Context(), "a", &entry); e != 0 || entry.Size != 22 {
			t.Errorf("looked up %d bytes, %v", entry.Size, e)
		}
		c.beside("a", "mine, and longer still, it seems")
		if _, _, e := a.Open(t.Context(), syscall.O_WRONLY|syscall.O_APPEND); e != syscall.ESTALE {
			t.Errorf("an append where the kernel takes the end to be: %v", e)
		}
		add := openRW(t, a, syscall.O_APPEND)
		writes(t, add, "!", 32, 0)
		add.Release(t.Context())
		h.Release(t.Context())
		if got := c.content("a"); got != "mine, and longer still, it seems!" {
			t.Errorf("the service has %q", got)
		}
	})
}

// W7: what is appended is not appended again where the connection broke before the answer came: it is there, or not.
func TestAppendOnce(t *testing.T) {
	grown(t, func(t *testing.T, c *fake) {
		a, h := create(t, grow(c), "a", syscall.O_RDWR|syscall.O_APPEND, 0o644)
		writes(t, h, "first ", 0, 0)
		if e := h.sync(t.Context()); e != 0 {
			t.Fatal(e)
		}
		c.cut = true
		writes(t, h, "once", 6, syscall.EIO)
		h.Release(t.Context())
		if got := c.content("a"); got != "first once" {
			t.Errorf("the service has %q", got)
		}
		h = openRW(t, a, 0)
		h.append = true
		c.kill(false) // before it was asked
		writes(t, h, ", twice", 10, 0)
		h.Release(t.Context())
		if got := c.content("a"); got != "first once, twice" {
			t.Errorf("the service has %q", got)
		}
	})
}

// theirs has another file be at a path. The fake's lock is held.
func (c *fake) theirs(name string) {
	c.files[testRoot+blocktree.Path("/"+name)] = &fakeFile{data: []byte("theirs"), info: fs.Info{ID: blocktree.FileID{Generation: 1, Inode: 900}, Length: 6, SizeBytes: 4096, SectorBytes: 4096}}
}

// W7: what is asked for again, and was done, is not done to what has the name by then.
func TestAgainSparesOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake()
		dir := grow(c)
		c.put("a", 10, "mine")
		lookup(t, dir, "a")
		again := func(name string) {
			c.vague, c.between = blocktree.E("fake", blocktree.Unavailable, nil), func() { c.theirs(name) }
		}
		again("a")
		if e := dir.Unlink(t.Context(), "a"); e != 0 || c.content("a") != "theirs" {
			t.Errorf("unlink: %v, %q is there", e, c.content("a"))
		}
		c.put("b", 11, "mine")
		lookup(t, dir, "b")
		again("b")
		if e := dir.Rename(t.Context(), "b", dir, "c", 0); e != 0 || c.content("c") != "mine" || c.content("b") != "theirs" {
			t.Errorf("rename: %v, %q and %q", e, c.content("b"), c.content("c"))
		}
		c.mkdir("d", 12)
		lookup(t, dir, "d")
		again("d")
		if e := dir.Rmdir(t.Context(), "d"); e != 0 || c.content("d") != "theirs" {
			t.Errorf("rmdir: %v", e)
		}
	})
}

// What the kernel means by a name is removed, or it looks again.
func TestUnlinkLooksAgain(t *testing.T) {
	c := newFake()
	c.put("a", 10, "first")
	_, dir := mountedAs(t, c, Options{})
	name := filepath.Join(dir, "a")
	if _, err := os.Stat(name); err != nil {
		t.Fatal(err)
	}
	c.put("a", 11, "second")
	if err := os.Remove(name); err != nil || c.content("a") != "absent" {
		t.Errorf("%v, %q", err, c.content("a"))
	}
}

// A writer that everybody has closed is not opened again by who came for it a moment before: nobody would close that.
func TestClosedStaysClosed(t *testing.T) {
	both(t, func(t *testing.T, c *fake) {
		a, h := create(t, grow(c), "a", syscall.O_RDWR, 0o644)
		writes(t, h, "written", 0, 0)
		w := a.tree.writer(a.id)
		h.Release(t.Context())
		if _, err := w.read(t.Context(), make([]byte, 10), 0); err == nil {
			t.Error("it was read")
		}
		if err := w.sync(t.Context()); err == nil {
			t.Error("it was flushed")
		}
		if len(c.leases) != 0 {
			t.Error("it is open again")
		}
	})
}

// A mode that takes a right from others takes it at once, also while the file is being written; the owner's own right to write goes with the last writer.
func TestModeWhileWritten(t *testing.T) {
	both(t, func(t *testing.T, c *fake) {
		dir := grow(c)
		a, h := create(t, dir, "a", syscall.O_RDWR, 0o644)
		mode := func(name string, want uint32) {
			t.Helper()
			if info, err := c.Stat(t.Context(), testRoot.Join(name)); err != nil || info.Mode != want {
				t.Errorf("mode %o, %v, not %o", info.Mode, err, want)
			}
		}
		var in fuse.SetAttrIn
		var out fuse.AttrOut
		in.Valid, in.Mode = fuse.FATTR_MODE, 0o400
		if e := a.Setattr(t.Context(), nil, &in, &out); e != 0 || out.Mode&0o777 != 0o400 {
			t.Errorf("chmod: %v, mode %o", e, out.Mode)
		}
		mode("a", 0o600)
		c.fail(blocktree.E("fake", blocktree.Permission, nil))
		if e := a.Setattr(t.Context(), nil, &in, &out); e != syscall.EPERM {
			t.Errorf("chmod by who may not: %v", e)
		}
		c.fail(nil)
		c.closing = func() {
			if e := a.Getattr(t.Context(), nil, &out); e != 0 || out.Mode&0o777 != 0o400 {
				t.Errorf("while it is closed: %v, mode %o", e, out.Mode)
			}
		}
		h.Release(t.Context())
		c.closing = nil
		mode("a", 0o400)
		var entry fuse.EntryOut
		i, r, _, e := dir.Create(t.Context(), "b", syscall.O_RDONLY, 0o400, &entry)
		if e != 0 || i == nil || entry.Mode&0o777 != 0o400 {
			t.Fatal(e, entry.Mode)
		}
		mode("b", 0o400)
		r.(gofs.FileReleaser).Release(t.Context())
	})
}

// What is mapped is written where it is, also by the handle of who appends. (No test maps: the mount is of its own process, which then waits for itself.)
func TestMappedByWhoAppends(t *testing.T) {
	both(t, func(t *testing.T, c *fake) {
		_, h := create(t, grow(c), "a", syscall.O_RDWR|syscall.O_APPEND, 0o644)
		writes(t, h, "0123456789", 0, 0)
		for flags, want := range map[uint32]syscall.Errno{0: syscall.ESTALE, fuse.WRITE_CACHE: 0} {
			in := fuse.WriteIn{WriteFlags: flags}
			in.Pid = 7
			mark(&in)
			if _, e := h.Write(&fuse.Context{Caller: in.Caller}, []byte("page"), 2); e != want {
				t.Errorf("flags %d: %v", flags, e)
			}
		}
		_ = h.sync(t.Context()) // it tells of the one that failed
		h.Release(t.Context())
		if got := c.content("a"); got != "01page6789" {
			t.Errorf("the service has %q", got)
		}
	})
}
