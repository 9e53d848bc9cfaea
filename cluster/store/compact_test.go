package store

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"blocktree"
	"blocktree/internal/vfs"
)

var byHandOptions = Options{SegmentBytes: 64 << 10, compactNever: true}

// byHand is a store whose compactor does only what compactOne tells it to.
func byHand(t *testing.T, fs vfs.FS, m mutant) (*Store, Options) {
	t.Helper()
	opts := byHandOptions
	opts.mutant = m
	s, _ := openTest(t, fs, opts)
	return s, opts
}

// fillHalf writes two records of ten sectors each into one segment, overwrites every second sector in a later one, and takes
// a checkpoint, so that the first segment can be compacted. It returns the version of each sector.
func fillHalf(t *testing.T, s *Store) map[blocktree.SectorIndex]uint64 {
	t.Helper()
	want := map[blocktree.SectorIndex]uint64{}
	for i := range blocktree.SectorIndex(2) {
		put(t, s, dataRecord(testFile, i*10, 10, 2000, version(1)))
	}
	big := uint64(50 << 10) // of control records, so that the next data lies in the next segment
	appendWait(t, s, Record{Kind: KindControl, Blob: make([]byte, big)})
	for i := range blocktree.SectorIndex(20) {
		want[i] = 1
		if i%2 == 1 {
			put(t, s, dataRecord(testFile, i, 1, 2000, version(2)))
			want[i] = 2
		}
	}
	checkpointNow(t, s)
	return want
}

// compactOne compacts segment n, or as much of it as a step takes if so told.
func compactOne(t *testing.T, s *Store, n uint32) {
	t.Helper()
	c := s.compactor
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.choose(n); err != nil {
		t.Fatal(err)
	}
	for c.victim != nil {
		if err := c.step(); err != nil {
			t.Fatal(err)
		}
	}
}

// checkVersions checks that each sector is there, whole, in the version wanted.
func checkVersions(s *Store, want map[blocktree.SectorIndex]uint64) error {
	for sector, v := range want {
		xs, err := s.Lookup(testFile, sector, 1, nil)
		if err != nil {
			return err
		}
		if len(xs) != 1 || xs[0].Content != Data || xs[0].Version != version(v) {
			return fmt.Errorf("sector %d is %+v, want version %d", sector, xs, v)
		}
		if err := checkExtent(s, testFile, xs[0]); err != nil {
			return fmt.Errorf("sector %d: %w", sector, err)
		}
	}
	return nil
}

// TestCompactOne: what is live moves with its identity, the segment goes with the next checkpoint and not before, and every
// crash on the way finds everything.
func TestCompactOne(t *testing.T) {
	fs := vfs.NewCrash()
	var want map[blocktree.SectorIndex]uint64
	var watch atomic.Bool
	var crashes atomic.Uint64
	fs.OnSync = func(p vfs.SyncPoint) {
		if !watch.Load() {
			return
		}
		after := fs.Clone(crashes.Add(1))
		s2, err := Open(after, testDir, testID, byHandOptions, &recorder{})
		if err == nil {
			err = checkVersions(s2, want)
			_ = s2.Close(nil)
		}
		if err != nil {
			t.Errorf("power loss at %+v: %v", p, err)
		}
	}
	s, opts := byHand(t, fs, forgetNothing)
	want = fillHalf(t, s)
	watch.Store(true)
	before := lookup(t, s, 0, 1)[0]
	compactOne(t, s, before.Ref.Segment)
	after := lookup(t, s, 0, 1)[0]
	if after.Ref == before.Ref || after.Version != before.Version || after.Ref.ShardBytes != before.Ref.ShardBytes || after.Ref.Shard != before.Ref.Shard {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if err := checkVersions(s, want); err != nil {
		t.Error(err)
	}
	if _, err := fs.Stat(segmentName(testDir, before.Ref.Segment)); err != nil {
		t.Errorf("compaction deleted a segment: %v", err)
	}
	if n := s.pins.liveSectors(before.Ref.Segment); n != 0 {
		t.Errorf("%d sectors are still live in the old place", n)
	}
	checkpointNow(t, s)
	if _, err := s.segs.acquire(before.Ref.Segment); blocktree.KindOf(err) != blocktree.NotFound {
		t.Errorf("the old segment is still there: %v", err)
	}
	if crashes.Load() < 8 {
		t.Errorf("only %d crashes", crashes.Load())
	}
	watch.Store(false)
	closeStore(t, s, []byte("end"))
	r := &recorder{}
	s, err := Open(fs, testDir, testID, opts, r)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(nil)
	if err := checkVersions(s, want); err != nil || len(r.records) > 0 || len(s.Damaged()) > 0 {
		t.Errorf("%v; replayed %d records, damage %v", err, len(r.records), s.Damaged())
	}
}

// TestCompactOfPart: sectors that are no neighbours any more become records of their own.
func TestCompactOfPart(t *testing.T) {
	s, _ := byHand(t, vfs.NewCrash(), forgetNothing)
	want := fillHalf(t, s)
	compactOne(t, s, lookup(t, s, 0, 1)[0].Ref.Segment)
	for i := blocktree.SectorIndex(0); i < 20; i += 2 {
		if x := lookup(t, s, i, 1)[0]; x.Ref.Count != 1 || x.Index != 0 {
			t.Errorf("sector %d: %+v", i, x)
		}
	}
	compactOne(t, s, lookup(t, s, 1, 1)[0].Ref.Segment) // a segment of records that are live as a whole
	if err := checkVersions(s, want); err != nil {
		t.Error(err)
	}
}

// copyWhileCheckpointing begins a checkpoint when nothing in the segment that is being copied to is live yet, copies, and
// finishes the checkpoint.
func copyWhileCheckpointing(t *testing.T, m mutant) error {
	s, _ := byHand(t, vfs.NewCrash(), m)
	want := fillHalf(t, s)
	victim := lookup(t, s, 0, 1)[0].Ref.Segment
	c := s.compactor
	c.mu.Lock()
	if err := c.newTarget(); err != nil {
		t.Fatal(err)
	}
	c.mu.Unlock()
	for s.active.number < c.target.number { // so that the target lies before the checkpoint
		appendWait(t, s, Record{Kind: KindControl, Blob: make([]byte, 50<<10)})
	}
	cp, err := s.BeginCheckpoint(nil)
	if err != nil {
		t.Fatal(err)
	}
	compactOne(t, s, victim)
	if err := cp.Finish(); err != nil {
		t.Fatal(err)
	}
	return checkVersions(s, want)
}

func TestCheckpointKeepsTarget(t *testing.T) {
	if err := copyWhileCheckpointing(t, forgetNothing); err != nil {
		t.Error(err)
	}
	if copyWhileCheckpointing(t, forgetTarget) == nil {
		t.Error("the mutant lives")
	}
}

// dropWhileCopying drops sectors between their copying and the copies' indexing.
func dropWhileCopying(t *testing.T, m mutant) error {
	s, _ := byHand(t, vfs.NewCrash(), m)
	want := fillHalf(t, s)
	c := s.compactor
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.choose(lookup(t, s, 0, 1)[0].Ref.Segment); err != nil {
		t.Fatal(err)
	}
	if err := c.newTarget(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.gather(); err != nil {
		t.Fatal(err)
	}
	if err := s.DropRange(testFile, 4, 1); err != nil {
		t.Fatal(err)
	}
	put(t, s, dataRecord(testFile, 6, 1, 2000, version(3)))
	put(t, s, dataRecord(testFile, 8, 1, 2000, version(1))) // a repair: the same again in a newer place
	if err := c.flush(); err != nil {
		t.Fatal(err)
	}
	delete(want, 4)
	want[6] = 3
	if x := lookup(t, s, 4, 1)[0]; x.Content != Absent {
		return fmt.Errorf("what was dropped came back: %+v", x)
	}
	return checkVersions(s, want)
}

func TestMoveLooksAgain(t *testing.T) {
	if err := dropWhileCopying(t, forgetNothing); err != nil {
		t.Error(err)
	}
	if dropWhileCopying(t, forgetMoveCheck) == nil {
		t.Error("the mutant lives")
	}
}

// compactDamaged damages one sector of a record and the header of another one, and compacts. It returns what OnDamage was told.
func compactDamaged(t *testing.T, m mutant) (s *Store, told []Damage, segment uint32) {
	fs := vfs.NewCrash()
	s, opts := byHand(t, fs, m)
	fillHalf(t, s)
	first := lookup(t, s, 0, 1)[0].Ref
	second := lookup(t, s, 10, 1)[0].Ref
	f, err := fs.Open(segmentName(testDir, first.Segment))
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []uint32{first.Offset + headerBytes + 4*2000 + 7, second.Offset + 20} {
		if _, err := f.WriteAt([]byte{0xa5}, int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	closeStore(t, s, []byte("end"))
	opts.OnDamage = func(d Damage) { told = append(told, d) }
	s, _ = openTest(t, fs, opts)
	compactOne(t, s, first.Segment)
	return s, told, first.Segment
}

// TestCompactDamaged: a damaged sector stays, is told, and reads as it did; a damaged header costs nothing; once both are
// mended the segment dies.
func TestCompactDamaged(t *testing.T) {
	s, told, segment := compactDamaged(t, forgetNothing)
	if len(told) != 1 || len(told[0].Sectors) != 1 || told[0].Sectors[0] != 4 || told[0].File != testFile || s.Stats().DamagedSectors != 1 {
		t.Errorf("told %+v, counted %d", told, s.Stats().DamagedSectors)
	}
	x := lookup(t, s, 4, 1)[0]
	if x.Ref.Segment != segment || blocktree.KindOf(s.ReadShards(testFile, x, make([]byte, 2000), make([]byte, SealBytes))) != blocktree.Corrupt {
		t.Errorf("the damaged sector: %+v", x)
	}
	for i := blocktree.SectorIndex(0); i < 20; i += 2 {
		x := lookup(t, s, i, 1)[0]
		if i != 4 && checkExtent(s, testFile, x) != nil || (x.Ref.Segment == segment) != (i == 4 || i >= 10) {
			t.Errorf("sector %d: %+v", i, x)
		}
	}
	if u := s.compactor.usage(); u.victim == segment {
		t.Error("what cannot be emptied is tried again at once")
	}
	for _, i := range []blocktree.SectorIndex{4, 10, 12, 14, 16, 18} {
		put(t, s, dataRecord(testFile, i, 1, 2000, version(1)))
	}
	if n := s.pins.liveSectors(segment); n != 0 {
		t.Errorf("%d sectors live after all was mended", n)
	}
	if _, told, _ := compactDamaged(t, forgetCopyCheck); len(told) > 0 {
		t.Error("the mutant lives")
	}
}

// overwriter overwrites a file at random, as an owner does who takes checkpoints when they are asked for.
type overwriter struct {
	s          *Store
	rng        *rand.Rand
	draw       func() int // a place at random
	sectors    int
	shardBytes uint32
	mu         sync.Mutex
	stop       chan struct{}
	wg         sync.WaitGroup
	versions   []uint64
	last       uint64
}

func newOverwriter(t testing.TB, s *Store, sectors int, shardBytes uint32) *overwriter {
	o := &overwriter{s: s, rng: rand.New(rand.NewPCG(1, 2)), sectors: sectors, shardBytes: shardBytes,
		stop: make(chan struct{}), versions: make([]uint64, sectors)}
	o.draw = func() int { return o.rng.IntN(o.sectors) }
	o.wg.Go(func() {
		for {
			select {
			case <-o.stop:
				return
			case <-s.CheckpointWanted():
			}
			o.mu.Lock()
			c, err := s.BeginCheckpoint(nil)
			o.mu.Unlock()
			if err == nil {
				err = c.Finish()
			}
			if err != nil && blocktree.KindOf(err) != blocktree.NoSpace {
				t.Error(err)
			}
		}
	})
	t.Cleanup(o.end) // before the store is closed
	return o
}

// write writes n records of one sector each in one call, at random places or from first on, and awaits them.
func (o *overwriter) write(n, first int) error {
	recs := make([]Record, n)
	for i := range recs {
		at := first + i
		if first < 0 {
			at = o.draw()
		}
		o.last++
		recs[i] = Record{Kind: KindData, File: testFile, First: blocktree.SectorIndex(at), Count: 1, ShardBytes: o.shardBytes,
			Version: version(o.last), Shard: 1, Payload: make([]byte, o.shardBytes), Seals: make([]byte, SealBytes)}
	}
	for range 10000 { // as a node does
		if !o.s.MakingRoom() {
			break
		}
		time.Sleep(time.Millisecond)
	}
	done := make(chan error, 1)
	o.mu.Lock()
	refs, err := o.s.Append(recs, func(err error) { done <- err })
	o.mu.Unlock()
	if err == nil {
		err = <-done
	}
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range recs {
		o.versions[recs[i].First] = uint64(recs[i].Version.Sequence)
		if err := o.s.Index(testFile, extentOf(&recs[i], refs[i])); err != nil {
			return err
		}
	}
	return nil
}

func (o *overwriter) end() {
	close(o.stop)
	o.wg.Wait()
}

// check reads everything back.
func (o *overwriter) check(t *testing.T) {
	t.Helper()
	buf, seals := make([]byte, o.shardBytes), make([]byte, SealBytes)
	for i, v := range o.versions {
		x := lookup(t, o.s, blocktree.SectorIndex(i), 1)[0]
		if x.Version != version(v) {
			t.Fatalf("sector %d: %+v, want version %d", i, x, v)
		}
		if err := o.s.ReadShards(testFile, x, buf, seals); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCompactionBounds overwrites a bounded disk at random that is 70 % full of live shards, five times over: no write fails,
// the segments never take more than 1.5 times the shards plus what is fixed, and what the compactor writes is bounded.
func TestCompactionBounds(t *testing.T) {
	const (
		sectors    = 8 << 10
		shardBytes = 4096
		live       = sectors * shardBytes
		segment    = 256 << 10
		fixed      = 10 * segment // docs/design/0007-compaction.md, Bounds
	)
	fs := vfs.NewCrash()
	fs.SetCapacity(live * 100 / 70)
	s, _ := openTest(t, fs, Options{SegmentBytes: segment, CheckpointBytes: 4 << 20})
	o := newOverwriter(t, s, sectors, shardBytes)
	for at := 0; at < sectors; at += 16 {
		if err := o.write(16, at); err != nil {
			t.Fatal(err)
		}
	}
	before, worst := s.Stats(), int64(0)
	for i := range 5 * sectors / 16 {
		if err := o.write(16, -1); err != nil {
			t.Fatalf("write %d: %v; %+v", i, err, s.Stats())
		}
		if i%16 == 0 {
			worst = max(worst, fs.Used())
		}
	}
	after := s.Stats()
	written := float64(after.Bytes - before.Bytes)
	amplification := (written + float64(after.CompactedBytes-before.CompactedBytes)) / written
	t.Logf("at most %.2f of the live shards on the disk (%.2f without what is fixed), %.2f bytes written for one of the log, %d segments compacted",
		float64(worst)/live, float64(worst-fixed)/live, amplification, after.CompactedSegments)
	if worst > live*3/2+fixed {
		t.Errorf("%d bytes on the disk for %d of shards", worst, live)
	}
	if amplification > amplificationMax {
		t.Errorf("write amplification %.2f", amplification)
	}
	if after.CompactedSegments == 0 {
		t.Error("nothing was compacted")
	}
	o.check(t)
}

// TestFullDiskHeals: a disk that is full of live data refuses data and nothing else, reads; and takes data again after TRIM of a
// part of every segment, without a restart.
func TestFullDiskHeals(t *testing.T) {
	const sectors, shardBytes = 12 << 10, 4096
	fs := vfs.NewCrash()
	fs.SetCapacity(48 << 20)
	s, _ := openTest(t, fs, Options{SegmentBytes: 256 << 10, CheckpointBytes: 4 << 20})
	o := newOverwriter(t, s, sectors, shardBytes)
	full := 0
	for ; full < sectors; full += 16 {
		if err := o.write(16, full); err != nil {
			if blocktree.KindOf(err) != blocktree.NoSpace {
				t.Fatal(err)
			}
			break
		}
	}
	if full < 1000 || full == sectors {
		t.Fatalf("full after %d sectors", full)
	}
	o.versions = o.versions[:full]
	o.check(t)
	for i := 0; i < full; i += 8 { // every eighth sector is trimmed: no segment dies of that
		o.last++
		r := Record{Kind: KindZero, File: testFile, First: blocktree.SectorIndex(i), Count: 1, Version: version(o.last)}
		refs, err := appendSync(s, r)
		for range 1000 { // the reserve of segments this small is used up before a checkpoint can be written
			if blocktree.KindOf(err) != blocktree.NoSpace {
				break
			}
			time.Sleep(time.Millisecond)
			refs, err = appendSync(s, r)
		}
		if err != nil {
			t.Fatal(err)
		}
		o.mu.Lock()
		err = s.Index(testFile, Extent{First: r.First, Count: 1, Version: r.Version, Content: Zero, Ref: refs[0]})
		o.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
	}
	deadline, again := time.Now().Add(20*time.Second), 0
	for again < full/20 && time.Now().Before(deadline) {
		if err := o.write(1, again/16*128+again%16*8); err == nil {
			again++
		} else if blocktree.KindOf(err) != blocktree.NoSpace {
			t.Fatal(err)
		} else {
			time.Sleep(time.Millisecond)
		}
	}
	if again < full/20 {
		t.Errorf("only %d sectors could be written again; %+v", again, s.Stats())
	}
}
