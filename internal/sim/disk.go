package sim

import (
	"encoding/binary"
	"slices"

	"blocktree"
	"blocktree/cluster/stripe"
)

// disk is a node's store as cluster/store promises it: an append-only log of records of which a prefix is synced, an
// index of committed sectors, and checkpoints from which a replay may start.
type disk struct {
	log    []entry
	synced int
	index  [][]indexed // by file, by sector
	marks  []checkpoint
	// resetAt is where in the log the last Reset of each file's region is: records before it are forgotten.
	resetAt map[regionKey]int
}

type entry struct {
	rec     *stripe.Record
	lost    bool // a crash took it before it was synced
	damaged bool // its payload fails the checksum
}

type regionKey struct {
	file   int
	region blocktree.RegionIndex
}

// indexed is what the index says of one sector.
type indexed struct {
	version blocktree.Version
	kind    stripe.ExtentKind
	digest  stripe.Digest
	at      int // in the log
}

// checkpoint is the state of a member and its index when the first pos records were applied, all of them synced.
type checkpoint struct {
	pos      int
	snapshot []byte
	index    [][]indexed
	resetAt  map[regionKey]int
}

func newDisk(m *meta) *disk {
	d := &disk{resetAt: map[regionKey]int{}}
	for f := range m.files {
		d.index = append(d.index, make([]indexed, m.files[f].layout.Sectors))
	}
	return d
}

func refOf(pos int) (r stripe.Ref) {
	binary.BigEndian.PutUint64(r[:], uint64(pos)+1)
	return r
}

func posOf(r stripe.Ref) int { return int(binary.BigEndian.Uint64(r[:])) - 1 }

// commit indexes the record at ref, where it is not older than what is there.
func (d *disk) commit(file int, rec *stripe.Held, pos int, anyway bool) {
	kind := stripe.Data
	if rec.Kind == stripe.RecordZero {
		kind = stripe.Zero
	}
	for s := rec.First; s < rec.First+blocktree.SectorIndex(rec.Count); s++ {
		if x := &d.index[file][s]; anyway || !rec.Version.Less(x.version) {
			*x = indexed{rec.Version, kind, rec.Digest, pos}
		}
	}
}

// reset forgets a run of sectors of a region.
func (d *disk) reset(file int, region blocktree.RegionIndex, first blocktree.SectorIndex, count uint64, pos int) {
	clear(d.index[file][first:][:count])
	d.resetAt[regionKey{file, region}] = pos
}

// loseTail is the loss of power: what was not synced is there in part. It returns how many records are gone.
func (d *disk) loseTail(w *World) int {
	lost := 0
	cut := d.synced + w.rnd.IntN(len(d.log)-d.synced+1)
	for i := d.synced; i < len(d.log); i++ {
		if w.prof.suffixLoss && i >= cut || !w.prof.suffixLoss && w.chance(0.5) {
			d.log[i].lost = true
			lost++
		}
	}
	return lost
}

// mark makes a checkpoint; everything must be synced.
func (d *disk) mark(snapshot []byte) {
	c := checkpoint{pos: len(d.log), snapshot: snapshot, resetAt: map[regionKey]int{}}
	for _, x := range d.index {
		c.index = append(c.index, slices.Clone(x))
	}
	for k, v := range d.resetAt {
		c.resetAt[k] = v
	}
	if len(d.marks) > 1 && d.marks[0].pos < c.pos { // keep an old one, so that a rolled-back disk may start from it
		d.marks = d.marks[1:]
	}
	d.marks = append(d.marks, c)
}

// rollBack gives the disk the contents it had when it held pos records.
func (d *disk) rollBack(pos int) {
	d.log = slices.Clone(d.log[:pos])
	d.marks = slices.DeleteFunc(d.marks, func(c checkpoint) bool { return c.pos > pos })
}

// rewind puts the index to the newest checkpoint and returns it (zero if there is none), for a replay.
func (d *disk) rewind() checkpoint {
	var c checkpoint
	if len(d.marks) > 0 {
		c = d.marks[len(d.marks)-1]
	}
	d.resetAt = map[regionKey]int{}
	for f := range d.index {
		clear(d.index[f])
		if c.index != nil {
			copy(d.index[f], c.index[f])
		}
	}
	for k, v := range c.resetAt {
		d.resetAt[k] = v
	}
	return c
}

// find returns the synced record of a version that covers a sector and was not forgotten, or -1.
func (d *disk) find(w *World, file int, sector blocktree.SectorIndex, v blocktree.Version) int {
	l := w.meta.files[file].layout
	from := d.resetAt[regionKey{file, l.RegionOf(sector)}]
	for i := d.synced - 1; i >= from; i-- {
		e := &d.log[i]
		r := e.rec
		if !e.lost && r.Kind != stripe.RecordControl && r.Version == v && r.File == l.File &&
			sector >= r.First && sector < r.First+blocktree.SectorIndex(r.Count) {
			return i
		}
	}
	return -1
}

// holds reports whether a crash now would leave the sector at version v or at a newer committed one.
func (d *disk) holds(w *World, file int, sector blocktree.SectorIndex, v blocktree.Version) bool {
	return d.find(w, file, sector, v) >= 0 || v.Less(d.index[file][sector].version)
}
