package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/cmd/internal/parts"
	"blocktree/fs"
	"blocktree/internal/cli"
	"blocktree/internal/config"
)

// How a transfer that was cut goes on: what is there is compared, piece by piece, and only what is missing is carried. Nothing is noted down meanwhile, so nothing can be believed of another version.

// sumOf returns the SHA-256 of so many bytes of an open file, as many as there are.
func sumOf(ctx context.Context, f fs.File, off uint64, bytes int) (sum [sha256.Size]byte, n int, err error) {
	if s, ok := f.(fs.Summer); ok {
		sum, n, err = s.SumAt(ctx, off, bytes)
		if blocktree.KindOf(err) != blocktree.Unsupported { // a service of a version before
			return sum, n, err
		}
	}
	buf := make([]byte, bytes)
	n, err = f.ReadAt(ctx, buf, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return sha256.Sum256(buf[:n]), n, err
}

// resumeOut has a local file, called local, be all bytes of an open one: what it has already is compared, what differs is copied. It returns how many bytes were there.
func resumeOut(ctx context.Context, f fs.File, to *os.File, local string, p *progress) (kept int64, err error) {
	defer p.end()
	buf := p.buffer()
	for off := int64(0); ; {
		have, err := to.ReadAt(buf, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return kept, localError("read", local, err)
		}
		sum, n, err := sumOf(ctx, f, uint64(off), len(buf))
		if err != nil {
			return kept, err
		}
		switch {
		case n == 0:
			if err := to.Truncate(off); err != nil {
				return kept, localError("write", local, err)
			}
			return kept, nil
		case have >= n && sha256.Sum256(buf[:n]) == sum:
			kept += int64(n)
		default:
			if n, err = f.ReadAt(ctx, buf, uint64(off)); err != nil && !errors.Is(err, io.EOF) {
				return kept, err
			}
			if _, err := to.WriteAt(buf[:n], off); err != nil {
				return kept, localError("write", local, err)
			}
		}
		off += int64(n)
		p.copied(off, int64(f.Info().Length))
	}
}

// resumeIn has an open file that an earlier put began have all bytes of from, which is called local. What is there stays, zeros are written over, anything else is another file; and of that nothing is written over,
// which is why all is compared before the first byte is written. It returns how many bytes were there.
func resumeIn(ctx context.Context, to fs.File, from io.ReaderAt, local string, size int64, p *progress) (kept int64, err error) {
	defer p.end()
	missing := size // where the first piece is that is not there
	err = begunPieces(ctx, to, from, local, 0, size, p, func(piece []byte, off int64, there bool) error {
		p.copied(off, size)
		if there {
			kept += int64(len(piece))
		} else {
			missing = min(missing, off)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return kept, begunPieces(ctx, to, from, local, missing, size, p, func(piece []byte, off int64, there bool) error {
		p.copied(off, size)
		if there {
			return nil
		}
		return to.WriteAt(ctx, piece, uint64(off))
	})
}

// sameBytes reports whether an open file has all bytes of from, which is called local, and no others.
func sameBytes(ctx context.Context, f fs.File, from io.ReaderAt, local string, size int64, p *progress) (bool, error) {
	if f.Info().Length != uint64(size) {
		return false, nil
	}
	buf := p.buffer()
	for off := int64(0); off < size; {
		n := int(min(size-off, int64(len(buf))))
		if got, err := from.ReadAt(buf[:n], off); got < n && errors.Is(err, io.EOF) {
			return false, nil
		} else if got < n {
			return false, localError("read", local, err)
		}
		sum, got, err := sumOf(ctx, f, uint64(off), n)
		if err != nil || got != n || sha256.Sum256(buf[:n]) != sum {
			return false, err
		}
		off += int64(n)
		p.copied(off, size)
	}
	return true, nil
}

// begunPieces goes through the pieces of from, from off on, and says of each whether it is in an open file; where it is not, there is nothing but zeros, and what belongs there, or it fails.
func begunPieces(ctx context.Context, to fs.File, from io.ReaderAt, local string, off, size int64, p *progress, do func(piece []byte, off int64, there bool) error) error {
	buf, zeros := p.buffer(), p.buffer()
	for off < size {
		n := int(min(size-off, int64(len(buf))))
		if got, err := from.ReadAt(buf[:n], off); got < n && errors.Is(err, io.EOF) {
			return changedMeanwhile(local, "shorter")
		} else if got < n {
			return localError("read", local, err)
		}
		sum, got, err := sumOf(ctx, to, uint64(off), n)
		if err != nil {
			return err
		}
		there := got == n && sha256.Sum256(buf[:n]) == sum
		if !there && (got != n || sha256.Sum256(zeros[:n]) != sum) {
			if err := overZeros(ctx, to, buf[:n], uint64(off)); err != nil {
				return err
			}
		}
		if err := do(buf[:n], off, there); err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}

// overZeros fails unless a piece may be written: where there are zeros, or the same bytes.
func overZeros(ctx context.Context, to fs.File, piece []byte, off uint64) error {
	was := make([]byte, len(piece))
	n, err := to.ReadAt(ctx, was, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	sector := max(to.Info().SectorBytes, 1)
	zeros := make([]byte, sector)
	for at := 0; at < len(piece); at += sector {
		end := min(at+sector, len(piece))
		if n < len(piece) || !bytes.Equal(was[at:end], piece[at:end]) && !bytes.Equal(was[at:end], zeros[:end-at]) {
			return anotherFile(fmt.Sprintf("it has other bytes from %d on", off+uint64(at)))
		}
	}
	return nil
}

// whenFree opens a file once it is not busy any more: what a put that was killed had open is its own until its lease has ended. Who has it for longer is at work.
func whenFree(ctx context.Context, open func() (fs.File, error)) (f fs.File, err error) {
	for end := time.Now().Add(2 * blocktree.LeaseTerm); ; {
		if f, err = open(); blocktree.KindOf(err) != blocktree.Busy || time.Now().After(end) {
			return f, err
		}
		select {
		case <-time.After(blocktree.LeaseTerm / 10):
		case <-ctx.Done():
			return nil, blocktree.E("open", blocktree.Canceled, ctx.Err())
		}
	}
}

// anotherFile is the error of what is there and was not begun by a put of the same.
func anotherFile(why string) error {
	return &blocktree.Error{Op: "resume", Kind: blocktree.Exists, Err: errors.New(why), Hint: "it is another file, or another version: remove it (btnode rm), or name another path"}
}

// begun returns what is there already, nil: nothing, which may be what an earlier put of so many bytes, to be made so, began. code is the one that was asked for, zero if none was.
func (d *door) begun(ctx context.Context, path blocktree.Path, bytes int64, as *config.Create, code blocktree.Code, pad bool) (*meta.Inode, error) {
	ctx, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	inode, err := d.cluster.Stat(ctx, path)
	switch {
	case blocktree.KindOf(err) == blocktree.NotFound:
		return nil, nil
	case err != nil:
		return nil, err
	}
	b := begun{inode: inode, user: d.cluster.Identity().UID}
	if err = b.own(bytes, as, code, pad); err != nil {
		return nil, err
	}
	durability, err := d.cluster.Durability(ctx, inode)
	if err != nil {
		return nil, err
	}
	return inode, b.durable(durability.Durability, as)
}

// begun is a file that is there, and the user id of who would go on with it.
type begun struct {
	inode *meta.Inode
	user  uint32
}

// own fails unless a put of so many bytes by the user, to be made so, can have begun the file: what another made, or made otherwise, is not gone on with, whatever is in it.
func (b begun) own(bytes int64, as *config.Create, code blocktree.Code, pad bool) error {
	i := fs.InfoOf(b.inode)
	if i.Kind() != fs.KindFile {
		return anotherFile("it is a " + kindName(i.Kind()))
	}
	integrity := meta.IntegritySector
	if as.Tree() {
		integrity = meta.IntegrityTree
	}
	switch {
	case i.SizeBytes != uint64(as.Size), i.Length != i.SizeBytes && (pad || i.Length != uint64(bytes)):
		return anotherFile(fmt.Sprintf("it has another size, %d of %s", i.Length, cli.FormatSize(i.SizeBytes)))
	case i.UID != b.user:
		return anotherFile(fmt.Sprintf("it is of user id %d, and what is put here would be of %d", i.UID, b.user))
	case b.inode.Integrity != integrity:
		return anotherFile(fmt.Sprintf("it has integrity %s, not %s", b.inode.Integrity, integrity))
	case i.SectorBytes != as.Sector():
		return anotherFile(fmt.Sprintf("it has sectors of %d bytes, not of %d", i.SectorBytes, as.Sector()))
	case code.Data != 0 && i.Code != code:
		return anotherFile(fmt.Sprintf("it has code %s, not %s", i.Code, code))
	}
	return nil
}

// durable fails unless the file is of the durability that it was to be made with.
func (b begun) durable(is stripe.Durability, as *config.Create) error {
	if want := parts.Durability(as); is != want {
		return anotherFile(fmt.Sprintf("it has durability %s, not %s", is, want))
	}
	return nil
}
