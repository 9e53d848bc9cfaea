package main

import (
	"context"
	"path"
	"slices"
	"strings"
	"testing"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/fs"
)

// grove is a tree in memory: whether each path is a directory.
type grove struct {
	root    blocktree.Path
	nodes   map[blocktree.Path]bool
	removed []string
	busy    map[string]bool
	told    []error
}

func newGrove(t testing.TB, paths ...string) *grove {
	key, err := cred.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	g := &grove{root: blocktree.RootPath(key.Principal()), nodes: map[blocktree.Path]bool{}, busy: map[string]bool{}}
	g.nodes[g.root] = true
	for _, p := range paths {
		at := g.root
		names := strings.Split(p[1:], "/")
		for i, n := range names {
			at = at.Join(n)
			g.nodes[at] = g.nodes[at] || i < len(names)-1
		}
	}
	return g
}

func (g *grove) info(_ context.Context, path blocktree.Path) (fs.Info, error) {
	dir, ok := g.nodes[path]
	if !ok {
		return fs.Info{}, blocktree.E("grove", blocktree.NotFound, nil)
	}
	return fs.Info{Dir: dir}, nil
}

func (g *grove) each(ctx context.Context, dir blocktree.Path, do func(fs.Entry) error) error {
	if is, ok := g.nodes[dir]; !ok || !is {
		return blocktree.E("grove", blocktree.NotFound, nil)
	}
	var names []string
	for p := range g.nodes {
		if p != dir && p.Parent() == dir {
			names = append(names, p.Base())
		}
	}
	slices.Sort(names)
	for _, n := range names {
		if err := do(fs.Entry{Name: n, Info: fs.Info{Dir: g.nodes[dir.Join(n)]}}); err != nil {
			return err
		}
	}
	return nil
}

func (g *grove) removePath(_ context.Context, path blocktree.Path) error {
	if g.busy[path.Short()] {
		return blocktree.E("grove", blocktree.Busy, nil)
	}
	for p := range g.nodes {
		if p != path && p.Parent() == path {
			return blocktree.E("grove", blocktree.Exists, nil)
		}
	}
	delete(g.nodes, path)
	g.removed = append(g.removed, path.Short())
	return nil
}

func (g *grove) complain(err error) { g.told = append(g.told, err) }

// glob returns short paths.
func (g *grove) glob(t testing.TB, word string) ([]string, error) {
	literal, err := blocktree.ParsePath(word, g.root.Root())
	if err != nil {
		return nil, err
	}
	found, err := glob(t.Context(), g, word, literal)
	var out []string
	for _, p := range found {
		out = append(out, p.Short())
	}
	return out, err
}

// A5, and that a path which is there is meant as it is written.
func TestGlob(t *testing.T) {
	g := newGrove(t, "/docs/a.txt", "/docs/b.txt", "/docs/.c", "/docs/sub/d.txt", "/docs/sub/e", "/vm/disk0", "/vm/disk1", "/vm/disk10", "/odd/[a]", "/odd/a", `/odd/b*`, "/odd/bc", `/odd/back\slash`)
	for word, want := range map[string]string{
		"/docs/*.txt":     "/docs/a.txt /docs/b.txt",
		"/docs/*":         "/docs/.c /docs/a.txt /docs/b.txt /docs/sub",
		"/*/*/*":          "/docs/sub/d.txt /docs/sub/e",
		"/d*/sub/?":       "/docs/sub/e",
		"/vm/disk?":       "/vm/disk0 /vm/disk1",
		"/vm/disk[1-9]*":  "/vm/disk1 /vm/disk10",
		"/vm/disk[^1]":    "/vm/disk0",
		"/odd/[a]":        "/odd/[a]",
		"/odd/[ab]":       "/odd/a",
		"/odd/b*":         "/odd/b*",
		`/odd/b\*`:        "/odd/b*",
		`/odd/back\slash`: `/odd/back\slash`,
		"/*/disk0":        "/vm/disk0",
		"/docs/a.txt":     "/docs/a.txt",
		"/absent":         "/absent", // no pattern: whoever uses it says that it is not there
		"/*":              "/docs /odd /vm",
	} {
		got, err := g.glob(t, word)
		if strings.Join(got, " ") != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", word, got, err, want)
		}
	}
	for word, want := range map[string]blocktree.Kind{"/docs/*.pdf": blocktree.NotFound, "/absent/*": blocktree.NotFound, "/docs/a.txt/*": blocktree.NotFound, "/docs/[": blocktree.Invalid, "/docs/[a/b]": blocktree.Invalid, `/docs/a\`: blocktree.Invalid} {
		if got, err := g.glob(t, word); blocktree.KindOf(err) != want && !(word == "/absent/*" && blocktree.KindOf(err) == blocktree.NotFound) || len(got) > 0 || blocktree.HintOf(err) == "" {
			t.Errorf("%s: %q, %v, want %v with a hint", word, got, err, want)
		}
	}
}

// FuzzGlob: A5. A pattern names what path.Match says of each name of a path, or itself if that is there.
func FuzzGlob(f *testing.F) {
	for _, s := range []string{"/docs/*.txt", "/*/?", "/[a-c]*/x", `/\*`, "/[^a]/b", "/a/[", "//", "/a\\"} {
		f.Add(s)
	}
	g := newGrove(f, "/a/b", "/a/bc", "/abc/x", "/b/c/d", "/*", "/[a]/x", `/\*/y`, "/ä/ö")
	f.Fuzz(func(t *testing.T, word string) {
		literal, err := blocktree.ParsePath(word, g.root.Root())
		if err != nil || literal.Root() != g.root.Root() {
			return
		}
		got, err := g.glob(t, word)
		names := strings.Split(string(literal[len(g.root):]), "/")
		_, there := g.nodes[literal]
		if there || !strings.ContainsAny(word, metaCharacters) {
			if err != nil || len(got) != 1 || got[0] != literal.Short() {
				t.Fatalf("%q: %q, %v", word, got, err)
			}
			return
		}
		var want []string
		for p := range g.nodes {
			parts := strings.Split(string(p[len(g.root):]), "/")
			fits := len(parts) == len(names) && p != g.root
			for i := range parts {
				if fits {
					fits, _ = path.Match(names[i], parts[i])
				}
			}
			if fits {
				want = append(want, p.Short())
			}
		}
		slices.Sort(want)
		if blocktree.KindOf(err) == blocktree.Invalid {
			for _, n := range names {
				if _, e := path.Match(n, ""); e != nil {
					return
				}
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) || (err == nil) != (len(want) > 0) {
			t.Fatalf("%q: %q, %v, want %q", word, got, err, want)
		}
	})
}

// A6: what was named is removed, and all beneath; nothing else, and not what something is left in.
func TestRemoveAll(t *testing.T) {
	g := newGrove(t, "/a/b/c", "/a/b/d", "/a/e", "/ab", "/f")
	g.busy["/a/b/d"] = true
	r := remover{g, t.Context(), 0}
	err := r.all(g.root.Join("a"), true)
	if want := "/a/b/c /a/e"; strings.Join(g.removed, " ") != want || err == nil || len(g.told) != 1 || r.failures != 1 {
		t.Errorf("removed %q, want %q; told %v, %v", g.removed, want, g.told, err)
	}
	g.busy = nil
	g.removed = nil
	if err := r.all(g.root.Join("a"), true); err != nil || strings.Join(g.removed, " ") != "/a/b/d /a/b /a" {
		t.Errorf("removed %q: %v", g.removed, err)
	}
	if len(g.nodes) != 3 {
		t.Errorf("left: %v", g.nodes)
	}
}

// Runs of what is not zeros, in whole sectors but for the end.
func TestFilled(t *testing.T) {
	b := make([]byte, 4*512+100)
	b[512], b[3*512-1], b[4*512] = 1, 1, 1
	if got := filled(b, 512); !slices.Equal(got, [][2]int{{512, 3 * 512}, {4 * 512, 4*512 + 100}}) {
		t.Errorf("%v", got)
	}
}
