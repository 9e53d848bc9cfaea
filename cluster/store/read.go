package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"blocktree"
)

// readBuffers holds *[]byte for reads of one sector with its metadata, and for the metadata of longer ones.
type readBuffers struct{ pool sync.Pool }

func (p *readBuffers) get(n int) *[]byte {
	if b, ok := p.pool.Get().(*[]byte); ok && cap(*b) >= n {
		*b = (*b)[:n]
		return b
	}
	b := make([]byte, n, max(n, 4<<10))
	return &b
}

// ReadShards reads the sectors of x, Data of file as Lookup gave it or a part of that (Extent.Sub), or a pending record
// that is durable. payload has room for Count × Ref.ShardBytes, seals for Count × SealBytes; they are filled and not
// kept. One read of the disk for a record of one sector, two else. Every sector is checked against its whole identity.
//
// Kinds: Corrupt, with a *Damage as cause that names the bad sectors, those that the disk cannot read among them (the
// others are good); NotFound when the record's segment was deleted because newer content was indexed meanwhile: look up
// again; Invalid; Closed.
func (s *Store) ReadShards(file blocktree.FileID, x Extent, payload, seals []byte) error {
	size := int(x.Ref.ShardBytes)
	if x.Content != Data || x.Count == 0 || x.Count > blocktree.RunSectorsMax || x.Index+x.Count > x.Ref.Count || x.Index > x.Ref.Count ||
		x.Ref.Count > blocktree.RunSectorsMax || size == 0 || size > blocktree.SectorBytesMax ||
		len(payload) != int(x.Count)*size || len(seals) != int(x.Count)*SealBytes {
		return blocktree.E("store.ReadShards", blocktree.Invalid,
			fmt.Errorf("%d sectors from %d of record %v", x.Count, x.Index, x.Ref))
	}
	seg, err := s.segs.acquire(x.Ref.Segment)
	if err != nil {
		return blocktree.E("store.ReadShards", blocktree.KindOf(err), err)
	}
	defer s.segs.release(seg)

	buf := s.readBufs.get(sectorPrefixBytes + s.readBytes(x))
	defer s.readBufs.pool.Put(buf)
	scratch, meta := (*buf)[:sectorPrefixBytes], (*buf)[sectorPrefixBytes:]
	start := int64(x.Ref.Offset) + headerBytes
	if x.Ref.Count == 1 {
		err = readFull(seg.file, meta, start)
		copy(payload, meta)
		meta = meta[size:]
	} else {
		err = readFull(seg.file, payload, start+int64(x.Index)*int64(size))
		if err == nil {
			err = readFull(seg.file, meta, start+int64(x.Ref.Count)*int64(size)+int64(x.Index)*metaBytes)
		}
	}
	if blocktree.KindOf(err) == blocktree.IO {
		return s.readSingly(file, x, payload, seals, err)
	}
	if err != nil {
		return blocktree.E("store.ReadShards", blocktree.KindOf(err), err)
	}
	return s.verify(file, x, scratch, meta, payload, seals)
}

// readSingly reads what the disk could not read as a whole: sector by sector.
func (s *Store) readSingly(file blocktree.FileID, x Extent, payload, seals []byte, cause error) error {
	d := &Damage{File: file, Ref: x.Ref}
	size := int(x.Ref.ShardBytes)
	for i := range x.Count {
		err := cause
		if x.Count > 1 {
			at := int(i)
			err = s.ReadShards(file, x.Sub(i, 1), payload[at*size:(at+1)*size], seals[at*SealBytes:(at+1)*SealBytes])
		}
		if kind := blocktree.KindOf(err); kind == blocktree.NotFound || kind == blocktree.Closed {
			return err // the segment went meanwhile, which is no damage
		}
		if err != nil {
			d.Sectors = append(d.Sectors, x.First+blocktree.SectorIndex(i))
		}
	}
	if d.Sectors == nil {
		return nil
	}
	s.log.Error("unreadable sectors", "segment", x.Ref.Segment, "sectors", len(d.Sectors), "error", cause)
	return blocktree.E("store.ReadShards", blocktree.Corrupt, d)
}

// readBytes is how much of the record goes through the buffer.
func (s *Store) readBytes(x Extent) int {
	if x.Ref.Count == 1 {
		return int(x.Ref.ShardBytes) + metaBytes
	}
	return int(x.Count) * metaBytes
}

// readFull fills b; what lies behind the end of the file reads as zeros, which never check.
func readFull(f io.ReaderAt, b []byte, off int64) error {
	n, err := f.ReadAt(b, off)
	clear(b[n:])
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// verify checks each sector and copies its seal out; the seal of a bad sector is zeroed.
func (s *Store) verify(file blocktree.FileID, x Extent, scratch, meta, payload, seals []byte) error {
	size := int(x.Ref.ShardBytes)
	var bad []blocktree.SectorIndex
	for i := range int(x.Count) {
		m := meta[i*metaBytes : (i+1)*metaBytes]
		sector := x.First + blocktree.SectorIndex(i)
		crc := sectorCRC(scratch, s.id.store, file, sector, x.Version, x.Ref.Shard, m[:SealBytes], payload[i*size:(i+1)*size])
		if crc != binary.BigEndian.Uint32(m[SealBytes:]) {
			bad = append(bad, sector)
			clear(seals[i*SealBytes : (i+1)*SealBytes])
			continue
		}
		copy(seals[i*SealBytes:], m[:SealBytes])
	}
	if bad != nil {
		return blocktree.E("store.ReadShards", blocktree.Corrupt, &Damage{File: file, Ref: x.Ref, Sectors: bad})
	}
	return nil
}

// Holds reports whether the file of a data record is there and long enough for it, and Open found nothing wrong with it. It does
// not read it.
func (s *Store) Holds(ref Ref) bool {
	if s.bad[ref.place()] {
		return false
	}
	s.logMu.Lock()
	defer s.logMu.Unlock()
	s.segs.mu.Lock()
	defer s.segs.mu.Unlock()
	seg := s.segs.byNo[ref.Segment]
	return seg != nil && int64(ref.Offset)+headerBytes+int64(ref.Count)*(int64(ref.ShardBytes)+metaBytes) <= seg.bytes
}
