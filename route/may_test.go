package route_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/route"
)

// Queries × queriers: who is told what. The domain has clusters at /, /a and /a/b; others may not read /secret and /a/b/closed.
// "down" and "up" are redirects, "no" is a refusal; each is asked of the cluster named before it.
func TestWhoMayAsk(t *testing.T) {
	w := newWorld(t, 1, "", "/a", "/a/b")
	w.clusters[w.root].private[w.at("/secret")] = true
	w.clusters[w.at("/a/b")].private[w.at("/a/b/closed")] = true
	foreign := newWorld(t, 1, "")
	stranger, guest := foreign.caller("/stranger"), foreign.caller("/guest")
	for _, c := range w.clusters {
		c.rights[guest.Principal] = w.at("/secret")
	}
	queriers := []struct {
		name string
		id   cred.Identity
	}{
		{"inside", w.caller("/secret/in/deep")}, {"member", w.caller("/client")}, {"right", guest}, {"foreign", stranger}, {"anonymous", cred.Identity{}},
	}
	// What the columns are, in order of queriers.
	var table strings.Builder
	fmt.Fprintf(&table, "%-10s %-9s %-18s", "asked of", "query", "scope")
	for _, q := range queriers {
		fmt.Fprintf(&table, " %-9s", q.name)
	}
	table.WriteByte('\n')
	for _, x := range []struct {
		of    string
		kind  route.QueryKind
		scope string
		want  string
	}{
		{"", route.InScope, "", "found found found found found"},
		{"", route.Closest, "", "found found found found found"},
		{"", route.InScope, "/open", "nobody nobody nobody nobody nobody"},
		{"", route.Closest, "/open", "found found found found found"},
		{"", route.InScope, "/secret/in", "nobody nobody nobody no no"},
		{"", route.Closest, "/secret/in", "found found found no no"},
		{"", route.Closest, "/secret", "found found found no no"},
		{"", route.InScope, "/a", "down down down down down"},
		{"", route.Closest, "/a/b/closed", "down down down down down"}, // the root does not know what is in /a/b
		{"/a/b", route.Closest, "/a/b/closed", "found found no no no"},
		{"/a/b", route.InScope, "/a/b/closed", "nobody nobody no no no"},
		{"/a/b", route.Closest, "/a/b/open", "found found found found found"},
		{"/a/b", route.Closest, "/secret", "up up up up up"}, // it speaks for nothing of that
	} {
		fmt.Fprintf(&table, "%-10s %-9v %-18s", w.at(x.of).Short(), x.kind, w.at(x.scope).Short())
		for i, want := range strings.Fields(x.want) {
			got := verdict(t, w, x.of, queriers[i].id, question(x.kind, w.at(x.scope), "sector"))
			fmt.Fprintf(&table, " %-9s", got)
			if got != want {
				t.Errorf("%s asks the cluster of %q %v %q: %s, want %s", queriers[i].name, x.of, x.kind, x.scope, got, want)
			}
		}
		table.WriteByte('\n')
	}
	t.Log("\n" + table.String())
}

// verdict is what a querier is answered, in a word.
func verdict(t *testing.T, w *world, of string, id cred.Identity, q route.Query) string {
	t.Helper()
	dir := w.at(of)
	frame, err := w.clusters[dir].hosts[0].answerer.Serve(t.Context(), q.Encode(), route.Querier{Identity: id})
	if blocktree.KindOf(err) == blocktree.Permission {
		return "no"
	}
	if err != nil {
		return err.Error()
	}
	a, _, err := route.Open(frame, w.key.Principal(), q, w.now())
	switch {
	case err != nil:
		return err.Error()
	case a.Outcome != route.Redirected:
		return a.Outcome.String()
	case a.Redirect.Directory.Within(dir):
		return "down"
	}
	return "up"
}

// The rule by itself: each of what it looks at, alone and not at all. A right is not asked of an anonymous caller.
func TestStandard(t *testing.T) {
	w := newWorld(t, 1, "")
	other := newWorld(t, 1, "")
	yes := func(context.Context) (bool, error) { return true, nil }
	no := func(context.Context) (bool, error) { return false, nil }
	broken := func(context.Context) (bool, error) { return false, errors.New("broken") }
	for _, x := range []struct {
		name   string
		id     cred.Identity
		scope  string
		others func(context.Context) (bool, error)
		right  func(context.Context) (bool, error)
		want   bool
		err    bool
	}{
		{"in the directory", w.caller("/a/n"), "/a", broken, broken, true, false},
		{"below it", w.caller("/a/b/c/n"), "/a", broken, broken, true, false},
		{"elsewhere in the domain", w.caller("/n"), "/a", broken, broken, true, false},
		{"foreign, with a right", other.caller("/n"), "/a", broken, yes, true, false},
		{"foreign, none, readable", other.caller("/n"), "/a", yes, no, true, false},
		{"foreign, none", other.caller("/n"), "/a", no, no, false, false},
		{"foreign, not known", other.caller("/n"), "/a", yes, broken, false, true},
		{"anonymous, readable", cred.Identity{}, "/a", yes, broken, true, false},
		{"anonymous", cred.Identity{}, "/a", no, yes, false, false},
		{"anonymous, not known", cred.Identity{}, "/a", broken, yes, false, true},
	} {
		got, err := route.Standard(t.Context(), route.Asking{Querier: x.id, Domain: w.key.Principal(), Scope: w.at(x.scope), OthersRead: x.others, HasRight: x.right})
		if got != x.want || (err != nil) != x.err {
			t.Errorf("%s: %t, %v", x.name, got, err)
		}
	}
}
