package main

import (
	"context"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// node is a file or directory as FUSE sees it. What it does not do itself is read only, or needs nothing to be remembered.
type node struct {
	fs.LoopbackNode
	d *disk
}

var _ = (fs.NodeCreater)((*node)(nil))
var _ = (fs.NodeOpener)((*node)(nil))
var _ = (fs.NodeSetattrer)((*node)(nil))
var _ = (fs.NodeOpendirHandler)((*node)(nil))

// newRoot is the node that is mounted.
func (d *disk) newRoot() (fs.InodeEmbedder, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(d.data, &st); err != nil {
		return nil, err
	}
	root := &fs.LoopbackRoot{Path: d.data, Dev: st.Dev}
	root.NewNode = func(r *fs.LoopbackRoot, _ *fs.Inode, _ string, _ *syscall.Stat_t) fs.InodeEmbedder {
		return &node{LoopbackNode: fs.LoopbackNode{RootData: r}, d: d}
	}
	n := root.NewNode(root, nil, "", &st)
	root.RootNode = n
	return n, nil
}

// path is where the node is below.
func (n *node) path(name string) string {
	return filepath.Join(n.RootData.Path, n.Path(n.Root()), name)
}

// enter begins an operation; it fails without power. The caller unlocks op if it does not.
func (d *disk) enter() syscall.Errno {
	d.op.RLock()
	if d.dead {
		d.op.RUnlock()
		return syscall.EIO
	}
	return 0
}

// Lookup finds nothing without power.
func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno := n.d.enter(); errno != 0 {
		return nil, errno
	}
	defer n.d.op.RUnlock()
	return n.LoopbackNode.Lookup(ctx, name, out)
}

// Create makes a file.
func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	if errno := n.d.enter(); errno != 0 {
		return nil, nil, 0, errno
	}
	defer n.d.op.RUnlock()
	p := n.path(name)
	err := n.d.change(change{kind: created, path: p}, "", func() error {
		f, err := os.OpenFile(p, os.O_CREATE|os.O_EXCL|os.O_RDWR, os.FileMode(mode))
		if err != nil {
			return err
		}
		return f.Close()
	})
	if err != nil && (!os.IsExist(err) || flags&syscall.O_EXCL != 0) {
		return nil, nil, 0, fs.ToErrno(err)
	}
	inode, errno := n.LoopbackNode.Lookup(ctx, name, out)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	h, errno := n.d.open(p, flags)
	return inode, h, 0, errno
}

// Open opens a file.
func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if errno := n.d.enter(); errno != 0 {
		return nil, 0, errno
	}
	defer n.d.op.RUnlock()
	h, errno := n.d.open(n.path(""), flags)
	return h, 0, errno
}

// open is a handle that reads and writes, whatever was asked for: what was written must be read back to be remembered.
func (d *disk) open(path string, flags uint32) (*handle, syscall.Errno) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fs.ToErrno(err)
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, fs.ToErrno(err)
	}
	h := &handle{d: d, os: f, file: d.take(st.Ino)}
	if flags&syscall.O_TRUNC != 0 {
		if err := h.truncate(0); err != nil {
			h.Release(context.Background())
			return nil, fs.ToErrno(err)
		}
	}
	return h, 0
}

// Setattr truncates; everything else is not what a disk loses.
func (n *node) Setattr(ctx context.Context, h fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok {
		if errno := n.d.enter(); errno != 0 {
			return errno
		}
		defer n.d.op.RUnlock()
		own, errno := n.d.open(n.path(""), 0)
		if errno != 0 {
			return errno
		}
		defer own.Release(ctx)
		if err := own.truncate(int64(size)); err != nil {
			return fs.ToErrno(err)
		}
	}
	rest := *in
	rest.Valid &^= fuse.FATTR_SIZE
	return n.LoopbackNode.Setattr(ctx, nil, &rest, out)
}

// Mkdir makes a directory.
func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno := n.d.enter(); errno != 0 {
		return nil, errno
	}
	defer n.d.op.RUnlock()
	p := n.path(name)
	err := n.d.change(change{kind: madeDir, path: p}, "", func() error { return os.Mkdir(p, os.FileMode(mode)) })
	if err != nil {
		return nil, fs.ToErrno(err)
	}
	return n.LoopbackNode.Lookup(ctx, name, out)
}

// Unlink removes a file.
func (n *node) Unlink(_ context.Context, name string) syscall.Errno {
	if errno := n.d.enter(); errno != 0 {
		return errno
	}
	defer n.d.op.RUnlock()
	p := n.path(name)
	return fs.ToErrno(n.d.change(change{kind: removedFile, path: p}, p, func() error { return nil }))
}

// Rmdir removes a directory.
func (n *node) Rmdir(_ context.Context, name string) syscall.Errno {
	if errno := n.d.enter(); errno != 0 {
		return errno
	}
	defer n.d.op.RUnlock()
	p := n.path(name)
	return fs.ToErrno(n.d.change(change{kind: removedDir, path: p}, "", func() error { return syscall.Rmdir(p) }))
}

// Rename renames a file, over another if there is one.
func (n *node) Rename(_ context.Context, name string, to fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	target, ok := to.(*node)
	if !ok || flags != 0 {
		return syscall.ENOTSUP
	}
	if errno := n.d.enter(); errno != 0 {
		return errno
	}
	defer n.d.op.RUnlock()
	from, into := n.path(name), target.path(newName)
	old := ""
	if _, err := os.Lstat(into); err == nil {
		old = into
	}
	return fs.ToErrno(n.d.change(change{kind: renamed, path: from, to: into}, old, func() error { return syscall.Rename(from, into) }))
}

// Link, Symlink and Mknod are not there: nobody could take them back.
func (n *node) Link(context.Context, fs.InodeEmbedder, string, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.ENOTSUP
}

// Symlink is not there.
func (n *node) Symlink(context.Context, string, string, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.ENOTSUP
}

// Mknod is not there.
func (n *node) Mknod(context.Context, string, uint32, uint32, *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	return nil, syscall.ENOTSUP
}

// OpendirHandle opens a directory.
func (n *node) OpendirHandle(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if errno := n.d.enter(); errno != 0 {
		return nil, 0, errno
	}
	defer n.d.op.RUnlock()
	s, errno := fs.NewLoopbackDirStream(n.path(""))
	if errno != 0 {
		return nil, 0, errno
	}
	return &dirHandle{DirStream: s, d: n.d}, 0, 0
}

// dirHandle is an open directory.
type dirHandle struct {
	fs.DirStream
	d *disk
}

// Readdirent is the next entry, nil at the end.
func (h *dirHandle) Readdirent(context.Context) (*fuse.DirEntry, syscall.Errno) {
	if !h.HasNext() {
		return nil, 0
	}
	e, errno := h.Next()
	return &e, errno
}

// Seekdir is what the stream does.
func (h *dirHandle) Seekdir(ctx context.Context, off uint64) syscall.Errno {
	return h.DirStream.(fs.FileSeekdirer).Seekdir(ctx, off)
}

// Releasedir closes.
func (h *dirHandle) Releasedir(context.Context, uint32) { h.Close() }

// Fsyncdir makes all names safe.
func (h *dirHandle) Fsyncdir(context.Context, uint32) syscall.Errno {
	return h.d.syncing(h.d.commitAll)
}

// syncing is any fsync: slow, failing, or what it should do.
func (d *disk) syncing(do func()) syscall.Errno {
	d.pause()
	if errno := d.enter(); errno != 0 {
		return errno
	}
	defer d.op.RUnlock()
	if d.failSync.CompareAndSwap(true, false) {
		return syscall.EIO
	}
	do()
	return 0
}

// handle is an open file.
type handle struct {
	d    *disk
	os   *os.File
	file *file
}

var _ = (fs.FileReader)((*handle)(nil))
var _ = (fs.FileWriter)((*handle)(nil))
var _ = (fs.FileFsyncer)((*handle)(nil))
var _ = (fs.FileAllocater)((*handle)(nil))
var _ = (fs.FileReleaser)((*handle)(nil))

// Read reads what was written last.
func (h *handle) Read(_ context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if errno := h.d.enter(); errno != 0 {
		return nil, errno
	}
	defer h.d.op.RUnlock()
	n, err := unix.Pread(int(h.os.Fd()), dest, off)
	if err != nil {
		return nil, fs.ToErrno(err)
	}
	return fuse.ReadResultData(dest[:n]), 0
}

// changing remembers a range and changes it.
func (h *handle) changing(from, to int64, do func() error) error {
	if h.d.keeps {
		err := do()
		h.d.unsynced.Store(true)
		return err
	}
	h.file.mu.Lock()
	defer h.file.mu.Unlock()
	if err := h.file.touch(h.os, from, to); err != nil {
		return err
	}
	return do()
}

// Write writes.
func (h *handle) Write(_ context.Context, data []byte, off int64) (n uint32, errno syscall.Errno) {
	if errno := h.d.enter(); errno != 0 {
		return 0, errno
	}
	defer h.d.op.RUnlock()
	err := h.changing(off, off+int64(len(data)), func() error {
		done, err := unix.Pwrite(int(h.os.Fd()), data, off)
		n = uint32(max(done, 0))
		return err
	})
	return n, fs.ToErrno(err)
}

// truncate changes the size. op is held.
func (h *handle) truncate(size int64) error {
	info, err := h.os.Stat()
	if err != nil {
		return err
	}
	return h.changing(min(size, info.Size()), info.Size(), func() error { return h.os.Truncate(size) })
}

// Allocate makes a file longer, with space for it.
func (h *handle) Allocate(_ context.Context, off, size uint64, mode uint32) syscall.Errno {
	if mode != 0 {
		return syscall.ENOTSUP
	}
	if errno := h.d.enter(); errno != 0 {
		return errno
	}
	defer h.d.op.RUnlock()
	return fs.ToErrno(h.changing(0, 0, func() error { return unix.Fallocate(int(h.os.Fd()), 0, int64(off), int64(size)) }))
}

// Fsync makes the file safe. There is no need to trouble the disk below: it keeps its power.
func (h *handle) Fsync(context.Context, uint32) syscall.Errno {
	if h.d.keeps {
		h.d.flush()
		return 0
	}
	h.d.flushes.Add(1)
	h.file.mu.Lock()
	defer h.file.mu.Unlock()
	errno := h.d.syncing(h.file.sync)
	if errno == syscall.EIO {
		h.file.failed = true
	}
	return errno
}

// Release closes.
func (h *handle) Release(context.Context) syscall.Errno {
	h.d.drop(h.file)
	return fs.ToErrno(h.os.Close())
}
