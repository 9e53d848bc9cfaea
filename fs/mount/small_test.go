package mount

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
	"blocktree/fs"
)

// Make is Create that says which file it made.
func (a *able) Make(ctx context.Context, path blocktree.Path, o fs.CreateOptions) (blocktree.FileID, error) {
	if err := a.Create(ctx, path, o); err != nil {
		return blocktree.FileID{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.files[path].info.ID, nil
}

// MakeOpen makes an empty file, and opens it.
func (a *able) MakeOpen(_ context.Context, path blocktree.Path, o fs.CreateOptions) (f fs.File, err error) {
	err = a.change(func() error {
		a.log = append(a.log, "make")
		if a.makes != nil {
			if err := a.makes(); err != nil {
				return err
			}
		}
		if err := a.add(path, fs.Info{Mode: o.Mode, SizeBytes: o.SizeBytes, SectorBytes: o.SectorBytes, Encrypted: true}); err != nil {
			return err
		}
		x := a.files[path]
		w := &opened{fake: a.fake, path: path, info: x.info, file: x, hidden: a.hides}
		if a.hides {
			delete(a.files, path)
		}
		a.leases[x.info.ID] = w
		x.epoch++
		w.epoch = x.epoch
		f = &growing{w}
		if a.epochs && o.Tell {
			f = &telling{&growing{w}, w.epoch, 0}
			if a.shared {
				f = &telling{&growing{w}, 0, 0}
			}
		}
		return nil
	})
	return f, err
}

// closer is the context of a request of a process of its own, or of this one.
func closer(mine bool) *fuse.Context {
	c := &fuse.Context{Cancel: make(chan struct{})}
	if c.Pid = uint32(os.Getpid()); !mine {
		c.Pid = uint32(os.Getppid())
	}
	return c
}

// W13: what a small file costs in requests.
func TestSmallFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAble()
		a.epochs = true
		_, h := create(t, grow(a), "a", syscall.O_WRONLY, 0o644)
		h.by = os.Getpid()
		writes(t, h, strings.Repeat("x", 1024), 0, 0)
		if e := h.Flush(closer(true)); e != 0 {
			t.Error(e)
		}
		h.Release(t.Context())
		if took := a.took(); took != "make, write and finish" {
			t.Errorf("it took %s", took)
		}
		if f := a.files[testRoot.Join("a")]; len(f.data) != 1024 || len(a.leases) != 0 {
			t.Errorf("%d bytes, %d leases", len(f.data), len(a.leases))
		}
		a.log = nil
		_, h = create(t, grow(a), "b", syscall.O_WRONLY, 0o644)
		h.by = os.Getpid()
		_ = h.Flush(closer(true))
		h.Release(t.Context())
		if want := []string{"make", "flush", "close"}; !slices.Equal(a.log, want) {
			t.Errorf("an empty one took %v, not %v", a.log, want)
		}
	})
}

// N2 of 0072: a new file whose process wrote no more to the one before after its first fsync is finished by that, and closed by nothing; who goes on is taken at his word the next time.
func TestFsyncThatIsTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAble()
		dir := grow(a)
		made := 0
		one := func(more bool, sync func(*writing) syscall.Errno, want ...string) {
			t.Helper()
			name, content := string(rune('a'+made)), "x"
			made++
			a.log = nil
			_, h := create(t, dir, name, syscall.O_WRONLY, 0o644)
			h.by = os.Getpid()
			writes(t, h, "x", 0, 0)
			if e := sync(h); e != 0 {
				t.Error(e)
			}
			if got := a.content(name); got != content {
				t.Errorf("it is %q when it was flushed", got)
			}
			if more {
				writes(t, h, "y", 1, 0)
				content = "xy"
			}
			if e := h.Flush(closer(true)); e != 0 {
				t.Error(e)
			}
			h.Release(t.Context())
			if got := a.content(name); got != content || len(a.leases) != 0 {
				t.Errorf("%q at the end, %d leases", got, len(a.leases))
			}
			if !slices.Equal(a.log, want) {
				t.Errorf("file %s took %v, not %v", name, a.log, want)
			}
		}
		fsync := func(h *writing) syscall.Errno { return h.node.Fsync(closer(true), h, 0) }
		one(false, fsync, "make", "write", "flush", "close")
		one(false, fsync, "make", "write", "finish")
		one(false, fsync, "make", "write", "finish")
		one(false, func(h *writing) syscall.Errno { return h.node.Fsync(closer(false), h, 0) }, "make", "write", "flush", "close") // by another process than the one that opened it
		one(true, fsync, "make", "write", "finish", "open", "write", "flush", "close")
		one(true, fsync, "make", "write", "flush", "write", "finish")
		one(false, fsync, "make", "write", "flush", "close")
		one(false, fsync, "make", "write", "finish")
		one(false, func(h *writing) syscall.Errno { // a time that is set has flushed what was written before, too
			in := fuse.SetAttrIn{}
			in.Valid, in.Mtime = fuse.FATTR_MTIME, 1000
			return h.node.Setattr(closer(true), h, &in, &fuse.AttrOut{})
		}, "make", "write", "finish", "stat")
	})
}

// W14: a close that was not the last one takes nothing: what has the file open yet goes on, of one process (a copy of the descriptor) or of another.
func TestCloseThatIsNotTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAble()
		n, h := create(t, grow(a), "a", syscall.O_RDWR, 0o400)
		h.by = os.Getpid()
		for i, mine := range []bool{false, true, true} {
			writes(t, h, "x", int64(i), 0)
			if e := h.Flush(closer(mine)); e != 0 {
				t.Error(i, e)
			}
		}
		if e := h.Flush(closer(true)); e != 0 { // nothing more was written
			t.Error(e)
		}
		if f := a.files[testRoot.Join("a")]; string(f.data) != "xxx" || f.info.Mode != 0o600 {
			t.Errorf("%q, mode %o", f.data, f.info.Mode)
		}
		if r, e := h.Read(t.Context(), make([]byte, 9), 0); e != 0 || r.Size() != 3 {
			t.Error(r, e)
		}
		h.Release(t.Context())
		if want := []string{"make", "write", "flush", "write", "finish", "open", "write", "flush", "close"}; !slices.Equal(a.log, want) {
			t.Errorf("it took %v, not %v", a.log, want)
		}
		if n.tree.broken.Load() {
			t.Error("it counts as a failure of the service")
		}
	})
}

// P5 of 0068: also what is made to be read only, or by mknod, is empty by what made it, and not by its name, which may be another's by then.
func TestMakesByHandle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAble()
		dir := grow(a)
		var out fuse.EntryOut
		_, r, _, e := dir.Create(t.Context(), "a", syscall.O_RDONLY, 0o400, &out)
		if e != 0 {
			t.Fatal(e)
		}
		r.(gofs.FileReleaser).Release(t.Context())
		if _, e := dir.Mknod(t.Context(), "b", syscall.S_IFREG|0o644, 0, &out); e != 0 {
			t.Error(e)
		}
		for name, mode := range map[string]uint32{"a": 0o400, "b": 0o644} {
			if f := a.files[testRoot.Join(name)]; f.info.Length != 0 || f.info.Mode != mode {
				t.Errorf("%s: %+v", name, f.info)
			}
		}
		if slices.Contains(a.log, "length") || len(a.leases) != 0 {
			t.Errorf("%v, %d leases", a.log, len(a.leases))
		}
	})
}

// W14 beside U7 of 0066, and 0060, item 10: what has a file open after a close that was not the last one goes on when it is removed, and when its owner may not write it any more.
func TestGoesOnAfterAClose(t *testing.T) {
	for what, test := range map[string]func(t *testing.T, a *able, dir, n *node) (mode uint32){
		"removed": func(t *testing.T, _ *able, dir, _ *node) uint32 {
			if e := dir.Unlink(t.Context(), "a"); e != 0 {
				t.Error(e)
			}
			return 0
		},
		"only to be read": func(t *testing.T, a *able, _, n *node) uint32 {
			var in fuse.SetAttrIn
			var out fuse.AttrOut
			in.Valid, in.Mode = fuse.FATTR_MODE, 0o440
			if e := n.Setattr(t.Context(), nil, &in, &out); e != 0 || out.Mode&0o777 != 0o440 {
				t.Errorf("%v, mode %o", e, out.Mode)
			}
			if f := a.files[testRoot.Join("a")]; f.info.Mode != 0o640 {
				t.Errorf("the service has mode %o", f.info.Mode)
			}
			return 0o440
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			a := newAble()
			a.keeps = true
			dir := grow(a)
			n, h := create(t, dir, "a", syscall.O_RDWR, 0o644)
			h.by = os.Getpid()
			writes(t, h, "x", 0, 0)
			if e := h.Flush(closer(true)); e != 0 || len(a.leases) != 0 {
				t.Error(what, e, len(a.leases))
			}
			mode := test(t, a, dir, n)
			writes(t, h, "y", 1, 0)
			if got, e := readAll(t, h, 0); e != 0 || got != "xy" {
				t.Errorf("%s: %q, %v", what, got, e)
			}
			if e := h.Flush(closer(true)); e != 0 {
				t.Error(what, e)
			}
			h.Release(t.Context())
			if f := a.files[testRoot.Join("a")]; len(a.leases) != 0 || (f != nil) != (mode != 0) || f != nil && f.info.Mode != mode {
				t.Errorf("%s: %+v, %d leases", what, f, len(a.leases))
			}
		})
	}
}

// What was removed before its last close gets no mode, and that is no failure of the mount.
func TestModeOfWhatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAble()
		n, h := create(t, grow(a), "a", syscall.O_RDWR, 0o400)
		h.by = os.Getpid()
		writes(t, h, "x", 0, 0)
		if e := h.Flush(closer(true)); e != 0 {
			t.Error(e)
		}
		if err := a.Remove(t.Context(), testRoot.Join("a")); err != nil { // by somebody else
			t.Error(err)
		}
		h.Release(t.Context())
		if err := n.tree.unsaved.Load(); err != nil {
			t.Error(*err)
		}
	})
}

// W1: what a close could not flush is told by it, and by whoever has the file open yet.
func TestCloseThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAble()
		_, h := create(t, grow(a), "a", syscall.O_RDWR, 0o600)
		h.by = os.Getpid()
		writes(t, h, "x", 0, 0)
		a.stuck = blocktree.E("fake", blocktree.Fenced, nil)
		if e := h.Flush(closer(true)); e != syscall.EIO {
			t.Error(e)
		}
		writes(t, h, "y", 1, syscall.EIO)
		if e := h.Flush(closer(true)); e != syscall.EIO {
			t.Error(e)
		}
		h.Release(t.Context())
	})
}

// W13, by the kernel: it looks before, and what it is told of the new file is so.
func TestMountedSmallFile(t *testing.T) {
	a := newAble()
	a.epochs = true
	m, dir := mountedAs(t, a, Options{})
	name := filepath.Join(dir, "a")
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := f.Stat(); err != nil || st.Size() != 0 || st.Mode() != 0o640 {
		t.Errorf("%v, %v", st, err)
	}
	if _, err := f.Write(make([]byte, 1024)); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(name); err != nil || st.Size() != 1024 {
		t.Errorf("%v, %v", st, err)
	}
	if err := m.Unmount(); err != nil {
		t.Error(err)
	}
	if took := strings.ReplaceAll(a.took(), "stat, ", ""); !strings.HasPrefix(took, "make, write and finish") {
		t.Errorf("it took %s", took)
	}
}

// finished is a file that was closed for good, as it seemed, and of which a program has a copy of the descriptor.
func finished(t *testing.T, dir *node, content string) (*node, *writing) {
	t.Helper()
	n, h := create(t, dir, "a", syscall.O_RDWR, 0o644)
	h.by = os.Getpid()
	writes(t, h, content, 0, 0)
	if e := h.Flush(closer(true)); e != 0 {
		t.Fatal(e)
	}
	if h.writer.isOpen() {
		t.Fatal("it is open")
	}
	return n, h
}

// W14: what was closed, and is removed or replaced by this mount, is kept for who has a copy of the descriptor, and costs no more where nobody has.
func TestFinishedAndRemoved(t *testing.T) {
	for name, take := range map[string]func(dir *node) syscall.Errno{
		"removed": func(dir *node) syscall.Errno { return dir.Unlink(t.Context(), "a") },
		"replaced": func(dir *node) syscall.Errno {
			_, h := create(t, dir, "b", syscall.O_RDWR, 0o644)
			h.Release(t.Context())
			return dir.Rename(t.Context(), "b", dir, "a", 0)
		},
	} {
		for _, copied := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				a := newAble()
				a.keeps = true
				dir := grow(a)
				n, h := finished(t, dir, "before")
				if !copied {
					h.Release(t.Context())
				}
				a.log = nil
				if e := take(dir); e != 0 {
					t.Fatalf("%s: %v", name, e)
				}
				if opened := slices.Contains(a.log, "open"); opened != copied {
					t.Errorf("%s, a copy is there %v: it took %v", name, copied, a.log)
				}
				if !copied {
					return
				}
				writes(t, h, " and after", 6, 0)
				if got, e := readAll(t, h, 0); e != 0 || got != "before and after" {
					t.Errorf("%s: %q, %v", name, got, e)
				}
				var out fuse.AttrOut
				if e := n.Getattr(t.Context(), h, &out); e != 0 || out.Nlink != 0 {
					t.Errorf("%s: %v, %d links", name, e, out.Nlink)
				}
				if e := h.Flush(closer(true)); e != 0 {
					t.Errorf("%s: close: %v", name, e)
				}
				h.Release(t.Context())
				if a.opens > a.closed || len(a.leases) != 0 {
					t.Errorf("%s: %d opened, %d closed, %d leases", name, a.opens, a.closed, len(a.leases))
				}
			})
		}
	}
}

// W14: a close while the name is being taken is no finish: nobody would find the file again.
func TestNotFinishedWhileItLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAble()
		a.keeps = true
		dir := grow(a)
		n, h := create(t, dir, "a", syscall.O_RDWR, 0o644)
		h.by = os.Getpid()
		writes(t, h, "before", 0, 0)
		err := n.tree.parked(t.Context(), n, func() error {
			if e := h.Flush(closer(true)); e != 0 {
				t.Error(e)
			}
			return a.RemoveFile(t.Context(), testRoot.Join("a"), n.id)
		})
		if n.lost(err); err != nil {
			t.Fatal(err)
		}
		writes(t, h, "after", 0, 0)
		h.Release(t.Context())
	})
}

// W14: who opens a file that was finished and is used yet is told what is in the way then, not at his first write.
func TestFinishedIsOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAble()
		n, h := finished(t, grow(a), "before")
		other, err := a.Open(t.Context(), testRoot.Join("a"), fs.OpenOptions{Write: true}) // another mount's
		if err != nil {
			t.Fatal(err)
		}
		if _, _, e := n.Open(t.Context(), syscall.O_WRONLY); e != syscall.EBUSY {
			t.Errorf("it is opened beside another: %v", e)
		}
		_ = other.Close() // nothing was written
		again := openRW(t, n, 0)
		if !again.writer.isOpen() || again.writer != h.writer {
			t.Error("it is not open, or twice")
		}
		again.Release(t.Context())
		writes(t, h, "x", 0, 0)
		h.Release(t.Context())
		if got := a.content("a"); got != "xefore" || len(a.leases) != 0 {
			t.Errorf("%q, %d leases", got, len(a.leases))
		}
	})
}
