package files

import (
	"bytes"
	"context"
	"errors"
	iofs "io/fs"
	"os"
	"syscall"
	"testing"
	"time"

	"blocktree"
)

// TestLinks: Y3 of 0076, each method.
func TestLinks(t *testing.T) {
	m, tree := newMemory(t)
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(tree.MkdirAll(ctx, "/real/dir", 0o755))
	must(tree.WriteFile(ctx, "/real/f", []byte("bytes"), 0o600))
	for name, target := range map[string]string{"/l": "real", "/real/f2": "f", "/real/dir/up": "../f2", "/abs": "/real/f2", "/loop": "/loop", "/dangling": "real/made"} {
		must(tree.Symlink(ctx, target, name))
	}
	for _, name := range []string{"/real/f2", "/l/f", "/l/f2", "/l/dir/up", "/abs"} {
		b, err := tree.ReadFile(ctx, name)
		if err != nil || string(b) != "bytes" {
			t.Errorf("%s has %q, %v", name, b, err)
		}
		i, err := tree.Stat(ctx, name)
		if err != nil || !i.Mode().IsRegular() || i.Size() != 5 || "/"+i.Name() != string(blocktree.Path(name)[bytes.LastIndexByte([]byte(name), '/'):]) {
			t.Errorf("%s is %v, %v", name, i, err)
		}
		f, err := tree.OpenFile(ctx, name, os.O_RDWR, 0)
		must(err)
		if i, err := f.Stat(); err != nil || i.Size() != 5 || f.Name() != name {
			t.Errorf("%s is %v, %v", name, i, err)
		}
		must(f.Close())
	}
	if i, err := tree.Lstat(ctx, "/l/f2"); err != nil || i.Mode().Type() != iofs.ModeSymlink || i.Name() != "f2" {
		t.Errorf("%v, %v", i, err)
	}
	if target, err := tree.ReadLink(ctx, "/l/dir/up"); err != nil || target != "../f2" {
		t.Errorf("%s, %v", target, err)
	}
	if all, err := tree.ReadDir(ctx, "/l"); err != nil || len(all) != 3 || all[2].Type() != iofs.ModeSymlink {
		t.Errorf("%v, %v", all, err)
	}
	d, err := tree.Open(ctx, "/l")
	must(err)
	if all, err := d.ReadDir(-1); err != nil || len(all) != 3 {
		t.Errorf("%v, %v", all, err)
	}
	must(d.Close())
	must(tree.SetModified(ctx, "/abs", time.Unix(7, 0)))
	if at := m.nodes[m.root+"/real/f"].info.Modified; at != 7e9 {
		t.Errorf("modified at %d", at)
	}
	must(tree.WriteFile(ctx, "/dangling", []byte("new"), 0o600))
	if n := m.nodes[m.root+"/real/made"]; n == nil || n.info.Length != 3 {
		t.Errorf("what a link led to was not made: %v", n)
	}
	f, err := tree.OpenFile(ctx, "/l/newer", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	must(err)
	must(f.Close())
	must(tree.Mkdir(ctx, "/l/dir2", 0o755))
	must(tree.MkdirAll(ctx, "/l/dir2/a/b", 0o755))
	must(tree.Rename(ctx, "/l/newer", "/l/dir2/a/newest"))
	if m.nodes[m.root+"/real/dir2/a/newest"] == nil || m.nodes[m.root+"/real/dir2/a/b"] == nil {
		t.Error("a name behind a link was not given")
	}
	linksThemselves(ctx, t, m, tree)
}

// linksThemselves: what is about names takes the link, and what leads nowhere says so.
func linksThemselves(ctx context.Context, t *testing.T, m *memory, tree *Tree) {
	_, err := tree.OpenFile(ctx, "/dangling", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	wantKind(t, "an exclusive open of a link", err, blocktree.Exists, iofs.ErrExist)
	wantKind(t, "mkdir", tree.Mkdir(ctx, "/l", 0o755), blocktree.Exists, iofs.ErrExist)
	wantKind(t, "mkdir beneath a link to a file", tree.MkdirAll(ctx, "/abs/x", 0o755), blocktree.Invalid, iofs.ErrInvalid)
	for _, name := range []string{"/loop", "/loop/x"} {
		_, err = tree.Open(ctx, name)
		if !errors.Is(err, syscall.ELOOP) || blocktree.KindOf(err) != blocktree.TooLarge || blocktree.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, change := range []func() error{
		func() error { return tree.Rename(ctx, "/abs", "/other") },
		func() error { return tree.Remove(ctx, "/other") },
		func() error { return tree.Remove(ctx, "/l/f2") },
		func() error { return tree.Remove(ctx, "/real/made") },
	} {
		if err := change(); err != nil {
			t.Error(err)
		}
	}
	if m.nodes[m.root+"/real/f"] == nil || m.nodes[m.root+"/real/f2"] != nil || m.nodes[m.root+"/abs"] != nil {
		t.Error("something else was removed than the link")
	}
	_, err = tree.Stat(ctx, "/dangling")
	wantKind(t, "what leads to nothing", err, blocktree.NotFound, iofs.ErrNotExist)
	_, err = tree.Open(ctx, "/real/f/x")
	wantKind(t, "beneath a file", err, blocktree.Invalid, iofs.ErrInvalid)
	if m.open != 0 {
		t.Errorf("%d are open", m.open)
	}
	wantKind(t, "a time before 1970", tree.SetModified(ctx, "/real/f", time.Unix(-1, 0)), blocktree.Invalid, iofs.ErrInvalid)
}
