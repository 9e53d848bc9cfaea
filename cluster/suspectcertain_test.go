package cluster

import (
	"slices"
	"testing"

	"blocktree"
	"blocktree/cluster/stripe"
)

// TestCertainByTheLayout: node 1 is accused. Who keeps a file, and how many of those may lie, is not what the accusers say: only those count that keep what they name, together with the accused, and
// it takes more of the keepers of one file than may lie of that.
func TestCertainByTheLayout(t *testing.T) {
	files := map[blocktree.Inode]keptBy{
		1: {[]blocktree.NodeID{1, 2, 3}, 1},       // 2+1
		2: {[]blocktree.NodeID{1, 2, 3, 4}, 2},    // 2+2
		3: {[]blocktree.NodeID{4, 5, 6}, 1},       // of others
		4: {[]blocktree.NodeID{1, 5, 6}, 1},       // of the accused with others
		5: {[]blocktree.NodeID{1, 2, 3, 4, 5}, 4}, // 1+4
	}
	kept := func(at sighting) (keptBy, bool) {
		k, ok := files[at.file.Inode]
		return k, ok
	}
	type says map[blocktree.NodeID]blocktree.Inode
	for name, x := range map[string]struct {
		says
		want bool
	}{
		"both others of 2+1":                         {says{2: 1, 3: 1}, true},
		"both others, one of another file":           {says{2: 1, 3: 2}, true}, // both keep the first, of which one may lie
		"as many as may lie":                         {says{2: 2, 3: 2}, false},
		"one more than may lie":                      {says{2: 2, 3: 2, 4: 2}, true},
		"three that keep nothing of it":              {says{4: 1, 5: 1, 6: 1}, false},
		"three that keep a file without the accused": {says{4: 3, 5: 3, 6: 3}, false},
		"one of it and two that do not keep it":      {says{2: 1, 5: 1, 6: 1}, false},
		"one of each of two files":                   {says{2: 1, 5: 4}, false}, // each may be the one that lies of its file
		"a file that there is not":                   {says{2: 7, 3: 7}, false},
		"a file that there is not, and one that is":  {says{2: 7, 3: 1}, false},
		"fewer than may lie of 1+4":                  {says{2: 5, 3: 5, 4: 5}, false},
	} {
		sum := newSuspectSum()
		for node, file := range x.says {
			sum.add(node, []suspicion{{suspectKey: suspectKey{1, stripe.SuspectShard}, count: 1, file: blocktree.FileID{Generation: 1, Inode: file}}}, nil)
		}
		sum.weigh(kept)
		if got := sum.suspectsOf(1); len(got) != 1 || got[0].Certain != x.want || got[0].Nodes != len(x.says) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestLayoutIsWhatMostSay: one node that tells another layout, or none that makes sense, decides nothing; more than half of all do.
func TestLayoutIsWhatMostSay(t *testing.T) {
	file := blocktree.FileID{Generation: 1, Inode: 7}
	layout := func(parity int, hosts ...blocktree.NodeID) *stripe.Layout {
		return &stripe.Layout{File: file, Code: blocktree.Code{Data: 2, Parity: parity}, SectorBytes: 4096, RegionSectors: 100, Sectors: 150, Hosts: hosts}
	}
	honest, liar := layout(1, 1, 2, 3), layout(1, 1, 5, 6)
	other := layout(1, 1, 2, 3)
	other.File.Inode++
	for name, x := range map[string]struct {
		words  []*stripe.Layout
		nodes  int
		sector blocktree.SectorIndex
		want   bool
	}{
		"all":                         {[]*stripe.Layout{honest, honest, honest}, 3, 0, true},
		"all but one":                 {[]*stripe.Layout{liar, honest, honest}, 3, 120, true},
		"half of four":                {[]*stripe.Layout{liar, honest, honest, layout(2, 1, 2, 3, 4)}, 4, 0, false},
		"one that can be reached":     {[]*stripe.Layout{honest}, 3, 0, false},
		"behind the end":              {[]*stripe.Layout{honest, honest, honest}, 3, 150, false},
		"another file":                {[]*stripe.Layout{other, other, other}, 3, 0, false},
		"nothing":                     {[]*stripe.Layout{nil, nil, nil}, 3, 0, false},
		"no regions":                  {[]*stripe.Layout{{File: file, Code: honest.Code, Sectors: 5}}, 1, 0, false},
		"too few hosts for the code":  {[]*stripe.Layout{layout(1, 1, 2)}, 1, 0, false},
		"a host that is there twice":  {[]*stripe.Layout{layout(1, 1, 2, 2)}, 1, 0, false},
		"no code that there can be":   {[]*stripe.Layout{{File: file, RegionSectors: 9, Sectors: 5, Hosts: honest.Hosts}}, 1, 0, false},
		"of other hosts than most":    {[]*stripe.Layout{liar, liar, honest}, 5, 0, false},
		"nobody was asked, or spoke":  {nil, 3, 0, false},
		"of the last region, in part": {[]*stripe.Layout{honest, honest}, 3, 149, true},
	} {
		got, ok := agreed(x.words, x.nodes, sighting{file, x.sector})
		if ok != x.want || ok && (got.parity != 1 || !slices.Equal(got.members, []blocktree.NodeID{1, 2, 3})) {
			t.Errorf("%s: %+v, %v", name, got, ok)
		}
	}
}

// TestNamedIsBounded: however much is accused, only so many layouts are asked for, of several accusers alone, and each accused node has its share.
func TestNamedIsBounded(t *testing.T) {
	sum := newSuspectSum()
	file := func(i int) blocktree.FileID { return blocktree.FileID{Generation: 1, Inode: blocktree.Inode(i)} }
	for node := blocktree.NodeID(10); node < 400; node++ { // two that accuse everybody of everything, of files of their own
		for kind := stripe.SuspectKind(1); kind < stripe.SuspectKindEnd; kind++ {
			for _, by := range []blocktree.NodeID{1, 2} {
				sum.add(by, []suspicion{{suspectKey: suspectKey{node, kind}, file: file(int(by)*10000 + int(node)*10 + int(kind))}}, nil)
			}
		}
	}
	for _, by := range []blocktree.NodeID{3, 4, 5} {
		sum.add(by, []suspicion{{suspectKey: suspectKey{500, stripe.SuspectShard}, file: file(1)}}, nil)
	}
	sum.add(3, []suspicion{{suspectKey: suspectKey{6, stripe.SuspectShard}, file: file(2)}}, nil)
	files := sum.named()
	if len(files) != suspectAllFilesMax || !slices.Contains(files, file(1)) || slices.Contains(files, file(2)) {
		t.Errorf("%d files, with that of the three %v, with that of the one %v", len(files), slices.Contains(files, file(1)), slices.Contains(files, file(2)))
	}
}
