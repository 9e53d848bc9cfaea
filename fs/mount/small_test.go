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

// W13: what a small file costs in requests.
func TestSmallFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAble()
		_, h := create(t, grow(a), "a", syscall.O_WRONLY, 0o644)
		writes(t, h, strings.Repeat("x", 1024), 0, 0)
		if e := h.Flush(t.Context()); e != 0 {
			t.Error(e)
		}
		h.Release(t.Context())
		if want := []string{"create", "length", "open", "write", "flush", "close"}; !slices.Equal(a.log, want) {
			t.Errorf("it took %v, not %v", a.log, want)
		}
		a.log = nil
		_, h = create(t, grow(a), "b", syscall.O_WRONLY, 0o644)
		_ = h.Flush(t.Context())
		h.Release(t.Context())
		if want := []string{"create", "length", "open", "close"}; !slices.Equal(a.log, want) {
			t.Errorf("an empty one took %v, not %v", a.log, want)
		}
	})
}

// W13, by the kernel: it looks before, and what it is told of the new file is so.
func TestMountedSmallFile(t *testing.T) {
	a := newAble()
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
	a.mu.Lock()
	defer a.mu.Unlock()
	got := slices.DeleteFunc(slices.Clone(a.log), func(what string) bool { return what == "stat" })
	if want := []string{"create", "length", "open", "write", "flush", "close"}; !slices.Equal(got, want) {
		t.Errorf("it took %v, not %v and looks", a.log, want)
	}
}
