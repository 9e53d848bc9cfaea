package store

import (
	"cmp"
	"encoding/binary"
	"errors"
	"path"
	"slices"

	"blocktree"
)

// readRecords reads every record that is named, segment after segment and each from front to back. What is named is collected
// from the index for as many segments at a time as batchRuns allows.
func (c *checker) readRecords() error {
	numbers := map[uint32]bool{}
	for n := range c.runs {
		numbers[n] = true
	}
	for n, l := range c.state.live {
		if c.runs[n] == 0 && l.sectors > 0 && !c.has(n) {
			c.report.add(Problem{Kind: ProblemSegment, Name: path.Base(segmentName("", n)), Text: "it has live sectors"})
		}
	}
	order := sorted(numbers)
	for len(order) > 0 {
		n, total := 1, c.runs[order[0]]
		for n < len(order) && total+c.runs[order[n]] <= c.opts.batchRuns {
			total += c.runs[order[n]]
			n++
		}
		if err := c.readBatch(order[0], order[n-1], total); err != nil {
			return err
		}
		order = order[n:]
	}
	return nil
}

// readBatch reads what is named of the segments from to to.
func (c *checker) readBatch(from, to uint32, total int) error {
	runs := make([]namedRun, 0, total)
	err := c.eachRun(func(r namedRun) {
		if n := r.at.segment(); from <= n && n <= to {
			runs = append(runs, r)
		}
	}, func(tableEntry, error) {}) // told already
	if err != nil {
		return err
	}
	slices.SortFunc(runs, func(a, b namedRun) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.index, b.index)) })
	for len(runs) > 0 {
		n := 0
		for n < len(runs) && runs[n].at.segment() == runs[0].at.segment() {
			n++
		}
		if err := c.readSegment(runs[:n]); err != nil {
			return err
		}
		runs = runs[n:]
	}
	return nil
}

// readSegment reads what is named of one segment, in its order.
func (c *checker) readSegment(runs []namedRun) error {
	number := runs[0].at.segment()
	name := segmentName(c.dir, number)
	f, err := c.fs.Open(name)
	if err != nil {
		if !isDamage(err) {
			return err
		}
		text := "cannot be opened: " + cause(err)
		if blocktree.KindOf(err) == blocktree.NotFound {
			text = "the segment file is missing"
		}
		c.allBad(ProblemSegment, runs, text)
		return nil
	}
	defer f.Close()
	sc := &scanner{f: f, size: c.bytes[path.Base(name)]}
	s := &Store{id: c.sb.identity}
	if _, err := s.readSegmentHeader(sc, number); err != nil {
		if !errors.Is(err, errBadRecord) {
			return err
		}
		c.note("%s: its header does not match its checksum, which harms nothing that is in it", path.Base(name))
	}
	for len(runs) > 0 {
		if c.ctx.Err() != nil {
			return c.ctx.Err()
		}
		n := 0
		for n < len(runs) && runs[n].at == runs[0].at {
			n++
		}
		if err := c.readRecord(sc, runs[:n]); err != nil {
			return err
		}
		runs = runs[n:]
	}
	return nil
}

// allBad reports all sectors of runs, those that follow one another in a file as one problem.
func (c *checker) allBad(kind ProblemKind, runs []namedRun, text string) {
	runs = slices.Clone(runs)
	slices.SortFunc(runs, func(a, b namedRun) int {
		return cmp.Or(cmp.Compare(a.file.Generation, b.file.Generation), cmp.Compare(a.file.Inode, b.file.Inode), cmp.Compare(a.first, b.first))
	})
	var p Problem
	for _, r := range runs {
		same := kind == ProblemSegment || p.Offset == int64(uint32(r.at))
		if p.Count > 0 && same && p.File == r.file && uint64(p.First)+p.Count == uint64(r.first) {
			p.Count += uint64(r.count)
			continue
		}
		if p.Count > 0 {
			c.report.add(p)
		}
		p = Problem{
			Kind: kind, Name: path.Base(segmentName("", r.at.segment())), Offset: int64(uint32(r.at)), File: r.file, First: r.first,
			Count: uint64(r.count), Version: r.version, Text: text,
		}
		if kind == ProblemSegment {
			p.Offset = 0
		}
	}
	if p.Count > 0 {
		c.report.add(p)
	}
}

// recordBytes returns n bytes at off; those behind the end of the file are zeros, which nothing is made of.
func recordBytes(sc *scanner, off, n int64) ([]byte, error) {
	b, err := sc.at(off, n)
	if err != nil || b != nil {
		return b, err
	}
	b = make([]byte, n)
	if off < sc.size {
		there, err := sc.at(off, sc.size-off)
		if err != nil {
			return nil, err
		}
		copy(b, there)
	}
	return b, nil
}

// readRecord verifies the sectors that runs name of one record, and its header.
func (c *checker) readRecord(sc *scanner, runs []namedRun) error {
	x := runs[0]
	off := int64(uint32(x.at))
	n := headerBytes + int64(x.recCount)*(int64(x.shardBytes)+metaBytes)
	if n > headerBytes+blocktree.RunBytesMax+blocktree.RunSectorsMax*metaBytes {
		c.allBad(ProblemRecord, runs, "the index names a record that is longer than any")
		return nil
	}
	b, err := recordBytes(sc, off, n)
	if err != nil {
		return err
	}
	h, err := decodeHeader(b, c.sb.identity)
	if blocktree.KindOf(err) == blocktree.NewerFormat {
		return err
	}
	matches := err == nil && h.place() == x.at
	var bad []namedRun
	good := uint64(0)
	for _, r := range runs {
		matches = matches && r.isOf(&h)
		for i := range r.count {
			if c.goodSector(b, x, r, i) {
				good++
				continue
			}
			one := r
			one.first, one.index, one.count = r.first+blocktree.SectorIndex(i), r.index+i, 1
			bad = append(bad, one)
		}
	}
	c.report.Records++
	c.report.Sectors += good
	why := "they do not match their checksum"
	switch {
	case off+n > sc.size:
		why = "the file ends before"
	case sc.refused(off, n):
		why = "the disk cannot read them"
	}
	switch {
	case !matches && good == 0:
		c.allBad(ProblemRecord, bad, "the index names a record here, and there is none: "+why)
	default:
		c.allBad(ProblemSectors, bad, why)
		if !matches {
			c.report.add(Problem{
				Kind: ProblemHeader, Name: path.Base(segmentName("", x.at.segment())), Offset: off, Version: x.version,
				Text: "does not match its checksum or its sectors; they can be read, but their segment is not compacted",
			})
		}
	}
	return nil
}

// goodSector verifies sector i of r in a record whose bytes are b and whose shape x says.
func (c *checker) goodSector(b []byte, x, r namedRun, i uint16) bool {
	if r.recCount != x.recCount || r.shardBytes != x.shardBytes {
		return false // two runs disagree on the record: one of them names what is not there
	}
	size, at := int64(r.shardBytes), int64(r.index+i)
	payload := b[headerBytes+at*size:][:size]
	meta := b[headerBytes+int64(r.recCount)*size+at*metaBytes:][:metaBytes]
	crc := sectorCRC(c.scr[:], c.sb.store, r.file, r.first+blocktree.SectorIndex(i), r.version, r.shard, meta[:SealBytes], payload)
	return crc == binary.BigEndian.Uint32(meta[SealBytes:])
}

func (h *header) place() place { return place(h.segment)<<32 | place(h.offset) }

// isOf reports whether a header is that of the record that r names.
func (r *namedRun) isOf(h *header) bool {
	return h.Kind == KindData && h.File == r.file && h.First+blocktree.SectorIndex(r.index) == r.first && h.Count == uint32(r.recCount) &&
		h.ShardBytes == r.shardBytes && h.Version == r.version && h.Shard == r.shard
}

// refused reports whether the disk refused to read something of the n bytes at off.
func (sc *scanner) refused(off, n int64) bool {
	return slices.ContainsFunc(sc.unreadable, func(at int64) bool { return at < off+n && off < at+(4<<10) })
}
