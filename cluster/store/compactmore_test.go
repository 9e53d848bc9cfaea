package store

import (
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/internal/vfs"
)

// writesOf is a file system that notes the largest write to a segment.
type writesOf struct {
	vfs.FS
	mu      sync.Mutex
	largest int
}

func (w *writesOf) Create(name string) (vfs.File, error) {
	f, err := w.FS.Create(name)
	if err != nil {
		return nil, err
	}
	return &writesOfFile{f, w}, nil
}

type writesOfFile struct {
	vfs.File
	w *writesOf
}

func (f *writesOfFile) WriteAt(p []byte, off int64) (int, error) {
	f.w.mu.Lock()
	f.w.largest = max(f.w.largest, len(p))
	f.w.mu.Unlock()
	return f.File.WriteAt(p, off)
}

// TestVictimBehindTarget: between equal versions the later place wins, so nothing is copied to a segment before the victim.
func TestVictimBehindTarget(t *testing.T) {
	s, _ := byHand(t, vfs.NewCrash(), forgetNothing)
	want := fillHalf(t, s)
	compactOne(t, s, lookup(t, s, 0, 1)[0].Ref.Segment)
	target := s.compactor.target.number
	for s.active.number <= target {
		appendWait(t, s, Record{Kind: KindControl, Blob: make([]byte, 50<<10)})
	}
	put(t, s, dataRecord(testFile, 1, 1, 2000, version(3)))
	want[1] = 3
	victim := lookup(t, s, 1, 1)[0].Ref.Segment
	for s.active.number <= victim {
		appendWait(t, s, Record{Kind: KindControl, Blob: make([]byte, 50<<10)})
	}
	checkpointNow(t, s)
	compactOne(t, s, victim)
	if n := s.pins.liveSectors(victim); n != 0 {
		t.Errorf("segment %d was compacted into segment %d, and %d sectors still live there", victim, target, n)
	}
	if err := checkVersions(s, want); err != nil {
		t.Error(err)
	}
}

// TestStepIsBounded: a step copies a MiB and the record that goes beyond it, however long the records are.
func TestStepIsBounded(t *testing.T) {
	fs := &writesOf{FS: vfs.NewCrash()}
	s, _ := openTest(t, fs, Options{SegmentBytes: 16 << 20, compactNever: true})
	const sectors, shardBytes = 128, 4096
	for i := range blocktree.SectorIndex(20) {
		put(t, s, dataRecord(testFile, i*sectors, sectors, shardBytes, version(1)))
	}
	first := lookup(t, s, 0, 1)[0].Ref.Segment
	for s.active.number == first {
		appendWait(t, s, Record{Kind: KindControl, Blob: make([]byte, 1<<20)})
	}
	checkpointNow(t, s)
	compactOne(t, s, first)
	if largest := compactStepBytes + sectors*(shardBytes+metaBytes) + 2*align; fs.largest > largest {
		t.Errorf("a step wrote %d bytes, want %d at most", fs.largest, largest)
	}
	if n := s.pins.liveSectors(first); n != 0 {
		t.Errorf("%d sectors live", n)
	}
}

// TestCopySyncLatches: a sync of copies that fails is the end, whatever it says is wrong.
func TestCopySyncLatches(t *testing.T) {
	fault := vfs.NewFault(vfs.NewCrash())
	s, _ := byHand(t, fault, forgetNothing)
	fillHalf(t, s)
	c := s.compactor
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.choose(lookup(t, s, 0, 1)[0].Ref.Segment); err != nil {
		t.Fatal(err)
	}
	if err := c.newTarget(); err != nil {
		t.Fatal(err)
	}
	waitPrepared(t, s)
	fault.Inject(vfs.Injection{Op: vfs.FaultSync, Name: segmentName(testDir, c.target.number), Err: syscall.ENOSPC})
	if err := c.step(); err == nil || blocktree.KindOf(err) == blocktree.NoSpace {
		t.Errorf("a failed sync of copies is passed over: %v", err)
	}
}

// TestTargetKeepsHeader: when the target cannot be cut after a write found no space, what is written to it later is not a segment
// without a header.
func TestTargetKeepsHeader(t *testing.T) {
	fault := vfs.NewFault(vfs.NewCrash())
	s, _ := byHand(t, fault, forgetNothing)
	fillHalf(t, s)
	c := s.compactor
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.choose(lookup(t, s, 0, 1)[0].Ref.Segment); err != nil {
		t.Fatal(err)
	}
	if err := c.newTarget(); err != nil {
		t.Fatal(err)
	}
	waitPrepared(t, s)
	name := segmentName(testDir, c.target.number)
	fault.Inject(vfs.Injection{Op: vfs.FaultWrite, Name: name, Err: syscall.ENOSPC})
	fault.Inject(vfs.Injection{Op: vfs.FaultTruncate, Name: name, Err: syscall.ENOSPC})
	if err := c.step(); blocktree.KindOf(err) == blocktree.NoSpace && c.target != nil {
		t.Errorf("a target that could not be cut is gone on with: %v", err)
	}
}

// TestCheckpointSpaceAfterOpen: what checkpoints need is known from the start, not only after the first.
func TestCheckpointSpaceAfterOpen(t *testing.T) {
	fs := vfs.NewCrash()
	s, opts := byHand(t, fs, forgetNothing)
	fillHalf(t, s)
	closeStore(t, s, make([]byte, 100<<10))
	want, err := fs.Stat(testDir + "/" + checkpointName)
	if err != nil {
		t.Fatal(err)
	}
	s, _ = openTest(t, fs, opts)
	if s.checkpointBytes != want {
		t.Errorf("checkpoints take %d bytes, the last took %d", s.checkpointBytes, want)
	}
}

// TestDataLeavesReserve: on a full disk a tombstone begins a segment of the reserve. Data must not fill that up, or the
// control record that comes next ends the node.
func TestDataLeavesReserve(t *testing.T) {
	fs := vfs.NewCrash()
	fs.SetCapacity(4 << 20)
	s, _ := openTest(t, fs, Options{SegmentBytes: 256 << 10, compactNever: true})
	next := blocktree.SectorIndex(0)
	fill := func() {
		for range 1000 {
			r := dataRecord(testFile, next, 1, 4096, version(1))
			refs, err := appendSync(s, r)
			if blocktree.KindOf(err) == blocktree.NoSpace {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Index(testFile, extentOf(&r, refs[0])); err != nil {
				t.Fatal(err)
			}
			next++
		}
		t.Fatal("the disk is not full")
	}
	for round := range 10 { // tombstones until they begin the next segment, then data, until there is no other
		fill()
		full := s.active.number
		for n := 0; s.active.number == full; n++ {
			_, err := appendSync(s, Record{Kind: KindZero, File: testFile, First: 1 << 20, Count: 1, Version: version(2)})
			if blocktree.KindOf(err) == blocktree.NoSpace && n >= 400 { // of the 512 that a segment holds
				return
			}
			if err != nil {
				t.Fatalf("round %d, tombstone %d: %v", round, n, err)
			}
		}
	}
	t.Error("the reserve has no end")
}

// TestGroupsWaitBounded: groups that wait for the compactor one after the other do not add up to more than a member may take: what
// was waited for the group before counts. One whose time is over does not wait.
func TestGroupsWaitBounded(t *testing.T) {
	for _, x := range []struct {
		bytes     int64
		age, want time.Duration
	}{
		{0, 0, overfullWait},
		{16 << 20, 0, overfullWaitMax},
		{16 << 20, overfullWaitMax - 100*time.Millisecond, 100 * time.Millisecond},
		{16 << 20, overfullWaitMax, 0},
	} {
		if got := groupWait(x.bytes, x.age); got != x.want {
			t.Errorf("a group of %d bytes that was appended %v ago waits %v, want %v", x.bytes, x.age, got, x.want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		s, _ := openTest(t, vfs.NewCrash(), byHandOptions)
		holdCompactor(t, s)
		s.setOverfull(true, false)
		began := time.Now()
		s.awaitCompactor(&queue{bytes: 16 << 20, items: make([]item, 1), calls: []call{{at: began.Add(-2 * overfullWaitMax)}}})
		s.awaitCompactor(&queue{items: make([]item, 1), calls: []call{{at: began}}})
		if waited := time.Since(began); waited != overfullWait {
			t.Errorf("the compactor is waited for for %v", waited)
		}
	})
}

// TestUsageIsSeldom: all segments are looked at, which holds up appends, for each victim and now and then, not for each step.
func TestUsageIsSeldom(t *testing.T) {
	s, _ := openTest(t, vfs.NewCrash(), Options{SegmentBytes: 16 << 20, compactNever: true})
	for i := range blocktree.SectorIndex(30) {
		put(t, s, dataRecord(testFile, i*128, 128, 4096, version(1)))
	}
	first := lookup(t, s, 0, 1)[0].Ref.Segment
	for s.active.number == first {
		appendWait(t, s, Record{Kind: KindControl, Blob: make([]byte, 1<<20)})
	}
	checkpointNow(t, s)
	c := s.compactor
	c.mu.Lock()
	err := c.choose(first)
	c.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	begun, looks, turns, last := time.Now(), 0, 0, time.Time{}
	for more := true; more; turns++ {
		if _, _, err := c.turn(); err != nil {
			t.Fatal(err)
		}
		c.mu.Lock()
		if c.usedAt != last {
			looks, last = looks+1, c.usedAt
		}
		more = c.victim != nil
		c.mu.Unlock()
	}
	if most := 2 + int(time.Since(begun)/usageInterval); looks > most || turns < 5 {
		t.Errorf("%d looks in %d turns, want %d", looks, turns, most)
	}
}

// TestRepairIsNotCopied: what was mended before its segment is compacted stays where it was mended.
func TestRepairIsNotCopied(t *testing.T) {
	s, _ := byHand(t, vfs.NewCrash(), forgetNothing)
	want := fillHalf(t, s)
	ref := put(t, s, dataRecord(testFile, 4, 1, 2000, version(1)))
	victim := lookup(t, s, 0, 1)[0].Ref.Segment
	c := s.compactor
	c.mu.Lock()
	if err := c.choose(victim); err != nil {
		t.Fatal(err)
	}
	if err := c.newTarget(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.gather(); err != nil {
		t.Fatal(err)
	}
	for _, m := range c.moves {
		if m.first <= 4 && 4 < m.first+blocktree.SectorIndex(m.to.Count) {
			t.Errorf("sector 4 was mended and is copied: %+v", m)
		}
	}
	late := put(t, s, dataRecord(testFile, 6, 1, 2000, version(1))) // and one that is mended after it was copied
	if err := c.flush(); err != nil {
		t.Fatal(err)
	}
	c.mu.Unlock()
	for sector, ref := range map[blocktree.SectorIndex]Ref{4: ref, 6: late} {
		if x := lookup(t, s, sector, 1)[0]; x.Ref != ref {
			t.Errorf("sector %d: %+v, was mended at %v", sector, x, ref)
		}
	}
	if err := checkVersions(s, want); err != nil {
		t.Error(err)
	}
}

// TestUnfinishedCopyGoes: copies that no checkpoint knows are removed at the start, not only with the checkpoint after: a full disk
// may have no room for that one.
func TestUnfinishedCopyGoes(t *testing.T) {
	fs := vfs.NewCrash()
	s, opts := byHand(t, fs, forgetNothing)
	want := fillHalf(t, s)
	compactOne(t, s, lookup(t, s, 0, 1)[0].Ref.Segment)
	name := s.compactor.target.name
	for i, after := range []*vfs.Crash{fs.Kill(), fs.Clone(1)} {
		if _, err := after.Stat(name); err != nil {
			t.Fatal(err)
		}
		s2, _ := openTest(t, after, opts)
		if _, err := after.Stat(name); blocktree.KindOf(err) != blocktree.NotFound {
			t.Errorf("power loss %v: the copies are still there: %v", i == 1, err)
		}
		if err := checkVersions(s2, want); err != nil {
			t.Error(err)
		}
	}
}

// TestCheckpointPassesWaitingGroup: a checkpoint frees what the compactor emptied, so the group that it waits for does not wait
// for the compactor.
func TestCheckpointPassesWaitingGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := openTest(t, vfs.NewCrash(), Options{SegmentBytes: 16 << 20, compactNever: true})
		holdCompactor(t, s)
		s.setOverfull(true, false)
		group := make([]Record, 8)
		for i := range group {
			group[i] = Record{Kind: KindControl, Blob: make([]byte, ControlBytesMax)}
		}
		began := time.Now()
		done := make(chan error, 1)
		if _, err := s.Append(group, func(err error) { done <- err }); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(done) > 0 {
			t.Error("the group does not wait")
		}
		checkpointNow(t, s) // else for two seconds
		if err := <-done; err != nil || time.Since(began) > 0 {
			t.Errorf("%v; it waited %v", err, time.Since(began))
		}
	})
}

// TestOnRoom: whoever waits because the store is making room is told when it is not any more, once.
func TestOnRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		opts := byHandOptions
		opts.OnRoom = func() { told++ }
		s, _ := openTest(t, vfs.NewCrash(), opts)
		holdCompactor(t, s)
		for _, x := range []struct{ overfull, short, making bool }{{true, false, false}, {true, true, true}, {false, true, false}, {false, false, false}} {
			s.setOverfull(x.overfull, x.short)
			if s.MakingRoom() != x.making {
				t.Errorf("%+v: making room %v", x, s.MakingRoom())
			}
		}
		if told != 1 {
			t.Errorf("told %d times", told)
		}
	})
}
