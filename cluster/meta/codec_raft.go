package meta

import (
	"slices"

	"blocktree"
	"blocktree/internal/wire"

	pb "go.etcd.io/raft/v3/raftpb"
)

// entryOverheadBytes is what an entry takes beside its data.
const entryOverheadBytes = 1 + 8 + 8 + 1 + 4

// Bounds of a Raft message: batches of many small entries, or one of the largest.
const (
	entriesMax       = 1 << 16
	entryBytesMax    = blocktree.RaftCommandMax + 1024
	contextBytesMax  = 256
	membersMax       = HostsMax
	snapshotChunkMax = 1 << 20
	snapshotKeyMax   = 1 + blocktree.PathBytesMax + 9 // kindFounder's: of a path, and a store
)

// envelopeKind says what an envelope carries.
type envelopeKind uint8

// The envelope kinds, append-only.
const (
	envelopeRaft  envelopeKind = iota + 1
	envelopeChunk              // part of a snapshot
	envelopeAck                // chunk stored; or, with Refused, start again
)

// envelope is one message between members.
type envelope struct {
	raft  *pb.Message
	chunk *snapshotChunk
	ack   *snapshotAck
}

// snapshotChunk is a part of a snapshot, in order.
type snapshotChunk struct {
	id     uint64 // chosen by the sender for each snapshot
	number uint64
	last   bool
	// message is the MsgSnap that the snapshot answers, in the last chunk.
	message *pb.Message
	pairs   []pair // keys without their space byte
}

type pair struct{ key, value []byte }

// snapshotAck asks for the chunk with number next.
type snapshotAck struct {
	id   uint64
	next uint64
}

func encodeEnvelope(v *envelope) []byte {
	var e wire.Encoder
	e.U8(formatEnvelope)
	switch {
	case v.raft != nil:
		e.U8(uint8(envelopeRaft))
		putMessage(&e, v.raft)
	case v.chunk != nil:
		e.U8(uint8(envelopeChunk))
		e.U64(v.chunk.id)
		e.U64(v.chunk.number)
		e.Bool(v.chunk.last)
		if v.chunk.last {
			putMessage(&e, v.chunk.message)
		}
		e.U32(uint32(len(v.chunk.pairs)))
		for _, p := range v.chunk.pairs {
			e.Bytes(p.key)
			e.Bytes(p.value)
		}
	case v.ack != nil:
		e.U8(uint8(envelopeAck))
		e.U64(v.ack.id)
		e.U64(v.ack.next)
	}
	return e.Buf
}

// decodeEnvelope reads what encodeEnvelope wrote. Nothing of b is kept.
func decodeEnvelope(b []byte) (envelope, error) {
	var v envelope
	d := wire.NewDecoder(slices.Clone(b))
	d.Format(formatEnvelope)
	switch envelopeKind(d.U8()) {
	case envelopeRaft:
		v.raft = getMessage(d)
	case envelopeChunk:
		c := &snapshotChunk{id: d.U64(), number: d.U64(), last: d.Bool()}
		if c.last {
			c.message = getMessage(d)
		}
		for range d.Count(snapshotChunkMax) {
			c.pairs = append(c.pairs, pair{d.Bytes(snapshotKeyMax), d.Bytes(blocktree.FrameBodyBytesMax)})
			if d.Err() != nil {
				break
			}
		}
		v.chunk = c
	case envelopeAck:
		v.ack = &snapshotAck{id: d.U64(), next: d.U64()}
	default:
		bad(d, "unknown envelope")
	}
	return v, d.Finish()
}

// putMessage writes a Raft message, all fields that this version of Raft uses between members.
func putMessage(e *wire.Encoder, m *pb.Message) {
	e.U8(uint8(m.GetType()))
	for _, v := range []uint64{m.GetTo(), m.GetFrom(), m.GetTerm(), m.GetLogTerm(), m.GetIndex(), m.GetCommit(), m.GetVote(),
		m.GetRejectHint()} {
		e.U64(v)
	}
	e.Bool(m.GetReject())
	e.Bytes(m.GetContext())
	e.U32(uint32(len(m.GetEntries())))
	for _, x := range m.GetEntries() {
		putEntry(e, x)
	}
	e.Bool(m.GetSnapshot() != nil)
	if s := m.GetSnapshot(); s != nil {
		e.U64(s.GetMetadata().GetIndex())
		e.U64(s.GetMetadata().GetTerm())
		putConf(e, s.GetMetadata().GetConfState())
	}
}

func getMessage(d *wire.Decoder) *pb.Message {
	kind := pb.MessageType(d.U8())
	if _, ok := pb.MessageType_name[int32(kind)]; !ok {
		bad(d, "unknown message of raft")
	}
	m := &pb.Message{Type: &kind, To: new(d.U64()), From: new(d.U64()), Term: new(d.U64()), LogTerm: new(d.U64()),
		Index: new(d.U64()), Commit: new(d.U64()), Vote: new(d.U64()), RejectHint: new(d.U64()), Reject: new(d.Bool())}
	if c := d.Bytes(contextBytesMax); len(c) > 0 {
		m.Context = c
	}
	for range d.Count(entriesMax) {
		m.Entries = append(m.Entries, getEntry(d))
		if d.Err() != nil {
			break
		}
	}
	if d.Bool() {
		m.Snapshot = &pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: new(d.U64()), Term: new(d.U64()), ConfState: getConf(d)}}
	}
	return m
}

func putEntry(e *wire.Encoder, x *pb.Entry) {
	e.U64(x.GetTerm())
	e.U64(x.GetIndex())
	e.U8(uint8(x.GetType()))
	e.Bytes(x.GetData())
}

func getEntry(d *wire.Decoder) *pb.Entry {
	x := &pb.Entry{Term: new(d.U64()), Index: new(d.U64())}
	kind := pb.EntryType(d.U8())
	if _, ok := pb.EntryType_name[int32(kind)]; !ok {
		bad(d, "unknown entry of raft")
	}
	x.Type = &kind
	if b := d.Bytes(entryBytesMax); len(b) > 0 {
		x.Data = b
	}
	return x
}

func encodeEntry(x *pb.Entry) []byte {
	e := wire.Encoder{Buf: make([]byte, 0, entryOverheadBytes+len(x.GetData()))}
	e.U8(formatEntry)
	putEntry(&e, x)
	return e.Buf
}

func decodeEntry(b []byte) (*pb.Entry, error) {
	d := wire.NewDecoder(slices.Clone(b))
	d.Format(formatEntry)
	x := getEntry(d)
	return x, d.Finish()
}

func encodeHard(h *pb.HardState) []byte {
	var e wire.Encoder
	e.U8(formatEntry)
	e.U64(h.GetTerm())
	e.U64(h.GetVote())
	e.U64(h.GetCommit())
	return e.Buf
}

func decodeHard(b []byte) (*pb.HardState, error) {
	d := wire.NewDecoder(b)
	d.Format(formatEntry)
	h := &pb.HardState{Term: new(d.U64()), Vote: new(d.U64()), Commit: new(d.U64())}
	return h, d.Finish()
}

func putConf(e *wire.Encoder, c *pb.ConfState) {
	for _, ids := range [][]uint64{c.GetVoters(), c.GetLearners(), c.GetVotersOutgoing(), c.GetLearnersNext()} {
		e.U16(uint16(len(ids)))
		for _, id := range ids {
			e.U64(id)
		}
	}
	e.Bool(c.GetAutoLeave())
}

func getConf(d *wire.Decoder) *pb.ConfState {
	c := &pb.ConfState{}
	for _, ids := range []*[]uint64{&c.Voters, &c.Learners, &c.VotersOutgoing, &c.LearnersNext} {
		n := int(d.U16())
		if n > membersMax {
			bad(d, "too many members")
		}
		for i := 0; i < n && d.Err() == nil; i++ {
			*ids = append(*ids, d.U64())
		}
	}
	c.AutoLeave = new(d.Bool())
	return c
}

func encodeApplied(a *appliedState) []byte {
	var e wire.Encoder
	e.U8(formatEntry)
	e.U64(uint64(a.node))
	e.U8(a.space)
	e.U64(a.index)
	e.U64(a.term)
	putConf(&e, a.conf)
	return e.Buf
}

func decodeApplied(b []byte) (appliedState, error) {
	d := wire.NewDecoder(b)
	d.Format(formatEntry)
	a := appliedState{node: blocktree.NodeID(d.U64()), space: d.U8(), index: d.U64(), term: d.U64(), conf: getConf(d)}
	if a.space != spaceA && a.space != spaceB {
		bad(d, "unknown space")
	}
	return a, d.Finish()
}
