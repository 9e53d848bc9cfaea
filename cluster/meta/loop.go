package meta

import (
	"encoding/binary"
	"slices"
	"time"

	"blocktree"

	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// run drives Raft until Close or a failed write. It alone touches Raft and writes to the store.
func (g *Group) run() {
	defer close(g.done)
	defer g.dropSenders()
	ticks := g.cfg.hooks.ticks
	if ticks == nil {
		t := time.NewTicker(blocktree.RaftTick)
		defer t.Stop()
		ticks = t.C
	}
	for {
		if err := g.turn(); err != nil {
			g.fail.set(err)
			g.log.Error("metadata stops", "error", err)
			return
		}
		select {
		case <-g.stop:
			return
		case <-g.inbox.wake:
		case <-ticks:
			g.onTick()
		}
	}
}

// turn does all there is to do now. It fails with Corrupt if Raft finds that this member's log lacks what it once said it had.
func (g *Group) turn() (err error) {
	defer func() { raftFailed(recover(), &err) }()
	if err = g.drain(); err == nil { // a tick may have made this member the leader
		err = g.takeInbox()
	}
	if err == nil {
		err = g.drain()
	}
	g.publish()
	return err
}

// drain does all that Raft asks for.
func (g *Group) drain() error {
	for g.rn.HasReady() {
		if err := g.handleReady(g.rn.Ready()); err != nil {
			return err
		}
	}
	return nil
}

// onTick advances Raft's time and what hangs on it.
func (g *Group) onTick() {
	g.tick++
	g.rn.Tick()
	g.retryReads()
	g.retrySnapshots()
	if g.tick%cacheIdleTicks == 0 {
		g.cache.tick()
	}
	if g.leading && g.tick%2 == 0 {
		g.expireSilent()
		g.endClaims()
	}
}

// takeInbox hands Raft what has come in.
func (g *Group) takeInbox() error {
	messages, proposals, reads := g.inbox.take()
	for _, m := range messages {
		g.heard[m.from] = g.tick
		switch {
		case m.env.raft != nil:
			_ = g.rn.Step(m.env.raft) // Raft refuses what is stale; there is nobody to tell
		case m.env.chunk != nil:
			if uint64(m.from) != g.rn.BasicStatus().Lead { // a leader's comes again once its heartbeat has told of it
				continue
			}
			if err := g.onChunk(m.from, m.env.chunk); err != nil {
				return err
			}
		case m.env.ack != nil:
			g.onAck(m.from, m.env.ack)
		}
	}
	for _, p := range proposals {
		g.startProposal(p)
	}
	g.reads.waiting = append(g.reads.waiting, reads...)
	g.startReads()
	return nil
}

// startProposal appends a proposal to the leader's log, or answers why not.
func (g *Group) startProposal(p *proposal) {
	var err error
	switch {
	case !g.leading:
		err = raft.ErrProposalDropped
	case p.change != nil:
		err = g.proposeChange(p)
	default:
		err = g.rn.Propose(p.data)
	}
	if err == nil {
		g.proposals[p.id] = append(g.proposals[p.id], p)
		return
	}
	kind := blocktree.NotLeader
	if blocktree.KindOf(err) == blocktree.Invalid {
		kind = blocktree.Invalid
	} else if g.leading && g.rn.BasicStatus().RaftState == raft.StateLeader {
		kind = blocktree.Unavailable
	}
	g.answer(p, outcome{Result{Kind: kind, Leader: g.otherLeader()}, blocktree.E("meta.Propose", kind, err)})
}

// otherLeader is the leader as far as it is another member.
func (g *Group) otherLeader() blocktree.NodeID {
	if g.lead == g.cfg.Node {
		return 0
	}
	return g.lead
}

// proposeChange proposes a change of the members.
func (g *Group) proposeChange(p *proposal) error {
	conf := g.store.applied.conf
	node := uint64(p.change.node)
	kind := pb.ConfChangeAddLearnerNode
	switch {
	case p.change.remove:
		kind = pb.ConfChangeRemoveNode
	case p.change.voter && (len(conf.GetVoters()) < blocktree.VotersMax || slices.Contains(conf.GetVoters(), node)):
		kind = pb.ConfChangeAddNode
	}
	if kind != pb.ConfChangeAddNode && len(conf.GetVoters()) == 1 && conf.GetVoters()[0] == node {
		return blocktree.E("meta: members", blocktree.Invalid, textError("the last voter stays")) // Raft would panic, and at every start again
	}
	g.changing = append(g.changing, p.id)
	return g.rn.ProposeConfChange(&pb.ConfChangeV2{Changes: []*pb.ConfChangeSingle{{Type: &kind, NodeId: &node}}, Context: p.id[:]})
}

func (g *Group) answer(p *proposal, o outcome) {
	p.done <- o
	g.inbox.answered(1, 0)
}

// resolve answers every proposal with an id.
func (g *Group) resolve(id CommandID, o outcome) {
	for _, p := range g.proposals[id] {
		g.answer(p, o)
	}
	delete(g.proposals, id)
}

// handleReady does what Raft asks for, in the order that makes it safe: store, send, apply, answer. A leader's entries go to the others while it stores them itself: that it has them counts once it has (Advance).
func (g *Group) handleReady(rd raft.Ready) error {
	led, term := g.leading, g.leadTerm
	lost := g.noteLeader()
	g.refuseChanges(rd.Entries)
	early, late := []*pb.Message(nil), rd.Messages
	if led && g.leading && g.leadTerm == term { // whose term and vote are stored
		early, late = appends(rd.Messages)
	}
	g.send(early)
	if err := g.persist(rd); err != nil {
		return err
	}
	g.send(late)
	if err := g.applyEntries(rd.CommittedEntries); err != nil {
		return err
	}
	if lost {
		for id := range g.proposals {
			g.resolve(id, outcome{Result{Kind: blocktree.NotLeader, Leader: g.otherLeader()},
				blocktree.E("meta.Propose", blocktree.NotLeader, textError("leadership was lost, the outcome is unknown"))})
		}
	}
	g.onReadStates(rd.ReadStates)
	g.rn.Advance(rd)
	return g.maybeTruncate()
}

// noteLeader notes who leads; it returns whether this member has ceased to, if only for a moment.
func (g *Group) noteLeader() bool {
	b := g.rn.BasicStatus()
	was, term := g.leading, g.leadTerm
	g.leading = b.RaftState == raft.StateLeader
	g.lead, g.leadTerm = blocktree.NodeID(b.Lead), b.GetTerm()
	lost := was && (!g.leading || g.leadTerm != term)
	if lost {
		g.log.Info("leads the metadata group no more", "node", g.cfg.Node.String(), "term", term)
		g.dropSenders()
	}
	if g.leading && (!was || lost) {
		g.restartTerms()
		g.log.Info("leads the metadata group", "node", g.cfg.Node.String(), "term", g.leadTerm)
	}
	return lost
}

// refuseChanges answers the changes of members that Raft turned into empty entries, because an earlier one is under way.
func (g *Group) refuseChanges(entries []*pb.Entry) {
	for _, id := range g.changing {
		if !slices.ContainsFunc(entries, func(e *pb.Entry) bool {
			c := &pb.ConfChangeV2{}
			return e.GetType() == pb.EntryConfChangeV2 && proto.Unmarshal(e.GetData(), c) == nil && string(c.GetContext()) == string(id[:])
		}) {
			g.resolve(id, outcome{Result{Kind: blocktree.Unavailable},
				blocktree.E("meta.Propose", blocktree.Unavailable, textError("another change of the members is under way"))})
		}
	}
	g.changing = nil
}

// persist makes a snapshot, the log and the hard state durable. Of a hard state that says no more than what is committed nothing has to be: it is written with what is applied, which is never ahead of it in the store.
func (g *Group) persist(rd raft.Ready) error {
	snapshot := !raft.IsEmptySnap(rd.Snapshot)
	if !snapshot && len(rd.Entries) == 0 && !rd.MustSync {
		if !raft.IsEmptyHardState(rd.HardState) {
			g.hard = encodeHard(rd.HardState)
		}
		return nil
	}
	b := g.db.NewBatch()
	if snapshot {
		g.cache.begin()
		if err := g.installSnapshot(b, rd.Snapshot); err != nil {
			return err
		}
	}
	g.store.append(b, rd.Entries)
	if !raft.IsEmptyHardState(rd.HardState) {
		put(b, []byte{keyHard}, encodeHard(rd.HardState))
		g.hard = nil
	}
	sync := rd.MustSync || snapshot
	if forget := &g.cfg.hooks; len(rd.Entries) > 0 && forget.forgetLogSync || len(rd.Entries) == 0 && forget.forgetVoteSync {
		sync = false
	}
	if err := g.commit(b, sync); err != nil {
		return err
	}
	if snapshot {
		return g.afterInstall()
	}
	return nil
}

// appends returns those messages that carry entries, or where they are committed, and the others.
func appends(messages []*pb.Message) (entries, others []*pb.Message) {
	for _, m := range messages {
		if m.GetType() == pb.MsgApp {
			entries = append(entries, m)
		} else {
			others = append(others, m)
		}
	}
	return entries, others
}

// send hands messages to the network; a snapshot goes in chunks.
func (g *Group) send(messages []*pb.Message) {
	for _, m := range messages {
		if m.GetType() == pb.MsgSnap {
			g.startSnapshot(m)
			continue
		}
		if blocktree.NodeID(m.GetFrom()) != g.cfg.Node { // another's ReadIndex that Raft passes on: it asks again itself
			continue
		}
		if g.repeats(m) {
			continue
		}
		g.cfg.Send(blocktree.NodeID(m.GetTo()), encodeEnvelope(&envelope{raft: m}))
	}
}

// acknowledged is what a member has told a leader last that it has.
type acknowledged struct{ to, term, index, tick uint64 }

// repeats reports whether a message only acknowledges what this member has acknowledged within this tick: a leader tells by a message of its own what is committed, and has that answered, too. If the first was lost, the answer to the heartbeat of the next tick has it asked for again.
func (g *Group) repeats(m *pb.Message) bool {
	if m.GetType() != pb.MsgAppResp || m.GetReject() {
		return false
	}
	was := g.acknowledged
	g.acknowledged = acknowledged{m.GetTo(), m.GetTerm(), m.GetIndex(), g.tick}
	return g.acknowledged == was
}

// applyBatchBytes ends a batch of applied entries. Raft bounds what it hands out by the length of the commands, but a short command
// may write a layout of a megabyte, and a member that lags is handed tens of thousands at a time.
const applyBatchBytes = 4 << 20

// applyEntries applies committed entries in batches; each is told to OnApply and answered before the next.
func (g *Group) applyEntries(entries []*pb.Entry) error {
	for len(entries) > 0 {
		n, err := g.applyBatch(entries)
		if err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

// applyBatch applies the first of entries in one batch, tells OnApply, and answers who waits. It returns how many it applied.
func (g *Group) applyBatch(entries []*pb.Entry) (n int, err error) {
	b := g.db.NewIndexedBatch()
	s := g.cache.apply(b)
	s.ids = g.ids
	type done struct {
		id     CommandID
		result Result
	}
	var results []done
	for n < len(entries) && b.Len() < g.cfg.hooks.applyBytes {
		e := entries[n]
		n++
		switch {
		case e.GetType() != pb.EntryNormal:
			id, err := g.applyChange(e)
			if err != nil {
				return n, err
			}
			results = append(results, done{id, Result{Index: e.GetIndex()}})
		case len(e.GetData()) > 0: // else a new leader's empty entry
			id, r := s.apply(e.GetIndex(), e.GetData())
			g.noteSession(s, e.GetData(), &r)
			g.noteClaim(s, e.GetData(), &r)
			results = append(results, done{id, r})
		}
	}
	if s.err != nil {
		return n, s.err
	}
	last := entries[n-1]
	g.store.applied.index, g.store.applied.term = last.GetIndex(), last.GetTerm()
	s.saveCounters()
	put(b, []byte{keyApplied}, encodeApplied(&g.store.applied))
	if g.hard != nil {
		put(b, []byte{keyHard}, g.hard)
		g.hard = nil
	}
	g.cache.begin()
	if err := g.commit(b, false); err != nil {
		return n, err
	}
	g.cache.publish(last.GetIndex(), s)
	s.changes.Index = last.GetIndex()
	if g.cfg.OnApply != nil && !s.changes.Empty() {
		g.cfg.OnApply(s.changes)
	}
	g.applied = last.GetIndex()
	for i := range results {
		g.resolve(results[i].id, outcome{result: results[i].result})
	}
	return n, nil
}

// applyChange applies a change of the members.
func (g *Group) applyChange(e *pb.Entry) (CommandID, error) {
	var id CommandID
	var change pb.ConfChangeI
	switch e.GetType() {
	case pb.EntryConfChange:
		c := &pb.ConfChange{}
		if err := proto.Unmarshal(e.GetData(), c); err != nil {
			return id, blocktree.E("meta: apply", blocktree.Corrupt, err)
		}
		copy(id[:], c.GetContext())
		change = c
	default:
		c := &pb.ConfChangeV2{}
		if err := proto.Unmarshal(e.GetData(), c); err != nil {
			return id, blocktree.E("meta: apply", blocktree.Corrupt, err)
		}
		copy(id[:], c.GetContext())
		change = c
	}
	g.store.applied.conf = g.rn.ApplyConfChange(change)
	return id, nil
}

// maybeTruncate cuts a log that has grown long, but not what a snapshot on its way will need next.
func (g *Group) maybeTruncate() error {
	s := g.store
	h := &g.cfg.hooks
	behind := g.applied - min(g.applied, s.truncIndex)
	if behind < h.truncateEntries && s.bytes < truncateBytes {
		return nil
	}
	to := g.applied - min(g.applied, h.keepEntries)
	if behind < h.truncateEntries { // too many bytes: keep the newest of them
		kept := uint64(0)
		for to = s.last; to > s.truncIndex && kept < keepBytes; to-- {
			kept += uint64(s.sizes[to-s.truncIndex-1])
		}
		to = min(to, g.applied)
	}
	for _, x := range g.sending {
		if x.index < to && g.applied-x.index < 10*h.truncateEntries {
			to = x.index
		}
	}
	if to <= s.truncIndex {
		return nil
	}
	b := g.db.NewBatch()
	if err := s.truncate(b, to); err != nil {
		return err
	}
	return g.commit(b, false)
}

// publish makes the status that other goroutines read.
func (g *Group) publish() {
	b := g.rn.BasicStatus()
	st := &Status{Node: g.cfg.Node, Leader: g.lead, Term: b.GetTerm(), Commit: b.GetCommit(), Applied: g.applied}
	if old := g.status.Load(); old != nil && !g.leading && old.Leader == st.Leader && old.Term == st.Term &&
		old.Commit == st.Commit && old.Applied == st.Applied {
		return
	}
	if g.leading {
		g.rn.WithProgress(func(id uint64, kind raft.ProgressType, pr progress) {
			st.Members = append(st.Members, MemberStatus{Node: blocktree.NodeID(id), Learner: kind == raft.ProgressTypeLearner,
				Recent: g.recent(blocktree.NodeID(id)), Match: pr.Match})
		})
	} else {
		for _, id := range g.store.applied.conf.GetVoters() {
			st.Members = append(st.Members, MemberStatus{Node: blocktree.NodeID(id)})
		}
		for _, id := range g.store.applied.conf.GetLearners() {
			st.Members = append(st.Members, MemberStatus{Node: blocktree.NodeID(id), Learner: true})
		}
	}
	slices.SortFunc(st.Members, func(a, b MemberStatus) int {
		if a.Node < b.Node {
			return -1
		}
		return 1
	})
	g.status.Store(st)
}

// recent reports whether this member or one that it heard from within an election timeout is meant.
func (g *Group) recent(n blocktree.NodeID) bool {
	at, ok := g.heard[n]
	return n == g.cfg.Node || ok && g.tick-at <= blocktree.RaftElectionTicks
}

// readQueue is the reads that wait for a ReadIndex, and the batches that have asked for one.
type readQueue struct {
	next    uint64 // starts at random, so that an answer to an earlier process of this member is not taken for ours
	waiting []*readWaiter
	batches []*readBatch
}

// readBatch is the reads of one ReadIndex.
type readBatch struct {
	id      uint64
	waiters []*readWaiter
	tick    uint64 // when it was asked last
	index   uint64 // the answer; 0 until then
}

// readBatchesMax bounds the ReadIndex requests on their way; later reads wait for one to return. readRetryTicks is when
// one may be lost, and is asked again.
const (
	readBatchesMax = 4
	readRetryTicks = 5
)

// startReads asks for a ReadIndex for all that wait.
func (g *Group) startReads() {
	q := &g.reads
	asked := 0
	for _, b := range q.batches {
		if b.index == 0 {
			asked++
		}
	}
	if len(q.waiting) == 0 || g.lead == 0 || asked >= readBatchesMax {
		return
	}
	q.next++
	b := &readBatch{id: q.next, waiters: q.waiting, tick: g.tick}
	q.waiting = nil
	q.batches = append(q.batches, b)
	g.askIndex(b)
}

func (g *Group) askIndex(b *readBatch) {
	g.rn.ReadIndex(binary.BigEndian.AppendUint64(u64(uint64(g.cfg.Node)), b.id))
}

// retryReads asks again for batches whose answer may be lost, and drops reads that nobody waits for. It asks under the same id: the answer
// that was only slow is as good, as its reads were asked for before any of the questions, and where everybody is slow there is no other.
// (Raft confirms each question by its place in the leader's queue, not by the id, so the answer to one does not vouch for the other.)
func (g *Group) retryReads() {
	q := &g.reads
	q.waiting = g.dropAbandoned(q.waiting)
	q.batches = slices.DeleteFunc(q.batches, func(b *readBatch) bool {
		if b.index != 0 || g.tick-b.tick < readRetryTicks {
			return false
		}
		if b.waiters = g.dropAbandoned(b.waiters); len(b.waiters) == 0 {
			return true
		}
		b.tick = g.tick
		g.askIndex(b)
		return false
	})
}

// dropAbandoned returns the reads that somebody waits for.
func (g *Group) dropAbandoned(reads []*readWaiter) []*readWaiter {
	n := len(reads)
	reads = slices.DeleteFunc(reads, func(r *readWaiter) bool { return r.abandoned.Load() })
	g.inbox.answered(0, n-len(reads))
	return reads
}

// onReadStates notes the indexes that have come, and answers every batch whose index is applied.
func (g *Group) onReadStates(states []raft.ReadState) {
	q := &g.reads
	for _, rs := range states {
		if len(rs.RequestCtx) != 16 {
			continue
		}
		id := binary.BigEndian.Uint64(rs.RequestCtx[8:])
		for _, b := range q.batches {
			if b.id == id {
				b.index = rs.Index
			}
		}
	}
	q.batches = slices.DeleteFunc(q.batches, func(b *readBatch) bool {
		if b.index == 0 || b.index > g.applied {
			return false
		}
		for _, r := range b.waiters {
			close(r.done)
		}
		g.inbox.answered(0, len(b.waiters))
		return true
	})
	g.startReads()
}

// stateAt is the applied state as a snapshot of the store sees it.
func stateAt(r pebble.Reader) (*state, error) {
	v, ok, err := get(r, []byte{keyApplied})
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, blocktree.E("meta: read", blocktree.Corrupt, textError("no applied state"))
	}
	a, err := decodeApplied(v)
	if err != nil {
		return nil, err
	}
	s := openState(r, nil, a.space)
	s.applied = a.index
	return s, s.err
}
