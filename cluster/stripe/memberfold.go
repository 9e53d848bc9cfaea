package stripe

import (
	"cmp"
	"maps"
	"slices"

	"blocktree"
	"blocktree/internal/wire"
)

// memberRegion is what a node keeps of a region besides what is committed (that is the store's index).
type memberRegion struct {
	watermark blocktree.Version
	pending   []*Held             // above the watermark, ascending by version
	aborted   []blocktree.Version // refused for ever; above the watermark, ascending
	decided   []*Held             // committed by a repair, above the watermark; ascending

	resetEpoch blocktree.Epoch  // the epoch of the last copy-up
	resetSeq   blocktree.ViewID // the join it was for
	forgot     bool             // for that join what was committed is forgotten, too

	newest blocktree.Version     // of all that was ever committed and not forgotten
	whole  blocktree.Incarnation // the node was in sync as this (wholeAs), and has had no copy-up since

	abortNo   uint64 // number of the newest abort's record
	installNo uint64 // and of the newest installed one
	// What the answer to the last reset said, for the same answer when it is asked again (after a pause, joinpause.go).
	unbroken   bool
	missedNone blocktree.Version
}

func (f *memberFile) region(i blocktree.RegionIndex) *memberRegion {
	r := f.regions[i]
	if r == nil {
		if f.regions == nil {
			f.regions = map[blocktree.RegionIndex]*memberRegion{}
		}
		r = &memberRegion{}
		f.regions[i] = r
	}
	return r
}

func compareVersions(a, b blocktree.Version) int {
	if c := cmp.Compare(a.Epoch, b.Epoch); c != 0 {
		return c
	}
	return cmp.Compare(a.Sequence, b.Sequence)
}

func byVersion(h *Held, v blocktree.Version) int { return compareVersions(h.Version, v) }

func (r *memberRegion) find(v blocktree.Version) (int, bool) {
	if n := len(r.pending); n == 0 || r.pending[n-1].Version.Less(v) {
		return n, false
	}
	return slices.BinarySearchFunc(r.pending, v, byVersion)
}

func (r *memberRegion) isEmpty() bool {
	return r.watermark.IsZero() && len(r.pending)+len(r.aborted)+len(r.decided) == 0 && r.resetSeq == 0 && r.newest.IsZero()
}

func (r *memberRegion) remove(i int) { r.pending = slices.Delete(r.pending, i, i+1) }

func (r *memberRegion) isAborted(v blocktree.Version) bool {
	if len(r.aborted) == 0 {
		return false
	}
	_, ok := slices.BinarySearchFunc(r.aborted, v, compareVersions)
	return ok
}

// overlapping returns the pending records that a read has to tell of. Only durable ones count as held.
func (r *memberRegion) overlapping(q *Message, durable uint64, volatile bool) []*Held {
	if q.Kind != KindRead || len(r.pending) == 0 {
		return nil
	}
	if q.Want == WantExact {
		if i, ok := r.find(q.Version); ok && (r.pending[i].no <= durable || volatile) {
			return []*Held{r.pending[i]}
		}
		return nil
	}
	var out []*Held
	for _, h := range r.pending {
		if h.no > durable && !volatile {
			continue
		}
		if uint64(h.First) < uint64(q.First)+q.Count && uint64(q.First) < uint64(h.First)+uint64(h.Count) {
			out = append(out, h)
		}
	}
	return out
}

// anyUpTo reports whether a watermark of w would commit anything that a read or list tells of.
func (r *memberRegion) anyUpTo(w blocktree.Version, q *Message) bool {
	for _, h := range r.pending {
		if w.Less(h.Version) {
			return false
		}
		if q.Kind != KindRead || uint64(h.First) < uint64(q.First)+q.Count && uint64(q.First) < uint64(h.First)+uint64(h.Count) {
			return true
		}
	}
	return false
}

// Apply folds a record of the log into the state: what a restart does with each record after the checkpoint. ref is where
// it is. It fails only on control records of a newer format. Effects on the index are in the next Ready.
func (m *Member) Apply(rec *Record, ref Ref) error {
	h, err := m.fold(m.file(rec.File), rec, 0)
	if h != nil {
		h.Ref = ref
	}
	return err
}

// fold is the one place where state changes. no is the record's number, 0 on replay.
func (m *Member) fold(f *memberFile, rec *Record, no uint64) (*Held, error) {
	if rec.Kind == RecordControl {
		c, err := decodeControl(rec.Control)
		if err == nil {
			m.foldControl(f, &c, no)
		}
		return nil, err
	}
	h := &Held{
		File: rec.File, Region: rec.Region, First: rec.First, Count: rec.Count, Kind: rec.Kind, Installed: rec.Installed,
		Shard: rec.Shard, ShardBytes: rec.ShardBytes, Version: rec.Version, Digest: rec.Digest, no: no,
	}
	r := f.region(rec.Region)
	m.advance(r, rec.Watermark)
	if rec.Installed || !r.watermark.Less(rec.Version) {
		if rec.Installed {
			r.installNo = no
		}
		m.commit(r, h)
		return h, nil
	}
	i, dup := r.find(rec.Version)
	if dup { // only where a rule is broken on purpose, or a log holds a record twice
		r.pending[i] = h
		return h, nil
	}
	if i == len(r.pending) {
		r.pending = append(r.pending, h)
	} else {
		r.pending = slices.Insert(r.pending, i, h)
	}
	return h, nil
}

// commit has a record indexed.
func (m *Member) commit(r *memberRegion, h *Held) {
	m.next.Commits = append(m.next.Commits, h)
	if h.late = h.no > 0 && h.Ref == (Ref{}); !h.late {
		r.raise(h.Version)
	}
}

func (r *memberRegion) raise(v blocktree.Version) {
	if r.newest.Less(v) {
		r.newest = v
	}
}

// advance moves the watermark up and commits what it passes, in ascending order.
func (m *Member) advance(r *memberRegion, w blocktree.Version) {
	if !r.watermark.Less(w) {
		return
	}
	r.watermark = w
	n := 0
	for n < len(r.pending) && !w.Less(r.pending[n].Version) {
		m.commit(r, r.pending[n])
		r.pending[n] = nil
		n++
	}
	if r.pending = r.pending[n:]; len(r.pending) == 0 && cap(r.pending) < 16 {
		r.pending = nil
	}
	for len(r.aborted) > 0 && !w.Less(r.aborted[0]) {
		r.aborted = r.aborted[1:]
	}
	for len(r.decided) > 0 && !w.Less(r.decided[0].Version) {
		r.decided = r.decided[1:]
	}
}

func (m *Member) foldControl(f *memberFile, c *control, no uint64) {
	promise := func() {
		f.epoch, f.seq = max(f.epoch, c.epoch), max(f.seq, c.seq)
		f.promiseNo = max(f.promiseNo, no)
	}
	switch c.kind {
	case ctlPromise:
		promise()
	case ctlFence:
		promise()
		f.fenced, f.recovering = c.epoch, true
	case ctlRepair:
		promise()
		for i := range c.repairs {
			m.foldRepair(f.region(c.repairs[i].Region), &c.repairs[i], c.epoch)
		}
		if c.last {
			f.recovering = false
		}
	case ctlAbort:
		r := f.region(c.region)
		if i, ok := r.find(c.version); ok {
			m.next.Drops = append(m.next.Drops, r.pending[i])
			r.remove(i)
		}
		if i, ok := slices.BinarySearchFunc(r.aborted, c.version, compareVersions); !ok && r.watermark.Less(c.version) {
			r.aborted = slices.Insert(r.aborted, i, c.version)
		}
	case ctlReset:
		m.foldReset(f.region(c.region), c)
	case ctlWatermark:
		m.advance(f.region(c.region), c.version)
	case ctlForget:
		r := f.region(c.region)
		m.reset(f, RegionRun{File: f.id, Region: c.region, First: c.first, Count: c.count})
		r.newest, r.forgot, r.unbroken = blocktree.Version{}, true, false
	case ctlWhole:
		f.region(c.region).whole = c.incarnation
	}
}

// foldReset begins a copy-up. What is not committed is void unless it is sent again (I9): another leaf may have been
// acknowledged under its version meanwhile.
func (m *Member) foldReset(r *memberRegion, c *control) {
	keep := r.pending
	if m.mut == mutKeepPending {
		*r = memberRegion{watermark: r.watermark, pending: keep, newest: r.newest, resetEpoch: c.epoch, resetSeq: c.seq}
		m.advance(r, c.version)
		return
	}
	m.next.Drops = append(m.next.Drops, r.pending...)
	*r = memberRegion{watermark: c.version, newest: r.newest, resetEpoch: c.epoch, resetSeq: c.seq}
}

// foldRepair commits the winners and everything up to the floor, and voids the rest of the older epochs. The watermark
// rises to the floor only: a void version between two winners must not look committed to the next take-over (I2, I4).
func (m *Member) foldRepair(r *memberRegion, p *Repair, epoch blocktree.Epoch) {
	keep := r.pending[:0:0]
	for _, h := range r.pending {
		_, won := slices.BinarySearchFunc(p.Winners, h.Version, compareVersions)
		above := p.Floor.Less(h.Version)
		switch {
		case above && won:
			m.commit(r, h)
			i, _ := slices.BinarySearchFunc(r.decided, h.Version, byVersion)
			r.decided = slices.Insert(r.decided, i, h)
		case !above:
			m.commit(r, h)
		case h.Version.Epoch < epoch:
			m.next.Drops = append(m.next.Drops, h)
		default:
			keep = append(keep, h)
		}
	}
	r.pending = keep
	r.aborted = slices.DeleteFunc(r.aborted, func(v blocktree.Version) bool { return v.Epoch < epoch })
	m.advance(r, p.Floor)
}

// reset makes the driver forget what is indexed of a region. What this Ready was to index is garbage instead.
func (m *Member) reset(f *memberFile, run RegionRun) {
	m.next.Commits = slices.DeleteFunc(m.next.Commits, func(h *Held) bool {
		of := h.File == f.id && h.Region == run.Region
		if of {
			h.late = false
			m.next.Drops = append(m.next.Drops, h)
		}
		return of
	})
	m.next.Resets = append(m.next.Resets, run)
}

// fenceEntriesMax bounds the regions and extents of one answer to a fence; a region is never split.
const fenceEntriesMax = 8192

// states lists what a fenced member tells, from a region on, and whether that is all.
func (f *memberFile) states(from blocktree.RegionIndex) ([]RegionState, bool) {
	var out []RegionState
	entries := 0
	for _, i := range sortedRegions(f.regions) {
		r := f.regions[i]
		if i < from || r.watermark.IsZero() && len(r.pending)+len(r.decided) == 0 {
			continue
		}
		if entries >= fenceEntriesMax {
			return out, false
		}
		s := RegionState{Region: i, Watermark: r.watermark}
		for _, h := range r.decided {
			s.Pending = append(s.Pending, h.Extent(false))
		}
		for _, h := range r.pending {
			s.Pending = append(s.Pending, h.Extent(true))
		}
		slices.SortFunc(s.Pending, func(a, b Extent) int { return compareVersions(a.Version, b.Version) })
		entries += 1 + len(s.Pending)
		out = append(out, s)
	}
	return out, true
}

func sortedRegions(rs map[blocktree.RegionIndex]*memberRegion) []blocktree.RegionIndex {
	return slices.Sorted(maps.Keys(rs))
}

func (m *Member) sortedFiles() []blocktree.FileID {
	all := make([]blocktree.FileID, 0, len(m.files)+len(m.packed))
	all = slices.AppendSeq(slices.AppendSeq(all, maps.Keys(m.files)), maps.Keys(m.packed))
	slices.SortFunc(all, func(a, b blocktree.FileID) int {
		if c := cmp.Compare(a.Generation, b.Generation); c != 0 {
			return c
		}
		return cmp.Compare(a.Inode, b.Inode)
	})
	return all
}

// snapshotFormat is the version of Snapshot's encoding.
const snapshotFormat = 2

func encodeRegion(e *wire.Encoder, i blocktree.RegionIndex, r *memberRegion) {
	e.U32(uint32(i))
	e.Version(r.watermark)
	e.U64(uint64(r.resetEpoch))
	e.U64(uint64(r.resetSeq))
	e.Bool(r.forgot)
	e.Version(r.newest)
	e.Raw(r.whole[:])
	e.U32(uint32(len(r.aborted)))
	for _, v := range r.aborted {
		e.Version(v)
	}
	for _, hs := range [][]*Held{r.pending, r.decided} {
		e.U32(uint32(len(hs)))
		for _, h := range hs {
			e.Raw(h.Ref[:])
			e.U64(uint64(h.First))
			e.U32(h.Count)
			e.U8(uint8(h.Kind))
			e.U8(uint8(h.Shard))
			e.U32(h.ShardBytes)
			e.Version(h.Version)
			e.Raw(h.Digest[:])
		}
	}
}

// heldBytes is the encoded length of a Held.
const heldBytes = 16 + 8 + 4 + 1 + 1 + 4 + 16 + 16

func decodeRegion(d *wire.Decoder, file blocktree.FileID, i blocktree.RegionIndex) memberRegion {
	r := memberRegion{watermark: d.Version(), resetEpoch: blocktree.Epoch(d.U64()), resetSeq: blocktree.ViewID(d.U64())}
	r.forgot, r.newest = d.Bool(), d.Version()
	copy(r.whole[:], d.Raw(len(r.whole)))
	for n := d.Count(d.Len() / 16); n > 0 && d.Err() == nil; n-- {
		r.aborted = append(r.aborted, d.Version())
	}
	for _, hs := range []*[]*Held{&r.pending, &r.decided} {
		for n := d.Count(d.Len() / heldBytes); n > 0 && d.Err() == nil; n-- {
			h := &Held{File: file, Region: i}
			copy(h.Ref[:], d.Raw(len(h.Ref)))
			h.First = blocktree.SectorIndex(d.U64())
			h.Count = d.U32()
			h.Kind = RecordKind(d.U8())
			h.Shard = blocktree.ShardIndex(d.U8())
			h.ShardBytes = d.U32()
			h.Version = d.Version()
			copy(h.Digest[:], d.Raw(len(h.Digest)))
			*hs = append(*hs, h)
		}
	}
	return r
}
