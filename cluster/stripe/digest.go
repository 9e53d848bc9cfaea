package stripe

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"blocktree"
)

// DigestBytes is the length of the digest of one block: a SHA-256 cut to what no two blocks of a cluster share by chance.
const DigestBytes = 16

// digestBlockSectors is how many sectors one digest stands for by default: the list of a block that differs is one
// message even where every sector is an extent of its own.
const digestBlockSectors = ExtentsMax

// DigestSectorsMax bounds the sectors that one answer to a KindDigest looks at, so that it does not hold up the member for
// long.
const DigestSectorsMax = 16 << 10

// Place makes of an extent that a list or digest tells of what it is worth at this node: a shard of another place than the
// node has in the view is as good as none.
func (t *ReadTask) Place(x Extent, shard blocktree.ShardIndex) Extent {
	if x.Kind == Data && shard != t.Shard && t.mut != mutMatchShard {
		x.Kind = Damaged
	}
	return x
}

// Digester makes the digests of consecutive blocks. However the store cuts what it has into extents, the same sectors of
// the same versions and kinds give the same digests.
type Digester struct {
	block uint64
	at    blocktree.SectorIndex // where the block begins that is gathered
	run   Extent                // that may go on; of no sectors if there is none
	runs  []byte                // of the block, encoded
	out   []byte
	mut   mutant
}

// Digester begins with the first block that a KindDigest asks for.
func (t *ReadTask) Digester() *Digester {
	return &Digester{block: t.Request.Count, at: t.Request.First, mut: t.mut}
}

// Add takes the next extent, in ascending order; Absent ones may be left out.
func (d *Digester) Add(x Extent) {
	if x.Kind == Absent {
		return
	}
	for x.Count > 0 {
		for uint64(x.First) >= uint64(d.at)+d.block {
			d.close()
		}
		n := uint32(min(uint64(x.Count), uint64(d.at)+d.block-uint64(x.First)))
		if last := &d.run; last.Count > 0 && last.First+blocktree.SectorIndex(last.Count) == x.First && last.Version == x.Version && last.Kind == x.Kind {
			last.Count += n
		} else {
			d.flush()
			d.run = Extent{First: x.First, Count: n, Version: x.Version, Kind: x.Kind}
		}
		x.First += blocktree.SectorIndex(n)
		x.Count -= n
	}
}

// Finish returns the digests of all blocks that begin before next, side by side.
func (d *Digester) Finish(next blocktree.SectorIndex) []byte {
	for d.at < next {
		d.close()
	}
	return d.out
}

func (d *Digester) flush() {
	if x := d.run; x.Count > 0 {
		if d.mut != mutDigestBlind {
			d.runs = binary.BigEndian.AppendUint64(d.runs, uint64(x.First))
			d.runs = binary.BigEndian.AppendUint32(d.runs, x.Count)
			d.runs = append(d.runs, byte(x.Kind))
		}
		d.runs = binary.BigEndian.AppendUint64(d.runs, uint64(x.Version.Epoch))
		d.runs = binary.BigEndian.AppendUint64(d.runs, uint64(x.Version.Sequence))
	}
	d.run = Extent{}
}

func (d *Digester) close() {
	d.flush()
	if d.mut == mutDigestBlind {
		d.runs = distinct(d.runs)
	}
	sum := sha256.Sum256(d.runs)
	d.out = append(d.out, sum[:DigestBytes]...)
	d.runs = d.runs[:0]
	d.at += blocktree.SectorIndex(d.block)
}

// distinct is for the mutant digestblind: the set of versions.
func distinct(versions []byte) []byte {
	var all []string
	for at := 0; at < len(versions); at += 16 {
		all = append(all, string(versions[at:at+16]))
	}
	slices.Sort(all)
	var out []byte
	for _, v := range slices.Compact(all) {
		out = append(out, v...)
	}
	return out
}

// emptyDigest is the digest of a block of which nothing is committed.
func emptyDigest() [DigestBytes]byte {
	sum := sha256.Sum256(nil)
	return [DigestBytes]byte(sum[:DigestBytes])
}
