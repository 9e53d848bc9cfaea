package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"go.uber.org/goleak"

	"blocktree"
	"blocktree/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testDir = "/node/store"

var (
	testID   = blocktree.NodeID(0x1122334455667788)
	testFile = blocktree.FileID{Generation: 1, Inode: 7}
)

// recorder is a Replayer that keeps what it gets.
type recorder struct {
	blob    []byte
	records []Replayed
}

func (r *recorder) Checkpoint(_ *Store, blob []byte) error {
	r.blob = blob
	return nil
}

func (r *recorder) Record(x Replayed) error {
	r.records = append(r.records, x)
	return nil
}

func version(n uint64) blocktree.Version {
	return blocktree.Version{Epoch: 1, Sequence: blocktree.Sequence(n)}
}

// fillBytes makes n bytes that depend on everything given, so that no two sectors of two versions are alike.
func fillBytes(n int, seed ...uint64) []byte {
	h := uint64(14695981039346656037)
	for _, s := range seed {
		h = (h ^ s) * 1099511628211
		h ^= h >> 29
	}
	b := make([]byte, n)
	for i := range b {
		h = h*6364136223846793005 + 1442695040888963407
		b[i] = byte(h >> 56)
	}
	return b
}

// dataRecord makes a record whose bytes are a function of (file, sector, version).
func dataRecord(file blocktree.FileID, first blocktree.SectorIndex, count, shardBytes uint32, v blocktree.Version) Record {
	r := Record{Kind: KindData, File: file, First: first, Count: count, ShardBytes: shardBytes, Version: v, Shard: 1}
	for i := range count {
		payload, seal := contentOf(file, first+blocktree.SectorIndex(i), shardBytes, v)
		r.Payload = append(r.Payload, payload...)
		r.Seals = append(r.Seals, seal...)
	}
	return r
}

func contentOf(file blocktree.FileID, sector blocktree.SectorIndex, shardBytes uint32, v blocktree.Version) (payload, seal []byte) {
	seed := []uint64{uint64(file.Inode), uint64(sector), uint64(v.Epoch), uint64(v.Sequence)}
	return fillBytes(int(shardBytes), seed...), fillBytes(SealBytes, append(seed, 1)...)
}

// openTest opens (or creates) a store on fs.
func openTest(t testing.TB, fs vfs.FS, opts Options) (*Store, *recorder) {
	t.Helper()
	if _, err := fs.Stat(testDir + "/" + superblockName); err != nil {
		if err := Create(fs, testDir, testID, opts); err != nil {
			t.Fatal(err)
		}
	}
	r := &recorder{}
	s, err := Open(fs, testDir, testID, opts, r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(nil) })
	return s, r
}

// appendWait appends and waits for durability.
func appendWait(t testing.TB, s *Store, recs ...Record) []Ref {
	t.Helper()
	refs, err := appendSync(s, recs...)
	if err != nil {
		t.Fatal(err)
	}
	return refs
}

func appendSync(s *Store, recs ...Record) ([]Ref, error) {
	done := make(chan error, 1)
	refs, err := s.Append(recs, func(err error) { done <- err })
	if err != nil {
		return nil, err
	}
	return refs, <-done
}

func extentOf(r *Record, ref Ref) Extent {
	x := Extent{First: r.First, Count: r.Count, Content: Data, Version: r.Version, Ref: ref}
	if r.Kind == KindZero {
		x.Content = Zero
	}
	return x
}

func put(t testing.TB, s *Store, r Record) Ref {
	t.Helper()
	ref := appendWait(t, s, r)[0]
	if err := s.Index(r.File, extentOf(&r, ref)); err != nil {
		t.Fatal(err)
	}
	return ref
}

func lookup(t testing.TB, s *Store, first blocktree.SectorIndex, count uint32) []Extent {
	t.Helper()
	x, err := s.Lookup(testFile, first, count, nil)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// checkExtent reads a data extent and compares it with what its version's content must be.
func checkExtent(s *Store, file blocktree.FileID, x Extent) error {
	size := int(x.Ref.ShardBytes)
	for x.Count > 0 {
		n := min(x.Count, blocktree.RunSectorsMax)
		payload, seals := make([]byte, int(n)*size), make([]byte, int(n)*SealBytes)
		part := x.Sub(0, n)
		if err := s.ReadShards(file, part, payload, seals); err != nil {
			return err
		}
		for i := range int(n) {
			wantPayload, wantSeal := contentOf(file, x.First+blocktree.SectorIndex(i), x.Ref.ShardBytes, x.Version)
			if !bytes.Equal(wantPayload, payload[i*size:(i+1)*size]) || !bytes.Equal(wantSeal, seals[i*SealBytes:(i+1)*SealBytes]) {
				return fmt.Errorf("sector %d of version %v reads as something else", uint64(x.First)+uint64(i), x.Version)
			}
		}
		x = x.Sub(n, x.Count-n)
	}
	return nil
}

// smallOptions are of a store that does nothing by itself: faults and crashes meet what the test did.
var smallOptions = Options{SegmentBytes: 16 << 10, CheckpointBytes: 1 << 20, compactNever: true}

func TestWriteReadReopen(t *testing.T) {
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, smallOptions)
	put(t, s, dataRecord(testFile, 10, 4, 600, version(1)))
	put(t, s, dataRecord(testFile, 12, 1, 600, version(2)))
	put(t, s, Record{Kind: KindZero, File: testFile, First: 11, Count: 1, Version: version(3)})
	appendWait(t, s, Record{Kind: KindControl, Blob: []byte("fence 2")})

	check := func(s *Store) {
		t.Helper()
		var got string
		for _, x := range lookup(t, s, 9, 6) {
			got += fmt.Sprintf("%d+%d:%d@%d ", x.First, x.Count, x.Content, x.Version.Sequence)
			if x.Content == Data {
				if err := checkExtent(s, testFile, x); err != nil {
					t.Error(err)
				}
			}
		}
		if want := "9+1:0@0 10+1:2@1 11+1:1@3 12+1:2@2 13+1:2@1 14+1:0@0 "; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	check(s)
	if err := s.Close([]byte("machine")); err != nil {
		t.Fatal(err)
	}
	s, r := openTest(t, fs, smallOptions)
	if string(r.blob) != "machine" || len(r.records) != 0 || !s.Recovery().Clean || s.Recovery().Starts != 2 {
		t.Errorf("after a clean stop: blob %q, %d records, %+v", r.blob, len(r.records), s.Recovery())
	}
	check(s)
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
	if s, _ = openTest(t, fs, smallOptions); s.Recovery().Clean {
		t.Error("the clean-stop mark was used twice")
	}
	check(s)
}

func TestReplayWithoutCheckpoint(t *testing.T) {
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, smallOptions)
	want := []Record{
		dataRecord(testFile, 10, 4, 600, version(1)),
		{Kind: KindZero, File: testFile, First: 0, Count: ZeroSectorsMax, Version: version(2), Region: 77, Installed: true},
		{Kind: KindControl, Blob: []byte("view 3"), Watermark: version(2)},
		{Kind: KindControl},
	}
	refs := appendWait(t, s, want...)
	s, r := openTest(t, fs.Clone(1), smallOptions)
	if r.blob != nil || len(r.records) != len(want) {
		t.Fatalf("blob %q, %d records", r.blob, len(r.records))
	}
	for i, got := range r.records {
		w := want[i]
		if got.Ref != refs[i] || got.Kind != w.Kind || got.File != w.File || got.First != w.First || got.Count != w.Count ||
			got.Version != w.Version || got.Region != w.Region || got.Installed != w.Installed || got.Watermark != w.Watermark || !bytes.Equal(got.Blob, w.Blob) ||
			!bytes.Equal(got.Seals, w.Seals) || got.Bad != nil {
			t.Errorf("record %d came back as %+v", i, got)
		}
	}
	if err := s.Index(testFile, extentOf(&want[0], refs[0])); err != nil {
		t.Fatal(err)
	}
	if err := checkExtent(s, testFile, lookup(t, s, 10, 4)[0]); err != nil {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	fs := vfs.NewCrash()
	kind := func(name string, err error, want blocktree.Kind, hint bool) {
		t.Helper()
		if blocktree.KindOf(err) != want || hint && blocktree.HintOf(err) == "" {
			t.Errorf("%s: got %v (hint %q), want kind %v", name, err, blocktree.HintOf(err), want)
		}
	}
	_, err := Open(fs, testDir, testID, Options{}, &recorder{})
	kind("no directory", err, blocktree.NotFound, true)
	s, _ := openTest(t, fs, smallOptions)
	_, err = Open(fs, testDir, testID, smallOptions, &recorder{})
	kind("open twice", err, blocktree.Busy, true)
	kind("create in use", Create(fs, testDir, testID, smallOptions), blocktree.Busy, true)
	ok := dataRecord(testFile, 1, 1, 512, version(1))
	for _, x := range []struct {
		name string
		edit func(*Record)
		kind blocktree.Kind
	}{
		{"kind", func(r *Record) { r.Kind = 9 }, blocktree.Invalid},
		{"version", func(r *Record) { r.Version = blocktree.Version{} }, blocktree.Invalid},
		{"count", func(r *Record) { r.Count = 0 }, blocktree.Invalid},
		{"payload", func(r *Record) { r.Payload = r.Payload[1:] }, blocktree.Invalid},
		{"seals", func(r *Record) { r.Seals = nil }, blocktree.Invalid},
		{"overflow", func(r *Record) { r.First = ^blocktree.SectorIndex(0) }, blocktree.Invalid},
		{"blob in data", func(r *Record) { r.Blob = []byte("x") }, blocktree.Invalid},
		{"payload in zero", func(r *Record) { r.Kind, r.ShardBytes, r.Shard = KindZero, 0, 0 }, blocktree.Invalid},
		{"larger than a segment", func(r *Record) { *r = dataRecord(testFile, 0, 256, 512, version(1)) }, blocktree.TooLarge},
	} {
		r := ok
		x.edit(&r)
		_, err := s.Append([]Record{r}, func(error) { t.Error("done was called") })
		kind(x.name, err, x.kind, false)
	}
	ref := appendWait(t, s, ok)[0]
	s.Drop(ref, 0, 1)
	kind("index after drop", s.Index(testFile, extentOf(&ok, ref)), blocktree.Invalid, false)
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
	_, err = s.Append([]Record{ok}, func(error) {})
	kind("closed", err, blocktree.Closed, false)
	_, err = Open(fs, testDir, testID+1, smallOptions, &recorder{})
	kind("another store's", err, blocktree.Invalid, true)
	kind("create twice", Create(fs, testDir, testID, smallOptions), blocktree.Exists, true)
	boom := errors.New("boom")
	_, err = Open(fs, testDir, testID, smallOptions, failing{boom})
	if !errors.Is(err, boom) {
		t.Errorf("the replayer's error came out as %v", err)
	}
}

// TestRefusesNewerAndDamaged: a format is believed only where a checksum covers it.
func TestRefusesNewerAndDamaged(t *testing.T) {
	fs := vfs.NewCrash()
	kind := func(name string, err error, want blocktree.Kind) {
		t.Helper()
		if blocktree.KindOf(err) != want || blocktree.HintOf(err) == "" {
			t.Errorf("%s: got %v (hint %q), want kind %v", name, err, blocktree.HintOf(err), want)
		}
	}
	s, _ := openTest(t, fs, smallOptions)
	closeStore(t, s, nil)
	restore := newer(t, fs, superblockName)
	_, err := Open(fs, testDir, testID, smallOptions, &recorder{})
	kind("newer format", err, blocktree.NewerFormat)
	restore()
	flipFile(t, fs, superblockName, 4, format^3)
	_, err = Open(fs, testDir, testID, smallOptions, &recorder{})
	kind("damaged format", err, blocktree.Corrupt)
	restore()
	restore = newer(t, fs, checkpointName)
	_, err = Open(fs, testDir, testID, smallOptions, &recorder{})
	kind("newer checkpoint", err, blocktree.NewerFormat)
	restore()
	flipFile(t, fs, checkpointName, 4, format^3)
	_, err = Open(fs, testDir, testID, smallOptions, &recorder{})
	kind("damaged format of the checkpoint", err, blocktree.Corrupt)
	restore()
	flipFile(t, fs, checkpointName, 20, 1)
	_, err = Open(fs, testDir, testID, smallOptions, &recorder{})
	kind("damaged checkpoint", err, blocktree.Corrupt)
	if err := fs.Remove(testDir + "/" + checkpointName); err != nil {
		t.Fatal(err)
	}
	_, err = Open(fs, testDir, testID, smallOptions, &recorder{})
	kind("no checkpoint", err, blocktree.Corrupt)
}

type failing struct{ err error }

func (f failing) Checkpoint(*Store, []byte) error { return f.err }
func (f failing) Record(Replayed) error           { return f.err }

// flipFile changes one byte of a file of the store.
func flipFile(t testing.TB, fs vfs.FS, name string, off int64, xor byte) {
	t.Helper()
	f, err := fs.Open(testDir + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= xor
	if _, err := f.WriteAt(b[:], off); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// newer makes superblock or checkpoint one of the next format, whole as far as this one knows. restore takes it back.
func newer(t testing.TB, fs vfs.FS, name string) (restore func()) {
	t.Helper()
	write := func(b []byte) {
		if err := replaceFile(fs, testDir, name, b); err != nil {
			t.Fatal(err)
		}
	}
	old, err := readFile(fs, testDir+"/"+name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	b := bytes.Clone(old)
	b[4]++
	if name == superblockName {
		binary.BigEndian.PutUint32(b[len(b)-4:], crcOf(b[:len(b)-4]))
	} else {
		chunk := b[checkpointHeadBytes:][:5+binary.BigEndian.Uint32(b[checkpointHeadBytes+1:])]
		binary.BigEndian.PutUint32(b[checkpointHeadBytes+len(chunk):], chunkCRC(crcOf(b[:checkpointHeadBytes]), chunk))
	}
	write(b)
	return func() { write(old) }
}
