package fs

import (
	"context"
	"errors"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/crypto/keys"
	"blocktree/crypto/tree"
	"blocktree/internal/file"
)

// local is a File of whoever has a key that opens it (case 2): what is sealed is opened here.
type local struct {
	file blocktree.File
	body *body // nil of one that is open to read
	info Info
}

var _ interface {
	File
	Puncher
	Truncater
	Allocater
	Appender
	Stater
} = (*local)(nil)

// Local says how a file is opened by whoever has a key.
type Local struct {
	Reader *keys.ReaderKey
	// Roots, and Root, are as in file.OpenOptions. Of a file of integrity tree of which neither says anything Believe is told, as the first record is gone by; without Believe it is Unsupported.
	Roots   file.Roots
	Root    tree.Root
	Believe func(blocktree.Path)
}

// believed reports whether a file of integrity tree is opened by what the cluster says alone.
func (l *Local) believed(path blocktree.Path, inode *meta.Inode) (bool, error) {
	if inode.Integrity == meta.IntegritySector || !l.Root.IsZero() {
		return false, nil
	}
	if l.Roots == nil {
		return true, nil
	}
	seen, err := l.Roots.Load(path)
	return err == nil && seen == nil, err
}

// OpenLocal opens a file through the cluster itself, with a reader key. Kinds are those of internal/file; Permission where the key does not open it.
func OpenLocal(ctx context.Context, c *cluster.Client, path blocktree.Path, l Local, o OpenOptions) (File, error) {
	inode, err := c.Stat(ctx, path)
	if err != nil {
		return nil, err
	}
	believe, err := l.believed(path, inode)
	if err != nil {
		return nil, err
	}
	f, err := file.Open(ctx, c, path, file.OpenOptions{ReadOnly: !o.Write, Reader: l.Reader, Plain: o.Plain || !o.Write, Roots: l.Roots, Root: l.Root, NoTree: believe && l.Believe == nil,
		OpenOptions: cluster.OpenOptions{Wait: leaseWait, TouchEvery: blocktree.TouchEvery}})
	if err != nil {
		return nil, err
	}
	if believe {
		l.Believe(path)
	}
	opened, err := newLocal(ctx, f, InfoOf(inode))
	if err != nil {
		_ = f.Close() // nothing was done with it
		return nil, err
	}
	return opened, nil
}

func newLocal(ctx context.Context, f blocktree.File, info Info) (*local, error) {
	l := &local{file: f, info: info}
	if f.Info().ReadOnly {
		return l, nil
	}
	var err error
	l.body, err = newBody(ctx, f, &info)
	return l, err
}

// Info implements File.
func (f *local) Info() Info { return f.info }

// Stat implements Stater.
func (f *local) Stat(context.Context) (Info, error) {
	info := f.info
	if f.body != nil {
		f.body.describe(&info)
	}
	return info, nil
}

// ReadAt implements File.
func (f *local) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	if f.body != nil {
		return f.body.read(ctx, p, off)
	}
	return view{f.file, &f.info}.read(ctx, p, off)
}

// change does something in a turn.
func (f *local) change(ctx context.Context, what func(*body) error) error {
	if f.body == nil {
		return blocktree.E("fs", blocktree.ReadOnly, errors.New("the file is open for reading"))
	}
	return f.body.do(ctx, func() error { return what(f.body) })
}

// WriteAt implements File.
func (f *local) WriteAt(ctx context.Context, p []byte, off uint64) error {
	return f.change(ctx, func(b *body) error { return b.write(ctx, p, off) })
}

// Punch implements Puncher.
func (f *local) Punch(ctx context.Context, off, n uint64) error {
	return f.change(ctx, func(b *body) error { return b.view().punch(ctx, off, n) })
}

// Truncate implements Truncater.
func (f *local) Truncate(ctx context.Context, bytes uint64) error {
	return f.change(ctx, func(b *body) error { return b.truncate(ctx, bytes) })
}

// Allocate implements Allocater.
func (f *local) Allocate(ctx context.Context, off, n uint64) error {
	end, err := endOf(off, n)
	if err != nil {
		return err
	}
	return f.change(ctx, func(b *body) error { return b.lengthen(ctx, end) })
}

// Append implements Appender.
func (f *local) Append(ctx context.Context, p []byte) (off uint64, err error) {
	if err := checkAppend(p); err != nil {
		return 0, err
	}
	err = f.change(ctx, func(b *body) error {
		var err error
		off, err = b.add(ctx, p)
		return err
	})
	return off, err
}

// Flush implements File.
func (f *local) Flush(ctx context.Context) error {
	if f.body == nil {
		return f.file.Flush(ctx)
	}
	return f.change(ctx, func(b *body) error { return b.flush(ctx) })
}

// Close implements File.
func (f *local) Close() error {
	if f.body == nil {
		return f.file.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), tellTimeout)
	defer cancel()
	return f.body.close(ctx, errClosed)
}

var errClosed = &blocktree.Error{Op: "fs", Kind: blocktree.Closed, Err: errors.New("the file was closed")}
