package stripe

import (
	"math/bits"
	"slices"
	"time"

	"blocktree"
)

// Members may lie (docs/design/0029). What a member says of versions, and that a sector is zeros, nothing seals: here it is weighed against what the
// others say. What it sends as sealed bytes is for whoever has the key, or compares leaves, to judge.

// SuspectKind says what a member did that one does not which keeps its promises.
type SuspectKind uint8

// The kinds, append-only: their numbers are on the wire and on disk.
const (
	SuspectNonsense SuspectKind = iota + 1 // an answer that does not fit the question, or a version that its holder has not given out yet
	SuspectShard                           // bytes that are not those that were sealed
	SuspectVersion                         // a version, or zeros, of which the others know nothing
	SuspectLost                            // it has not what it acknowledged
	SuspectAgain                           // a wrong shard again, of what it had been sent anew
	SuspectKindEnd
)

// String is the kind's name in logs, metrics and JSON.
func (k SuspectKind) String() string {
	if k == 0 || k >= SuspectKindEnd {
		return "unknown"
	}
	return [...]string{"nonsense", "wrong shard", "unknown version", "lost write", "wrong again"}[k-1]
}

// Suspect is one such act, as a machine met it.
type Suspect struct {
	Node  blocktree.NodeID
	Kind  SuspectKind
	File  blocktree.FileID
	First blocktree.SectorIndex
	Count uint32
}

const (
	// suspectsMax bounds the suspects of one Ready: what a member does over and over is seen again.
	suspectsMax = 64
	// doubtFor is how long a member that was caught is asked for shards only where others do not suffice.
	doubtFor = 10 * time.Minute
)

// claim is what members said that they have of a sector, and could not be shown or agreed on.
type claim struct {
	sector  blocktree.SectorIndex
	version blocktree.Version
	kind    ExtentKind
	by      []blocktree.NodeID
}

// doubt holds what one read knows of who lies to it.
type doubt struct {
	liars  []blocktree.NodeID // not asked, nor believed
	lied   uint32             // the same, slots of the view
	claims []claim            // of the round before
	named  bool               // by who asked: it takes as many others as would outvote them
	wary   bool               // every member is asked
	waits  bool               // begins again at the next look: what is pending cannot be judged without a liar's word, or somebody has yet to answer
}

// Distrust has a member asked for shards only where others do not suffice, for a while: a driver found that it lied.
func (c *core) Distrust(n blocktree.NodeID) { c.peer(n).doubtUntil = c.now + doubtFor }

func (c *core) doubted(p *peer) bool { return c.now < p.doubtUntil }

// suspect notes what a member did.
func (c *core) suspect(s Suspect) {
	c.Distrust(s.Node)
	c.stats.Suspects++
	if len(c.next.Suspects) < suspectsMax {
		c.next.Suspects = append(c.next.Suspects, s)
	}
}

func (r *read) suspect(slot int, k SuspectKind, first blocktree.SectorIndex, count uint32) {
	r.c.suspect(Suspect{Node: r.peers[slot].node, Kind: k, File: r.layout.File, First: first, Count: count})
}

// prefers reports whether slot i is to be asked rather than slot j: who can be reached, then who has failed this read less often, or two of them would be asked by turns
// and nobody else, then who was not caught lying and does not refuse.
func (r *read) prefers(i, j int) bool {
	a, b := r.peers[i], r.peers[j]
	if a.up != b.up {
		return a.up
	}
	if x, y := r.slots[i].failures, r.slots[j].failures; x != y && r.c.mut != mutAskAgain {
		return x < y
	}
	return !r.shuns(a) && r.shuns(b)
}

// shuns reports whether a member was caught lying, or has refused a read under this layout.
func (r *read) shuns(p *peer) bool {
	return r.c.doubted(p) || p.refusal.epoch == r.layout.Epoch && p.refusal.seq == r.layout.Seq
}

// asked are the members that a read may ask: in sync, and not known to have lied to it.
func (r *read) asked() uint32 { return r.sync &^ r.lied }

// needed is how many members must say the same before a read believes what nothing seals, or does not believe another member: more than half of
// those in sync, and no fewer than give a sector. Fewer liars than that make nobody believe anything; see docs/design/0029 for how many may lie.
func (r *read) needed() int {
	return max(r.layout.Code.Data, bits.OnesCount32(r.sync)/2+1)
}

// spare is how many members may lie: as many as leave those that are needed.
func (r *read) spare() int { return bits.OnesCount32(r.sync) - r.needed() }

// exclude goes on without a member. It reports whether enough are left.
func (r *read) exclude(n blocktree.NodeID) {
	if !slices.Contains(r.liars, n) {
		r.liars = append(r.liars, n)
	}
	r.wary = true
}

// stands tells what an answer says of one version of a sector: that the member has it, or that it has neither that nor committed a newer one. What is newer and in flight
// excuses nobody: a member lists all that it holds above what is committed. Of a shard that is damaged the version counts.
func (r *read) stands(a *Message, sector blocktree.SectorIndex, v blocktree.Version, kind ExtentKind) (has, denies bool) {
	newer := false
	for i := range a.Extents {
		x := &a.Extents[i]
		if sector < x.First || uint64(sector) >= uint64(x.First)+uint64(x.Count) {
			continue
		}
		if x.Version == v && (x.Kind == kind || x.Kind == Damaged && kind == Data) {
			return true, false
		}
		newer = newer || v.Less(x.Version) && (!x.Pending || r.c.mut == mutNewerExcuses)
	}
	return false, !newer
}

// mustAgree reports whether a segment is believed only if members agree on it: no shards show zeros to be true. A sealed version that one member alone has, with
// k = 1, who has the key will judge: it may be all that is left.
func (r *read) mustAgree(s *segment) bool {
	return (s.contested || s.kind == Zero) && !s.version.IsZero() && r.c.mut != mutBelieveAny
}

// agreed reports whether all that answered, or as many as are needed, have what a segment says.
func (r *read) agreed(s *segment) bool {
	heard := 0
	for i := range r.slots {
		if r.slots[i].ans != nil {
			heard++
		}
	}
	with := r.shown(s)
	return with == heard || with >= r.needed()
}

// few weighs a version that no more members say is committed than may lie: what is in flight would be read of one liar's word, and be undone after that. All
// that can be reached have to be heard then, and all of these to hold it. Where nobody has it in flight it is a lost write, or a lie that whoever has the key finds.
func (r *read) few(s *segment) (open bool) {
	if s.version.IsZero() || r.settledOnly || r.host.settled(r.region, s.version) || r.c.mut == mutBelieveCommitted {
		return false
	}
	committed, flying, denied := 0, 0, 0
	for i := range r.slots {
		a := r.slots[i].ans
		if a == nil {
			continue
		}
		switch has, denies := r.stands(a, s.first, s.version, s.kind); {
		case has && a.says(s.first, s.version):
			committed++
		case has:
			flying++
		case denies:
			denied++
		}
	}
	if committed > r.spare() || flying+denied == 0 {
		return false
	}
	short := committed+flying < r.layout.Code.Data
	hopeless := short && denied >= r.needed() // nobody need be asked for shards of it
	s.unsure = r.second && denied > 0 && (flying > 0 || hopeless)
	s.claimed = denied > 0 && flying == 0
	open = !r.second || flying > 0 && denied == 0 && (r.mayHear() || r.blind)
	// Who refuses may have it in flight, and be who gives the shards that are missing.
	open = open || flying == 0 && short && !hopeless && r.mayHear() && r.c.mut != mutFetchRefused
	r.weighs = r.weighs || open
	return open
}

// turned reports whether a member has given a shard of what is claimed that had not said that it has it: it came there after that, so it may be in flight yet, and others may never get it.
func (r *read) turned(s *segment) bool {
	return s.claimed && r.c.mut != mutTakeTurned && slices.ContainsFunc(r.exact, func(x *exactRead) bool {
		if x.ans == nil || x.version != s.version {
			return false
		}
		if _, _, ok := r.slice(x.ans, s, true); !ok {
			return false
		}
		a := r.slots[x.slot].ans
		if a == nil {
			return r.c.mut != mutFetchRefused
		}
		has, _ := r.stands(a, s.first, s.version, s.kind)
		return !has
	})
}

// says reports whether an answer says that a version of a sector is committed.
func (a *Message) says(sector blocktree.SectorIndex, v blocktree.Version) bool {
	return slices.ContainsFunc(a.Extents, func(x Extent) bool {
		return !x.Pending && x.Version == v && sector >= x.First && uint64(sector) < uint64(x.First)+uint64(x.Count)
	})
}

// doubtIt notes who claims to have committed what a segment says; not in a round that is not over, whose other answers are to questions of before the claim.
func (r *read) doubtIt(s *segment) {
	if r.wary && !r.hasAllSaid() {
		return
	}
	c := claim{sector: s.first, version: s.version, kind: s.kind}
	for i := range r.slots {
		if a := r.slots[i].ans; a != nil {
			if has, _ := r.stands(a, s.first, s.version, s.kind); has && a.says(s.first, s.version) {
				c.by = append(c.by, r.peers[i].node)
			}
		}
	}
	r.claims = append(r.claims, c)
}

// hasAllSaid reports whether every member that may be asked has answered. A read that is wary asks all, but goes by those that answer, no fewer than any
// read needs: one that has died since, or is slow, holds it up only where the others do not agree.
func (r *read) hasAllSaid() bool {
	for i := range r.slots {
		if r.asked()>>i&1 == 1 && r.slots[i].ans == nil {
			return false
		}
	}
	return true
}

// askAnew begins again, and asks all, as what was claimed could not be shown: it is older by now, or a lie. Where somebody has yet to answer it
// waits for that, until the next look.
func (r *read) askAnew() {
	if r.wary && !r.hasAllSaid() {
		r.waits = true
		return
	}
	if r.restarts >= readRestartsMax {
		r.finish(blocktree.Unavailable, nil)
		return
	}
	r.restarts++
	r.c.stats.ReadRestarts++
	r.wary = true
	r.restart()
}

// judge weighs the claims of the round before against what the others say now, asked after them: what one member has committed every other in sync has
// had durably since before, or something newer (I11). It reports whether somebody is found to lie.
func (r *read) judge() bool {
	found := false
	for _, c := range r.claims {
		denied := 0
		for i := range r.slots {
			if a := r.slots[i].ans; a != nil && !slices.Contains(c.by, r.peers[i].node) {
				if _, denies := r.stands(a, c.sector, c.version, c.kind); denies {
					denied++
				}
			}
		}
		if enough := denied >= r.needed() || denied > 0 && r.c.mut == mutDenyAny; !enough || r.c.mut == mutBelieveClaim {
			continue
		}
		for _, n := range c.by {
			if slices.Contains(r.liars, n) {
				continue
			}
			r.exclude(n)
			r.c.suspect(Suspect{Node: n, Kind: SuspectVersion, File: r.layout.File, First: c.sector, Count: 1})
			found = true
		}
	}
	if found || r.hasAllSaid() {
		r.claims = nil
	}
	return found
}

// contradicts reports whether an answer makes something else of a version than it is.
func (a *Message) contradicts(sector blocktree.SectorIndex, v blocktree.Version, kind ExtentKind) bool {
	return slices.ContainsFunc(a.Extents, func(x Extent) bool {
		return x.Version == v && x.Kind != kind && x.Kind != Damaged && sector >= x.First && uint64(sector) < uint64(x.First)+uint64(x.Count)
	})
}

// outvoted reports whether as many members deny what a segment says as are not believed to lie. With k = 1 it may be read of one member for all that.
func (r *read) outvoted(s *segment) bool {
	denied := 0
	for i := range r.slots {
		if a := r.slots[i].ans; a != nil {
			if _, denies := r.stands(a, s.first, s.version, s.kind); denies {
				denied++
			}
		} else if r.lacks(i, s) {
			denied++
		}
	}
	return denied >= r.needed()
}

// lacks reports whether a member that has not said what versions it has was asked for exactly this one, and has not got it.
func (r *read) lacks(slot int, s *segment) bool {
	return slices.ContainsFunc(r.exact, func(x *exactRead) bool {
		if x.slot != slot || x.ans == nil || x.version != s.version || s.first < x.first || uint64(s.first) >= uint64(x.first)+uint64(x.count) {
			return false
		}
		_, _, ok := r.slice(x.ans, s, true)
		return !ok && !r.isDamaged(x.ans, s, true)
	})
}

// shown is how many members have what a segment says.
func (r *read) shown(s *segment) (have int) {
	for i := range r.slots {
		if a := r.slots[i].ans; a != nil {
			if has, _ := r.stands(a, s.first, s.version, s.kind); has {
				have++
			}
		}
	}
	return have
}

// fewShow reports whether no more members have what a segment says than may lie, and the host does not know itself that it is settled.
func (r *read) fewShow(s *segment) bool {
	return r.shown(s) <= r.spare() && !r.host.settled(r.region, s.version) && r.c.mut != mutFewAccuse
}

// noteOthers names members whose answers do not go with what a read has found: that make data of its zeros or zeros of its data, or have not what they
// acknowledged. That is a version which every member in sync has had durably since before it was asked, as it is of an epoch that was decided, or at or
// below the watermark that went with the question. As few as may lie have nobody named for lacking it: with k = 1 one of them is read, and may show what was cut off
// before the file grew again.
func (r *read) noteOthers(segs []segment) {
	for i := range r.slots {
		a := r.slots[i].ans
		if a == nil {
			continue
		}
		told := r.slots[i].call.msg.Watermark
		for j := range segs {
			s := &segs[j]
			has, denies := r.stands(a, s.first, s.version, s.kind)
			switch {
			case s.version.IsZero() || has || !denies:
				continue
			case a.contradicts(s.first, s.version, s.kind):
				r.suspect(i, SuspectVersion, s.first, s.count)
			case r.outvoted(s), r.fewShow(s): // then it is more likely, or as likely, that who has it lies
				continue
			case s.version.Epoch < r.layout.Epoch || !told.Less(s.version):
				r.suspect(i, SuspectLost, s.first, s.count)
			default:
				continue
			}
			break
		}
	}
}
