package fs

import (
	"context"
	"encoding/binary"
	"errors"

	"blocktree"
	"blocktree/crypto/cred"
)

// The end of a file, by its path and over the wire.

// truncate has the file at a path end at a byte, as who has it open for writing does, or else under a lease for as long as that takes.
func (s *Service) truncate(ctx context.Context, o *owner, r *pathRequest) error {
	found, err := s.look(ctx, o.caller(), r.path, Write|Lease)
	if err != nil {
		return err
	}
	info := InfoOf(found.Inode)
	switch {
	case info.Dir:
		return &blocktree.Error{Op: "truncate", Path: r.path.Short(), Kind: blocktree.Invalid, Err: errors.New("it is a directory"), Hint: "files have ends"}
	case !info.Encrypted && r.flags&flagPlain == 0: // as to open it to write
		return notEncrypted("truncate", r.path)
	}
	x := s.sharing.enter(info.ID)
	defer s.sharing.leave(x)
	b, err := x.write(ctx, func(ctx context.Context) (*body, error) { return s.openBody(ctx, o.caller(), r.path, &info) })
	if err != nil {
		return err
	}
	err = b.do(ctx, func() error { return b.truncate(ctx, r.sizeBytes) })
	if e := s.done(x, b); err == nil {
		err = e
	}
	return err
}

// notEncrypted refuses to write to a file that is not known to be plain.
func notEncrypted(op string, path blocktree.Path) error {
	return &blocktree.Error{Op: op, Path: path.Short(), Kind: blocktree.Permission, Err: errors.New("the file is not encrypted"), Hint: "say that it is meant to be plain"}
}

// setLength gives the file at a path a length; those who have it open for writing go by it at once.
func (s *Service) setLength(ctx context.Context, caller cred.Identity, r *pathRequest) error {
	found, err := s.look(ctx, caller, r.path, Write)
	if err != nil {
		return err
	}
	b := s.sharing.written(found.Inode.ID)
	if b == nil || b.ender == nil {
		return s.cluster.SetLength(ctx, caller, r.path, r.sizeBytes)
	}
	return b.do(ctx, func() error {
		if r.sizeBytes > b.size() {
			return &blocktree.Error{Op: "set the length", Kind: blocktree.Invalid, Err: errors.New("longer than the file is large"), Hint: "make it larger first"}
		}
		b.zeros = max(b.zeros, r.sizeBytes)
		return b.setEnd(ctx, r.sizeBytes)
	})
}

// encodeOffset writes where something was put.
func encodeOffset(off uint64) []byte { return binary.BigEndian.AppendUint64(nil, off) }

// decodeOffset reads it.
func decodeOffset(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, blocktree.E("decode", blocktree.Invalid, errors.New("no place"))
	}
	off := binary.BigEndian.Uint64(b)
	if off > blocktree.FileBytesMax {
		return 0, blocktree.E("decode", blocktree.Invalid, errors.New("a place in no file"))
	}
	return off, nil
}
