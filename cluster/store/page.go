package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"blocktree"
	"blocktree/internal/wire"
)

// pageKey names a page of the index: sectors page×PageSectors to (page+1)×PageSectors-1 of file.
type pageKey struct {
	file blocktree.FileID
	page uint64
}

func (k pageKey) less(o pageKey) bool {
	if k.file != o.file {
		return fileLess(k.file, o.file)
	}
	return k.page < o.page
}

func fileLess(a, b blocktree.FileID) bool {
	return a.Generation < b.Generation || a.Generation == b.Generation && a.Inode < b.Inode
}

// run is some consecutive sectors of a page whose content is consecutive sectors of one record, or zero.
type run struct {
	version    blocktree.Version
	at         place
	shardBytes uint32
	first      uint16 // sector within the page
	count      uint16
	index      uint16 // of first within the record
	recCount   uint16 // sectors of the record
	content    Content
	shard      blocktree.ShardIndex
}

const runMemoryBytes = 40

func (r run) end() uint16 { return r.first + r.count }

// part is the sectors [from, to) of r, which lie within it.
func (r run) part(from, to uint16) run {
	if r.content == Data {
		r.index += from - r.first
	}
	r.first, r.count = from, to-from
	return r
}

// older reports whether a loses against b: by version, then by place in the log, so that a repaired copy of the same
// version replaces the one before.
func older(aVersion blocktree.Version, aPlace place, bVersion blocktree.Version, bPlace place) bool {
	if aVersion != bVersion {
		return aVersion.Less(bVersion)
	}
	return aPlace < bPlace
}

func (r run) joins(next run) bool {
	if r.end() != next.first || r.content != next.content || r.version != next.version || r.at != next.at {
		return false
	}
	return r.content == Zero || r.index+r.count == next.index
}

func appendRun(runs []run, r run) []run {
	if r.count == 0 {
		return runs
	}
	if n := len(runs); n > 0 && runs[n-1].joins(r) {
		runs[n-1].count += r.count
		return runs
	}
	return append(runs, r)
}

// runAfter returns the index of the first of a page's sorted runs that ends behind sector n of it; len(runs) if none does. Of every record that is written, read or
// compacted some run is looked up: slices.BinarySearchFunc copies each run it looks at. A page of many runs is one of short ones, and they tell where to look: no
// more than n runs end up to n, and no more than the sectors behind n begin there. In a page that has a run for each sector that leaves one, and every run that
// need not be looked at is a line of memory that need not be fetched.
func runAfter(runs []run, n int) int {
	from, to := max(0, len(runs)-PageSectors+n), min(len(runs), max(0, n))
	for from < to {
		if middle := int(uint(from+to) >> 1); int(runs[middle].end()) <= n {
			from = middle + 1
		} else {
			to = middle
		}
	}
	return from
}

// touching returns the range of runs that overlap n or end where it begins or begin where it ends: all that setRun can change.
func touching(runs []run, n run) (from, to int) {
	from = runAfter(runs, int(n.first)-1)
	for to = from; to < len(runs) && runs[to].first <= n.end(); to++ {
	}
	return from, to
}

// setRun lays n over runs, sorted and without overlap, and appends the result to out. dead is called with every part
// that lost, of runs or of n itself. The same content again is no loss.
func setRun(out, runs []run, n run, dead func(run)) []run {
	cur := n.first // n is laid down to here
	for _, r := range runs {
		if r.end() <= n.first {
			out = appendRun(out, r)
			continue
		}
		if r.first >= n.end() {
			out = appendRun(out, n.part(cur, n.end()))
			cur = n.end()
			out = appendRun(out, r)
			continue
		}
		from, to := max(r.first, n.first), min(r.end(), n.end())
		out = appendRun(out, r.part(r.first, from))
		switch {
		case r.version == n.version && r.at == n.at: // the same again
		case older(r.version, r.at, n.version, n.at):
			dead(r.part(from, to))
		default:
			dead(n.part(from, to))
			out = appendRun(out, n.part(cur, from))
			out = appendRun(out, r.part(from, to))
			cur = to
		}
		if to == n.end() {
			out = appendRun(out, n.part(cur, to))
			cur = to
		}
		out = appendRun(out, r.part(to, r.end()))
	}
	return appendRun(out, n.part(cur, n.end()))
}

// cutRuns removes the sectors [from, to), except those that keep says yes to, and appends what is left to out.
func cutRuns(out, runs []run, from, to uint16, keep func(run) bool, dead func(run)) []run {
	for _, r := range runs {
		a, b := max(r.first, from), min(r.end(), to)
		if a >= b || keep(r) {
			out = appendRun(out, r)
			continue
		}
		dead(r.part(a, b))
		out = appendRun(out, r.part(r.first, a))
		out = appendRun(out, r.part(b, r.end()))
	}
	return out
}

// page is a page in memory. A frozen page belongs to a checkpoint being written and does not change any more.
type page struct {
	key        pageKey
	runs       []run
	dirty      bool
	frozen     bool
	prev, next *page // of the list of clean pages
}

func (p *page) memoryBytes() int64 { return 160 + int64(cap(p.runs))*runMemoryBytes }

const (
	pageMagic      = 0x42547031 // "BTp1"
	pageFixedBytes = 4 + 8 + 16 + 8 + 2 + 4
	runBytes       = 1 + 1 + 1 + 1 + 1 + 1 + 4 + 16 + 8
	pageBytesMax   = pageFixedBytes + PageSectors*runBytes
)

// encodePage appends a page as it stands in the index file.
func encodePage(b []byte, p *page, id identity) []byte {
	start := len(b)
	e := wire.Encoder{Buf: b}
	e.U32(pageMagic)
	e.U64(id.salt)
	e.File(p.key.file)
	e.U64(p.key.page)
	e.U16(uint16(len(p.runs)))
	for _, r := range p.runs {
		e.U8(uint8(r.first))
		e.U8(uint8(r.count - 1))
		e.U8(uint8(r.content))
		e.U8(uint8(r.shard))
		e.U8(uint8(r.index))
		e.U8(uint8(r.recCount - 1))
		e.U32(r.shardBytes)
		e.Version(r.version)
		e.U64(uint64(r.at))
	}
	e.U32(crcOf(e.Buf[start:]))
	return e.Buf
}

// pageCRC is what stands at the end of an encoded page.
func pageCRC(b []byte) uint32 { return binary.BigEndian.Uint32(b[len(b)-4:]) }

var errBadPage = errors.New("index page does not match its checksum or its place")

// decodePage reads what encodePage made.
func decodePage(b []byte, id identity) (*page, error) {
	if len(b) < pageFixedBytes || len(b) > pageBytesMax || crcOf(b[:len(b)-4]) != pageCRC(b) {
		return nil, errBadPage
	}
	d := wire.NewDecoder(b)
	magic, salt := d.U32(), d.U64()
	p := &page{key: pageKey{d.File(), d.U64()}}
	n := int(d.U16())
	if magic != pageMagic || salt != id.salt || n > PageSectors || d.Len() != n*runBytes+4 {
		return nil, errBadPage
	}
	p.runs = make([]run, n)
	end := uint16(0)
	for i := range p.runs {
		r := &p.runs[i]
		r.first, r.count = uint16(d.U8()), uint16(d.U8())+1
		r.content, r.shard = Content(d.U8()), blocktree.ShardIndex(d.U8())
		r.index, r.recCount = uint16(d.U8()), uint16(d.U8())+1
		r.shardBytes = d.U32()
		r.version = d.Version()
		r.at = place(d.U64())
		if err := r.check(end); err != nil {
			return nil, err
		}
		end = r.end()
	}
	d.Raw(4)
	return p, d.Finish()
}

// check refuses runs that no page has; end is where the run before ended.
func (r run) check(end uint16) error {
	ok := r.first >= end && r.end() <= PageSectors && !r.version.IsZero()
	switch r.content {
	case Zero:
		ok = ok && r.index == 0 && r.recCount == 1 && r.shardBytes == 0 && r.shard == 0
	case Data:
		ok = ok && r.index+r.count <= r.recCount && r.shardBytes > 0 && r.shardBytes <= blocktree.SectorBytesMax
	default:
		ok = false
	}
	if !ok {
		return fmt.Errorf("index page has an impossible run: %w", errBadPage)
	}
	return nil
}

// extent makes the caller's view of r, a run of page number n.
func (r run) extent(n uint64) Extent {
	x := Extent{
		First: blocktree.SectorIndex(n*PageSectors + uint64(r.first)), Count: uint32(r.count), Content: r.content,
		Version: r.version, Ref: Ref{Segment: r.at.segment(), Offset: uint32(r.at)},
	}
	if r.content == Data {
		x.Index = uint32(r.index)
		x.Ref.Count, x.Ref.ShardBytes, x.Ref.Shard = uint32(r.recCount), r.shardBytes, r.shard
	}
	return x
}

// zeroRange is a run of whole pages of one file under one tombstone, [from, to) in pages.
type zeroRange struct {
	file     blocktree.FileID
	from, to uint64
	version  blocktree.Version
	at       place
}

func zeroLess(a, b zeroRange) bool {
	if a.file != b.file {
		return fileLess(a.file, b.file)
	}
	return a.from < b.from
}

func (z zeroRange) part(from, to uint64) zeroRange {
	z.from, z.to = from, to
	return z
}

func (z zeroRange) joins(next zeroRange) bool {
	return z.file == next.file && z.to == next.from && z.version == next.version && z.at == next.at
}

// overlapping returns the ranges of file that share a page with [from, to), in order.
func (ix *index) overlapping(file blocktree.FileID, from, to uint64) []zeroRange {
	var out []zeroRange
	ix.zeros.DescendLessOrEqual(zeroRange{file: file, from: from}, func(z zeroRange) bool {
		if z.file == file && z.to > from {
			out = append(out, z)
		}
		return false
	})
	ix.zeros.AscendRange(zeroRange{file: file, from: from}, zeroRange{file: file, from: to}, func(z zeroRange) bool {
		if len(out) == 0 || out[len(out)-1] != z {
			out = append(out, z)
		}
		return true
	})
	return slices.Clip(out)
}

// putZero adds z to the tree, joined with what it continues.
func (ix *index) putZero(z zeroRange) {
	if z.from >= z.to {
		return
	}
	ix.zeros.DescendLessOrEqual(z, func(before zeroRange) bool {
		if before.joins(z) {
			z.from = before.from
		}
		return false
	})
	after, found := zeroRange{}, false
	ix.zeros.AscendGreaterOrEqual(zeroRange{file: z.file, from: z.to}, func(next zeroRange) bool {
		after, found = next, z.joins(next)
		return false
	})
	if found {
		ix.zeros.Delete(after)
		z.to = after.to
	}
	ix.zeros.ReplaceOrInsert(z)
}
