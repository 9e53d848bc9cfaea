package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"blocktree"
	"blocktree/fs"
)

// A get that is killed at any moment leaves a partial file of its user alone, or the whole one, which gets its mode by the next.
func TestGetModeAfterName(t *testing.T) {
	dir := t.TempDir()
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, dir, unix.IN_ATTRIB|unix.IN_MOVED_TO); err != nil {
		t.Fatal(err)
	}
	to, err := localTarget(filepath.Join(dir, "f"), true)
	if err != nil {
		t.Fatal(err)
	}
	defer to.in.close()
	f := newForest(t)
	n := remoteNode{f, f.root.Join("f"), fs.Info{Mode: 0o440}}
	get := func() {
		t.Helper()
		if _, err := (&door{}).getNode(t.Context(), n, to, &progress{}); err != nil {
			t.Fatal(err)
		}
		if is, err := os.Stat(to.path); err != nil || is.Mode() != os.FileMode(0o440&^to.umask) {
			t.Errorf("%v, %v", is, err)
		}
	}
	get()
	events := make([]byte, 4096)
	size, err := unix.Read(watch, events)
	if err != nil || bytes.Contains(events[:size], []byte(partialEnd)) { // the mode was that of the partial one
		t.Errorf("%q, %v", events[:size], err)
	}
	if err := os.Chmod(to.path, 0o600); err != nil { // which is how a kill left it
		t.Fatal(err)
	}
	get()
}

// made is a file of an identity and a mode.
type made struct {
	memory
	info fs.Info
}

func (m *made) Info() fs.Info { return m.info }

// What somebody put in the place of a file of a tree is not copied with the other's mode; the same file has the mode that it has by then.
func TestGetTreeNoticesChanges(t *testing.T) {
	first, second := blocktree.FileID{Generation: 1, Inode: 7}, blocktree.FileID{Generation: 1, Inode: 8}
	for _, c := range []struct {
		listed, opened fs.Info
		mode           uint32
		wrong          bool
	}{
		{fs.Info{ID: first, Mode: 0o644}, fs.Info{ID: first, Mode: 0o644}, 0o644, false},
		{fs.Info{ID: first, Mode: 0o644}, fs.Info{ID: first, Mode: 0o600}, 0o600, false},
		{fs.Info{ID: first, Mode: 0o644}, fs.Info{ID: second, Mode: 0o644}, 0, true},
		{fs.Info{Mode: 0o644}, fs.Info{ID: second, Mode: 0o600}, 0o644, false}, // a service of a version before
	} {
		mode, err := remoteNode{info: c.listed}.modeOf(&made{info: c.opened})
		if mode != c.mode || (err != nil) != c.wrong {
			t.Errorf("%+v: mode %o, %v", c, mode, err)
		}
	}
	f := newForest(t)
	n := remoteNode{swapped{f, fs.Info{ID: second, Mode: 0o600}}, f.root.Join("f"), fs.Info{ID: first, Mode: 0o644}}
	to, err := localTarget(filepath.Join(t.TempDir(), "f"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer to.in.close()
	if _, err := (&door{}).getNode(t.Context(), n, to, &progress{}); blocktree.KindOf(err) != blocktree.Invalid {
		t.Error(err)
	}
}

// swapped has another file by the time that it is opened.
type swapped struct {
	*forest
	by fs.Info
}

func (s swapped) content(context.Context, blocktree.Path) (fs.File, error) {
	return &made{info: s.by}, nil
}

// Directories above a copy, which are made for it, let nobody else write, whatever the copy does.
func TestPutTreeParents(t *testing.T) {
	f := newForest(t)
	p := remotePlace{writableTree: f, path: f.root.Join("a").Join("b"), top: true}
	if _, err := p.mkdir(t.Context(), 0o777); err != nil || f.modes[p.path] != 0o777 || f.modes[p.path.Parent()] != 0o755 {
		t.Errorf("%v, %v", err, f.modes)
	}
}

// A directory gets the mode that its owner could not have filled it with, and no other that has its name by then.
func TestPutTreeModeOfItsOwn(t *testing.T) {
	f := identified{newForest(t), map[blocktree.Path]blocktree.FileID{}, new(blocktree.FileID)}
	at := f.root.Join("ro")
	f.ids[at] = blocktree.FileID{Generation: 1, Inode: 7}
	for _, resume := range []bool{false, true} {
		*f.set = blocktree.FileID{}
		d, err := remotePlace{writableTree: f, path: at, resume: resume}.mkdir(t.Context(), 0o555)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.filled(t.Context()); err != nil || *f.set != f.ids[at] {
			t.Errorf("resume %v: %v, %v", resume, f.set, err)
		}
	}
	f.modes[at] = 0o700 // somebody's, who was there first
	delete(f.nodes, at)
	if _, err := (remotePlace{writableTree: replaced{f}, path: at}).mkdir(t.Context(), 0o555); blocktree.KindOf(err) != blocktree.Invalid {
		t.Error(err)
	}
}

// identified has identities, and notes that of what was given a mode.
type identified struct {
	*forest
	ids map[blocktree.Path]blocktree.FileID
	set *blocktree.FileID
}

func (f identified) info(ctx context.Context, path blocktree.Path) (fs.Info, error) {
	i, err := f.forest.info(ctx, path)
	i.ID = f.ids[path]
	return i, err
}

func (f identified) setMode(ctx context.Context, path blocktree.Path, of blocktree.FileID, mode uint32) error {
	*f.set = of
	return f.forest.setMode(ctx, path, of, mode)
}

// replaced has another directory as soon as one is made.
type replaced struct{ identified }

func (f replaced) info(ctx context.Context, path blocktree.Path) (fs.Info, error) {
	i, err := f.identified.info(ctx, path)
	i.Mode = 0o711
	return i, err
}

// What was begun and flushed is compared where it cannot be written any more, whatever its durability; what may not have been flushed is written anew.
func TestMayBeThere(t *testing.T) {
	var ack, flush, tree putting
	flush.create.Durability, tree.create.Integrity = "flush", "tree"
	for _, o := range []*putting{&ack, &flush, &tree} {
		o.keepMode = true
		if !o.mayBeThere(0o400) || !o.mayBeThere(0o444) || o.mayBeThere(0o644) != (o == &ack) {
			t.Errorf("%+v", o.create)
		}
	}
	if (&putting{}).mayBeThere(0o400) {
		t.Error("a file that was put by itself is opened to be written")
	}
}
