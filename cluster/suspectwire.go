package cluster

import (
	"hash/crc32"
	"time"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/internal/vfs"
	"blocktree/internal/wire"
)

const (
	suspectFormat = 1
	suspectFile   = "suspects" // beside the sectors
	// suspectBytesMax is more than two full tables have.
	suspectBytesMax = 512 << 10
	// hintsMax bounds the hints of one message.
	hintsMax = 64
)

func encodeHints(hs []hint) []byte {
	var e wire.Encoder
	e.U8(suspectFormat)
	e.U32(uint32(len(hs)))
	for _, h := range hs {
		e.U64(uint64(h.node))
		e.U8(uint8(h.kind))
		e.File(h.file)
		e.U64(uint64(h.first))
		e.U8(uint8(h.parity))
		e.U64(h.times)
	}
	return e.Buf
}

func decodeHints(b []byte) (hs []hint, err error) {
	d := wire.NewDecoder(b)
	d.Format(suspectFormat)
	for n := d.Count(hintsMax); n > 0 && d.Err() == nil; n-- {
		h := hint{suspectKey{blocktree.NodeID(d.U64()), decodeSuspectKind(d)}, d.File(), blocktree.SectorIndex(d.U64()), int(d.U8()), d.U64()}
		hs = append(hs, h)
	}
	return hs, d.Finish()
}

func decodeSuspectKind(d *wire.Decoder) stripe.SuspectKind {
	k := stripe.SuspectKind(d.U8())
	if k == 0 || k >= stripe.SuspectKindEnd {
		d.Fail(blocktree.E("suspects: kind", blocktree.Corrupt, nil))
	}
	return k
}

func encodeSuspicions(e *wire.Encoder, xs []suspicion) {
	e.U32(uint32(len(xs)))
	for _, x := range xs {
		e.U64(uint64(x.node))
		e.U8(uint8(x.kind))
		e.U64(x.count)
		e.U64(uint64(x.first.Unix()))
		e.U64(uint64(x.last.Unix()))
		e.File(x.file)
		e.U64(uint64(x.sector))
		e.U8(uint8(x.parity))
		e.U8(uint8(len(x.tellers)))
		for _, p := range x.tellers {
			e.Raw(p[:])
		}
	}
}

func decodeSuspicions(d *wire.Decoder) (xs []suspicion) {
	for n := d.Count(suspectsMax); n > 0 && d.Err() == nil; n-- {
		x := suspicion{suspectKey: suspectKey{blocktree.NodeID(d.U64()), decodeSuspectKind(d)}, count: d.U64(), first: time.Unix(int64(d.U64()), 0),
			last: time.Unix(int64(d.U64()), 0), file: d.File(), sector: blocktree.SectorIndex(d.U64()), parity: int(d.U8())}
		tellers := int(d.U8())
		if tellers > tellersMax {
			d.Fail(blocktree.E("suspects: tellers", blocktree.Corrupt, nil))
		}
		for ; tellers > 0 && d.Err() == nil; tellers-- {
			if p := d.Raw(len(blocktree.Principal{})); p != nil {
				x.tellers = append(x.tellers, blocktree.Principal(p))
			}
		}
		xs = append(xs, x)
	}
	return xs
}

// encodeSuspects is what a node answers, and keeps on its disk with a checksum behind it.
func encodeSuspects(own, told []suspicion) []byte {
	var e wire.Encoder
	e.U8(suspectFormat)
	encodeSuspicions(&e, own)
	encodeSuspicions(&e, told)
	return e.Buf
}

func decodeSuspects(b []byte) (own, told []suspicion, err error) {
	d := wire.NewDecoder(b)
	d.Format(suspectFormat)
	own, told = decodeSuspicions(d), decodeSuspicions(d)
	return own, told, d.Finish()
}

// load reads what an earlier start has written; what is not there or damaged is nothing: it is seen again.
func (s *suspects) load(disk vfs.FS, dir string) {
	b, err := readSmallFile(disk, dir, suspectFile, suspectBytesMax)
	if err != nil || len(b) < 4 {
		return
	}
	d := wire.NewDecoder(b[len(b)-4:])
	if b = b[:len(b)-4]; d.U32() != crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) {
		return
	}
	own, told, err := decodeSuspects(b)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range own {
		s.own = append(s.own, &own[i])
	}
	for i := range told {
		s.told = append(s.told, &told[i])
	}
}

// save writes down what is known, if there is news. It is not synced.
func (s *suspects) save(disk vfs.FS, dir string) error {
	s.mu.Lock()
	dirty := s.dirty
	s.dirty = false
	s.mu.Unlock()
	if !dirty {
		return nil
	}
	e := wire.Encoder{Buf: encodeSuspects(s.all())}
	e.U32(crc32.Checksum(e.Buf, crc32.MakeTable(crc32.Castagnoli)))
	return replaceFile(disk, dir, suspectFile, e.Buf, false)
}
