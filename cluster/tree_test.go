package cluster

import (
	"context"
	"log/slog"
	"testing"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/internal/bttp"
	"blocktree/route"
)

// lostTree is the tree of a client of the cluster of dir that nobody answers.
func lostTree(t *testing.T, root blocktree.Principal, dir blocktree.Path) *tree {
	t.Helper()
	endpoint, err := bttp.New(bttp.Config{Root: root, Log: slog.New(slog.DiscardHandler)}) // as nobody in particular
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(ClientConfig{Scope: dir, Root: root, Logger: slog.New(slog.DiscardHandler), Clock: wayClock{}}, endpoint, newPeers(endpoint, slog.New(slog.DiscardHandler)))
	c.owned, c.keeps = true, true
	if c.routes, err = NewRoutes(RoutesConfig{Root: root, Seeds: route.Seeds{}, Logger: c.cfg.Logger, Clock: c.cfg.Clock}); err != nil {
		t.Fatal(err)
	}
	c.tree = newTree(c, c.routes)
	c.tree.find = func(_ context.Context, to *meta.Redirect, _ bool) ([]blocktree.Runtime, error) {
		return to.Runtimes, nil
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.tree
}

// TestBadRedirects: what leads nowhere, in a circle, back, to runtimes of another directory or without an end, ends with an error, after a bounded number of questions.
func TestBadRedirects(t *testing.T) {
	root := blocktree.PrincipalOf([]byte("root"))
	at := func(short string) blocktree.Path { return blocktree.RootPath(root) + blocktree.Path(short) }
	hosts := func(dir blocktree.Path) []blocktree.Runtime {
		return []blocktree.Runtime{{Path: dir.Join("n"), Principal: root, Node: 1, Endpoints: []string{"127.0.0.1:1"}, Services: []string{blocktree.ServiceSector}}}
	}
	to := func(short string) *meta.Redirect { return &meta.Redirect{Dir: at(short), Runtimes: hosts(at(short))} }
	deep := func(c *Client) *meta.Redirect {
		return &meta.Redirect{Dir: c.cfg.Scope.Join("d"), Runtimes: hosts(c.cfg.Scope.Join("d"))}
	}
	for name, x := range map[string]struct {
		answer func(c *Client, n int) *meta.Redirect
		asked  int
		ok     bool
	}{
		"nearer and nearer": {func(c *Client, n int) *meta.Redirect { return []*meta.Redirect{to("/a/b"), to("/a/b/c"), nil}[n] }, 3, true},
		"up, then down":     {func(c *Client, n int) *meta.Redirect { return []*meta.Redirect{to(""), to("/x"), nil}[n] }, 3, true},
		"to itself":         {func(c *Client, n int) *meta.Redirect { return to("/a") }, 1, false},
		"beside":            {func(c *Client, n int) *meta.Redirect { return to("/b") }, 1, false},
		"down, then back":   {func(c *Client, n int) *meta.Redirect { return []*meta.Redirect{to("/a/b"), to("/a")}[n] }, 2, false},
		"up, down and up":   {func(c *Client, n int) *meta.Redirect { return []*meta.Redirect{to(""), to("/x"), to("")}[n] }, 3, false},
		"without an end":    {func(c *Client, n int) *meta.Redirect { return deep(c) }, redirectsMax + 1, false},
		"to nobody":         {func(c *Client, n int) *meta.Redirect { return &meta.Redirect{Dir: at("/a/b")} }, 1, false},
		"to runtimes from beside": {func(c *Client, n int) *meta.Redirect {
			return &meta.Redirect{Dir: at("/a/b"), Runtimes: hosts(at("/a/c"))}
		}, 1, false},
		"to another domain": {func(c *Client, n int) *meta.Redirect {
			return &meta.Redirect{Dir: "/other/a", Runtimes: hosts("/other/a")}
		}, 1, false},
	} {
		tr := lostTree(t, root, at("/a"))
		n, follow := 0, tr.follow
		_, err := follow(context.Background(), tr.first, func(c *Client) (*meta.Redirect, error) {
			n++
			return x.answer(c, n-1), nil
		})
		if (err == nil) != x.ok || n != x.asked || err != nil && blocktree.HintOf(err) == "" {
			t.Errorf("%s: asked %d times, not %d: %v", name, n, x.asked, err)
		}
	}
}

// TestTreeIsBounded: clients of clusters that nobody uses make room for others.
func TestTreeIsBounded(t *testing.T) {
	root := blocktree.PrincipalOf([]byte("root"))
	tr := lostTree(t, root, blocktree.RootPath(root))
	for i := range 2 * treeClustersMax {
		dir := blocktree.RootPath(root).Join(string(rune('a'+i%26)) + string(rune('a'+i/26)))
		r := &meta.Redirect{Dir: dir, Runtimes: []blocktree.Runtime{{Path: dir.Join("n"), Principal: root, Node: 1, Endpoints: []string{"127.0.0.1:1"}, Services: []string{blocktree.ServiceSector}}}}
		asked := false
		if _, err := tr.follow(context.Background(), tr.first, func(*Client) (*meta.Redirect, error) {
			if asked {
				return nil, nil
			}
			asked = true
			return r, nil
		}); err != nil {
			t.Fatal(err)
		}
		if len(tr.byDir) > treeClustersMax {
			t.Fatalf("%d clusters", len(tr.byDir))
		}
	}
}
