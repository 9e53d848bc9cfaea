package meta

import (
	"crypto/rand"
	"encoding/binary"
	"time"

	"blocktree"
	"blocktree/cluster/stripe"

	"golang.org/x/sys/unix"
)

// Bounds of this package, each with its reason.
const (
	// DedupMax is how many changing commands are remembered with their results: a proposer retries for seconds, and a
	// group does at most a few hundred such commands in that time.
	DedupMax = 4096
	// SessionsMax and LeasesPerSessionMax bound what clients can make the group keep, and what closing one costs.
	// SessionsPerPrincipalMax leaves room for others: a runtime needs one, and one more for each time it was started anew
	// within LeaseTerm.
	SessionsMax             = 16384
	SessionsPerPrincipalMax = 64
	LeasesPerSessionMax     = 4096
	// AcquireStaleAfter is how much older than its session's newest renewal an Acquire may be: one that waited longer, in a node that
	// stood still, is no longer wanted. A client that still wants the lease asks anew.
	AcquireStaleAfter = 2 * blocktree.LeaseTerm
	// GrantsMax bounds the grants of one inode: they are all looked at when it is judged who may do what. More subjects have a path in common.
	GrantsMax = 64
	// HostsMax bounds the sector hosts of a cluster, as the layout's codec numbers them in two bytes.
	HostsMax = 1024
	// RuntimesMax bounds the process records of a cluster.
	RuntimesMax = 4096
	// EndpointsMax and ServicesMax bound a process record.
	EndpointsMax = 16
	ServicesMax  = 64
	// AccessBytesMax bounds the opaque access record (wrapped keys) of a file; crypto/keys has the tighter bound.
	AccessBytesMax = 256 << 10
	// InodesMax and AccessTotalBytesMax bound what all files and directories take: a cluster is made for a million files, and
	// metadata that fills its disk stops the cluster for good.
	InodesMax           = 4 << 20
	AccessTotalBytesMax = 4 << 30
	// LayoutBytesMax is the longest encoded layout: it must fit a frame to be forwarded. It is met only by files of
	// more than 16,384 regions that are all being copied up at once.
	LayoutBytesMax = blocktree.FrameBodyBytesMax - 64<<10
)

// Inodes with a meaning.
const (
	SuperblockInode blocktree.Inode = 1 // in no directory
	RootInode       blocktree.Inode = 2 // the cluster's own directory
)

// CommandID is chosen by a proposer, once per thing it wants done; a retry repeats it. Its first 8 bytes are the proposer's
// CLOCK_BOOTTIME in nanoseconds when it was drawn. They order the commands of one session, which is of one process, and are
// compared with nothing else.
type CommandID [16]byte

// NewCommandID draws an id.
func NewCommandID() CommandID {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic("the system has no CLOCK_BOOTTIME: " + err.Error()) // Linux 2.6.39 and later do
	}
	var id CommandID
	binary.BigEndian.PutUint64(id[:], uint64(t.Nano()))
	rand.Read(id[8:])
	return id
}

// drawn is when the id was drawn, on the proposer's clock.
func (id CommandID) drawn() uint64 { return binary.BigEndian.Uint64(id[:]) }

// SessionID is chosen by the client that opens the session.
type SessionID [16]byte

// NewSessionID draws an id.
func NewSessionID() SessionID {
	var id SessionID
	rand.Read(id[:])
	return id
}

// InodeKind says what an inode is.
type InodeKind uint8

// The inode kinds, append-only.
const (
	KindDir InodeKind = iota + 1
	KindFile
	_ // kindCheckedFile, where an inode is encoded
	KindLink
)

// Inode describes a directory, a file or a symbolic link. Times are nanoseconds since 1970, given by whoever proposed the change.
type Inode struct {
	ID       blocktree.FileID
	Kind     InodeKind
	Mode     uint32 // permission bits
	UID, GID uint32
	Created  int64
	Modified int64
	Changed  int64 // when anything of it last changed; 0: nobody has noted it, see ChangedAt
	// Symbolic links only.
	Target string
	// Files only.
	SizeBytes   uint64
	HasLength   bool
	LengthBytes uint64 // where reading it as bytes ends, if HasLength; at most SizeBytes
	SectorBytes uint32
	Code        blocktree.Code
	Suite       uint8    // crypto/seal.Suite; 0 is no encryption
	KeyID       [16]byte // crypto/keys.KeyID
	Heard       Heard    // of the access record
	// Access is the record of wrapped keys (crypto/keys), opaque here but for its number; a directory may have one, too.
	Access []byte
	// Integrity is tree where Companion holds the pages of a tree whose newest record, with AnchorNumber, is Anchor.
	Integrity    Integrity
	Companion    blocktree.Inode // of a companion: the file that it is of
	AnchorNumber uint64          // 0: there is none
	Anchor       []byte          // opaque here
	// Xattrs are set on what is on its way to a child alone: they are kept beside the inode.
	Xattrs []Xattr
	// Delegation is set on a directory whose entries another cluster keeps.
	Delegation *Delegation
}

// Heard is what a holder has said of the access record of its file (NoteAccess).
type Heard struct {
	Epoch      blocktree.Epoch // of its lease
	Number     uint64          // of the record that it goes by
	Generation uint32          // of that record's key
	Sectors    uint64          // before this one, none is sealed under a generation before; AllResealed: none at all
	Rate       uint64          // how many bytes it re-seals in a second, 0 if it does not
}

// AllResealed is the place of a file that has no sector of an older generation any more, whatever its size.
const AllResealed = 1<<64 - 1

// DirEntry is one line of a listing: an inode without its access record and anchor.
type DirEntry struct {
	Name  string
	Inode Inode // Access and Anchor are nil
}

// Superblock is inode 1: what this cluster is.
type Superblock struct {
	Generation blocktree.Generation
	Dir        blocktree.Path // the directory whose entries are here
	Created    int64
	// Child says that the directory was delegated: there is a parent. While Taking is not TakingNothing it answers for no path.
	Child  bool
	Taking Taking
}

// Taking is how far a child has taken its directory over.
type Taking uint8

// What is to be taken over yet.
const (
	TakingNothing Taking = iota
	TakingEntries        // it may lack some
	TakingAnswers        // it has them, and its parent may not have handed them over

	takingEnd // keep last
)

// Session is what Raft says of a client's session. A lease hangs on it.
type Session struct {
	ID        SessionID
	Principal blocktree.Principal
	Path      blocktree.Path // of the runtime that opened it
	Renewals  uint64
	Leases    uint32 // how many it holds
}

// Lease gives one session the right to write a file under Epoch. A zero Session means the lease was released.
type Lease struct {
	File    blocktree.FileID
	Epoch   blocktree.Epoch
	Session SessionID
	Holder  blocktree.Path // path of the session's runtime; not stored, looked up
	// Claimant is the path of the runtime whose session claims the lease, none if nobody does; not stored, looked up.
	Claimant blocktree.Path
}

// FirmLease names a lease that a renewal confirms.
type FirmLease struct {
	File  blocktree.FileID
	Epoch blocktree.Epoch
}

// NodeStart is what Raft keeps of the newest start of a node.
type NodeStart struct {
	Node        blocktree.NodeID
	Incarnation blocktree.Incarnation
	Counter     uint64
}

// MemberStatus is a voter or learner as the leader sees it.
type MemberStatus struct {
	Node    blocktree.NodeID
	Learner bool
	// Recent is whether the leader heard from it within the last election timeout. It is true for the leader itself and
	// meaningless in the status of a follower, where it is false.
	Recent bool
	Match  uint64 // log index known to be on its disk; leader only
}

// Status is a member's view of the group.
type Status struct {
	Node    blocktree.NodeID
	Leader  blocktree.NodeID // zero if unknown
	Term    uint64
	Commit  uint64
	Applied uint64
	Members []MemberStatus // ascending by Node
}

// Changes is what one batch of applied commands changed, in the order of the commands. Slices and layouts are shared
// and must not be written to.
type Changes struct {
	Index    uint64 // everything up to this log index is applied
	Reset    bool   // a snapshot replaced the state: read everything anew (EachLayout); the rest is empty but for Revoked
	Layouts  []*stripe.Layout
	Removed  []blocktree.FileID
	Starts   []NodeStart
	Leases   []Lease      // Session zero: released
	Runtimes bool         // process records changed
	Rights   bool         // somebody may have more rights than before, or fewer
	Revoked  []Revocation // added; after a snapshot all there are
}

// Empty reports whether nothing changed but Index.
func (c *Changes) Empty() bool {
	return !c.Reset && len(c.Layouts) == 0 && len(c.Removed) == 0 && len(c.Starts) == 0 && len(c.Leases) == 0 && !c.Runtimes && !c.Rights && len(c.Revoked) == 0
}

// Result is what came of a command. Kind Other (0) means it was done.
type Result struct {
	Kind   blocktree.Kind
	Text   string
	Hint   string
	Index  uint64           // log index it was applied at, 0 if it was not; a retry is told the index of the retry
	Leader blocktree.NodeID // NotLeader: who leads, if known
	// What the command was about, where it applies.
	Inode   *Inode         // MakeDir, CreateFile, SetAttr, Remove, Resize
	Layout  *stripe.Layout // CreateFile, Acquire, ChangeView, Resize: the layout now, on refusal too
	Session *Session       // OpenSession, RenewSession
	Start   *NodeStart     // StartNode: the newest start, on refusal too
	Lease   *Lease         // Acquire: the lease taken; Busy: the lease in the way
	// HolderQuiet is, for Busy and from the leader only, how long ago it applied the holder's last renewal; the lease
	// ends when that reaches LeaseTerm. For ClaimLease it is how long ago the claim was made: the same holds.
	HolderQuiet time.Duration
	// Claimed says, of a RenewSession or OpenSession, that a lease of the session was claimed at some time: then those in Firm, at
	// most LeasesPerSessionMax, and no others, were held and not claimed when this was applied. Else all were.
	Claimed bool
	Firm    []FirmLease
	// Redirect says, with kind Elsewhere and no other, who answers instead.
	Redirect   *Redirect
	Generation blocktree.Generation // AssignGeneration
	// Kept says, of MakeDirKept, that the session keeps the directory; with Busy, that another session keeps the names of one that the command would have changed, and was told that it is wanted: ask again in a moment; with another refusal of NameFile, that the file is a spare of the session yet: nothing has named it.
	Kept bool
	// Wanted are directories that the session which asked keeps (Command.Keeper, RenewSession, and what says a session that keeps something), and others want; at most WantedMax.
	Wanted []blocktree.FileID
}

// Err returns nil if the command was done, else an *Error.
func (r *Result) Err(op string) error {
	if r.Kind == blocktree.Other {
		return nil
	}
	e := &blocktree.Error{Op: op, Kind: r.Kind, Hint: r.Hint}
	if r.Text != "" {
		e.Err = textError(r.Text)
	}
	return e
}

// textError is the cause of a refusal as it crossed the wire.
type textError string

func (t textError) Error() string { return string(t) }
