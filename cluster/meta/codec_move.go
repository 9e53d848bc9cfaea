package meta

import (
	"blocktree"
	"blocktree/internal/wire"
)

// putMoveOp writes the fields of an op of a move.
func putMoveOp(e *wire.Encoder, o Op) {
	switch o := o.(type) {
	case BeginMove:
		putCreateTreeFile(e, &o.CreateTreeFile)
		e.File(o.From)
	case DropCopy:
		e.File(o.File)
	case Depart:
		e.Raw(o.Session[:])
		e.File(o.File)
		e.U64(uint64(o.Epoch))
		e.File(o.To)
		e.U64(uint64(o.CopyEpoch))
	case Stay:
		e.File(o.File)
		e.File(o.To)
		e.U64(uint64(o.Epoch))
	case Adopt:
		putAdopt(e, &o)
	case RemoveLeft:
		e.File(o.File)
		e.File(o.To)
	case EndMove:
		e.File(o.File)
	default:
		putAttrOp(e, o)
	}
}

// getMoveOp reads what putMoveOp wrote.
func getMoveOp(d *wire.Decoder, code opcode) Op {
	epoch := func() blocktree.Epoch { return blocktree.Epoch(d.U64()) }
	switch code {
	case opBeginMove:
		return BeginMove{getCreateTreeFile(d), d.File()}
	case opDropCopy:
		return DropCopy{d.File()}
	case opDepart:
		return Depart{get16(d), d.File(), epoch(), d.File(), epoch()}
	case opStay:
		return Stay{d.File(), d.File(), epoch()}
	case opAdopt:
		return getAdopt(d)
	case opRemoveLeft:
		return RemoveLeft{d.File(), d.File()}
	}
	return EndMove{d.File()}
}

func putAdopt(e *wire.Encoder, o *Adopt) {
	e.Raw(o.Session[:])
	e.File(o.File)
	e.U64(uint64(o.Epoch))
	e.File(o.From)
	putPath(e, o.Path)
	e.U32(o.Mode)
	e.U32(o.UID)
	e.U32(o.GID)
	e.U64(uint64(o.Created))
	e.U64(uint64(o.Modified))
	e.Bool(o.HasLength)
	e.U64(o.LengthBytes)
	putGranted(e, &grantsNote{o.Grants, o.Last})
}

func getAdopt(d *wire.Decoder) Adopt {
	o := Adopt{Session: get16(d), File: d.File(), Epoch: blocktree.Epoch(d.U64()), From: d.File(), Path: getPath(d), Mode: d.U32(), UID: d.U32(), GID: d.U32(),
		Created: int64(d.U64()), Modified: int64(d.U64()), HasLength: d.Bool(), LengthBytes: d.U64()}
	a := getGranted(d)
	o.Grants, o.Last = a.grants, a.last
	return o
}

func putMove(e *wire.Encoder, m *Move) {
	e.File(m.From)
	e.File(m.To)
	putPath(e, m.Path)
	e.Bool(m.Adopted)
}

func getMovePtr(d *wire.Decoder) *Move {
	m := getMove(d)
	return &m
}

func getMove(d *wire.Decoder) Move {
	return Move{From: d.File(), To: d.File(), Path: getPath(d), Adopted: d.Bool()}
}

func putMoves(e *wire.Encoder, ms []Move) {
	e.U16(uint16(len(ms)))
	for i := range ms {
		putMove(e, &ms[i])
	}
}

func getMoves(d *wire.Decoder) (ms []Move) {
	n := int(d.U16())
	if n == 0 || n > MovesMax {
		bad(d, "no moves, or too many")
	}
	for ; n > 0 && d.Err() == nil; n-- {
		ms = append(ms, getMove(d))
	}
	return ms
}

func putLeft(e *wire.Encoder, l *left) {
	e.File(l.file)
	e.File(l.to)
	e.U64(uint64(l.copyEpoch))
}

func getLeft(d *wire.Decoder) *left {
	return &left{d.File(), d.File(), blocktree.Epoch(d.U64())}
}
