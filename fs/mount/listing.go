package mount

import (
	"context"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
	"blocktree/fs"
)

// listing is an open directory: a page of it, and where it goes on. go-fuse asks one thing of it at a time.
type listing struct {
	node  *node
	page  []fs.Entry // not given yet
	after string     // the last name of the page
	end   bool       // there is nothing behind the page
	given uint64     // entries so far: the place in the directory
	last  fs.Entry   // given last
	asked time.Time  // when the page was asked for
	began question   // likewise
}

var (
	_ gofs.FileReaddirenter = (*listing)(nil)
	_ gofs.FileLookuper     = (*listing)(nil)
	_ gofs.FileSeekdirer    = (*listing)(nil)
	_ gofs.FileReleasedirer = (*listing)(nil)
	_ gofs.FileFsyncdirer   = (*listing)(nil)
)

// next returns the next entry; ok is false at the end.
func (l *listing) next(ctx context.Context) (e fs.Entry, ok bool, err error) {
	for len(l.page) == 0 {
		if l.end {
			return fs.Entry{}, false, nil
		}
		if err := unsent(l.node.tree.nameIn(ctx, l.node.path())); err != nil { // else its handles are told
			return fs.Entry{}, false, err
		}
		more := false
		l.asked, l.began = time.Now(), l.node.tree.asks(ctx)
		l.began.begin()
		err := l.node.tree.ask(ctx, func(ctx context.Context) (err error) {
			l.page, more, err = l.node.tree.source.ReadDirAfter(ctx, l.node.path(), l.after, 0)
			return err
		})
		if err != nil {
			l.page = nil
			return fs.Entry{}, false, err
		}
		for i := range l.page {
			l.page[i].Info = l.node.tree.seen(l.page[i].Info)
		}
		if l.end = !more; len(l.page) > 0 {
			l.after = l.page[len(l.page)-1].Name
		}
	}
	e, l.page = l.page[0], l.page[1:]
	l.given++
	l.last = e
	return e, true, nil
}

// Readdirent implements gofs.FileReaddirenter.
func (l *listing) Readdirent(ctx context.Context) (*fuse.DirEntry, syscall.Errno) {
	e, ok, err := l.next(ctx)
	if err != nil || !ok {
		return nil, errno(err)
	}
	ino, ok := number(e.Info.ID)
	if !ok {
		return nil, syscall.EOVERFLOW
	}
	return &fuse.DirEntry{Name: e.Name, Ino: ino, Mode: kindBits(&e.Info), Off: l.given}, 0
}

// Lookup implements gofs.FileLookuper by what the listing says, while that is young enough: the kernel believes it for MountCacheFor from now on, and whoever lists may have paused.
func (l *listing) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	if name != l.last.Name || time.Since(l.asked) > blocktree.MountCacheFor {
		return l.node.Lookup(ctx, name, out) // the kernel reads what it was given once more, or late
	}
	if c := l.node.named(name); c != nil && c.changed.Load() >= l.asked.UnixNano() || l.began.isOld(l.last.Info.ID) {
		return l.node.Lookup(ctx, name, out) // it was written since, or may have been: an open had the kernel forget it
	}
	i, e := l.node.child(ctx, &l.last.Info, out)
	asked := l.began
	asked.thread = threadOf(ctx) // which may be another than had the page asked for
	defer asked.end()
	if e == 0 && !asked.of(i, out) {
		return l.node.Lookup(ctx, name, out) // likewise
	}
	return i, e
}

// Seekdir implements gofs.FileSeekdirer: a place is found by counting from the beginning.
func (l *listing) Seekdir(ctx context.Context, off uint64) syscall.Errno {
	*l = listing{node: l.node}
	for l.given < off {
		if _, ok, err := l.next(ctx); err != nil || !ok {
			return errno(err)
		}
	}
	return 0
}

// Fsyncdir implements gofs.FileFsyncdirer: what was made in the directory has its name for good. All else that was made, moved or removed there was durable when it was answered.
func (l *listing) Fsyncdir(ctx context.Context, _ uint32) syscall.Errno {
	if err := l.node.tree.nameIn(ctx, l.node.path()); err != nil {
		return openErrno(err)
	}
	if err := l.node.tree.sendClosed(ctx); err != nil {
		return openErrno(err)
	}
	return l.node.tree.fills.tell(l.node.id)
}

// Releasedir implements gofs.FileReleasedirer.
func (l *listing) Releasedir(context.Context, uint32) { l.node.tree.leave() }
