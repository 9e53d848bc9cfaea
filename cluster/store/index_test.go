package store

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"blocktree"
	"blocktree/internal/vfs"
)

// flat is the dumb model of an index: what each sector of some files is, and by which record.
type flat struct {
	content Content
	version blocktree.Version
	at      place
	index   uint32
}

const flatSectors = 5*PageSectors + 30

// TestIndexAgainstFlatModel applies data, zeros, drops and resets in random order, old versions after new ones, and some
// of them twice, with checkpoints and reopening between, and compares with the model.
func TestIndexAgainstFlatModel(t *testing.T) {
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 2))
		fs := vfs.NewCrash()
		opts := Options{SegmentBytes: 64 << 10, CacheBytes: 1 << 10, compactNever: true} // the model knows places
		s, _ := openTest(t, fs, opts)
		model := map[blocktree.FileID][]flat{}
		files := []blocktree.FileID{testFile, {Generation: 1, Inode: 8}, {Generation: 2, Inode: 7}}
		for _, f := range files {
			model[f] = make([]flat, flatSectors)
		}
		for n := range 400 {
			randomIndexStep(t, rng, s, model, files[rng.IntN(len(files))])
			if n%40 == 39 {
				compareFlat(t, fmt.Sprintf("seed %d step %d", seed, n), s, model)
			}
			if n%100 == 50 {
				c, err := s.BeginCheckpoint(nil)
				if err != nil {
					t.Fatal(err)
				}
				randomIndexStep(t, rng, s, model, testFile) // between the two halves
				if err := c.Finish(); err != nil {
					t.Fatal(err)
				}
			}
			if n%100 == 99 {
				if err := s.Close([]byte{}); err != nil {
					t.Fatal(err)
				}
				s, _ = openTest(t, fs, opts)
				compareFlat(t, fmt.Sprintf("seed %d reopened at step %d", seed, n), s, model)
			}
		}
		if err := s.Close(nil); err != nil {
			t.Fatal(err)
		}
	}
}

func randomIndexStep(t *testing.T, rng *rand.Rand, s *Store, model map[blocktree.FileID][]flat, file blocktree.FileID) {
	t.Helper()
	v := blocktree.Version{Epoch: blocktree.Epoch(1 + rng.IntN(3)), Sequence: blocktree.Sequence(1 + rng.IntN(100))}
	first := rng.IntN(flatSectors)
	r := Record{Kind: KindZero, File: file, First: blocktree.SectorIndex(first), Version: v}
	switch rng.IntN(10) {
	case 0:
		count := rng.IntN(flatSectors - first + 1)
		if err := s.DropRange(file, r.First, uint64(count)); err != nil {
			t.Fatal(err)
		}
		clear(model[file][first : first+count])
		return
	case 1, 2:
		r.Count = uint32(1 + rng.IntN(flatSectors-first))
	default:
		r = dataRecord(file, r.First, uint32(1+rng.IntN(min(40, flatSectors-first))), 16, v)
	}
	ref := appendWait(t, s, r)[0]
	x := extentOf(&r, ref)
	drop := r.Kind == KindData && rng.IntN(5) == 0
	dropFrom := uint32(rng.IntN(int(r.Count)))
	if drop {
		s.Drop(ref, dropFrom, r.Count)
		x.Count = dropFrom
	}
	if x.Count == 0 {
		return
	}
	parts := []Extent{x}
	if cut := uint32(rng.IntN(int(x.Count))); cut > 0 { // in two parts, the later one first, and some twice
		parts = []Extent{x.Sub(cut, x.Count-cut), x.Sub(0, cut), x}
	}
	for _, p := range parts {
		if err := s.Index(file, p); err != nil {
			t.Fatal(err)
		}
	}
	for i := range x.Count {
		c := &model[file][first+int(i)]
		if c.content == Absent || older(c.version, c.at, v, ref.place()) {
			*c = flat{x.Content, v, ref.place(), i}
			if x.Content == Zero {
				c.index = 0
			}
		}
	}
}

func compareFlat(t *testing.T, when string, s *Store, model map[blocktree.FileID][]flat) {
	t.Helper()
	live := map[uint32]int64{}
	for file, cells := range model {
		found, err := s.Lookup(file, 0, flatSectors, nil)
		if err != nil {
			t.Fatal(err)
		}
		at := 0
		for n, x := range found {
			if n > 0 && joins(found[n-1], x) {
				t.Fatalf("%s: extents %v and %v are one", when, found[n-1], x)
			}
			for i := range x.Count {
				got := flat{x.Content, x.Version, x.Ref.place(), 0}
				if x.Content == Data {
					got.index = x.Index + i
				}
				if got != cells[at] {
					t.Fatalf("%s: file %v sector %d: index says %v, model %v", when, file, at, got, cells[at])
				}
				at++
			}
			if x.Content == Data {
				live[x.Ref.Segment] += int64(x.Count)
				if err := checkExtent(s, file, x); err != nil {
					t.Fatalf("%s: %v", when, err)
				}
			}
		}
		if at != flatSectors {
			t.Fatalf("%s: lookup ends at %d", when, at)
		}
		compareZeros(t, when, s, file, cells)
	}
	s.pins.mu.Lock()
	defer s.pins.mu.Unlock()
	if len(s.pins.pending) > 0 {
		t.Fatalf("%s: %d records are pending", when, len(s.pins.pending))
	}
	for n, l := range s.pins.live {
		if l.sectors != live[n] {
			t.Fatalf("%s: segment %d counts %d live sectors, has %d", when, n, l.sectors, live[n])
		}
		delete(live, n)
	}
	if len(live) > 0 {
		t.Fatalf("%s: segments %v have live sectors and count none", when, live)
	}
}

func TestSetRun(t *testing.T) {
	at := func(first, count int, seq uint64) run {
		return run{first: uint16(first), count: uint16(count), version: version(seq), at: place(seq), content: Zero, recCount: 1}
	}
	show := func(runs []run) (out string) {
		for _, r := range runs {
			out += fmt.Sprintf("%d+%d@%d ", r.first, r.count, r.version.Sequence)
		}
		return out
	}
	for _, x := range []struct {
		name       string
		runs       []run
		n          run
		want, dead string
	}{
		{"empty", nil, at(3, 4, 1), "3+4@1 ", ""},
		{"behind", []run{at(0, 2, 1)}, at(3, 4, 2), "0+2@1 3+4@2 ", ""},
		{"before", []run{at(9, 2, 1)}, at(3, 4, 2), "3+4@2 9+2@1 ", ""},
		{"cover", []run{at(3, 2, 1), at(6, 1, 2)}, at(2, 8, 3), "2+8@3 ", "3+2@1 6+1@2 "},
		{"inside", []run{at(0, 9, 1)}, at(3, 2, 2), "0+3@1 3+2@2 5+4@1 ", "3+2@1 "},
		{"older inside", []run{at(0, 9, 5)}, at(3, 2, 2), "0+9@5 ", "3+2@2 "},
		{"older around", []run{at(3, 2, 5)}, at(0, 9, 2), "0+3@2 3+2@5 5+4@2 ", "3+2@2 "},
		{"mixed", []run{at(0, 3, 5), at(3, 3, 1), at(7, 3, 5)}, at(1, 8, 3), "0+3@5 3+4@3 7+3@5 ", "1+2@3 3+3@1 7+2@3 "},
		{"again", []run{at(0, 9, 2)}, at(3, 2, 2), "0+9@2 ", ""},
		{"whole page", []run{at(0, PageSectors, 1)}, at(0, PageSectors, 2), "0+256@2 ", "0+256@1 "},
		{"last sector", []run{at(0, PageSectors, 1)}, at(255, 1, 2), "0+255@1 255+1@2 ", "255+1@1 "},
	} {
		var dead []run
		got := setRun(nil, x.runs, x.n, func(r run) { dead = append(dead, r) })
		if show(got) != x.want || show(dead) != x.dead {
			t.Errorf("%s: got %s dead %s, want %s dead %s", x.name, show(got), show(dead), x.want, x.dead)
		}
	}
}

// TestTouching: laying a run over those that it touches is laying it over all.
func TestTouching(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	local := 0
	for round := range 300 {
		var runs []run
		for seq := range 400 {
			n := run{version: version(rng.Uint64N(300) + 1), content: Zero, recCount: 1, first: uint16(rng.IntN(PageSectors))}
			n.at, n.count = place(n.version.Sequence), min(uint16(rng.IntN(4)+1), PageSectors-n.first)
			if rng.IntN(2) == 0 {
				n.content, n.shardBytes, n.recCount = Data, 512, n.count
			}
			var deadWhole, deadLocal []run
			whole := setRun(nil, runs, n, func(r run) { deadWhole = append(deadWhole, r) })
			from, to := touching(runs, n)
			mid := setRun(nil, runs[from:to], n, func(r run) { deadLocal = append(deadLocal, r) })
			if to-from < len(runs) {
				local++
			}
			runs = slices.Replace(slices.Clone(runs), from, to, mid...)
			if !slices.Equal(runs, whole) || !slices.Equal(deadWhole, deadLocal) {
				t.Fatalf("round %d, run %d: %+v gave %v dead %v, want %v dead %v", round, seq, n, runs, deadLocal, whole, deadWhole)
			}
		}
	}
	if local == 0 {
		t.Error("every run touched all")
	}
}

// TestRunAfter: where it looks is never too narrow, in pages of few and of many runs, of gaps and of none.
func TestRunAfter(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 2000 {
		var runs []run
		gaps, longest := rng.IntN(3), rng.IntN(8)+1
		for at := 0; at < PageSectors; {
			if gaps > 0 {
				at += rng.IntN(gaps + 1)
			}
			n := min(rng.IntN(longest)+1, PageSectors-at)
			if n <= 0 || rng.IntN(300) == 0 {
				break
			}
			runs = append(runs, run{first: uint16(at), count: uint16(n)})
			at += n
		}
		for n := -1; n < PageSectors; n++ {
			want := slices.IndexFunc(runs, func(r run) bool { return int(r.end()) > n })
			if want < 0 {
				want = len(runs)
			}
			if got := runAfter(runs, n); got != want {
				t.Fatalf("round %d, %d runs: the first that ends behind %d is %d, not %d", round, len(runs), n, want, got)
			}
		}
	}
}

// TestTrimOfTwoTebibytes is metadata only: 2048 tombstones of a region each over a sparse file.
func TestTrimOfTwoTebibytes(t *testing.T) {
	const regionSectors = blocktree.RegionBytes / blocktree.SectorBytesDefault
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, Options{SegmentBytes: 1 << 20})
	for i := range uint64(64) {
		put(t, s, dataRecord(testFile, blocktree.SectorIndex(i*32*regionSectors+i), 1, 64, version(i+1)))
	}
	recs := make([]Record, 2048)
	for i := range recs {
		recs[i] = Record{
			Kind: KindZero, File: testFile, First: blocktree.SectorIndex(i) * regionSectors, Count: regionSectors, Version: version(100 + uint64(i)),
		}
	}
	for i, ref := range appendWait(t, s, recs...) {
		if err := s.Index(testFile, extentOf(&recs[i], ref)); err != nil {
			t.Fatal(err)
		}
	}
	st := s.Stats()
	if st.LiveBytes != 0 || st.ZeroRanges != 2048 || st.LogBytes > 3<<20 {
		t.Errorf("%+v", st)
	}
	if err := s.Close([]byte{}); err != nil {
		t.Fatal(err)
	}
	s, _ = openTest(t, fs, Options{SegmentBytes: 1 << 20})
	if st := s.Stats(); st.Pages != 0 || st.ZeroRanges != 2048 {
		t.Errorf("reopened: %+v", st)
	}
	for _, i := range []uint64{0, 1, 1023, 2047} {
		x := lookup(t, s, blocktree.SectorIndex(i*regionSectors), 7)
		if len(x) != 1 || x[0].Content != Zero || x[0].Version != version(100+i) {
			t.Errorf("region %d: %v", i, x)
		}
	}
	if err := s.DropRange(testFile, 0, 2048*regionSectors); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.ZeroRanges != 0 {
		t.Errorf("dropped: %+v", st)
	}
}

// TestCacheIsBounded touches far more pages than the cache holds.
func TestCacheIsBounded(t *testing.T) {
	fs := vfs.NewCrash()
	opts := Options{SegmentBytes: 1 << 20, CacheBytes: 20 << 10, DirtyBytes: 40 << 10}
	s, _ := openTest(t, fs, opts)
	wanted := 0
	for i := range uint64(1000) {
		put(t, s, dataRecord(testFile, blocktree.SectorIndex(i*PageSectors), 1, 64, version(i+1)))
		select {
		case <-s.CheckpointWanted():
			wanted++
			c, err := s.BeginCheckpoint(nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Finish(); err != nil {
				t.Fatal(err)
			}
		default:
		}
		if st := s.Stats(); st.CacheBytes > opts.CacheBytes+opts.DirtyBytes+4096 {
			t.Fatalf("step %d: %+v", i, st)
		}
	}
	if wanted == 0 {
		t.Error("no checkpoint was asked for")
	}
	for i := range uint64(1000) {
		x := lookup(t, s, blocktree.SectorIndex(i*PageSectors), 1)
		if len(x) != 1 || x[0].Version != version(i+1) {
			t.Fatalf("page %d: %v", i, x)
		}
	}
	if st := s.Stats(); st.CacheBytes > opts.CacheBytes+opts.DirtyBytes+4096 {
		t.Errorf("after reading all: %+v", st)
	}
}

// TestIndexFileIsRewritten checkpoints the same pages until more than half of the file is garbage.
func TestIndexFileIsRewritten(t *testing.T) {
	fs := vfs.NewCrash()
	opts := Options{SegmentBytes: 1 << 20}
	s, _ := openTest(t, fs, opts)
	v := uint64(0)
	for page := range blocktree.SectorIndex(40) { // a page that never changes again, and must be carried over
		for i := range blocktree.SectorIndex(40) {
			v++
			put(t, s, dataRecord(testFile, page*PageSectors+2*i, 1, 16, version(v)))
		}
	}
	first := uint32(0)
	for range 60 {
		v++
		for page := range blocktree.SectorIndex(39) {
			put(t, s, dataRecord(testFile, page*PageSectors, 1, 16, version(v)))
		}
		c, err := s.BeginCheckpoint(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Finish(); err != nil {
			t.Fatal(err)
		}
		if first == 0 {
			first = s.indexNumber
		}
		if limit := int64(3*40*pageBytesMax + indexSlackBytes); s.indexBytes > limit {
			t.Fatalf("the index file has %d bytes", s.indexBytes)
		}
	}
	if s.indexNumber == first {
		t.Error("the index file was never rewritten")
	}
	names, err := fs.List(testDir)
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	for _, n := range names {
		if _, ok := numberOf(n, indexPrefix); ok {
			files++
		}
	}
	if files != 1 {
		t.Errorf("%d index files: %v", files, names)
	}
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
	s, _ = openTest(t, fs, opts)
	if x := lookup(t, s, 39*PageSectors, 80); len(x) != 80 || checkExtent(s, testFile, x[78]) != nil {
		t.Errorf("the page that did not change: %d extents", len(x))
	}
}

func TestDamagedPageIsNotAbsent(t *testing.T) {
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, smallOptions)
	put(t, s, dataRecord(testFile, 0, 1, 64, version(1)))
	put(t, s, dataRecord(testFile, 1000, 1, 64, version(2)))
	if err := s.Close([]byte{}); err != nil {
		t.Fatal(err)
	}
	flipFile(t, fs, indexName("", 1), 50, 1)
	s, _ = openTest(t, fs, smallOptions)
	bad, good := 0, 0
	for _, first := range []blocktree.SectorIndex{0, 1000} {
		switch _, err := s.Lookup(testFile, first, 1, nil); blocktree.KindOf(err) {
		case blocktree.Corrupt:
			bad++
			if err := s.DropRange(testFile, first, 1); blocktree.KindOf(err) != blocktree.Corrupt {
				t.Errorf("drop in a damaged page: %v", err)
			}
		case blocktree.Other:
			good++
		}
	}
	if bad != 1 || good != 1 {
		t.Errorf("%d pages damaged, %d good", bad, good)
	}
}

// TestDeadSegments overwrites the same sectors for ever: disk usage stays, and nothing live goes.
func TestDeadSegments(t *testing.T) {
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, smallOptions)
	keep := dataRecord(testFile, 500, 3, 512, version(1))
	keepRef := put(t, s, keep)
	pending := dataRecord(testFile, 600, 3, 512, version(2))
	pendingRef := appendWait(t, s, pending)[0]
	checkpoints := 0
	for v := uint64(3); v < 600; v++ {
		put(t, s, dataRecord(testFile, blocktree.SectorIndex(v%4), 4, 512, version(v)))
		select {
		case <-s.CheckpointWanted():
			checkpoints++
			c, err := s.BeginCheckpoint(nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Finish(); err != nil {
				t.Fatal(err)
			}
		default:
		}
		if n := s.Stats().Segments; n > 12 {
			t.Fatalf("version %d: %d segments", v, n)
		}
	}
	if checkpoints < 5 {
		t.Errorf("%d checkpoints were asked for", checkpoints)
	}
	waitPrepared(t, s)
	if s.Stats().DiskBytes != diskUsed(t, fs) {
		t.Errorf("stats say %d bytes on disk, it is %d", s.Stats().DiskBytes, diskUsed(t, fs))
	}
	for r, ref := range map[*Record]Ref{&keep: keepRef, &pending: pendingRef} {
		if err := checkExtent(s, testFile, extentOf(r, ref)); err != nil {
			t.Error(err)
		}
	}
	s.Drop(pendingRef, 0, 3)
	if err := s.DropRange(testFile, 0, 1<<40); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.LiveBytes != 0 || st.Pending != 0 {
		t.Errorf("%+v", st)
	}
	c, err := s.BeginCheckpoint(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Finish(); err != nil {
		t.Fatal(err)
	}
	if n := s.Stats().Segments; n != 1 {
		t.Errorf("%d segments remain", n)
	}
	if err := checkExtent(s, testFile, extentOf(&keep, keepRef)); blocktree.KindOf(err) != blocktree.NotFound {
		t.Errorf("reading from a deleted segment: %v", err)
	}
}

// diskUsed is the size of segments, those that are prepared too, and index.
func diskUsed(t *testing.T, fs vfs.FS) (total int64) {
	t.Helper()
	names, err := fs.List(testDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		_, isIndex := numberOf(n, indexPrefix)
		if _, isSegment := numberOf(n, segmentPrefix); isSegment || isIndex {
			size, err := fs.Stat(testDir + "/" + n)
			if err != nil {
				t.Fatal(err)
			}
			total += size
		}
	}
	return total
}

// compareZeros asks for the zeros of a file in answers of few runs and few pages, as of all at once.
func compareZeros(t *testing.T, when string, s *Store, file blocktree.FileID, cells []flat) {
	t.Helper()
	for _, bound := range []struct{ extents, pages int }{{1 << 20, 1 << 20}, {1, 1}, {3, 2}} {
		for at := blocktree.SectorIndex(1); at < flatSectors; {
			found, end, err := s.Zeros(file, at, uint32(flatSectors-at), bound.extents, bound.pages)
			if err != nil || len(found) == 0 || len(found) > bound.extents || end <= at || end > flatSectors {
				t.Fatalf("%s: %d runs from %d to %d, %v", when, len(found), at, end, err)
			}
			for n, x := range found {
				if x.First != at || x.Count == 0 || n > 0 && found[n-1].Content == x.Content || x.Content == Absent {
					t.Fatalf("%s: run %d of %+v", when, n, found)
				}
				for range x.Count {
					if (cells[at].content == Data) != (x.Content == Data) {
						t.Fatalf("%s: file %v sector %d is %d, and said to be %d", when, file, at, cells[at].content, x.Content)
					}
					at++
				}
			}
			if at != end {
				t.Fatalf("%s: ends at %d, says %d", when, at, end)
			}
		}
	}
}
