package file

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/crypto/keys"
	"blocktree/crypto/tree"
)

// Seen is what a client keeps of a file of integrity tree: which file it was under its path, and the newest record that it saw.
type Seen struct {
	File blocktree.FileID
	Root tree.Root
	// Of its access record: whose key it is, who owned it, and when that was signed, in unix seconds; 0 of what a version before has kept. By these a file that was made anew is told from one that was
	// there before.
	Key   keys.KeyID
	Owner uint32
	Made  int64
}

// Roots keeps what was seen, for each path, for as long as the client lives, and beyond. Its methods may be called by many goroutines at once.
type Roots interface {
	// Load returns what was kept of a path last, nil for nothing.
	Load(path blocktree.Path) (*Seen, error)
	// Save returns when it is on the disk, in the place of what was, unless that is later.
	Save(path blocktree.Path, s Seen) error
	// Forgotten says how whoever knows better has what was kept of a path forgotten, for a hint: what follows "if it was done on purpose,".
	Forgotten(path blocktree.Path) string
}

// rollback is the error of whatever is older than what was seen.
func rollback(hint, format string, args ...any) error {
	return &blocktree.Error{Op: "integrity", Kind: blocktree.Corrupt, Err: fmt.Errorf("rollback detected: "+format, args...), Hint: hint}
}

// putBackHint is for who finds that the cluster is not what it was.
const putBackHint = "the nodes' disks, or some of them, have gone back in time, or somebody put another file there: bring the newer ones back; if it was done on purpose, serve once with --accept-rollback, or remove what a command (--state) or a filesystem service (roots, in its store's directory) has kept"

// remembered checks what the cluster says of the path against what was kept of it, but for its record: the file must be the one it was, and have a tree if it had one.
func remembered(path blocktree.Path, inode *meta.Inode, o *OpenOptions) (*Seen, error) {
	var seen *Seen
	if o.Roots != nil {
		var err error
		if seen, err = o.Roots.Load(path); err != nil {
			return nil, err
		}
	}
	switch {
	case seen == nil:
	case seen.File != inode.ID && inode.Integrity == meta.IntegrityTree: // Open looks whether it was made anew, once it knows its access record
	case seen.File != inode.ID:
		return nil, anotherFile(path, seen, inode, o, errors.New("it has no tree"))
	case inode.Integrity != meta.IntegrityTree:
		return nil, rollback(putBackHint, "it had integrity tree when it was last opened here, and has none now")
	}
	if inode.Integrity == meta.IntegrityCompanion {
		return nil, &blocktree.Error{Op: "open", Kind: blocktree.Corrupt, Err: errors.New("the cluster names what holds another file's tree")}
	}
	if inode.Integrity != meta.IntegrityTree && !o.Root.IsZero() {
		return nil, rollback("a root is demanded, so the file should be one of integrity tree", "the file has no tree")
	}
	return seen, nil
}

// Bounds of the wait for a record under the newest key: who has the file open hears of that within 5 s.
const (
	rekeyPause    = 500 * time.Millisecond
	rekeyPatience = 10 * time.Second
)

// newest asks the cluster for the newest record of a tree file, and verifies it. The state is that of no record where there is none yet. One under a key before the newest may
// be of somebody who is no reader any more: it is gone by only if it is one of those known, or for a rekey; a reader waits for another (Unavailable).
func (g *guard) newest(ctx context.Context, known ...tree.Root) (*anchored, error) {
	for began := g.now(); ; {
		inode, err := g.client.StatID(ctx, g.file)
		if err != nil {
			return nil, err
		}
		a, err := g.decode(ctx, inode)
		if err != nil || g.adopt || !a.before(g.of.keys.Load().generation) || slices.ContainsFunc(known, func(r tree.Root) bool { return r == a.root() || a.before(r.Generation) }) {
			return a, err // if it is before one that is known, accept says so
		}
		if g.handle != nil || g.now().Sub(began) > rekeyPatience {
			return nil, &blocktree.Error{Op: "integrity record", Kind: blocktree.Unavailable, Err: errors.New("the file has a new key, and no record under that yet"),
				Hint: "the rekey has not ended, or was broken off: say btnode rekey again, which makes the record"}
		}
		select {
		case <-ctx.Done():
			return nil, blocktree.E("integrity record", blocktree.Unavailable, ctx.Err())
		case <-time.After(rekeyPause):
		}
	}
}

// root is that of the state's record.
func (a *anchored) root() tree.Root {
	if a.record == nil {
		return tree.Root{}
	}
	return a.record.Root()
}

// before reports whether the state has no record under a generation of the key or a later one. Of the first there may be none.
func (a *anchored) before(generation uint32) bool {
	if a.record == nil {
		return generation > 1
	}
	return a.record.Generation < generation
}

// decode reads and verifies the record that an inode has; a key that is not known yet is asked for.
func (g *guard) decode(ctx context.Context, inode *meta.Inode) (*anchored, error) {
	sectors := inode.SizeBytes / uint64(inode.SectorBytes)
	shape := tree.NewShape(sectors)
	a := &anchored{tree: tree.Tree{File: g.file, Shape: &shape}}
	if inode.AnchorNumber == 0 && len(inode.Anchor) == 0 {
		return a, nil
	}
	r, err := tree.DecodeRecord(inode.Anchor)
	if err != nil {
		return nil, err
	}
	if r.Generation > g.of.keys.Load().generation {
		if err := g.of.refresh(ctx); err != nil {
			return nil, err
		}
	}
	key, ok := g.of.keys.Load().integrity[r.Generation]
	if !ok {
		return nil, rollback(putBackHint, "the newest record is of key generation %d, of which there is no key any more, or none yet", r.Generation)
	}
	if err := r.Verify(key, g.file, sectors); err != nil {
		return nil, err
	}
	if r.Number != inode.AnchorNumber {
		return nil, blocktree.E("integrity record", blocktree.Corrupt, fmt.Errorf("it has number %d, and is kept as %d", r.Number, inode.AnchorNumber))
	}
	shape = r.Shape()
	a.record, a.tree.Roots = r, r.Roots
	return a, nil
}

// accept refuses a state that does not come after what was seen and what is demanded, and keeps it as seen.
func (g *guard) accept(ctx context.Context, a *anchored, seen ...tree.Root) error {
	for _, root := range seen {
		if err := root.Follows(a.record, &a.tree, g.source(ctx, a.tree.Shape)); err != nil {
			if blocktree.KindOf(err) == blocktree.Corrupt {
				err = &blocktree.Error{Op: "newest record", Err: err, Hint: putBackHint}
			}
			return err
		}
	}
	return g.keepSeen(a)
}

// keepSeen has the newest record kept beyond the life of the client.
func (g *guard) keepSeen(a *anchored) error {
	if g.roots == nil {
		return nil
	}
	s := seenAtPath{g.path, Seen{File: g.file, Root: a.root()}}
	if r := g.of.keys.Load().access; r != nil {
		s.seen.Key, s.seen.Owner, s.seen.Made = r.KeyID, r.Owner, r.Made
		if r.Number > 0 { // it was verified: what was renamed says where it is, and another file may be where it was
			s.path = r.Path
		}
	}
	g.saving.Lock()
	defer g.saving.Unlock()
	if g.saved != nil && *g.saved == s {
		return nil
	}
	if err := g.roots.Save(s.path, s.seen); err != nil {
		return err
	}
	g.saved = &s
	return nil
}

// refresh asks for the newest record, which must come after the one that is known, and says whether it is another one.
func (g *guard) refresh(ctx context.Context) (changed bool, err error) {
	if err := g.refreshing.take(ctx); err != nil {
		return false, err
	}
	defer g.refreshing.give()
	was := g.state()
	now, err := g.newest(ctx, was.root())
	if err != nil {
		return false, err
	}
	if err := g.accept(ctx, now, was.root()); err != nil {
		return false, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = g.now()
	if now.number() == was.number() {
		return false, nil
	}
	g.anchored = now
	return true, nil
}

// knownRoots are those that a tree file must come after: what is demanded, what was seen at its path, and, of one that was renamed since it was opened, what was seen of it at the path before.
func knownRoots(seen *Seen, inode *meta.Inode, a *keys.Access, o *OpenOptions) (roots []tree.Root, err error) {
	if !o.Root.IsZero() {
		roots = append(roots, o.Root)
	}
	if seen != nil {
		roots = append(roots, seen.Root)
	}
	if o.before == "" || o.Roots == nil {
		return roots, nil
	}
	was, err := o.Roots.Load(o.before)
	if err == nil && was != nil && was.isOf(inode.ID, a) {
		roots = append(roots, was.Root)
	}
	return roots, err
}

// openGuard opens the companion of a tree file that f is of, and has the tree guard f: it must come after roots.
func openGuard(ctx context.Context, c *cluster.Client, f *File, inode *meta.Inode, o *OpenOptions, roots []tree.Root) (err error) {
	g := newGuard(c, f, inode, o)
	companion := inode.CompanionInode()
	g.pages = newFile(companion, f.info.Path, f.keys.Load().pages, o.ReadOnly)
	if err := g.pages.attach(ctx, c, companion, o); err != nil {
		return err
	}
	f.guard = g
	defer func() {
		if err != nil {
			f.guard = nil
			_ = g.pages.Close() // the first error says why
		}
	}()
	// Only now: whoever had the leases before can anchor nothing any more.
	if g.anchored, err = g.newest(ctx, roots...); err != nil {
		return err
	}
	if err := g.accept(ctx, g.anchored, roots...); err != nil {
		return err
	}
	if f.handle == nil {
		return nil
	}
	if g.behind() { // before anything is written, or anybody is told that this holder goes by the newest key
		if err := g.foldOnce(ctx, foldTimeout); err != nil {
			return err
		}
	}
	g.wg.Go(g.run)
	return nil
}
