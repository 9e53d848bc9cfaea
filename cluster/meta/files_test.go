package meta

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"blocktree"
)

// TestFiles: however many are told in a page, every file is told or counted once, the counted ones as what they are, and what a node that drains has yet is of all.
func TestFiles(t *testing.T) {
	const n = 30
	m := founded(t, 5)
	m.must(MakeDir{Path: path("/d/g-sub"), Parents: true, Mode: 0o755})
	for i := range n {
		m.must(coded(fmt.Sprintf("/d/f%02d", i), 2, 1))
	}
	drained := founders(5)[0]
	m.must(DrainHost{Path: drained.Path, Node: drained.Node})
	s := m.view()
	for name, serving := range map[string][]blocktree.NodeID{"all": {node(1), node(2), node(3), node(4), node(5)}, "four": {node(1), node(2), node(3), node(4)}, "two": {node(1), node(4)}} {
		var want Files
		want.Drains = []DrainSum{{Node: drained.Node}}
		var all, hurt []string
		for i := range n {
			e := fmt.Sprintf("f%02d", i)
			at, _ := s.stat(path("/d/" + e))
			l := s.layout(at.ID)
			places, bytes := l.Places(drained.Node)
			want.Drains[0].Places += places
			want.Drains[0].Bytes += bytes
			all = append(all, e)
			in := l.Redundancy(func(n blocktree.NodeID) bool { return slices.Contains(serving, n) }).InSync
			if in < 3 {
				hurt = append(hurt, e)
			}
			switch {
			case in < l.Code.MinWrite():
				want.Unavailable++
			case in < 3:
				want.Degraded++
			default:
				want.Whole++
			}
		}
		if want.Drains[0].Places == 0 || (name == "all") != (len(hurt) == 0) {
			t.Fatalf("%s: it shows nothing: %+v, %d", name, want, len(hurt))
		}
		for tell, told := range map[Tell][]string{TellNone: nil, TellHurt: hurt, TellAll: all} {
			for _, limit := range []int{0, 1, 7} {
				got, names, pages := askFiles(t, s, Query{Kind: QueryFiles, Path: path("/d"), Limit: limit, Serving: serving, Tell: tell}, drained.Node)
				if !slices.Equal(names, append(slices.Clone(told), "g-sub")) || limit > 0 && pages < len(told)/limit {
					t.Errorf("%s, told %d in pages of %d: %v", name, tell, limit, names)
				}
				left := want
				if tell == TellAll {
					left.Whole, left.Degraded, left.Unavailable = 0, 0, 0
				}
				if tell == TellHurt {
					left.Degraded, left.Unavailable = 0, 0
				}
				if got.Whole != left.Whole || got.Degraded != left.Degraded || got.Unavailable != left.Unavailable || got.Drains[0] != left.Drains[0] {
					t.Errorf("%s, told %d: %+v, want %+v", name, tell, got, left)
				}
			}
		}
	}
}

// TestFilesMeanwhile: a file that is there all the time is told, or counted, once, whatever is made, removed and given another name between the pages.
func TestFilesMeanwhile(t *testing.T) {
	m := founded(t, 3)
	serving := []blocktree.NodeID{node(1), node(2), node(3)}
	m.must(MakeDir{Path: path("/d"), Mode: 0o755})
	var stay []string
	for i := range 40 {
		name := fmt.Sprintf("s%02d", i*2)
		m.must(coded("/d/"+name, 2, 1))
		stay = append(stay, name)
	}
	r := rand.New(rand.NewPCG(3, 4))
	passing := map[string]bool{}
	change := func() {
		name := fmt.Sprintf("s%02d", 1+2*r.IntN(40))
		switch {
		case !passing[name]:
			m.must(coded("/d/"+name, 2, 1))
		case r.IntN(2) == 0:
			m.must(Remove{Path: path("/d/" + name)})
		default:
			i, _ := m.view().stat(path("/d/" + name))
			to := fmt.Sprintf("t%d", i.ID.Inode)
			m.must(Rename{From: path("/d/" + name), To: path("/d/" + to), File: i.ID})
			m.must(Remove{Path: path("/d/" + to)})
		}
		passing[name] = !passing[name]
	}
	for round := range 30 {
		q := Query{Kind: QueryFiles, Path: path("/d"), Limit: 1 + r.IntN(9), Serving: serving, Tell: TellAll}
		told := map[string]int{}
		for more := true; more; {
			q.Tell = TellAll
			if round%3 == 1 && r.IntN(2) == 0 { // as who has enough of them
				q.Tell = TellNone
			}
			now := m.view()
			a := now.judged(q)
			if a.Kind != 0 || a.More && a.Files.After <= q.After || len(a.Files.Layouts) != len(a.Entries) {
				t.Fatalf("after %s: %+v", q.After, a)
			}
			for _, e := range a.Entries {
				told[e.Name]++
			}
			if q.Tell == TellNone {
				in, _, _ := now.list(q.Path, q.After, 0)
				in = slices.DeleteFunc(in, func(e DirEntry) bool { return e.Name > a.Files.After })
				if a.Files.Whole != uint64(len(in)) {
					t.Fatalf("round %d: from %s to %s there are %d files, not %d", round, q.After, a.Files.After, len(in), a.Files.Whole)
				}
				for _, e := range in {
					told[e.Name]++
				}
			}
			more, q.After = a.More, a.Files.After
			for range r.IntN(4) {
				change()
			}
		}
		for _, name := range stay {
			if told[name] != 1 {
				t.Fatalf("round %d: %s is told %d times", round, name, told[name])
			}
		}
	}
}

// askFiles asks for one page after the other, and returns what they count, the names that they tell, and how many they were.
func askFiles(t *testing.T, s *state, q Query, drained blocktree.NodeID) (got Files, names []string, pages int) {
	t.Helper()
	got.Drains = []DrainSum{{Node: drained}}
	for more := true; more; pages++ {
		a := s.judged(q)
		if a.Kind != 0 || a.More && a.Files.After <= q.After {
			t.Fatalf("after %s: %+v", q.After, a)
		}
		more, q.After = a.More, a.Files.After
		got.Whole, got.Degraded, got.Unavailable = got.Whole+a.Files.Whole, got.Degraded+a.Files.Degraded, got.Unavailable+a.Files.Unavailable
		got.Drains[0].Places += a.Files.Drains[0].Places
		got.Drains[0].Bytes += a.Files.Drains[0].Bytes
		for i, e := range a.Entries {
			if names = append(names, e.Name); e.Inode.Kind == KindFile && a.Files.Layouts[i].File != e.Inode.ID {
				t.Errorf("%s with the layout of %v", e.Name, a.Files.Layouts[i].File)
			}
		}
	}
	return got, names, pages
}
