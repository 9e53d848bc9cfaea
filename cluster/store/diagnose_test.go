package store

import (
	"testing"

	"blocktree"
	"blocktree/internal/vfs"
)

// TestDiagnose: what stands where a sector does not check says what became of it.
func TestDiagnose(t *testing.T) {
	const shard, count = 512, 4
	cases := map[string]struct {
		harm func(f vfs.File, at, other int64) error // of the record at; another lies at other
		want Fault
	}{
		"a bit": {func(f vfs.File, at, _ int64) error { return xorAt(f, at+headerBytes+shard, 1) }, FaultRot},
		"a cut": {func(f vfs.File, at, _ int64) error { return f.Truncate(at + headerBytes + shard) }, FaultLost},
		"zeros": {func(f vfs.File, at, _ int64) error {
			_, err := f.WriteAt(make([]byte, roundUp(headerBytes+count*(shard+metaBytes))), at)
			return err
		}, FaultLost},
		"another record over it": {func(f vfs.File, at, other int64) error { return copyWithin(f, other, at, 1024) }, FaultMisdirected},
		"another record in it":   {func(f vfs.File, at, other int64) error { return copyWithin(f, other, at+align, 1024) }, FaultMisdirected},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewCrash()
			s, _ := openTest(t, fs, smallOptions)
			defer s.Close(nil)
			other := put(t, s, dataRecord(testFile, 100, 1, shard, version(1)))
			ref := put(t, s, dataRecord(testFile, 0, count, shard, version(2)))
			if ref.Segment != other.Segment {
				t.Fatal("they lie in two segments")
			}
			f, err := fs.Open(segmentName(testDir, ref.Segment))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := c.harm(f, int64(ref.Offset), int64(other.Offset)); err != nil {
				t.Fatal(err)
			}
			x := lookup(t, s, 1, 1)[0]
			err = s.ReadShards(testFile, x, make([]byte, shard), make([]byte, SealBytes))
			if blocktree.KindOf(err) != blocktree.Corrupt {
				t.Fatalf("it reads: %v", err)
			}
			if got := s.Diagnose(testFile, x); got != c.want {
				t.Errorf("fault %d, want %d", got, c.want)
			}
		})
	}
}

func xorAt(f vfs.File, at int64, mask byte) error {
	b := []byte{0}
	if err := readFull(f, b, at); err != nil {
		return err
	}
	b[0] ^= mask
	_, err := f.WriteAt(b, at)
	return err
}

func copyWithin(f vfs.File, from, to, n int64) error {
	b := make([]byte, n)
	if err := readFull(f, b, from); err != nil {
		return err
	}
	_, err := f.WriteAt(b, to)
	return err
}
