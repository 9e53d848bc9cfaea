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
	fate   []fate // by position in the log
	// unreadable names a sector whose page of the index is damaged, until its region is forgotten.
	unreadable map[regionKey]blocktree.SectorIndex
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

// fate is what became of a record, as far as it is known.
type fate uint8

const (
	undecided fate = iota
	committed
	gone // void, or forgotten
)

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
	fate     []fate
}

func newDisk(m *meta) *disk {
	d := &disk{unreadable: map[regionKey]blocktree.SectorIndex{}}
	for f := range m.files {
		d.index = append(d.index, make([]indexed, m.files[f].sectorsMax))
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
	d.become(pos, committed)
	for s := rec.First; s < rec.First+blocktree.SectorIndex(rec.Count); s++ {
		if x := &d.index[file][s]; anyway || !rec.Version.Less(x.version) {
			*x = indexed{rec.Version, kind, rec.Digest, pos}
		}
	}
}

// reset forgets what is committed in a region by the first pos records.
func (d *disk) reset(file int, run stripe.RegionRun, pos int) {
	clear(d.index[file][run.First:][:run.Count])
	delete(d.unreadable, regionKey{file, run.Region})
	for i := range d.fate[:min(pos, len(d.fate))] {
		if r := d.log[i].rec; d.fate[i] == committed && r.File == run.File && r.Region == run.Region {
			d.fate[i] = gone
		}
	}
}

// drop notes that a record will never be committed.
func (d *disk) drop(pos int) { d.become(pos, gone) }

func (d *disk) become(pos int, f fate) {
	for len(d.fate) <= pos {
		d.fate = append(d.fate, undecided)
	}
	d.fate[pos] = f
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
	c := checkpoint{pos: len(d.log), snapshot: snapshot, fate: slices.Clone(d.fate)}
	for _, x := range d.index {
		c.index = append(c.index, slices.Clone(x))
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

// makeHoles loses records in the middle of what a replay reads, promises as well as data: what it commits then may be void.
// That alone is rare, so that void versions are committed outright, too. Of some regions the index cannot be read.
func (d *disk) makeHoles(w *World) {
	d.commitVoid(w)
	for f := range w.meta.files {
		for r := range w.meta.files[f].layout.Regions() {
			if first, count := w.meta.files[f].layout.Run(r); w.chance(0.5) {
				d.unreadable[regionKey{f, r}] = first + blocktree.SectorIndex(w.rnd.IntN(int(count)))
			}
		}
	}
	if w.chance(0.5) {
		d.marks = nil
	}
	from := 0
	if len(d.marks) > 0 {
		from = d.marks[len(d.marks)-1].pos
	}
	share := []float64{0.1, 0.4}[w.rnd.IntN(2)]
	for i := from; i < len(d.log); i++ {
		d.log[i].lost = d.log[i].lost || w.chance(share)
	}
}

// commitVoid commits versions of earlier epochs that a take-over has undone.
func (d *disk) commitVoid(w *World) {
	for _, e := range d.log {
		r := e.rec
		if e.lost || r.Kind == stripe.RecordControl || w.chance(0.3) {
			continue
		}
		f := w.meta.fileOf(r.File)
		if x := w.byVer[versionKey{f, r.Region, r.Version}]; x.state == voided && r.Version.Epoch < w.meta.files[f].layout.Epoch {
			rec := *r
			rec.Installed, rec.Watermark = true, blocktree.Version{}
			d.log = append(d.log, entry{rec: &rec})
		}
	}
}

// misplace gives the disk good shards of another place for much of what is committed, under the right versions.
func (d *disk) misplace(w *World) {
	for f := range d.index {
		l := w.meta.files[f].layout
		for s := range d.index[f] {
			x, sector := d.index[f][s], blocktree.SectorIndex(s)
			if x.kind != stripe.Data || x.at >= len(d.log) || d.log[x.at].lost || d.log[x.at].rec.Version != x.version || w.chance(0.3) {
				continue // or it is an index of before another fault
			}
			rec := *d.log[x.at].rec
			shards, seals := encode(l.Code, w.byVer[versionKey{f, rec.Region, rec.Version}].value, sector, 1)
			rec.First, rec.Count, rec.Installed, rec.Watermark = sector, 1, true, blocktree.Version{}
			rec.Shard = (rec.Shard + 1) % blocktree.ShardIndex(l.Code.Shards())
			rec.Payload, rec.Seals = shards[rec.Shard], seals
			d.log = append(d.log, entry{rec: &rec})
		}
	}
}

// rewind puts the index to the newest checkpoint and returns it (zero if there is none), for a replay.
func (d *disk) rewind() checkpoint {
	var c checkpoint
	if len(d.marks) > 0 {
		c = d.marks[len(d.marks)-1]
	}
	d.fate = slices.Clone(c.fate)
	for f := range d.index {
		clear(d.index[f])
		if c.index != nil {
			copy(d.index[f], c.index[f])
		}
	}
	return c
}

// find returns the synced record of a version that covers a sector and was not forgotten, or -1.
func (d *disk) find(w *World, file int, sector blocktree.SectorIndex, v blocktree.Version) int {
	return d.findBelow(d.synced, w, file, sector, v)
}

// findBelow is find among the first n records.
func (d *disk) findBelow(n int, w *World, file int, sector blocktree.SectorIndex, v blocktree.Version) int {
	l := w.meta.files[file].layout
	for i := n - 1; i >= 0; i-- {
		e := &d.log[i]
		r := e.rec
		if !e.lost && (i >= len(d.fate) || d.fate[i] != gone) && r.Kind != stripe.RecordControl && r.Version == v && r.File == l.File &&
			sector >= r.First && sector < r.First+blocktree.SectorIndex(r.Count) {
			return i
		}
	}
	return -1
}

// holds reports whether a crash now would leave the sector at version v or at a newer committed one.
func (d *disk) holds(w *World, file int, sector blocktree.SectorIndex, v blocktree.Version) bool {
	x := &d.index[file][sector]
	return d.find(w, file, sector, v) >= 0 || v.Less(x.version) && x.at < d.synced
}
