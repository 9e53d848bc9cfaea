package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"blocktree"
	"blocktree/internal/wire"
)

const (
	format = 1

	align       = 512 // records start at multiples of it
	headerBytes = blocktree.RecordHeaderBytes
	metaBytes   = SealBytes + 4 // per sector, behind the payload

	recordMagic  = 0x42547231 // "BTr1"
	segmentMagic = 0x42547331 // "BTs1"

	// Places of header fields that are written late.
	offSequence = 24
	offSynced   = 32
	offSegment  = 40
	offOffset   = 44
	offCRC      = headerBytes - 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func crcOf(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// identity is what every structure of one store carries: records of another store, or planted in a payload by
// somebody who does not know the salt, are not taken for this store's.
type identity struct {
	store blocktree.NodeID
	salt  uint64
}

// header is a record's header as on disk.
type header struct {
	Record          // without Seals, Payload, Blob
	sequence uint64 // in the log
	synced   uint64 // the highest sequence known durable when this was written
	segment  uint32
	offset   uint32
	blob     uint32 // length of Blob
	bodyCRC  uint32 // of Blob, or of all per-sector metadata
}

var errBadRecord = errors.New("not a record of this store at this place")

func roundUp(n int64) int64 { return (n + align - 1) &^ (align - 1) }

// payloadBytes is the length of what stands between header and per-sector metadata.
func (h *header) payloadBytes() int64 {
	switch h.Kind {
	case KindData:
		return int64(h.Count) * int64(h.ShardBytes)
	case KindControl:
		return int64(h.blob)
	}
	return 0
}

// metaBytes is the length of the per-sector metadata.
func (h *header) metaBytes() int64 {
	if h.Kind == KindData {
		return int64(h.Count) * metaBytes
	}
	return 0
}

// bytes is the length of the whole record with its padding.
func (h *header) bytes() int64 { return roundUp(headerBytes + h.payloadBytes() + h.metaBytes()) }

func (h *header) ref() Ref {
	r := Ref{Segment: h.segment, Offset: h.offset}
	if h.Kind == KindData {
		r.Count, r.ShardBytes, r.Shard = h.Count, h.ShardBytes, h.Shard
	}
	return r
}

// check refuses shapes that no writer of this format makes.
func (h *header) check() error {
	if h.First > sectorsEnd-blocktree.SectorIndex(h.Count) {
		return errors.New("sectors past the end of the world")
	}
	switch h.Kind {
	case KindData:
		if h.Count < 1 || h.Count > blocktree.RunSectorsMax || h.ShardBytes < 1 || h.ShardBytes > blocktree.SectorBytesMax ||
			h.payloadBytes() > blocktree.RunBytesMax || h.blob != 0 || h.Version.IsZero() {
			return fmt.Errorf("data record of %d shards of %d bytes, version %v", h.Count, h.ShardBytes, h.Version)
		}
	case KindZero:
		if h.Count < 1 || h.Count > ZeroSectorsMax || h.blob != 0 || h.Version.IsZero() || h.ShardBytes != 0 || h.Shard != 0 {
			return fmt.Errorf("zero record of %d sectors, version %v", h.Count, h.Version)
		}
	case KindControl:
		if h.blob > ControlBytesMax || h.ShardBytes != 0 || h.Shard != 0 {
			return fmt.Errorf("control record of %d bytes", h.blob)
		}
	case KindNote:
		if h.Record.File != (blocktree.FileID{}) || h.Count != 0 || h.blob != 0 || h.ShardBytes != 0 || h.Shard != 0 {
			return errors.New("a note that says something")
		}
	default:
		return fmt.Errorf("record of kind %d", h.Kind)
	}
	return nil
}

// encode fills b[:headerBytes].
func (h *header) encode(b []byte, id identity) {
	e := wire.Encoder{Buf: b[:0]}
	e.U32(recordMagic)
	e.U64(id.salt)
	e.U8(format)
	e.U8(uint8(h.Kind))
	e.U8(uint8(h.Shard))
	e.Bool(h.Installed)
	e.U64(uint64(id.store))
	e.U64(h.sequence)
	e.U64(h.synced)
	e.U32(h.segment)
	e.U32(h.offset)
	e.File(h.File)
	e.U64(uint64(h.First))
	e.U32(h.Count)
	e.U32(h.ShardBytes)
	e.Version(h.Version)
	e.Version(h.Watermark)
	e.U32(h.blob)
	e.U32(h.bodyCRC)
	e.U32(uint32(h.Region))
	clear(b[len(e.Buf):offCRC])
	finishHeader(b)
}

// finishHeader sets the header's own CRC.
func finishHeader(b []byte) { binary.BigEndian.PutUint32(b[offCRC:], crcOf(b[:offCRC])) }

// place writes the fields that are known when the record gets its place.
func placeHeader(b []byte, sequence uint64, segment, offset uint32) {
	binary.BigEndian.PutUint64(b[offSequence:], sequence)
	binary.BigEndian.PutUint32(b[offSegment:], segment)
	binary.BigEndian.PutUint32(b[offOffset:], offset)
}

// looksLikeRecord is the quick test of a resync.
func looksLikeRecord(b []byte, id identity) bool {
	return binary.BigEndian.Uint32(b) == recordMagic && binary.BigEndian.Uint64(b[4:]) == id.salt
}

// decodeHeader reads b[:headerBytes]. It returns NewerFormat for an intact header of a later format, else errBadRecord.
func decodeHeader(b []byte, id identity) (header, error) {
	var h header
	if len(b) < headerBytes || !looksLikeRecord(b, id) || binary.BigEndian.Uint32(b[offCRC:]) != crcOf(b[:offCRC]) {
		return h, errBadRecord
	}
	if b[12] > format {
		return h, newerFormat("record", b[12])
	}
	d := wire.NewDecoder(b[13:headerBytes])
	h.Kind = Kind(d.U8())
	h.Shard = blocktree.ShardIndex(d.U8())
	h.Installed = d.Bool()
	store := blocktree.NodeID(d.U64())
	h.sequence = d.U64()
	h.synced = d.U64()
	h.segment = d.U32()
	h.offset = d.U32()
	h.File = d.File()
	h.First = blocktree.SectorIndex(d.U64())
	h.Count = d.U32()
	h.ShardBytes = d.U32()
	h.Version = d.Version()
	h.Watermark = d.Version()
	h.blob = d.U32()
	h.bodyCRC = d.U32()
	h.Region = blocktree.RegionIndex(d.U32())
	for _, zero := range d.Raw(d.Len() - 4) {
		if zero != 0 {
			return h, errBadRecord
		}
	}
	d.Raw(4)
	if d.Finish() != nil || b[12] != format || store != id.store || h.synced >= h.sequence || h.check() != nil {
		return h, errBadRecord
	}
	return h, nil
}

func newerFormat(what string, v uint8) error {
	return &blocktree.Error{Op: "store.Open", Kind: blocktree.NewerFormat,
		Err:  fmt.Errorf("%s of format %d, this software reads %d", what, v, format),
		Hint: "install the version of btnode that last used this directory, or a later one"}
}

// sectorPrefixBytes is the length of the identity that a sector's CRC covers before seal and shard.
const sectorPrefixBytes = 8 + 16 + 8 + 16 + 1 + 4

// sectorCRC is the CRC32C of one sector's whole identity, its seal and its shard. scratch has room for
// sectorPrefixBytes.
func sectorCRC(scratch []byte, store blocktree.NodeID, file blocktree.FileID, sector blocktree.SectorIndex,
	v blocktree.Version, shard blocktree.ShardIndex, seal, payload []byte,
) uint32 {
	e := wire.Encoder{Buf: scratch[:0]}
	e.U64(uint64(store))
	e.File(file)
	e.U64(uint64(sector))
	e.Version(v)
	e.U8(uint8(shard))
	e.U32(uint32(len(payload)))
	crc := crc32.Update(0, castagnoli, e.Buf)
	crc = crc32.Update(crc, castagnoli, seal)
	return crc32.Update(crc, castagnoli, payload)
}

// encodeMeta fills meta, Count × metaBytes, with the seals and CRCs of a data record. scratch as in sectorCRC.
func encodeMeta(meta, scratch []byte, store blocktree.NodeID, r *Record) {
	for i := range int(r.Count) {
		m := meta[i*metaBytes : (i+1)*metaBytes]
		seal := m[:SealBytes]
		copy(seal, r.Seals[i*SealBytes:])
		shard := r.Payload[i*int(r.ShardBytes) : (i+1)*int(r.ShardBytes)]
		crc := sectorCRC(scratch, store, r.File, r.First+blocktree.SectorIndex(i), r.Version, r.Shard, seal, shard)
		binary.BigEndian.PutUint32(m[SealBytes:], crc)
	}
}

// sequences is a range of log sequences, both ends included.
type sequences struct{ from, to uint64 }

// segmentHeader stands at the start of a segment.
type segmentHeader struct {
	segment  uint32
	start    uint64 // the start counter of the process that wrote it
	sequence uint64 // of the first record
	synced   uint64 // all sequences up to here are durable, void, or were reported damaged
	voids    []sequences
}

const (
	segmentHeaderFixed = 4 + 8 + 1 + 8 + 4 + 8 + 8 + 8 + 4
	// voidsMax bounds the ranges of a header: every other record of two groups of the smallest records.
	voidsMax = 2*blocktree.GroupCommitBytesMax/align/2 + 16
)

func (h *segmentHeader) bytes() int64 {
	return roundUp(segmentHeaderFixed + int64(len(h.voids))*16 + 4)
}

func (h *segmentHeader) encode(id identity) []byte {
	e := wire.Encoder{Buf: make([]byte, 0, h.bytes())}
	e.U32(segmentMagic)
	e.U64(id.salt)
	e.U8(format)
	e.U64(uint64(id.store))
	e.U32(h.segment)
	e.U64(h.start)
	e.U64(h.sequence)
	e.U64(h.synced)
	e.U32(uint32(len(h.voids)))
	for _, v := range h.voids {
		e.U64(v.from)
		e.U64(v.to)
	}
	e.U32(crcOf(e.Buf))
	return e.Buf[:h.bytes()]
}

// decodeSegmentHeader reads what encode made; b may be longer.
func decodeSegmentHeader(b []byte, id identity) (segmentHeader, error) {
	var h segmentHeader
	d := wire.NewDecoder(b)
	magic, salt, version := d.U32(), d.U64(), d.U8()
	store := blocktree.NodeID(d.U64())
	h.segment = d.U32()
	h.start, h.sequence, h.synced = d.U64(), d.U64(), d.U64()
	n := d.Count(voidsMax)
	if d.Err() != nil || magic != segmentMagic || salt != id.salt || n*16 > d.Len() {
		return h, errBadRecord
	}
	for range n {
		v := sequences{d.U64(), d.U64()}
		if v.from > v.to {
			return h, errBadRecord
		}
		h.voids = append(h.voids, v)
	}
	covered := len(b) - d.Len()
	if crc := d.U32(); d.Err() != nil || crc != crcOf(b[:covered]) {
		return h, errBadRecord
	}
	if version > format {
		return h, newerFormat("segment", version)
	}
	if version != format || store != id.store || h.synced >= h.sequence {
		return h, errBadRecord
	}
	return h, nil
}
