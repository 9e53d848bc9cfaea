package meta

import (
	"testing"

	"blocktree"

	pb "go.etcd.io/raft/v3/raftpb"
)

// stepRow is a message from member 2 of term 3 to member 1, as it came from a sender, and what is said to it.
type stepRow struct {
	name  string
	kind  blocktree.Kind
	from  blocktree.NodeID
	chunk bool // it ends a snapshot
	m     *pb.Message
}

func steps() []stepRow {
	const bad, denied = blocktree.Invalid, blocktree.Permission
	msg := func(kind pb.MessageType, f func(*pb.Message)) *pb.Message {
		m := &pb.Message{Type: &kind, To: new(uint64(1)), From: new(uint64(2)), Term: new(uint64(3))}
		f(m)
		return m
	}
	app := func(indexTerms ...uint64) *pb.Message {
		return msg(pb.MsgApp, func(m *pb.Message) {
			m.Index, m.LogTerm = new(uint64(9)), new(uint64(1))
			for i := 0; i < len(indexTerms); i += 2 {
				m.Entries = append(m.Entries, &pb.Entry{Index: &indexTerms[i], Term: &indexTerms[i+1], Type: pb.EntryNormal.Enum()})
			}
		})
	}
	snap := func(index uint64, voters ...uint64) *pb.Message {
		return msg(pb.MsgSnap, func(m *pb.Message) {
			m.Snapshot = &pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: &index, Term: new(uint64(1)), ConfState: &pb.ConfState{Voters: voters}}}
		})
	}
	one := []*pb.Entry{{Index: new(uint64(1)), Term: new(uint64(1)), Type: pb.EntryNormal.Enum(), Data: []byte("abc")}}
	same := func(*pb.Message) {}
	return []stepRow{
		{"heartbeat", 0, 2, false, msg(pb.MsgHeartbeat, same)},
		{"for another", denied, 3, false, msg(pb.MsgHeartbeat, same)},
		{"to another", denied, 2, false, msg(pb.MsgHeartbeat, func(m *pb.Message) { m.To = new(uint64(3)) })},
		{"of no term", bad, 2, false, msg(pb.MsgHeartbeat, func(m *pb.Message) { m.Term = nil })},
		{"short number", bad, 2, false, msg(pb.MsgHeartbeatResp, func(m *pb.Message) { m.Context = []byte{1, 2, 3} })},
		{"read of nothing", bad, 2, false, msg(pb.MsgReadIndex, func(m *pb.Message) { m.Term = nil })},
		{"short read", bad, 2, false, msg(pb.MsgReadIndexResp, func(m *pb.Message) { m.Entries = one })},
		{"vote with entries", bad, 2, false, msg(pb.MsgVote, func(m *pb.Message) { m.Entries = one })},
		{"proposal", bad, 2, false, msg(pb.MsgProp, func(m *pb.Message) { m.Entries = one })},
		{"local", bad, 2, false, msg(pb.MsgHup, same)},
		{"append", 0, 2, false, app(10, 2, 11, 2)},
		{"gap", bad, 2, false, app(10, 2, 12, 2)},
		{"falling terms", bad, 2, false, app(10, 2, 11, 1)},
		{"a term to come", bad, 2, false, app(10, 4)},
		{"snapshot alone", bad, 2, false, snap(5, 1)},
		{"another's snapshot", denied, 3, true, snap(5, 1)},
		{"snapshot of a heartbeat", bad, 2, true, msg(pb.MsgHeartbeat, same)},
		{"empty snapshot", bad, 2, true, snap(0, 1)},
		{"snapshot without voters", bad, 2, true, snap(5)},
	}
}

// Only the leader's snapshot is stored: another member could fill the disk, or keep the leader's from arriving.
func TestChunksOfOthersAreDropped(t *testing.T) {
	w := newWorld(t)
	w.found(3)
	l := w.leader()
	to, other := node(int(l)%3+1), node((int(l)+1)%3+1)
	g := w.sync(to)
	chunk := envelope{chunk: &snapshotChunk{id: 1, pairs: []pair{{[]byte("k"), []byte("v")}}}}
	stored := func() bool {
		w.sync(to) // the chunk came before it
		for _, space := range []byte{spaceA, spaceB} {
			if _, ok, err := get(g.db, []byte{space, 'k'}); err != nil || ok {
				return true
			}
		}
		return false
	}
	if err := g.Step(other, encodeEnvelope(&chunk)); err != nil {
		t.Fatal(err)
	}
	if stored() {
		t.Fatal("a chunk of a member that does not lead was stored")
	}
	w.eventually("a chunk of the leader to be stored", func() bool { // it may be another by now
		if err := g.Step(w.leader(), encodeEnvelope(&chunk)); err != nil {
			t.Fatal(err)
		}
		return stored()
	})
}
