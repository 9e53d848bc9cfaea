package mount

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
)

// W9: a link says where it leads, is asked for once, and is no other of its name; what may have been made is not said to be there.
func TestSymlinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAble()
		dir := grow(a)
		var out fuse.EntryOut
		i, e := dir.Symlink(t.Context(), "d/a", "l", &out)
		if e != 0 || out.Mode != syscall.S_IFLNK|0o777 || out.Size != 3 {
			t.Fatalf("%v, mode %o, size %d", e, out.Mode, out.Size)
		}
		dir.AddChild("l", i, true)
		l := i.Operations().(*node)
		for range 3 {
			if got, e := l.Readlink(t.Context()); e != 0 || string(got) != "d/a" {
				t.Errorf("it leads to %q, %v", got, e)
			}
		}
		if a.looks != 1 {
			t.Errorf("it was asked for %d times", a.looks)
		}
		h, _, _ := dir.OpendirHandle(t.Context(), 0)
		if entry, e := h.(*listing).Readdirent(t.Context()); e != 0 || entry.Name != "l" || entry.Mode != syscall.S_IFLNK {
			t.Errorf("listed %+v, %v", entry, e)
		}
		h.(*listing).Releasedir(t.Context(), 0)

		if _, e := dir.Symlink(t.Context(), "x", "l", &out); e != syscall.EEXIST {
			t.Errorf("over a link: %v", e)
		}
		a.vague = blocktree.E("fake", blocktree.Unavailable, nil)
		if _, e := dir.Symlink(t.Context(), "x", "m", &out); e != syscall.EIO {
			t.Errorf("made by whom nobody knows: %v", e)
		}
		m := lookup(t, dir, "m")
		_ = a.Remove(t.Context(), testRoot.Join("m"))
		_ = a.Symlink(t.Context(), testRoot.Join("m"), "other")
		if got, e := m.Readlink(t.Context()); e != syscall.ESTALE {
			t.Errorf("another link of its name: %q, %v", got, e)
		}
		if _, e := grow(a.fake).Symlink(t.Context(), "x", "n", &out); e != syscall.EPERM {
			t.Errorf("where there are none: %v", e)
		}
	})
}

// W9, by the kernel, which follows them.
func TestMountedLinks(t *testing.T) {
	a := newAble()
	_, dir := mountedAs(t, a, Options{})
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.Mkdir(at("d"), 0o755), os.WriteFile(at("d/a"), []byte("content"), 0o644), os.Symlink("a", at("d/l")), os.Symlink("d", at("e")), os.Symlink("loop", at("loop")), os.Symlink("none", at("dangling"))); err != nil {
		t.Fatal(err)
	}
	reads(t, at("e/l"), "content")
	if err := os.WriteFile(at("e/l"), []byte("by the link"), 0o644); err != nil {
		t.Error(err)
	}
	reads(t, at("d/a"), "by the link")
	if st, err := os.Lstat(at("d/l")); err != nil || st.Mode() != os.ModeSymlink|0o777 || st.Size() != 1 {
		t.Errorf("%v, %v", st, err)
	}
	if target, err := os.Readlink(at("d/l")); err != nil || target != "a" {
		t.Errorf("it leads to %q, %v", target, err)
	}
	entries, err := os.ReadDir(at("d"))
	if err != nil || len(entries) != 2 || entries[1].Type() != os.ModeSymlink {
		t.Errorf("listed %v, %v", entries, err)
	}
	for what, x := range map[string]struct{ got, want error }{
		"loop":      {second(os.ReadFile(at("loop"))), syscall.ELOOP},
		"dangling":  {second(os.ReadFile(at("dangling"))), syscall.ENOENT},
		"once more": {os.Symlink("x", at("e")), syscall.EEXIST},
		"rename":    {os.Rename(at("d/l"), at("l")), nil},
		"remove":    {os.Remove(at("e")), nil},
	} {
		if !errors.Is(x.got, x.want) && (x.got != nil || x.want != nil) {
			t.Errorf("%s: %v, not %v", what, x.got, x.want)
		}
	}
	reads(t, at("d/a"), "by the link")
}

func second[T any](_ T, err error) error { return err }
