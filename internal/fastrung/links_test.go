package fastrung

import (
	"errors"
	"syscall"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/fs/files"
)

// TestTreeFollows: Y3 of 0076, over a real service: with credentials, and as nobody in particular, who is told the same of a link and of what is not there.
func TestTreeFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, tree := newTree(t)
		ctx := t.Context()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(tree.MkdirAll(ctx, "/home1/real/dir", 0o755))
		must(tree.WriteFile(ctx, "/home1/real/f", []byte("bytes"), 0o644))
		must(tree.WriteFile(ctx, "/home1/real/own", []byte("mine"), 0o600))
		for name, target := range map[string]string{"l": "real", "real/f2": "../real/./f", "abs": "/home1/l/f2", "loop": "loop", "nothing": "real/none"} {
			must(tree.Symlink(ctx, target, "/home1/"+name))
		}
		anybody := files.New(w.Finder(nil, "", 0, 0), w.Root, files.Options{})
		for who, tree := range map[string]*files.Tree{"alice": tree, "nobody in particular": anybody} {
			for _, name := range []string{"/home1/l/f", "/home1/l/f2", "/home1/abs", "/home1/real/f2"} {
				if b, err := tree.ReadFile(ctx, name); err != nil || string(b) != "bytes" {
					t.Errorf("%s, %s: %q, %v", who, name, b, err)
				}
				if i, err := tree.Stat(ctx, name); err != nil || i.Size() != 5 {
					t.Errorf("%s, %s: %v, %v", who, name, i, err)
				}
			}
			if all, err := tree.ReadDir(ctx, "/home1/l"); err != nil || len(all) != 4 {
				t.Errorf("%s: %v, %v", who, all, err)
			}
			if _, err := tree.Stat(ctx, "/home1/loop"); !errors.Is(err, syscall.ELOOP) {
				t.Errorf("%s: %v", who, err)
			}
		}
		if _, err := anybody.ReadFile(ctx, "/home1/l/own"); blocktree.KindOf(err) != blocktree.Permission {
			t.Errorf("what is not for everybody, by a link: %v", err)
		}
		must(tree.WriteFile(ctx, "/home1/abs", []byte("other bytes"), 0o644))
		must(tree.WriteFile(ctx, "/home1/nothing", []byte("new"), 0o644))
		must(tree.SetModified(ctx, "/home1/nothing", time.Unix(9, 0)))
		if i, err := tree.Lstat(ctx, "/home1/real/none"); err != nil || i.ModTime().Unix() != 9 || i.Size() != 3 {
			t.Errorf("what a link leads to: %v, %v", i, err)
		}
		must(tree.Rename(ctx, "/home1/l/none", "/home1/l/dir/none"))
		must(tree.Remove(ctx, "/home1/l/dir/none"))
		must(tree.Remove(ctx, "/home1/abs"))
		if b, err := tree.ReadFile(ctx, "/home1/real/f"); err != nil || string(b) != "other bytes" {
			t.Errorf("%q, %v", b, err)
		}
		must(tree.Remove(ctx, "/home1/loop")) // upon which the view has no errors
		must(tree.Remove(ctx, "/home1/nothing"))
		view, err := tree.FS(ctx, "/home1")
		must(err)
		must(fstest.TestFS(view, "l", "real/f", "real/f2", "real/dir"))
	})
}
