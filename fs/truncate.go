package fs

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
)

// The end of a file, by its path and over the wire.

// truncate has the file at a path end at a byte, as who has it open for writing does, or else under a lease for as long as that takes.
func (s *Service) truncate(ctx context.Context, o *owner, r *pathRequest) error {
	const want = Write | Lease
	asked := s.asks()
	found, err := s.look(ctx, o.caller(), r.path, want)
	if err != nil {
		return err
	}
	info := InfoOf(found.Inode)
	switch {
	case info.Dir:
		return &blocktree.Error{Op: "truncate", Path: r.path.Short(), Kind: blocktree.Invalid, Err: errors.New("it is a directory"), Hint: "files have ends"}
	case info.Link:
		return &blocktree.Error{Op: "truncate", Path: r.path.Short(), Kind: blocktree.Invalid, Err: errors.New("it is a symbolic link"), Hint: "truncate what it names"}
	case !info.Encrypted && r.flags&flagPlain == 0: // as to open it to write
		return notEncrypted("truncate", r.path)
	}
	x := s.sharing.enter(info.ID)
	defer s.sharing.leave(x)
	by := o.caller().Principal
	b, err := x.write(ctx, by, false, nil, func(ctx context.Context) (*body, error) { return s.openBody(ctx, o.caller(), r.path, &info) })
	if err != nil {
		return err
	}
	err = b.do(ctx, func() error {
		if err := s.still(ctx, asked, o.caller(), r.path, info.ID, want); err != nil {
			return err
		}
		return b.truncate(ctx, r.sizeBytes)
	})
	if e := s.done(x, b, by, false); err == nil {
		err = e
	}
	return err
}

// asking is when the cluster was asked about a caller.
type asking struct {
	number uint64 // the rights number that it was asked under, or an older one
	moved  uint64 // kept.moved, likewise
	at     time.Time
}

// asks notes that the cluster is asked now.
func (s *Service) asks() asking {
	return asking{s.cluster.RightsNumber(), s.kept.moved.Load(), time.Now()}
}

// still asks again whether a caller may do something to a file, where it was asked too long ago, or somebody's right has gone since: a turn may be long in coming.
func (s *Service) still(ctx context.Context, asked asking, caller cred.Identity, path blocktree.Path, id blocktree.FileID, want Rights) error {
	if s.cluster.RightsNumber() == asked.number && time.Since(asked.at) < blocktree.FSJudgeEvery {
		return nil
	}
	_, err := s.lookFile(ctx, caller, id, path, want)
	return err
}

// notEncrypted refuses to write to a file that is not known to be plain.
func notEncrypted(op string, path blocktree.Path) error {
	return &blocktree.Error{Op: op, Path: path.Short(), Kind: blocktree.Permission, Err: errors.New("the file is not encrypted"), Hint: "say that it is meant to be plain"}
}

// resize gives the file at a path another size. It is made smaller through what those have who write it here; by a lease of its own where nobody does, which would be taken from them.
func (s *Service) resize(ctx context.Context, caller cred.Identity, r *pathRequest) error {
	found, err := s.look(ctx, caller, r.path, Write)
	if err != nil {
		return err
	}
	if r.sizeBytes >= found.Inode.SizeBytes {
		return s.cluster.Resize(ctx, caller, r.path, r.sizeBytes)
	}
	x := s.sharing.enter(found.Inode.ID)
	defer s.sharing.leave(x)
	if err := x.enter(ctx); err != nil { // nobody opens it meanwhile
		return err
	}
	defer x.leave()
	info := InfoOf(found.Inode)
	if done, err := s.shrinkWritten(ctx, caller, x, r, &info); done {
		return err
	}
	return s.cluster.Resize(ctx, caller, r.path, r.sizeBytes)
}

// setLength gives the file at a path a length; those who have it open for writing go by it at once.
func (s *Service) setLength(ctx context.Context, caller cred.Identity, r *pathRequest) error {
	asked := s.asks()
	found, err := s.look(ctx, caller, r.path, Write)
	if err != nil {
		return err
	}
	b := s.sharing.written(found.Inode.ID)
	if b == nil || b.ender == nil {
		return s.cluster.SetLength(ctx, caller, r.path, r.sizeBytes)
	}
	return b.do(ctx, func() error {
		if err := s.still(ctx, asked, caller, r.path, found.Inode.ID, Write); err != nil {
			return err
		}
		if r.sizeBytes > b.size() {
			return &blocktree.Error{Op: "set the length", Kind: blocktree.Invalid, Err: errors.New("longer than the file is large"), Hint: "make it larger first"}
		}
		if err := b.flush(ctx); err != nil { // nobody hears of an end before what is before it is durable
			return err
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
