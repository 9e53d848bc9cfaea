package meta

import (
	"bytes"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/internal/wire"

	"github.com/cockroachdb/pebble/v2"
)

// toMark lists the files that name a store among their hosts, but for those that marked certainly leaves as they are: of a million files one that starts as before would
// have all layouts looked up and decoded, for nothing (docs/design/0077). It reads both indexes side by side, and of a layout no more than its hosts.
func (s *state) toMark(n blocktree.NodeID) (files []blocktree.Inode) {
	it, err := s.r.NewIter(&pebble.IterOptions{LowerBound: []byte{s.space, kindLayout}, UpperBound: []byte{s.space, kindLayout + 1}})
	if err != nil {
		s.check(blocktree.E("meta: read", blocktree.IO, err))
		return nil
	}
	ack, flush := s.incarnation(n, stripe.DurabilityAck), s.incarnation(n, stripe.DurabilityFlush)
	there := it.First()
	s.scan(kindHosted, u64(uint64(n)), nil, func(rest, _ []byte) bool {
		inode := rest[len(rest)-8:]
		if there && bytes.Compare(it.Key()[2:], inode) < 0 {
			if there = it.Next(); there && bytes.Compare(it.Key()[2:], inode) < 0 {
				there = it.SeekGE(append([]byte{s.space, kindLayout}, inode...))
			}
		}
		if !there {
			return false // the others have no layouts
		}
		if !bytes.Equal(it.Key()[2:], inode) {
			return true
		}
		v, err := it.ValueAndErr()
		s.check(err)
		if err == nil && !staysUnmarked(v, n, ack, flush) {
			files = append(files, inodeOf(rest))
		}
		return err == nil
	})
	s.check(it.Close())
	return files
}

// staysUnmarked reports whether a layout, as it is stored, is certainly left as it is by marked: it expects the incarnation that the host has, or the host is marked in it
// and its durability does not care under which one that is back. It reads what putLayout writes first.
func staysUnmarked(v []byte, n blocktree.NodeID, ack, flush blocktree.Incarnation) bool {
	d := wire.NewDecoder(v)
	d.Format(formatValue)
	d.File()
	expected, isFlush := ack, d.U8()&flushFlag != 0
	if isFlush {
		expected = flush
	}
	d.Raw(1 + 4 + 5*8) // parity, sector size, region, sectors, epoch, and two ids of views
	for hosts := d.U16(); hosts > 0 && d.Err() == nil; hosts-- {
		h, inc, flags := blocktree.NodeID(d.U64()), blocktree.Incarnation(get16(d)), d.U8()
		if flags&hostHashed != 0 {
			d.U64()
		}
		if h == n {
			return d.Err() == nil && (inc == expected || flags&hostMarked != 0 && !isFlush)
		}
	}
	return false
}
