package tree

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"blocktree"
)

var testFile = blocktree.FileID{Generation: 1, Inode: 77}

func floor(n uint64) Floor {
	return Floor{Version: blocktree.Version{Epoch: blocktree.Epoch(n / 10), Sequence: blocktree.Sequence(n)}, Leaf: [16]byte{byte(n), 1}}
}

// changesOf are the changes of a set of floors, in the order that Fold wants.
func changesOf(set map[uint64]Floor) []Change {
	var out []Change
	for _, k := range slices.Sorted(maps.Keys(set)) {
		out = append(out, FloorChange(blocktree.SectorIndex(k), set[k]))
	}
	return out
}

// TestModel folds random sets into trees of many sizes and compares with a map; after each fold the tree before it must still be whole (F2).
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sectors := rapid.SampledFrom([]uint64{1, 2, Fanout, Fanout + 1, Fanout * Fanout, 1<<20 + 5, 1 << 37}).Draw(t, "sectors")
		shape := NewShape(sectors)
		m := newMemory(&shape)
		now := Tree{File: testFile, Shape: &shape}
		model, n := map[uint64]Floor{}, uint64(1)
		for range rapid.IntRange(1, 6).Draw(t, "folds") {
			set := map[uint64]Floor{}
			for range rapid.IntRange(0, 40).Draw(t, "changes") {
				key := rapid.Uint64Range(0, sectors-1).Draw(t, "sector")
				if rapid.Bool().Draw(t, "near") {
					key %= min(sectors, 300)
				}
				set[key] = floor(n)
				n++
			}
			before, was := maps.Clone(model), now
			root, err := now.Fold(Floors, changesOf(set), m.source(), m.keep)
			if err != nil {
				t.Fatal(err)
			}
			now.Roots[Floors] = root
			maps.Copy(model, set)
			compare(t, &was, m, before, sectors)
			compare(t, &now, m, model, sectors)
		}
	})
}

func compare(t *rapid.T, tree *Tree, m *memory, model map[uint64]Floor, sectors uint64) {
	keys := slices.Collect(maps.Keys(model))
	keys = append(keys, 0, sectors-1, sectors/2)
	for _, k := range keys {
		got, err := tree.Floor(blocktree.SectorIndex(k), m.source())
		if err != nil || got != model[k] {
			t.Fatalf("sector %d: %v (%v), want %v", k, got, err, model[k])
		}
	}
}

// TestEveryBitOfAPath changes each byte of each page that a floor is proved by: none may go unnoticed.
func TestEveryBitOfAPath(t *testing.T) {
	shape := NewShape(Fanout * Fanout * 2)
	m := newMemory(&shape)
	tree := Tree{File: testFile, Shape: &shape}
	set := map[uint64]Floor{5: floor(1), 6: floor(2), Fanout * 3: floor(3), Fanout*Fanout + 1: floor(4)}
	root, err := tree.Fold(Floors, changesOf(set), m.source(), m.keep)
	if err != nil {
		t.Fatal(err)
	}
	tree.Roots[Floors] = root
	path := []PageID{{Floors, 0, 0}, {Floors, 1, 0}, {Floors, 2, 0}}
	for _, id := range path {
		for i := range PageBytes {
			bad := m.clone()
			at := shape.Address(id, 1)
			p := bad.pages[at]
			p[i] ^= 1 << (i % 8)
			bad.pages[at] = p
			if _, err := tree.Floor(5, bad.source()); blocktree.KindOf(err) != blocktree.Corrupt {
				t.Fatalf("byte %d of %v: %v", i, id, err)
			}
		}
	}
	other := tree
	other.File.Inode++
	if _, err := other.Floor(5, m.source()); blocktree.KindOf(err) != blocktree.Corrupt {
		t.Errorf("a tree of another file: %v", err)
	}
}

// TestPutBack puts an old page back in the place of a newer one, as a disk that went back in time does.
func TestPutBack(t *testing.T) {
	shape := NewShape(1000)
	m := newMemory(&shape)
	tree := Tree{File: testFile, Shape: &shape}
	var olds []*memory
	for n := uint64(1); n < 8; n++ {
		root, err := tree.Fold(Floors, changesOf(map[uint64]Floor{7: floor(n), 900: floor(n)}), m.source(), m.keep)
		if err != nil {
			t.Fatal(err)
		}
		tree.Roots[Floors] = root
		for i, old := range olds {
			if _, err := tree.Floor(7, old.source()); err == nil {
				t.Fatalf("after fold %d the pages of fold %d pass", n, i+1)
			}
		}
		olds = append(olds, m.clone())
	}
}

// TestFoldStops ends a fold at each page: the tree before it stays whole, and the fold can be made again.
func TestFoldStops(t *testing.T) {
	shape := NewShape(1 << 20)
	m := newMemory(&shape)
	tree := Tree{File: testFile, Shape: &shape}
	first, second := map[uint64]Floor{}, map[uint64]Floor{}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range uint64(300) {
		first[r.Uint64N(1<<20)], second[r.Uint64N(1<<20)] = floor(i+1), floor(i+1000)
	}
	root, err := tree.Fold(Floors, changesOf(first), m.source(), m.keep)
	if err != nil {
		t.Fatal(err)
	}
	tree.Roots[Floors] = root
	full := errors.New("no more")
	for stop := 0; ; stop++ {
		left := stop
		_, err := tree.Fold(Floors, changesOf(second), m.source(), func(id PageID, ref Ref, p *Page) error {
			if left == 0 {
				return full
			}
			left--
			return m.keep(id, ref, p)
		})
		if stop%7 == 0 || err == nil {
			for k, want := range first {
				if got, err := tree.Floor(blocktree.SectorIndex(k), m.source()); err != nil || got != want {
					t.Fatalf("stopped at page %d: sector %d: %v, %v", stop, k, got, err)
				}
			}
		}
		if err == nil {
			return
		}
		if !errors.Is(err, full) {
			t.Fatal(err)
		}
	}
}

// TestShape wants every page in every place at an address of its own, within the file.
func TestShape(t *testing.T) {
	for _, sectors := range []uint64{1, Fanout, Fanout + 1, 5 * Fanout} {
		shape := NewShape(sectors)
		seen := map[blocktree.SectorIndex]bool{}
		for w, tree := range shape.trees {
			for level := range tree.levels {
				for i := range min(tree.count[level], 200) {
					for place := uint8(1); place <= 2; place++ {
						at := shape.Address(PageID{Which(w), uint8(level), i}, place)
						if seen[at] || uint64(at)*PageBytes >= shape.Bytes() {
							t.Fatalf("%d sectors: tree %d level %d page %d place %d at %d", sectors, w, level, i, place, at)
						}
						seen[at] = true
					}
				}
			}
		}
	}
	largest := NewShape(blocktree.FileBytesMax / blocktree.SectorBytesMin)
	if largest.Bytes() > blocktree.FileBytesMax {
		t.Errorf("the pages of the largest file take %d bytes", largest.Bytes())
	}
}

// TestFoldRefuses gives keys that are none of the tree, or in disorder.
func TestFoldRefuses(t *testing.T) {
	shape := NewShape(100)
	m := newMemory(&shape)
	tree := Tree{File: testFile, Shape: &shape}
	for _, keys := range [][]uint64{{100}, {5, 5}, {6, 5}} {
		var changes []Change
		for _, k := range keys {
			changes = append(changes, FloorChange(blocktree.SectorIndex(k), floor(1)))
		}
		if _, err := tree.Fold(Floors, changes, m.source(), m.keep); blocktree.KindOf(err) != blocktree.Invalid || m.kept > 0 {
			t.Errorf("keys %v: %v, %d pages kept", keys, err, m.kept)
		}
	}
}

// TestJudge is the rule of docs/design/0028 as a table.
func TestJudge(t *testing.T) {
	leaf := blocktree.Leaf{1, 2, 3}
	is := FloorOf(blocktree.Version{Epoch: 3, Sequence: 5}, leaf)
	other := leaf
	other[15]++
	for _, c := range []struct {
		v    blocktree.Version
		leaf blocktree.Leaf
		want Verdict
	}{
		{blocktree.Version{Epoch: 3, Sequence: 5}, leaf, Fresh},
		{blocktree.Version{Epoch: 3, Sequence: 5}, other, Forged},
		{blocktree.Version{Epoch: 3, Sequence: 4}, leaf, Older},
		{blocktree.Version{Epoch: 2, Sequence: 9}, leaf, Older},
		{blocktree.Version{Epoch: 3, Sequence: 6}, other, Fresh},
		{blocktree.Version{Epoch: 4, Sequence: 1}, other, Fresh},
	} {
		if got := is.Judge(c.v, c.leaf); got != c.want {
			t.Errorf("%v: %v, want %v", c.v, got, c.want)
		}
	}
	if is.JudgeAbsent() != Older || (Floor{}).JudgeAbsent() != Fresh || (Floor{}).Judge(blocktree.Version{Epoch: 1, Sequence: 1}, leaf) != Fresh {
		t.Error("absence")
	}
}
