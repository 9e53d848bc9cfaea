package cluster

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/store"
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

// TestDistrust: a mark that vouched vouches no more, and stays a mark.
func TestDistrust(t *testing.T) {
	disk := vfs.NewCrash()
	if err := disk.MkdirAll("/s"); err != nil {
		t.Fatal(err)
	}
	if err := Distrust(disk, "/s"); err != nil {
		t.Errorf("without a mark: %v", err)
	}
	was := startMark{incarnation: memberInc, current: 5, next: 6}
	if err := was.save(disk, "/s"); err != nil {
		t.Fatal(err)
	}
	if err := Distrust(disk, "/s"); err != nil {
		t.Fatal(err)
	}
	is, err := loadStart(disk, "/s")
	if err != nil || is.incarnation == was.incarnation || is.current != 5 || is.next != 6 {
		t.Errorf("%+v, %v", is, err)
	}
}
