package stripe

import (
	"time"

	"blocktree"
)

// Codec rebuilds shards; it is pure. The driver makes it of internal/erasure and the leaf of crypto/seal.
type Codec interface {
	// Rebuild makes the target's shards of a run out of at least k others, checks every sector's leaf, and returns the
	// payload and the seals that the target keeps. It returns Corrupt when no k of the shards agree with the leaves.
	Rebuild(target blocktree.ShardIndex, run Piece) (payload, seals []byte, err error)
}

// HolderConfig makes a Holder.
type HolderConfig struct {
	Layout *Layout // as Raft returned it, with the holder's own epoch in it
	// First says that nobody had the file before: it was made for this holder. Under the first epoch there is nothing to take over then, nor to ask for; under another it says nothing.
	First bool
	Codec Codec // for copy-up and for mending damaged shards; nil: neither happens
	// DigestSectors is how many sectors a copy-up compares by one digest; 0: as many as one list can tell of.
	DigestSectors uint64
	// MemberTimeout is how long a member may leave a message unanswered (0: blocktree.MemberTimeout), JoinDelay how
	// long a node must be up before it is joined, StallTimeout when a waiting operation fails (0: WriteStallTimeout).
	MemberTimeout, JoinDelay, StallTimeout time.Duration
	// LookEvery is how far apart two Ticks are at least that look at everything that waits. A driver tells the time with each
	// input, and with many reads in flight each look costs as much as an input. 0: every Tick looks.
	LookEvery time.Duration
	// Of a file of durability flush: after how long, and after how many bytes, what is volatile is synced unasked for (0: AutoFlushAfter,
	// AutoFlushBytes).
	FlushAfter time.Duration
	FlushBytes int
	Mutant     string // tests only: the rule to break, see Mutants; "" in production
}

// Write is one write: Count consecutive sectors of one region. It and its slices belong to the Holder from the call of
// Write until it comes back in HolderReady.Released; they are never changed.
type Write struct {
	Kind       RecordKind // RecordData or RecordZero
	Region     blocktree.RegionIndex
	First      blocktree.SectorIndex
	Count      uint32
	Version    blocktree.Version // from Begin
	Digest     Digest
	ShardBytes uint32
	Seals      []byte   // Count×SealBytes, Data only
	Shards     [][]byte // k+m of Count×ShardBytes each, Data only
	Memory     any      // a driver's own note of what the slices alias: the Memory of each message that has them, too
}

// HolderReady is what a Holder wants done.
type HolderReady struct {
	Messages []*Message    // send to Message.Node; no reply is required. Never changed after.
	Metas    []MetaRequest // ask Raft, then call MetaDone
	Done     []Done
	Suspects []Suspect // members that did what they should not; to be told to whoever should know
	Released []*Write  // no longer needed by the machine, each once: no later message has them (those that are still being sent alias them)
}

// MetaRequest asks Raft: Change proposes a view change; otherwise it is a confirmation (a ReadIndex begun after this
// Ready, then the newest layout).
type MetaRequest struct {
	ID     uint64
	Change *Change
}

// Done is the end of an operation; Err Other (0) is success.
type Done struct {
	Op   uint64
	Err  blocktree.Kind
	Read *ReadResult // reads only
}

// ReadResult is what a read found: pieces in ascending order that cover the run without gaps.
type ReadResult struct {
	Pieces []Piece
	// Partial: of a ReadAll, that some member in sync that is not left out has not answered.
	Partial bool
}

// Care says how ReadAll goes about it.
type Care struct {
	// Without are members that are neither asked nor believed: what they said is newest nobody can open.
	Without []blocktree.NodeID
	// Patient waits for who is slow or cannot be reached, until the read would fail: those that answered at once did not suffice.
	Patient bool
}

// Piece is a run of sectors of one version, and the shards of it that came (none if Absent or Zero).
type Piece struct {
	First   blocktree.SectorIndex
	Count   uint32
	Version blocktree.Version
	Kind    ExtentKind // Absent, Zero or Data
	Shards  []ShardRun // k of them, in ascending order; after ReadAll as many as came
}

// ShardRun is one member's shards of a run, side by side, and the seals that it keeps with them. It aliases the answer.
type ShardRun struct {
	Shard   blocktree.ShardIndex
	Payload []byte   // Count×ShardBytes
	Seals   []byte   // Count×SealBytes
	Answer  *Message // whose memory the two alias: a driver that pools it may take it back when the read is done with
}

// HolderStats counts since NewHolder.
type HolderStats struct {
	WritesDone, ReadsDone       uint64
	SecondRounds, ReadRestarts  uint64 // reads that asked every member for versions; that began again
	Suspects                    uint64 // acts of members that lie
	Hedges                      uint64 // shard requests repeated at another member
	Removed, Joined, Promoted   uint64 // view changes made
	Placed, Moved               uint64 // spares that got a place; heirs that did
	Aborted                     uint64 // writes undone for want of space
	DamagedSeen, ShardsMended   uint64
	Installed, CopyUpUnreadable uint64
	CopyUpsGivenUp              uint64 // regions that a copy-up left for a pause
	// Copy-up, all regions of this holder together: sectors compared by digest or list, found equal, and sent to a joiner
	// with the bytes of their shards and seals. Left is what the region at hand still has to go.
	ComparedSectors, SkippedSectors   uint64
	CopiedSectors, CopiedBytes        uint64
	LeftSectors                       uint64
	Incremental, Unchanged, Forgotten uint64 // promotions with something skipped; without a comparison; joiners that had to forget
	Misplaced                         uint64 // sectors that a joiner had shards of another place of
	Witnessed                         uint64 // reads that the members confirmed in place of Raft
	Syncs, AutoSyncs                  uint64 // members asked to sync; of these, without a FLUSH that waited
	Parked                            uint64 // writes that waited for room
	Resent                            uint64
	Looks                             uint64 // at what is late, or is to be tried again
	GivenUp                           uint64 // questions for zeros that nobody waited for any more
	PrepareRecordsSent                uint64
}

// InFlightMax bounds the writes of one Holder above the watermark, so that a take-over's lists stay small.
const InFlightMax = 8192
