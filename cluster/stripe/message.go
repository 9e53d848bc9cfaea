package stripe

import "blocktree"

// MessageKind says what a Message asks; its answer has the same kind and Answer set.
type MessageKind uint8

// The kinds, append-only: the number is the wire code.
const (
	KindPrepare MessageKind = iota + 1 // store Record under Epoch, View; answered when durable (flush: when written)
	KindCommit                         // Watermark moved while nothing is being written; not answered
	KindAbort                          // refuse Version for ever; unless Last, one held already is kept, and Held in the answer
	KindFence                          // promise Epoch for the whole file; Regions from Region on in the answer, Last when that is all
	KindRepair                         // Repairs of some regions; Last ends the recovery of the file at this member
	KindLearn                          // have view change Layout.Seq >= Seq in the own Raft log, durably
	KindRead                           // extents of a run, see Want
	KindList                           // committed extents of Count sectors from First on, at most ExtentsMax; Next tells where to go on
	KindReset                          // joiner only: drop what is not committed, once per join (Seq), and start at Watermark
	KindInstall                        // store Record as committed (copy-up, damaged shard)
	KindDigest                         // digests of what is committed, see digest.go; Held asks only whether Version is the newest
	KindForget                         // joiner only: forget what is committed too, once per join (Seq)
	KindSync                           // answered when all that was stored before is durable
	kindEnd
)

// String is the kind's name in metrics; "unknown" for none of them.
func (k MessageKind) String() string {
	if k == 0 || k >= kindEnd {
		return "unknown"
	}
	return [...]string{"prepare", "commit", "abort", "fence", "repair", "learn", "read", "list", "reset", "install", "digest", "forget", "sync"}[k-1]
}

// MessageKinds is how many kinds there are, with the zero kind, which is none.
const MessageKinds = int(kindEnd)

// Carries reports whether a request of the kind may have more than a header: shards, or long lists.
func (k MessageKind) Carries() bool { return k == KindPrepare || k == KindInstall || k == KindRepair }

// Want says what a KindRead asks for.
type Want uint8

// What a read wants.
const (
	WantShards   Want = iota + 1 // committed extents with their shards, pending ones by version
	WantVersions                 // committed and pending extents by version only
	WantExact                    // the shards of exactly Version, committed or pending
	WantZeros                    // where a run of any length is zeros for sure, up to Next; see zeros.go
)

// Message goes between a Holder or Reader and a Member, in both directions. Which fields matter depends on Kind; the
// others are zero and are not encoded. Slices are shared, not copied: whoever gets a Message only reads it.
type Message struct {
	Kind   MessageKind
	Answer bool
	ID     uint64           // chosen by the asker, repeated in the answer
	Node   blocktree.NodeID // the member that is asked, or that answered

	File        blocktree.FileID
	Region      blocktree.RegionIndex
	Epoch       blocktree.Epoch
	View        blocktree.ViewID // id of the region's view (all kinds but Fence, Repair and Learn)
	Seq         blocktree.ViewID // Fence, Repair, Learn: Layout.Seq that the asker goes by; Reset, Forget: id of the joining view
	Incarnation blocktree.Incarnation
	Watermark   blocktree.Version // Commit, Read, List, Digest, Reset: of the region: this and all below are acknowledged or void
	Version     blocktree.Version // Abort, Read exact, Digest

	First blocktree.SectorIndex // Read, List, Digest; index within the file
	Count uint64                // Digest: sectors of one block
	Want  Want

	Record  *Record  // Prepare, Install
	Repairs []Repair // Repair
	Last    bool     // Repair: the last chunk. Abort: drop it even if held. Fence answer: nothing follows

	// Answers only.
	Err     blocktree.Kind        // Other (0) means it was done
	Held    bool                  // Abort; Reset: nothing was missed up to Version; Digest: Version is the newest
	Regions []RegionState         // Fence
	Extents []Extent              // Read, List; ascending, committed ones cover the run without gaps (Read)
	Payload []byte                // Read: shards of the committed (or exact) Data extents in order, side by side. Digest: the digests
	Seals   []byte                // likewise, SealBytes each
	Next    blocktree.SectorIndex // List, Digest, Read of zeros: go on from here; the end of the run or region when done

	// Memory is a driver's own note of what the slices alias. It is neither encoded nor looked at here.
	Memory any
}

// SealBytes is the length of a sector's seal: leaf, nonce and tag (crypto/seal writes it; here it is opaque but for
// the leaf, its first 32 bytes).
const SealBytes = 72

// ExtentsMax bounds the extents of one answer to KindList; a KindRead covers at most RunSectorsMax sectors, so at most
// that many committed extents.
const ExtentsMax = 1024

// RecordKind says what a Record holds.
type RecordKind uint8

// The record kinds, append-only.
const (
	RecordData    RecordKind = iota + 1 // Count sectors' shards and seals
	RecordZero                          // Count sectors are zeros from Version on
	RecordControl                       // a promise, in Control; no sectors
)

// Digest stands for the leaves of a run: two records of one version are the same write only if their digests agree.
type Digest [16]byte

// Record is one version of a run of consecutive sectors of one region as one member keeps it, or a control record.
// Its slices are never changed after it is made.
type Record struct {
	Kind      RecordKind
	File      blocktree.FileID
	Region    blocktree.RegionIndex
	First     blocktree.SectorIndex
	Count     uint32
	Version   blocktree.Version
	Digest    Digest
	Watermark blocktree.Version // the region's, as known when the record was made
	Installed bool              // committed as it is (copy-up), whatever the watermark
	Shard     blocktree.ShardIndex
	// ShardBytes is the length of one sector's shard. Payload has Count×ShardBytes, Seals Count×SealBytes (Data only).
	ShardBytes uint32
	Payload    []byte
	Seals      []byte
	Control    []byte // encoded Control, RecordControl only
}

// ExtentKind says what a run of sectors is.
type ExtentKind uint8

// The extent kinds, append-only.
const (
	Absent  ExtentKind = iota // never written
	Zero                      // trimmed or zeroed
	Data                      // shards exist
	Damaged                   // this member has it but not its own good shard: that failed its checksum, or is of another place
)

// Extent is a run of sectors of one version at one member.
type Extent struct {
	First   blocktree.SectorIndex
	Count   uint32
	Version blocktree.Version
	Kind    ExtentKind
	Pending bool // prepared, not known to be committed
	Digest  Digest
}

// RegionState is what a fenced member tells of a region that has anything to tell.
type RegionState struct {
	Region    blocktree.RegionIndex
	Watermark blocktree.Version
	Pending   []Extent // above Watermark, ascending by version: prepared, or committed by a repair (Pending false)
}

// Repair is the decision of a new holder on what was in flight in a region.
type Repair struct {
	Region  blocktree.RegionIndex
	Floor   blocktree.Version
	Winners []blocktree.Version // above Floor, ascending; everything else of older epochs is void
}
