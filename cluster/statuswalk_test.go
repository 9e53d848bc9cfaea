package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
)

// TestStatusWalk: files are listed in the order of the directories, only as many as there is room for, those that are not whole before what is counted only; a directory that
// may not be seen is counted, one that is gone or another cluster's is not.
func TestStatusWalk(t *testing.T) {
	dirs := map[blocktree.Path][]string{"/": {"a", "b/", "c", "closed/", "d!", "else/", "gone/"}, "//b": {"hurt1", "hurt2", "x", "y"}}
	for i := range 40 {
		dirs["/"] = append(dirs["/"], fmt.Sprintf("z%02d/", i))
		dirs[blocktree.Path(fmt.Sprintf("//z%02d", i))] = []string{"f", "hurt"}
	}
	w := &statusWalk{c: &Client{peers: &peers{}}, ask: func(q meta.Query) (meta.Answer, error) { return answerWalk(dirs[q.Path], q) }}
	w.c.cfg.Scope = "/"
	walk := func(whole, hurt int) (*fileTally, []string) {
		t.Helper()
		x := &fileTally{whole: whole, hurt: hurt}
		if err := w.walk(x, "/"); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range x.found {
			names = append(names, string(f.path))
		}
		return x, names
	}
	x, names := walk(1000, 0)
	if n := len(names); n != 87 || !slices.Equal(names[:8], []string{"//a", "//b/hurt1", "//b/hurt2", "//b/x", "//b/y", "//c", "//d!", "//z00/f"}) || x.unlisted != (UnlistedFiles{Directories: 1}) {
		t.Errorf("%d: %v, %+v", n, names, x.unlisted)
	}
	x, names = walk(0, 1000)
	if n := len(names); n != 42 || x.unlisted != (UnlistedFiles{Whole: 45, Directories: 1}) {
		t.Errorf("%d: %v, %+v", n, names, x.unlisted)
	}
	x, names = walk(0, 0)
	if len(names) > 0 || x.unlisted != (UnlistedFiles{Whole: 45, Degraded: 42, Directories: 1}) {
		t.Errorf("%v, %+v", names, x.unlisted)
	}
	if x, names = walk(0, 10); len(names) < 10 || len(names) >= 10+statusAsksMax { // that many were asked for at the same time
		t.Errorf("%d, %+v", len(names), x.unlisted)
	}
	s := &Status{Health: HealthOK}
	if s.addUnlisted(x.unlisted); s.Health != HealthDegraded || s.Unlisted == nil {
		t.Errorf("%+v", s)
	}
	w.ask = func(meta.Query) (meta.Answer, error) { return meta.Answer{Files: &meta.Files{}, More: true}, nil }
	if err := w.walk(&fileTally{}, "/"); blocktree.KindOf(err) != blocktree.Corrupt {
		t.Errorf("a page that does not end: %v", err)
	}
	w.ask = func(meta.Query) (meta.Answer, error) {
		return meta.Answer{}, blocktree.E("list", blocktree.NotFound, nil)
	}
	if err := w.walk(&fileTally{}, "/"); blocktree.KindOf(err) != blocktree.NotFound {
		t.Errorf("no such cluster: %v", err)
	}
}

// answerWalk answers for a directory of such names: one that ends in a slash is a directory, one that begins with hurt is not whole.
func answerWalk(names []string, q meta.Query) (a meta.Answer, err error) {
	code := blocktree.Code{Data: 1}
	file := func(name string) (meta.DirEntry, *stripe.Layout) {
		id := blocktree.FileID{Generation: 1, Inode: blocktree.Inode(len(name) + 10)}
		return meta.DirEntry{Name: name, Inode: meta.Inode{ID: id, Kind: meta.KindFile, Code: code, SectorBytes: 512, SizeBytes: 512}},
			&stripe.Layout{File: id, Code: code, SectorBytes: 512, RegionSectors: 8, Sectors: 1, Hosts: []blocktree.NodeID{1}}
	}
	switch q.Path {
	case "//closed":
		return a, blocktree.E("list", blocktree.Permission, nil)
	case "//gone":
		return a, blocktree.E("list", blocktree.NotFound, nil)
	case "//else":
		a.Redirect = &meta.Redirect{}
		return a, blocktree.E("list", blocktree.Elsewhere, nil)
	}
	a.Files = &meta.Files{After: q.After}
	for _, name := range names {
		if name <= q.After {
			continue
		}
		if a.Files.After != q.After {
			a.More = true // a page has one name
			break
		}
		a.Files.After = name
		if strings.HasSuffix(name, "/") {
			a.Entries = append(a.Entries, meta.DirEntry{Name: strings.TrimSuffix(name, "/"), Inode: meta.Inode{Kind: meta.KindDir}})
			continue
		}
		hurt := strings.HasPrefix(name, "hurt")
		switch e, l := file(name); {
		case q.Tell == meta.TellAll, q.Tell == meta.TellHurt && hurt:
			a.Entries, a.Files.Layouts = append(a.Entries, e), append(a.Files.Layouts, l)
		case hurt:
			a.Files.Degraded++
		default:
			a.Files.Whole++
		}
	}
	return a, nil
}
