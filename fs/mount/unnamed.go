package mount

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
	"blocktree/fs"
)

// A file that was made may have no name at the cluster until it is flushed, as its service keeps that to itself (docs/design/0079). So it is flushed before anything is asked for that finds it by its name or its identity, of whatever service; and made anew where its service is gone before that (docs/design/0080).

// making is how a file was made.
type making struct {
	node    *node
	path    blocktree.Path
	options fs.CreateOptions
}

// describeUnnamed writes the attributes of such a file, by what is open; false: it is to be looked at by its name.
func (n *node) describeUnnamed(ctx context.Context, f gofs.FileHandle, out *fuse.AttrOut) bool {
	if n.tree.unnamed.count.Load() == 0 {
		return false
	}
	w := n.tree.writer(n.id)
	if w == nil || !w.isUnnamed() {
		return false
	}
	if e, ok := n.describeHeld(w, out); ok && e == 0 {
		return true
	}
	if w.isOpen() && n.describeOpen(ctx, f, out) == 0 {
		out.Nlink = 1
		return true
	}
	_ = w.flush(ctx) // see name
	return false
}

// unnamed are the writers of such files.
type unnamed struct {
	count atomic.Int64
	mu    sync.Mutex
	all   map[*writer]struct{}
}

// isUnnamed reports whether the file may have no name at the cluster yet.
func (w *writer) isUnnamed() bool { return w.made.Load() != nil }

// wasMade notes how the file was made, just now.
func (w *writer) wasMade(m *making) {
	u := &w.tree.unnamed
	u.mu.Lock()
	defer u.mu.Unlock()
	if w.made.Swap(m) == nil {
		if u.all == nil {
			u.all = map[*writer]struct{}{}
		}
		u.all[w] = struct{}{}
		u.count.Add(1)
	}
}

// named notes that the file has its name at the cluster, or never will.
func (w *writer) named() {
	if !w.isUnnamed() {
		return
	}
	u := &w.tree.unnamed
	u.mu.Lock()
	defer u.mu.Unlock()
	if w.made.Swap(nil) != nil {
		delete(u.all, w)
		u.count.Add(-1)
	}
}

// name has those files have their names at the cluster that were made at a path of which is says so, or are there now. Where that fails their handles are told.
func (t *tree) name(ctx context.Context, is func(blocktree.Path) bool) {
	if t.unnamed.count.Load() == 0 {
		return
	}
	for _, w := range t.unnamed.list() {
		if m := w.made.Load(); m != nil && (is(m.path) || is(m.node.path())) {
			_ = w.flush(ctx) // its handles are told
		}
	}
}

func (u *unnamed) list() (all []*writer) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for w := range u.all {
		all = append(all, w)
	}
	return all
}

// nameAt is name of what is at a path.
func (t *tree) nameAt(ctx context.Context, path blocktree.Path) {
	t.name(ctx, func(p blocktree.Path) bool { return p == path })
}

// nameIn is name of what is in a directory.
func (t *tree) nameIn(ctx context.Context, dir blocktree.Path) {
	t.name(ctx, func(p blocktree.Path) bool { return p.Parent() == dir })
}

// nameBelow is name of what is at a path, or below.
func (t *tree) nameBelow(ctx context.Context, path blocktree.Path) {
	t.name(ctx, func(p blocktree.Path) bool { return p == path || strings.HasPrefix(string(p), string(path)+"/") })
}

// nameFile is name of one file.
func (t *tree) nameFile(ctx context.Context, id blocktree.FileID) {
	if t.unnamed.count.Load() == 0 {
		return
	}
	if w := t.writer(id); w != nil && w.isUnnamed() {
		_ = w.flush(ctx) // see name
	}
}

// remake makes the file anew, which its service has made, kept to itself, and not outlived. It is known here as before. Who calls it has the lock.
func (w *writer) remake(ctx context.Context, made *making) (fs.File, error) {
	m, ok := w.tree.source.(fs.MakeOpener)
	if !ok {
		return nil, w.die(errLost)
	}
	f, err := m.MakeOpen(ctx, w.node.path(), made.options)
	switch k := blocktree.KindOf(err); {
	case err == nil:
	case k == blocktree.Exists: // it is there by now, or another: who opens it sees
		return nil, errAgain
	case k == blocktree.Busy:
		return nil, blocktree.E("mount", blocktree.Unavailable, err)
	case passing(err):
		return nil, err
	default:
		return nil, w.die(errors.Join(errLost, err))
	}
	if !w.tree.identities.swap(w.id, f.Info().ID) {
		_ = f.Close() // nothing was written
		return nil, w.die(errLost)
	}
	return f, nil
}

// loses notes that a file which has no name yet will have none. Who calls it has the lock.
func (w *writer) loses(why error) {
	if m := w.made.Load(); m != nil {
		w.named()
		w.tree.o.Logger.Error("a file that was made is lost: it was not flushed, and may have no name", "path", m.path.Short(), "error", why)
	}
}
