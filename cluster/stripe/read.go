package stripe

import (
	"math/bits"
	"slices"
	"time"

	"blocktree"
)

// readHost is the machine that a read belongs to.
type readHost interface {
	// settled says what the host knows of a version that a member reports as pending: acknowledged or not.
	settled(region blocktree.RegionIndex, v blocktree.Version) bool
	// watermark is told to members with the read, so that they commit what is at or below it.
	watermark(region blocktree.RegionIndex) blocktree.Version
	// finished takes the outcome. The read has no calls outstanding any more.
	finished(r *read, err blocktree.Kind, res *ReadResult)
	// refused decides what an error of a member means; it returns true if the read is over (or began again).
	refused(r *read, c *call, err blocktree.Kind) bool
	// undecided says that a pending version cannot be judged while a member of the view is marked.
	undecided(r *read)
	// leaving says that those that answered may all have left the view: somebody else must answer, too.
	leaving(r *read) bool
	// begin sets layout and view of a read that begins (again).
	begin(r *read)
	// possible reports whether a version can have been given out, as far as the host knows.
	possible(region blocktree.RegionIndex, v blocktree.Version) bool
	// premature reports whether the host knows that no member can have committed a version yet, unless a later take-over has.
	premature(region blocktree.RegionIndex, v blocktree.Version) bool
	// accuse says that a member has for all that. It reports whether that was no later take-over, as far as is known by now.
	accuse(s Suspect) bool
}

// readRestartsMax bounds how often a read begins again because what it fetches was overwritten meanwhile.
const readRestartsMax = 64

// readSlot is one member of the read's view.
type readSlot struct {
	want   Want // what it was asked for in the first or second round; 0: nothing
	call   *call
	slow   bool // asked long ago: somebody else is asked as well
	failed bool // could not answer; asked again at the next Tick
	ans    *Message
	// failures counts how often it could not, here or of a version that was asked for exactly.
	failures int
}

// exactRead is a request for the shards of one version of a run.
type exactRead struct {
	slot    int
	version blocktree.Version
	first   blocktree.SectorIndex
	count   uint32
	call    *call
	slow    bool
	failed  bool
	ans     *Message
}

// read is one read of a run within one region (rule 6). Its calls' slots are indexes of slots, or of exact beyond them.
type read struct {
	c      *core
	host   readHost
	op     uint64
	region blocktree.RegionIndex
	first  blocktree.SectorIndex
	count  uint32
	all    bool // gather every shard that can be had
	// patient waits for all of them until the read would fail.
	patient bool
	// settledOnly ignores versions that are pending and not known to be acknowledged (copy-up).
	settledOnly bool
	zeros       bool   // asks where the run is zeros, in place of its content; it may be longer than RunSectorsMax
	everyone    bool   // hears every member in sync that can tell (copy-up): one may have gone back silently
	mute        uint32 // slots of those that cannot, as a page of their index is damaged, or say that they are not repaired
	unfetched   uint32 // slots of those that could not give a version that was asked for exactly
	skip        int    // a slot whose shards are not used, or -1

	layout *Layout
	view   View
	peers  []*peer
	sync   uint32 // in-sync, unmarked members
	// blind: a member in sync is marked. It cannot be asked, but an abort or a take-over may go by what it said before: a
	// pending version can then not be decided.
	blind bool

	number       uint64        // of the reads of a Reader
	overlooks    bool          // a member refuses, and others are asked in its place
	overlookedAt time.Duration // since when

	slots    []readSlot
	exact    []*exactRead
	started  time.Duration
	restarts int
	second   bool
	weighs   bool // the second round is for what one member says: who cannot be reached does not hold it up
	wider    bool // every member is asked for versions, as those that answered may all have left
	over     bool
	damaged  []damage
	mend     *mend // what the read is for, if not for its op
	doubt
}

// damage is a committed extent whose shard failed its checksum at a member.
type damage struct {
	slot int
	x    Extent
}

// start sets the read up under the host's newest view and asks the first round.
func (r *read) start() {
	r.host.begin(r)
	if r.over {
		return
	}
	r.slots = make([]readSlot, len(r.view.Members))
	r.peers = make([]*peer, len(r.view.Members))
	r.exact, r.damaged, r.second, r.weighs, r.wider, r.sync, r.mute, r.unfetched, r.blind = nil, nil, r.wary, false, false, 0, 0, 0, false
	r.lied, r.waits = 0, false
	for i, m := range r.view.Members {
		r.peers[i] = r.c.peer(m.Node)
		switch marked := r.layout.Marked[m.Node]; {
		case m.State == InSync && !marked:
			r.sync |= 1 << i
		case m.State == InSync:
			r.blind = true
		}
		if slices.Contains(r.liars, m.Node) {
			r.lied |= 1 << i
		}
	}
	if bits.OnesCount32(r.sync) < r.layout.Code.Data {
		r.finish(blocktree.Unavailable, nil)
		return
	}
	if left := bits.OnesCount32(r.asked()); left < r.layout.Code.Data || r.named && left < r.needed() { // of those that do not lie there are too few
		r.finish(blocktree.Corrupt, nil)
		return
	}
	r.pump()
}

// restart forgets every answer and begins again.
func (r *read) restart() {
	r.dropCalls()
	r.start()
}

func (r *read) dropCalls() {
	for i := range r.slots {
		r.c.drop(r.slots[i].call)
	}
	for _, x := range r.exact {
		r.c.drop(x.call)
	}
}

func (r *read) finish(err blocktree.Kind, res *ReadResult) {
	if r.over {
		return
	}
	if r.c.mut == mutFewerThanK && (err == blocktree.Unavailable || err == blocktree.Corrupt) {
		err, res = blocktree.Other, &ReadResult{Pieces: []Piece{{First: r.first, Count: r.count, Kind: Absent}}}
	}
	r.dropCalls()
	r.over = true
	r.host.finished(r, err, res)
}

// quorum is how many in-sync members must be heard so that every acknowledged write is seen (rule 6).
func (r *read) quorum() int {
	c := r.layout.Code
	s := bits.OnesCount32(r.sync)
	if r.c.mut == mutQuorumK {
		return c.Data
	}
	left := bits.OnesCount32(r.asked())
	enough := min(left, max(c.Data, s-c.MinWrite()+1))
	if r.everyone {
		return max(enough, bits.OnesCount32(r.asked()&^r.mute))
	}
	return enough
}

// pump asks whom else is needed, and evaluates once enough have answered.
func (r *read) pump() {
	if r.over || r.slots == nil {
		return
	}
	q, wantShards := r.quorum(), r.layout.Code.Data
	less := WantVersions // of those that need not send shards
	if r.zeros {
		wantShards, less = 0, WantZeros
	}
	if s := bits.OnesCount32(r.asked()); r.all {
		q, wantShards = s, s
	} else if r.second {
		q = s
	}
	answered, expected, shards := 0, 0, 0
	for i := range r.slots {
		s := &r.slots[i]
		if s.ans != nil {
			answered++
		}
		if s.ans != nil || s.call != nil && !s.call.gone && !s.slow {
			expected++
			if s.want == WantShards && i != r.skip {
				shards++
			}
		}
	}
	for shards < wantShards && r.askNext(WantShards) {
		shards++
		expected++
	}
	for (expected < q || r.wider) && r.askNext(less) {
		expected++
	}
	switch {
	case answered >= q:
		r.evaluate()
	case (r.all || r.wary) && !r.patient && answered >= r.quorum() && !r.anyWaiting(), r.weighs && r.second && answered >= r.quorum() && !r.awaits():
		r.evaluate()
	}
}

// awaits reports whether a member that can be reached has yet to answer, and has not failed to. One that refuses is asked again, but the others' word is weighed
// meanwhile: it may be enough.
func (r *read) awaits() bool {
	for i := range r.slots {
		if s := &r.slots[i]; r.asked()>>i&1 == 1 && s.ans == nil && r.peers[i].up && (s.failures == 0 || r.c.mut == mutAwaitRefusal) {
			return true
		}
	}
	return false
}

// mayHear reports whether a member has yet to answer that can be reached.
func (r *read) mayHear() bool {
	for i := range r.slots {
		if r.asked()>>i&1 == 1 && r.slots[i].ans == nil && r.peers[i].up {
			return true
		}
	}
	return false
}

// anyWaiting reports whether an answer may still come soon.
func (r *read) anyWaiting() bool {
	for i := range r.slots {
		if s := &r.slots[i]; s.call != nil && !s.call.gone && !s.slow && r.peers[i].up {
			return true
		}
	}
	return false
}

// askNext asks one more member in the first rounds: one that can be reached rather than one that cannot, one that keeps data
// rather than parity.
func (r *read) askNext(w Want) bool {
	best := -1
	for i := range r.slots {
		s := &r.slots[i]
		if r.asked()>>i&1 == 0 || s.ans != nil || s.failed || s.call != nil && !s.call.gone || w == WantShards && i == r.skip {
			continue
		}
		if best < 0 || r.prefers(i, best) {
			best = i
		}
	}
	if best < 0 {
		return false
	}
	s := &r.slots[best]
	s.want, s.slow = w, !r.peers[best].up // one that cannot be reached is asked, but not counted on
	s.call = &call{peer: r.peers[best], owner: r, slot: best, msg: r.message(best, w)}
	r.c.post(s.call)
	return true
}

func (r *read) message(slot int, w Want) *Message {
	p := r.peers[slot]
	return &Message{
		Kind: KindRead, Node: p.node, File: r.layout.File, Region: r.region, Epoch: r.layout.Epoch, View: r.view.ID,
		Incarnation: r.layout.Incarnations[p.node], Watermark: r.host.watermark(r.region),
		First: r.first, Count: uint64(r.count), Want: w,
	}
}

// onSlow asks somebody else as well.
func (r *read) onSlow(c *call) {
	if r.over {
		return
	}
	r.c.stats.Hedges++
	r.late(c)
}

func (r *read) late(c *call) {
	if c.slot < len(r.slots) {
		r.slots[c.slot].slow = true
	} else {
		r.exact[c.slot-len(r.slots)].slow = true
	}
	r.pump()
}

// peerDown treats what a dead member was asked as late.
func (r *read) peerDown(p *peer) {
	for i := range r.slots {
		if c := r.slots[i].call; r.peers[i] == p && c != nil && !c.gone && !r.over {
			r.late(c)
		}
	}
	for _, x := range slices.Clone(r.exact) {
		if x.call != nil && !x.call.gone && r.peers[x.slot] == p && !r.over {
			r.late(x.call)
		}
	}
}

// tick asks again those that could not answer, and fails a read that waits too long.
func (r *read) tick() {
	if r.over {
		return
	}
	if r.patient && r.c.now-r.started >= r.c.stall*3/4 { // who has not answered by now does not
		r.patient = false
		r.pump()
		if r.over {
			return
		}
	}
	if r.c.now-r.started >= r.c.stall {
		r.finish(blocktree.Unavailable, nil)
		return
	}
	if r.waits {
		r.restart()
		return
	}
	again := false
	for i := range r.slots {
		again = again || r.slots[i].failed
		r.slots[i].failed = false
	}
	n := len(r.exact)
	r.exact = slices.DeleteFunc(r.exact, func(x *exactRead) bool { return x.failed })
	if n != len(r.exact) {
		for i, x := range r.exact {
			if x.call != nil {
				x.call.slot = len(r.slots) + i
			}
		}
	}
	if again || n != len(r.exact) {
		r.pump()
	}
}

func (r *read) onAnswer(c *call, a *Message) {
	if r.over {
		return
	}
	if a.Err != blocktree.Other {
		if r.host.refused(r, c, a.Err) {
			return
		}
		if c.slot < len(r.slots) {
			r.failedBy(c.slot)
			if a.Err == blocktree.Corrupt || a.Err == blocktree.Recovering { // the latter: it said that it had the repair
				r.mute |= 1 << c.slot
			}
		} else {
			x := r.exact[c.slot-len(r.slots)]
			x.failed = true
			r.unfetched |= 1 << x.slot
			r.slots[x.slot].failures++
		}
		r.pump()
		return
	}
	slot := c.slot
	if slot >= len(r.slots) {
		slot = r.exact[c.slot-len(r.slots)].slot
	}
	switch {
	case !r.checkAnswer(c, a): // asking it again would help nobody
		r.suspect(slot, SuspectNonsense, r.first, r.count)
		r.exclude(r.peers[slot].node)
		r.restart()
		return
	case c.slot < len(r.slots) && r.isPremature(a):
		if r.host.accuse(Suspect{Node: r.peers[slot].node, Kind: SuspectNonsense, File: r.layout.File, First: r.first, Count: r.count}) {
			r.exclude(r.peers[slot].node)
			r.restart()
			return
		}
		r.failedBy(c.slot) // asked again at the next Tick, if the epoch goes on
	case c.slot < len(r.slots):
		r.slots[c.slot].ans = a
	default:
		r.exact[c.slot-len(r.slots)].ans = a
	}
	r.pump()
}

// failedBy notes that a member could not answer. Others are asked before it is asked again.
func (r *read) failedBy(slot int) {
	r.slots[slot].failed = true
	r.slots[slot].failures++
}

// isPremature reports whether an answer says that something is committed which can only be by a later take-over.
func (r *read) isPremature(a *Message) bool {
	return slices.ContainsFunc(a.Extents, func(x Extent) bool { return !x.Pending && r.host.premature(r.region, x.Version) })
}

// checkAnswer refuses an answer whose extents do not cover the run or whose bytes do not fit its extents.
func (r *read) checkAnswer(c *call, a *Message) bool {
	if c.msg.Want == WantZeros {
		return checkZeros(c.msg, a)
	}
	at, sectors := c.msg.First, 0
	exact := c.msg.Want == WantExact
	for i := range a.Extents {
		x := &a.Extents[i]
		end := uint64(c.msg.First) + c.msg.Count
		if x.Kind > Damaged || x.Count == 0 || x.First < c.msg.First || uint64(x.First) >= end || uint64(x.Count) > end-uint64(x.First) {
			return false
		}
		if (x.Kind == Absent) != x.Version.IsZero() || !r.host.possible(r.region, x.Version) {
			return false
		}
		if x.Pending && !exact {
			continue
		}
		if x.First < at || !exact && x.First != at || exact && x.Version != c.msg.Version {
			return false
		}
		at = x.First + blocktree.SectorIndex(x.Count)
		if x.Kind == Data {
			sectors += int(x.Count)
		}
	}
	if !exact && uint64(at) != uint64(c.msg.First)+c.msg.Count {
		return false
	}
	if c.msg.Want == WantVersions {
		return true
	}
	shardBytes := r.layout.Code.ShardBytes(int(r.layout.SectorBytes))
	return len(a.Payload) == sectors*shardBytes && len(a.Seals) == sectors*SealBytes
}
