package mount

import (
	"context"
	"errors"
	"os"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
	"blocktree/fs"
)

// Source is what a mount asks; fs.Client is one. Kinds are those of fs.Client, and all methods may be called by many goroutines at once.
type Source interface {
	Stat(ctx context.Context, path blocktree.Path) (fs.Info, error)
	ReadDirAfter(ctx context.Context, path blocktree.Path, after string, limit int) ([]fs.Entry, bool, error)
	Open(ctx context.Context, path blocktree.Path, o fs.OpenOptions) (fs.File, error)
}

// Mount is a directory that is shown by the kernel.
type Mount struct {
	tree   *tree
	server *fuse.Server
	dir    string
	ended  chan struct{} // closed when the kernel has let go of it
}

// tree is what all nodes of a mount share.
type tree struct {
	source   Source
	root     blocktree.Path
	uid, gid uint32
	requests chan struct{} // a place for each
	open     chan struct{} // likewise
}

func newTree(source Source, root blocktree.Path) *tree {
	return &tree{source: source, root: root, uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()),
		requests: make(chan struct{}, blocktree.MountRequestsMax), open: make(chan struct{}, blocktree.MountOpenFilesMax)}
}

// pauses between two tries.
const (
	pauseMin = 50 * time.Millisecond
	pauseMax = time.Second
)

// ask asks something that only looks, again while it may help, for MountWaitMax or until ctx ends.
func (t *tree) ask(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, blocktree.MountWaitMax)
	defer cancel()
	select {
	case t.requests <- struct{}{}:
	case <-ctx.Done():
		return gaveUp(ctx)
	}
	defer func() { <-t.requests }()
	for pause := pauseMin; ; pause = min(2*pause, pauseMax) {
		err := do(ctx)
		if err != nil && ctx.Err() != nil {
			return gaveUp(ctx)
		}
		if !passing(err) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return gaveUp(ctx)
		}
	}
}

// gaveUp is the error of a request that ended without an answer: its program was interrupted, or it took too long.
func gaveUp(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return blocktree.E("mount", blocktree.Timeout, ctx.Err())
	}
	return blocktree.E("mount", blocktree.Canceled, ctx.Err())
}

// Dir mounts the directory at root on the local directory dir. It blocks until the kernel answers. Kinds: those of Source; Invalid where root is no directory; IO where the system does not mount.
func Dir(ctx context.Context, source Source, root blocktree.Path, dir string) (*Mount, error) {
	t := newTree(source, root)
	info, err := source.Stat(ctx, root)
	if err != nil {
		return nil, err
	}
	if !info.Dir {
		return nil, &blocktree.Error{Op: "mount", Path: root.Short(), Kind: blocktree.Invalid, Err: errors.New("not a directory"), Hint: "name the directory that the file is in"}
	}
	ino, ok := number(info.ID)
	if !ok {
		return nil, &blocktree.Error{Op: "mount", Path: root.Short(), Kind: blocktree.Unsupported, Err: errors.New("its identity does not fit an inode number")}
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return nil, &blocktree.Error{Op: "mount", Path: dir, Kind: blocktree.Invalid, Err: errors.Join(errors.New("not a directory to mount on"), err),
			Hint: "make an empty directory first; if a mount of before was killed there: fusermount -u " + dir}
	}
	cache := blocktree.MountCacheFor
	server, err := gofs.Mount(dir, &node{tree: t, id: info.ID}, &gofs.Options{
		EntryTimeout: &cache, AttrTimeout: &cache, NullPermissions: true, RootStableAttr: &gofs.StableAttr{Ino: ino},
		MountOptions: fuse.MountOptions{Name: "blocktree", FsName: root.Short(), Options: []string{"ro"}, DirectMount: true,
			MaxWrite: blocktree.MountReadBytesMax, MaxBackground: blocktree.MountRequestsMax}})
	if err != nil {
		return nil, &blocktree.Error{Op: "mount", Path: dir, Kind: blocktree.IO, Err: err, Hint: "/dev/fuse is needed, and fusermount (package fuse3) for who is not root"}
	}
	m := &Mount{tree: t, server: server, dir: dir, ended: make(chan struct{})}
	go func() { // ends with the mount, which Unmount or anybody else ends
		server.Wait()
		close(m.ended)
	}()
	return m, nil
}

// Ended is closed when the mount is gone, whoever took it away.
func (m *Mount) Ended() <-chan struct{} { return m.ended }

// Unmount takes the mount away if nobody uses it, and waits until it is gone. Kind: Busy, which is why the system does not do it but for rare cases; fusermount says no more than that it failed.
func (m *Mount) Unmount() error {
	select {
	case <-m.ended:
		return nil
	default:
	}
	err := m.server.Unmount()
	if err != nil {
		select {
		case <-m.ended: // somebody else was faster
			return nil
		default:
		}
		return &blocktree.Error{Op: "unmount", Path: m.dir, Kind: blocktree.Busy, Err: err, Hint: "end what uses it; `fuser -m " + m.dir + "` names it"}
	}
	<-m.ended
	return nil
}
