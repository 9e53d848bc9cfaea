package stripe

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"blocktree"
)

func joined(m *Message) (header, body []byte) {
	h, b := EncodeMessage(m)
	return h, bytes.Join(b, nil)
}

func randomMessage(r *rand.Rand) *Message {
	v := func() blocktree.Version {
		return blocktree.Version{Epoch: blocktree.Epoch(r.Uint64()), Sequence: blocktree.Sequence(r.IntN(9))}
	}
	bytesOf := func(n int) []byte {
		if n == 0 {
			return nil
		}
		b := make([]byte, n)
		b[0] = byte(r.Uint32())
		return b
	}
	extents := func(n int) (xs []Extent) {
		for range n {
			xs = append(xs, Extent{First: blocktree.SectorIndex(r.Uint64()), Count: r.Uint32(), Version: v(), Kind: ExtentKind(r.IntN(4)), Pending: r.IntN(2) == 0, Digest: Digest{byte(r.Uint32())}})
		}
		return xs
	}
	m := &Message{
		Kind: MessageKind(1 + r.IntN(int(kindEnd)-1)), Answer: r.IntN(2) == 0, ID: r.Uint64(), Node: blocktree.NodeID(r.Uint64()),
		File: blocktree.FileID{Generation: 1, Inode: 2}, Region: blocktree.RegionIndex(r.Uint32()), Epoch: blocktree.Epoch(r.Uint64()),
		View: blocktree.ViewID(r.Uint64()), Seq: blocktree.ViewID(r.Uint64()), Incarnation: blocktree.Incarnation{1, byte(r.Uint32())},
		Watermark: v(), Version: v(), First: blocktree.SectorIndex(r.Uint64()), Count: r.Uint64(), Want: Want(r.IntN(4)), Last: r.IntN(2) == 0,
		Err: blocktree.Kind(r.IntN(blocktree.Kinds())), Held: r.IntN(2) == 0, Extents: extents(r.IntN(3) * r.IntN(100)),
		Payload: bytesOf(r.IntN(3)), Seals: bytesOf(r.IntN(3)), Next: blocktree.SectorIndex(r.Uint64()),
	}
	for range r.IntN(3) {
		m.Regions = append(m.Regions, RegionState{Region: blocktree.RegionIndex(r.Uint32()), Watermark: v(), Pending: extents(r.IntN(4))})
		p := Repair{Region: blocktree.RegionIndex(r.Uint32()), Floor: v()}
		for range r.IntN(3) {
			p.Winners = append(p.Winners, v())
		}
		m.Repairs = append(m.Repairs, p)
	}
	if r.IntN(2) == 0 {
		m.Record = &Record{
			Kind: RecordKind(1 + r.IntN(3)), File: m.File, Region: m.Region, First: m.First, Count: r.Uint32(), Version: v(), Digest: Digest{3},
			Watermark: v(), Installed: r.IntN(2) == 0, Shard: blocktree.ShardIndex(r.IntN(20)), ShardBytes: r.Uint32(),
			Payload: bytesOf(r.IntN(5)), Seals: bytesOf(r.IntN(5)), Control: bytesOf(r.IntN(5)),
		}
	}
	return m
}

func TestMessageCodec(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var room Room // used again and again
	for range 3000 {
		m := randomMessage(r)
		h, b := joined(m)
		header, body := room.Encode(m)
		if !bytes.Equal(header, h) || !bytes.Equal(bytes.Join(body, nil), b) {
			t.Fatalf("%+v is encoded otherwise into a room", m)
		}
		if room.Clear(); cap(body) == bodyPartsMax && slices.ContainsFunc(body, func(part []byte) bool { return part != nil }) {
			t.Fatal("a room that was cleared holds what it had")
		}
		if len(h) > blocktree.FrameHeaderBytesMax {
			t.Fatalf("header of %d bytes", len(h))
		}
		got, err := DecodeMessage(h, b)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Fatalf("%v\n%+v\n%+v", err, m, got)
		}
		if _, err := DecodeMessage(h[:len(h)-1], b); err == nil {
			t.Fatal("a header that is cut short decodes")
		}
		if _, err := DecodeMessage(h, append(b, 0)); err == nil {
			t.Fatal("a body with a byte too many decodes")
		}
	}
	h, b := joined(&Message{Kind: KindLearn})
	h[0]++
	if _, err := DecodeMessage(h, b); blocktree.KindOf(err) != blocktree.NewerFormat {
		t.Errorf("a newer format gives %v", err)
	}
}

func FuzzDecodeMessage(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		h, b := joined(randomMessage(r))
		f.Add(h, b)
	}
	f.Fuzz(func(t *testing.T, header, body []byte) {
		m, err := DecodeMessage(header, body)
		if err != nil {
			return
		}
		h, b := joined(m)
		again, err := DecodeMessage(h, b)
		if err != nil || !reflect.DeepEqual(m, again) {
			t.Fatalf("%v\n%+v\n%+v", err, m, again)
		}
	})
}

func FuzzDecodeControl(f *testing.F) {
	c := control{kind: ctlRepair, epoch: 3, seq: 4, last: true, repairs: []Repair{{Region: 1, Winners: []blocktree.Version{{Epoch: 1, Sequence: 2}}}}}
	f.Add(c.encode())
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := decodeControl(in)
		if err == nil && !bytes.Equal(c.encode(), in) {
			t.Fatalf("encode(decode(x)) is not x for %x", in)
		}
	})
}

func FuzzRestoreMember(f *testing.F) {
	w := newWorld(blocktree.Code{Data: 2, Parity: 1}, 1, "")
	for range 600 {
		w.step()
	}
	f.Add(w.nodes[0].m.Snapshot())
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := RestoreMember(1, blocktree.Incarnation{}, in)
		if err != nil {
			return
		}
		b := m.Snapshot()
		again, err := RestoreMember(1, blocktree.Incarnation{}, b)
		if err != nil || !bytes.Equal(again.Snapshot(), b) {
			t.Fatalf("a snapshot does not come back: %v", err)
		}
	})
}

// TestPayloadIsFirst: the payload of a message's record is where its body begins, so that a store writes it from there (docs/design/0053).
func TestPayloadIsFirst(t *testing.T) {
	h, b := joined(&Message{Kind: KindPrepare, ID: 7, Record: &Record{Kind: RecordData, Count: 1, ShardBytes: 2048, Payload: make([]byte, 2048), Seals: make([]byte, SealBytes)}})
	m, err := DecodeMessage(h, b)
	if err != nil || &m.Record.Payload[0] != &b[0] {
		t.Errorf("the payload begins elsewhere than the body: %v", err)
	}
}

// TestEncodeAllocates: a message costs one piece of memory, and one for lists too long for a header; those that every read's answer has are not.
func TestEncodeAllocates(t *testing.T) {
	for name, m := range map[string]*Message{
		"answer":  {Kind: KindPrepare, Answer: true, ID: 7},
		"prepare": {Kind: KindPrepare, ID: 7, Record: &Record{Kind: RecordData, Count: 1, ShardBytes: 2048, Payload: make([]byte, 2048), Seals: make([]byte, SealBytes)}},
		"read":    {Kind: KindRead, Answer: true, ID: 7, Extents: make([]Extent, 1), Payload: make([]byte, 2048), Seals: make([]byte, SealBytes)},
	} {
		if n := testing.AllocsPerRun(100, func() { EncodeMessage(m) }); n > 1 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
