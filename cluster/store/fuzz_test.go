package store

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"blocktree"
	"blocktree/internal/vfs"
)

var fuzzID = identity{store: testID, salt: 0xfeedface01020304}

func sampleHeader() header {
	return header{
		Record: Record{
			Kind: KindData, Shard: 2, File: testFile, First: 77, Count: 3, ShardBytes: 2048, Version: version(9), Watermark: version(8),
			Region: 5, Installed: true,
		},
		sequence: 100, synced: 90, segment: 5, offset: 1024, bodyCRC: 0xabcdef,
	}
}

// fix makes a mutated input's last four bytes of b[:n] its CRC again, so that the fuzzer gets past it.
func fix(b []byte, n int) {
	if n >= 4 && len(b) >= n {
		binary.BigEndian.PutUint32(b[n-4:], crcOf(b[:n-4]))
	}
}

func FuzzRecordHeader(f *testing.F) {
	h := sampleHeader()
	b := make([]byte, headerBytes)
	h.encode(b, fuzzID)
	f.Add(slices.Clone(b), false)
	h.Record = Record{Kind: KindZero, File: testFile, Count: ZeroSectorsMax, Version: version(1)}
	h.encode(b, fuzzID)
	f.Add(slices.Clone(b), true)
	h.Record = Record{Kind: KindControl}
	h.blob = 100
	h.encode(b, fuzzID)
	f.Add(b, true)
	f.Fuzz(func(t *testing.T, in []byte, repair bool) {
		if repair {
			fix(in, headerBytes)
		}
		h, err := decodeHeader(in, fuzzID)
		if err != nil {
			return
		}
		if h.bytes() > headerBytes+blocktree.RunBytesMax+blocktree.RunSectorsMax*metaBytes+align {
			t.Fatalf("a record of %d bytes", h.bytes())
		}
		out := make([]byte, headerBytes)
		h.encode(out, fuzzID)
		if !bytes.Equal(out, in[:headerBytes]) {
			t.Fatalf("encode(decode(%x)) = %x", in, out)
		}
	})
}

func FuzzSegmentHeader(f *testing.F) {
	h := segmentHeader{segment: 3, start: 2, sequence: 50, synced: 40, voids: []sequences{{41, 42}, {45, 49}}}
	f.Add(h.encode(fuzzID), false)
	h.voids = nil
	f.Add(h.encode(fuzzID), true)
	f.Fuzz(func(t *testing.T, in []byte, repair bool) {
		if repair && len(in) >= segmentHeaderFixed {
			n := int64(binary.BigEndian.Uint32(in[segmentHeaderFixed-4:]))
			if end := segmentHeaderFixed + n*16 + 4; end <= int64(len(in)) {
				fix(in, int(end))
			}
		}
		h, err := decodeSegmentHeader(in, fuzzID)
		if err != nil {
			return
		}
		used := segmentHeaderFixed + len(h.voids)*16 + 4
		if out := h.encode(fuzzID); !bytes.Equal(out[:used], in[:used]) {
			t.Fatalf("encode(decode(%x)) = %x", in, out)
		}
	})
}

func FuzzSuperblock(f *testing.F) {
	f.Add(superblock{identity: fuzzID, starts: 7, clean: true, suspect: true}.encode(), true)
	f.Fuzz(func(t *testing.T, in []byte, repair bool) {
		if repair {
			fix(in, superblockBytes)
		}
		sb, err := decodeSuperblock(in)
		if err == nil && !bytes.Equal(sb.encode(), in) {
			t.Fatalf("encode(decode(%x)) = %x", in, sb.encode())
		}
	})
}

func samplePage() *page {
	p := &page{key: pageKey{testFile, 12}}
	p.runs = []run{
		{version: version(3), at: 1<<32 | 512, shardBytes: 2048, first: 0, count: 10, index: 5, recCount: 256, content: Data, shard: 1},
		{version: version(4), at: 1<<32 | 4096, first: 100, count: 156, recCount: 1, content: Zero},
	}
	return p
}

func FuzzPage(f *testing.F) {
	f.Add(encodePage(nil, samplePage(), fuzzID), true)
	f.Add(encodePage(nil, &page{}, fuzzID), false)
	f.Fuzz(func(t *testing.T, in []byte, repair bool) {
		if repair {
			fix(in, len(in))
		}
		p, err := decodePage(in, fuzzID)
		if err == nil && !bytes.Equal(encodePage(nil, p, fuzzID), in) {
			t.Fatalf("encode(decode(%x)) differs", in)
		}
	})
}

// sampleCheckpoint has one entry of each list, because maps have no order.
func sampleCheckpoint() *checkpointState {
	ix := newIndex(fuzzID, newPins(), 0)
	ix.table.ReplaceOrInsert(tableEntry{pageKey{testFile, 3}, 100, 200, 0x1234})
	ix.table.ReplaceOrInsert(tableEntry{pageKey{testFile, 4}, 300, 44, 0})
	ix.zeros.ReplaceOrInsert(zeroRange{testFile, 5, 9, version(7), 1<<32 | 512})
	c := &checkpointState{
		starts: 4, serial: 2, at: position{3, 4096, 77}, indexNumber: 1, indexBytes: 344, nextSegment: 6, blob: []byte("machine"),
		live: map[uint32]liveCount{2: {5, 500}}, table: ix.table, zeros: ix.zeros,
	}
	rec := pendingRecord{file: testFile, first: 9, version: version(8), shardBytes: 100, count: 3, left: 2, shard: 1}
	rec.bits.add(0)
	rec.bits.add(2)
	rec.stuck.add(2)
	c.pending = map[place]pendingRecord{3<<32 | 512: rec}
	return c
}

func encodeCheckpoint(t testing.TB, c *checkpointState) []byte {
	t.Helper()
	fs := vfs.NewCrash()
	if err := fs.MkdirAll("/"); err != nil {
		t.Fatal(err)
	}
	f, err := fs.Create("/c")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.write(f, fuzzID); err != nil {
		t.Fatal(err)
	}
	b, err := readFile(fs, "/c", 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fixChunks repairs the CRCs of all chunks.
func fixChunks(b []byte) {
	crc := crcOf(b[:min(len(b), checkpointHeadBytes)])
	for off := checkpointHeadBytes; off+5 <= len(b); {
		n := int64(binary.BigEndian.Uint32(b[off+1:]))
		end := int64(off) + 5 + n
		if end+4 > int64(len(b)) {
			return
		}
		crc = chunkCRC(crc, b[off:end])
		binary.BigEndian.PutUint32(b[end:], crc)
		off = int(end) + 4
	}
}

func FuzzCheckpoint(f *testing.F) {
	f.Add(encodeCheckpoint(f, sampleCheckpoint()), true)
	f.Fuzz(func(t *testing.T, in []byte, repair bool) {
		if repair {
			fixChunks(in)
		}
		c, err := readCheckpoint(bytes.NewReader(in), fuzzID)
		if err != nil {
			return
		}
		again, err := readCheckpoint(bytes.NewReader(encodeCheckpoint(t, c)), fuzzID)
		if err != nil {
			t.Fatalf("what was read and written again cannot be read: %v", err)
		}
		sameCheckpoint(t, c, again)
	})
}

func sameCheckpoint(t *testing.T, a, b *checkpointState) {
	t.Helper()
	if a.starts != b.starts || a.serial != b.serial || a.at != b.at || a.indexNumber != b.indexNumber || a.indexBytes != b.indexBytes || a.nextSegment != b.nextSegment ||
		!bytes.Equal(a.blob, b.blob) || (a.blob == nil) != (b.blob == nil) || len(a.live) != len(b.live) ||
		len(a.pending) != len(b.pending) || a.table.Len() != b.table.Len() || a.zeros.Len() != b.zeros.Len() {
		t.Fatalf("%+v\nbecame %+v", a, b)
	}
	for k, v := range a.live {
		if b.live[k] != v {
			t.Fatalf("live count of %d: %v became %v", k, v, b.live[k])
		}
	}
	for k, v := range a.pending {
		if b.pending[k] != v {
			t.Fatalf("pending %v: %v became %v", k, v, b.pending[k])
		}
	}
	a.table.Ascend(func(e tableEntry) bool {
		if got, _ := b.table.Get(e); got != e {
			t.Fatalf("entry %v became %v", e, got)
		}
		return true
	})
	a.zeros.Ascend(func(z zeroRange) bool {
		if got, _ := b.zeros.Get(z); got != z {
			t.Fatalf("zeros %v became %v", z, got)
		}
		return true
	})
}

// FuzzScan damages a log anywhere and opens it: no panic, no shard that reads as what it was not, and what is delivered
// is what was appended.
func FuzzScan(f *testing.F) {
	crash := vfs.NewCrash()
	s, _ := openTest(f, crash, smallOptions)
	recs := map[Ref]Record{}
	for v := uint64(1); v < 12; v++ {
		r := dataRecord(testFile, blocktree.SectorIndex(v), 2, 300, version(v))
		recs[appendWait(f, s, r)[0]] = r
	}
	if err := s.Close(nil); err != nil {
		f.Fatal(err)
	}
	name := testDir + "/" + segmentName("", 1)[0:]
	f.Add(uint32(600), []byte{1, 2, 3})
	f.Add(uint32(0), bytes.Repeat([]byte{0}, 700))
	f.Fuzz(func(t *testing.T, off uint32, xor []byte) {
		fs := crash.Clone(1)
		file, err := fs.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, len(xor))
		at := int64(off) % smallOptions.SegmentBytes
		if err := readFull(file, b, at); err != nil {
			t.Fatal(err)
		}
		for i := range b {
			b[i] ^= xor[i]
		}
		if _, err := file.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
		s, r := openTest(t, fs, smallOptions)
		for _, got := range r.records {
			want, ok := recs[got.Ref]
			if !ok || got.First != want.First || got.Version != want.Version || got.Count != want.Count {
				t.Fatalf("delivered %+v, which was never appended", got)
			}
			for i := range want.Count {
				err := checkExtent(s, testFile, extentOf(&want, got.Ref).Sub(i, 1))
				if isBad := slices.Contains(got.Bad, i); isBad != (err != nil) {
					t.Fatalf("sector %d named bad: %v, reads with %v", i, isBad, err)
				}
			}
		}
		if err := s.Close(nil); err != nil {
			t.Fatal(err)
		}
	})
}

// TestCheckpointRoundTrip is the identity that FuzzCheckpoint looks for, once for sure, and with a blob of many chunks.
func TestCheckpointRoundTrip(t *testing.T) {
	c := sampleCheckpoint()
	c.blob = fillBytes(300_000, 1)
	b := encodeCheckpoint(t, c)
	got, err := readCheckpoint(bytes.NewReader(b), fuzzID)
	if err != nil {
		t.Fatal(err)
	}
	sameCheckpoint(t, c, got)
	for off := 0; off < len(b); off += 1 + off/100 {
		b[off] ^= 0x10
		if _, err := readCheckpoint(bytes.NewReader(b), fuzzID); err == nil {
			t.Fatalf("byte %d can be anything", off)
		}
		b[off] ^= 0x10
	}
	for n := range len(b) / 1000 {
		if _, err := readCheckpoint(bytes.NewReader(b[:n*1000]), fuzzID); err == nil {
			t.Fatalf("cut to %d bytes it is still read", n*1000)
		}
	}
}
