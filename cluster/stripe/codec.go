package stripe

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"blocktree"
	"blocktree/internal/wire"
)

// messageFormat is the version of a Message's encoding.
const messageFormat = 2

// Header flags of a message.
const (
	flagAnswer = 1 << iota
	flagLast
	flagHeld
	flagRecord
	flagListsInBody // the lists would make the header too long
	flagsAll        = 1<<iota - 1
)

// listsInHeaderMax is how long encoded lists may be and still travel in the header.
const listsInHeaderMax = 3 << 10

// Bounds of lists; fenceEntriesMax regions may each have up to InFlightMax extents.
const (
	extentsMax     = blocktree.RunSectorsMax + InFlightMax + ExtentsMax
	extentBytes    = 8 + 4 + 16 + 1 + 1 + 16
	regionMinBytes = 4 + 16 + 4
)

// headerRoom is what most headers need, bodyPartsMax how many parts a body can have.
const (
	headerRoom   = 320
	bodyPartsMax = 6
)

// Room is the memory of a message with a body, in one piece. Who encodes many keeps some.
type Room struct {
	header [headerRoom]byte
	body   [bodyPartsMax][]byte
}

// Encode is EncodeMessage into r, which is the caller's again when neither header nor body is used any more.
func (r *Room) Encode(m *Message) (header []byte, body [][]byte) {
	return encode(m, r.header[:0], r.body[:0])
}

// Clear forgets the message, which body aliased.
func (r *Room) Clear() { clear(r.body[:]) }

// EncodeMessage gives the wire form of m: a header of at most FrameHeaderBytesMax, and body parts that alias m.
func EncodeMessage(m *Message) (header []byte, body [][]byte) {
	if m.Record == nil && len(m.Payload)+len(m.Seals) == 0 {
		return encode(m, make([]byte, 0, headerRoom), nil)
	}
	return new(Room).Encode(m)
}

// encode encodes m behind header, and puts what has no place there into parts.
func encode(m *Message, header []byte, parts [][]byte) ([]byte, [][]byte) {
	e, body := wire.Encoder{Buf: header}, parts[:0]
	if m.Record == nil && len(m.Payload)+len(m.Seals) == 0 {
		body = nil
	}
	flags := uint8(0)
	for i, b := range [...]bool{m.Answer, m.Last, m.Held, m.Record != nil} {
		if b {
			flags |= 1 << i
		}
	}
	e.U8(messageFormat)
	e.U8(uint8(m.Kind))
	e.U8(flags)
	e.U8(uint8(m.Want))
	e.U8(uint8(m.Err))
	e.U64(m.ID)
	e.U64(uint64(m.Node))
	e.File(m.File)
	e.U32(uint32(m.Region))
	e.U64(uint64(m.Epoch))
	e.U64(uint64(m.View))
	e.U64(uint64(m.Seq))
	e.Raw(m.Incarnation[:])
	e.Version(m.Watermark)
	e.Version(m.Version)
	e.U64(uint64(m.First))
	e.U64(m.Count)
	e.U64(uint64(m.Next))
	e.U32(uint32(len(m.Payload)))
	e.U32(uint32(len(m.Seals)))
	if r := m.Record; r != nil {
		encodeRecord(&e, r)
		body = append(body, r.Payload, r.Seals, r.Control)
	}
	if lists := encodeLists(&e, m); lists != nil {
		e.Buf[flagsAt] |= flagListsInBody
		body = append(body, lists)
	}
	if body != nil {
		body = append(body, m.Payload, m.Seals)
	}
	return e.Buf, body
}

// flagsAt is the place of the flags in a header.
const flagsAt = 2

// encodeLists appends the length of the three lists and, where they are short, themselves; else it returns them.
func encodeLists(e *wire.Encoder, m *Message) []byte {
	e.U32(0)
	at := len(e.Buf)
	if len(m.Extents)+len(m.Regions)+len(m.Repairs) == 0 {
		return nil
	}
	encodeExtents(e, m.Extents)
	encodeStates(e, m.Regions)
	encodeRepairs(e, m.Repairs)
	n := len(e.Buf) - at
	binary.BigEndian.PutUint32(e.Buf[at-4:], uint32(n))
	if n <= listsInHeaderMax {
		return nil
	}
	lists := bytes.Clone(e.Buf[at:])
	e.Buf = e.Buf[:at]
	return lists
}

// DecodeMessage reads what EncodeMessage made; the message aliases header and body.
func DecodeMessage(header, body []byte) (*Message, error) {
	m := newMessage(len(header) > flagsAt && header[flagsAt]&flagRecord != 0)
	if err := DecodeInto(m, header, body); err != nil {
		return nil, err
	}
	return m, nil
}

// DecodeInto is DecodeMessage into a zero message; after an error what is in it means nothing.
func DecodeInto(m *Message, header, body []byte) error {
	d, b := wire.NewDecoder(header), wire.NewDecoder(body)
	d.Format(messageFormat)
	m.Kind = MessageKind(d.U8())
	flags := d.U8()
	m.Want = Want(d.U8())
	m.Err = blocktree.Kind(d.U8())
	m.ID = d.U64()
	m.Node = blocktree.NodeID(d.U64())
	m.File = d.File()
	m.Region = blocktree.RegionIndex(d.U32())
	m.Epoch = blocktree.Epoch(d.U64())
	m.View = blocktree.ViewID(d.U64())
	m.Seq = blocktree.ViewID(d.U64())
	copy(m.Incarnation[:], d.Raw(len(m.Incarnation)))
	m.Watermark = d.Version()
	m.Version = d.Version()
	m.First = blocktree.SectorIndex(d.U64())
	m.Count = d.U64()
	m.Next = blocktree.SectorIndex(d.U64())
	payload, seals := d.U32(), d.U32()
	m.Answer, m.Last, m.Held = flags&flagAnswer != 0, flags&flagLast != 0, flags&flagHeld != 0
	if flags&flagRecord != 0 {
		if m.Record == nil {
			m.Record = new(Record)
		}
		decodeRecord(m.Record, d, b)
	}
	if n := int(d.U32()); n == 0 && flags&flagListsInBody == 0 {
		// no lists
	} else if flags&flagListsInBody == 0 {
		decodeLists(m, d.Raw(n), d)
	} else if n <= listsInHeaderMax {
		d.Fail(blocktree.E("decode message", blocktree.Invalid, fmt.Errorf("short lists in the body")))
	} else {
		decodeLists(m, b.Raw(n), d)
	}
	m.Payload, m.Seals = rawOrNil(b, payload), rawOrNil(b, seals)
	if m.Kind == 0 || flags > flagsAll {
		d.Fail(blocktree.E("decode message", blocktree.Invalid, fmt.Errorf("kind %d, flags %x", m.Kind, flags)))
	}
	if err := d.Finish(); err != nil {
		return err
	}
	if err := b.Finish(); err != nil {
		return err
	}
	if !m.Err.Valid() {
		m.Err = blocktree.IO // a kind of a newer version is a failure that this one has no word for
	}
	return nil
}

// newMessage makes a message, with its record in one piece.
func newMessage(record bool) *Message {
	if !record {
		return new(Message)
	}
	all := new(struct {
		m Message
		r Record
	})
	all.m.Record = &all.r
	return &all.m
}

func rawOrNil(d *wire.Decoder, n uint32) []byte {
	if n == 0 {
		return nil
	}
	return d.Raw(int(n))
}

func encodeRecord(e *wire.Encoder, r *Record) {
	e.U8(uint8(r.Kind))
	e.Bool(r.Installed)
	e.U8(uint8(r.Shard))
	e.File(r.File)
	e.U32(uint32(r.Region))
	e.U64(uint64(r.First))
	e.U32(r.Count)
	e.Version(r.Version)
	e.Raw(r.Digest[:])
	e.Version(r.Watermark)
	e.U32(r.ShardBytes)
	e.U32(uint32(len(r.Payload)))
	e.U32(uint32(len(r.Seals)))
	e.U32(uint32(len(r.Control)))
}

func decodeRecord(r *Record, d, body *wire.Decoder) {
	r.Kind, r.Installed, r.Shard = RecordKind(d.U8()), d.Bool(), blocktree.ShardIndex(d.U8())
	r.File = d.File()
	r.Region = blocktree.RegionIndex(d.U32())
	r.First = blocktree.SectorIndex(d.U64())
	r.Count = d.U32()
	r.Version = d.Version()
	copy(r.Digest[:], d.Raw(len(r.Digest)))
	r.Watermark = d.Version()
	r.ShardBytes = d.U32()
	payload, seals, control := d.U32(), d.U32(), d.U32()
	r.Payload, r.Seals, r.Control = rawOrNil(body, payload), rawOrNil(body, seals), rawOrNil(body, control)
}

func encodeExtents(e *wire.Encoder, xs []Extent) {
	e.U32(uint32(len(xs)))
	for i := range xs {
		x := &xs[i]
		e.U64(uint64(x.First))
		e.U32(x.Count)
		e.Version(x.Version)
		e.U8(uint8(x.Kind))
		e.Bool(x.Pending)
		e.Raw(x.Digest[:])
	}
}

func decodeExtents(d *wire.Decoder) []Extent {
	n := d.Count(min(extentsMax, d.Len()/extentBytes))
	if n == 0 {
		return nil
	}
	xs := make([]Extent, n)
	for i := range xs {
		x := &xs[i]
		x.First = blocktree.SectorIndex(d.U64())
		x.Count = d.U32()
		x.Version = d.Version()
		x.Kind = ExtentKind(d.U8())
		x.Pending = d.Bool()
		copy(x.Digest[:], d.Raw(len(x.Digest)))
	}
	return xs
}

func encodeStates(e *wire.Encoder, rs []RegionState) {
	e.U32(uint32(len(rs)))
	for _, r := range rs {
		e.U32(uint32(r.Region))
		e.Version(r.Watermark)
		encodeExtents(e, r.Pending)
	}
}

// decodeLists reads the three lists out of b; failures go to report.
func decodeLists(m *Message, b []byte, report *wire.Decoder) {
	d := wire.NewDecoder(b)
	m.Extents = decodeExtents(d)
	if n := d.Count(min(fenceEntriesMax+1, d.Len()/regionMinBytes)); n > 0 {
		m.Regions = make([]RegionState, 0, n)
		for range n {
			m.Regions = append(m.Regions, RegionState{Region: blocktree.RegionIndex(d.U32()), Watermark: d.Version(), Pending: decodeExtents(d)})
		}
	}
	m.Repairs = decodeRepairs(d)
	if err := d.Finish(); err != nil {
		report.Fail(err)
	}
}
