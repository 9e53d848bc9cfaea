package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"blocktree"
	"blocktree/internal/invariant"
)

// item is one thing to write: a record, or a segment's header.
type item struct {
	seg     *segment
	offset  uint32
	buf     []byte      // header, and behind the payload: metadata and padding
	payload []byte      // the caller's
	split   int         // of buf, so much is before the payload
	direct  bool        // written past the page cache: see direct.go
	at      place       // of a data record, to unpin it if it fails; else 0
	record  bool        // not a segment header
	voids   []sequences // of a segment header, to be named again if it is not written
}

func (it *item) bytes() int64 { return int64(len(it.buf) + len(it.payload)) }

// startAt is where the item begins in a segment of which end bytes are taken.
func (it *item) startAt(end int64) int64 {
	if it.direct {
		return roundUpDirect(end)
	}
	return end
}

// call is one Append: items up to end belong to it or to calls before.
type call struct {
	done     func(error)
	end      int
	bytes    int64
	sequence uint64 // of its last record
	at       time.Time
	lazy     bool // its records need not be durable yet: done is called once they are written
}

// queue is what waits to be written.
type queue struct {
	items []item
	calls []call
	bytes int64
}

func (q *queue) reset() {
	clear(q.items)
	clear(q.calls)
	*q = queue{items: q.items[:0], calls: q.calls[:0]}
}

// How many prepared segments records leave: the last is the compactor's, the one before for zero and control records only.
const (
	reserveSegments     = 1
	dataReserveSegments = 2
)

// Append puts recs into the log, in order, and returns a Ref for each. It does not wait for the disk (but may make a
// new segment's file, a few milliseconds per SegmentBytes). done is called exactly once, by another goroutine, with
// nil when all recs are durable; recs' slices must not change before. When Append returns an error, nothing was
// appended and done is not called.
//
// Kinds: Invalid for impossible records, TooLarge for a record that no segment holds or recs of more than
// GroupCommitBytesMax together, NoSpace (also through done), Busy when InFlightBytesMax wait to be written, Closed, and
// after Fatal the error that was fatal.
func (s *Store) Append(recs []Record, done func(error)) ([]Ref, error) {
	return s.append(recs, done, false)
}

func (s *Store) append(recs []Record, done func(error), lazy bool) ([]Ref, error) {
	var few [2]item // most calls are of one record
	items, err := s.encode(few[:0], recs)
	if err != nil {
		return nil, err
	}
	reserve := reserveSegments
	for i := range recs {
		if recs[i].Kind == KindData {
			reserve = dataReserveSegments
		}
	}
	s.logMu.Lock()
	defer s.logMu.Unlock()
	for {
		if err := s.accepting(); err != nil {
			s.bufs.put(items)
			return nil, err
		}
		want := s.rollsFor(items)
		if want > 0 || reserve == dataReserveSegments { // the active segment may be one of the reserve
			want += reserve
		}
		if len(s.prepared) >= want {
			break
		}
		s.logMu.Unlock()
		err := s.prepare(want)
		s.logMu.Lock()
		if err != nil {
			s.bufs.put(items)
			if ignore(err, blocktree.NoSpace, blocktree.Closed) != nil {
				s.latch(err)
			}
			if s.logBytes > 0 || s.pins.deadSegments() > 0 {
				s.wantCheckpoint() // it may free something
			}
			return nil, blocktree.E("store.Append", blocktree.KindOf(err), err)
		}
	}
	refs := s.enqueue(recs, items, done)
	if !lazy {
		signal(s.wake)
		return refs, nil
	}
	c := &s.queue.calls[len(s.queue.calls)-1]
	c.lazy, s.lazyTo = true, c.sequence
	return refs, nil
}

// accepting says whether records may be appended; logMu is held.
func (s *Store) accepting() error {
	switch {
	case s.fatal != nil:
		return s.fatal
	case s.closing || !s.opened:
		return blocktree.E("store.Append", blocktree.Closed, nil)
	case s.queue.bytes > blocktree.InFlightBytesMax:
		return blocktree.E("store.Append", blocktree.Busy, errors.New("too much waits for the disk"))
	}
	return nil
}

// encode appends the items of recs to items, complete but for what depends on their place.
func (s *Store) encode(items []item, recs []Record) ([]item, error) {
	if len(recs) == 0 {
		return nil, blocktree.E("store.Append", blocktree.Invalid, errors.New("no records"))
	}
	var total int64
	for i := range recs {
		r := &recs[i]
		h := header{Record: *r, blob: uint32(len(r.Blob))}
		err := h.check()
		if err == nil && r.Kind == KindData &&
			(int64(len(r.Payload)) != h.payloadBytes() || len(r.Seals) != int(r.Count)*SealBytes) {
			err = fmt.Errorf("%d bytes of payload and %d of seals for %d shards of %d", len(r.Payload), len(r.Seals), r.Count, r.ShardBytes)
		}
		if err == nil && r.Kind != KindData && len(r.Payload)+len(r.Seals) > 0 {
			err = errors.New("payload where there is none")
		}
		if total += h.bytes(); err == nil && total > blocktree.GroupCommitBytesMax {
			err = blocktree.E("records", blocktree.TooLarge, fmt.Errorf("more than %d bytes together", blocktree.GroupCommitBytesMax))
		}
		if err == nil && segmentHeaderRoom+h.bytes() > s.opts.SegmentBytes {
			err = blocktree.E("record", blocktree.TooLarge, fmt.Errorf("%d bytes in segments of %d", h.bytes(), s.opts.SegmentBytes))
		}
		if err != nil {
			s.bufs.put(items)
			kind := blocktree.KindOf(err)
			if kind == blocktree.Other {
				kind = blocktree.Invalid
			}
			return nil, blocktree.E("store.Append", kind, err)
		}
		items = append(items, s.encodeOne(&h, r))
	}
	return items, nil
}

func (s *Store) encodeOne(h *header, r *Record) item {
	if s.isDirect(h, r) {
		return s.encodeDirect(h, r)
	}
	it := item{record: true, payload: r.Payload, split: headerBytes}
	if r.Kind == KindControl {
		it.payload = r.Blob
		h.bodyCRC = crcOf(r.Blob)
	}
	n := int(h.bytes()) - len(it.payload)
	it.buf = s.bufs.get(n + sectorPrefixBytes)[:n]
	if r.Kind == KindData {
		end := headerBytes + int(h.metaBytes())
		meta := it.buf[headerBytes:end]
		encodeMeta(meta, it.buf[n:n+sectorPrefixBytes], s.id.store, r)
		h.bodyCRC = crcOf(meta)
		clear(it.buf[end:])
	} else {
		clear(it.buf[headerBytes:])
	}
	h.encode(it.buf, s.id)
	return it
}

// segmentHeaderRoom is what a record must leave in a segment for an ordinary header.
const segmentHeaderRoom = align

// headerRoom is the length of the next segment's header; logMu is held.
func (s *Store) headerRoom() int64 {
	h := segmentHeader{voids: s.voids}
	return h.bytes()
}

// rollsFor counts the segments that items need beyond the active one; logMu is held.
func (s *Store) rollsFor(items []item) int {
	rolls := 0
	end := s.active.end
	for i := range items {
		n := items[i].bytes()
		if start := items[i].startAt(end); start+n <= s.opts.SegmentBytes {
			end = start + n
			continue
		}
		rolls++
		end = segmentHeaderRoom
		if rolls == 1 {
			end = s.headerRoom()
		}
		end = items[i].startAt(end) + n
	}
	return rolls
}

// enqueue gives items their places and leaves them to who writes next; logMu is held.
func (s *Store) enqueue(recs []Record, items []item, done func(error)) []Ref {
	refs := make([]Ref, len(recs))
	var bytes int64
	for i := range items {
		it := &items[i]
		n := it.bytes()
		if it.startAt(s.active.end)+n > s.opts.SegmentBytes {
			s.roll()
		}
		start := it.startAt(s.active.end)
		n += start - s.active.end // what is left free before it is taken, too
		it.seg, it.offset = s.active, uint32(start)
		s.active.end += n
		placeHeader(it.buf, s.nextSequence, it.seg.number, it.offset)
		s.nextSequence++
		r := &recs[i]
		refs[i] = Ref{Segment: it.seg.number, Offset: it.offset}
		if r.Kind == KindData {
			refs[i].Count, refs[i].ShardBytes, refs[i].Shard = r.Count, r.ShardBytes, r.Shard
			it.at = refs[i].place()
			s.pins.add(refs[i], r)
		}
		s.queue.items = append(s.queue.items, *it)
		bytes += n
	}
	s.queue.calls = append(s.queue.calls, call{done: done, end: len(s.queue.items), bytes: bytes, sequence: s.nextSequence - 1, at: time.Now()})
	s.queue.bytes += bytes
	s.logBytes += bytes
	if s.logBytes >= s.opts.CheckpointBytes {
		s.wantCheckpoint()
	}
	return refs
}

// roll makes the first prepared segment the active one and queues its header; logMu is held.
func (s *Store) roll() {
	invariant.Check(len(s.prepared) > 0, "no segment prepared")
	s.active = s.prepared[0]
	s.prepared = append(s.prepared[:0], s.prepared[1:]...)
	h := segmentHeader{
		segment: s.active.number, start: s.starts, sequence: s.nextSequence, synced: s.synced, voids: s.voids,
	}
	s.voids = nil
	s.pins.setActive(s.active.number)
	s.queue.items = append(s.queue.items, item{seg: s.active, buf: h.encode(s.id), voids: h.voids})
	s.active.end = h.bytes()
	if len(s.prepared) < dataReserveSegments {
		s.wantCheckpoint() // the reserve is being used, and tombstones keep no segment alive once one is durable
	}
	signal(s.prepareWake)
	signal(s.compactWake) // it looks again for each segment that is filled, not only now and then
}

// patchSynced completes a record's header with what is known durable when it is written.
func patchSynced(b []byte, synced uint64) {
	binary.BigEndian.PutUint64(b[offSynced:], synced)
	finishHeader(b)
}

// buffers keeps the buffers of headers and metadata for the next records: short ones, and those of long records.
type buffers struct {
	mu     sync.Mutex
	short  [][]byte
	long   [][]byte
	direct [][]byte
}

// Short buffers have bufferBytesMin to bufferBytesMax, long ones longBufferBytes: what the longest record has beside its payload. Of these as many are kept as
// are in flight when a group is written while the next one gathers, each of a few records of half a mebibyte or more.
const (
	buffersMax      = 1024
	bufferBytesMin  = 1 << 10
	bufferBytesMax  = 4 << 10
	longBuffersMax  = 64
	longBufferBytes = (headerBytes + blocktree.RunSectorsMax*metaBytes + align + sectorPrefixBytes + 1<<10 - 1) &^ (1<<10 - 1)
)

// get returns a buffer of n bytes with anything in it. One of a control record has no more than its payload leaves.
func (b *buffers) get(n int) []byte {
	if n > longBufferBytes {
		return make([]byte, n)
	}
	free, room := &b.short, max(n, bufferBytesMin)
	if n > bufferBytesMax {
		free, room = &b.long, longBufferBytes
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if last := len(*free) - 1; last >= 0 && cap((*free)[last]) >= n {
		out := (*free)[last][:n]
		*free = (*free)[:last]
		return out
	}
	return make([]byte, n, room)
}

func (b *buffers) put(items []item) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range items {
		buf := items[i].buf
		items[i].buf = nil
		switch n := cap(buf); {
		case !items[i].record:
		case items[i].direct:
			if len(b.direct) < longBuffersMax {
				b.direct = append(b.direct, buf)
			}
		case n >= bufferBytesMin && n <= bufferBytesMax && len(b.short) < buffersMax:
			b.short = append(b.short, buf)
		case n == longBufferBytes && len(b.long) < longBuffersMax:
			b.long = append(b.long, buf)
		}
	}
}
