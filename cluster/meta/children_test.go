package meta

import (
	"fmt"
	"reflect"
	"testing"

	"blocktree"
)

// TestChildren: the clusters directly beneath a directory are named, each once, and no directory that has records only; what one knows of those above it who administers it is told.
func TestChildren(t *testing.T) {
	parent, child := family(t)
	parent.must(MakeDir{Path: path("/rackety"), Mode: 0o755})
	parent.must(PutBelow{with(below(5), func(r *blocktree.Runtime) { r.Path = path("/rackety/n") })})
	ask := func(m *machine, p string) []blocktree.Path {
		return m.view().judged(Query{Kind: QueryChildren, Path: path(p), Caller: somebody(10, 10), Time: 2}).Children
	}
	for p, want := range map[string][]blocktree.Path{"": {path("/rack")}, "/rack": {path("/rack")}, "/vm": nil, "/rac": nil, "/rackety": nil} {
		if got := ask(parent, p); !reflect.DeepEqual(got, want) {
			t.Errorf("beneath %q: %v, want %v", p, got, want)
		}
	}
	if got := ask(child, "/rack"); got != nil {
		t.Errorf("beneath the child: %v", got)
	}
	known := func(c *Caller) Answer { return child.view().judged(Query{Kind: QueryKnown, Caller: c, Time: 2}) }
	if a := known(admin()); a.Above == nil || a.Above.Parent != rootDir || len(a.Above.Levels) != 2 {
		t.Errorf("%+v, %v", a.Above, a.Kind)
	}
	if a := known(somebody(10, 10)); a.Kind != blocktree.Permission || a.Hint == "" || a.Above != nil {
		t.Errorf("told to anybody: %+v, %v", a.Above, a.Kind)
	}
	if a := parent.view().judged(Query{Kind: QueryKnown, Caller: admin(), Time: 2}); a.Kind != blocktree.NotFound {
		t.Errorf("above the root: %v", a.Kind)
	}
}

// TestChildrenAreBounded: an answer has so many, and says that there are more.
func TestChildrenAreBounded(t *testing.T) {
	m := founded(t, 1)
	w := m.db.NewIndexedBatch()
	s := openState(w, w, spaceA)
	for n := range ChildrenMax + 1 {
		name := fmt.Sprintf("d%05d", n)
		i := s.newInode(KindDir, 0, 0, 0, 0)
		s.setInode(i)
		s.setEntry(RootInode, name, entry{i.ID, KindDir, true})
		r := with(below(1), func(r *blocktree.Runtime) { r.Path = path("/" + name + "/n") })
		store(s, kindBelow, []byte(r.Path), &r, putRuntime)
	}
	if err := w.Commit(nil); err != nil {
		t.Fatal(err)
	}
	a := m.view().judged(Query{Kind: QueryChildren, Path: rootDir, Caller: admin(), Time: 2})
	if len(a.Children) != ChildrenMax || !a.More || a.Children[0] != path("/d00000") {
		t.Errorf("%d, more %v", len(a.Children), a.More)
	}
	if out, err := DecodeAnswer(EncodeAnswer(nil, a)); err != nil || !reflect.DeepEqual(out, a) {
		t.Errorf("it does not come back: %v", err)
	}
}
