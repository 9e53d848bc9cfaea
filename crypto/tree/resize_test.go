package tree

import (
	"errors"
	"maps"
	"testing"

	"pgregory.net/rapid"

	"blocktree"
)

// sizes are at, and beside, what makes a tree higher.
var sizes = []uint64{1, 2, Fanout - 1, Fanout, Fanout + 1, 5 * Fanout, Fanout*Fanout - 1, Fanout * Fanout, Fanout*Fanout + 1, 3*Fanout*Fanout + 7, Fanout*Fanout*Fanout + 300}

// TestResizedModel folds, grows and cuts trees in any order, and compares with a map: what is cut has no floor when the file grows again, and the tree before each step stays whole (F2).
func TestResizedModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shape := NewShape(rapid.SampledFrom(sizes).Draw(t, "base"))
		m := newMemory(&shape)
		now, model, n := Tree{File: testFile, Shape: &shape}, map[uint64]Floor{}, uint64(1)
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			to := now.Shape.Resized(rapid.SampledFrom(sizes).Draw(t, "sectors"))
			before, was, next := maps.Clone(model), now, now
			next.Shape = &to
			var err error
			if to.sectors < now.Shape.sectors {
				next.Roots[Floors], err = now.Cut(&to, m.source(), m.keep)
				maps.DeleteFunc(model, func(k uint64, _ Floor) bool { return k >= to.sectors })
			} else {
				set := map[uint64]Floor{}
				for range rapid.IntRange(0, 20).Draw(t, "changes") {
					key := rapid.Uint64Range(0, to.sectors-1).Draw(t, "sector")
					if rapid.Bool().Draw(t, "at the end") {
						key = to.sectors - 1 - key%min(to.sectors, 300)
					}
					set[key] = floor(n)
					n++
				}
				next.Roots[Floors], err = now.FoldInto(&to, Floors, changesOf(set), m.source(), m.keep)
				maps.Copy(model, set)
			}
			if err != nil {
				t.Fatal(err)
			}
			now = next
			compare(t, &was, m, before, was.Shape.sectors)
			compare(t, &now, m, model, to.sectors)
			for _, k := range sizes {
				if got, err := now.Floor(blocktree.SectorIndex(k), m.source()); err != nil || got != model[k] {
					t.Fatalf("sector %d of %d: %v (%v), want %v", k, to.sectors, got, err, model[k])
				}
			}
		}
	})
}

// TestGrowthIsCheap: a tree that gets higher has one page more for each level, and no other is written.
func TestGrowthIsCheap(t *testing.T) {
	shape := NewShape(Fanout)
	m := newMemory(&shape)
	tree := Tree{File: testFile, Shape: &shape}
	var err error
	if tree.Roots[Floors], err = tree.Fold(Floors, changesOf(map[uint64]Floor{1: floor(1), 100: floor(2)}), m.source(), m.keep); err != nil {
		t.Fatal(err)
	}
	m.kept = 0
	to := shape.Resized(Fanout * Fanout * Fanout)
	if tree.Roots[Floors], err = tree.FoldInto(&to, Floors, nil, m.source(), m.keep); err != nil || m.kept != 2 {
		t.Fatalf("%d pages, %v", m.kept, err)
	}
	tree.Shape = &to
	if got, err := tree.Floor(100, m.source()); got != floor(2) || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := tree.FoldInto(&shape, Floors, nil, m.source(), m.keep); blocktree.KindOf(err) != blocktree.Invalid {
		t.Errorf("a fold into a smaller one: %v", err)
	}
}

// TestCutStops ends a cut at each page, and at each page that it fetches: the tree before it stays whole.
func TestCutStops(t *testing.T) {
	shape := NewShape(Fanout * Fanout * 5)
	m := newMemory(&shape)
	tree := Tree{File: testFile, Shape: &shape}
	set := map[uint64]Floor{0: floor(1), Fanout*Fanout*2 + 300: floor(2), Fanout*Fanout*2 + 301: floor(3), Fanout*Fanout*5 - 1: floor(4)}
	var err error
	if tree.Roots[Floors], err = tree.Fold(Floors, changesOf(set), m.source(), m.keep); err != nil {
		t.Fatal(err)
	}
	to := shape.Resized(Fanout*Fanout*2 + 301)
	full := errors.New("no more")
	for stop := 0; stop < 4; stop++ {
		left := stop
		_, err := tree.Cut(&to, m.source(), func(id PageID, ref Ref, p *Page) error {
			if left == 0 {
				return full
			}
			left--
			return m.keep(id, ref, p)
		})
		if (err == nil) != (stop == 3) || err != nil && !errors.Is(err, full) {
			t.Fatalf("stopped at %d: %v", stop, err)
		}
		for k, want := range set {
			if got, err := tree.Floor(blocktree.SectorIndex(k), m.source()); err != nil || got != want {
				t.Fatalf("stopped at page %d: sector %d: %v, %v", stop, k, got, err)
			}
		}
	}
	bad := m.clone()
	at := shape.Address(PageID{Floors, 1, 2}, 1)
	p := bad.pages[at]
	p[5]++
	bad.pages[at] = p
	if _, err := tree.Cut(&to, bad.source(), bad.keep); blocktree.KindOf(err) != blocktree.Corrupt {
		t.Errorf("a page that is another: %v", err)
	}
}

// TestResizedShape wants every page at an address of its own, whatever sizes the file has had, that stays where it is, within what is enough for it.
func TestResizedShape(t *testing.T) {
	for _, base := range sizes {
		first := NewShape(base)
		seen := map[blocktree.SectorIndex]PageID{}
		for _, sectors := range sizes {
			s := first.Resized(sectors)
			if s.Bytes() < first.Bytes() || s.Bytes() > GrownBytes(max(base, sectors)) {
				t.Errorf("of %d sectors, now %d: %d bytes, enough are %d", base, sectors, s.Bytes(), GrownBytes(max(base, sectors)))
			}
			if again := s.Resized(base); again.Bytes() != first.Bytes() || again.levels != first.levels {
				t.Errorf("%d, %d and back: %+v", base, sectors, again)
			}
			for w := range s.trees {
				count := leavesOf(s.entries(Which(w)))
				for level := range s.levels[w] {
					for i := range count {
						if i > 300 && i < count-300 && i%Fanout > 1 {
							continue
						}
						for place := uint8(1); place <= 2; place++ {
							id := PageID{Which(w), uint8(level), i*2 + uint64(place) - 1} // for the map only
							at := s.Address(PageID{Which(w), uint8(level), i}, place)
							if was, ok := seen[at]; ok && was != id || uint64(at)*PageBytes >= s.Bytes() {
								t.Fatalf("base %d, %d sectors: tree %d level %d page %d place %d at %d", base, sectors, w, level, i, place, at)
							}
							seen[at] = id
						}
					}
					if level < s.levels[w]-1 {
						count = leavesOf(count)
					} else if count != 1 {
						t.Fatalf("base %d, %d sectors: tree %d has %d roots", base, sectors, w, count)
					}
				}
			}
		}
	}
	largest := GrownBytes(SectorsMax)
	if one := NewShape(1); largest > blocktree.FileBytesMax || one.Resized(SectorsMax).levels[Floors] > levelsMax {
		t.Errorf("the pages of the largest file take %d bytes", largest)
	}
}
