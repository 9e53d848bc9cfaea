package store

import (
	"bytes"
	"encoding/binary"
	"testing"

	"blocktree"
	"blocktree/internal/vfs"
)

// chunksOf cuts a checkpoint file into its chunks.
func chunksOf(t *testing.T, b []byte) [][]byte {
	t.Helper()
	var out [][]byte
	for b = b[checkpointHeadBytes:]; len(b) > 0; {
		n := 5 + int(binary.BigEndian.Uint32(b[1:])) + 4
		out = append(out, b[:n:n])
		b = b[n:]
	}
	return out
}

// TestStaleChunk puts each chunk of one checkpoint file into another of the same shape: of the same store, place in the log,
// and number of chunks, so that only the serial number tells them apart; of another start; of another store.
func TestStaleChunk(t *testing.T) {
	sample := func(change func(*checkpointState)) []byte {
		c := sampleCheckpoint()
		c.blob = fillBytes(100_000, 1)
		change(c)
		return encodeCheckpoint(t, c)
	}
	now := sample(func(*checkpointState) {})
	for name, stale := range map[string][]byte{
		"earlier": sample(func(c *checkpointState) {
			c.serial--
			c.blob = fillBytes(100_000, 2)
			c.live[2] = liveCount{6, 600}
		}),
		"other start": sample(func(c *checkpointState) { c.starts-- }),
		"other place": sample(func(c *checkpointState) { c.at.offset -= align }),
	} {
		from, to := chunksOf(t, stale), chunksOf(t, now)
		if len(from) != len(to) || len(to) < 7 {
			t.Fatalf("%s: %d and %d chunks", name, len(from), len(to))
		}
		for i := range to {
			spliced := bytes.Clone(now[:checkpointHeadBytes])
			for j := range to {
				chunk := to[j]
				if i == j {
					chunk = from[j]
				}
				spliced = append(spliced, chunk...)
			}
			if _, err := readCheckpoint(bytes.NewReader(spliced), fuzzID); err == nil {
				t.Errorf("%s: its chunk %d is accepted", name, i)
			}
		}
	}
}

// TestSerialOfCheckpoints: two checkpoints at one place of the log differ in their heads.
func TestSerialOfCheckpoints(t *testing.T) {
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, smallOptions)
	seen := map[[2]uint64]bool{}
	for range 2 {
		for range 2 {
			c, err := s.BeginCheckpoint([]byte("blob"))
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Finish(); err != nil {
				t.Fatal(err)
			}
			state, err := readCheckpointFile(fs, testDir, s.id)
			if err != nil {
				t.Fatal(err)
			}
			seen[[2]uint64{state.starts, state.serial}] = true
		}
		if err := s.Close(nil); err != nil {
			t.Fatal(err)
		}
		s, _ = openTest(t, fs, smallOptions)
	}
	if len(seen) != 4 {
		t.Errorf("of 4 checkpoints: %v", seen)
	}
}

// TestStalePage: the page of an earlier state stands, whole and of the right key, where the checkpoint says the later one is.
func TestStalePage(t *testing.T) {
	fs := vfs.NewCrash()
	s, _ := openTest(t, fs, smallOptions)
	var entries [2]tableEntry
	for v := range entries {
		put(t, s, dataRecord(testFile, 3, 1, 64, version(uint64(v)+1)))
		c, err := s.BeginCheckpoint([]byte{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Finish(); err != nil {
			t.Fatal(err)
		}
		entries[v], _ = s.ix.table.Get(tableEntry{key: pageKey{testFile, 0}})
	}
	name := s.ix.name
	if err := s.Close(nil); err != nil {
		t.Fatal(err)
	}
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, entries[0].bytes)
	if err := readFull(f, b, int64(entries[0].offset)); err != nil {
		t.Fatal(err)
	}
	if p, err := decodePage(b, s.id); err != nil || p.key != entries[1].key || entries[0].bytes != entries[1].bytes {
		t.Fatalf("the splice proves nothing: %+v, %v", p, err)
	}
	if _, err := f.WriteAt(b, int64(entries[1].offset)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	s, _ = openTest(t, fs, smallOptions)
	if x, err := s.Lookup(testFile, 3, 1, nil); blocktree.KindOf(err) != blocktree.Corrupt {
		t.Errorf("the page of before is accepted: %+v, %v", x, err)
	}
}
