package fs

import (
	"context"
	"sync"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/crypto/keys"
	"blocktree/crypto/tree"
	"blocktree/internal/file"
)

// local is a File of whoever has a key that opens it (case 2): what is sealed is opened here.
type local struct {
	view
	info Info
	mu   sync.Mutex // one write after the other
}

var (
	_ File    = (*local)(nil)
	_ Puncher = (*local)(nil)
)

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
	return newLocal(f, InfoOf(inode)), nil
}

func newLocal(f blocktree.File, info Info) *local {
	l := &local{info: info}
	l.view = view{f, &l.info}
	return l
}

// Info implements File.
func (f *local) Info() Info { return f.info }

// ReadAt implements File.
func (f *local) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	return f.read(ctx, p, off)
}

// WriteAt implements File.
func (f *local) WriteAt(ctx context.Context, p []byte, off uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.write(ctx, p, off)
}

// Punch implements Puncher.
func (f *local) Punch(ctx context.Context, off, n uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.punch(ctx, off, n)
}

// Flush implements File.
func (f *local) Flush(ctx context.Context) error { return f.file.Flush(ctx) }

// Close implements File.
func (f *local) Close() error { return f.file.Close() }
