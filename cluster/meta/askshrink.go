package meta

import (
	"blocktree"
	"blocktree/internal/wire"
)

// AskShrink asks the holder of a file, under Epoch, to make it smaller (docs/design/0047); SizeBytes 0: no longer. It is noted on the lease, and goes with that, or with any Resize. With Session, the
// holder's, it says that the holder works at what it was asked for. Without, Seq is that of the layout which it was asked by: no copy of it does anything after a Resize, and the file has grown again, maybe to what it had. NotFound (no such file; of the holder's: nobody asks for that size), Invalid (no such size, or no smaller one), Unsupported (of integrity tree: see AskShrinkTree), Fenced (the lease is
// not held so), StaleView (another Seq), Exists (the holder works at it already).
type AskShrink struct {
	File      blocktree.FileID
	Epoch     blocktree.Epoch
	SizeBytes uint64
	Session   SessionID
	Seq       blocktree.ViewID // of who asks
}

// AskShrinkTree is AskShrink of a file of integrity tree (docs/design/0074). Unsupported: it is no such file, or the pages of one.
type AskShrinkTree struct{ AskShrink }

func (AskShrink) opcode() opcode     { return opAskShrink }
func (AskShrinkTree) opcode() opcode { return opAskShrinkTree }

func putAskShrink(e *wire.Encoder, o *AskShrink) {
	e.File(o.File)
	e.U64(uint64(o.Epoch))
	e.U64(o.SizeBytes)
	e.Raw(o.Session[:])
	e.U64(uint64(o.Seq))
}

func getAskShrink(d *wire.Decoder) AskShrink {
	return AskShrink{File: d.File(), Epoch: blocktree.Epoch(d.U64()), SizeBytes: d.U64(), Session: get16(d), Seq: blocktree.ViewID(d.U64())}
}

// shrinkAsk is what is noted of an ask.
type shrinkAsk struct {
	sizeBytes uint64
	heard     bool // the holder works at it
}

func putShrinkAsk(e *wire.Encoder, a *shrinkAsk) {
	e.U64(a.sizeBytes)
	e.Bool(a.heard)
}

func getShrinkAsk(d *wire.Decoder) *shrinkAsk {
	return &shrinkAsk{sizeBytes: d.U64(), heard: d.Bool()}
}

// askShrink notes what is asked of the holder of a file of an integrity.
func (s *state) askShrink(o AskShrink, of Integrity) Result {
	i, l, held := s.inode(o.File), s.layout(o.File), s.lease(o.File)
	if i == nil || l == nil {
		return refuse(blocktree.NotFound, "no file %v", o.File)
	}
	key, sector := inodeRest(o.File.Inode), uint64(l.SectorBytes)
	asked := value(s, kindShrink, key, getShrinkAsk)
	switch {
	case i.Integrity != of && of == IntegritySector:
		return refuse(blocktree.Unsupported, "it is a file of integrity tree, or the pages of one").hinted("it is made smaller by who reads it, while nobody else has it open")
	case i.Integrity != of:
		return refuse(blocktree.Unsupported, "it is no file of integrity tree")
	case held == nil || held.Epoch != o.Epoch || o.Session != (SessionID{}) && o.Session != held.Session:
		r := refuse(blocktree.Fenced, "the lease is not held under epoch %d", o.Epoch)
		r.Lease = held
		return r
	case o.SizeBytes == 0 && o.Session == (SessionID{}):
		s.del(kindShrink, key)
		return Result{Lease: held}
	case o.SizeBytes == 0 || o.SizeBytes%sector != 0 || o.SizeBytes/sector >= l.Size():
		return refuse(blocktree.Invalid, "a size of %d bytes", o.SizeBytes).hinted("a multiple of the sector's %d bytes, not zero, and less than the %d that it has", sector, i.SizeBytes)
	case o.Session == (SessionID{}) && o.Seq != l.Seq:
		return refuse(blocktree.StaleView, "view %d, now %d", o.Seq, l.Seq)
	case o.Session != (SessionID{}) && (asked == nil || asked.sizeBytes != o.SizeBytes):
		return refuse(blocktree.NotFound, "nobody asks for %d bytes", o.SizeBytes)
	case asked != nil && asked.sizeBytes == o.SizeBytes && asked.heard:
		return refuse(blocktree.Exists, "its holder makes it smaller")
	}
	store(s, kindShrink, key, &shrinkAsk{sizeBytes: o.SizeBytes, heard: o.Session != (SessionID{})}, putShrinkAsk)
	return Result{Lease: held}
}

// shrinkAsked answers QueryShrink. Only the size is another one, and what may not be longer than that.
func (s *state) shrinkAsked(f blocktree.FileID) (*Inode, *Lease, Result) {
	i, held := s.inode(f), s.lease(f)
	asked := value(s, kindShrink, inodeRest(f.Inode), getShrinkAsk)
	if i == nil || held == nil || asked == nil {
		return nil, nil, refuse(blocktree.NotFound, "nobody asks for a smaller %v", f)
	}
	i.SizeBytes, i.Access = asked.sizeBytes, nil
	i.LengthBytes = min(i.LengthBytes, i.SizeBytes)
	return i, held, Result{}
}
