package store

import (
	"bytes"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"blocktree"
	"blocktree/internal/vfs"
)

// shifted returns a copy of a payload that lies in memory as one that came in a long message.
func shifted(payload []byte) []byte {
	b := vfs.DirectMemory(headerBytes + len(payload))[headerBytes:]
	return b[:copy(b, payload)]
}

// longRecord is dataRecord, written past the page cache where options are directOptions.
func longRecord(first blocktree.SectorIndex, count, shardBytes uint32, v blocktree.Version) Record {
	r := dataRecord(testFile, first, count, shardBytes, v)
	r.Payload = shifted(r.Payload)
	return r
}

var directOptions = Options{SegmentBytes: 256 << 10, directMin: 16 << 10, compactNever: true}

// TestDirectRecordIsTheSame: what is written past the page cache is, byte for byte, the record that is written through it, and zeros up to whole blocks, whose pieces
// lie as a disk wants them.
func TestDirectRecordIsTheSame(t *testing.T) {
	s, _ := openTest(t, vfs.NewCrash(), directOptions)
	for _, x := range [][2]uint32{{8, 2048}, {9, 2048}, {16, 1024}, {17, 1111}, {48, 512}, {63, 2048}, {101, 333}, {3, 65536}, {256, 700}} {
		r := longRecord(5, x[0], x[1], version(7))
		h := header{Record: r}
		if !s.isDirect(&h, &r) {
			t.Fatalf("%d of %d bytes are not direct", x[0], x[1])
		}
		it := s.encodeDirect(&h, &r)
		if !it.direct || cap(it.buf) != directBufferBytes || !vfs.CanBeDirect(it.buf[:it.split]) || !vfs.CanBeDirect(it.payload) || !vfs.CanBeDirect(it.buf[it.split:]) {
			t.Errorf("%d of %d bytes: pieces that no disk takes", x[0], x[1])
		}
		got := slices.Concat(it.buf[:it.split], it.payload, it.buf[it.split:])
		s.bufs.put([]item{it})

		r.Payload = bytes.Clone(r.Payload)[:len(r.Payload):len(r.Payload)]
		s.opts.directMin = 1 << 30
		h = header{Record: r}
		it = s.encodeOne(&h, &r)
		s.opts.directMin = directOptions.directMin
		want := slices.Concat(it.buf[:it.split], it.payload, it.buf[it.split:])
		if len(got) < len(want) || len(got) >= len(want)+vfs.DirectBytes || !bytes.Equal(got[:len(want)], want) || len(bytes.Trim(got[len(want):], "\x00")) > 0 {
			t.Errorf("%d of %d bytes: %d bytes that are not the %d of the record and zeros", x[0], x[1], len(got), len(want))
		}
	}
}

// TestDirectBufferIsLongEnough for the longest record, whatever its payload ends with.
func TestDirectBufferIsLongEnough(t *testing.T) {
	for rest := range vfs.DirectBytes {
		payload := 65*vfs.DirectBytes + rest
		h := headerBytes + payload + blocktree.RunSectorsMax*metaBytes
		middle := (payload - headBytes) &^ (vfs.DirectBytes - 1)
		if n := int(roundUpDirect(int64(h))) - middle + sectorPrefixBytes; n > directBufferBytes {
			t.Fatalf("%d bytes for a payload of %d", n, payload)
		}
	}
}

// directWorld writes long and short records in turn, and one that is long and lies elsewhere in memory, in one group each.
func directWorld(t *testing.T, s *Store) (want map[blocktree.SectorIndex]uint64) {
	t.Helper()
	want = map[blocktree.SectorIndex]uint64{}
	for v := uint64(1); v <= 12; v++ {
		recs := []Record{dataRecord(testFile, 100, 3, 500, version(v)), longRecord(0, 20, 2048, version(v)), dataRecord(testFile, 200, 20, 2048, version(v)),
			longRecord(20, 9, 2048, version(v)), longRecord(30, 9, 2048, version(v))}
		recs = recs[v%3:]
		refs := appendWait(t, s, recs...)
		for i := range recs {
			if direct := recs[i].First < 100; direct && refs[i].Offset%vfs.DirectBytes != 0 {
				t.Errorf("a long record at %d", refs[i].Offset)
			}
			if err := s.Index(testFile, extentOf(&recs[i], refs[i])); err != nil {
				t.Fatal(err)
			}
			for j := range recs[i].Count {
				want[recs[i].First+blocktree.SectorIndex(j)] = v
			}
		}
	}
	return want
}

// TestDirectRecords: long records are read as they were written, wholly and in part, among others, before and after a start that replays them, on a disk and where there are no
// direct writes, which is said once.
func TestDirectRecords(t *testing.T) {
	none := vfs.NewCrash()
	none.NoDirect = true
	for name, fs := range map[string]vfs.FS{"crash": vfs.NewCrash(), "no direct writes": none, "fault": vfs.NewFault(vfs.NewCrash())} {
		var said bytes.Buffer
		opts := directOptions
		opts.Logger = slog.New(slog.NewTextHandler(&said, nil))
		s, _ := openTest(t, fs, opts)
		want := directWorld(t, s)
		if err := checkVersions(s, want); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		direct, times := s.Stats().DirectBytes, strings.Count(said.String(), "no direct writes")
		if can := name != "no direct writes"; can && (direct < 12*2*18432 || times != 0) || !can && (direct != 0 || times != 1) {
			t.Errorf("%s: %d bytes past the page cache; said %d times that there is no such thing", name, direct, times)
		}
		if err := s.Close(nil); err != nil {
			t.Fatal(err)
		}
		r := &recorder{}
		s, err := Open(fs, testDir, testID, opts, r)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Damaged()) > 0 || s.Recovery().Torn > 0 || len(r.records) != 12*5-(0+1+2)*4 {
			t.Errorf("%s: damage %v, torn %d, %d records", name, s.Damaged(), s.Recovery().Torn, len(r.records))
		}
		for i := range r.records {
			x := &r.records[i]
			if err := s.Index(testFile, extentOf(&x.Record, x.Ref)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errorsOf(checkVersions(s, want), s.Close(nil)); err != nil {
			t.Errorf("%s: after a start: %v", name, err)
		}
	}
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestDirectOnDisk: the same on the file system that tests have, whatever it can. Segments that are full have no second file open.
func TestDirectOnDisk(t *testing.T) {
	dir := t.TempDir()
	if err := Create(vfs.Disk{}, dir, testID, directOptions); err != nil {
		t.Fatal(err)
	}
	s, err := Open(vfs.Disk{}, dir, testID, directOptions, &recorder{})
	if err != nil {
		t.Fatal(err)
	}
	want := directWorld(t, s)
	open, twice := map[string]int{}, 0
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if name, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(name, dir+"/"+segmentPrefix) {
			if open[name]++; open[name] > 1 {
				twice++
			}
		}
	}
	if len(open) < 5 || twice > 1 {
		t.Errorf("%d of %d segments are open twice, though one is written to", twice, len(open))
	}
	if err := errorsOf(checkVersions(s, want), s.Close(nil)); err != nil {
		t.Error(err)
	}
}

// TestDirectWriteFails: as any write does: nobody is told that it is durable, and the store ends; but for want of space, of which nothing is replayed.
func TestDirectWriteFails(t *testing.T) {
	for _, x := range []struct {
		i    vfs.Injection
		kind blocktree.Kind
	}{
		{vfs.Injection{Op: vfs.FaultWrite, Name: segmentPrefix, Short: true}, blocktree.IO},
		{vfs.Injection{Op: vfs.FaultWrite, Name: segmentPrefix, Err: syscall.EIO}, blocktree.IO},
		{vfs.Injection{Op: vfs.FaultWrite, Name: segmentPrefix, Short: true, Err: syscall.ENOSPC}, blocktree.NoSpace},
	} {
		crash := vfs.NewCrash()
		fs := vfs.NewFault(crash)
		s, _ := openTest(t, fs, directOptions)
		put(t, s, longRecord(0, 20, 2048, version(1)))
		fs.Inject(x.i)
		_, err := appendSync(s, longRecord(0, 20, 2048, version(2)))
		if blocktree.KindOf(err) != x.kind || s.Stats().Failed == (x.kind == blocktree.NoSpace) {
			t.Errorf("%+v: %v, failed %t", x.i, err, s.Stats().Failed)
		}
		after := uint64(1)
		if x.kind == blocktree.NoSpace {
			after = 3
			put(t, s, longRecord(0, 20, 2048, version(3)))
		}
		r := &recorder{}
		again, err := Open(crash.Kill(), testDir, testID, directOptions, r)
		if err != nil {
			t.Fatal(err)
		}
		versions := []uint64{}
		for i := range r.records {
			versions = append(versions, uint64(r.records[i].Record.Version.Sequence))
		}
		if versions[len(versions)-1] != after || slices.Contains(versions, 2) || len(again.Damaged()) > 0 {
			t.Errorf("%+v: versions %v are replayed, damage %v", x.i, versions, again.Damaged())
		}
		if err := again.Close(nil); err != nil {
			t.Error(err)
		}
	}
}

// TestLastBlockOfGroup: in a file that was used before the block that a group ends in is written whole, so that nothing of it need be read; the next group goes on in it.
func TestLastBlockOfGroup(t *testing.T) {
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, smallOptions)
	last := killSegments(t, s, retiredMax, 1)
	waitPrepared(t, s)
	checkpointNow(t, s)
	for s.Stats().Recycled <= 1+dataReserveSegments {
		last = killSegments(t, s, s.pins.deadSegments()+1, last+1)
		waitPrepared(t, s)
	}
	f, err := fs.Open(s.active.name)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		last++
		ref := put(t, s, dataRecord(testFile, 0, 1, 100, version(last)))
		end := int64(ref.Offset) + 512
		if ref.Segment != s.active.number || !s.active.recycled {
			t.Fatal("another segment than was meant")
		}
		rest := make([]byte, min(roundUpDirect(end), smallOptions.SegmentBytes)-end)
		if err := readFull(f, rest, end); err != nil || len(bytes.Trim(rest, "\x00")) > 0 {
			t.Errorf("behind a group is what was there before: %v", err)
		}
	}
}

// runDirect is the crash test with long records among the short.
func runDirect(t *testing.T, seed uint64, m mutant) *world {
	w := newWorld(t, seed, m)
	w.direct = true
	w.opts.SegmentBytes, w.opts.CheckpointBytes, w.opts.directMin = 64<<10, 300<<10, 8<<10
	w.run(2, 16)
	return w
}

// TestCrashWithDirectRecords: the crash test with long records.
func TestCrashWithDirectRecords(t *testing.T) {
	w := runDirect(t, 1, forgetNothing)
	if len(w.failures) > 0 {
		t.Fatal(w.failures[0])
	}
	if w.clones < 40 || w.directBytes < 100<<10 {
		t.Errorf("only %d crashes were tried, %d bytes written past the page cache", w.clones, w.directBytes)
	}
	t.Logf("%d crashes, %d bytes", w.clones, w.directBytes)
}

// TestDirectMutantDies: a direct write is not durable by itself.
func TestDirectMutantDies(t *testing.T) {
	for seed := range uint64(20) {
		if w := runDirect(t, seed, forgetDatasync); len(w.failures) > 0 {
			t.Logf("seed %d: %s", seed, w.failures[0])
			return
		}
	}
	t.Error("the mutant lives")
}
