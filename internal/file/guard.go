package file

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/crypto/tree"
)

// Bounds of a guard (docs/design/0028).
const (
	// foldDelay is how long after a Flush its writes are folded into the tree.
	foldDelay = 5 * time.Second
	// foldSectors is with how many changed sectors a fold begins without being due: some 8 MiB of memory.
	foldSectors = 1 << 16
	// unfoldedMax is with how many changed sectors writes wait for a fold.
	unfoldedMax = 1 << 18
	// readAgainMax is how often a page that is not what its root says is looked for under a newer root.
	readAgainMax = 10
)

// anchored is a state of the tree that is anchored; its record is nil before the first. It is not changed.
type anchored struct {
	record *tree.Record
	tree   tree.Tree
}

func (a *anchored) number() uint64 {
	if a.record == nil {
		return 0
	}
	return a.record.Number
}

// guard knows the floor of every sector of a tree file, and raises it as the file is written.
type guard struct {
	client *cluster.Client
	handle *cluster.Handle // of the file; nil without a lease
	of     *File
	pages  *File // the companion
	file   blocktree.FileID
	path   blocktree.Path
	adopt  bool
	roots  Roots
	cache  pageCache
	now    func() time.Time
	step   func(what string) error

	mu       sync.Mutex
	anchored *anchored
	// fresh are the floors that writes gave since the last fold began, folding those that a fold is about. They are above the tree's.
	fresh, folding map[blocktree.SectorIndex]tree.Floor
	room           chan struct{} // closed when a fold has ended; there while somebody waits
	asked          time.Time     // when the record was asked for last; without a lease
	alarmed        bool

	random [16]byte // of the line that this opening makes
	began  bool     // a record of it is anchored; under fold

	fold       turn          // one fold at a time
	cutTo      atomic.Uint64 // set under fold: how many sectors a record has at most while the file is made smaller, or may yet be; else 0
	unsettled  *proposal     // under fold: the outcome is not known
	saving     sync.Mutex
	saved      *seenAtPath // under saving
	refreshing turn

	due  chan struct{} // a fold is wanted
	soon chan struct{} // foldDelay from now
	stop chan struct{} // closed by close
	wg   sync.WaitGroup

	ctx    context.Context // of started reads that wait for a page, until close
	cancel context.CancelFunc

	closing sync.Once
	closed  error // what came of it
}

func newGuard(c *cluster.Client, f *File, inode *meta.Inode, o *OpenOptions) *guard {
	g := &guard{client: c, of: f, handle: f.handle, adopt: o.adopt, file: inode.ID, path: f.info.Path, roots: o.Roots, step: o.step,
		now: time.Now, fresh: map[blocktree.SectorIndex]tree.Floor{}, due: make(chan struct{}, 1), soon: make(chan struct{}, 1), stop: make(chan struct{}), fold: make(turn, 1), refreshing: make(turn, 1)}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	rand.Read(g.random[:])
	if g.step == nil {
		g.step = func(string) error { return nil }
	}
	g.cache.pages = map[cacheKey]*tree.Page{}
	g.asked = g.now()
	return g
}

// turn is a lock that is waited for as long as a context lasts.
type turn chan struct{}

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return blocktree.E("integrity", blocktree.Unavailable, ctx.Err())
	}
}

func (t turn) give() { <-t }

func (g *guard) state() *anchored {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.anchored
}

// note raises the floors of sectors that were written, and acknowledged, before anybody is told so.
func (g *guard) note(first blocktree.SectorIndex, floors []tree.Floor) {
	g.mu.Lock()
	for i, f := range floors {
		if at := first + blocktree.SectorIndex(i); g.fresh[at].Version.Less(f.Version) {
			g.fresh[at] = f
		}
	}
	many := len(g.fresh) >= foldSectors
	g.mu.Unlock()
	if many {
		g.wantFold()
	}
}

func (g *guard) wantFold() {
	select {
	case g.due <- struct{}{}:
	default:
	}
}

// full reports whether so much is not folded yet that writes wait; then the channel is closed when a fold has ended.
func (g *guard) full() (<-chan struct{}, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.fresh)+len(g.folding) < unfoldedMax {
		return nil, false
	}
	if g.room == nil {
		g.room = make(chan struct{})
	}
	return g.room, true
}

// admit waits until there is room for what a write changes.
func (g *guard) admit(ctx context.Context) error {
	var late <-chan time.Time
	for {
		room, full := g.full()
		if !full {
			return nil
		}
		if late == nil {
			late = time.After(blocktree.WriteStallTimeout)
		}
		g.wantFold()
		select {
		case <-room:
		case <-ctx.Done():
			return blocktree.E("integrity", blocktree.Canceled, ctx.Err())
		case <-late:
			return &blocktree.Error{Op: "integrity", Kind: blocktree.Unavailable, Err: errors.New("too many writes wait for a record in the cluster's metadata"),
				Hint: "are a majority of the nodes up? see btnode status"}
		}
	}
}

// flushed is told of each Flush: what it covered is folded a while later.
func (g *guard) flushed() {
	g.mu.Lock()
	some := len(g.fresh) > 0
	g.mu.Unlock()
	if !some {
		return
	}
	select {
	case g.soon <- struct{}{}:
	default:
	}
}

// alarm logs the first time that something is older than it was.
func (g *guard) alarm(err error) {
	g.mu.Lock()
	first := !g.alarmed
	g.alarmed = true
	g.mu.Unlock()
	if first {
		g.client.Logger().Error("rollback detected", "path", g.path.Short(), "err", err, "hint", putBackHint)
	}
}
