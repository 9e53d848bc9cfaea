package store

import (
	"bytes"
	"sync/atomic"
	"testing"

	"blocktree"
	"blocktree/internal/vfs"
)

// TestDirectIsCompacted: long records among short ones are copied as they are out of segments that are emptied, the zeros between them passed over, and the offline check finds nothing wrong before and after.
func TestDirectIsCompacted(t *testing.T) {
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, directOptions)
	want := directWorld(t, s)
	for i := range blocktree.SectorIndex(39) { // holes in what is live
		if i%3 == 0 {
			put(t, s, dataRecord(testFile, i, 1, 2048, version(50)))
			want[i] = 50
		}
	}
	checkpointNow(t, s)
	before := map[uint32]bool{}
	for sector := range want {
		before[lookup(t, s, sector, 1)[0].Ref.Segment] = true
	}
	emptied := 0
	for n := range before {
		if n < s.active.number {
			compactOne(t, s, n)
			if live := s.pins.liveSectors(n); live != 0 {
				t.Errorf("segment %d has still %d live sectors", n, live)
			}
			emptied++
		}
	}
	if emptied == 0 {
		t.Fatal("nothing to compact")
	}
	if err := checkVersions(s, want); err != nil {
		t.Error(err)
	}
	checkpointNow(t, s)
	closeStore(t, s, nil)
	report, err := checkUnchanged(fs)
	if err != nil || !report.Clean() {
		t.Fatalf("%v, %+v", err, report)
	}
	s, err = Open(fs, testDir, testID, directOptions, &recorder{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errorsOf(checkVersions(s, want), s.Close(nil)); err != nil || len(s.Damaged()) > 0 {
		t.Errorf("%v, damage %v", err, s.Damaged())
	}
}

// TestDirectInRecycled: in files that were used before nothing of them is left between two records of a segment, nor behind the last, whichever way they were written; and after each loss of power what was acknowledged is there.
func TestDirectInRecycled(t *testing.T) {
	opts := directOptions
	opts.SegmentBytes, opts.directMin = 64<<10, 8<<10
	fs := vfs.NewCrash()
	newest := func(clone *vfs.Crash) (v uint64) {
		r := &recorder{}
		after, err := Open(clone, testDir, testID, opts, r)
		if err != nil {
			t.Error(err)
			return
		}
		for _, x := range r.records {
			v = max(v, uint64(x.Record.Version.Sequence))
		}
		if len(after.Damaged()) > 0 {
			t.Errorf("damage %v", after.Damaged())
		}
		if err := after.Close(nil); err != nil {
			t.Error(err)
		}
		return v
	}
	var acked, crashes atomic.Uint64
	var watch atomic.Bool
	fs.OnSync = func(p vfs.SyncPoint) {
		if !watch.Load() {
			return
		}
		at := acked.Load() // before the power is cut
		if v := newest(fs.Clone(crashes.Add(1))); v < at {
			t.Errorf("power loss at %+v: the newest record is version %d, want %d", p, v, at)
		}
	}
	s, _ := openTest(t, fs, opts)
	last := killSegments(t, s, retiredMax, 1)
	waitPrepared(t, s)
	checkpointNow(t, s)
	for !s.active.recycled {
		last = killSegments(t, s, s.pins.deadSegments()+1, last+1)
		waitPrepared(t, s)
	}
	acked.Store(last)
	watch.Store(true)
	looked := 0
	var segment, end uint32 // where the last record ends
	for i := 0; s.active.recycled; i++ {
		last++
		recs := []Record{dataRecord(testFile, 0, 1+uint32(i%5), 600, version(last)), longRecord(20, 9, 1024, version(last)), dataRecord(testFile, 40, 2, 700, version(last))}
		recs = recs[i%3:]
		refs := appendWait(t, s, recs...)
		for j := range recs {
			if err := s.Index(testFile, extentOf(&recs[j], refs[j])); err != nil {
				t.Fatal(err)
			}
			if refs[j].Segment == segment {
				mustBeZeros(t, fs, segment, end, refs[j].Offset)
				looked++
			}
			h := header{Record: recs[j]}
			segment, end = refs[j].Segment, refs[j].Offset+uint32(h.bytes())
		}
		mustBeZeros(t, fs, segment, end, uint32(roundUpDirect(int64(end))))
		acked.Store(last)
	}
	watch.Store(false)
	if s.Stats().DirectBytes == 0 || looked < 8 || crashes.Load() < 10 {
		t.Errorf("looked between %d records, %d crashes, of %+v", looked, crashes.Load(), s.Stats())
	}
}

// mustBeZeros looks at a piece of a segment.
func mustBeZeros(t *testing.T, fs vfs.FS, segment, from, to uint32) {
	t.Helper()
	f, err := fs.Open(segmentName(testDir, segment))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, to-from)
	if err := readFull(f, b, int64(from)); err != nil || len(bytes.Trim(b, "\x00")) > 0 {
		t.Errorf("at %d to %d of segment %d there is something of before: %v", from, to, segment, err)
	}
}
