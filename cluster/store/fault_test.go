package store

import (
	"errors"
	"slices"
	"sync"
	"syscall"
	"testing"

	"blocktree"
	"blocktree/internal/vfs"
)

func TestFirstErrorLatches(t *testing.T) {
	for _, x := range []struct {
		name   string
		inject vfs.Injection
	}{
		{"sync", vfs.Injection{Op: vfs.FaultSync, Name: segmentPrefix}},
		{"write", vfs.Injection{Op: vfs.FaultWrite, Name: segmentPrefix}},
		{"short write", vfs.Injection{Op: vfs.FaultWrite, Name: segmentPrefix, Short: true}},
		{"no space at the sync", vfs.Injection{Op: vfs.FaultSync, Name: segmentPrefix, Err: syscall.ENOSPC}},
	} {
		t.Run(x.name, func(t *testing.T) {
			fs := vfs.NewFault(vfs.NewCrash())
			s, _ := openTest(t, fs, smallOptions)
			first := dataRecord(testFile, 0, 1, 512, version(1))
			put(t, s, first)
			waitPrepared(t, s)
			fs.Inject(x.inject)
			_, err := appendSync(s, dataRecord(testFile, 1, 1, 512, version(2)))
			if blocktree.KindOf(err) != blocktree.IO || fs.Injected() != 1 {
				t.Fatalf("got %v after %d faults", err, fs.Injected())
			}
			if fatal := <-s.Fatal(); !errors.Is(fatal, err) || blocktree.HintOf(fatal) == "" {
				t.Errorf("fatal is %v, done was told %v", fatal, err)
			}
			// The disk works again, but what it forgot nobody knows.
			if _, err := s.Append([]Record{first}, func(error) {}); blocktree.KindOf(err) != blocktree.IO {
				t.Errorf("append after it: %v", err)
			}
			if _, err := s.BeginCheckpoint(nil); blocktree.KindOf(err) != blocktree.IO {
				t.Errorf("checkpoint after it: %v", err)
			}
			if err := s.Close([]byte("blob")); err == nil {
				t.Error("a failed store was closed cleanly")
			}
			s, _ = openTest(t, fs, smallOptions)
			if s.Recovery().Clean {
				t.Error("a failed store has the clean-stop mark")
			}
		})
	}
}

// waitPrepared waits until the segments ahead are made, so that a fault meets a record and not those.
func waitPrepared(t testing.TB, s *Store) {
	t.Helper()
	if err := s.prepare(1 + dataReserveSegments); err != nil {
		t.Fatal(err)
	}
}

func TestCheckpointFailures(t *testing.T) {
	for _, x := range []struct {
		name   string
		inject vfs.Injection
		kind   blocktree.Kind
	}{
		{"no space for pages", vfs.Injection{Op: vfs.FaultWrite, Name: indexPrefix, Err: syscall.ENOSPC, Times: 2}, blocktree.NoSpace},
		{"no space for the file", vfs.Injection{Op: vfs.FaultWrite, Name: checkpointName, Err: syscall.ENOSPC, Times: 2}, blocktree.NoSpace},
		{"sync of pages", vfs.Injection{Op: vfs.FaultSync, Name: indexPrefix}, blocktree.IO},
		{"no space at the sync of pages", vfs.Injection{Op: vfs.FaultSync, Name: indexPrefix, Err: syscall.ENOSPC}, blocktree.IO},
		{"no space at the sync of the file", vfs.Injection{Op: vfs.FaultSync, Name: checkpointName, Err: syscall.ENOSPC}, blocktree.IO},
		{"rename", vfs.Injection{Op: vfs.FaultRename, Name: checkpointName}, blocktree.IO},
		{"sync of the directory", vfs.Injection{Op: vfs.FaultSyncDir}, blocktree.IO},
	} {
		t.Run(x.name, func(t *testing.T) {
			fs := vfs.NewFault(vfs.NewCrash())
			s, _ := openTest(t, fs, smallOptions)
			r := dataRecord(testFile, 0, 1, 512, version(1))
			put(t, s, r)
			waitPrepared(t, s)
			fs.Inject(x.inject)
			c, err := s.BeginCheckpoint([]byte("one"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.BeginCheckpoint(nil); blocktree.KindOf(err) != blocktree.Busy {
				t.Errorf("a second checkpoint: %v", err)
			}
			if err := c.Finish(); blocktree.KindOf(err) != x.kind {
				t.Fatalf("got %v, want kind %v", err, x.kind)
			}
			if x.kind != blocktree.NoSpace {
				<-s.Fatal()
				return
			}
			fs.Clear()
			put(t, s, dataRecord(testFile, 1, 1, 512, version(2)))
			if err := s.Close([]byte("two")); err != nil {
				t.Fatal(err)
			}
			s, rec := openTest(t, fs, smallOptions)
			if string(rec.blob) != "two" || len(lookup(t, s, 0, 2)) != 2 {
				t.Errorf("blob %q, %v", rec.blob, lookup(t, s, 0, 2))
			}
		})
	}
}

// TestNoSpaceOnWrite is a copy-on-write file system: the space that was allocated is not there when it comes to it.
func TestNoSpaceOnWrite(t *testing.T) {
	if err := noSpaceOnWrite(t, forgetNothing); err != nil {
		t.Fatal(err)
	}
}

func TestMutantForgettingVoidsDies(t *testing.T) {
	err := noSpaceOnWrite(t, forgetVoid)
	if err == nil {
		t.Error("the mutant lives")
	}
	t.Log(err)
}

func noSpaceOnWrite(t *testing.T, m mutant) error {
	opts := smallOptions
	opts.mutant = m
	crash := vfs.NewCrash()
	fs := vfs.NewFault(crash)
	s, _ := openTest(t, fs, opts)
	put(t, s, dataRecord(testFile, 0, 1, 512, version(1)))
	waitPrepared(t, s)

	// A group of several records of which the first are written; others queue behind it meanwhile.
	fs.Inject(vfs.Injection{Op: vfs.FaultWrite, Name: segmentPrefix, Short: true, Err: syscall.ENOSPC})
	var wg sync.WaitGroup
	var mu sync.Mutex
	kinds := map[blocktree.Kind]int{}
	failed := map[uint64]bool{}
	for v := uint64(2); v < 30; v++ {
		wg.Add(1)
		r := dataRecord(testFile, blocktree.SectorIndex(v), 1, 512, version(v))
		if _, err := s.Append([]Record{r}, func(err error) {
			mu.Lock()
			defer mu.Unlock()
			kinds[blocktree.KindOf(err)]++
			failed[v] = err != nil
			wg.Done()
		}); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if kinds[blocktree.NoSpace] == 0 || kinds[blocktree.NoSpace]+kinds[blocktree.Other] != 28 || fs.Injected() != 1 {
		t.Fatalf("kinds %v, %d faults", kinds, fs.Injected())
	}
	select {
	case err := <-s.Fatal():
		t.Fatalf("no space was fatal: %v", err)
	default:
	}
	put(t, s, dataRecord(testFile, 30, 1, 512, version(30)))
	put(t, s, dataRecord(testFile, 31, 1, 512, version(31)))
	if st := s.Stats(); st.Pending != kinds[blocktree.Other] {
		t.Errorf("%d records are pending, %d were written and not indexed", st.Pending, kinds[blocktree.Other])
	}
	for seed := range uint64(20) {
		if err := afterNoSpace(t, crash.Clone(seed), opts, failed); err != nil {
			return err
		}
	}
	if err := s.Close([]byte("x")); err != nil {
		t.Fatal(err)
	}
	return nil
}

func afterNoSpace(t *testing.T, fs vfs.FS, opts Options, failed map[uint64]bool) error {
	r := &recorder{}
	s, err := Open(fs, testDir, testID, opts, r)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(nil)
	var got []uint64
	for _, x := range r.records {
		got = append(got, uint64(x.Version.Sequence))
	}
	for v := uint64(1); v < 32; v++ {
		if slices.Contains(got, v) == failed[v] {
			return errors.New("replay differs from what the callbacks said: " + version(v).String())
		}
	}
	if len(s.Damaged()) > 0 {
		return errors.New("void records are reported as damage")
	}
	return nil
}

// TestNoSpaceEndsCheckpoint: one that was begun before records failed may describe them, one begun later does not.
func TestNoSpaceEndsCheckpoint(t *testing.T) {
	fs := vfs.NewFault(vfs.NewCrash())
	s, _ := openTest(t, fs, smallOptions)
	put(t, s, dataRecord(testFile, 0, 1, 512, version(1)))
	waitPrepared(t, s)
	early, err := s.BeginCheckpoint([]byte("early"))
	if err != nil {
		t.Fatal(err)
	}
	fs.Inject(vfs.Injection{Op: vfs.FaultWrite, Name: segmentPrefix, Err: syscall.ENOSPC})
	if _, err := appendSync(s, dataRecord(testFile, 1, 1, 512, version(2))); blocktree.KindOf(err) != blocktree.NoSpace {
		t.Fatal(err)
	}
	s.logMu.Lock()
	for s.noSpaceCount == 0 { // who appended is told before it is counted
		s.syncedCond.Wait()
	}
	s.logMu.Unlock()
	if err := early.Finish(); blocktree.KindOf(err) != blocktree.NoSpace {
		t.Errorf("the early checkpoint: %v", err)
	}
	<-s.CheckpointWanted()
	late, err := s.BeginCheckpoint([]byte("late"))
	if err != nil {
		t.Fatal(err)
	}
	if err := late.Finish(); err != nil {
		t.Errorf("the late checkpoint: %v", err)
	}
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
	s, r := openTest(t, fs, smallOptions)
	if string(r.blob) != "late" || len(r.records) > 0 || len(s.Damaged()) > 0 {
		t.Errorf("blob %q, %d records, damage %v", r.blob, len(r.records), s.Damaged())
	}
}

// TestNoSpaceOnAppend fills a disk: data is refused before it has a place, control records still fit, and after a
// checkpoint the space of what was overwritten comes back.
func TestNoSpaceOnAppend(t *testing.T) {
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, smallOptions)
	waitPrepared(t, s)
	fs.SetCapacity(12*smallOptions.SegmentBytes + 40<<10)
	var err error
	v, sector := uint64(0), 0
	for ; err == nil; v++ {
		r := dataRecord(testFile, blocktree.SectorIndex(sector%8), 8, 512, version(v+1))
		var refs []Ref
		if refs, err = appendSync(s, r); err == nil {
			if err := s.Index(testFile, extentOf(&r, refs[0])); err != nil {
				t.Fatal(err)
			}
		}
		if v > 1000 {
			t.Fatal("the disk never fills")
		}
	}
	if blocktree.KindOf(err) != blocktree.NoSpace {
		t.Fatal(err)
	}
	for range 3 {
		appendWait(t, s, Record{Kind: KindControl, Blob: make([]byte, 1000)})
	}
	appendWait(t, s, Record{Kind: KindZero, File: testFile, First: 1000, Count: 5, Version: version(v + 1)})
	select {
	case <-s.CheckpointWanted():
	default:
		t.Error("no checkpoint was asked for")
	}
	before := s.Stats()
	c, err := s.BeginCheckpoint([]byte("blob"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Finish(); err != nil {
		t.Fatal(err)
	}
	after := s.Stats()
	if after.DiskBytes > before.DiskBytes/2 || after.Segments > 2 {
		t.Errorf("before: %+v\nafter: %+v", before, after)
	}
	for i := range uint64(20) {
		put(t, s, dataRecord(testFile, 3, 1, 512, version(v+2+i)))
	}
	s2, _ := openTest(t, fs.Clone(3), smallOptions)
	if x := lookup(t, s2, 0, 3); len(x) != 1 || checkExtent(s2, testFile, x[0]) != nil {
		t.Errorf("after a crash: %v", x)
	}
}

// TestEveryFlippedByte damages each byte of a synced record, and of the log's last one, and checks what is made of it.
func TestEveryFlippedByte(t *testing.T) {
	crash := vfs.NewCrash()
	s, _ := openTest(t, crash, smallOptions)
	good := dataRecord(testFile, 5, 3, 200, version(1))
	ref := appendWait(t, s, good)[0]
	next := dataRecord(testFile, 9, 1, 200, version(2))
	last := dataRecord(testFile, 11, 1, 200, version(3))
	tail := appendWait(t, s, next, last) // one group: while next is damaged, nothing says that it was synced
	nextRef, lastRef := tail[0], tail[1]
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
	h := header{Record: good}
	used := headerBytes + h.payloadBytes() + h.metaBytes()
	name := segmentName("", ref.Segment)
	for off := int64(0); off < h.bytes(); off++ {
		fs := crash.Clone(1)
		flipFile(t, fs, name, int64(ref.Offset)+off, 1<<(off%8))
		s, r := openTest(t, fs, smallOptions)
		damaged := len(s.Damaged()) > 0
		if damaged != (off < used) {
			t.Fatalf("byte %d of a synced record: damage %+v", off, s.Damaged())
		}
		if n := len(r.records); r.records[n-1].Ref != lastRef || r.records[n-2].Ref != nextRef {
			t.Fatalf("byte %d: the record behind it was lost", off)
		}
		checkFlipped(t, s, r, off, good, ref)
		if err := s.Close(nil); err != nil {
			t.Fatal(err)
		}
	}
	h = header{Record: next}
	for off := int64(0); off < headerBytes+h.payloadBytes()+h.metaBytes(); off++ {
		fs := crash.Clone(1)
		flipFile(t, fs, name, int64(nextRef.Offset)+off, 1<<(off%8))
		s, r := openTest(t, fs, smallOptions)
		if len(s.Damaged()) > 0 || len(r.records) != 2 || r.records[1].Ref != lastRef {
			t.Fatalf("byte %d of the tail: %d records, damage %+v", off, len(r.records), s.Damaged())
		}
		if err := s.Close(nil); err != nil {
			t.Fatal(err)
		}
		// Should the byte come back, the record stays void: the start that did not see it has said so.
		flipFile(t, fs, name, int64(nextRef.Offset)+off, 1<<(off%8))
		if _, r := openTest(t, fs, smallOptions); len(r.records) != 2 {
			t.Fatalf("byte %d: a void record came back", off)
		}
	}
}

// checkFlipped checks that no damaged sector of the record reads as good, and that exactly the named ones are bad.
func checkFlipped(t *testing.T, s *Store, r *recorder, off int64, good Record, ref Ref) {
	t.Helper()
	bad := allSectors(good.Count)
	if r.records[0].Ref == ref {
		bad = r.records[0].Bad
	}
	for i := range good.Count {
		x := extentOf(&good, ref).Sub(i, 1)
		err := checkExtent(s, testFile, x)
		inHeader := off < headerBytes // the shards are good, but found only by who knows where they are
		if isBad := slices.Contains(bad, i); !inHeader && isBad != (err != nil) || inHeader && err != nil {
			t.Fatalf("byte %d: sector %d: named bad: %v, reads with %v", off, i, isBad, err)
		}
		var d *Damage
		if err != nil && (blocktree.KindOf(err) != blocktree.Corrupt || !errors.As(err, &d) || d.Sectors[0] != x.First) {
			t.Fatalf("byte %d: %v", off, err)
		}
	}
}

// TestMisdirected reads good records as what they are not.
func TestMisdirected(t *testing.T) {
	s, _ := openTest(t, vfs.NewCrash(), smallOptions)
	r := dataRecord(testFile, 5, 2, 200, version(3))
	ref := appendWait(t, s, r)[0]
	x := extentOf(&r, ref)
	for name, edit := range map[string]func(*blocktree.FileID, *Extent){
		"file":        func(f *blocktree.FileID, _ *Extent) { f.Inode++ },
		"generation":  func(f *blocktree.FileID, _ *Extent) { f.Generation++ },
		"sector":      func(_ *blocktree.FileID, x *Extent) { x.First++ },
		"epoch":       func(_ *blocktree.FileID, x *Extent) { x.Version.Epoch++ },
		"sequence":    func(_ *blocktree.FileID, x *Extent) { x.Version.Sequence-- },
		"shard":       func(_ *blocktree.FileID, x *Extent) { x.Ref.Shard++ },
		"shard bytes": func(_ *blocktree.FileID, x *Extent) { x.Ref.ShardBytes-- },
		"index":       func(_ *blocktree.FileID, x *Extent) { x.Index, x.Count = 1, 1 },
		"count":       func(_ *blocktree.FileID, x *Extent) { x.Ref.Count++ },
		"place":       func(_ *blocktree.FileID, x *Extent) { x.Ref.Offset += align },
	} {
		file, y := testFile, x
		edit(&file, &y)
		size := int(y.Count) * int(y.Ref.ShardBytes)
		err := s.ReadShards(file, y, make([]byte, size), make([]byte, int(y.Count)*SealBytes))
		if blocktree.KindOf(err) != blocktree.Corrupt {
			t.Errorf("another %s: %v", name, err)
		}
	}
	x.Ref.Segment += 100
	err := s.ReadShards(testFile, x, make([]byte, 400), make([]byte, 2*SealBytes))
	if blocktree.KindOf(err) != blocktree.NotFound {
		t.Errorf("a segment that is not there: %v", err)
	}
}

// TestPlantedRecord puts a perfect record of this store, but for the salt, into a payload and damages the header before
// it: a resync must not find the planted one.
func TestPlantedRecord(t *testing.T) {
	crash := vfs.NewCrash()
	s, _ := openTest(t, crash, smallOptions)
	planted := header{Record: Record{Kind: KindZero, File: testFile, Count: 100, Version: version(99)}, sequence: 1 << 40}
	planted.segment = s.active.number
	at := s.active.end + 2*align
	planted.offset = uint32(at)
	for _, salt := range []uint64{s.id.salt ^ 1, s.id.salt} {
		fs := crash.Clone(1)
		s, _ := openTest(t, fs, smallOptions)
		planted.segment = s.active.number
		r := dataRecord(testFile, 5, 1, 2000, version(1))
		planted.encode(r.Payload[2*align-headerBytes:], identity{testID, salt})
		ref := appendWait(t, s, r)[0]
		if int64(ref.Offset)+2*align != int64(planted.offset) {
			t.Fatal("planted at the wrong place")
		}
		if err := s.Close(nil); err != nil {
			t.Fatal(err)
		}
		flipFile(t, fs, segmentName("", ref.Segment), int64(ref.Offset)+5, 1)
		_, rec := openTest(t, fs, smallOptions)
		if found := len(rec.records) > 0; found != (salt == s.id.salt) {
			t.Errorf("with the salt known: %v: found: %v", salt == s.id.salt, found)
		}
	}
}

func TestReserveSurvivesRestartOnFullDisk(t *testing.T) {
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, smallOptions)
	put(t, s, dataRecord(testFile, 0, 1, 512, version(1)))
	waitPrepared(t, s)
	fs.SetCapacity(fs.Used())
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
	s, r := openTest(t, fs, smallOptions)
	if len(r.records) != 1 {
		t.Fatalf("%d records", len(r.records))
	}
	appendWait(t, s, Record{Kind: KindControl, Blob: []byte("view")})
}
