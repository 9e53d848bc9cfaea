package file

import (
	"context"
	"errors"
	"fmt"
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
	Mode    uint32 // 0o600
	// Durability is that of an acknowledged write: durable at every member in sync, or from the next Flush on.
	Durability stripe.Durability // ack
	// Tree has the file be one of integrity tree: members that all go back in time together are noticed (docs/design/0028).
	Tree bool
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
		return bad("the config lists the public keys of readers", "nobody could read an encrypted file without readers")
	case o.Plain && o.Tree:
		return bad("have it encrypted, or say integrity: sector", "integrity tree without encryption would keep nobody from anything")
	}
	return nil
}

// Create makes a file and returns when the cluster has it. Kinds: Invalid, Exists, NotFound (parent), Unavailable.
func Create(ctx context.Context, c *cluster.Client, path blocktree.Path, o CreateOptions) error {
	if err := o.Validate(); err != nil {
		return err
	}
	o = o.withDefaults()
	op := meta.CreateFile{Path: path, Parents: true, SizeBytes: o.SizeBytes, SectorBytes: uint32(o.SectorBytes), Code: o.Code,
		Mode: o.Mode, Suite: uint8(seal.None), Time: time.Now().UnixNano()}
	if !o.Plain {
		op.Suite = uint8(seal.XAES256GCM)
		access, _, err := keys.Create(op.Suite, o.Readers)
		if err != nil {
			return err
		}
		op.KeyID, op.Access = access.KeyID, access.Append(nil)
	}
	if o.Tree {
		shape := tree.NewShape(o.SizeBytes / uint64(o.SectorBytes))
		_, err := c.CreateTreeFile(ctx, op, o.Durability, shape.Bytes())
		return err
	}
	_, err := c.CreateFile(ctx, op, o.Durability)
	return err
}

// OpenOptions say how to open a file.
type OpenOptions struct {
	ReadOnly bool            // take no lease, whoever holds the file; each read asks the cluster for the file's layout first
	Reader   *keys.ReaderKey // opens encrypted files; nil for plain ones
	// Plain says that the file is known not to be encrypted. Without it such a file is refused: whoever could change what the
	// cluster says of a file could otherwise have secrets written in the clear.
	Plain               bool
	cluster.OpenOptions // of a file that somebody else holds
	// Roots keeps the newest record that was seen of files of integrity tree; nil: nothing is kept beyond the life of the File.
	Roots Roots
	// Root, unless zero, is a root that the file must have, or have had: one that does not come after it is refused.
	Root tree.Root

	step func(what string) error // of tests: asked before each step of a fold, which an error ends
}

// Open opens the file at path. For writing it takes the file's lease, as o.OpenOptions says, and returns when what was in
// flight under the last holder is decided; for reading it takes none and returns at once. Kinds: NotFound, Busy, Permission (no key), Unavailable, Invalid.
func Open(ctx context.Context, c *cluster.Client, path blocktree.Path, o OpenOptions) (blocktree.File, error) {
	inode, err := c.Stat(ctx, path)
	if err != nil {
		return nil, err
	}
	seen, err := remembered(path, inode, &o)
	if err != nil {
		return nil, &blocktree.Error{Op: "open", Path: path.Short(), Err: err}
	}
	sealer, err := sealerOf(inode, o.Reader, o.Plain)
	if err != nil {
		return nil, &blocktree.Error{Op: "open", Path: path.Short(), Err: err}
	}
	f := newFile(inode, path, sealer, o.ReadOnly)
	if err := f.attach(ctx, c, inode, &o); err != nil {
		return nil, err
	}
	if inode.Integrity == meta.IntegrityTree {
		if err := openGuard(ctx, c, f, inode, &o, seen); err != nil {
			_ = f.Close() // the first error says why
			return nil, &blocktree.Error{Op: "open", Path: path.Short(), Err: err}
		}
	}
	return f, nil
}

// newFile makes a file that nothing is attached to yet.
func newFile(inode *meta.Inode, path blocktree.Path, sealer *seal.Sealer, readOnly bool) *File {
	sector := int(inode.SectorBytes)
	return &File{
		info: blocktree.FileInfo{ID: inode.ID, Path: path, SizeBytes: inode.SizeBytes, SectorBytes: sector, Code: inode.Code,
			ReadOnly: readOnly},
		sealer: sealer, regionSectors: uint64(blocktree.RegionBytes / sector),
		runSectors: uint64(min(blocktree.RunSectorsMax, blocktree.RunBytesMax/sector)),
	}
}

// attach takes the file's lease, or makes a reader of it.
func (f *File) attach(ctx context.Context, c *cluster.Client, inode *meta.Inode, o *OpenOptions) (err error) {
	path := f.info.Path
	if o.ReadOnly {
		var d cluster.FileDurability
		if d, err = c.Durability(ctx, inode); err == nil {
			f.durability = d.Durability
			f.reader, err = c.OpenReader(path, inode)
		}
	} else if f.handle, err = c.Open(ctx, path, inode, o.OpenOptions); err == nil {
		f.regionSectors, f.durability = f.handle.RegionSectors(), f.handle.Durability()
	}
	return err
}

// sealerOf unwraps the file's key.
func sealerOf(inode *meta.Inode, reader *keys.ReaderKey, plain bool) (*seal.Sealer, error) {
	if inode.Kind != meta.KindFile {
		return nil, &blocktree.Error{Op: "open", Kind: blocktree.Invalid, Err: errors.New("it is a directory")}
	}
	suite, err := seal.SuiteOf(inode.Suite)
	if err != nil {
		return nil, err
	}
	if suite == seal.None && !plain {
		return nil, &blocktree.Error{Op: "open", Kind: blocktree.Permission, Err: errors.New("the file is not encrypted"),
			Hint: "say encryption: none for it where that is meant"}
	}
	if suite == seal.None {
		return seal.New([32]byte{}, suite, inode.ID, 1), nil
	}
	if reader == nil {
		return nil, &blocktree.Error{Op: "open", Kind: blocktree.Permission, Err: errors.New("the file is encrypted"),
			Hint: "the config names no reader key"}
	}
	access, err := keys.DecodeAccess(inode.Access)
	if err != nil {
		return nil, err
	}
	key, err := access.Open(reader)
	if err != nil {
		return nil, err
	}
	return seal.New(key.Sealing(access.KeyID, access.Generation), suite, inode.ID, access.Generation), nil
}

// integrityKey unwraps the file's key and derives that of its records.
func integrityKey(inode *meta.Inode, reader *keys.ReaderKey) (key [keys.FileKeyBytes]byte, generation uint32, err error) {
	if seal.Suite(inode.Suite) == seal.None || reader == nil {
		return key, 0, &blocktree.Error{Op: "open", Kind: blocktree.Invalid, Err: errors.New("a file of integrity tree is encrypted"), Hint: "make the file anew"}
	}
	access, err := keys.DecodeAccess(inode.Access)
	if err != nil {
		return key, 0, err
	}
	k, err := access.Open(reader)
	if err != nil {
		return key, 0, err
	}
	return k.Integrity(access.KeyID, access.Generation), access.Generation, nil
}
