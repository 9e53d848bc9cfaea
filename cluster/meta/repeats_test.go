package meta

import (
	"io"
	"log"
	"testing"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// TestRepeats: within a tick a member acknowledges the same to the same leader once; all else is sent.
func TestRepeats(t *testing.T) {
	g := &Group{}
	ack := func(to, term, index uint64, reject bool) *pb.Message {
		return &pb.Message{Type: pb.MsgAppResp.Enum(), To: &to, Term: &term, Index: &index, Reject: &reject}
	}
	to, term := uint64(1), uint64(2)
	for i, x := range []struct {
		m    *pb.Message
		tick uint64
		want bool
	}{
		{ack(1, 2, 7, false), 0, false},
		{ack(1, 2, 7, false), 0, true},
		{&pb.Message{Type: pb.MsgHeartbeatResp.Enum(), To: &to, Term: &term}, 0, false},
		{ack(1, 2, 7, false), 0, true},
		{ack(1, 2, 7, true), 0, false},
		{ack(1, 2, 7, true), 0, false},
		{ack(1, 2, 7, false), 1, false}, // the one before may be lost
		{ack(1, 2, 8, false), 0, false},
		{ack(3, 2, 8, false), 0, false},
		{ack(1, 2, 8, false), 0, false},
		{ack(1, 3, 8, false), 0, false},
		{ack(1, 3, 7, false), 0, false},
		{ack(1, 3, 8, false), 0, false},
	} {
		g.tick += x.tick
		if got := g.repeats(x.m); got != x.want {
			t.Errorf("%d: %v", i, got)
		}
	}
}

// ackBed is a leader, 1, and a follower, 2, which leaves out what repeats.
type ackBed struct {
	t        *testing.T
	follower Group
	nodes    map[uint64]*raft.RawNode
	stores   map[uint64]*raft.MemoryStorage
	loses    bool
	acks     int
}

func newAckBed(t *testing.T) *ackBed {
	b := &ackBed{t: t, nodes: map[uint64]*raft.RawNode{}, stores: map[uint64]*raft.MemoryStorage{}}
	for id := uint64(1); id <= 2; id++ {
		s := raft.NewMemoryStorage()
		at := uint64(1)
		if err := s.ApplySnapshot(&pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: &at, Term: &at, ConfState: &pb.ConfState{Voters: []uint64{1, 2}}}}); err != nil {
			t.Fatal(err)
		}
		n, err := raft.NewRawNode(&raft.Config{ID: id, ElectionTick: 10, HeartbeatTick: 1, Storage: s, Applied: 1, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 8, CheckQuorum: true,
			Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)}})
		if err != nil {
			t.Fatal(err)
		}
		b.nodes[id], b.stores[id] = n, s
	}
	if err := b.nodes[1].Campaign(); err != nil {
		t.Fatal(err)
	}
	b.run()
	return b
}

// run goes on until nothing is left to do.
func (b *ackBed) run() {
	for b.nodes[1].HasReady() || b.nodes[2].HasReady() {
		for id, n := range b.nodes {
			if !n.HasReady() {
				continue
			}
			rd := n.Ready()
			if err := b.stores[id].Append(rd.Entries); err != nil {
				b.t.Fatal(err)
			}
			for _, m := range rd.Messages {
				if id == 2 && b.follower.repeats(m) {
					continue
				}
				if m.GetType() == pb.MsgAppResp {
					if b.acks++; b.loses {
						continue
					}
				}
				_ = b.nodes[m.GetTo()].Step(m) // what it cannot use it drops
			}
			n.Advance(rd)
		}
	}
}

func (b *ackBed) committed() uint64 { return b.nodes[1].Status().HardState.GetCommit() }

// TestAcknowledgesOnce: a command is acknowledged once; a lost acknowledgement is given again with the heartbeat of the next tick.
func TestAcknowledgesOnce(t *testing.T) {
	b := newAckBed(t)
	for range 3 {
		acks, was := b.acks, b.committed()
		if err := b.nodes[1].Propose([]byte("x")); err != nil {
			t.Fatal(err)
		}
		b.run()
		if b.acks != acks+1 || b.committed() != was+1 {
			t.Errorf("%d acknowledgements, %d commands", b.acks-acks, b.committed()-was)
		}
	}
	was := b.committed()
	b.loses = true
	if err := b.nodes[1].Propose([]byte("x")); err != nil {
		t.Fatal(err)
	}
	b.run()
	if b.loses = false; b.committed() != was {
		t.Fatal("it was not lost")
	}
	b.follower.tick++
	b.nodes[1].Tick()
	b.run()
	if b.committed() != was+1 {
		t.Error("it was not given again")
	}
}
