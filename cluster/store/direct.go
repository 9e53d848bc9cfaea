package store

import (
	"blocktree"
	"blocktree/internal/vfs"
)

// Long records are written past the page cache (docs/design/0053-direct-log.md). A disk wants memory, length and place at multiples of vfs.DirectBytes. A record that is
// written so begins at one in its segment; its payload lies headerBytes behind one in memory, so that all of the payload but its ends is written from where it is. What is
// before and behind that is put together here:
//
//	head   | header, the first headBytes of the payload        | one block
//	middle | the payload's                                     | from the caller's memory
//	tail   | the rest of the payload, metadata, and zeros      | blocks
//
// It is a record as any other. What it leaves free before it, and what it ends with, are padding, which whoever reads a segment passes over.

// headBytes is what a head has of the payload.
const headBytes = vfs.DirectBytes - headerBytes

// directBufferBytes is what the longest record has as head and tail, and a block for what is needed while it is made.
const directBufferBytes = 2*vfs.DirectBytes + (vfs.DirectBytes+blocktree.RunSectorsMax*metaBytes+vfs.DirectBytes-1)/vfs.DirectBytes*vfs.DirectBytes

func roundUpDirect(n int64) int64 { return (n + vfs.DirectBytes - 1) &^ (vfs.DirectBytes - 1) }

// isDirect reports whether a record is written past the page cache: if it is long, and its payload lies where it must. One that only just fits a segment is not.
func (s *Store) isDirect(h *header, r *Record) bool {
	if r.Kind != KindData || len(r.Payload) < max(s.opts.directMin, headBytes+vfs.DirectBytes) {
		return false
	}
	return vfs.CanBeDirect(middleOf(r.Payload)) && roundUpDirect(segmentHeaderRoom)+roundUpDirect(h.bytes()) <= s.opts.SegmentBytes
}

// middleOf is what of a payload is written from where it is.
func middleOf(payload []byte) []byte {
	end := headBytes + (len(payload)-headBytes)&^(vfs.DirectBytes-1)
	return payload[headBytes:end:end]
}

// encodeDirect is encodeOne for a record that is written past the page cache.
func (s *Store) encodeDirect(h *header, r *Record) item {
	middle := middleOf(r.Payload)
	n := int(roundUpDirect(h.bytes())) - len(middle)
	it := item{record: true, payload: middle, split: vfs.DirectBytes, direct: true}
	it.buf = s.bufs.getDirect(n + sectorPrefixBytes)[:n]
	copy(it.buf[headerBytes:vfs.DirectBytes], r.Payload)
	at := vfs.DirectBytes + copy(it.buf[vfs.DirectBytes:], r.Payload[headBytes+len(middle):])
	end := at + int(h.metaBytes())
	encodeMeta(it.buf[at:end], it.buf[n:n+sectorPrefixBytes], s.id.store, r)
	h.bodyCRC = crcOf(it.buf[at:end])
	clear(it.buf[end:])
	h.encode(it.buf, s.id)
	return it
}

// write writes what iov holds: items that lie side by side from first to end.
func (s *Store) write(first *item, end int64) error {
	at := int64(first.offset)
	file, can := first.seg.file.(vfs.Direct)
	if !first.direct || !can {
		if rest := min(roundUpDirect(end), s.opts.SegmentBytes) - end; rest > 0 && first.seg.recycled {
			// What is left of the last block is in the file, and not in memory where it was written past it: else the system would read it now.
			s.iov = append(s.iov, s.zeroBlock[:rest])
		}
		_, err := first.seg.file.WritevAt(s.iov, at)
		return err
	}
	direct, err := file.WriteDirectAt(s.iov, at)
	s.noteDirect(direct, end-at)
	return err
}

// noteDirect counts what was written past the page cache, and says once that it could not be.
func (s *Store) noteDirect(direct bool, bytes int64) {
	s.logMu.Lock()
	told := s.toldIndirect
	if direct {
		s.stats.DirectBytes += uint64(bytes)
	} else {
		s.toldIndirect = true
	}
	s.logMu.Unlock()
	if !direct && !told {
		s.log.Info("the file system has no direct writes: long records go through the page cache")
	}
}

// getDirect returns a buffer of n bytes, at most directBufferBytes, with anything in it, at a multiple of vfs.DirectBytes.
func (b *buffers) getDirect(n int) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if last := len(b.direct) - 1; last >= 0 {
		out := b.direct[last][:n]
		b.direct = b.direct[:last]
		return out
	}
	return vfs.DirectMemory(directBufferBytes)[:n]
}
