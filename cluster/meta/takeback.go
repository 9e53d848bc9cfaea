package meta

import (
	"encoding/binary"

	"blocktree"
	"blocktree/internal/wire"
)

// TakeBack makes a directory the cluster's own again whose cluster has not answered for it yet, and never will (docs/design/0056): the records of sector hosts in it are removed, and their stores' ids are not used again. Result.Inode
// is the directory. With Try nothing is changed. NotFound, Fenced (it is not delegated to that generation), Busy (something was dropped, or may have been: what there is the other cluster has), TooLarge (SpentMax).
type TakeBack struct {
	Dir        blocktree.Path
	Generation blocktree.Generation
	Try        bool
}

func (TakeBack) opcode() opcode { return opTakeBack }

// What a HandOverSum ends with. The version before knows the first, and takes no other for one.
const (
	handOverTry = 1 << iota
	handOverDrops
)

func putHandOverFlags(e *wire.Encoder, o *HandOverSum) {
	var flags uint8
	if o.Try {
		flags |= handOverTry
	}
	if o.Drops {
		flags |= handOverDrops
	}
	e.U8(flags)
}

func getHandOverFlags(d *wire.Decoder, o *HandOverSum) {
	flags := d.U8()
	if flags&^(handOverTry|handOverDrops) != 0 {
		bad(d, "what nobody knows of handing over")
	}
	o.Try, o.Drops = flags&handOverTry != 0, flags&handOverDrops != 0
}

// whole reports whether nothing was dropped yet of a directory that was handed over to a generation, whose cluster does not answer before.
func (s *state) whole(dir blocktree.Inode, g blocktree.Generation) bool {
	b, ok := s.get(kindWhole, inodeRest(dir))
	return ok && len(b) == 8 && blocktree.Generation(binary.BigEndian.Uint64(b)) == g
}

// spent reports whether a store was of a cluster whose directory was taken back: others of that may know it still.
func (s *state) spent(n blocktree.NodeID) bool {
	_, ok := s.get(kindSpent, u64(uint64(n)))
	return ok
}

func (s *state) takeBack(o TakeBack) Result {
	i, at, r := s.directory(o.Dir)
	switch {
	case r.Kind != blocktree.Other:
		return r
	case i.Delegation == nil || i.Delegation.Generation != o.Generation:
		return refuse(blocktree.Fenced, "%s is not that of generation %d", o.Dir.Short(), o.Generation)
	case i.Delegation.HandedOver && !s.whole(i.ID.Inode, o.Generation): // before, nobody answers
		return refuse(blocktree.Busy, "the cluster of %s has, or may have, what this one has no more", o.Dir.Short()).
			hinted("start its nodes; if their stores are gone put these back")
	}
	stores := map[blocktree.NodeID]bool{i.Delegation.Founder: true}
	records := s.below(o.Dir)
	for _, x := range records {
		if x.Node != 0 {
			stores[x.Node] = true
		}
	}
	kept := 0
	s.scan(kindSpent, nil, nil, func(_, _ []byte) bool {
		kept++
		return true
	})
	switch {
	case kept+len(stores) > SpentMax:
		return refuse(blocktree.TooLarge, "a cluster remembers at most %d stores of directories that were taken back", SpentMax)
	case o.Try:
		return Result{Inode: i}
	}
	if r = s.guard(at.parent); r.Kind != blocktree.Other {
		return r
	}
	for n := range stores {
		s.set(kindSpent, u64(uint64(n)), nil)
	}
	for _, x := range records {
		if x.Node != 0 {
			s.del(kindBelow, []byte(x.Path))
		}
	}
	s.del(kindWhole, inodeRest(i.ID.Inode))
	i.Delegation = nil
	s.setInode(i)
	at.found.away = false
	s.setEntry(at.parent, o.Dir.Base(), at.found)
	s.changes.Rights = true
	return Result{Inode: i}
}

// OnTheWay is a directory below dir that has, or is to have, a cluster of its own which takes its entries from here and may not have them all: "" if there is none. Who hands dir over meanwhile loses them, as they do not go with it. Closed, IO.
func (g *Group) OnTheWay(dir blocktree.Path) (at blocktree.Path, err error) {
	err = g.view("meta.OnTheWay", func(s *state) error {
		at = s.onTheWay(dir)
		return nil
	})
	return at, err
}

func (s *state) onTheWay(dir blocktree.Path) blocktree.Path {
	for _, r := range s.allBelow() { // whoever has a cluster has a record
		at := r.Path.Parent()
		if at == dir || !at.Within(dir) {
			continue
		}
		i, bad := s.stat(at)
		if bad.Kind == blocktree.Other && i.Delegation != nil && (!i.Delegation.HandedOver || s.whole(i.ID.Inode, i.Delegation.Generation)) {
			return at
		}
	}
	return ""
}
