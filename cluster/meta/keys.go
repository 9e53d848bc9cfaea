package meta

import (
	"encoding/binary"

	"blocktree"
)

// Keys of the Pebble store. Raft's own, one byte each but for the entries:
//
//	h hard state    a applied index, term, members, which of the two state spaces is current
//	m truncated index and term    l‖index8 log entry
//
// The state lives in one of two spaces, so that a snapshot is received into the other and installed by one small batch. A
// state key is space byte ‖ kind byte ‖ rest; numbers are big-endian, so Pebble's order is theirs.
const (
	keyHard    = 'h'
	keyApplied = 'a'
	keyTrunc   = 'm'
	keyLog     = 'l'

	spaceA = '0'
	spaceB = '1'

	kindSuper    = 'b' // superblock
	kindCounters = 'c' // counters
	kindEntry    = 'e' // dir8 name → file16 kind1
	kindLease    = 'g' // inode8 → epoch8 session16
	kindInode    = 'i' // inode8 → Inode
	kindHeld     = 'j' // session16 inode8 → command16: leases of a session, and the Acquire that took each
	kindClaimed  = 'f' // session16 → nothing: a lease of it was claimed once
	kindHosted   = 'k' // node8 inode8 → nothing: files that name a host
	kindStart    = 'n' // node8 → NodeStart
	kindVolatile = 'w' // node8 → incarnation16: what files of durability flush know it by, where that is another
	kindClaim    = 'p' // inode8 → claim
	kindGranted  = 'q' // inode8 → grantsNote: its grants, and their last change
	kindParent   = 'z' // inode8 → dir8
	kindCaller   = 's' // session16 → Caller: who opened or renewed it last
	kindRuntime  = 'r' // path → Runtime
	kindOwned    = 'o' // principal33 session16 → nothing: sessions of a principal
	kindRenewed  = 't' // session16 → drawn8: the newest opening or renewal of a session
	kindDraining = 'd' // node8 → nothing: a store that is to lose its places
	kindDone     = 'u' // command16 → sequence8, result
	kindDoneSeq  = 'v' // sequence8 → command16
	kindSession  = 'x' // session16 → Session
	kindRevoked  = 'a' // principal33 scope → Revocation
	kindLayout   = 'y' // inode8 → Layout

	kindAbove      = 'A' // Above: what a child knows of its parents
	kindBelow      = 'B' // path → Runtime: records of runtimes in directories that have, or are to get, clusters of their own
	kindFounder    = 'F' // dir 0 node8 → generation8; the root cluster's
	kindWhole      = 'H' // inode8 of a directory → generation8: handed over to that, and nothing dropped yet
	kindGeneration = 'G' // generation8 → generationOf; nothing → the next generation8; the root cluster's
	kindLeft       = 'L' // inode8 → left: a file that is moved to a child
	kindMove       = 'M' // inode8 of a copy → Move
	kindSpent      = 'N' // node8 → nothing: a store of a cluster whose directory was taken back
	kindXattr      = 'X' // inode8 name → value: an extended attribute
	kindNameless   = 'U' // inode8 of a file that has no entry → session16: which keeps it
	kindKept       = 'K' // session16 inode8 → nothing: files without names that a session keeps
	kindKeptDir    = 'D' // inode8 of a directory → session16: which keeps its names
	kindKeeps      = 'E' // session16 inode8 → nothing: directories whose names a session keeps
	kindWanted     = 'W' // session16 inode8 → nothing: those of them that somebody else wants
	kindShrink     = 'S' // inode8 → shrinkAsk: a smaller size that somebody asks the holder for
)

// otherSpace returns the space that is not current.
func otherSpace(space byte) byte {
	if space == spaceA {
		return spaceB
	}
	return spaceA
}

// after returns the least key greater than every key with the prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

func logKey(index uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{keyLog}, index)
}

func u64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func inodeRest(i blocktree.Inode) []byte { return u64(uint64(i)) }

func entryRest(dir blocktree.Inode, name string) []byte { return append(u64(uint64(dir)), name...) }

func heldRest(s SessionID, i blocktree.Inode) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(nil), s[:]...), uint64(i))
}

func ownedRest(p blocktree.Principal, s SessionID) []byte { return append(p[:], s[:]...) }

func hostedRest(n blocktree.NodeID, i blocktree.Inode) []byte {
	return binary.BigEndian.AppendUint64(u64(uint64(n)), uint64(i))
}
