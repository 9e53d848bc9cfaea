package store

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"

	"blocktree"
	"blocktree/internal/vfs"
)

// scanner reads a segment front to back through a window.
type scanner struct {
	f    vfs.File
	size int64
	buf  []byte
	from int64 // of buf in the file
	// window is how much is read at a time; 0: scanWindowBytes.
	window int64

	unreadable []int64 // where the disk refused to read
}

const scanWindowBytes = 4 << 20

// at returns n bytes at off, nil where the file ends before; good until the next call.
func (sc *scanner) at(off, n int64) ([]byte, error) {
	if off+n > sc.size {
		return nil, nil
	}
	if !sc.holds(off, n) {
		want := min(max(n, cmp.Or(sc.window, scanWindowBytes)), sc.size-off)
		if int64(cap(sc.buf)) < want {
			sc.buf = make([]byte, want)
		}
		sc.buf = sc.buf[:want]
		sc.from = off
		if err := sc.readTolerant(off); err != nil {
			sc.buf = sc.buf[:0]
			return nil, err
		}
	}
	return sc.buf[off-sc.from:][:n:n], nil
}

// holds reports whether the window has n bytes at off.
func (sc *scanner) holds(off, n int64) bool {
	return off >= sc.from && off+n <= sc.from+int64(len(sc.buf))
}

// readTolerant fills the window; what the disk cannot read comes as zeros, which no record is made of.
func (sc *scanner) readTolerant(off int64) error {
	const piece = 4 << 10
	b := sc.buf
	err := readFull(sc.f, b, off)
	if blocktree.KindOf(err) != blocktree.IO {
		return err
	}
	for len(b) > 0 {
		part := b[:min(len(b), piece)]
		if err := readFull(sc.f, part, off); blocktree.KindOf(err) == blocktree.IO {
			clear(part)
			sc.unreadable = append(sc.unreadable, off)
		} else if err != nil {
			return err
		}
		b, off = b[len(part):], off+int64(len(part))
	}
	return nil
}

// found is a record with a good header.
type found struct {
	sequence uint64
	at       place
	bad      bool // something behind the header is not as it was written
}

// scan is what the segments after a checkpoint hold.
type scan struct {
	records []found
	voids   []sequences
	synced  uint64
	empty   []uint32         // segments without a header or a record
	ends    map[uint32]int64 // where the last record of a segment ends

	unreadable []Ref // what the disk refuses to read is damage, whatever was there
}

// scanLog reads the log from a position on.
func (s *Store) scanLog(from position, numbers []uint32) (*scan, error) {
	log := &scan{synced: from.sequence, ends: map[uint32]int64{}}
	for _, n := range numbers {
		start := int64(0)
		if n == from.segment {
			start = from.offset
		}
		if err := s.scanSegment(log, n, start); err != nil {
			return nil, err
		}
	}
	return log, nil
}

func (s *Store) scanSegment(log *scan, n uint32, off int64) error {
	seg, err := s.segs.acquire(n)
	if err != nil {
		return err
	}
	defer s.segs.release(seg)
	sc := &scanner{f: seg.file, size: seg.bytes}
	before := len(log.records)
	used := off > 0
	if off == 0 {
		h, err := s.readSegmentHeader(sc, n)
		switch {
		case err == nil && h.sequence == copySequence:
			log.empty = append(log.empty, n) // the checkpoint knows nothing of it: what it copies lives where it was
			return nil
		case err == nil:
			used = true
			off = h.bytes()
			log.voids = append(log.voids, h.voids...)
			log.synced = max(log.synced, h.synced)
		case !errors.Is(err, errBadRecord):
			return err
		}
	}
	log.ends[n] = off
	for off+headerBytes <= sc.size {
		b, err := sc.at(off, headerBytes)
		if err != nil {
			return err
		}
		h, err := decodeHeader(b, s.id)
		if blocktree.KindOf(err) == blocktree.NewerFormat {
			return err
		}
		if err != nil || h.segment != n || int64(h.offset) != off {
			off += align
			continue
		}
		bad, err := s.badBody(sc, &h, off)
		if err != nil {
			return err
		}
		log.records = append(log.records, found{sequence: h.sequence, at: h.ref().place(), bad: bad != nil})
		log.synced = max(log.synced, h.synced)
		off += h.bytes()
		log.ends[n] = off
	}
	for i, at := range sc.unreadable {
		if i == 0 || at != sc.unreadable[i-1] {
			log.unreadable = append(log.unreadable, Ref{Segment: n, Offset: uint32(at)})
		}
	}
	if len(sc.unreadable) > 0 {
		delete(log.ends, n) // nothing of it is cut off
		return nil
	}
	if !used && len(log.records) == before {
		log.empty = append(log.empty, n)
	}
	return nil
}

func (s *Store) readSegmentHeader(sc *scanner, n uint32) (segmentHeader, error) {
	b, err := sc.at(0, segmentHeaderFixed)
	if err != nil {
		return segmentHeader{}, err
	}
	if b == nil {
		return segmentHeader{}, errBadRecord
	}
	voids := binary.BigEndian.Uint32(b[segmentHeaderFixed-4:])
	if binary.BigEndian.Uint32(b) != segmentMagic || voids > voidsMax {
		return segmentHeader{}, errBadRecord
	}
	if b, err = sc.at(0, segmentHeaderFixed+int64(voids)*16+4); err != nil {
		return segmentHeader{}, err
	}
	h, err := decodeSegmentHeader(b, s.id)
	if err == nil && h.segment != n {
		err = errBadRecord
	}
	return h, err
}

// wholeRecord is what badBody says of a record of which nothing but the header can be used.
var wholeRecord = []uint32{}

// badBody checks what stands behind a header: nil when all is good, the sectors that are not, or wholeRecord. The window
// of sc holds the record afterwards.
func (s *Store) badBody(sc *scanner, h *header, off int64) ([]uint32, error) {
	n := headerBytes + h.payloadBytes() + h.metaBytes()
	b, err := sc.at(off, n)
	if err != nil {
		return nil, err
	}
	if b == nil {
		if h.Kind != KindData {
			return wholeRecord, nil
		}
		return allSectors(h.Count), nil
	}
	return checkBody(h, b[headerBytes:], s.id.store), nil
}

func allSectors(n uint32) []uint32 {
	out := make([]uint32, n)
	for i := range out {
		out[i] = uint32(i)
	}
	return out
}

// checkBody is badBody for a body in memory: payload, then metadata.
func checkBody(h *header, body []byte, store blocktree.NodeID) []uint32 {
	switch h.Kind {
	case KindControl:
		if crcOf(body) != h.bodyCRC {
			return wholeRecord
		}
	case KindData:
		var bad []uint32
		var scratch [sectorPrefixBytes]byte
		payload, meta := body[:h.payloadBytes()], body[h.payloadBytes():]
		for i := range h.Count {
			m := meta[i*metaBytes : (i+1)*metaBytes]
			crc := sectorCRC(scratch[:], store, h.File, h.First+blocktree.SectorIndex(i), h.Version, h.Shard, m[:SealBytes],
				payload[i*h.ShardBytes:(i+1)*h.ShardBytes])
			if crc != binary.BigEndian.Uint32(m[SealBytes:]) {
				bad = append(bad, i)
			}
		}
		if bad == nil && crcOf(meta) != h.bodyCRC {
			bad = allSectors(h.Count)
		}
		return bad
	}
	return nil
}

// verdict is what a scan means.
type verdict struct {
	good    []found     // to be handed to the Replayer; bad ones only if they are data known to be synced
	lost    []found     // control records known to be synced, and damaged
	missing []sequences // known to be synced, and not there
	torn    []sequences // the torn tail
	last    uint64      // the highest sequence of good
	used    uint64      // the highest sequence that was ever given out, as far as known
}

// judge tells damage from the torn tail (docs/design/0003-store.md, Replay). after is the checkpoint's sequence.
func judge(log *scan, after uint64, isData func(found) bool) verdict {
	v := verdict{last: after, used: max(after, log.synced)}
	voids := slices.Clone(log.voids)
	slices.SortFunc(voids, func(a, b sequences) int {
		switch {
		case a.from < b.from:
			return -1
		case a.from > b.from:
			return 1
		}
		return 0
	})
	for _, x := range voids {
		v.used = max(v.used, x.to)
	}
	prev := after
	for _, f := range log.records {
		v.used = max(v.used, f.sequence)
		if f.sequence <= prev || within(voids, f.sequence) {
			continue
		}
		v.gap(prev+1, f.sequence-1, voids, log.synced)
		prev = f.sequence
		switch {
		case !f.bad || f.sequence <= log.synced && isData(f):
			v.good = append(v.good, f)
			v.last = f.sequence
		case f.sequence <= log.synced:
			v.lost = append(v.lost, f)
		default:
			v.torn = appendSequences(v.torn, sequences{f.sequence, f.sequence})
		}
	}
	v.gap(prev+1, log.synced, voids, log.synced)
	return v
}

// whole is up to where nothing is missing of a log that reaches to last.
func (v *verdict) whole(last uint64) uint64 {
	for _, x := range slices.Concat(v.torn, v.missing) {
		last = min(last, x.from-1)
	}
	for _, f := range v.lost {
		last = min(last, f.sequence-1)
	}
	return last
}

func within(voids []sequences, n uint64) bool {
	for _, x := range voids {
		if x.from <= n && n <= x.to {
			return true
		}
	}
	return false
}

// gap sorts the sequences from to to, which were not found, into missing and torn.
func (v *verdict) gap(from, to uint64, voids []sequences, synced uint64) {
	put := func(a, b uint64) {
		if a <= b && a <= synced {
			v.missing = appendSequences(v.missing, sequences{a, min(b, synced)})
		}
		if a = max(a, synced+1); a <= b {
			v.torn = appendSequences(v.torn, sequences{a, b})
		}
	}
	for _, x := range voids {
		if x.to < from || x.from > to || from > to {
			continue
		}
		if x.from > from {
			put(from, x.from-1)
		}
		from = x.to + 1
	}
	if from <= to {
		put(from, to)
	}
}

func appendSequences(list []sequences, x sequences) []sequences {
	if n := len(list); n > 0 && list[n-1].to+1 == x.from {
		list[n-1].to = x.to
		return list
	}
	return append(list, x)
}

// readFound reads a record again.
func (s *Store) readFound(at place, sc *scanner) (header, []byte, []uint32, error) {
	off := int64(uint32(at))
	b, err := sc.at(off, headerBytes)
	if err != nil {
		return header{}, nil, nil, err
	}
	h, err := decodeHeader(b, s.id)
	if err != nil {
		return h, nil, nil, blocktree.E("store.replay", blocktree.IO, errors.New("a record changed while it was read"))
	}
	bad, err := s.badBody(sc, &h, off)
	if err != nil {
		return h, nil, nil, err
	}
	b, err = sc.at(off, headerBytes+h.payloadBytes()+h.metaBytes())
	return h, b, bad, err
}

// deliver hands the good records to the Replayer and writes those of the tail again.
func (s *Store) deliver(v *verdict, synced uint64, r Replayer) error {
	var sc *scanner
	var seg *segment
	rewritten := false
	leave := func() error {
		if seg == nil {
			return nil
		}
		var err error
		if rewritten {
			err = seg.file.Datasync()
		}
		s.segs.release(seg)
		seg, rewritten = nil, false
		return err
	}
	each := func(f found) error {
		if seg == nil || seg.number != f.at.segment() {
			if err := leave(); err != nil {
				return err
			}
			next, err := s.segs.acquire(f.at.segment())
			if err != nil {
				return err
			}
			seg, sc = next, &scanner{f: next.file, size: next.bytes}
		}
		h, b, bad, err := s.readFound(f.at, sc)
		if err != nil {
			return err
		}
		if bad != nil && (h.Kind != KindData || f.sequence > synced) {
			// It was good when it was scanned. What was read now must be neither written over it nor handed on.
			return blocktree.E("store.replay", blocktree.IO, errors.New("a record changed while it was read"))
		}
		if f.sequence > synced && s.opts.mutant != forgetTailRewrite {
			rewritten = true
			if _, err := seg.file.WriteAt(b, int64(uint32(f.at))); err != nil {
				return err
			}
		}
		if h.Kind == KindNote {
			return nil
		}
		return r.Record(s.replayed(&h, b, bad))
	}
	for _, f := range v.good {
		if err := each(f); err != nil {
			return errors.Join(err, leave())
		}
	}
	return leave()
}

// replayed makes what the Replayer gets of a record, and makes its sectors pending. Slices are copied.
func (s *Store) replayed(h *header, b []byte, bad []uint32) Replayed {
	out := Replayed{Record: h.Record, Ref: h.ref(), Sequence: h.sequence, Bad: bad}
	s.recovery.Replayed++
	switch h.Kind {
	case KindControl:
		out.Blob = slices.Clone(b[headerBytes:])
	case KindData:
		out.Seals = make([]byte, h.Count*SealBytes)
		if len(b) > 0 {
			meta := b[headerBytes+h.payloadBytes():]
			for i := range h.Count {
				copy(out.Seals[i*SealBytes:], meta[i*metaBytes:][:SealBytes])
			}
		}
		for _, i := range bad {
			clear(out.Seals[i*SealBytes:][:SealBytes])
		}
		s.pins.add(out.Ref, &out.Record)
	}
	if len(bad) > 0 {
		s.recovery.Damaged = append(s.recovery.Damaged, badRuns(h, bad)...)
	}
	return out
}

// badRuns makes runs of the bad sectors of a record.
func badRuns(h *header, bad []uint32) []Run {
	var out []Run
	for _, i := range bad {
		if n := len(out); n > 0 && out[n-1].First+blocktree.SectorIndex(out[n-1].Count) == h.First+blocktree.SectorIndex(i) {
			out[n-1].Count++
			continue
		}
		out = append(out, Run{
			From: h.sequence, To: h.sequence, Kind: h.Kind, Ref: h.ref(), File: h.File,
			First: h.First + blocktree.SectorIndex(i), Count: 1, Version: h.Version,
		})
	}
	return out
}

// trim gives back what is allocated behind the last record of each segment: nothing will be written there any more. Where
// records known to be synced were not found, nothing is: they may be what could not be read behind the last.
func (s *Store) trim(log *scan) error {
	for n, end := range log.ends {
		seg := s.segs.byNo[n]
		if seg == nil || seg.bytes <= end {
			continue
		}
		if _, err := s.segs.acquire(n); err != nil {
			return err
		}
		err := errors.Join(seg.file.Truncate(end), seg.file.Sync())
		s.segs.release(seg)
		if err != nil {
			return err
		}
		seg.bytes = end
	}
	return nil
}
