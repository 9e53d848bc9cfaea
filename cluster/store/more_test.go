package store

import (
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"blocktree"
	"blocktree/internal/vfs"
	"blocktree/internal/wire"
)

// TestCrashDuringCreate crashes at every sync of Create: there is then no store, and Create makes one, or there is one.
func TestCrashDuringCreate(t *testing.T) {
	fs := vfs.NewCrash()
	none, one := 0, 0
	fs.OnSync = func(p vfs.SyncPoint) {
		for seed := range uint64(10) {
			clone := fs.Clone(seed)
			s, err := Open(clone, testDir, testID, smallOptions, &recorder{})
			if blocktree.KindOf(err) == blocktree.NotFound {
				none++
				if err := Create(clone, testDir, testID, smallOptions); err != nil {
					t.Errorf("%+v: create after the crash: %v", p, err)
				}
				s, err = Open(clone, testDir, testID, smallOptions, &recorder{})
			} else {
				one++
			}
			if err != nil {
				t.Errorf("%+v: %v", p, err)
				continue
			}
			if err := s.Close(nil); err != nil {
				t.Error(err)
			}
		}
	}
	if err := Create(fs, testDir, testID, smallOptions); err != nil {
		t.Fatal(err)
	}
	if none == 0 || one == 0 {
		t.Errorf("%d crashes left no store, %d left one", none, one)
	}
}

// TestUnreadableSectors makes the disk refuse reads.
func TestUnreadableSectors(t *testing.T) {
	crash := vfs.NewCrash()
	fs := vfs.NewFault(crash)
	s, _ := openTest(t, fs, smallOptions)
	r := dataRecord(testFile, 5, 3, 512, version(1))
	ref := put(t, s, r)
	put(t, s, dataRecord(testFile, 50, 1, 512, version(2)))
	x := extentOf(&r, ref)
	fs.Inject(vfs.Injection{Op: vfs.FaultRead, Name: segmentPrefix})
	if err := checkExtent(s, testFile, x); err != nil {
		t.Errorf("one refusal, then every sector by itself: %v", err)
	}
	fs.Inject(vfs.Injection{Op: vfs.FaultRead, Name: segmentPrefix, Times: 2})
	err := checkExtent(s, testFile, x)
	if blocktree.KindOf(err) != blocktree.Corrupt || fs.Injected() != 3 {
		t.Errorf("an unreadable sector: %v", err)
	}
	fs.Inject(vfs.Injection{Op: vfs.FaultRead, Name: segmentPrefix, Flip: 8 * 100})
	if err := checkExtent(s, testFile, x); blocktree.KindOf(err) != blocktree.Corrupt {
		t.Errorf("a flipped bit: %v", err)
	}
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
	// At replay nothing of the segment can be read, and nothing comes after it: damage, neither a torn tail nor a dead node.
	for _, times := range []int{1, -1} {
		damaged := times < 0
		fs.Inject(vfs.Injection{Op: vfs.FaultRead, Name: segmentName("", ref.Segment), Times: times})
		s, rec := openTest(t, fs, smallOptions)
		if got := len(s.Damaged()) > 0; got != damaged || len(rec.records) == 0 != damaged {
			t.Errorf("%d refusals: damage %v, records %v", times, s.Damaged(), rec.records)
		}
		if err := s.Close(nil); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMissingSegments removes segment files before and after the checkpoint.
func TestMissingSegments(t *testing.T) {
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, smallOptions)
	before := put(t, s, dataRecord(testFile, 0, 8, 1500, version(1)))
	second := put(t, s, dataRecord(testFile, 20, 8, 1500, version(2)))
	c, err := s.BeginCheckpoint([]byte("blob"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Finish(); err != nil {
		t.Fatal(err)
	}
	after := put(t, s, dataRecord(testFile, 40, 8, 1500, version(3)))
	last := put(t, s, dataRecord(testFile, 60, 8, 1500, version(4)))
	if before.Segment == second.Segment || second.Segment == after.Segment || after.Segment == last.Segment {
		t.Fatal("the records share segments")
	}
	for _, x := range []struct {
		name    string
		segment uint32
		records int
		want    func(Run) bool
	}{
		{"before the checkpoint", before.Segment, 2, func(r Run) bool { return r.LiveSectors == 8 && r.Ref.Segment == before.Segment }},
		{"after the checkpoint", after.Segment, 1, func(r Run) bool { return r.From == r.To && r.From > 0 && r.Kind == 0 }},
	} {
		clone := fs.Clone(1)
		if err := clone.Remove(segmentName(testDir, x.segment)); err != nil {
			t.Fatal(err)
		}
		s, r := openTest(t, clone, smallOptions)
		if d := s.Damaged(); len(d) != 1 || !x.want(d[0]) || len(r.records) != x.records {
			t.Errorf("%s: %d records, damage %+v", x.name, len(r.records), d)
		}
		if err := s.Close(nil); err != nil {
			t.Fatal(err)
		}
	}
}

// TestManySegments keeps more segments than files may be open.
func TestManySegments(t *testing.T) {
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, Options{SegmentBytes: 4 << 10})
	s.segs.max = 5
	var recs []Record
	var refs []Ref
	for v := range uint64(60) {
		r := dataRecord(testFile, blocktree.SectorIndex(v), 1, 2048, version(v+1))
		recs, refs = append(recs, r), append(refs, put(t, s, r))
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				n := (i*7 + g*13) % len(recs)
				if err := checkExtent(s, testFile, extentOf(&recs[n], refs[n])); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := s.Stats().Segments; n < 50 {
		t.Errorf("only %d segments", n)
	}
	if s.segs.opened > 5+4+3 {
		t.Errorf("%d files are open", s.segs.opened)
	}
}

// owner is what a node is to its store: a lock around what belongs together, and a goroutine that takes checkpoints.
type owner struct {
	t    *testing.T
	s    *Store
	mu   sync.Mutex
	last map[blocktree.SectorIndex]uint64
}

// write makes one sector run durable and committed and reads it back.
func (o *owner) write(r Record) error {
	done := make(chan error, 1)
	o.mu.Lock()
	refs, err := o.s.Append([]Record{r}, func(err error) { done <- err })
	o.mu.Unlock()
	if err == nil {
		err = <-done
	}
	if err != nil {
		return err
	}
	o.mu.Lock()
	err = o.s.Index(testFile, extentOf(&r, refs[0]))
	o.last[r.First] = uint64(r.Version.Sequence)
	o.mu.Unlock()
	if err != nil {
		return err
	}
	return checkExtent(o.s, testFile, extentOf(&r, refs[0]))
}

// checkpoints takes them when they are asked for, until stop is closed.
func (o *owner) checkpoints(stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-o.s.CheckpointWanted():
		}
		o.mu.Lock()
		c, err := o.s.BeginCheckpoint([]byte("owner"))
		o.mu.Unlock()
		if err == nil {
			err = c.Finish()
		}
		if err != nil {
			o.t.Error(err)
		}
	}
}

// TestOnDisk runs the store on the real file system, with concurrent writers, readers and checkpoints.
func TestOnDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	opts := Options{SegmentBytes: 1 << 20, CheckpointBytes: 2 << 20}
	if err := Create(vfs.Disk{}, dir, testID, opts); err != nil {
		t.Fatal(err)
	}
	s, err := Open(vfs.Disk{}, dir, testID, opts, &recorder{})
	if err != nil {
		t.Fatal(err)
	}
	o := &owner{t: t, s: s, last: map[blocktree.SectorIndex]uint64{}}
	stop := make(chan struct{})
	var writers, checkpoints sync.WaitGroup
	checkpoints.Go(func() { o.checkpoints(stop) })
	for g := range 8 {
		writers.Go(func() {
			for i := range 40 {
				sector := blocktree.SectorIndex(g*1000 + i%10*20)
				if err := o.write(dataRecord(testFile, sector, uint32(1+i%16), 2048, version(uint64(i+1)))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	checkpoints.Wait()
	if st := s.Stats(); st.Checkpoints == 0 || st.Syncs == 0 || st.Syncs >= st.Records {
		t.Errorf("%+v", st)
	}
	if err := s.Close([]byte("end")); err != nil {
		t.Fatal(err)
	}
	r := &recorder{}
	s, err = Open(vfs.Disk{}, dir, testID, opts, r)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(nil)
	if string(r.blob) != "end" || len(r.records) > 0 {
		t.Errorf("blob %q, %d records", r.blob, len(r.records))
	}
	for sector, v := range o.last {
		x := lookup(t, s, sector, 1)
		if x[0].Version != version(v) || checkExtent(s, testFile, x[0]) != nil {
			t.Errorf("sector %d: %v, want version %d", sector, x, v)
		}
	}
}

// TestOneSyncCarriesAllThatWait holds the first sync back until others have queued.
func TestOneSyncCarriesAllThatWait(t *testing.T) {
	fs := vfs.NewCrash()
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var armed atomic.Bool
	fs.OnSync = func(p vfs.SyncPoint) {
		if !p.After && armed.Load() {
			once.Do(func() {
				close(entered)
				<-release
			})
		}
	}
	s, _ := openTest(t, fs, Options{SegmentBytes: 1 << 20})
	waitPrepared(t, s)
	armed.Store(true)
	before := s.Stats().Syncs
	var wg sync.WaitGroup
	var mu sync.Mutex
	var order []uint64
	add := func(v uint64) {
		wg.Add(1)
		r := dataRecord(testFile, blocktree.SectorIndex(v), 1, 2048, version(v))
		if _, err := s.Append([]Record{r}, func(err error) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, v)
			if err != nil {
				t.Error(err)
			}
			wg.Done()
		}); err != nil {
			t.Error(err)
		}
	}
	add(1)
	<-entered
	for v := uint64(2); v <= 33; v++ {
		add(v)
	}
	close(release)
	wg.Wait()
	if n := s.Stats().Syncs - before; n != 2 {
		t.Errorf("%d syncs for 1 and 32 records", n)
	}
	for i, v := range order {
		if v != uint64(i+1) {
			t.Fatalf("callbacks came as %v", order)
		}
	}
}

func TestRefRoundTrip(t *testing.T) {
	want := Ref{1, 2, 3, 4, 5}
	var e wire.Encoder
	want.Encode(&e)
	d := wire.NewDecoder(e.Buf)
	if got := DecodeRef(d); got != want || d.Finish() != nil || len(e.Buf) != 17 {
		t.Errorf("%v became %v in %d bytes", want, got, len(e.Buf))
	}
}

func TestAppendTooMuchAtOnce(t *testing.T) {
	s, _ := openTest(t, vfs.NewCrash(), Options{})
	r := Record{Kind: KindControl, Blob: make([]byte, ControlBytesMax)}
	recs := make([]Record, 33)
	for i := range recs {
		recs[i] = r
	}
	if _, err := s.Append(recs, func(error) {}); blocktree.KindOf(err) != blocktree.TooLarge {
		t.Errorf("got %v", err)
	}
	r.Blob = append(r.Blob, 0)
	if _, err := s.Append([]Record{r}, func(error) {}); blocktree.KindOf(err) != blocktree.Invalid {
		t.Errorf("got %v", err)
	}
}

// TestCheckpointWaitsForTheLog holds the log's sync back until the checkpoint waits for it, or does not and is done.
func TestCheckpointWaitsForTheLog(t *testing.T) {
	if err := checkpointWaits(t, forgetNothing); err != nil {
		t.Error(err)
	}
}

func TestMutantNotWaitingForTheLogDies(t *testing.T) {
	err := checkpointWaits(t, forgetCheckpointWait)
	if err == nil {
		t.Error("the mutant lives")
	}
	t.Log(err)
}

func checkpointWaits(t *testing.T, m mutant) (failure error) {
	fs := vfs.NewCrash()
	opts := smallOptions
	opts.mutant = m
	var s *Store
	var armed, finished atomic.Bool
	fs.OnSync = func(p vfs.SyncPoint) {
		if p.After || p.Op != "Datasync" || !strings.Contains(p.Name, segmentPrefix) || !armed.Swap(false) {
			return
		}
		for waits := 0; waits == 0 && !finished.Load(); runtime.Gosched() {
			s.logMu.Lock()
			waits = s.checkpointWaits
			s.logMu.Unlock()
		}
		for seed := range uint64(20) {
			after, err := Open(fs.Clone(seed), testDir, testID, smallOptions, &recorder{})
			if err != nil {
				failure = err
				continue
			}
			for place, r := range after.pins.pending {
				x := Extent{First: r.first, Count: 1, Content: Data, Version: r.version,
					Ref: Ref{place.segment(), uint32(place), uint32(r.count), r.shardBytes, r.shard}}
				if err := checkExtent(after, testFile, x); err != nil {
					failure = err
				}
			}
			if err := after.Close(nil); err != nil {
				t.Error(err)
			}
		}
	}
	s, _ = openTest(t, fs, opts)
	waitPrepared(t, s)
	armed.Store(true)
	done := make(chan error, 1)
	if _, err := s.Append([]Record{dataRecord(testFile, 1, 1, 512, version(1))}, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	c, err := s.BeginCheckpoint([]byte("it has version 1 prepared"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Finish(); err != nil {
		t.Fatal(err)
	}
	finished.Store(true)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return failure
}

// TestRestartsCostNoSpace: what was allocated ahead is given back, by a clean stop and by the start after a crash.
func TestRestartsCostNoSpace(t *testing.T) {
	fs := vfs.NewCrash()
	opts := Options{SegmentBytes: 1 << 20}
	for i := range uint64(20) {
		s, _ := openTest(t, fs, opts)
		put(t, s, dataRecord(testFile, blocktree.SectorIndex(i), 1, 512, version(i+1)))
		waitPrepared(t, s)
		if i%2 == 0 {
			fs = fs.Clone(i)
			if err := s.Close(nil); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := s.Close([]byte{}); err != nil {
			t.Fatal(err)
		}
	}
	if used := fs.Used(); used > 100<<10 {
		t.Errorf("%d bytes for 20 records and as many starts", used)
	}
	s, r := openTest(t, fs, opts)
	if len(s.Damaged()) > 0 || len(r.records) > 0 {
		t.Errorf("damage %v, %d records", s.Damaged(), len(r.records))
	}
}
