package blocktree

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Generation numbers the clusters of a domain; the root cluster assigns it once and never again.
type Generation uint64

// Inode numbers a file within the cluster of its generation. Inode 1 is the cluster's superblock.
type Inode uint64

// FileID is a file's identity for ever: a rename or a delegation does not change it.
type FileID struct {
	Generation Generation
	Inode      Inode
}

// String prints the identity as "generation.inode".
func (f FileID) String() string { return fmt.Sprintf("%d.%d", f.Generation, f.Inode) }

// SectorIndex counts sectors from the start of a file.
type SectorIndex uint64

// RegionIndex counts regions from the start of a file.
type RegionIndex uint32

// ShardIndex is the position of a shard within its stripe: 0 … k-1 are data, k … k+m-1 are parity.
type ShardIndex uint8

// Epoch fences the holders of a file's lease: a later holder has a greater one. Zero is no epoch.
type Epoch uint64

// ViewID numbers the views of one file; a later view of a region has a greater one.
type ViewID uint64

// Sequence counts the writes of one holder within one region, from 1.
type Sequence uint64

// Version orders the writes of a region: by epoch, then by sequence. The zero Version means never written.
type Version struct {
	Epoch    Epoch
	Sequence Sequence
}

// Less reports whether v was issued before w.
func (v Version) Less(w Version) bool {
	return v.Epoch < w.Epoch || v.Epoch == w.Epoch && v.Sequence < w.Sequence
}

// IsZero reports whether v means never written.
func (v Version) IsZero() bool { return v == Version{} }

// String prints the version as "epoch.sequence".
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Epoch, v.Sequence) }

// NodeID is the id of a node's store and of its Raft member; a wiped store gets a new one. Zero is no node.
type NodeID uint64

// String prints the id as 16 hexadecimal digits, as configs spell it.
func (n NodeID) String() string { return fmt.Sprintf("%016x", uint64(n)) }

// ParseNodeID reads what String prints.
func ParseNodeID(s string) (NodeID, error) {
	v, err := strconv.ParseUint(s, 16, 64)
	if err != nil || len(s) != 16 || v == 0 {
		return 0, &Error{Op: "parse store id", Kind: Invalid, Err: fmt.Errorf("%q is not 16 hexadecimal digits", s)}
	}
	return NodeID(v), nil
}

// Incarnation is drawn by a node when it can no longer vouch for what an earlier start of it answered.
type Incarnation [16]byte

// String prints the first half, enough to tell two apart in a log.
func (i Incarnation) String() string { return hex.EncodeToString(i[:8]) }

// SameDisk reports whether two incarnations are of one node on one disk that has everything it ever synced. The second half of an
// incarnation changes with each start that cannot vouch for what was not synced, where that matters (docs/design/0014).
func (i Incarnation) SameDisk(o Incarnation) bool {
	return i != Incarnation{} && [8]byte(i[:8]) == [8]byte(o[:8])
}

// LeafBytes is the length of a Leaf.
const LeafBytes = 32

// Leaf is the SHA-256 of a sealed sector with its place (crypto/seal); every shard of the sector carries it.
type Leaf [LeafBytes]byte

// Code is the erasure code of a file: Data shards suffice to read a sector, Data+Parity are kept.
type Code struct {
	Data   int
	Parity int
}

// Shards is the number of members a region has.
func (c Code) Shards() int { return c.Data + c.Parity }

// MinWrite is the least number of in-sync members that may acknowledge a write (DESIGN section 5, rule 3).
func (c Code) MinWrite() int {
	if c.Parity >= 2 {
		return c.Data + 1
	}
	return c.Data
}

// ShardBytes is the length of one sector's shard; the last data shard is padded with zeros.
func (c Code) ShardBytes(sectorBytes int) int { return (sectorBytes + c.Data - 1) / c.Data }

// String prints the code as "k+m".
func (c Code) String() string { return fmt.Sprintf("%d+%d", c.Data, c.Parity) }

// Validate refuses codes outside 1+0 … 16+4.
func (c Code) Validate() error {
	if c.Data < 1 || c.Data > DataShardsMax || c.Parity < 0 || c.Parity > ParityShardsMax {
		return &Error{Op: "code", Kind: Invalid, Err: fmt.Errorf("%v is outside 1+0 to %d+%d", c, DataShardsMax, ParityShardsMax)}
	}
	return nil
}

// ParseCode reads "k+m", for example "2+1", and validates it.
func ParseCode(s string) (Code, error) {
	k, m, ok := strings.Cut(s, "+")
	var c Code
	var errK, errM error
	c.Data, errK = strconv.Atoi(k)
	c.Parity, errM = strconv.Atoi(m)
	if !ok || errK != nil || errM != nil {
		return Code{}, &Error{Op: "code", Kind: Invalid, Err: fmt.Errorf("%q is not of the form K+M, for example 2+1", s)}
	}
	return c, c.Validate()
}
