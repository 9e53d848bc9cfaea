package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"blocktree"
)

// copySequence is what the header of a compaction segment says its first sequence is. No segment of the log does: each
// start skips sequencesSkipped. (Its records have those of their originals, which lie before any checkpoint that a start can find.)
const copySequence = 1

// victim is the segment that is being emptied.
type victim struct {
	seg     *segment
	scan    scanner
	off     int64
	damaged []Damage
}

// move is a copy and its original.
type move struct {
	file    blocktree.FileID
	first   blocktree.SectorIndex
	version blocktree.Version
	from    place
	to      Ref
}

// choose makes segment n the victim. Between equal versions the later place wins, so a target before it is let go.
func (c *compactor) choose(n uint32) error {
	if c.target != nil && c.target.number < n {
		if err := c.finish(); err != nil {
			return err
		}
	}
	seg, err := c.s.segs.acquire(n)
	if err != nil {
		return err
	}
	c.s.logMu.Lock()
	size := seg.bytes
	c.s.logMu.Unlock()
	c.victim = &victim{seg: seg, scan: scanner{f: seg.file, size: size, buf: c.window[:0], window: compactWindowBytes}}
	c.window = nil
	return nil
}

// compactWindowBytes is how much of a victim is read at a time: what was read is looked at while it is in the processor's cache.
const compactWindowBytes = 256 << 10

// leaveVictim forgets the victim; what was copied of it and not indexed is void.
func (c *compactor) leaveVictim() {
	if c.victim != nil {
		c.s.segs.release(c.victim.seg)
		c.window = c.victim.scan.buf
		c.victim = nil
	}
	c.buf, c.moves = c.buf[:0], c.moves[:0]
}

// step copies a part of the victim: reads, writes, syncs, indexes. NoSpace when there is no segment to copy to.
func (c *compactor) step() error {
	if c.target == nil {
		if err := c.newTarget(); err != nil {
			return err
		}
	}
	more, err := c.gather()
	if err != nil {
		return err
	}
	if err := c.flush(); err != nil {
		return err
	}
	switch more {
	case copyTargetFull:
		return c.finish()
	case copyVictimDone:
		c.victimDone()
	}
	return nil
}

// Why gather ended.
type gathered uint8

const (
	copyStepFull gathered = iota
	copyTargetFull
	copyVictimDone
)

// gather reads records of the victim and puts copies of what is live in them into buf.
func (c *compactor) gather() (gathered, error) {
	v := c.victim
	for v.off+headerBytes <= v.scan.size {
		records, next, err := c.records()
		if err != nil {
			return 0, err
		}
		c.s.findLive(&c.seen)
		for i := range records {
			h, live := &records[i], c.seen.of(i)
			if len(live) == 0 {
				continue
			}
			if len(c.buf) >= compactStepBytes {
				v.off = int64(h.offset)
				return copyStepFull, nil
			}
			used := c.end + int64(len(c.buf))
			parts := int64(h.Count+1) / 2 // that can become of it at most, each with a header and padding
			if used > segmentHeaderRoom && used+h.bytes()+parts*(headerBytes+align) > c.s.opts.SegmentBytes {
				v.off = int64(h.offset)
				return copyTargetFull, nil
			}
			if err := c.copyRecord(h, live); err != nil {
				return 0, err
			}
		}
		v.off = next
	}
	return copyVictimDone, nil
}

// compactTurn is how many records are looked up, and how many copies indexed, in one turn of the index: each may read a page from
// the disk while others wait.
const compactTurn = 32

// records returns the next data records of the victim, and where to go on. It stops where the scan's window ends: what is live
// in them is copied next, and for that the window would go back.
func (c *compactor) records() (out []header, off int64, err error) {
	v := c.victim
	out, off = c.seen.records[:0], v.off
	defer func() { c.seen.records = out }()
	for len(out) < compactTurn && off+headerBytes <= v.scan.size && (len(out) == 0 || v.scan.holds(off, headerBytes)) {
		b, err := v.scan.at(off, headerBytes)
		if err != nil {
			return nil, off, err
		}
		h, err := decodeHeader(b, c.s.id)
		if err != nil || h.segment != v.seg.number || int64(h.offset) != off {
			off += align // a segment's header, damage, or what another start left behind
			continue
		}
		if h.Kind == KindData {
			out = append(out, h)
		}
		off += h.bytes()
	}
	return out, off, nil
}

// copyRecord copies what is live of a record of the victim.
func (c *compactor) copyRecord(h *header, live []stretch) error {
	v := c.victim
	body, err := v.scan.at(int64(h.offset), headerBytes+h.payloadBytes()+h.metaBytes())
	if err != nil || body == nil { // nil: it goes on behind the end of the file
		return err
	}
	body = body[headerBytes:]
	var bad sectorSet
	var scratch [sectorPrefixBytes]byte
	d := Damage{File: h.File, Ref: h.ref()}
	payload, meta := body[:h.payloadBytes()], body[h.payloadBytes():]
	for _, x := range live {
		for i := x.from; i < x.to; i++ {
			m := meta[i*metaBytes : (i+1)*metaBytes]
			sector := h.First + blocktree.SectorIndex(i)
			crc := sectorCRC(scratch[:], c.s.id.store, h.File, sector, h.Version, h.Shard, m[:SealBytes], payload[i*h.ShardBytes:(i+1)*h.ShardBytes])
			if crc != binary.BigEndian.Uint32(m[SealBytes:]) && c.s.opts.mutant != forgetCopyCheck {
				bad.add(i)
				d.Sectors = append(d.Sectors, sector)
			}
		}
	}
	if d.Sectors != nil {
		v.damaged = append(v.damaged, d)
	}
	for _, x := range live {
		for a := x.from; a < x.to; {
			b := a
			for b < x.to && !bad.has(b) {
				b++
			}
			if a < b {
				c.addCopy(h, a, b, payload, meta)
			}
			a = b + 1
		}
	}
	return nil
}

// addCopy puts a copy of the sectors [a, b) of a record into buf.
func (c *compactor) addCopy(h *header, a, b uint32, payload, meta []byte) {
	n := *h
	n.First += blocktree.SectorIndex(a)
	n.Count = b - a
	n.segment, n.offset = c.target.number, uint32(c.end+int64(len(c.buf)))
	meta = meta[a*metaBytes : b*metaBytes]
	n.bodyCRC = crcOf(meta)
	if int64(n.offset)+n.bytes() > c.s.opts.SegmentBytes {
		return // a record that fills a segment came apart into more than one holds: the rest stays
	}
	start := len(c.buf)
	c.buf = slices.Grow(c.buf, int(n.bytes()))[:start+int(n.bytes())] // every byte is written next
	out := c.buf[start:]
	n.encode(out, c.s.id)
	finishHeader(out)
	at := copy(out[headerBytes:], payload[a*h.ShardBytes:b*h.ShardBytes])
	at += copy(out[headerBytes+at:], meta)
	clear(out[headerBytes+at:])
	c.moves = append(c.moves, move{file: n.File, first: n.First, version: n.Version, from: h.ref().place(), to: n.ref()})
}

// flush writes the copies, syncs, and only then indexes them.
func (c *compactor) flush() error {
	if len(c.buf) == 0 {
		return nil
	}
	if _, err := c.target.file.WriteAt(c.buf, c.end); err != nil {
		if blocktree.KindOf(err) == blocktree.NoSpace {
			if err := c.finish(); err != nil { // cuts off what may have been written
				return err
			}
		}
		return err
	}
	if c.s.opts.mutant != forgetCopySync {
		if err := c.target.file.Datasync(); err != nil {
			return broken(err)
		}
	}
	c.end += int64(len(c.buf))
	for moves := range slices.Chunk(c.moves, compactTurn) {
		err := c.s.indexed("store.compact", moves[0].file, func(ix *index) (err error) {
			for i := range moves {
				err = errors.Join(err, ix.move(&moves[i], c.s.opts.mutant))
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	c.s.logMu.Lock()
	c.s.stats.CompactedBytes += uint64(len(c.buf))
	c.s.logMu.Unlock()
	c.buf, c.moves = c.buf[:0], c.moves[:0]
	return nil
}

// move makes a copy the content of those of its sectors for which the index still names the original.
func (ix *index) move(m *move, mutant mutant) error {
	var room [4]stretch // seldom is it more than one
	found := ix.at(room[:0], m.file, m.first, m.to.Count, m.version, m.from)
	if mutant == forgetMoveCheck {
		found = []stretch{{0, m.to.Count}}
	}
	for _, x := range found {
		err := eachPage(m.first+blocktree.SectorIndex(x.from), uint64(x.to-x.from), func(n uint64, a, b uint16) error {
			r := run{
				version: m.version, at: m.to.place(), shardBytes: m.to.ShardBytes, recCount: uint16(m.to.Count), content: Data,
				shard: m.to.Shard, first: a, count: b - a, index: uint16(n*PageSectors + uint64(a) - uint64(m.first)),
			}
			ix.pins.copied(m.to, int64(r.count))
			err := ix.set(pageKey{m.file, n}, r)
			if err != nil {
				ix.dead(r)
			}
			return ignore(err, blocktree.Corrupt) // the page went bad just now: the original stays
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// newTarget takes the last of the segments made ahead, which is the compactor's.
func (c *compactor) newTarget() error {
	s := c.s
	if err := s.prepare(1); err != nil {
		return err
	}
	s.logMu.Lock()
	n := len(s.prepared)
	if n == 0 { // somebody took it just now
		s.logMu.Unlock()
		return blocktree.E("store.compact", blocktree.NoSpace, nil)
	}
	seg := s.prepared[n-1]
	s.prepared = s.prepared[:n-1]
	s.pins.setTarget(seg.number) // at once: a checkpoint that is begun next may lie behind it
	s.logMu.Unlock()
	if _, err := s.segs.acquire(seg.number); err != nil {
		return err
	}
	c.target = seg
	signal(s.prepareWake)
	h := segmentHeader{segment: c.target.number, start: s.starts, sequence: copySequence}
	c.buf = append(c.buf[:0], h.encode(s.id)...)
	c.end = 0
	return nil
}

// broken makes an error the store's end, also one that says that there is no space: what the disk has of the file is not known.
func broken(err error) error {
	if blocktree.KindOf(err) == blocktree.NoSpace {
		return blocktree.E("store.compact", blocktree.IO, err)
	}
	return err
}

// finish cuts the target to what was written and indexed, and lets it go.
func (c *compactor) finish() error {
	if len(c.moves) > 0 {
		c.leaveVictim()
	}
	if c.target == nil {
		return nil
	}
	s, seg := c.s, c.target
	err := seg.file.Truncate(c.end)
	if err == nil {
		err = seg.file.Sync()
	}
	if err != nil {
		return broken(err)
	}
	s.logMu.Lock()
	seg.bytes, seg.end = c.end, c.end
	s.logMu.Unlock()
	s.segs.unpin(seg)
	s.segs.release(seg)
	c.target = nil
	s.pins.setTarget(0)
	return nil
}

// victimDone lets go of a victim that was read to its end.
func (c *compactor) victimDone() {
	v, s := c.victim, c.s
	c.leaveVictim()
	n := v.seg.number
	left := s.pins.liveSectors(n)
	damaged := 0
	for _, d := range v.damaged {
		damaged += len(d.Sectors)
	}
	s.logMu.Lock()
	s.stats.DamagedSectors += uint64(damaged)
	if left == 0 {
		s.stats.CompactedSegments++
	}
	s.logMu.Unlock()
	if left == 0 {
		delete(c.held, n)
		if s.opts.mutant == forgetDurableBeforeDelete {
			_ = s.segs.remove(n)
		}
		return
	}
	c.held[n] = left
	s.log.Error("a segment cannot be emptied", "segment", fmt.Sprintf("%08x", n), "left", left, "damaged", damaged)
	if s.opts.OnDamage != nil {
		for _, d := range v.damaged {
			s.opts.OnDamage(d)
		}
	}
}
