package meta

import (
	"testing"

	"blocktree"
)

// TestUnkeyed: H7 of 0067. Who makes something is sent to the nearest directory that has a key, or of which he is not told; what lies between has none, or is not there.
func TestUnkeyed(t *testing.T) {
	m := granted(t, 0o700, 0o600)
	ask := func(c *Caller, short string, want blocktree.Path) {
		t.Helper()
		a := m.view().judged(Query{Kind: QueryUnkeyed, Path: path(short), Caller: c, Time: 2})
		if a.Kind != blocktree.Other || a.Home != want {
			t.Errorf("%s for %v: %s, %v, want %s", short, c, a.Home.Short(), a.Kind, want.Short())
		}
	}
	admin := somebody(0, 0)
	ask(admin, "/d/e", "")
	ask(admin, "/d/e/f/not/there", "")
	ask(somebody(10, 10), "/d/e/not/there", path("/d/e")) // whose it is
	m.mustAs(admin, SetAccess{fileID(1), record(1)})
	ask(admin, "/d/e/not/there", path("/d"))
	m.mustAs(admin, SetAccess{fileID(2), record(1)})
	ask(admin, "/d/e/not/there", path("/d/e"))
	ask(admin, "/d/x", path("/d"))
	ask(admin, "/x", "")
	if a := m.view().judged(Query{Kind: QueryUnkeyed, Path: path("/d"), Caller: &Caller{}, Time: 2}); a.Kind != blocktree.Permission {
		t.Errorf("nobody in particular: %v", a.Kind)
	}
}
