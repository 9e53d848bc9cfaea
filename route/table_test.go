package route_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"blocktree"
	"blocktree/route"
)

func principal(name string) blocktree.Principal { return blocktree.PrincipalOf([]byte(name)) }

var root = blocktree.RootPath(principal("root"))

// at makes a runtime named by its path below root.
func at(path string, node blocktree.NodeID, services ...string) blocktree.Runtime {
	p := root + blocktree.Path(path)
	return blocktree.Runtime{Path: p, Principal: principal(path), Node: node, Endpoints: []string{"127.0.0.1:7000"}, Services: services}
}

func tree() []blocktree.Runtime {
	return []blocktree.Runtime{
		at("/a", 1, "sector"), at("/b", 2, "sector", "fs"), at("/rack/c", 3, "sector"), at("/rack/vm/d", 0, "fs"), at("/rackvm/e", 0, "x"),
	}
}

func TestQueries(t *testing.T) {
	tab, err := route.NewTable(tree())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		scope, service string
		inScope        string
		closest        string
	}{
		{"", "sector", "/a /b", "/a /b"},
		{"", "fs", "/b", "/b"},
		{"", "nothing", "", ""},
		{"/rack", "sector", "/rack/c", "/rack/c"},
		{"/rack", "fs", "", "/b"},
		{"/rack/vm", "sector", "", "/rack/c"},
		{"/rack/vm", "fs", "/rack/vm/d", "/rack/vm/d"},
		{"/rack/vm/disk0", "sector", "", "/rack/c"}, // a file, or a directory nobody knows
		{"/rackvm", "sector", "", "/a /b"},          // a name that begins like another is not below it
		{"/rack", "x", "", ""},
		{"/a", "sector", "", "/a /b"}, // a runtime is in its directory, not in itself
	} {
		scope := root + blocktree.Path(x.scope)
		for _, q := range []struct {
			name string
			ask  func(context.Context, blocktree.Scope, string) ([]blocktree.Runtime, error)
			want string
		}{{"in scope", tab.InScope, x.inScope}, {"closest", tab.Closest, x.closest}} {
			got, err := q.ask(t.Context(), scope, x.service)
			text := ""
			for i, r := range got {
				if i > 0 {
					text += " "
				}
				text += r.Path.Short()
			}
			if text != q.want || (err != nil) != (q.want == "") || err != nil && blocktree.KindOf(err) != blocktree.NotFound {
				t.Errorf("%s %q %q: got %q, %v; want %q", q.name, x.scope, x.service, text, err, q.want)
			}
		}
	}
}

func TestForeignDomain(t *testing.T) {
	tab, _ := route.NewTable(tree())
	if _, err := tab.Closest(t.Context(), blocktree.RootPath(principal("other")).Join("vm"), "sector"); blocktree.KindOf(err) != blocktree.NotFound {
		t.Fatal(err)
	}
}

func TestCanceled(t *testing.T) {
	tab, _ := route.NewTable(tree())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tab.InScope(ctx, root, "sector"); blocktree.KindOf(err) != blocktree.Canceled {
		t.Error(err)
	}
	if _, err := tab.Closest(ctx, root, "sector"); blocktree.KindOf(err) != blocktree.Canceled {
		t.Error(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 0)
	defer cancel()
	if _, err := tab.InScope(ctx, root, "sector"); blocktree.KindOf(err) != blocktree.Timeout {
		t.Error(err)
	}
	if _, err := tab.Closest(ctx, root, "sector"); blocktree.KindOf(err) != blocktree.Timeout {
		t.Error(err)
	}
}

// An answer belongs to the caller: writing to it changes no later one. Nor does the list the table was made of.
func TestAnswersAreCopies(t *testing.T) {
	in := tree()
	tab, _ := route.NewTable(in)
	in[0].Endpoints[0] = "changed:1"
	for range 2 {
		got, err := tab.InScope(t.Context(), root, "sector")
		if err != nil || got[0].Endpoints[0] != "127.0.0.1:7000" || got[0].Services[0] != "sector" {
			t.Fatal(got, err)
		}
		got[0].Endpoints[0], got[0].Services[0] = "changed:1", "changed"
	}
}

func TestRefusals(t *testing.T) {
	with := func(f func(*blocktree.Runtime)) []blocktree.Runtime {
		r := at("/z", 9, "sector")
		f(&r)
		return append(tree(), r)
	}
	for _, x := range []struct {
		name string
		kind blocktree.Kind
		in   []blocktree.Runtime
	}{
		{"short path", blocktree.Invalid, with(func(r *blocktree.Runtime) { r.Path = "/z" })},
		{"unclean path", blocktree.Invalid, with(func(r *blocktree.Runtime) { r.Path += "/" })},
		{"dots", blocktree.Invalid, with(func(r *blocktree.Runtime) { r.Path += "/../y" })},
		{"root directory", blocktree.Invalid, with(func(r *blocktree.Runtime) { r.Path = root })},
		{"nobody", blocktree.Invalid, with(func(r *blocktree.Runtime) { r.Principal = blocktree.Principal{} })},
		{"nowhere", blocktree.Invalid, with(func(r *blocktree.Runtime) { r.Endpoints = nil })},
		{"no port", blocktree.Invalid, with(func(r *blocktree.Runtime) { r.Endpoints = []string{"127.0.0.1"} })},
		{"port zero", blocktree.Invalid, with(func(r *blocktree.Runtime) { r.Endpoints = []string{"127.0.0.1:0"} })},
		{"large port", blocktree.Invalid, with(func(r *blocktree.Runtime) { r.Endpoints = []string{"127.0.0.1:65536"} })},
		{"no host", blocktree.Invalid, with(func(r *blocktree.Runtime) { r.Endpoints = []string{":7000"} })},
		{"no store", blocktree.Invalid, with(func(r *blocktree.Runtime) { r.Node = 0 })},
		{"path twice", blocktree.Exists, with(func(r *blocktree.Runtime) { r.Path = root + "/a" })},
		{"principal twice", blocktree.Exists, with(func(r *blocktree.Runtime) { r.Principal = principal("/a") })},
		{"store twice", blocktree.Exists, with(func(r *blocktree.Runtime) { r.Node = 1 })},
	} {
		if _, err := route.NewTable(x.in); err == nil || blocktree.KindOf(err) != x.kind {
			t.Errorf("%s: got %v, want %v", x.name, err, x.kind)
		}
	}
	if _, err := route.NewTable(with(func(*blocktree.Runtime) {})); err != nil {
		t.Errorf("the unchanged one: %v", err)
	}
}

func TestRootward(t *testing.T) {
	got := route.Rootward(root + "/a/b")
	if !slices.Equal(got, []blocktree.Scope{root + "/a/b", root + "/a", root}) {
		t.Fatal(got)
	}
}

func ExampleTable_Closest() {
	table, err := route.NewTable([]blocktree.Runtime{at("/node1", 1, "sector"), at("/node2", 2, "sector")})
	if err != nil {
		fmt.Println(err)
		return
	}
	runtimes, _ := table.Closest(context.Background(), root+"/vm/disk0", blocktree.ServiceSector)
	for _, r := range runtimes {
		fmt.Println(r.Path.Short(), r.Endpoints[0])
	}
	// Output:
	// /node1 127.0.0.1:7000
	// /node2 127.0.0.1:7000
}
