package stripe

import (
	"slices"
	"time"

	"blocktree"
)

// mendsMax bounds the repairs of damaged shards that run at a time; further damage is found again when it is next read.
const mendsMax = 16

// Read reads a run within one region, of at most RunSectorsMax sectors. The outcome is a Done with a Read.
func (h *Holder) Read(op uint64, region blocktree.RegionIndex, first blocktree.SectorIndex, count uint32) {
	h.startRead(&read{op: op, region: region, first: first, count: count, skip: -1})
}

// ReadAll is Read, but gathers the shards of every in-sync member that answers: for a driver that found k shards not to
// agree with their leaves or tags. Corrupt if too few are left that care does not leave out.
func (h *Holder) ReadAll(op uint64, region blocktree.RegionIndex, first blocktree.SectorIndex, count uint32, care Care) {
	h.startRead(readAll(&read{op: op, region: region, first: first, count: count, skip: -1}, care))
}

func readAll(r *read, care Care) *read {
	r.all, r.patient, r.named = true, care.Patient, len(care.Without) > 0
	for _, n := range care.Without {
		r.exclude(n)
	}
	return r
}

// Zeros asks where a run within one region, of any length, is zeros for sure. The outcome is a Done with a Read whose pieces, of kinds Zero
// and Data and without versions, begin with first; they may end before the run does, and there are ZerosExtentsMax at most.
func (h *Holder) Zeros(op uint64, region blocktree.RegionIndex, first blocktree.SectorIndex, count uint32) {
	h.startRead(&read{op: op, region: region, first: first, count: count, skip: -1, zeros: true})
}

// GiveUp ends what Zeros asks and nobody waits for any more: its Done says Canceled, unless it has ended. Its members may answer yet.
func (h *Holder) GiveUp(op uint64) {
	for _, r := range h.reads {
		if r.zeros && r.op == op {
			h.stats.GivenUp++
			r.finish(blocktree.Canceled, nil)
			return
		}
	}
	h.held = slices.DeleteFunc(h.held, func(x heldRead) bool {
		over := x.r.zeros && x.r.op == op
		if over {
			h.stats.GivenUp++
			h.done(op, blocktree.Canceled, nil)
		}
		return over
	})
}

// Repair makes the member that keeps shard store it anew, rebuilt from others, if the run still has that version.
func (h *Holder) Repair(op uint64, region blocktree.RegionIndex, first blocktree.SectorIndex, count uint32, v blocktree.Version, shard blocktree.ShardIndex) {
	if h.codec == nil {
		h.done(op, blocktree.Unsupported, nil)
		return
	}
	m := &mend{h: h, op: op, shard: shard, version: v, waited: true}
	h.asked = append(h.asked, m)
	h.startRead(&read{op: op, region: region, first: first, count: count, skip: int(shard), mend: m, all: true})
}

func (h *Holder) startRead(r *read) {
	r.c, r.host, r.started = &h.core, h, h.now
	if err := h.refuses(r); err != blocktree.Other {
		if r.mend != nil {
			r.mend.finish(err)
			return
		}
		h.done(r.op, err, nil)
		return
	}
	h.reads = append(h.reads, r)
	if h.phase == running {
		r.start()
	}
}

func (h *Holder) refuses(r *read) blocktree.Kind {
	if h.fenced {
		return h.why
	}
	if r.region >= h.layout.Regions() || r.count == 0 || r.count > h.layout.RunSectorsMax() && !r.zeros || r.skip >= h.layout.Code.Shards() {
		return blocktree.Invalid
	}
	if at, n := h.layout.Run(r.region); r.first < at || uint64(r.first-at) >= n || uint64(r.count) > n-uint64(r.first-at) {
		return blocktree.OutOfRange
	}
	return blocktree.Other
}

func (h *Holder) begin(r *read) {
	r.layout, r.view = h.layout, h.region(r.region).view
}

// possible: of its own epoch it knows what it has given out.
func (h *Holder) possible(i blocktree.RegionIndex, v blocktree.Version) bool {
	return v.Epoch != h.epoch || v.Sequence <= h.region(i).seq
}

// premature: of its own epoch members have committed what it has acknowledged, if that is stable (0014), or what a take-over after it has kept.
func (h *Holder) premature(i blocktree.RegionIndex, v blocktree.Version) bool {
	return v.Epoch == h.epoch && v.Sequence > 0 && !(h.settled(i, v) && h.mayInstall(i, v))
}

// accused is a suspect that is not named yet.
type accused struct {
	Suspect
	gen uint64 // of the confirmation after which it is
}

// accuse names who says that it has more than it can once Raft has confirmed that the epoch goes on. Of one that was named then it is sure at once.
func (h *Holder) accuse(s Suspect) bool {
	if h.peer(s.Node).caught {
		h.suspect(s)
		return true
	}
	if len(h.accused) < suspectsMax {
		h.accused = append(h.accused, accused{s, h.wantConfirm()})
	}
	return false
}

// nameAccused names those that were accused before a confirmation began.
func (h *Holder) nameAccused(gen uint64) {
	h.accused = slices.DeleteFunc(h.accused, func(x accused) bool {
		if x.gen <= gen {
			h.peer(x.Node).caught = true
			h.suspect(x.Suspect)
		}
		return x.gen <= gen
	})
}

func (h *Holder) watermark(i blocktree.RegionIndex) blocktree.Version { return h.region(i).told() }

func (h *Holder) settled(i blocktree.RegionIndex, v blocktree.Version) bool {
	r := h.region(i)
	if v.Epoch != h.epoch || v.Sequence <= r.mark {
		return v.Epoch == h.epoch && !r.aborted[v.Sequence]
	}
	w := r.find(v)
	return w != nil && w.finished && !w.aborted
}

// refused: Fenced, StaleView and StaleMember do not come here (Step).
func (h *Holder) refused(r *read, c *call, err blocktree.Kind) bool {
	if err == blocktree.IO {
		c.peer.gone = true
		h.considerRemoval()
	}
	return r.over
}

// undecided: the removal of the marked member begins the read again.
func (h *Holder) undecided(*read) { h.considerRemoval() }

func (h *Holder) unlist(r *read) {
	if i := slices.Index(h.reads, r); i >= 0 {
		last := len(h.reads) - 1
		h.reads[i] = h.reads[last]
		h.reads[last] = nil
		h.reads = h.reads[:last]
	}
}

func (h *Holder) finished(r *read, err blocktree.Kind, res *ReadResult) {
	h.unlist(r)
	switch {
	case r.mend != nil:
		r.mend.found(r, err, res)
		return
	case err != blocktree.Other:
		h.done(r.op, err, nil)
		return
	}
	h.mendDamage(r, res)
	if h.now < h.leaseUntil || h.mut == mutNoLeaseCheck {
		h.stats.ReadsDone++
		h.done(r.op, blocktree.Other, res)
		return
	}
	h.witnesses.said++ // rule 6: only Raft, or all members, can tell that the epoch was ours at the end
	h.held = append(h.held, heldRead{r, res, h.wantConfirm(), h.witnesses.said, h.now})
	h.askWitnessesOf(&h.held[len(h.held)-1])
}

// confirmed completes the reads that waited for a confirmation that began after they were done.
func (h *Holder) confirmed(gen uint64) {
	n := 0
	for n < len(h.held) && h.held[n].gen <= gen {
		h.stats.ReadsDone++
		h.done(h.held[n].r.op, blocktree.Other, h.held[n].result)
		n++
	}
	h.held = slices.Delete(h.held, 0, n)
}

// failHeld fails reads that Raft has not confirmed for too long.
func (h *Holder) failHeld() {
	h.held = slices.DeleteFunc(h.held, func(x heldRead) bool {
		late := h.now-x.r.started >= h.stall
		if late {
			h.done(x.r.op, blocktree.Unavailable, nil)
		}
		return late
	})
}

// mend reinstalls a shard that failed its checksum.
type mend struct {
	h       *Holder
	op      uint64
	waited  bool // for a Repair with that op
	shard   blocktree.ShardIndex
	version blocktree.Version
	region  blocktree.RegionIndex
	to      *peer         // who keeps it
	since   time.Duration // when the first shard was sent
	calls   []*call       // installs that are not answered yet
	err     blocktree.Kind
}

// mendDamage reinstalls the damaged shards that a read met, where they are of the version that it returned.
func (h *Holder) mendDamage(r *read, res *ReadResult) {
	h.stats.DamagedSeen += uint64(len(r.damaged))
	if h.codec == nil {
		return
	}
	for _, d := range r.damaged {
		for _, p := range res.Pieces {
			if p.First != d.x.First || p.Version != d.x.Version || p.Kind != Data || len(h.mending) >= mendsMax {
				continue
			}
			m := &mend{h: h, shard: blocktree.ShardIndex(d.slot), version: p.Version}
			m.install(r, p)
		}
	}
}

// found takes the shards that a Repair is made of.
func (m *mend) found(r *read, err blocktree.Kind, res *ReadResult) {
	m.err = err
	if err == blocktree.Other {
		for _, p := range res.Pieces {
			if p.Version == m.version && p.Kind == Data {
				m.install(r, p)
			}
		}
	}
	m.end()
}

func (m *mend) end() {
	if len(m.calls) == 0 {
		m.finish(m.err)
	}
}

// finish gives a Repair its outcome, once.
func (m *mend) finish(err blocktree.Kind) {
	if m.waited {
		m.waited = false
		m.h.asked = slices.DeleteFunc(m.h.asked, func(x *mend) bool { return x == m })
		m.h.done(m.op, err, nil)
	}
}

func (m *mend) install(r *read, p Piece) {
	h := m.h
	reg := h.region(r.region)
	if reg.sync>>m.shard&1 == 0 { // what it has does not count; copy-up makes it good
		m.err = blocktree.StaleMember
		return
	}
	if !h.mayInstall(r.region, p.Version) && h.mut != mutMendVolatile { // it is pending there and everywhere
		m.err = blocktree.StaleMember
		return
	}
	payload, seals, err := h.codec.Rebuild(m.shard, p)
	if err != nil {
		m.err = blocktree.KindOf(err)
		return
	}
	to := reg.members[m.shard]
	if len(m.calls) == 0 {
		m.region, m.to, m.since = r.region, to, h.now
		h.mending = append(h.mending, m)
	}
	c := &call{peer: to, owner: m, msg: h.installMessage(r.region, to, m.shard, p, payload, seals)}
	m.calls = append(m.calls, c)
	h.post(c)
}

// endMends gives up those whose member left the view, and those that it has not answered for too long: no answer would end
// either.
func (h *Holder) endMends() {
	for _, m := range slices.Clone(h.mending) {
		switch {
		case h.region(m.region).sync>>m.shard&1 == 0 || h.region(m.region).members[m.shard] != m.to:
			m.giveUp(blocktree.StaleMember)
		case h.now-m.since >= h.stall:
			m.giveUp(blocktree.Unavailable)
		}
	}
}

func (m *mend) giveUp(err blocktree.Kind) {
	for _, c := range m.calls {
		m.h.drop(c)
	}
	m.calls, m.err = nil, err
	m.unlist()
	m.end()
}

func (m *mend) unlist() {
	m.h.mending = slices.DeleteFunc(m.h.mending, func(x *mend) bool { return x == m })
}

// mayInstall reports whether a version may be put into an index: it is stable. In place of a stable one, one that is not would be all
// that its member has after a loss (0014).
func (h *Holder) mayInstall(i blocktree.RegionIndex, v blocktree.Version) bool {
	return !h.vol.on || v.Epoch < h.epoch || v.Sequence <= h.region(i).mark || h.mut == mutCopyVolatile
}

// installMessage makes a member store a committed run as it is.
func (h *Holder) installMessage(region blocktree.RegionIndex, to *peer, shard blocktree.ShardIndex, p Piece, payload, seals []byte) *Message {
	r := h.region(region)
	rec := &Record{
		Kind: RecordData, File: h.layout.File, Region: region, First: p.First, Count: p.Count, Version: p.Version, Watermark: r.told(),
		Installed: true, Shard: shard, ShardBytes: uint32(h.layout.Code.ShardBytes(int(h.layout.SectorBytes))), Payload: payload, Seals: seals,
	}
	if p.Kind == Zero {
		rec.Kind, rec.ShardBytes = RecordZero, 0
	}
	return &Message{
		Kind: KindInstall, Node: to.node, File: h.layout.File, Region: region, Epoch: h.epoch, View: r.view.ID,
		Incarnation: h.layout.Incarnations[to.node], Version: p.Version, Record: rec,
	}
}

func (m *mend) onSlow(*call) {}

func (m *mend) onAnswer(c *call, a *Message) {
	if a.Err != blocktree.Other {
		m.err = a.Err
	} else {
		m.h.stats.ShardsMended++
	}
	if m.calls = slices.DeleteFunc(m.calls, func(x *call) bool { return x == c }); len(m.calls) == 0 {
		m.unlist()
	}
	m.end()
}
