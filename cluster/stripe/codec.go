package stripe

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

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

// EncodeMessage gives the wire form of m: a header of at most FrameHeaderBytesMax, and body parts that alias m.
func EncodeMessage(m *Message) (header []byte, body [][]byte) {
	e := wire.Encoder{Buf: make([]byte, 0, 320)}
	var lists wire.Encoder
	if len(m.Extents)+len(m.Regions)+len(m.Repairs) > 0 {
		encodeExtents(&lists, m.Extents)
		encodeStates(&lists, m.Regions)
		encodeRepairs(&lists, m.Repairs)
	}
	flags := uint8(0)
	for i, b := range [...]bool{m.Answer, m.Last, m.Held, m.Record != nil, len(lists.Buf) > listsInHeaderMax} {
		if b {
			flags |= 1 << i
		}
	}
	body = make([][]byte, 0, 6)
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
	e.U32(uint32(len(lists.Buf)))
	if flags&flagListsInBody != 0 {
		body = append(body, lists.Buf)
	} else {
		e.Raw(lists.Buf)
	}
	return e.Buf, append(body, m.Payload, m.Seals)
}

// DecodeMessage reads what EncodeMessage made; the message aliases header and body.
func DecodeMessage(header, body []byte) (*Message, error) {
	d, b := wire.NewDecoder(header), wire.NewDecoder(body)
	d.Format(messageFormat)
	m := &Message{Kind: MessageKind(d.U8())}
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
		m.Record = decodeRecord(d, b)
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
		return nil, err
	}
	if err := b.Finish(); err != nil {
		return nil, err
	}
	if !m.Err.Valid() {
		m.Err = blocktree.IO // a kind of a newer version is a failure that this one has no word for
	}
	return m, nil
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

func decodeRecord(d, body *wire.Decoder) *Record {
	r := &Record{Kind: RecordKind(d.U8()), Installed: d.Bool(), Shard: blocktree.ShardIndex(d.U8())}
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
	return r
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

// The versions of a Layout's encoding. The second ends with HashedAs, the third with that and the heirs; each is written only
// where that says something. The fourth ends with both and with what a file of durability flush has, and is written of such files only.
const (
	layoutFormat       = 1
	layoutFormatHashed = 2
	layoutFormatMoving = 3
	layoutFormatFlush  = 4
)

// hostsMax bounds the hosts of a file: the sector hosts of one cluster.
const hostsMax = 1 << 16

// EncodeLayout gives l's one encoding: maps in ascending order.
func EncodeLayout(l *Layout) []byte {
	e := wire.Encoder{Buf: make([]byte, 0, 256)}
	e.U8(layoutFormat)
	moves := moving(l)
	switch {
	case len(moves) > 0:
		e.Buf[0] = layoutFormatMoving
	case len(l.HashedAs) > 0:
		e.Buf[0] = layoutFormatHashed
	}
	if l.Durability == DurabilityFlush {
		e.Buf[0] = layoutFormatFlush
	}
	e.File(l.File)
	e.U8(uint8(l.Code.Data))
	e.U8(uint8(l.Code.Parity))
	e.U32(l.SectorBytes)
	e.U64(l.RegionSectors)
	e.U64(l.Sectors)
	e.U64(uint64(l.Epoch))
	e.U64(uint64(l.Seq))
	e.U64(uint64(l.BaseID))
	encodeNodes(&e, l.Hosts)
	encodeIncarnations(&e, l.Incarnations)
	encodeNodes(&e, trueKeys(l.Marked))
	encodeNodes(&e, trueKeys(l.BaseOut))
	e.U32(uint32(len(l.Own)))
	for _, r := range slices.Sorted(maps.Keys(l.Own)) {
		v := l.Own[r]
		e.U32(uint32(r))
		e.U64(uint64(v.ID))
		e.U8(uint8(len(v.Members)))
		for _, m := range v.Members {
			e.U64(uint64(m.Node))
			e.U8(uint8(m.State))
		}
	}
	if e.Buf[0] >= layoutFormatHashed {
		e.U32(uint32(len(l.HashedAs)))
		for _, n := range slices.Sorted(maps.Keys(l.HashedAs)) {
			e.U64(uint64(n))
			e.U64(uint64(l.HashedAs[n]))
		}
	}
	if e.Buf[0] >= layoutFormatMoving {
		e.U32(uint32(len(moves)))
		for _, r := range moves {
			e.U32(uint32(r))
			e.U64(uint64(l.Own[r].Heir))
			e.U8(uint8(l.Own[r].HeirPlace))
		}
	}
	if l.Durability == DurabilityFlush {
		encodeIncarnations(&e, l.Back)
		e.U64(l.Loss)
		e.U64(uint64(l.LossEpoch))
	}
	return e.Buf
}

// moving lists the regions that have an heir, ascending.
func moving(l *Layout) (rs []blocktree.RegionIndex) {
	for r, v := range l.Own {
		if v.Heir != 0 {
			rs = append(rs, r)
		}
	}
	slices.Sort(rs)
	return rs
}

func encodeIncarnations(e *wire.Encoder, of map[blocktree.NodeID]blocktree.Incarnation) {
	e.U32(uint32(len(of)))
	for _, n := range slices.Sorted(maps.Keys(of)) {
		inc := of[n]
		e.U64(uint64(n))
		e.Raw(inc[:])
	}
}

func decodeIncarnations(d *wire.Decoder) map[blocktree.NodeID]blocktree.Incarnation {
	n := d.Count(min(hostsMax, d.Len()/24))
	of := make(map[blocktree.NodeID]blocktree.Incarnation, n)
	keys := make([]blocktree.NodeID, 0, n)
	for range n {
		node := blocktree.NodeID(d.U64())
		var inc blocktree.Incarnation
		copy(inc[:], d.Raw(len(inc)))
		of[node] = inc
		keys = append(keys, node)
	}
	ascending(d, keys)
	return of
}

func trueKeys(s map[blocktree.NodeID]bool) []blocktree.NodeID {
	var out []blocktree.NodeID
	for n, in := range s {
		if in {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

func encodeNodes(e *wire.Encoder, ns []blocktree.NodeID) {
	e.U32(uint32(len(ns)))
	for _, n := range ns {
		e.U64(uint64(n))
	}
}

func decodeNodes(d *wire.Decoder) []blocktree.NodeID {
	n := d.Count(min(hostsMax, d.Len()/8))
	out := make([]blocktree.NodeID, 0, n)
	for range n {
		out = append(out, blocktree.NodeID(d.U64()))
	}
	return out
}

// ascending fails the decoder unless the keys of a map came in their one order.
func ascending[K cmp.Ordered](d *wire.Decoder, keys []K) {
	for i := 1; i < len(keys); i++ {
		if keys[i-1] >= keys[i] {
			d.Fail(blocktree.E("decode layout", blocktree.Invalid, fmt.Errorf("keys out of order")))
		}
	}
}

func nodeSet(d *wire.Decoder) map[blocktree.NodeID]bool {
	ns := decodeNodes(d)
	ascending(d, ns)
	s := make(map[blocktree.NodeID]bool, len(ns))
	for _, n := range ns {
		s[n] = true
	}
	return s
}

// DecodeLayout reads what EncodeLayout made. It refuses sizes and codes that would make the machines divide by zero.
func DecodeLayout(b []byte) (*Layout, error) {
	d := wire.NewDecoder(b)
	format := uint8(layoutFormat)
	if len(b) > 0 && b[0] > layoutFormat && b[0] <= layoutFormatFlush {
		format = b[0]
		d.U8()
	} else {
		d.Format(layoutFormat)
	}
	l := &Layout{File: d.File()}
	l.Code = blocktree.Code{Data: int(d.U8()), Parity: int(d.U8())}
	l.SectorBytes = d.U32()
	l.RegionSectors = d.U64()
	l.Sectors = d.U64()
	l.Epoch = blocktree.Epoch(d.U64())
	l.Seq = blocktree.ViewID(d.U64())
	l.BaseID = blocktree.ViewID(d.U64())
	l.Hosts = decodeNodes(d)
	l.Incarnations = decodeIncarnations(d)
	l.Marked = nodeSet(d)
	l.BaseOut = nodeSet(d)
	l.Own = decodeOwn(d)
	if format >= layoutFormatHashed {
		l.HashedAs = decodeHashed(d, format == layoutFormatHashed)
	}
	if format >= layoutFormatMoving {
		decodeHeirs(d, l.Own, format == layoutFormatMoving)
	}
	if format == layoutFormatFlush {
		l.Durability, l.Back, l.Loss, l.LossEpoch = DurabilityFlush, decodeIncarnations(d), d.U64(), blocktree.Epoch(d.U64())
	}
	if d.Err() == nil && (l.Code.Validate() != nil || l.RegionSectors == 0 || l.Sectors > 1<<62 ||
		l.RegionSectors > 1<<40 || (l.Sectors+l.RegionSectors-1)/l.RegionSectors > blocktree.RegionsMax) {
		d.Fail(blocktree.E("decode layout", blocktree.Invalid, fmt.Errorf("code %v, %d sectors, %d a region", l.Code, l.Sectors, l.RegionSectors)))
	}
	for _, v := range l.Own {
		if len(v.Members) != l.Code.Shards() {
			d.Fail(blocktree.E("decode layout", blocktree.Invalid, fmt.Errorf("a view of %d members for code %v", len(v.Members), l.Code)))
		}
	}
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return l, nil
}

func decodeOwn(d *wire.Decoder) map[blocktree.RegionIndex]View {
	n := d.Count(min(blocktree.RegionsMax, d.Len()/13))
	own := make(map[blocktree.RegionIndex]View, n)
	keys := make([]blocktree.RegionIndex, 0, n)
	for range n {
		r := blocktree.RegionIndex(d.U32())
		v := View{ID: blocktree.ViewID(d.U64())}
		if k := int(d.U8()); d.Err() == nil {
			v.Members = make([]ViewMember, k)
			for i := range v.Members {
				v.Members[i] = ViewMember{Node: blocktree.NodeID(d.U64()), State: MemberState(d.U8())}
				if v.Members[i].State > Joining {
					d.Fail(blocktree.E("decode layout", blocktree.Invalid, fmt.Errorf("member state %d", v.Members[i].State)))
				}
			}
		}
		own[r] = v
		keys = append(keys, r)
	}
	ascending(d, keys)
	return own
}

// decodeHeirs reads the heirs. Where they are what a format adds, there are some.
func decodeHeirs(d *wire.Decoder, own map[blocktree.RegionIndex]View, some bool) {
	n := d.Count(min(blocktree.RegionsMax, d.Len()/13))
	keys := make([]blocktree.RegionIndex, 0, n)
	for range n {
		r := blocktree.RegionIndex(d.U32())
		heir, place := blocktree.NodeID(d.U64()), blocktree.ShardIndex(d.U8())
		v, ok := own[r]
		if d.Err() == nil && (!ok || heir == 0 || v.has(heir) || int(place) >= len(v.Members) || v.Members[place].State != InSync) {
			d.Fail(blocktree.E("decode layout", blocktree.Invalid, fmt.Errorf("heir %v in region %d", heir, r)))
			return
		}
		v.Heir, v.HeirPlace = heir, place
		own[r] = v
		keys = append(keys, r)
	}
	ascending(d, keys)
	if n == 0 && some {
		d.Fail(blocktree.E("decode layout", blocktree.Invalid, fmt.Errorf("no region has an heir")))
	}
}

// decodeHashed reads HashedAs. Where it is all that a format adds, it is not empty, so that a layout has one encoding.
func decodeHashed(d *wire.Decoder, some bool) map[blocktree.NodeID]blocktree.NodeID {
	n := d.Count(min(hostsMax, d.Len()/16))
	as := make(map[blocktree.NodeID]blocktree.NodeID, n)
	keys := make([]blocktree.NodeID, 0, n)
	for range n {
		node := blocktree.NodeID(d.U64())
		as[node] = blocktree.NodeID(d.U64())
		keys = append(keys, node)
	}
	ascending(d, keys)
	if n == 0 && some {
		d.Fail(blocktree.E("decode layout", blocktree.Invalid, fmt.Errorf("no host is hashed as another")))
	}
	if n == 0 {
		return nil
	}
	return as
}
