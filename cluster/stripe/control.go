package stripe

import (
	"blocktree"
	"blocktree/internal/wire"
)

// controlFormat is the version of a control record's encoding.
const controlFormat = 2

type controlKind uint8

// The control records, append-only: the number is on disk.
const (
	ctlPromise   controlKind = iota + 1 // epoch and seq of the layout are known
	ctlFence                            // epoch is promised, the file is recovering
	ctlRepair                           // repairs under epoch; last ends the recovery
	ctlAbort                            // version of region is refused for ever
	ctlReset                            // region drops what is not committed for the join seq and starts at version
	ctlWatermark                        // region's watermark is version
	ctlForget                           // region forgets what is committed, too
	ctlWhole                            // region was in sync under incarnation
	ctlEnd
)

// control is what a RecordControl says; fields that a kind does not use are zero.
type control struct {
	kind    controlKind
	epoch   blocktree.Epoch
	seq     blocktree.ViewID
	region  blocktree.RegionIndex
	version blocktree.Version
	first   blocktree.SectorIndex
	count   uint64
	last    bool
	repairs []Repair
	// incarnation is the node's.
	incarnation blocktree.Incarnation
}

// repairsMax bounds the regions, winnersMax the winners of one repair record.
const (
	repairsMax = blocktree.RegionsMax
	winnersMax = InFlightMax
)

func (c *control) encode() []byte {
	e := wire.Encoder{Buf: make([]byte, 0, 88)}
	e.U8(controlFormat)
	e.U8(uint8(c.kind))
	e.U64(uint64(c.epoch))
	e.U64(uint64(c.seq))
	e.U32(uint32(c.region))
	e.Version(c.version)
	e.U64(uint64(c.first))
	e.U64(c.count)
	e.Bool(c.last)
	e.Raw(c.incarnation[:])
	encodeRepairs(&e, c.repairs)
	return e.Buf
}

func decodeControl(b []byte) (control, error) {
	d := wire.NewDecoder(b)
	d.Format(controlFormat)
	c := control{kind: controlKind(d.U8())}
	c.epoch = blocktree.Epoch(d.U64())
	c.seq = blocktree.ViewID(d.U64())
	c.region = blocktree.RegionIndex(d.U32())
	c.version = d.Version()
	c.first = blocktree.SectorIndex(d.U64())
	c.count = d.U64()
	c.last = d.Bool()
	copy(c.incarnation[:], d.Raw(len(c.incarnation)))
	c.repairs = decodeRepairs(d)
	if d.Err() == nil && (c.kind == 0 || c.kind >= ctlEnd) {
		d.Fail(blocktree.E("decode control record", blocktree.NewerFormat, nil))
	}
	return c, d.Finish()
}

func encodeRepairs(e *wire.Encoder, rs []Repair) {
	e.U32(uint32(len(rs)))
	for _, r := range rs {
		e.U32(uint32(r.Region))
		e.Version(r.Floor)
		e.U32(uint32(len(r.Winners)))
		for _, w := range r.Winners {
			e.Version(w)
		}
	}
}

func decodeRepairs(d *wire.Decoder) []Repair {
	n := d.Count(min(repairsMax, d.Len()/24))
	if n == 0 {
		return nil
	}
	rs := make([]Repair, 0, n)
	for range n {
		r := Repair{Region: blocktree.RegionIndex(d.U32()), Floor: d.Version()}
		if k := d.Count(min(winnersMax, d.Len()/16)); k > 0 {
			r.Winners = make([]blocktree.Version, 0, k)
			for range k {
				r.Winners = append(r.Winners, d.Version())
			}
		}
		rs = append(rs, r)
	}
	return rs
}
