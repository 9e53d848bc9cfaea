package seal

import (
	"sync"

	"blocktree"
	"blocktree/internal/invariant"
	"blocktree/internal/sha256x16"
)

// Run is where the sealed sectors of a run go, one after the other.
type Run interface {
	// Parts appends the places of the i-th sealed sector to parts, as SealParts takes them.
	Parts(i int, parts [][]byte) [][]byte
	// Seal is the place of the i-th header.
	Seal(i int) []byte
}

// batchBytesMax bounds the memory of a batch. Longer sectors than of some 16 KiB are sealed one by one.
const batchBytesMax = 256 << 10

// batch is what sealing some sectors together needs: each sector's leaf input, with room for the tag, and then for what SHA-256 appends.
type batch struct {
	buf    []byte
	inputs [sha256x16.Lanes][]byte
	sums   [sha256x16.Lanes][blocktree.LeafBytes]byte
	room   [blocktree.DataShardsMax][]byte
}

var batches = sync.Pool{New: func() any { return new(batch) }}

// SealRun seals neighbours into the places of a run, as SealParts does each of them: src is whole sectors of sectorBytes, index the first one's place. No part may overlap src. A leaf is most of
// what sealing costs, and those of sixteen sectors are made together (docs/design/0061). It does not block and keeps no slice; what is no whole sector is a broken invariant.
func (s *Sealer) SealRun(run Run, src []byte, sectorBytes int, index blocktree.SectorIndex, v blocktree.Version) {
	invariant.Check(sectorBytes > 0 && len(src)%sectorBytes == 0, "a run that is no whole sectors")
	b := batches.Get().(*batch)
	defer batches.Put(b)
	count := len(src) / sectorBytes
	together := sha256x16.Lanes
	if s.suite == None || together*inputRoom(sectorBytes) > batchBytesMax {
		together = 1
	}
	for i := 0; i < count; i += together {
		n := min(together, count-i)
		sectors := src[i*sectorBytes : (i+n)*sectorBytes]
		if n == 1 {
			s.SealParts(run.Parts(i, b.room[:0]), sectors, index+blocktree.SectorIndex(i), v, run.Seal(i))
		} else {
			s.sealBatch(b, run, i, sectors, sectorBytes, index, v)
		}
	}
}

// inputRoom is the room for the input of a leaf: the tag that GCM appends lies where the padding comes.
func inputRoom(sectorBytes int) int {
	return max(sha256x16.Room(leafPlaceBytes+sectorBytes), leafPlaceBytes+sectorBytes+TagBytes)
}

// sealBatch seals the sectors of a run from the at-th on.
func (s *Sealer) sealBatch(b *batch, run Run, at int, sectors []byte, sectorBytes int, index blocktree.SectorIndex, v blocktree.Version) {
	w := workspaces.Get().(*workspace)
	defer workspaces.Put(w)
	n, room, input := len(sectors)/sectorBytes, inputRoom(sectorBytes), leafPlaceBytes+sectorBytes
	if cap(b.buf) < n*room {
		b.buf = make([]byte, sha256x16.Lanes*room)
	}
	for i := range n {
		buf, header := b.buf[i*room:(i+1)*room], run.Seal(at+i)
		s.encrypt(w, buf[:input+TagBytes], sectors[i*sectorBytes:(i+1)*sectorBytes], index+blocktree.SectorIndex(at+i), v, header)
		b.inputs[i] = buf[:sha256x16.Room(input)]
		sha256x16.Pad(b.inputs[i], input)
	}
	sha256x16.Sum(&b.sums, b.inputs[:n], input)
	for i := range n {
		copy(run.Seal(at+i), b.sums[i][:])
		scatter(run.Parts(at+i, b.room[:0]), b.inputs[i][leafPlaceBytes:input])
	}
}
