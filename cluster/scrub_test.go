package cluster

import (
	"bytes"
	"log/slog"
	"reflect"
	"sync"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/store"
	"blocktree/cluster/stripe"
	"blocktree/crypto/seal"
	"blocktree/internal/erasure"
	"blocktree/internal/vfs"
)

func someScrubState() scrubState {
	counts := func(n uint64) (c ScrubCounts) {
		for i, f := range c.fields() {
			*f = n + uint64(i)
		}
		return c
	}
	file := blocktree.FileID{Generation: 1, Inode: 7}
	return scrubState{total: counts(1), passes: 2, leftAt: 3, leaving: true,
		asked:    scrubWalk{id: 4, active: true, began: 5, files: []blocktree.FileID{file, {Generation: 2, Inode: 1}}, file: file, sector: 6, counts: counts(20), owed: 7, left: 8},
		ground:   scrubWalk{began: 9, counts: counts(40)},
		findings: []ScrubFinding{{Time: time.Unix(10, 0), File: file, Name: "1.7", First: 11, Count: 12, Kind: ScrubMixed, Outcome: ScrubLater}}}
}

// TestScrubState: what a node remembers of its scrubs outlives it; what is damaged is as if it were not there.
func TestScrubState(t *testing.T) {
	disk := vfs.NewCrash()
	if err := disk.MkdirAll("/s"); err != nil {
		t.Fatal(err)
	}
	want := someScrubState()
	if err := want.save(disk, "/s"); err != nil {
		t.Fatal(err)
	}
	var got scrubState
	if got.load(disk, "/s"); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	b := want.encode()
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 4
		if _, err := decodeScrubState(bad); err == nil {
			t.Fatalf("byte %d is damaged, and it is taken", i)
		}
		if _, err := decodeScrubState(b[:i]); err == nil {
			t.Fatalf("%d bytes are taken for the whole", i)
		}
	}
}

// FuzzScrub: whatever decodes encodes to the same bytes.
func FuzzScrub(f *testing.F) {
	s := someScrubState()
	r := ScrubReport{Total: s.total, Walks: 1, Active: true, Asked: ScrubAsked{ID: 3, Active: true, Counts: s.total, Left: 4, Done: 5, Of: 6}, Findings: s.findings}
	q := scrubRequest{id: 9, files: s.asked.files}
	for _, b := range [][]byte{s.encode(), r.encode(), q.encode()} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if x, err := decodeScrubState(b); err == nil && !bytes.Equal(x.encode(), b) {
			t.Errorf("a state: %x, again %x", b, x.encode())
		}
		if x, err := decodeScrubReport(b); err == nil && !bytes.Equal(x.encode(), b) {
			t.Errorf("a report: %x, again %x", b, x.encode())
		}
		if x, err := decodeScrubRequest(b); err == nil && !bytes.Equal(x.encode(), b) {
			t.Errorf("a request: %x, again %x", b, x.encode())
		}
	})
}

// TestScrubMetOnce: damage that is met again and again is tried once in a while, and what waits is bounded.
func TestScrubMetOnce(t *testing.T) {
	s := &scrubber{met: map[scrubMet]time.Time{}, wake: make(chan struct{}, 1)}
	for range 3 {
		for i := range blocktree.SectorIndex(2 * scrubMetMax) {
			s.noteMet(store.Damage{File: memberFile, Sectors: []blocktree.SectorIndex{i * blocktree.RunSectorsMax, i*blocktree.RunSectorsMax + 1}})
		}
	}
	if len(s.waits) != scrubMetMax {
		t.Errorf("%d wait", len(s.waits))
	}
	tried := s.waits[0]
	s.waits, s.met[tried] = s.waits[1:], time.Now()
	s.noteMet(store.Damage{File: memberFile, Sectors: []blocktree.SectorIndex{0}})
	if len(s.waits) != scrubMetMax-1 {
		t.Error("what was just tried waits again")
	}
}

// TestScrubNext: what the node has counted stays, whatever it was at is begun anew, and what cannot be read is replaced.
func TestScrubNext(t *testing.T) {
	disk := vfs.NewCrash()
	if err := disk.MkdirAll("/s"); err != nil {
		t.Fatal(err)
	}
	var is scrubState
	next := func() {
		t.Helper()
		if err := ScrubNext(disk, "/s"); err != nil {
			t.Fatal(err)
		}
		is.load(disk.Clone(1), "/s") // after a power loss
		if w := is.asked; !w.active || w.id == 0 || len(w.files) != 0 || w.sector != 0 || w.counts != (ScrubCounts{}) || w.owed != 0 {
			t.Fatalf("%+v", w)
		}
	}
	next()
	was := someScrubState()
	if err := was.save(disk, "/s"); err != nil {
		t.Fatal(err)
	}
	if next(); is.total != was.total || is.leftAt != was.leftAt {
		t.Errorf("%+v, was %+v", is, was)
	}
	if err := replaceFile(disk, "/s", scrubFile, []byte("anything"), true); err != nil {
		t.Fatal(err)
	}
	next()
}

// TestRebuildForgedSeal: no shard is made of members that agree on the bytes and not on how they were sealed. A leaf needs no key, so
// one that lies can make one that matches the others' bytes.
func TestRebuildForgedSeal(t *testing.T) {
	const bytesOf = 4096
	code := blocktree.Code{Data: 2, Parity: 2}
	codec, err := erasure.New(code)
	if err != nil {
		t.Fatal(err)
	}
	v := blocktree.Version{Epoch: 3, Sequence: 4}
	sealed := bytes.Repeat([]byte("sealed 8"), bytesOf/8)
	header := func(tag byte) []byte {
		h := make([]byte, seal.HeaderBytes)
		seal.HeaderTag(h)[0] = tag
		leaf := seal.Leaf(memberFile, 5, v, seal.HeaderNonce(h), seal.HeaderTag(h), sealed)
		copy(h, leaf[:])
		return h
	}
	shards := make([][]byte, code.Shards())
	for i := range shards {
		shards[i] = make([]byte, bytesOf/code.Data)
		if i < code.Data {
			copy(shards[i], sealed[i*bytesOf/code.Data:])
		}
	}
	if err := codec.Encode(shards); err != nil {
		t.Fatal(err)
	}
	r := &rebuilder{codec: codec, file: memberFile, sectorBytes: bytesOf}
	rebuild := func(tags ...byte) ([]byte, error) {
		p := stripe.Piece{First: 5, Count: 1, Version: v, Kind: stripe.Data}
		for i, tag := range tags {
			p.Shards = append(p.Shards, stripe.ShardRun{Shard: blocktree.ShardIndex(i), Payload: shards[i], Seals: header(tag)})
		}
		_, seals, err := r.Rebuild(3, p)
		return seals, err
	}
	if _, err := rebuild(9, 1); blocktree.KindOf(err) != blocktree.Corrupt {
		t.Errorf("made of one that lies and an honest one: %v", err)
	}
	if seals, err := rebuild(9, 1, 1); err != nil || !bytes.Equal(seals, header(1)) {
		t.Errorf("of one that lies and two honest ones: %v", err)
	}
}

// TestScrubJudge: what checks is given up only where all have told, and nobody could read it.
func TestScrubJudge(t *testing.T) {
	mine := scrubSector{x: stripe.Extent{First: 7, Count: 1, Version: blocktree.Version{Epoch: 1, Sequence: 2}}, payload: []byte{1}, seal: []byte{1}}
	other := mine
	other.seal = []byte{2}
	for name, c := range map[string]struct {
		code blocktree.Code
		all  []scrubSector
		want ScrubOutcome
	}{
		"two copies":             {blocktree.Code{Data: 1, Parity: 1}, []scrubSector{other}, ScrubBeyond},
		"three copies":           {blocktree.Code{Data: 1, Parity: 2}, []scrubSector{other, other}, ScrubBeyond},
		"alone":                  {blocktree.Code{Data: 2, Parity: 1}, []scrubSector{other, other}, ScrubRepaired},
		"one has not told":       {blocktree.Code{Data: 2, Parity: 2}, []scrubSector{other, other}, ScrubLater},
		"as many":                {blocktree.Code{Data: 2, Parity: 2}, []scrubSector{other, other, mine}, ScrubBeyond},
		"one has something else": {blocktree.Code{Data: 2, Parity: 2}, []scrubSector{other, other, {}}, ScrubRepaired},
	} {
		check := &scrubCheck{layout: &stripe.Layout{Code: c.code}, view: stripe.View{Members: make([]stripe.ViewMember, c.code.Shards())}}
		all := map[blocktree.NodeID]map[blocktree.SectorIndex]scrubSector{}
		for i, x := range c.all {
			all[blocktree.NodeID(i+2)] = map[blocktree.SectorIndex]scrubSector{7: x}
		}
		if got := check.judge(mine, all); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// TestScrubReport: a report does not change under whoever encodes it.
func TestScrubReport(t *testing.T) {
	s := &scrubber{logger: slog.New(slog.DiscardHandler), wake: make(chan struct{}, 1)}
	c := &scrubCheck{layout: &stripe.Layout{File: memberFile}}
	find := func(first blocktree.SectorIndex) {
		c.found = nil
		for i := range blocktree.SectorIndex(scrubFindingsMax) {
			c.found = append(c.found, scrubFound{first + 2*i, ScrubBitRot, ScrubRepaired})
		}
		s.note(&s.state.ground, c, true)
	}
	find(0)
	find(500) // from here on there is room behind them
	r := s.report()
	was := r.encode()
	var wg sync.WaitGroup
	wg.Go(func() { find(1000) })
	is := r.encode()
	wg.Wait()
	if !bytes.Equal(was, is) || !bytes.Equal(was, r.encode()) {
		t.Error("it changed")
	}
}
