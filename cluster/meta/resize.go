package meta

import (
	"slices"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/crypto/tree"
	"blocktree/internal/wire"
)

// Resize gives a file another size (docs/design/0021). A larger one anybody may ask for; a smaller one the holder, by the session and the epoch of its lease, once
// what is cut is zeros. Seq is that of the layout which it was asked by, so that no copy of it does anything later. NotFound, Invalid (no such
// size, or a directory), StaleView (another Seq), Fenced (a smaller size, and the lease is not held so), Unavailable (a region would have fewer than k members in
// sync), TooLarge.
type Resize struct {
	File      blocktree.FileID
	Seq       blocktree.ViewID
	SizeBytes uint64
	Session   SessionID       // zero, and
	Epoch     blocktree.Epoch // zero, for a larger size
	Time      int64
}

// ResizeTree is Resize of a file of integrity tree, whose companion grows with it. Before a smaller size there must be a record that says so: what is asked here is only the lease. Invalid: it is no such file.
type ResizeTree struct{ Resize }

func (Resize) opcode() opcode     { return opResize }
func (ResizeTree) opcode() opcode { return opResizeTree }

func putResize(e *wire.Encoder, o *Resize) {
	e.File(o.File)
	e.U64(uint64(o.Seq))
	e.U64(o.SizeBytes)
	e.Raw(o.Session[:])
	e.U64(uint64(o.Epoch))
	e.U64(uint64(o.Time))
}

func getResize(d *wire.Decoder) Resize {
	return Resize{File: d.File(), Seq: blocktree.ViewID(d.U64()), SizeBytes: d.U64(), Session: get16(d), Epoch: blocktree.Epoch(d.U64()), Time: int64(d.U64())}
}

// resize changes the inode and the layout together, of a file of an integrity.
func (s *state) resize(o Resize, of Integrity) Result {
	i, l := s.inode(o.File), s.layout(o.File)
	if i == nil || l == nil {
		return refuse(blocktree.NotFound, "no file %v", o.File)
	}
	sector := uint64(l.SectorBytes)
	r := refuse(blocktree.StaleView, "view %d, now %d", o.Seq, l.Seq)
	switch {
	case o.SizeBytes == 0 || o.SizeBytes%sector != 0 || o.SizeBytes > blocktree.FileBytesMax:
		r = refuse(blocktree.Invalid, "a size of %d bytes", o.SizeBytes).
			hinted("a multiple of the sector's %d bytes, not zero, at most %d", sector, uint64(blocktree.FileBytesMax))
	case i.Integrity != of && of == IntegritySector:
		r = refuse(blocktree.Unsupported, "it is a file of integrity tree, or the pages of one").hinted("use a version of this software that resizes those")
	case i.Integrity != of:
		r = refuse(blocktree.Invalid, "it is no file of integrity tree")
	case o.Seq != l.Seq:
	case o.SizeBytes/sector < l.Size() && !s.heldBy(o.File, o.Session, o.Epoch):
		r = refuse(blocktree.Fenced, "the lease is not held under epoch %d", o.Epoch)
	default:
		return s.resized(o, i, l)
	}
	r.Layout = l
	return r
}

func (s *state) resized(o Resize, i *Inode, l *stripe.Layout) Result {
	next, err := l.Resize(o.SizeBytes/uint64(l.SectorBytes), s.mayServe(), func(n blocktree.NodeID) blocktree.Incarnation { return s.incarnation(n, l.Durability) })
	if err != nil {
		r := refuse(blocktree.KindOf(err), "%v", err).hinted("wait until the file's members are in sync (see btnode status)")
		r.Layout = l
		return r
	}
	if r, ok := s.growCompanion(i, o); !ok {
		return r
	}
	if r, ok := s.putChanged(l, next); !ok {
		return r
	}
	i.SizeBytes, i.Modified = o.SizeBytes, s.said(o.Time)
	i.LengthBytes = min(i.LengthBytes, i.SizeBytes)
	s.noteChange(i)
	s.setInode(i)
	s.del(kindShrink, inodeRest(i.ID.Inode))
	return Result{Inode: i, Layout: next}
}

// growCompanion has the companion of a tree file hold the pages that it needs at another size. It never gets smaller.
func (s *state) growCompanion(i *Inode, o Resize) (Result, bool) {
	if i.Integrity != IntegrityTree {
		return Result{}, true
	}
	c, l := s.inode(i.companion()), s.layout(i.companion())
	if c == nil || l == nil {
		return refuse(blocktree.NotFound, "no pages of %v", o.File), false
	}
	bytes := tree.GrownBytes(o.SizeBytes / uint64(i.SectorBytes))
	if o.SizeBytes <= i.SizeBytes || bytes <= c.SizeBytes {
		return Result{}, true
	}
	next, err := l.Resize(bytes/tree.PageBytes, s.mayServe(), func(n blocktree.NodeID) blocktree.Incarnation { return s.incarnation(n, l.Durability) })
	if err != nil {
		return refuse(blocktree.KindOf(err), "%v", err).hinted("wait until the file's members are in sync (see btnode status)"), false
	}
	if r, ok := s.putChanged(l, next); !ok {
		return r, false
	}
	c.SizeBytes, c.Modified = bytes, o.Time
	s.setInode(c)
	return Result{}, true
}

// heldBy reports whether a session has the lease of a file under an epoch.
func (s *state) heldBy(f blocktree.FileID, id SessionID, e blocktree.Epoch) bool {
	held := s.lease(f)
	return held != nil && held.Session == id && held.Epoch == e
}

// mayServe lists the stores that may have places in regions, ascending.
func (s *state) mayServe() (nodes []blocktree.NodeID) {
	for _, r := range s.runtimes() {
		if IsSectorHost(r) && !s.draining(r.Node) {
			nodes = append(nodes, r.Node)
		}
	}
	slices.Sort(nodes)
	return nodes
}

// resizedFlag is set in the byte of a layout's parity shards where Beyond and Born follow the hosts. Such a code is impossible otherwise, so an older
// version refuses the layout: it would take what is kept for the size.
const resizedFlag = 0x80

func resized(l *stripe.Layout) bool { return l.Beyond != 0 || l.Born != 0 }

// putResized writes them, if there are any, and the flag into the byte at flag.
func putResized(e *wire.Encoder, l *stripe.Layout, flag int) {
	if !resized(l) {
		return
	}
	e.Buf[flag] |= resizedFlag
	e.U64(l.Beyond)
	e.U32(uint32(l.Born))
}

func getResized(d *wire.Decoder, l *stripe.Layout) {
	l.Beyond, l.Born = d.U64(), blocktree.RegionIndex(d.U32())
	if d.Err() != nil {
		return
	}
	if !resized(l) || l.Beyond > 0 && l.Beyond >= l.Sectors || l.Born >= l.Regions() && l.Born > 0 {
		bad(d, "an end that is not in the file")
	}
}

// getSizeOp reads the ops that change how large a file is.
func getSizeOp(d *wire.Decoder, code opcode) Op {
	switch code {
	case opResizeTree:
		return ResizeTree{getResize(d)}
	case opSetLength:
		return getSetLength(d)
	}
	return getResize(d)
}

// doSize dispatches on the ops that change how large a file is.
func (s *state) doSize(o Op) Result {
	switch o := o.(type) {
	case Resize:
		return s.resize(o, IntegritySector)
	case ResizeTree:
		return s.resize(o.Resize, IntegrityTree)
	}
	return s.setLength(o.(SetLength))
}
