package store

import (
	"cmp"
	"fmt"
	"log/slog"
	"time"

	"blocktree"
	"blocktree/internal/latency"
	"blocktree/internal/wire"
)

// Kind says what a record is.
type Kind uint8

// The kinds of record; their numbers are on disk.
const (
	KindData    Kind = 1 // shards of consecutive sectors, each with its seal
	KindZero    Kind = 2 // a range of sectors that are zero from this version on
	KindControl Kind = 3 // an opaque blob of the protocol machine
	KindNote    Kind = 4 // the store's own: nothing but a header, for what it says to be synced
)

// Sizes of the format.
const (
	// SealBytes is what travels and is stored with each sector: leaf 32, nonce 24, tag 16.
	SealBytes = 72

	// ControlBytesMax bounds the blob of a control record.
	ControlBytesMax = 1 << 20

	// ZeroSectorsMax bounds a tombstone: a region of the smallest sectors.
	ZeroSectorsMax = blocktree.RegionBytes / blocktree.SectorBytesMin

	// BlobBytesMax bounds the caller's blob in a checkpoint.
	BlobBytesMax = 256 << 20

	// PageSectors is how many sectors one page of the index describes.
	PageSectors = 256
)

// Record is one entry of the log. Which fields count depends on Kind:
//
//	Data     File First Count (1 to RunSectorsMax) Version Shard ShardBytes Watermark Seals Payload
//	Zero     File First Count (1 to ZeroSectorsMax) Version Watermark
//	Control  Blob (at most ControlBytesMax) and, for the caller's use, File First Count Version Watermark
//
// Region and Installed are the caller's, of any kind: the store keeps them and does not look at them.
type Record struct {
	Kind       Kind
	Shard      blocktree.ShardIndex
	Installed  bool
	File       blocktree.FileID
	Region     blocktree.RegionIndex
	First      blocktree.SectorIndex
	Count      uint32
	ShardBytes uint32 // length of one sector's shard
	Version    blocktree.Version
	Watermark  blocktree.Version
	Seals      []byte // Count × SealBytes
	Payload    []byte // Count × ShardBytes, side by side
	Blob       []byte
}

// Ref is the place of a record in the log. It is comparable; the zero Ref is no record.
type Ref struct {
	Segment    uint32
	Offset     uint32 // bytes from the start of the segment
	Count      uint32 // sectors of a data record, else 0
	ShardBytes uint32
	Shard      blocktree.ShardIndex
}

// IsZero reports whether r is no record.
func (r Ref) IsZero() bool { return r == Ref{} }

// String prints segment and offset in hexadecimal, as the files are named.
func (r Ref) String() string { return fmt.Sprintf("%08x+%x", r.Segment, r.Offset) }

// Encode appends r in 17 bytes.
func (r Ref) Encode(e *wire.Encoder) {
	e.U32(r.Segment)
	e.U32(r.Offset)
	e.U32(r.Count)
	e.U32(r.ShardBytes)
	e.U8(uint8(r.Shard))
}

// DecodeRef reads what Encode wrote.
func DecodeRef(d *wire.Decoder) Ref {
	return Ref{Segment: d.U32(), Offset: d.U32(), Count: d.U32(), ShardBytes: d.U32(), Shard: blocktree.ShardIndex(d.U8())}
}

func (r Ref) place() place { return place(r.Segment)<<32 | place(r.Offset) }

// place orders records as the log does.
type place uint64

func (p place) segment() uint32 { return uint32(p >> 32) }

// Content says what the index knows of a sector.
type Content uint8

// The contents. Absent and Zero differ (DESIGN section 5, rule 8).
const (
	Absent Content = iota // never written
	Zero                  // zero since Version
	Data                  // a shard, at Ref
)

// Extent is a run of sectors of one content. Sector First+i is sector Index+i of the record at Ref.
type Extent struct {
	First   blocktree.SectorIndex
	Count   uint32
	Content Content
	Index   uint32 // of First within the record; 0 unless Data
	Version blocktree.Version
	Ref     Ref // of Data; of Zero only segment and offset, and they may be gone; zero for Absent
}

// Sub is the part of the extent from its skip-th sector on, count sectors long.
func (x Extent) Sub(skip, count uint32) Extent {
	x.First += blocktree.SectorIndex(skip)
	x.Count = count
	if x.Content == Data {
		x.Index += skip
	}
	return x
}

// Replayed is a record found at Open after the checkpoint. Payload is not read.
type Replayed struct {
	Record
	Ref      Ref
	Sequence uint64   // in the log
	Bad      []uint32 // sectors, counted within the record, that are damaged: their seals are zeroed
}

// Replayer is given, within Open, what the machine needs to become what it was. Slices are its own to keep. The store
// it is handed may be used for Index, Drop, DropRange, Lookup and ReadShards at once, for all else after Open.
// An error ends Open with that error.
type Replayer interface {
	// Checkpoint is called once, first, with the blob of the last checkpoint; nil when there was none.
	Checkpoint(s *Store, blob []byte) error
	// Record is called for each record after the checkpoint in log order.
	Record(r Replayed) error
}

// Run is damage found at Open. Where a header was readable, File to Count name the sectors; otherwise Kind is 0 and only
// the log sequences From to To are known; both are 0 for a place (Ref) in the log that the disk cannot read, and, with a zero
// Ref, for a page of the index: of the sectors File to Count name nothing is known. LiveSectors is set for a segment file that
// is gone, or too short for the sectors that live in it.
type Run struct {
	From, To    uint64
	Kind        Kind
	Ref         Ref
	File        blocktree.FileID
	First       blocktree.SectorIndex
	Count       uint32
	Version     blocktree.Version
	LiveSectors int64
}

// Recovery says what Open found.
type Recovery struct {
	Starts       uint64 // how often the store was opened, this time included
	Clean        bool   // the last process closed it with a checkpoint
	LastSequence uint64 // where the log reaches: the last good record, or the highest sequence known synced
	Replayed     int    // records handed to the Replayer
	Torn         uint64 // sequences dropped as the torn tail, as far as known
	Whole        uint64 // all that the log was given up to this sequence is in it, and durable by now, or void
	Damaged      []Run
}

// Stats is a snapshot for status and metrics.
type Stats struct {
	LiveBytes   int64 // of sectors that are committed or pending, with their share of their records' headers and padding
	DiskBytes   int64 // of segments and index
	Segments    int   // with records in them
	Syncs       uint64
	Records     uint64 // appended and durable
	Bytes       uint64 // of those
	Checkpoints uint64
	DirectBytes uint64 // of Bytes, written past the page cache
	Recycled    uint64 // segments made of the files of dead ones
	CacheBytes  int64  // of index pages in memory
	DirtyBytes  int64  // of these, changed since the last checkpoint
	Pages       int    // in the table of the last checkpoint
	ZeroRanges  int
	Pending     int   // data records with pending sectors
	LogBytes    int64 // written since the last checkpoint began

	CompactedBytes    uint64 // copied by the compactor, headers and padding included
	CompactedSegments uint64 // emptied by it
	DamagedSectors    uint64 // that it found, each time that it met them

	SyncTimes     latency.Histogram // how long each of Syncs took
	VolatileBytes int64             // of records that are in their files and that nobody has had synced
	NoSpace       uint64            // groups that failed for want of space
	MakingRoom    bool              // as Store.MakingRoom
	Failed        bool              // an error has latched (Store.Fatal): the process is about to end
}

// Options are a store's bounds. Zero fields take their defaults.
type Options struct {
	SegmentBytes    int64        // default blocktree.SegmentBytes; at least a record must fit
	CheckpointBytes int64        // log bytes after which a checkpoint is asked for; default blocktree.CheckpointBytes
	CacheBytes      int64        // clean index pages in memory; default 64 MiB
	DirtyBytes      int64        // changed index pages after which a checkpoint is asked for; default 32 MiB
	SpacePercent    int64        // of what is live that segments take before groups wait for the compactor; default and least blocktree.SpacePercentDefault
	Logger          *slog.Logger // default: discards
	// NoteAfter is how long the log must be idle before it is noted what is synced; 0: never. Until then damage to the last
	// group cannot be told from a torn tail.
	NoteAfter time.Duration

	// OnDamage is told of sectors that do not match their checksum, when the compactor meets them: what ReadShards would say of
	// them. They stay where they are until something newer, which may be the same version again, is indexed over them. It
	// is called by the compactor's goroutine with no lock held and must not Close. Default: nobody is told.
	OnDamage func(Damage)

	// OnWritten is called before AppendLazy calls back, with a sequence that none of the records is above that were written by then. An
	// error is fatal, as a write's. It is called by the committer, or within WriteLazy, with no lock held. Default: nobody is told.
	OnWritten func(sequence uint64) error

	// OnGroup is given the calls back of Appends that ended together, and makes them: it may do once, before and after, what each would cost. It
	// is called as OnWritten is. Default: they are just made.
	OnGroup func(tell func())

	// OnRoom is called, as OnDamage is, when MakingRoom has become false.
	OnRoom func()

	mutant       mutant // tests only: which duty to forget
	compactEager bool   // tests only: compact whatever can be
	compactNever bool   // tests only: they take the compactor's turns themselves
	directMin    int    // tests only: default blocktree.DirectBytesMin
}

// mutant names a duty that a test makes the store forget, to prove that the tests notice.
type mutant uint8

const (
	forgetNothing mutant = iota
	forgetDatasync
	forgetPutOff
	forgetSegmentDirSync
	forgetRecycleDirSync
	forgetCheckpointSync
	forgetCheckpointDirSync
	forgetIndexSync
	forgetCheckpointWait
	forgetTailRewrite
	forgetVoid
	forgetDurableLive
	forgetOpenDirSync
	forgetTarget
	forgetCopySync
	forgetCopyCheck
	forgetMoveCheck
	forgetDurableBeforeDelete
)

const (
	cacheBytesDefault = 64 << 20
	dirtyBytesDefault = 32 << 20
	segmentBytesMin   = 4 << 10
	segmentBytesMax   = 1 << 30 // offsets are 32 bits, with room to spare
)

func (o Options) withDefaults() (Options, error) {
	for _, f := range []struct {
		v   *int64
		def int64
	}{
		{&o.SegmentBytes, blocktree.SegmentBytes}, {&o.CheckpointBytes, blocktree.CheckpointBytes},
		{&o.CacheBytes, cacheBytesDefault}, {&o.DirtyBytes, dirtyBytesDefault}, {&o.SpacePercent, blocktree.SpacePercentDefault},
	} {
		if *f.v == 0 {
			*f.v = f.def
		}
		if *f.v < 0 {
			return o, blocktree.E("store.Options", blocktree.Invalid, fmt.Errorf("negative size %d", *f.v))
		}
	}
	if o.SegmentBytes < segmentBytesMin || o.SegmentBytes > segmentBytesMax || o.SegmentBytes%align != 0 {
		return o, blocktree.E("store.Options", blocktree.Invalid, fmt.Errorf("segments of %d bytes", o.SegmentBytes))
	}
	if o.SpacePercent < blocktree.SpacePercentMin || o.SpacePercent > blocktree.SpacePercentMax {
		return o, blocktree.E("store.Options", blocktree.Invalid, fmt.Errorf("segments that take %d %% of what is live", o.SpacePercent))
	}
	o.directMin = cmp.Or(o.directMin, blocktree.DirectBytesMin)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.OnGroup == nil {
		o.OnGroup = func(tell func()) { tell() }
	}
	return o, nil
}

// Damage is the cause of a Corrupt error of ReadShards: the sectors that do not check. The others were filled in.
type Damage struct {
	File    blocktree.FileID
	Ref     Ref
	Sectors []blocktree.SectorIndex
}

// Error names the first sector and how many there are.
func (d *Damage) Error() string {
	return fmt.Sprintf("file %v sector %d and %d more in segment %v do not match their checksum",
		d.File, d.Sectors[0], len(d.Sectors)-1, d.Ref)
}
