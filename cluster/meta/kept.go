package meta

import (
	"blocktree"
	"blocktree/cluster/stripe"
)

// Bounds of what a session keeps, each with its reason.
const (
	// KeptDirsPerSessionMax bounds the directories whose names a session keeps: the end of the session leaves all of them by one command.
	KeptDirsPerSessionMax = 1024
	// LeaveMax bounds what is left by one command.
	LeaveMax = 1024
	// SparesPerSessionMax bounds the files without names that MakeSpares makes for a session: what a service has given away unnamed, and a few more.
	SparesPerSessionMax = 512
	// MakeSparesMax bounds the files of one command: each is as much work for every member as to make one.
	MakeSparesMax = 32
)

// MakeDirKept is MakeDir of one directory whose names Session keeps from the first (docs/design/0079): until it leaves it, or ends, no command of anybody else changes its entries. Where the session keeps too many, is gone, or the command is a late copy, the directory is made, and not kept (Result.Kept). Refusals are those of MakeDir, and Invalid (Parents).
type MakeDirKept struct {
	MakeDir
	Session SessionID
}

// Leave gives back the names of directories, and frees spares that have no name yet, of those that Session keeps; of others it does nothing. It is done again when it is asked again.
type Leave struct {
	Session SessionID
	Dirs    []blocktree.FileID
	Spares  []blocktree.FileID
}

// MakeSpares makes N files without names (docs/design/0066) that Session keeps, and holds under their first epoch, of length 0. Result.Spares are their layouts. Invalid (the shape, N), Fenced (there is no such session), Busy (the session was renewed since: AcquireStaleAfter; NamelessMax), Unavailable (SparesPerSessionMax, LeasesPerSessionMax, or as CreateFile), NoSpace, Permission (who is neither a sector host nor user id 0).
type MakeSpares struct {
	Session     SessionID
	SizeBytes   uint64
	SectorBytes uint32
	Code        blocktree.Code
	Durability  stripe.Durability
	N           uint8
	Time        int64
}

// KeyFound is what was found of the key that a new file is wrapped to: the nearest directory that has an access record, or may have one that is not told, as QueryUnkeyed says, and the SHA-256 of that record. All is zero where none has.
type KeyFound struct {
	At     blocktree.Path
	Record [32]byte // zero: it is not told, or another cluster keeps it
}

// NameFile gives a spare that Session keeps, and holds under Epoch, a name: as CreateFile does at its Path, but for size, hosts and Parents, and the right to hold it as of CreateHeld. Its end moves to End, and with Release the lease goes. Asked again, of a file that has this name, it moves the end and releases. Exists, NotFound (Path is not in the directory Dir any more), StaleView (Key is not what counts), Fenced (the session does not keep, or not hold, the file), Busy, NoSpace, Invalid, TooLarge, Permission.
type NameFile struct {
	Session SessionID
	File    blocktree.FileID
	Epoch   blocktree.Epoch
	Dir     blocktree.FileID
	CreateFile
	Key     KeyFound
	End     uint64
	Release bool
	Time    int64 // when it was last written
}
