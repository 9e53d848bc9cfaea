package stripe

import (
	"slices"

	"blocktree"
)

// segment is a run of sectors on which every answer is of one mind about where its extents begin and end, and what the
// read returns of it.
type segment struct {
	first   blocktree.SectorIndex
	count   uint32
	version blocktree.Version
	kind    ExtentKind
	// contested: members have the same version of it as zeros and as data.
	contested bool
	// unsure: some say that it is committed, no more than may lie, others that it is in flight, and others that they do not have it.
	unsure bool
	// claimed: some say that it is committed, no more than may lie, and all others that have said anything of it deny it.
	claimed bool
}

// evaluate decides what each sector's version is and gathers its shards; it asks more members where that needs more.
func (r *read) evaluate() {
	if r.zeros {
		r.complete(&ReadResult{Pieces: r.allZeros()})
		return
	}
	segs, open := r.quick()
	alike := segs != nil
	if !alike {
		segs, open = r.decide()
	}
	if len(r.claims) > 0 && r.judge() {
		r.restart()
		return
	}
	r.waits = false
	if open { // somebody holds a version that may have been acknowledged: only all can tell
		switch {
		case !r.second:
			r.second = true
			r.c.stats.SecondRounds++
			r.pump()
		case r.blind:
			r.host.undecided(r)
		case r.lied != 0: // until it is settled
			r.waits = true
		}
		return
	}
	doubted := false
	for i := range segs {
		if !alike && (segs[i].unsure || r.turned(&segs[i]) || r.mustAgree(&segs[i]) && !r.agreed(&segs[i])) {
			r.doubtIt(&segs[i])
			doubted = true
		}
	}
	if doubted {
		r.askAnew()
		return
	}
	res := &ReadResult{Pieces: make([]Piece, 0, len(segs))}
	complete := true
	for i := 0; i < len(segs); i++ {
		s := &segs[i]
		p := Piece{First: s.first, Count: s.count, Version: s.version, Kind: s.kind}
		if s.kind == Data {
			if p.Shards = r.gather(s); p.Shards == nil || r.wantsMore(s, r.patient) {
				j := i + 1 // fetch neighbours of one version together
				for j < len(segs) && segs[j].version == s.version && segs[j].kind == Data && (r.gather(&segs[j]) == nil || r.wantsMore(&segs[j], r.patient)) {
					j++
				}
				last := &segs[j-1]
				run := segment{first: s.first, count: uint32(uint64(last.first-s.first) + uint64(last.count)), version: s.version, kind: Data}
				if !r.fetch(&run) {
					return
				}
				complete = false
				i = j - 1
				continue
			}
		}
		res.Pieces = append(res.Pieces, p)
	}
	if complete {
		if !alike {
			r.noteOthers(segs)
		}
		res.Partial = r.all && (!r.hasAllSaid() || slices.ContainsFunc(segs, func(s segment) bool { return s.kind == Data && (r.wantsMore(&s, true) || r.overtaken(&s)) }))
		r.complete(res)
	}
}

// complete ends the read with what it found, unless those that answered may all have left the view.
func (r *read) complete(res *ReadResult) {
	switch {
	case !r.host.leaving(r):
		r.finish(blocktree.Other, res)
	case !r.wider:
		r.wider = true
		r.pump()
	}
}

// quick is the common case: every answer has the same extents, nothing is pending, nothing damaged.
func (r *read) quick() ([]segment, bool) {
	var ref *Message
	for i := range r.slots {
		a := r.slots[i].ans
		if a == nil {
			continue
		}
		if ref == nil {
			for j := range a.Extents {
				if x := &a.Extents[j]; x.Pending || x.Kind == Damaged {
					return nil, false
				}
			}
			ref = a
			continue
		}
		if len(a.Extents) != len(ref.Extents) {
			return nil, false
		}
		for j := range a.Extents {
			x, y := &a.Extents[j], &ref.Extents[j]
			if x.First != y.First || x.Count != y.Count || x.Version != y.Version || x.Kind != y.Kind || x.Pending {
				return nil, false
			}
		}
	}
	segs := make([]segment, len(ref.Extents))
	for j := range ref.Extents {
		x := &ref.Extents[j]
		segs[j] = segment{first: x.First, count: x.Count, version: x.Version, kind: x.Kind}
	}
	return segs, false
}

// decide cuts the run where any extent begins or ends and chooses the version of each segment: the newest committed one that
// was heard of, or a newer one that the host knows to be acknowledged or that every in-sync member holds (rule 6). open
// says that a pending version cannot be judged before every member was asked.
func (r *read) decide() (segs []segment, open bool) {
	var cuts []blocktree.SectorIndex
	for i := range r.slots {
		if a := r.slots[i].ans; a != nil {
			for j := range a.Extents {
				x := &a.Extents[j]
				cuts = append(cuts, x.First, x.First+blocktree.SectorIndex(x.Count))
			}
		}
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	at := make([]int, len(r.slots)) // cursor into each answer's committed extents
	r.damaged = r.damaged[:0]
	for c := 0; c+1 < len(cuts); c++ {
		s := segment{first: cuts[c], count: uint32(cuts[c+1] - cuts[c])}
		if r.decideSegment(&s, at) {
			open = true
		}
		segs = append(segs, s)
	}
	return segs, open
}

// committedAt returns the committed extent of an answer that covers sector s; cursor only moves forward.
func committedAt(a *Message, cursor *int, s blocktree.SectorIndex) *Extent {
	for ; *cursor < len(a.Extents); *cursor++ {
		x := &a.Extents[*cursor]
		if !x.Pending && uint64(s) < uint64(x.First)+uint64(x.Count) {
			if s < x.First {
				return nil
			}
			return x
		}
	}
	return nil
}

func (r *read) decideSegment(s *segment, at []int) (open bool) {
	var pending []*Extent
	zeros, sealed := 0, 0 // that have the version as one or the other
	for i := range r.slots {
		a := r.slots[i].ans
		if a == nil {
			continue
		}
		if x := committedAt(a, &at[i], s.first); x != nil {
			if s.version.Less(x.Version) {
				zeros, sealed = 0, 0
			}
			if s.version.Less(x.Version) || s.version == x.Version && s.kind == Damaged || s.version.IsZero() {
				s.version, s.kind = x.Version, x.Kind
			}
			switch {
			case x.Version != s.version:
			case x.Kind == Zero:
				zeros++
			case x.Kind != Absent:
				sealed++
			}
			if x.Kind == Damaged {
				r.damaged = append(r.damaged, damage{i, Extent{First: s.first, Count: s.count, Version: x.Version, Kind: Damaged}})
			}
		}
		for j := len(a.Extents) - 1; j >= 0 && a.Extents[j].Pending; j-- {
			if x := &a.Extents[j]; s.first >= x.First && uint64(s.first) < uint64(x.First)+uint64(x.Count) {
				pending = append(pending, x)
			}
		}
	}
	if s.kind == Damaged {
		s.kind = Data
	}
	if s.contested = zeros > 0 && sealed > 0; s.contested {
		if s.kind = Data; zeros > sealed {
			s.kind = Zero
		}
	}
	open = r.few(s)
	slices.SortFunc(pending, func(a, b *Extent) int { return compareVersions(b.Version, a.Version) })
	for _, x := range pending { // the newest first
		if !s.version.Less(x.Version) {
			break
		}
		take := r.host.settled(r.region, x.Version) || r.c.mut == mutReadPrepared
		if !take && r.c.mut != mutReadCommitted && !r.settledOnly {
			all, known := r.held(s, x, at)
			if !known {
				open = true
			}
			take = all
		}
		if take {
			s.version, s.kind, s.contested, s.unsure, s.claimed = x.Version, x.Kind, false, false, false
			break
		}
	}
	return open
}

// held reports whether all in-sync members hold a pending version of a segment, and whether that is known: it is as soon as more do not that were asked than
// may lie, or all have answered that can be reached.
func (r *read) held(s *segment, p *Extent, at []int) (all, known bool) {
	all = true
	denied := 0
	for i := range r.slots {
		if r.sync>>i&1 == 0 {
			continue
		}
		if r.lied>>i&1 == 1 { // what it says of this counts for nothing, but it may hold it
			all = false
			continue
		}
		a := r.slots[i].ans
		if a == nil {
			all = false
			continue
		}
		cursor := 0
		if at != nil {
			cursor = at[i]
		}
		if x := committedAt(a, &cursor, s.first); x != nil && !x.Version.Less(p.Version) {
			continue
		}
		holds := false
		for j := len(a.Extents) - 1; j >= 0 && a.Extents[j].Pending && !holds; j-- {
			x := &a.Extents[j]
			holds = x.Version == p.Version && x.Digest == p.Digest && s.first >= x.First && uint64(s.first) < uint64(x.First)+uint64(x.Count)
		}
		if !holds {
			denied++
		}
	}
	switch {
	case denied == 0:
		return all && !r.blind, all && !r.blind
	case denied <= r.spare() && (!r.second || r.mayHear()) && !r.blind && r.c.mut != mutDenyOne: // somebody else may know that it is acknowledged
		r.weighs = true
		return false, false
	}
	return false, true
}

// gather returns the shards of a segment, nil if there are not enough of them yet.
func (r *read) gather(s *segment) []ShardRun {
	k := r.layout.Code.Data
	out := make([]ShardRun, 0, k)
	for i := range r.slots {
		if i == r.skip || len(out) == k && !r.all {
			continue
		}
		a := r.slots[i].ans
		if a != nil && r.slots[i].want == WantShards {
			if p, q, ok := r.slice(a, s, false); ok {
				out = append(out, ShardRun{blocktree.ShardIndex(i), p, q, a})
				continue
			}
		}
		for _, x := range r.exact {
			if x.slot == i && x.ans != nil && x.version == s.version {
				if p, q, ok := r.slice(x.ans, s, true); ok {
					out = append(out, ShardRun{blocktree.ShardIndex(i), p, q, x.ans})
					break
				}
			}
		}
	}
	if len(out) < k {
		return nil
	}
	return out
}

// slice finds a segment's shards in an answer.
func (r *read) slice(a *Message, s *segment, exact bool) (payload, seals []byte, ok bool) {
	shard := r.layout.Code.ShardBytes(int(r.layout.SectorBytes))
	before, from := 0, -1
	at := s.first // covered up to here
	for j := range a.Extents {
		x := &a.Extents[j]
		if x.Pending && !exact {
			break
		}
		if at >= x.First && uint64(at) < uint64(x.First)+uint64(x.Count) {
			if x.Version != s.version || x.Kind != Data {
				return nil, nil, false
			}
			if from < 0 {
				from = before + int(at-x.First)
			}
			at = x.First + blocktree.SectorIndex(x.Count)
			if uint64(at) >= uint64(s.first)+uint64(s.count) {
				to := from + int(s.count)
				return a.Payload[from*shard : to*shard : to*shard], a.Seals[from*SealBytes : to*SealBytes : to*SealBytes], true
			}
		}
		if x.Kind == Data {
			before += int(x.Count)
		}
	}
	return nil, nil, false
}

// fetch asks members for exactly the version of a run, until k have shards of it. It returns false if the read is over
// or began again.
func (r *read) fetch(s *segment) bool {
	k := r.layout.Code.Data
	have, waiting, gone, bad := 0, 0, 0, 0
	tried := uint32(0)
	for i := range r.slots {
		if a := r.slots[i].ans; a != nil && r.slots[i].want == WantShards {
			if _, _, ok := r.slice(a, s, false); ok && i != r.skip {
				have++
				tried |= 1 << i
			} else if r.isDamaged(a, s, false) {
				tried |= 1 << i
				bad++
			}
		}
	}
	for _, x := range r.exact {
		if x.version != s.version || x.first > s.first || uint64(x.first)+uint64(x.count) < uint64(s.first)+uint64(s.count) || tried>>x.slot&1 != 0 {
			continue
		}
		tried |= 1 << x.slot
		switch {
		case x.ans == nil && x.failed:
			waiting++ // asked again at the next Tick
		case x.ans == nil && !x.slow:
			have++
			waiting++
		case x.ans == nil:
			waiting++
		default:
			if _, _, ok := r.slice(x.ans, s, true); ok {
				have++
			} else if r.isDamaged(x.ans, s, true) {
				bad++
			} else {
				gone++
			}
		}
	}
	for have < k || r.all {
		slot := r.nextExact(s, tried|r.unfetched&^r.lastResort(have, k))
		if slot < 0 {
			break
		}
		tried |= 1 << slot
		have++
		waiting++
		r.askExact(slot, s)
	}
	switch {
	case waiting > 0 || have >= k:
		return true
	case gone > 0:
		r.doubtIt(s)
		r.askAnew()
	default:
		r.finish(blocktree.Corrupt, nil)
	}
	return false
}

// wantsMore reports whether a read that gathers every shard may get one more of a segment than it has, if it is patient of those, too, that cannot be reached:
// where the version has to be fetched, k members need not be those that do not lie.
func (r *read) wantsMore(s *segment, patient bool) bool {
	if !r.all || r.c.mut == mutFetchFew {
		return false
	}
	for i := range r.slots {
		if r.asked()&^r.unfetched>>i&1 == 0 || i == r.skip {
			continue
		}
		if a := r.slots[i].ans; a != nil && r.slots[i].want == WantShards {
			if _, _, ok := r.slice(a, s, false); ok || r.isDamaged(a, s, false) {
				continue
			}
		}
		at := slices.IndexFunc(r.exact, func(x *exactRead) bool {
			return x.slot == i && x.version == s.version && x.first <= s.first && uint64(x.first)+uint64(x.count) >= uint64(s.first)+uint64(s.count)
		})
		if at < 0 && (r.peers[i].up || patient) || at >= 0 && r.exact[at].ans == nil && (!r.exact[at].slow || patient) {
			return true
		}
	}
	return false
}

// overtaken reports whether a member that had a version does not give it any more: it was overwritten meanwhile, and who reads again finds what is there now.
func (r *read) overtaken(s *segment) bool {
	return r.all && slices.ContainsFunc(r.exact, func(x *exactRead) bool {
		if x.ans == nil || x.version != s.version || s.first < x.first || uint64(s.first) >= uint64(x.first)+uint64(x.count) || r.slots[x.slot].ans == nil {
			return false
		}
		_, _, ok := r.slice(x.ans, s, true)
		had, _ := r.stands(r.slots[x.slot].ans, s.first, s.version, Data)
		return !ok && had && !r.isDamaged(x.ans, s, true)
	})
}

// lastResort are the members that failed to give a version, while there are too few without them.
func (r *read) lastResort(have, k int) uint32 {
	if have < k {
		return r.unfetched
	}
	return 0
}

func (r *read) isDamaged(a *Message, s *segment, exact bool) bool {
	for j := range a.Extents {
		x := &a.Extents[j]
		if x.Pending && !exact {
			break
		}
		if x.Kind == Damaged && x.Version == s.version && uint64(x.First) < uint64(s.first)+uint64(s.count) &&
			uint64(s.first) < uint64(x.First)+uint64(x.Count) {
			return true
		}
	}
	return false
}

// nextExact chooses whom to ask for a version: those that can be reached first, and of these in order of their place.
func (r *read) nextExact(s *segment, tried uint32) int {
	best := -1
	for i := range r.slots {
		if r.asked()>>i&1 == 0 || tried>>i&1 != 0 || i == r.skip {
			continue
		}
		if best < 0 || r.prefers(i, best) {
			best = i
		}
	}
	return best
}

func (r *read) askExact(slot int, s *segment) {
	x := &exactRead{slot: slot, version: s.version, first: s.first, count: s.count, slow: r.all && !r.peers[slot].up}
	m := r.message(slot, WantExact)
	m.Version, m.First, m.Count = s.version, s.first, uint64(s.count)
	x.call = &call{peer: r.peers[slot], owner: r, slot: len(r.slots) + len(r.exact), msg: m}
	r.exact = append(r.exact, x)
	r.c.post(x.call)
}
