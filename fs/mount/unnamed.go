package mount

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

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
	filled  *filled // the directory in which the mount made it by itself; nil: a service did
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
	if n.describePending(out) {
		return true
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

// unnamed are the writers of such files, and of those that never had a name, until their last handle is closed.
type unnamed struct {
	count atomic.Int64
	mu    sync.Mutex
	all   map[*writer]*time.Timer // that names it
}

// isUnnamed reports whether the file may have no name at the cluster yet, or never had one.
func (w *writer) isUnnamed() bool { return w.made.Load() != nil }

// wasMade notes how the file was made, just now. It has its name MountUnnamedFor later, if nothing is asked of it before: so the service's own time for that, of which the mount is not told, does not come.
func (w *writer) wasMade(m *making) {
	u := &w.tree.unnamed
	u.mu.Lock()
	defer u.mu.Unlock()
	if w.made.Swap(m) == nil {
		if u.all == nil {
			u.all = map[*writer]*time.Timer{}
		}
		u.count.Add(1)
		w.nameLater(blocktree.MountUnnamedFor)
	}
}

// nameLater has it named in a while; with unnamed.mu.
func (w *writer) nameLater(wait time.Duration) {
	w.tree.notices.Add(1)
	w.tree.unnamed.all[w] = time.AfterFunc(wait, w.nameNow)
}

// nameNow names it, as it is time. Where no service is there, or locks are lost with one, that is no reason to lose the file: it is tried again.
func (w *writer) nameNow() {
	defer w.tree.notices.Done()
	w.tree.namings <- struct{}{} // whoever has it is bounded by MountWaitMax
	defer func() { <-w.tree.namings }()
	if w.closed.Load() || !w.isUnnamed() { // who sends it does so until it is done, or has just now
		return
	}
	err := w.do(context.Background(), 0, w.flushOnce)
	if w.dead() != nil || blocktree.KindOf(err) != blocktree.Timeout && !errors.Is(err, errLocks) {
		_ = w.flushFailed(err) // its handles are told
		return
	}
	u := &w.tree.unnamed
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.all[w]; ok {
		w.nameLater(pauseMax)
	}
}

// named notes that the file has its name at the cluster, or nobody is there any more who is to be told that it never will.
func (w *writer) named() {
	if !w.isUnnamed() {
		return
	}
	u := &w.tree.unnamed
	u.mu.Lock()
	defer u.mu.Unlock()
	if w.made.Swap(nil) != nil {
		if u.all[w].Stop() {
			w.tree.notices.Done()
		}
		delete(u.all, w)
		u.count.Add(-1)
	}
}

// name has those files have their names at the cluster that were made at a path of which is says so, or are there now, all at once. Where that fails their handles are told, and so is who asks, also where it failed before.
func (t *tree) name(ctx context.Context, is func(blocktree.Path) bool) error {
	return t.nameAll(ctx, func(_ *writer, m *making) bool { return is(m.path) || is(m.node.path()) })
}

// nameAll is name of those files of which is says so.
func (t *tree) nameAll(ctx context.Context, is func(*writer, *making) bool) error {
	if t.unnamed.count.Load() == 0 {
		return nil
	}
	var all sync.WaitGroup
	var failed atomic.Pointer[error]
	for _, w := range t.unnamed.list() {
		if m := w.made.Load(); m != nil && is(w, m) {
			all.Go(func() {
				if err := w.flush(ctx); err != nil && w.isUnnamed() && !failed.CompareAndSwap(nil, &err) && unsent(err) != nil {
					failed.Store(&err)
				}
			})
		}
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (u *unnamed) list() (all []*writer) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for w := range u.all {
		all = append(all, w)
	}
	return all
}

// nameAt is name of what is at a path; its handles are told where that fails, and who asks if there are none.
func (t *tree) nameAt(ctx context.Context, path blocktree.Path) error {
	return unsent(t.name(ctx, func(p blocktree.Path) bool { return p == path }))
}

// nameIn is name of what is in a directory.
func (t *tree) nameIn(ctx context.Context, dir blocktree.Path) error {
	return t.name(ctx, func(p blocktree.Path) bool { return p.Parent() == dir })
}

// nameBelow is name of what is at a path, or below.
func (t *tree) nameBelow(ctx context.Context, path blocktree.Path) error {
	return t.name(ctx, func(p blocktree.Path) bool { return p == path || strings.HasPrefix(string(p), string(path)+"/") })
}

// toSet has all named that a change of the node's own attributes is to come after: what is named later is judged by the mode of its directory of then, and moves its time.
func (n *node) toSet(ctx context.Context) error {
	if n.IsDir() {
		return unsent(n.tree.nameBelow(ctx, n.path())) // else its handles are told
	}
	return n.tree.nameFile(ctx, n.id)
}

// nameFile is name of one file; its handles are told where that fails, and who asks if there are none.
func (t *tree) nameFile(ctx context.Context, id blocktree.FileID) error {
	if t.unnamed.count.Load() == 0 {
		return nil
	}
	if w := t.writer(id); w != nil && w.isUnnamed() {
		return unsent(w.flush(ctx))
	}
	return nil
}

// remake makes the file anew, which its service has made, kept to itself, and not outlived. MakeOpen is exclusive, so nothing that is there is taken for it: of what is pending Exists is returned. It is known here as before. Who calls it has the lock.
func (w *writer) remake(ctx context.Context, made *making) (fs.File, error) {
	m, ok := w.tree.source.(fs.MakeOpener)
	if !ok {
		return nil, w.die(errLost)
	}
	path, pending, options := w.node.path(), w.pending.Load(), made.options
	if pending { // which is named before that changes
		path = made.path
	} else { // its spare was used
		options.Spare = blocktree.FileID{}
	}
	f, err := m.MakeOpen(ctx, path, options)
	if errors.Is(err, fs.ErrOtherSpare) {
		return nil, err
	}
	if passing(err) && !fs.NoService(err) {
		w.tried, w.empty = true, true
	}
	switch k := blocktree.KindOf(err); {
	case err == nil:
	case k == blocktree.Exists && pending:
		return nil, err
	case k == blocktree.Exists: // it is there by now, or another: who opens it sees
		return nil, errAgain
	case k == blocktree.Busy:
		return nil, blocktree.E("mount", blocktree.Unavailable, err)
	case passing(err):
		return nil, err
	case pending:
		return nil, w.die(lossAs(err))
	default:
		return nil, w.die(errors.Join(errLost, err))
	}
	if !w.tree.identities.swap(w.id, f.Info().ID) {
		_ = f.Close() // nothing was written
		return nil, w.die(errLost)
	}
	return f, nil
}

// loses says that a file which has no name yet will have none. Until its last handle is closed it counts as unnamed, so that who is about to go on by its name, or to rely on that, is told. Who calls it has the lock.
func (w *writer) loses(why error) {
	if m := w.made.Load(); m != nil {
		w.tree.o.Logger.Error("a file that was made is lost: it was not flushed, and may have no name", "path", m.path.Short(), "error", why)
	}
}
