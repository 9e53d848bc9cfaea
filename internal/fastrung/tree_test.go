package fastrung

import (
	"bytes"
	"context"
	"errors"
	"io"
	iofs "io/fs"
	"os"
	"testing"
	"testing/fstest"
	"testing/synctest"

	"blocktree"
	"blocktree/fs/files"
)

// newTree is the Go API for user 1000, by a filesystem service of a cluster of one node, with a directory of that user's.
func newTree(t *testing.T) (*foundWorld, *files.Tree) {
	t.Helper()
	w := newFoundWorld(t, "root")
	alice, admin := uint32(1000), w.Client()
	if err := admin.MakeDir(t.Context(), w.Path("/home1"), 0o755, false); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.SetOwner(t.Context(), w.Path("/home1"), &alice, &alice); err != nil {
		t.Fatal(err)
	}
	return w, files.New(w.Finder(nil, "alice", alice, alice), w.Root, files.Options{Code: blocktree.Code{Data: 1}})
}

// TestTreeFS: A1 of 0052. The view of io/fs over a real service is what testing/fstest finds good.
func TestTreeFS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, tree := newTree(t)
		ctx := t.Context()
		if err := tree.MkdirAll(ctx, "/home1/a/b", 0o755); err != nil {
			t.Fatal(err)
		}
		for name, size := range map[string]int{"empty": 0, "a/one": 1, "a/b/some": 50, "a/b/more": 201} { // fstest reads byte by byte
			if err := tree.WriteFile(ctx, "/home1/"+name, bytes.Repeat([]byte("x"), size), 0o640); err != nil {
				t.Fatal(err)
			}
		}
		view, err := tree.FS(ctx, "/home1")
		if err != nil {
			t.Fatal(err)
		}
		if err := fstest.TestFS(view, "empty", "a/one", "a/b/some", "a/b/more"); err != nil {
			t.Error(err)
		}
	})
}

// TestTree: A2 and A3 of 0052 over a real service: a file that grows, is cut and grows again, with what the service, a second writer and others see of it.
func TestTree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, tree := newTree(t)
		ctx := t.Context()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		f, err := tree.OpenFile(ctx, "/home1/f", os.O_RDWR|os.O_CREATE, 0o600)
		must(err)
		var model []byte
		for i := range 40 {
			p := bytes.Repeat([]byte{byte('a' + i%26)}, 9001)
			_, err := f.Write(p)
			must(err)
			model = append(model, p...)
		}
		must(f.Sync())
		other := files.New(w.Finder(nil, "alice2", 1000, 1000), w.Root, files.Options{})
		seen, err := other.ReadFile(ctx, "/home1/f")
		if must(err); !bytes.Equal(seen, model) {
			t.Errorf("others see %d bytes of %d that were flushed", len(seen), len(model))
		}
		model = writeBoth(t, f, other, model)
		must(f.Truncate(5000))
		must(f.Truncate(30_000))
		model = append(model[:5000:5000], make([]byte, 25_000)...)
		_, err = f.Seek(0, io.SeekStart)
		must(err)
		got, err := io.ReadAll(f)
		if must(err); !bytes.Equal(got, model) {
			t.Error("what was cut is not zeros")
		}
		short, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := f.With(short).ReadAt(make([]byte, 1), 0); !errors.Is(err, context.Canceled) {
			t.Errorf("read after its context: %v", err)
		}
		must(f.Close())
		stranger := files.New(w.Finder(nil, "eve", 1001, 1001), w.Root, files.Options{})
		if _, err := stranger.Open(ctx, "/home1/f"); !errors.Is(err, iofs.ErrPermission) {
			t.Errorf("a stranger: %v", err)
		}
		g, err := other.OpenFile(ctx, "/home1/f", os.O_WRONLY|os.O_TRUNC, 0)
		must(err)
		must(g.Close())
		if info, err := tree.Stat(ctx, "/home1/f"); err != nil || info.Size() != 0 {
			t.Errorf("truncated: %v, %v", info, err)
		}
		must(tree.Rename(ctx, "/home1/f", "/home1/g"))
		must(tree.Remove(ctx, "/home1/g"))
		if all, err := tree.ReadDir(ctx, "/home1"); len(all) != 0 || err != nil {
			t.Errorf("left: %v, %v", all, err)
		}
	})
}

// writeBoth has a file appended to by two writers of one service, and returns what it is to be then (E4 of 0059).
func writeBoth(t *testing.T, f *files.File, other *files.Tree, model []byte) []byte {
	t.Helper()
	second, err := other.OpenFile(t.Context(), f.Name(), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		for _, add := range []func([]byte) (int, error){second.Write, func(p []byte) (int, error) { return f.WriteAt(p, int64(len(model))) }} {
			p := bytes.Repeat([]byte{byte('A' + i)}, 777)
			if _, err := add(p); err != nil {
				t.Fatal(err)
			}
			model = append(model, p...)
		}
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(model)+1)
	if n, err := f.ReadAt(got, 0); err != io.EOF || !bytes.Equal(got[:n], model) {
		t.Errorf("%d bytes by two writers, not %d, %v", n, len(model), err)
	}
	return model
}
