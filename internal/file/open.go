package file

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/crypto/keys"
	"blocktree/crypto/seal"
	"blocktree/crypto/tree"
)

// CreateOptions say what a new file is like. Zero fields take the defaults named beside them.
type CreateOptions struct {
	SizeBytes   uint64         // a whole number of sectors
	SectorBytes int            // SectorBytesDefault
	Code        blocktree.Code // 2+1
	// Encryption is on unless Plain is set. Readers may open an encrypted file; its creator need not be one of them.
	Plain   bool
	Readers []keys.PublicKey
	Pins    Pins   // what was seen of access records before; nil: nothing
	Mode    uint32 // 0o600
	// Keyless is what was found of directories before, so that MakeHeld need not wait for that to be found again; nil: nothing.
	Keyless *Keyless
	// Keys has the keys of new files ready, so that who makes one need not wait until it is drawn and wrapped; nil: it is drawn then.
	Keys *KeyPool
	// Durability is that of an acknowledged write: durable at every member in sync, or from the next Flush on.
	Durability stripe.Durability // ack
	// Tree has the file be one of integrity tree: members that all go back in time together are noticed (docs/design/0028).
	Tree bool
	// Spare is the file that MakeUnnamed gives the name, of TakeSpares with the same shape; nil: any.
	Spare *cluster.TakenSpare
}

// CodeDefault is the code of a file that does not say otherwise: three nodes, one of which may be lost.
var CodeDefault = blocktree.Code{Data: 2, Parity: 1}

func (o CreateOptions) withDefaults() CreateOptions {
	if o.SectorBytes == 0 {
		o.SectorBytes = blocktree.SectorBytesDefault
	}
	if o.Code == (blocktree.Code{}) {
		o.Code = CodeDefault
	}
	if o.Mode == 0 {
		o.Mode = 0o600
	}
	return o
}

// Validate refuses sizes, codes and readers that no cluster would take. Kind Invalid, with a hint.
func (o CreateOptions) Validate() error {
	o = o.withDefaults()
	if err := o.Code.Validate(); err != nil {
		return err
	}
	bad := func(hint, format string, args ...any) error {
		return &blocktree.Error{Op: "file.Create", Kind: blocktree.Invalid, Err: fmt.Errorf(format, args...), Hint: hint}
	}
	switch s := o.SectorBytes; {
	case s < blocktree.SectorBytesMin || s > blocktree.SectorBytesMax || s&(s-1) != 0:
		return bad("a sector is a power of two from 512 to 65536 bytes", "sectors of %d bytes", s)
	case o.SizeBytes == 0:
		return bad("say how large, for example 1GiB", "a file of no size")
	case o.SizeBytes%uint64(s) != 0:
		return bad(fmt.Sprintf("the size is a whole number of sectors of %d bytes", s), "size %d", o.SizeBytes)
	case o.SizeBytes > blocktree.FileBytesMax:
		return bad("", "size %d, at most %d", o.SizeBytes, uint64(blocktree.FileBytesMax))
	case !o.Plain && len(o.Readers) == 0:
		return bad("list public keys under readers in the configuration, or make it with encryption none", "nobody could read an encrypted file without readers")
	case o.Plain && o.Tree:
		return bad("have it encrypted, or say integrity: sector", "integrity tree without encryption would keep nobody from anything")
	}
	return nil
}

// Create is Make for who need not know which file it made.
func Create(ctx context.Context, c *cluster.Client, path blocktree.Path, o CreateOptions) error {
	_, err := Make(ctx, c, path, o)
	return err
}

// Make makes a file, and returns which it is when the cluster has it. The key of an encrypted one is wrapped to its readers and to the nearest directory above that has a
// key. Kinds: Invalid, Exists, NotFound (parent), Unavailable, and those of an access record of a directory that is not right. Of an error of its Pins the file is there, and is returned.
func Make(ctx context.Context, c *cluster.Client, path blocktree.Path, o CreateOptions) (made blocktree.FileID, err error) {
	n, err := newMaking(ctx, c, path, o)
	if err != nil {
		return made, err
	}
	inode, err := create(ctx, c, n.op, &n.o)
	if err != nil {
		return made, err
	}
	if n.access != nil && o.Pins != nil {
		err = o.Pins.SetPin(path, n.access.Pin()) // also where another file was pinned: this one is known to be new
	}
	return inode.ID, err
}

// making is what a file is made of.
type making struct {
	o      CreateOptions
	op     meta.CreateFile
	access *keys.Access // nil of one that is not encrypted
	key    keys.FileKey
}

// newMaking draws the key of a new file, and wraps it.
func newMaking(ctx context.Context, c *cluster.Client, path blocktree.Path, o CreateOptions) (n making, err error) {
	var above keys.PublicKey
	if !o.Plain {
		if above, err = newKey(ctx, c, path.Parent(), o.Pins); err != nil {
			return n, err
		}
		o.Keyless.note(path.Parent(), above.IsZero())
	}
	return wrapped(ctx, c, path, o, above)
}

// wrapped is newMaking of what has the key above as that of the nearest directory; zero: none has one.
func wrapped(ctx context.Context, c *cluster.Client, path blocktree.Path, o CreateOptions, above keys.PublicKey) (n making, err error) {
	if !above.IsZero() && !slices.Contains(o.Readers, above) {
		o.Readers = append(slices.Clone(o.Readers), above)
	}
	if err := o.Validate(); err != nil {
		return n, err
	}
	n.o = o.withDefaults()
	n.op = meta.CreateFile{Path: path, Parents: true, SizeBytes: n.o.SizeBytes, SectorBytes: uint32(n.o.SectorBytes), Code: n.o.Code,
		Mode: n.o.Mode, Suite: uint8(seal.None), Time: time.Now().UnixNano()}
	if !o.Plain {
		n.op.Suite = uint8(seal.XAES256GCM)
		if n.access, n.key, err = o.Keys.create(n.op.Suite, n.o.Readers); err != nil {
			return n, err
		}
		n.access.Inherit(above)
		signRecord(ctx, c, n.access, path)
		n.op.KeyID, n.op.Access = n.access.KeyID, n.access.Append(nil)
	}
	return n, nil
}

// create has the cluster make the file.
func create(ctx context.Context, c *cluster.Client, op meta.CreateFile, o *CreateOptions) (*meta.Inode, error) {
	if o.Tree {
		shape := tree.NewShape(o.SizeBytes / uint64(o.SectorBytes))
		return c.CreateTreeFile(ctx, op, o.Durability, shape.Bytes())
	}
	return c.CreateFile(ctx, op, o.Durability)
}

// OpenOptions say how to open a file.
type OpenOptions struct {
	ReadOnly bool            // take no lease, whoever holds the file; each read asks the cluster for the file's layout first
	Reader   *keys.ReaderKey // opens encrypted files; nil for plain ones
	// Plain says that the file is known not to be encrypted. Without it such a file is refused: whoever could change what the
	// cluster says of a file could otherwise have secrets written in the clear.
	Plain               bool
	Pins                Pins         // what was seen of access records before; nil: nothing
	Logger              *slog.Logger // of a holder, which hears of new keys; nil: none
	cluster.OpenOptions              // of a file that somebody else holds
	// Roots keeps the newest record that was seen of files of integrity tree; nil: nothing is kept beyond the life of the File.
	Roots Roots
	// Root, unless zero, is a root that the file must have, or have had: one that does not come after it is refused.
	Root tree.Root
	// NoTree refuses files of integrity tree (Unsupported): for who keeps no roots, and would take a file that went back in time for a good one.
	NoTree bool

	// File, unless zero, is the file that is meant, which was at the path once and may have been renamed since: it is opened where its access record says that it is, if that comes after the one that
	// Pins, which must be FilePins, have of the file. NotFound where nothing is known of it.
	File blocktree.FileID

	before blocktree.Path     // where File was, if it is elsewhere now
	layout *cluster.LayoutAsk // of File; nil: it is asked for when it is opened

	adopt bool                    // of a rekey: go by a record of a key before, and make one of the newest
	step  func(what string) error // of tests: asked before each step of a fold, which an error ends
}

// Open opens the file at path. For writing it takes the file's lease, as o.OpenOptions says, and returns when what was in
// flight under the last holder is decided; for reading it takes none and returns at once; what is read of it by the request for which it was opened (cluster.Within) needs no further question to the cluster. Kinds: NotFound, Busy, Permission (no key, or an access record that is older
// than one that was seen), Unauthenticated (one that nobody has signed who may), Unavailable, Invalid.
func Open(ctx context.Context, c *cluster.Client, path blocktree.Path, o OpenOptions) (blocktree.File, error) {
	want := meta.RightsHold
	if o.ReadOnly {
		want = meta.RightRead
	}
	inode, now, err := find(ctx, c, path, want, &o)
	defer o.layout.Drop()
	if err != nil {
		return nil, err
	}
	if now != path {
		o.before = path
	}
	return openInode(ctx, c, now, inode, o)
}

// openInode is Open of the file that inode describes, which need not be the one at path, though its access record is of that.
func openInode(ctx context.Context, c *cluster.Client, path blocktree.Path, inode *meta.Inode, o OpenOptions) (blocktree.File, error) {
	if o.NoTree && inode.Integrity != meta.IntegritySector {
		return nil, &blocktree.Error{Op: "open", Path: path.Short(), Kind: blocktree.Unsupported, Err: errors.New("the file is of integrity tree, and nothing is remembered here of what it was"),
			Hint: "serve it with btnbd, which keeps its newest root"}
	}
	seen, err := remembered(path, inode, &o)
	if err != nil {
		return nil, &blocktree.Error{Op: "open", Path: path.Short(), Err: err}
	}
	u := &unlocker{client: c, path: path, reader: o.Reader, plain: o.Plain, pins: o.Pins}
	r, err := u.ring(ctx, inode)
	if err != nil {
		return nil, &blocktree.Error{Op: "open", Path: path.Short(), Err: err}
	}
	if seen != nil && !seen.isOf(inode.ID, r.access) {
		if err := madeAnew(path, seen, inode, r.access, &o); err != nil {
			return nil, &blocktree.Error{Op: "open", Path: path.Short(), Err: err}
		}
		c.Logger().Warn("the file was removed and made anew since it was last opened here", "path", path.Short(), "was", seen.File.String(), "is", inode.ID.String())
		seen = nil
	}
	known, err := knownRoots(seen, inode, r.access, &o)
	if err != nil {
		return nil, &blocktree.Error{Op: "open", Path: path.Short(), Err: err}
	}
	f := newFile(inode, path, r, o.ReadOnly)
	f.unlocker = u
	if err := f.attach(ctx, c, inode, &o); err != nil {
		return nil, err
	}
	if inode.Integrity == meta.IntegrityTree {
		if err := openGuard(ctx, c, f, inode, &o, known); err != nil {
			_ = f.Close() // the first error says why
			return nil, &blocktree.Error{Op: "open", Path: path.Short(), Err: err}
		}
	}
	if f.handle != nil {
		if err := f.keep(ctx, f.heard, o.Logger); err != nil {
			_ = f.Close() // nothing was written; the first error is the one to tell
			return nil, err
		}
	}
	return f, nil
}

// statFile describes the file of an identity, with its layout where it is to be read.
func statFile(ctx context.Context, c *cluster.Client, want meta.Rights, o *OpenOptions) (inode *meta.Inode, err error) {
	if o.ReadOnly {
		inode, o.layout, err = c.StatToRead(ctx, o.File, want)
		return inode, err
	}
	return c.StatFileFor(ctx, o.File, want)
}

// find looks for the file that is meant. It returns where that is.
func find(ctx context.Context, c *cluster.Client, path blocktree.Path, want meta.Rights, o *OpenOptions) (*meta.Inode, blocktree.Path, error) {
	if o.File == (blocktree.FileID{}) {
		inode, err := c.StatFor(ctx, path, want)
		return inode, path, err
	}
	inode, err := statFile(ctx, c, want, o)
	if err != nil || keys.NumberOf(inode.Access) == 0 { // then it names no path
		return inode, path, err
	}
	a, err := keys.DecodeAccess(inode.Access)
	if err != nil || a.Path == path {
		return inode, path, err
	}
	files, ok := o.Pins.(FilePins)
	var seen keys.Pin
	if ok {
		seen, ok, err = files.Of(o.File).Pin(a.Path)
	}
	switch {
	case err != nil:
	case !ok:
		err = &blocktree.Error{Kind: blocktree.NotFound, Err: errors.New("the file was renamed"), Hint: "open it by the name that it has"}
	default:
		err = followsTo(a, seen, path)
	}
	if err != nil {
		return nil, path, &blocktree.Error{Op: "open", Path: path.Short(), Err: err}
	}
	return inode, a.Path, nil
}

// newFile makes a file that nothing is attached to yet.
func newFile(inode *meta.Inode, path blocktree.Path, r *ring, readOnly bool) *File {
	sector := int(inode.SectorBytes)
	f := &File{
		info: blocktree.FileInfo{ID: inode.ID, Path: path, SizeBytes: inode.SizeBytes, SectorBytes: sector, Code: inode.Code,
			ReadOnly: readOnly},
		regionSectors: uint64(blocktree.RegionBytes / sector),
		runSectors:    uint64(min(blocktree.RunSectorsMax, blocktree.RunBytesMax/sector)),
	}
	f.keys.Store(r)
	return f
}

// attach takes the file's lease, or makes a reader of it.
func (f *File) attach(ctx context.Context, c *cluster.Client, inode *meta.Inode, o *OpenOptions) (err error) {
	path := f.info.Path
	if o.ReadOnly {
		f.reader, f.durability, err = c.OpenReaderUnder(ctx, path, inode, o.layout)
	} else if f.handle, err = c.Open(ctx, path, inode, o.OpenOptions); err == nil {
		f.regionSectors, f.durability = f.handle.RegionSectors(), f.handle.Durability()
		if f.unlocker == nil { // a companion goes by the keys of its file
			return nil
		}
		if f.heard, err = f.renew(ctx); err != nil {
			_ = f.handle.Close() // nothing was written; the first error is the one to tell
		}
	}
	return err
}
