package meta

import (
	"blocktree"
	"blocktree/cluster/stripe"
)

// Command is one change of the state. Op is one of the structs below.
type Command struct {
	ID CommandID
	Op Op
	// Caller asks for it, at Time, nanoseconds since 1970, by the clock of the node that it asked; nil: the cluster itself.
	Caller *Caller
	Time   int64
	// Keeper is the session that it comes from, if that keeps directories which it may change (docs/design/0079); zero: none. The node that takes it makes sure that the session is whose says so.
	Keeper SessionID
}

// Op is what a Command does. Each op says which kinds it refuses with; a refused command changes nothing, but for a note that a directory is wanted: whatever changes an entry is Busy where another session keeps the directory's names (Result.Kept).
type Op interface{ opcode() opcode }

// opcode is an op's wire code.
type opcode uint8

// The opcodes, append-only.
const (
	opFound opcode = iota + 1
	opMakeDir
	opCreateFile
	opRemove
	opSetAttr
	opPutRuntime
	opRemoveRuntime
	opStartNode
	opOpenSession
	opRenewSession
	opCloseSession
	opExpireSession
	opAcquire
	opRelease
	opChangeView
	opClaimLease
	opEndClaim
	opReplaceHost
	opRetireHost
	opLeaveViews
	opDrainHost
	opCreateFlushFile
	opStartVolatile
	opResize
	opPutGrant
	opRemoveGrant
	opRevokePrincipal
	opSetAccess
	opNoteAccess
	opCreateTreeFile
	opAnchor
	opResizeTree
	opSetLength
	opPutBelow
	opRemoveBelow
	opAssignGeneration
	opDelegate
	opHandOver
	opDropMoved
	opRemoveMoved
	opDropEntry
	opFoundChild
	opSetAbove
	opTakeEntries
	opEndTaking
	opHandOverSum
	opBeginMove
	opDropCopy
	opDepart
	opStay
	opAdopt
	opRemoveLeft
	opEndMove
	opRename
	opAskShrink
	opTakeBack
	opSetEnd
	opTouch
	opReleaseAt
	opSetTimes
	opSymlink
	opSetXattr
	opPutXattrs
	opCreateHeld
	opReleaseEnd
	opUnlink
	opRenameOver
	opForget
	opAskShrinkTree
	opMakeDirKept
	opLeave
	opMakeSpares
	opNameFile
	opWant

	opEnd // keep last
)

// Found is the first command of a new cluster: it makes the superblock and the root directory and records the first
// sector hosts. Exists if the cluster was founded before (compare-and-swap), which a restarting founder takes as done.
type Found struct {
	Dir        blocktree.Path
	Generation blocktree.Generation // 1 for the root cluster; not 0
	Runtimes   []blocktree.Runtime
	Mode       uint32
	Time       int64
}

// MakeDir makes a directory; with Parents also those above it, and then an existing directory is no error. Exists,
// NotFound (parent), Invalid (a parent is a file, or the path is outside the cluster's directory), NoSpace (InodesMax).
type MakeDir struct {
	Path     blocktree.Path
	Parents  bool
	Mode     uint32
	UID, GID uint32
	Time     int64
}

// CreateFile makes a file with its layout. Exists, NotFound, Invalid (size, sector, code, or fewer sector hosts than k+m),
// Unavailable (enough hosts, but too few have started), NoSpace (InodesMax, AccessTotalBytesMax).
type CreateFile struct {
	Path    blocktree.Path
	Parents bool
	// Hosts the file is spread over; none: every sector host among the process records that has started.
	Hosts       []blocktree.NodeID
	SizeBytes   uint64
	SectorBytes uint32
	Code        blocktree.Code
	Mode        uint32
	UID, GID    uint32
	Suite       uint8
	KeyID       [16]byte
	Access      []byte
	Time        int64
}

// Remove removes a file or an empty directory. NotFound, Busy (leased, or not empty), Invalid (the root directory). A refusal is
// remembered like a removal: who was told that the file is still there does not lose it to a copy of the command that comes later.
type Remove struct {
	Path blocktree.Path
	// File, unless zero, is what Path must still name, else NotFound: a delayed Remove then spares a newer file of that name.
	File blocktree.FileID
}

// AttrMask says which fields SetAttr sets.
type AttrMask uint8

// The fields.
const (
	AttrMode AttrMask = 1 << iota
	AttrOwner
	AttrModified
	AttrAccess // KeyID, Suite and Access
	attrAll    = AttrMode | AttrOwner | AttrModified | AttrAccess
)

// SetAttr changes the fields named in Mask. NotFound, NoSpace (AccessTotalBytesMax).
type SetAttr struct {
	File     blocktree.FileID
	Mask     AttrMask
	Mode     uint32
	UID, GID uint32
	Modified int64
	Suite    uint8
	KeyID    [16]byte
	Access   []byte
}

// PutRuntime adds or replaces the process record of Runtime.Path. Invalid (no path, too many hosts), Exists (another
// record has its Node).
type PutRuntime struct{ Runtime blocktree.Runtime }

// RemoveRuntime removes a process record. NotFound. Layouts that name its node keep it.
type RemoveRuntime struct{ Path blocktree.Path }

// StartNode records a start by compare-and-swap on the start counter: StaleMember, with the newest start in the result,
// if the counter is not ExpectCounter. A changed incarnation marks the node in every file that names it.
type StartNode struct {
	Node          blocktree.NodeID
	Incarnation   blocktree.Incarnation
	StartCounter  uint64 // greater than ExpectCounter
	ExpectCounter uint64 // 0: this is the first start
}

// LeaveViews is a StartNode that a running node asks for because it wants to be copied up. In addition it is refused with Unavailable
// while some region that the node is in sync in would keep fewer than Code.MinWrite others that are in sync and unmarked: of
// several nodes that want to leave at once, only so many may.
type LeaveViews struct{ StartNode }

// OpenSession opens a session; a client counts its lease term from the moment it sent this or a renewal. Exists (the id
// belongs to another principal), Unavailable (SessionsMax, SessionsPerPrincipalMax). Opening one's own open session again is a renewal.
// Who does not learn what came of an opening uses another id for the next: a copy of the first may come at any time.
type OpenSession struct {
	Session   SessionID
	Principal blocktree.Principal
	Path      blocktree.Path
}

// RenewSession renews. NotFound: it is closed or expired and its leases are gone. It is done again when it is
// asked again.
type RenewSession struct{ Session SessionID }

// CloseSession closes a session and releases its leases. One that is gone already is no error.
type CloseSession struct{ Session SessionID }

// ExpireSession closes a session unless it was renewed since Renewals was seen (then Busy). Proposed by the leader only.
type ExpireSession struct {
	Session  SessionID
	Renewals uint64
}

// Acquire takes the lease of a file for a session under a new epoch. A session that has it gets a new epoch, unless it took it
// by a later Acquire: then this one was delayed, and is Busy, as is one that is older than the session's newest renewal by
// AcquireStaleAfter. NotFound (file or session), Busy (another session has it; Result.Lease), Unavailable (LeasesPerSessionMax).
type Acquire struct {
	Session SessionID
	File    blocktree.FileID
}

// Release gives a lease up. Fenced if it is not held by Session under Epoch.
type Release struct {
	Session SessionID
	File    blocktree.FileID
	Epoch   blocktree.Epoch
}

// ClaimLease notes on the lease that another session holds under Epoch that Session wants it by force, or notes that it still does: from
// then on no renewal confirms that lease (Result.Firm), and the leader grants it when the claim is repeated after a term; one that is not
// repeated for ClaimTerm lapses. As RenewSession it is done again when it is asked again. NotFound (file or session), Fenced (no other session holds
// it under Epoch; Result.Lease is what there is), Busy (somebody else claims it; or it is a late copy), Unavailable (LeasesPerSessionMax).
type ClaimLease struct {
	Session SessionID
	File    blocktree.FileID
	Epoch   blocktree.Epoch
}

// EndClaim ends the claim of Session on the lease of File under Epoch. Proposed by the leader only. With Grant the lease becomes
// Session's, under the next epoch, or, if that may not hold the file any more, the claim lapses; without, it lapses, unless it was repeated since
// Asked was seen (then Busy). NotFound: there is no such claim, or it was made since Asked was seen, or Session is gone. Unavailable
// (LeasesPerSessionMax).
type EndClaim struct {
	File    blocktree.FileID
	Epoch   blocktree.Epoch
	Session SessionID
	Asked   uint64
	Grant   bool
}

// ChangeView applies a stripe.Change; refusals are those of Layout.Apply, and NotFound. The holder's lease is not asked
// for: the epoch fences. Invalid also if a node that drains, or that is no sector host, would get a place, or an heir the place of one that
// does not drain.
type ChangeView struct{ Change stripe.Change }

// ReplaceHost gives the runtime at Path the store New instead of Old, in its record and in every file: New has every place that
// Old had, and is out in all of them. It is done already if the record has New. NotFound (no such record), Invalid (the record has
// another store than Old; New is no new store), Busy (Old drains), Unavailable (a file would keep fewer than k members in sync; then
// nothing changes).
type ReplaceHost struct {
	Path     blocktree.Path
	Old, New blocktree.NodeID
}

// RetireHost removes the record of a sector host whose store Node has no place in any file, so that it leaves the group. NotFound,
// Invalid (the record has another store), Busy (it has places).
type RetireHost struct {
	Path blocktree.Path
	Node blocktree.NodeID
}

// DrainHost has the store Node of the sector host at Path lose its places, one after the other, to other nodes; it gets no new ones.
// With Cancel it no longer does: what has moved stays moved. Done already is a success. NotFound (no such record), Invalid (the record has
// another store), Unavailable (a file in which it has a place would find fewer than k+m nodes that have started and do not drain).
type DrainHost struct {
	Path   blocktree.Path
	Node   blocktree.NodeID
	Cancel bool
}

func (DrainHost) opcode() opcode     { return opDrainHost }
func (ReplaceHost) opcode() opcode   { return opReplaceHost }
func (RetireHost) opcode() opcode    { return opRetireHost }
func (Found) opcode() opcode         { return opFound }
func (MakeDir) opcode() opcode       { return opMakeDir }
func (CreateFile) opcode() opcode    { return opCreateFile }
func (Remove) opcode() opcode        { return opRemove }
func (SetAttr) opcode() opcode       { return opSetAttr }
func (PutRuntime) opcode() opcode    { return opPutRuntime }
func (RemoveRuntime) opcode() opcode { return opRemoveRuntime }
func (StartNode) opcode() opcode     { return opStartNode }
func (OpenSession) opcode() opcode   { return opOpenSession }
func (RenewSession) opcode() opcode  { return opRenewSession }
func (CloseSession) opcode() opcode  { return opCloseSession }
func (ExpireSession) opcode() opcode { return opExpireSession }
func (Acquire) opcode() opcode       { return opAcquire }
func (Release) opcode() opcode       { return opRelease }
func (ChangeView) opcode() opcode    { return opChangeView }
func (ClaimLease) opcode() opcode    { return opClaimLease }
func (EndClaim) opcode() opcode      { return opEndClaim }
func (LeaveViews) opcode() opcode    { return opLeaveViews }
