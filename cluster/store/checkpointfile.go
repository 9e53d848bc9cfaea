package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/google/btree"

	"blocktree"
	"blocktree/internal/vfs"
	"blocktree/internal/wire"
)

// A checkpoint file is: magic, format, then chunks {type, length, payload, CRC32C of the file up to here, without the CRCs
// of the chunks before}. The chunk types come in ascending order; the first is the head, the last the end. As no two heads
// are alike and each CRC continues the one before, a chunk of any other checkpoint does not match.
const (
	checkpointMagic     = 0x42547063 // "BTpc"
	checkpointHeadBytes = 4 + 1
	chunkFixedBytes     = 1 + 4 + 4
	chunkBytesMax       = 64 << 10

	chunkHead    = 1
	chunkBlob    = 2
	chunkLive    = 3
	chunkPending = 4
	chunkTable   = 5
	chunkZeros   = 6
	chunkEnd     = 7
)

// position is a place in the log: everything up to sequence, nothing after.
type position struct {
	segment  uint32
	offset   int64
	sequence uint64
}

// checkpointState is what a checkpoint file holds.
type checkpointState struct {
	starts      uint64 // of the store when it was written
	serial      uint64 // of the checkpoint files that this start wrote, or tried to
	at          position
	indexNumber uint32
	indexBytes  int64
	nextSegment uint32
	blob        []byte // nil: there never was one
	live        map[uint32]liveCount
	pending     map[place]pendingRecord
	table       *tableTree
	zeros       *btree.BTreeG[zeroRange]
	blobBytes   int    // what the head of a file that is being read says
	target      uint32 // in memory only: the segment that the compactor was writing
	fileBytes   int64  // in memory only: of the file that it was read from
}

// chunkWriter writes the chunks of a checkpoint. The first error sticks.
type chunkWriter struct {
	w      vfs.File
	off    int64
	e      wire.Encoder // out, not written yet; the open chunk is at its end
	start  int          // of the open chunk
	kind   uint8
	number uint32
	crc    uint32 // of the file before the open chunk
	err    error
}

// room begins a new chunk of kind unless n bytes more fit the open one.
func (w *chunkWriter) room(kind uint8, n int) {
	if w.kind == kind && len(w.e.Buf)-w.start+n <= chunkBytesMax {
		return
	}
	w.finish()
	w.kind, w.start = kind, len(w.e.Buf)
	w.e.U8(kind)
	w.e.U32(0)
}

func (w *chunkWriter) finish() {
	if w.kind == 0 {
		return
	}
	chunk := w.e.Buf[w.start:]
	binary.BigEndian.PutUint32(chunk[1:], uint32(len(chunk)-5))
	w.crc = chunkCRC(w.crc, chunk)
	w.e.U32(w.crc)
	w.number++
	w.kind = 0
	if len(w.e.Buf) >= 1<<20 {
		w.flush()
	}
}

func (w *chunkWriter) flush() {
	if w.err == nil {
		_, w.err = w.w.WriteAt(w.e.Buf, w.off)
	}
	w.off += int64(len(w.e.Buf))
	w.e.Buf = w.e.Buf[:0]
}

// chunkCRC continues the CRC of what stands before a chunk.
func chunkCRC(before uint32, chunk []byte) uint32 { return crc32.Update(before, castagnoli, chunk) }

// write writes the whole state to f from its start.
func (c *checkpointState) write(f vfs.File, id identity) error {
	w := &chunkWriter{w: f}
	w.e.U32(checkpointMagic)
	w.e.U8(format)
	w.crc = crcOf(w.e.Buf)
	w.room(chunkHead, 0)
	w.e.U64(uint64(id.store))
	w.e.U64(id.salt)
	w.e.U64(c.starts)
	w.e.U64(c.serial)
	w.e.U32(c.at.segment)
	w.e.U64(uint64(c.at.offset))
	w.e.U64(c.at.sequence)
	w.e.U32(c.indexNumber)
	w.e.U64(uint64(c.indexBytes))
	w.e.U32(c.nextSegment)
	w.e.Bool(c.blob != nil)
	w.e.U32(uint32(len(c.blob)))
	for part := range slices.Chunk(c.blob, chunkBytesMax/2) {
		w.room(chunkBlob, len(part))
		w.e.Raw(part)
	}
	for segment, l := range c.live {
		w.room(chunkLive, 20)
		w.e.U32(segment)
		w.e.U64(uint64(l.sectors))
		w.e.U64(uint64(l.bytes))
	}
	for at, r := range c.pending {
		w.room(chunkPending, 128)
		r.encode(&w.e, at)
	}
	c.table.Ascend(func(t tableEntry) bool {
		w.room(chunkTable, 40)
		w.e.File(t.key.file)
		w.e.U64(t.key.page)
		w.e.U64(t.offset)
		w.e.U32(t.bytes)
		w.e.U32(t.crc)
		return true
	})
	c.zeros.Ascend(func(z zeroRange) bool {
		w.room(chunkZeros, 56)
		w.e.File(z.file)
		w.e.U64(z.from)
		w.e.U64(z.to)
		w.e.Version(z.version)
		w.e.U64(uint64(z.at))
		return true
	})
	w.room(chunkEnd, 0)
	w.e.U32(w.number)
	w.finish()
	w.flush()
	return w.err
}

func (r pendingRecord) encode(e *wire.Encoder, at place) {
	e.U64(uint64(at))
	e.File(r.file)
	e.U64(uint64(r.first))
	e.Version(r.version)
	e.U32(r.shardBytes)
	e.U16(r.count)
	e.U8(uint8(r.shard))
	for _, w := range r.bits {
		e.U64(w)
	}
	for _, w := range r.stuck {
		e.U64(w)
	}
}

func decodePending(d *wire.Decoder) (place, pendingRecord, error) {
	at := place(d.U64())
	r := pendingRecord{
		file: d.File(), first: blocktree.SectorIndex(d.U64()), version: d.Version(), shardBytes: d.U32(), count: d.U16(),
		shard: blocktree.ShardIndex(d.U8()),
	}
	for i := range r.bits {
		r.bits[i] = d.U64()
	}
	for i := range r.stuck {
		if r.stuck[i] = d.U64(); r.stuck[i]&^r.bits[i] != 0 {
			return at, r, errBadCheckpoint
		}
	}
	r.left = uint16(r.bits.len())
	if r.count == 0 || r.count > blocktree.RunSectorsMax || r.left == 0 || r.left > r.count {
		return at, r, errBadCheckpoint
	}
	for i := uint32(r.count); i < blocktree.RunSectorsMax; i++ {
		if r.bits.has(i) {
			return at, r, errBadCheckpoint
		}
	}
	return at, r, d.Err()
}

var errBadCheckpoint = errors.New("checkpoint does not match its checksum, or says what none can say")

// readCheckpoint reads what write wrote, from r.
func readCheckpoint(r io.Reader, id identity) (*checkpointState, error) {
	var head [checkpointHeadBytes]byte
	if _, err := io.ReadFull(r, head[:]); err != nil || binary.BigEndian.Uint32(head[:]) != checkpointMagic {
		return nil, errBadCheckpoint
	}
	ix := newIndex(id, newPins(), 0)
	c := &checkpointState{table: ix.table, zeros: ix.zeros, live: map[uint32]liveCount{}, pending: map[place]pendingRecord{}}
	last, crc := uint8(0), crcOf(head[:])
	for number := uint32(0); ; number++ {
		kind, payload, err := readChunk(r, &crc)
		if err != nil {
			return nil, err
		}
		if head[4] > format { // its first chunk is as any, or a flipped bit would send somebody for newer software
			return nil, newerFormat("checkpoint", head[4])
		}
		if head[4] != format || kind < last || (kind == chunkHead) != (number == 0) {
			return nil, errBadCheckpoint
		}
		last = kind
		d := wire.NewDecoder(payload)
		if kind == chunkEnd {
			if n := d.U32(); d.Finish() != nil || n != number || c.unfinished() {
				return nil, errBadCheckpoint
			}
			return c, nil
		}
		if err := c.decodeChunk(kind, d, id); err != nil {
			return nil, fmt.Errorf("chunk %d: %w", number, err)
		}
	}
}

// unfinished reports whether the blob is shorter than the head said.
func (c *checkpointState) unfinished() bool { return len(c.blob) < c.blobBytes }

// readChunk reads a chunk; crc is that of what stands before it, and then that of it.
func readChunk(r io.Reader, crc *uint32) (uint8, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, errBadCheckpoint
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > chunkBytesMax {
		return 0, nil, errBadCheckpoint
	}
	chunk := make([]byte, 5+n+4)
	copy(chunk, head[:])
	if _, err := io.ReadFull(r, chunk[5:]); err != nil {
		return 0, nil, errBadCheckpoint
	}
	if *crc = chunkCRC(*crc, chunk[:5+n]); *crc != binary.BigEndian.Uint32(chunk[5+n:]) {
		return 0, nil, errBadCheckpoint
	}
	return head[0], chunk[5 : 5+n], nil
}

func (c *checkpointState) decodeHead(d *wire.Decoder, id identity) error {
	store, salt := blocktree.NodeID(d.U64()), d.U64()
	c.starts, c.serial = d.U64(), d.U64()
	c.at = position{d.U32(), int64(d.U64()), d.U64()}
	c.indexNumber, c.indexBytes, c.nextSegment = d.U32(), int64(d.U64()), d.U32()
	has, n := d.Bool(), d.Count(BlobBytesMax)
	if d.Finish() != nil || store != id.store || salt != id.salt || c.at.offset < 0 || c.indexBytes < 0 || !has && n > 0 {
		return errBadCheckpoint
	}
	if has {
		c.blob, c.blobBytes = []byte{}, n
	}
	return nil
}

func (c *checkpointState) decodeChunk(kind uint8, d *wire.Decoder, id identity) error {
	if kind == chunkHead {
		return c.decodeHead(d, id)
	}
	for d.Len() > 0 && d.Err() == nil {
		if err := c.decodeEntry(kind, d); err != nil {
			return err
		}
	}
	return d.Finish()
}

func (c *checkpointState) decodeEntry(kind uint8, d *wire.Decoder) error {
	switch kind {
	case chunkBlob:
		part := d.Raw(d.Len())
		if len(c.blob)+len(part) > c.blobBytes {
			return errBadCheckpoint
		}
		c.blob = append(c.blob, part...)
	case chunkLive:
		segment, l := d.U32(), liveCount{int64(d.U64()), int64(d.U64())}
		if _, twice := c.live[segment]; twice || l.sectors <= 0 || l.bytes < 0 {
			return errBadCheckpoint
		}
		c.live[segment] = l
	case chunkPending:
		at, r, err := decodePending(d)
		if _, twice := c.pending[at]; twice || err != nil {
			return errBadCheckpoint
		}
		c.pending[at] = r
	case chunkTable:
		t := tableEntry{key: pageKey{d.File(), d.U64()}, offset: d.U64(), bytes: d.U32(), crc: d.U32()}
		if before, ok := c.table.Max(); ok && !before.key.less(t.key) || !t.sane() ||
			t.offset+uint64(t.bytes) > uint64(c.indexBytes) || t.offset > uint64(c.indexBytes) {
			return errBadCheckpoint
		}
		c.table.ReplaceOrInsert(t)
	case chunkZeros:
		z := zeroRange{file: d.File(), from: d.U64(), to: d.U64(), version: d.Version(), at: place(d.U64())}
		before, ok := c.zeros.Max()
		if z.from >= z.to || z.version.IsZero() || ok && (!zeroLess(before, z) || before.file == z.file && before.to > z.from) {
			return errBadCheckpoint
		}
		c.zeros.ReplaceOrInsert(z)
	default:
		return errBadCheckpoint
	}
	return nil
}
