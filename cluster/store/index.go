package store

import (
	"fmt"
	"slices"
	"sync"

	"github.com/google/btree"

	"blocktree"
	"blocktree/internal/invariant"
	"blocktree/internal/vfs"
)

// index says what is committed. Its state on disk is that of the last durable checkpoint: table, zero ranges and the
// pages in file. What changed since is in memory: dirty pages, zeros. mu guards all of it; pages are read from the
// disk with mu held.
type index struct {
	id   identity
	pins *pins

	mu    sync.Mutex
	file  vfs.File
	name  string
	table *tableTree
	zeros *btree.BTreeG[zeroRange]
	cache map[pageKey]*page

	changed    []*page // all that are dirty and not frozen, and some that are not
	clean      page    // head of the ring of clean pages, most recently used first
	cleanBytes int64
	dirtyBytes int64
	cacheMax   int64
	closed     bool
	replaying  bool // Open has not returned
	suspect    bool // a page was found damaged, or discarded
	scratch    []run
	readBuf    []byte
}

// tableEntry says where a page stands in the index file.
type tableEntry struct {
	key    pageKey
	offset uint64
	bytes  uint32 // 0 of a page that is known damaged
	crc    uint32 // the page's, so that no other page of this key is taken for it
}

// sane reports whether the length is that of a page.
func (t tableEntry) sane() bool {
	return t.bytes >= pageFixedBytes && t.bytes <= pageBytesMax || t == tableEntry{key: t.key} // condemned
}

type tableTree = btree.BTreeG[tableEntry]

const btreeDegree = 64

func newIndex(id identity, p *pins, cacheMax int64) *index {
	ix := &index{
		id: id, pins: p, cacheMax: cacheMax, cache: map[pageKey]*page{},
		table: btree.NewG(btreeDegree, func(a, b tableEntry) bool { return a.key.less(b.key) }),
		zeros: btree.NewG(btreeDegree, zeroLess),
	}
	ix.clean.prev, ix.clean.next = &ix.clean, &ix.clean
	return ix
}

// close ends reading.
func (ix *index) close() error {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.closed = true
	if ix.file == nil {
		return nil
	}
	return ix.file.Close()
}

// unlink takes a clean page out of the ring.
func (ix *index) unlink(p *page) {
	p.prev.next, p.next.prev = p.next, p.prev
	p.prev, p.next = nil, nil
	ix.cleanBytes -= p.memoryBytes()
}

func (ix *index) linkFront(p *page) {
	p.prev, p.next = &ix.clean, ix.clean.next
	p.prev.next, p.next.prev = p, p
	ix.cleanBytes += p.memoryBytes()
}

// evict drops clean pages over the bound, but never p.
func (ix *index) evict(p *page) {
	for ix.cleanBytes > ix.cacheMax {
		last := ix.clean.prev
		if last == &ix.clean || last == p {
			return
		}
		ix.unlink(last)
		delete(ix.cache, last.key)
	}
}

// load returns a page, nil where the index has none. The page is good until mu is released.
func (ix *index) load(key pageKey) (*page, error) {
	if p := ix.cache[key]; p != nil {
		if !p.dirty && p != ix.clean.next {
			ix.unlink(p)
			ix.linkFront(p)
		}
		return p, nil
	}
	if ix.closed {
		return nil, blocktree.E("store.readPage", blocktree.Closed, nil)
	}
	entry, ok := ix.table.Get(tableEntry{key: key})
	if !ok {
		return nil, nil
	}
	p, err := ix.readPage(entry)
	if err != nil {
		ix.suspect = true
		return nil, err
	}
	ix.cache[key] = p
	ix.linkFront(p)
	ix.evict(p)
	return p, nil
}

// readPage reads a page from the disk.
func (ix *index) readPage(entry tableEntry) (*page, error) {
	key := entry.key
	damaged := func(err error) error {
		return &blocktree.Error{Op: "store.readPage", Path: ix.name, Kind: blocktree.Corrupt,
			Err: fmt.Errorf("file %v sectors from %d: %w", key.file, key.page*PageSectors, err)}
	}
	if entry.condemned() {
		return nil, damaged(errBadPage)
	}
	if cap(ix.readBuf) < int(entry.bytes) {
		ix.readBuf = make([]byte, entry.bytes)
	}
	b := ix.readBuf[:entry.bytes]
	if n, err := ix.file.ReadAt(b, int64(entry.offset)); n < len(b) {
		return nil, damaged(err)
	}
	p, err := decodePage(b, ix.id)
	if err == nil && (p.key != key || pageCRC(b) != entry.crc) {
		err = errBadPage
	}
	if err != nil {
		return nil, damaged(err)
	}
	return p, nil
}

// update puts runs in the place of a page's runs [from, to). p is what load gave, nil for a new page.
func (ix *index) update(key pageKey, p *page, from, to int, runs []run) {
	switch {
	case p == nil || p.frozen:
		fresh := &page{key: key, dirty: true}
		if p != nil {
			ix.dirtyBytes -= p.memoryBytes() // the checkpoint's from now on
			fresh.runs = slices.Clone(p.runs)
		}
		p = fresh
		ix.cache[key] = p
		ix.changed = append(ix.changed, p)
	case p.dirty:
		ix.dirtyBytes -= p.memoryBytes()
	default:
		ix.unlink(p)
		p.dirty = true
		ix.changed = append(ix.changed, p)
	}
	p.runs = slices.Replace(p.runs, from, to, runs...)
	ix.dirtyBytes += p.memoryBytes()
}

// dead releases a data run that lost.
func (ix *index) dead(r run) {
	if r.content == Data {
		ix.pins.release(r.at.segment(), int64(r.count), r.shardBytes, uint32(r.recCount))
	}
}

// set lays content over the sectors [first, first+count) of one page.
func (ix *index) set(key pageKey, n run) error {
	p, err := ix.load(key)
	if err != nil {
		return ix.spare(key, err)
	}
	ix.lay(key, p, n)
	return nil
}

// lay is set on the page that load gave, nil where it gave none.
func (ix *index) lay(key pageKey, p *page, n run) {
	if z, ok := ix.zeroAt(key); ok && older(n.version, n.at, z.version, z.at) {
		ix.dead(n)
		return
	}
	var before []run
	if p != nil {
		before = p.runs
	}
	from, to := touching(before, n)
	ix.scratch = setRun(ix.scratch[:0], before[from:to], n, ix.dead)
	ix.update(key, p, from, to, ix.scratch)
}

func (ix *index) zeroAt(key pageKey) (found zeroRange, ok bool) {
	if ix.zeros.Len() == 0 {
		return
	}
	ix.zeros.DescendLessOrEqual(zeroRange{file: key.file, from: key.page}, func(z zeroRange) bool {
		if z.file == key.file && z.to > key.page {
			found, ok = z, true
		}
		return false
	})
	return
}

// pages returns the keys of the pages that exist within [from, to) of file, in no order.
func (ix *index) pages(file blocktree.FileID, from, to uint64) []pageKey {
	var keys []pageKey
	lo, hi := tableEntry{key: pageKey{file, from}}, tableEntry{key: pageKey{file, to}}
	ix.table.AscendRange(lo, hi, func(e tableEntry) bool {
		if ix.cache[e.key] == nil {
			keys = append(keys, e.key)
		}
		return true
	})
	if to-from < uint64(len(ix.cache)) {
		for n := from; n < to; n++ {
			if key := (pageKey{file, n}); ix.cache[key] != nil {
				keys = append(keys, key)
			}
		}
		return keys
	}
	for key := range ix.cache {
		if key.file == file && from <= key.page && key.page < to {
			keys = append(keys, key)
		}
	}
	return keys
}

// cut removes sectors of one page, except runs that keep says yes to.
func (ix *index) cut(key pageKey, from, to uint16, keep func(run) bool) error {
	p, err := ix.load(key)
	if err != nil {
		return ix.spare(key, err)
	}
	if p == nil || len(p.runs) == 0 {
		return nil
	}
	ix.scratch = cutRuns(ix.scratch[:0], p.runs, from, to, keep, ix.dead)
	if len(ix.scratch) != len(p.runs) || sectorsOf(ix.scratch) != sectorsOf(p.runs) {
		ix.update(key, p, 0, len(p.runs), ix.scratch)
	}
	return nil
}

func sectorsOf(runs []run) (n int) {
	for _, r := range runs {
		n += int(r.count)
	}
	return n
}

// eachPage calls f with the parts of [first, first+count) that lie in one page each.
func eachPage(first blocktree.SectorIndex, count uint64, f func(n uint64, from, to uint16) error) error {
	for at, end := uint64(first), uint64(first)+count; at < end; {
		n := at / PageSectors
		to := min(end, (n+1)*PageSectors)
		if err := f(n, uint16(at%PageSectors), uint16(to-n*PageSectors)); err != nil {
			return err
		}
		at = to
	}
	return nil
}

// setZero makes a range zero: the pages at its ends get runs, those between a zero range.
func (ix *index) setZero(file blocktree.FileID, first blocktree.SectorIndex, count uint64, v blocktree.Version, at place) error {
	zero := run{version: v, at: at, content: Zero, recCount: 1}
	from := (uint64(first) + PageSectors - 1) / PageSectors
	to := (uint64(first) + count) / PageSectors
	edge := func(n uint64, a, b uint16) error {
		r := zero
		r.first, r.count = a, b-a
		return ix.set(pageKey{file, n}, r)
	}
	if from >= to {
		return eachPage(first, count, edge)
	}
	if err := eachPage(first, from*PageSectors-uint64(first), edge); err != nil {
		return err
	}
	if err := eachPage(blocktree.SectorIndex(to*PageSectors), uint64(first)+count-to*PageSectors, edge); err != nil {
		return err
	}
	// The range first: if a page turns out to be damaged, what was cut already is zero and not absent.
	ix.coverZero(zeroRange{file, from, to, v, at})
	keep := func(r run) bool { return older(v, at, r.version, r.at) }
	for _, key := range ix.pages(file, from, to) {
		if err := ix.cut(key, 0, PageSectors, keep); err != nil {
			return err
		}
	}
	return nil
}

// coverZero lays z over the tree; newer ranges stay.
func (ix *index) coverZero(z zeroRange) {
	old := ix.overlapping(z.file, z.from, z.to)
	for _, o := range old {
		ix.zeros.Delete(o)
	}
	cur := z.from
	for _, o := range old {
		ix.putZero(o.part(o.from, min(o.to, z.from)))
		a, b := max(o.from, z.from), min(o.to, z.to)
		if older(z.version, z.at, o.version, o.at) {
			ix.putZero(z.part(cur, a))
			ix.putZero(o.part(a, b))
			cur = b
		}
		defer ix.putZero(o.part(max(o.from, z.to), o.to))
	}
	ix.putZero(z.part(cur, z.to))
}

// forget removes everything in a range, damaged pages that lie in it as a whole too.
func (ix *index) forget(file blocktree.FileID, first blocktree.SectorIndex, count uint64) error {
	end := uint64(first) + count
	from, to := uint64(first)/PageSectors, (end+PageSectors-1)/PageSectors
	if from >= to {
		return nil
	}
	lo, hi := (uint64(first)+PageSectors-1)/PageSectors, end/PageSectors // the pages that lie in it as a whole
	for _, n := range []uint64{from, to - 1} {                           // damaged ones are found before anything is changed
		if n >= lo && n < hi {
			continue
		}
		if _, err := ix.load(pageKey{file, n}); err != nil {
			if err = ix.spare(pageKey{file, n}, err); err != nil {
				return err
			}
		}
	}
	old := ix.overlapping(file, from, to)
	for _, o := range old {
		ix.zeros.Delete(o)
	}
	for _, o := range old {
		// Where the range cuts a page in two, the zeros that stay become runs of that page.
		ix.putZero(o.part(o.from, min(o.to, from)))
		ix.putZero(o.part(max(o.from, to), o.to))
		for _, n := range []uint64{from, to - 1} {
			if (n < lo || n >= hi) && n >= o.from && n < o.to {
				zero := run{version: o.version, at: o.at, content: Zero, recCount: 1, count: PageSectors}
				if err := ix.set(pageKey{file, n}, zero); err != nil {
					return err
				}
			}
			if from == to-1 {
				break
			}
		}
	}
	never := func(run) bool { return false }
	for _, key := range ix.pages(file, from, to) {
		a := max(uint64(first), key.page*PageSectors) - key.page*PageSectors
		b := min(end, (key.page+1)*PageSectors) - key.page*PageSectors
		_, err := ix.load(key)
		if blocktree.KindOf(err) == blocktree.Corrupt && key.page >= lo && key.page < hi {
			ix.discard(key)
		} else if err = ix.cut(key, uint16(a), uint16(b), never); err != nil {
			return err
		}
	}
	ix.pins.dropStuck(file, first, count)
	return nil
}

// lookup appends the content of [first, first+count) to dst.
func (ix *index) lookup(file blocktree.FileID, first blocktree.SectorIndex, count uint64, dst []Extent) ([]Extent, error) {
	start := len(dst)
	add := func(x Extent) {
		if x.Count == 0 {
			return
		}
		if n := len(dst); n > start && joins(dst[n-1], x) && dst[n-1].Count+x.Count > x.Count {
			dst[n-1].Count += x.Count
			return
		}
		dst = append(dst, x)
	}
	err := eachPage(first, count, func(n uint64, from, to uint16) error {
		p, err := ix.load(pageKey{file, n})
		if err != nil {
			return err
		}
		gap := run{content: Absent}
		z, covered := ix.zeroAt(pageKey{file, n})
		if covered {
			gap = run{content: Zero, version: z.version, at: z.at, count: PageSectors}
		}
		fill := func(a, b uint16) {
			g := gap
			g.first, g.count = a, b-a
			add(g.extent(n))
		}
		cur := from
		if p != nil {
			for i := runAfter(p.runs, int(from)); i < len(p.runs) && p.runs[i].first < to; i++ {
				r := &p.runs[i]
				if covered && older(r.version, r.at, z.version, z.at) {
					continue
				}
				a, b := max(r.first, from), min(r.end(), to)
				fill(cur, a)
				add(r.part(a, b).extent(n))
				cur = b
			}
		}
		fill(cur, to)
		return nil
	})
	return dst, err
}

func joins(a, b Extent) bool {
	if a.Content != b.Content || a.Version != b.Version || a.Ref != b.Ref {
		return false
	}
	return a.Content != Data || a.Index+a.Count == b.Index
}

// indexData makes sectors of a pending record the content of their place; see Store.Index.
func (ix *index) indexData(file blocktree.FileID, x Extent) error {
	at := x.Ref.place()
	rec, pending := ix.pins.get(at)
	if pending {
		if rec.file != file || rec.version != x.Version || rec.first+blocktree.SectorIndex(x.Index) != x.First ||
			x.Index+x.Count > uint32(rec.count) || rec.shardBytes != x.Ref.ShardBytes || rec.shard != x.Ref.Shard {
			return fmt.Errorf("sectors %d to %d of version %v are not those of record %v", x.First,
				uint64(x.First)+uint64(x.Count)-1, x.Version, x.Ref)
		}
	}
	n := run{
		version: x.Version, at: at, shardBytes: x.Ref.ShardBytes, recCount: uint16(x.Ref.Count), content: Data, shard: x.Ref.Shard,
	}
	return eachPage(x.First, uint64(x.Count), func(page uint64, from, to uint16) error {
		key := pageKey{file, page}
		base := x.Index + uint32(page*PageSectors-uint64(x.First)) // of sector 0 of the page; wraps, and back
		p, err := ix.load(key)
		if err != nil {
			if err = ix.spare(key, err); err == nil {
				ix.pins.stick(at, base+uint32(from), uint32(to-from))
			}
			return err
		}
		for a := from; a < to; {
			isPending := pending && rec.bits.has(base+uint32(a))
			b := a + 1
			for b < to && isPending == (pending && rec.bits.has(base+uint32(b))) {
				b++
			}
			r := n
			r.first, r.count, r.index = a, b-a, uint16(base+uint32(a))
			if !isPending {
				if err := ix.mustBeSettled(key, r); err != nil {
					return err
				}
			} else {
				settled := ix.pins.settle(at, uint32(r.index), uint32(r.count), false)
				invariant.Check(settled == uint32(r.count), "%d of %d sectors of record %v pending", settled, r.count, x.Ref)
				ix.lay(key, p, r)
				if b < to {
					p = ix.cache[key] // it may be another one by now
				}
			}
			a = b
		}
		return nil
	})
}

// mustBeSettled checks that every sector of r is there already, or something newer is. Otherwise the record was dropped,
// or never was: to go on would lose a committed version without a word.
func (ix *index) mustBeSettled(key pageKey, r run) error {
	first := blocktree.SectorIndex(key.page*PageSectors + uint64(r.first))
	found, err := ix.lookup(key.file, first, uint64(r.count), nil)
	if err != nil {
		return err
	}
	for _, x := range found {
		if x.Content == Absent || older(x.Version, x.Ref.place(), r.version, r.at) {
			return fmt.Errorf("sector %d: record %v is not pending", x.First, r.extent(key.page).Ref)
		}
	}
	return nil
}
