package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path"

	"blocktree"
	"blocktree/internal/vfs"
	"blocktree/internal/wire"
)

const (
	superblockName  = "superblock"
	checkpointName  = "checkpoint"
	lockName        = "lock"
	temporarySuffix = ".tmp"

	superblockMagic = 0x42547862 // "BTxb"
	superblockBytes = 4 + 1 + 8 + 8 + 8 + 1 + 1 + 4
)

// superblock says whose the directory is.
type superblock struct {
	identity
	starts uint64
	clean  bool // closed with a checkpoint, and not opened since

	suspect bool // the next start reads the whole index: it was damaged, or live sectors are counted that are not
}

func (sb superblock) encode() []byte {
	e := wire.Encoder{Buf: make([]byte, 0, superblockBytes)}
	e.U32(superblockMagic)
	e.U8(format)
	e.U64(uint64(sb.store))
	e.U64(sb.salt)
	e.U64(sb.starts)
	e.Bool(sb.clean)
	e.Bool(sb.suspect)
	e.U32(crcOf(e.Buf))
	return e.Buf
}

// superblockBytesMax bounds a superblock of any format.
const superblockBytesMax = 4 << 10

// decodeSuperblock reads what encode made. Of whatever format, magic and format come first, and the CRC of all before it last:
// a format that a flipped bit made must not send anybody for newer software.
func decodeSuperblock(b []byte) (superblock, error) {
	d := wire.NewDecoder(b)
	magic, version := d.U32(), d.U8()
	if d.Err() != nil || magic != superblockMagic || d.Len() < 4 {
		return superblock{}, blocktree.E("superblock", blocktree.Corrupt, errors.New("not a superblock"))
	}
	end := len(b) - 4
	good := binary.BigEndian.Uint32(b[end:]) == crcOf(b[:end])
	if good && version > format {
		return superblock{}, newerFormat("superblock", version)
	}
	var sb superblock
	sb.store, sb.salt, sb.starts, sb.clean = blocktree.NodeID(d.U64()), d.U64(), d.U64(), d.Bool()
	sb.suspect = d.Bool()
	d.U32()
	if d.Finish() != nil || !good || version != format || sb.store == 0 {
		return superblock{}, blocktree.E("superblock", blocktree.Corrupt, errors.New("does not match its checksum"))
	}
	return sb, nil
}

// replaceFile puts a file with content b in the place of name, in one step, durably.
func replaceFile(fs vfs.FS, dir, name string, b []byte) error {
	temporary := path.Join(dir, name+temporarySuffix)
	f, err := fs.Create(temporary)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(temporary, path.Join(dir, name)); err != nil {
		return err
	}
	return fs.SyncDir(dir)
}

func writeSuperblock(fs vfs.FS, dir string, sb superblock) error {
	return replaceFile(fs, dir, superblockName, sb.encode())
}

// readSuperblock returns NotFound where there is no store.
func readSuperblock(fs vfs.FS, dir string) (superblock, error) {
	b, err := readFile(fs, path.Join(dir, superblockName), superblockBytesMax)
	if err != nil {
		return superblock{}, err
	}
	sb, err := decodeSuperblock(b)
	if err != nil {
		return sb, lostStore(dir, err)
	}
	return sb, nil
}

// lostStore is the error of Open for a file without which the store says nothing: Corrupt, unless err knows better.
func lostStore(name string, err error) error {
	kind := blocktree.KindOf(err)
	if kind == blocktree.Other || kind == blocktree.NotFound {
		kind = blocktree.Corrupt
	}
	out := &blocktree.Error{Op: "store.Open", Path: name, Kind: kind, Err: err}
	if kind == blocktree.Corrupt {
		out.Hint = "what is left of this store cannot be told from old data; replace the node by one with an empty directory"
	}
	return out
}

// readFile reads at most max bytes of a file.
func readFile(fs vfs.FS, name string, max int) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	b := make([]byte, min(size, int64(max)))
	err = readFull(f, b, 0)
	return b, errors.Join(err, f.Close())
}

// checkOwner refuses the directory of another store.
func checkOwner(dir string, sb superblock, id blocktree.NodeID) error {
	if sb.store == id {
		return nil
	}
	return &blocktree.Error{Op: "store.Open", Path: dir, Kind: blocktree.Invalid,
		Err:  fmt.Errorf("the directory belongs to store %v, not to %v", sb.store, id),
		Hint: "give the node its own directory back; to make it a new member, start it with an empty one"}
}
