package cluster

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/crypto/cred"
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

// TestHomesOfLiars: a cluster below, whatever it says, does not become the home of files that one above it, or beside it, is known to keep.
func TestHomesOfLiars(t *testing.T) {
	root := blocktree.PrincipalOf([]byte("root"))
	at := func(short string) blocktree.Path { return blocktree.RootPath(root) + blocktree.Path(short) }
	to := func(short string, g blocktree.Generation) *meta.Redirect {
		return &meta.Redirect{Dir: at(short), Generation: g, Runtimes: []blocktree.Runtime{{Path: at(short).Join("n"), Principal: root, Node: 1, Endpoints: []string{"127.0.0.1:1"},
			Services: []string{blocktree.ServiceSector}}}}
	}
	tr := lostTree(t, root, at(""))
	follow := func(answers ...*meta.Redirect) *Client {
		c, err := tr.follow(context.Background(), tr.first, func(*Client) (r *meta.Redirect, err error) {
			if len(answers) > 0 {
				r, answers = answers[0], answers[1:]
			}
			return r, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	file := func(g blocktree.Generation) blocktree.FileID { return blocktree.FileID{Generation: g, Inode: 9} }
	tr.isHome(file(1), tr.first)
	liar, beside := follow(to("/liar", 2)), follow(to("/beside", 3))
	for g := range blocktree.Generation(4) {
		tr.isHome(file(g), liar)
	}
	follow(to("/liar", 2), to("/liar/one", 1))
	follow(to("/liar", 2), to("/liar/three", 3))
	nearer := follow(to("/liar", 2), to("/liar/four", 4))
	for g, want := range map[blocktree.Generation]*Client{1: tr.first, 2: liar, 3: beside, 4: nearer} {
		if c := tr.home(g, nil); c != want {
			t.Errorf("files of %d are those of %s", g, c.cfg.Scope.Short())
		}
	}
	tr.isHome(file(5), liar) // nobody has been heard of it yet
	if c := follow(to("/late", 5)); tr.home(5, nil) != c {
		t.Error("what the cluster above says does not count")
	}
}

// TestMadeForOthersElsewhere: nobody asks the cluster of a directory that his own is not above to make something on behalf of another: who may is told of that.
func TestMadeForOthersElsewhere(t *testing.T) {
	root := blocktree.PrincipalOf([]byte("root"))
	dir := blocktree.RootPath(root)
	tr := lostTree(t, root, dir.Join("a"))
	tr.byDir[dir] = tr.first.beside(dir, nil)
	ctx, cancel := context.WithCancel(OnBehalf(t.Context(), cred.Identity{Principal: root, Path: dir.Join("somebody")}))
	cancel() // it is not to come to a question
	_, _, err := tr.first.CreateHeld(ctx, meta.CreateFile{Path: dir.Join("f")}, 0, 0, OpenOptions{})
	if blocktree.KindOf(err) != blocktree.Unsupported || blocktree.HintOf(err) == "" {
		t.Errorf("%v, %q", err, blocktree.HintOf(err))
	}
}

// TestGivingUpIsNoSilence: a cluster below is asked on after somebody gave up waiting for it, by canceling or by a deadline of less than a node may take; what no node answers for longer, or says by itself, has others be asked who they are.
func TestGivingUpIsNoSilence(t *testing.T) {
	root := blocktree.PrincipalOf([]byte("root"))
	dir := blocktree.RootPath(root)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	hasty, end := context.WithTimeout(t.Context(), time.Millisecond)
	defer end()
	for name, x := range map[string]struct {
		ctx    context.Context
		silent bool
	}{
		"canceled": {canceled, false},
		"hasty":    {hasty, false},
		"patient":  {t.Context(), true},
	} {
		tr := lostTree(t, root, dir)
		below := tr.first.beside(dir.Join("d"), nil)
		tr.byDir[below.cfg.Scope] = below
		f := below.cfg.Scope.Join("f")
		ask := func(c *Client) (*meta.Redirect, error) {
			if x.silent {
				return nil, blocktree.E("", blocktree.Unavailable, nil)
			}
			_, err := c.queryHere(x.ctx, meta.Query{Kind: meta.QueryStat, Path: f})
			return nil, err
		}
		if _, err := tr.follow(x.ctx, below, ask); blocktree.KindOf(err) != blocktree.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
		if silent := tr.nearest(f, false) != below; silent != x.silent {
			t.Errorf("%s: silent %v", name, silent)
		}
	}
	if lost := blocktree.E("", blocktree.Unavailable, nil); !nobodyAnswered(canceled, lost, blocktree.DeadAfter) || nobodyAnswered(canceled, lost, blocktree.DeadAfter-1) {
		t.Error("it does not count for how long was waited")
	}
}
