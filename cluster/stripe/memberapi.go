package stripe

import "blocktree"

// Ref is where the store keeps a record; opaque to the machine.
type Ref [16]byte

// Held is what a member remembers of a data record: everything but its bytes. Ref is set by Located.
type Held struct {
	Ref        Ref
	File       blocktree.FileID
	Region     blocktree.RegionIndex
	First      blocktree.SectorIndex
	Count      uint32
	Kind       RecordKind // RecordData or RecordZero
	Installed  bool
	Shard      blocktree.ShardIndex
	ShardBytes uint32
	Version    blocktree.Version
	Digest     Digest
	Void       bool // Located said that it was not stored: skip it in Commits

	late bool   // committed before it was located: only then is it known to be stored
	no   uint64 // number of its record in this process's hand-out order; 0: durable since before it started
}

// Extent describes the record as a run of sectors.
func (h *Held) Extent(pending bool) Extent {
	k := Data
	if h.Kind == RecordZero {
		k = Zero
	}
	return Extent{First: h.First, Count: h.Count, Version: h.Version, Kind: k, Pending: pending, Digest: h.Digest}
}

// RegionRun is a region and the run of sectors it has.
type RegionRun struct {
	File   blocktree.FileID
	Region blocktree.RegionIndex
	First  blocktree.SectorIndex
	Count  uint64
}

// ReadTask is a KindRead, KindList or KindDigest that passed every check. The driver looks up what is committed, and gives
// ReadTask.Answer to the asker. The look-up of the index must follow the Commits and Resets of the same Ready.
type ReadTask struct {
	Request *Message
	// Pending are the records above the watermark that overlap the run, durable, ascending by version. Of WantExact it
	// is the record of Request.Version alone, if that is pending: read its shards by Ref, else look in the index.
	Pending []*Held
	Shard   blocktree.ShardIndex // the node's place in the region: a shard of another is of no use, see Place

	mut mutant
}

// MemberReady is what a Member wants done, in this order: 1. append Records; 2. call Located at once, before any other
// call; 3. apply Resets, then Commits and Drops, to the index; 4. run Reads; 5. send Answers (they may go now: what they
// depend on is durable). When appended records become durable, call Durable, then Ready again; so with Written.
type MemberReady struct {
	Records []*Record
	Resets  []RegionRun // forget everything that is indexed there, damaged pages too; pending records stay
	// Commits are to be indexed, in this order, on every sector whose indexed version is not greater (an equal one is
	// replaced: that mends a damaged shard). Their Ref is set once Located was called.
	Commits []*Held
	Drops   []*Held // pending records that became void, or that a joiner may not keep: their bytes are garbage
	Reads   []ReadTask
	Answers []*Message
	// SyncTo is how many of the records handed out so far, these included, something waits for to be durable; 0 where nothing does. A
	// driver may put off the sync of the others: they are of files of durability flush, and are waited for to be written at most.
	SyncTo uint64
	// SoonTo is likewise how many should be durable before long, though nothing waits for that; 0: none.
	SoonTo uint64
	// CatchUp are files of which messages wait: Learn what the own Raft state has; unless they wait no more (Waits), bring its log up to date
	// (ReadIndex) and Learn what it has then; then call CaughtUp.
	CatchUp []blocktree.FileID
}
