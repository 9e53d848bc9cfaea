package fs

import (
	"context"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/crypto/cred"
	"blocktree/crypto/seal"
)

// Rights are what a caller may do with a file or directory (docs/design/0024).
type Rights uint8

// The rights.
const (
	Read Rights = 1 << iota
	Write
	List
	Lease
	Admin
)

// Has reports whether all of want are there.
func (r Rights) Has(want Rights) bool { return r&want == want }

// Found is what a path names, and what a caller may do with it.
type Found struct {
	Inode  *meta.Inode
	Rights Rights
}

// CreateOptions say what a new file is like. Zero fields take the defaults of internal/file.
type CreateOptions struct {
	SizeBytes   uint64 // a whole number of sectors
	SectorBytes int
	Code        blocktree.Code
	Mode        uint32 // permission bits; 0o600
	Plain       bool   // not encrypted
	Tell        bool   // MakeOpen: as OpenOptions.Tell
	// Durability is that of a write that was answered: ack, or from the next Flush on. A service of a version before makes all files of durability ack.
	Durability stripe.Durability
	// Spare, of MakeOpen, is the identity of a Filling that the file is to have: where the service does not make it so nothing is made (ErrOtherSpare); one of a version before makes it with another.
	Spare blocktree.FileID
	// Dir, of MakeOpen with a Spare and of MakeWhole, is the directory that is meant, of a Filling: another one that has its path is NotFound. Zero: that which was filled at the path last, as long as the client remembers, or whatever has it.
	Dir blocktree.FileID
}

// Cluster is what the service asks of the cluster whose files it serves. All is judged there, for the caller, who may be anonymous; a refusal has kind
// Permission. All methods may be called by many goroutines at once, and block until the cluster answers or ctx ends.
type Cluster interface {
	// Look says what a path names, and which rights the caller has on it. Kinds: NotFound, Permission (not even to know of it), Unavailable.
	Look(ctx context.Context, caller cred.Identity, path blocktree.Path) (Found, error)
	// LookFile is Look for a file by its identity, whatever its name is by now.
	LookFile(ctx context.Context, caller cred.Identity, id blocktree.FileID) (Found, error)
	// RightsNumber is the rights number that is known here to be applied. It does not block.
	RightsNumber() uint64
	// List returns at most limit entries of a directory after a name, and whether there are more.
	List(ctx context.Context, caller cred.Identity, path blocktree.Path, after string, limit int) ([]meta.DirEntry, bool, error)
	// Create, MakeDir, Remove, Rename, Resize and SetLength change something in the caller's name. Create says which file it made.
	Create(ctx context.Context, caller cred.Identity, path blocktree.Path, o CreateOptions) (blocktree.FileID, error)
	MakeDir(ctx context.Context, caller cred.Identity, path blocktree.Path, mode uint32) error
	Remove(ctx context.Context, caller cred.Identity, path blocktree.Path) error
	// RemoveFile is Remove of the file that was at the path, and of no other: NotFound.
	RemoveFile(ctx context.Context, caller cred.Identity, path blocktree.Path, id blocktree.FileID) error
	// Rename has what is at from be at to, in the place of what is there, which with keep stays: Exists.
	Rename(ctx context.Context, caller cred.Identity, from, to blocktree.Path, keep bool) error
	Resize(ctx context.Context, caller cred.Identity, path blocktree.Path, bytes uint64) error
	SetLength(ctx context.Context, caller cred.Identity, path blocktree.Path, bytes uint64) error
	// SetTimes, Symlink and SetXattr change something in the caller's name, too. Modified may be TimeNow. An id that is not zero is the file that is meant, whatever the path names.
	SetTimes(ctx context.Context, caller cred.Identity, path blocktree.Path, id blocktree.FileID, modified int64) error
	Symlink(ctx context.Context, caller cred.Identity, path blocktree.Path, target string) error
	SetXattr(ctx context.Context, caller cred.Identity, path blocktree.Path, id blocktree.FileID, name string, value []byte, how SetHow) error
	RemoveXattr(ctx context.Context, caller cred.Identity, path blocktree.Path, id blocktree.FileID, name string) error
	// Xattrs returns the extended attributes of what a path or an id names, ascending, or the one of a name: NotFound.
	Xattrs(ctx context.Context, caller cred.Identity, path blocktree.Path, id blocktree.FileID, name string) ([]meta.Xattr, error)
	// Space is how much room there is for files of a code, zero for the default, in what keeps the entries of a directory.
	Space(ctx context.Context, caller cred.Identity, dir blocktree.Path, code blocktree.Code) (Space, error)
	// Open opens a file with the service's own key. For writing it takes the lease; kinds are those of internal/file. What is read and written
	// through the file is not judged.
	Open(ctx context.Context, caller cred.Identity, path blocktree.Path, o OpenOptions) (blocktree.File, error)
}

// OpenOptions say how to open a file.
type OpenOptions struct {
	Write bool // to read and write, under the file's lease; else to read what others have flushed
	// Plain says that a file which is to be written is known not to be encrypted; one that is read says so itself. Without it such a file is
	// refused: whoever could change what the cluster says of a file could otherwise have secrets written in the clear.
	Plain bool
	// Anew says that the caller may have had the file open for writing by a connection that broke: it is Busy while the service has such a handle of the same principal, as a write that is still on its way
	// there would be done after newer ones.
	Anew bool
	// Tell, of a file that is opened to write, has its Epochs told (Epocher). Of a client alone.
	Tell bool
	// File, unless zero, is the file that was at the path, and is meant, also where it has another name by now. Of a Cluster alone: a client says paths.
	File blocktree.FileID
}

// Info describes a file, directory or symbolic link. Times are nanoseconds since 1970.
type Info struct {
	ID                blocktree.FileID
	Dir               bool
	Link              bool   // a symbolic link
	Mode              uint32 // permission bits
	UID, GID          uint32
	Created, Modified int64
	Changed           int64  // when anything of it last changed; Modified where that is not known
	Length            uint64 // of a file where reading and writing it as bytes ends: SizeBytes, unless it was given another length; of a symbolic link that of its target
	// Of files only.
	SizeBytes   uint64
	SectorBytes int
	Code        blocktree.Code
	Encrypted   bool
}

// Entry is one line of a directory.
type Entry struct {
	Name string
	Info Info
}

// InfoOf describes an inode.
func InfoOf(i *meta.Inode) Info {
	info := Info{ID: i.ID, Dir: i.Kind == meta.KindDir, Link: i.Kind == meta.KindLink, Mode: i.Mode, UID: i.UID, GID: i.GID, Created: i.Created, Modified: i.Modified, Changed: i.ChangedAt(), Length: i.Length()}
	if info.Link {
		info.Mode = 0o777 // who may read it its directory says
	}
	if i.Kind == meta.KindFile {
		info.SizeBytes, info.SectorBytes, info.Code, info.Encrypted = i.SizeBytes, int(i.SectorBytes), i.Code, i.Suite != 0 && seal.Suite(i.Suite) != seal.None
	}
	return info
}

// Kind says what it describes.
func (i *Info) Kind() Kind {
	switch {
	case i.Dir:
		return KindDir
	case i.Link:
		return KindLink
	}
	return KindFile
}

// Puncher is an optional ability of a File.
type Puncher interface {
	// Punch makes n bytes from byte off on read as zeros, as far as they lie before the file's end, which stays. It is a write: durable with the next
	// Flush, and after an error each sector is the old one or the new one. Kinds: OutOfRange (off is past the end), ReadOnly, Unsupported (a service of
	// a version before), and those of WriteAt.
	Punch(ctx context.Context, off, n uint64) error
}

// Truncater is an optional ability of a File, that of one whose end moves.
type Truncater interface {
	// Truncate has the file end after so many bytes. What was behind is gone, what is new are zeros. It is durable, and so is what was written before, when it returns. Kinds: ReadOnly, NoSpace, TooLarge, Unavailable (then it may have happened), Unsupported (a service of a version before).
	Truncate(ctx context.Context, bytes uint64) error
}

// Allocater is an optional ability of a File, that of one whose end moves.
type Allocater interface {
	// Allocate has the file end behind off+n at least, of zeros where it ended before. No room on disks is set aside for that. Kinds: as Truncate.
	Allocate(ctx context.Context, off, n uint64) error
}

// Appender is an optional ability of a File, that of one whose end moves.
type Appender interface {
	// Append writes all of p, at most FSTransferBytesMax, at the end of the file, wherever others who write it by this service have that by then, and returns where that was. Kinds: those of WriteAt; Unavailable, Undeliverable: then it may have happened.
	Append(ctx context.Context, p []byte) (off uint64, err error)
}

// Stater is an optional ability of a File: to be described as it is now, also where it has another name, or none.
type Stater interface {
	Stat(ctx context.Context) (Info, error)
}

// File is an open file as bytes. Its end is its length. A position past the end is OutOfRange; a read that begins at or before the end is cut there, and returns fewer bytes
// with io.EOF. All methods may be called by many goroutines at once, and keep no slice they were given. Kinds are those of blocktree.File, Permission
// once the right is gone, Undeliverable once the file was closed by the service.
type File interface {
	// Info describes the file as it was when it was opened.
	Info() Info
	// ReadAt fills p from byte off on.
	ReadAt(ctx context.Context, p []byte, off uint64) (int, error)
	// WriteAt writes all of p at byte off. After an error each sector is the old one or the new one. What ends behind the end of the file makes a Truncater longer, with zeros in between, which others hear of at the next Flush; else, and of a service of
	// a version before, it is OutOfRange.
	WriteAt(ctx context.Context, p []byte, off uint64) error
	// Flush returns when every write that was answered before would survive the loss of power everywhere. Its first error stays.
	Flush(ctx context.Context) error
	// Close lets go of the file and its lease. It promises nothing of what was not flushed.
	Close() error
}
