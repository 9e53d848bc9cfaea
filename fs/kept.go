package fs

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/crypto/cred"
	"blocktree/internal/file"
)

// Directories whose names the service keeps: docs/design/0079-kept-directories.md.

// keeper is an optional ability of a Cluster.
type keeper interface {
	// MakeDirKept is MakeDir of a directory whose names are kept by the service from the first; nil: it was made, and is not kept. made is what was made, if that is kept, with rights that the caller has on it in any case. Unsupported: nothing was done.
	MakeDirKept(ctx context.Context, caller cred.Identity, path blocktree.Path, mode uint32) (d keptDir, made Found, err error)
}

// keptDir is a directory whose entries nobody changes but by this service, until Leave.
type keptDir interface {
	ID() blocktree.FileID
	// Keeps reports whether that is certain now. It does not block.
	Keeps() bool
	// KeptFor is for how long that is so, unless it is left.
	KeptFor() time.Duration
	// MakeUnnamed opens an empty file for writing, of which the cluster hears by its Name: a spare of TakeSpares, nil: any. With an error nothing was done. Unsupported: there is none, or the spare cannot be it.
	MakeUnnamed(ctx context.Context, caller cred.Identity, path blocktree.Path, o CreateOptions, spare aside) (unnamed, *meta.Inode, error)
	// TakeSpares takes spares for MakeUnnamed, n at most, of those that are at hand. Where there are none it waits for the first, if it may.
	TakeSpares(ctx context.Context, o CreateOptions, n int, waits bool) ([]aside, error)
	// Own is for what changes an entry: nobody else may.
	Own(ctx context.Context) context.Context
	// Wanted is closed when somebody else has asked for a change, or the directory is not kept any more.
	Wanted() <-chan struct{}
	// Leave lets others change its entries. It does not wait for that.
	Leave()
	// Counted reports whether the rights number moves when its mode, owner or grants change.
	Counted() bool
}

// unnamed is a file that the cluster does not know by a name, until Name or CloseName. A Close before leaves nothing of it.
type unnamed interface {
	blocktree.File
	// Name gives it its name, and has it end there; what lies before must be durable. After Unavailable nobody knows: it is asked again.
	Name(ctx context.Context, end uint64) error
	// CloseName is Flush, Name and Close: without the first there is nothing of it. Nobody uses the file from then on, whatever is returned.
	CloseName(ctx context.Context, end uint64) error
	// NamedAt is the time that its directory has by its name, as the first Name or CloseName that returned nil was answered; 0: nobody has said.
	NamedAt() int64
}

var _ keeper = (*over)(nil)

// overKept is a keptDir of a client.
type overKept struct {
	*cluster.KeptDir
	over *over
	path blocktree.Path // that it had first
}

// ID implements keptDir.
func (k overKept) ID() blocktree.FileID { return k.Dir() }

// Keeps implements keptDir.
func (k overKept) Keeps() bool { return k.Kept() }

// Counted implements keptDir: the number is that of the service's own cluster.
func (k overKept) Counted() bool { return k.Client() == k.over.Client }

// overUnnamed is an unnamed of a client, which is named for who made it.
type overUnnamed struct {
	*file.File
	caller cred.Identity
}

// Name implements unnamed.
func (f overUnnamed) Name(ctx context.Context, end uint64) error {
	return f.File.Name(cluster.OnBehalf(ctx, f.caller), end)
}

// CloseName implements unnamed.
func (f overUnnamed) CloseName(ctx context.Context, end uint64) error {
	return f.File.CloseName(cluster.OnBehalf(ctx, f.caller), end)
}

// MakeDirKept implements keeper.
func (c *over) MakeDirKept(ctx context.Context, caller cred.Identity, path blocktree.Path, mode uint32) (d keptDir, made Found, err error) {
	i, k, err := c.Client.MakeDirKept(cluster.OnBehalf(ctx, caller), meta.MakeDir{Path: path, Mode: mode, Time: time.Now().UnixNano()})
	if k == nil {
		return nil, made, err
	}
	c.keyless.Made(path)
	if made.Inode = i; caller.UID == i.UID && !caller.Anonymous() {
		made.Rights = rightsOf(i.OwnerRights())
	}
	return overKept{k, c, path}, made, err
}

// NotKept implements namer.
func (c *over) NotKept(ctx context.Context, dir blocktree.Path, id blocktree.FileID) (keptDir, error) {
	k, err := c.Client.NotKept(ctx, dir.Join("f"), id)
	if err != nil {
		return nil, err
	}
	return overKept{k, c, dir}, nil
}

// TakeSpares implements keptDir.
func (k overKept) TakeSpares(ctx context.Context, o CreateOptions, n int, waits bool) ([]aside, error) {
	taken, err := file.TakeSpares(ctx, k.KeptDir, k.path, k.over.making(o), n, waits)
	all := make([]aside, len(taken))
	for i := range taken {
		all[i] = taken[i]
	}
	return all, err
}

// MakeUnnamed implements keptDir.
func (k overKept) MakeUnnamed(ctx context.Context, caller cred.Identity, path blocktree.Path, o CreateOptions, spare aside) (unnamed, *meta.Inode, error) {
	c, making := k.over, k.over.making(o)
	making.Spare, _ = spare.(*cluster.TakenSpare)
	f, inode, err := file.MakeUnnamed(cluster.OnBehalf(ctx, caller), c.Client, k.KeptDir, path, making, file.OpenOptions{Reader: c.Reader, Plain: o.Plain, Pins: c.pins.opening(), Logger: c.Logger,
		OpenOptions: cluster.OpenOptions{TouchEvery: blocktree.TouchEvery}})
	if err != nil {
		return nil, nil, err
	}
	return overUnnamed{f, caller}, inode, nil
}

// kept are the kept directories of a service, and the files that it gave away in them under names that the cluster does not know yet.
type kept struct {
	service *Service
	active  atomic.Int64  // how many directories and files there are: where there are none, nothing is looked at
	works   chan struct{} // a token for each that names or leaves something by itself

	mu       sync.Mutex
	dirs     map[blocktree.Path]*keptHere
	given    map[blocktree.Path]*given
	byID     map[blocktree.FileID]*given
	making   map[*making]struct{}
	changes  map[*claims]struct{}   // that go on
	names    int                    // of all directories
	asides   map[*owner]*asides     // spares of those who fill directories
	aside    int                    // how many there are, and are being taken
	altering map[*move]*attrRequest // that go on
	moved    atomic.Uint64          // counts what may move the times of a directory, twice each: as it begins, and as it ends; and directories that come to be kept
	wholes   map[*wholeHere]struct{}
	rooms    map[roomOf]*room
	sweeping bool
	stopping bool // nobody is let fill anything any more
}

// making is a directory that is being made, to be kept. The session keeps it before its maker hears of that; the cluster lets in by then whoever has the keeper's word, of whichever directory.
type making struct {
	path    blocktree.Path
	by      *owner
	said    asking // when the cluster was asked for it
	met     bool   // a change may have put something into it, or have moved it; of kept.mu, too
	altered bool   // times or attributes were changed, which may have been its own; likewise
	unclear bool   // that may be done yet; likewise
}

// meets notes a change that goes on at the same time.
func (m *making) meets(c *claims) {
	m.met = m.met || slices.ContainsFunc(c.paths, func(p blocktree.Path) bool { return p.Parent() == m.path || c.takes && m.path.Within(p) })
}

// keptHere is a directory that the service keeps; kept.mu is of what it has.
type keptHere struct {
	keptDir
	path     blocktree.Path
	names    map[string]struct{}      // that there are, also of files that were given away
	busy     map[string]chan struct{} // that somebody is changing: closed when he has
	callers  map[*owner]allowance
	used     time.Time // when something was made in it last
	leaving  bool      // nothing is given away in it any more, but to who was granted that
	unsure   bool      // not to him, either: something may be in it of which nobody knows
	draining bool      // somebody has what was given away named, and leaves it
	since    time.Time // when that was tried first
	again    time.Time // when it is tried next

	filler  *owner    // who made it, as long as nobody else has asked what is in it
	granted *owner    // who may make names in it by himself
	term    time.Time // until then
	wholes  map[*wholeHere]struct{}

	described
}

// allowance is what the cluster said that a caller may do in a directory.
type allowance struct {
	asked  asking
	rights Rights
}

func (t *kept) init(s *Service) {
	t.service, t.works = s, make(chan struct{}, blocktree.FSKeptWorksMax)
	t.dirs, t.given, t.byID = map[blocktree.Path]*keptHere{}, map[blocktree.Path]*given{}, map[blocktree.FileID]*given{}
	t.making, t.changes, t.asides = map[*making]struct{}{}, map[*claims]struct{}{}, map[*owner]*asides{}
	t.wholes, t.altering = map[*wholeHere]struct{}{}, map[*move]*attrRequest{}
	t.rooms = map[roomOf]*room{}
}

// idle reports whether nothing is kept.
func (t *kept) idle() bool { return t.active.Load() == 0 }

// counted is called with mu when there are more, or less, and has what is due be looked for.
func (t *kept) counted() {
	n := len(t.dirs) + len(t.given) + len(t.asides) + len(t.wholes)
	t.active.Store(int64(n))
	if n > 0 && !t.sweeping {
		t.sweeping = t.service.task(t.sweep) == nil
	}
}

// begin notes that a directory is being made by somebody, nil: it is not to be kept, as there are too many.
func (t *kept) begin(path blocktree.Path, o *owner) *making {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.dirs)+len(t.making) >= blocktree.FSKeptDirsMax || t.names >= blocktree.FSKeptNamesMax {
		return nil
	}
	m := &making{path: path, by: o, said: t.service.asks()}
	for c := range t.changes {
		m.meets(c)
	}
	t.making[m] = struct{}{}
	return m
}

// keep keeps a directory that was made just now, nil: none, if it is certainly empty, and where it was made. It returns nil where it does not.
func (t *kept) keep(m *making, d keptDir, made *Found) *keptHere {
	path := m.path
	t.mu.Lock()
	delete(t.making, m)
	if d == nil || m.met {
		t.mu.Unlock()
		if d != nil {
			d.Leave()
		}
		return nil
	}
	old := t.dirs[path] // which has another path by now
	if old != nil {
		t.dropLocked(old)
	}
	x := &keptHere{keptDir: d, path: path, names: map[string]struct{}{}, busy: map[string]chan struct{}{}, callers: map[*owner]allowance{}, used: time.Now(), filler: m.by, wholes: map[*wholeHere]struct{}{}}
	if t.dirs[path] = x; made.Rights != 0 {
		x.callers[m.by] = allowance{m.said, made.Rights}
	}
	t.describeMade(x, m, made)
	t.counted()
	t.mu.Unlock()
	if old != nil {
		old.Leave()
	}
	return x
}

// at is the directory of that path, if it is kept, and is not being left; with mu.
func (t *kept) at(path blocktree.Path) *keptHere {
	if d := t.dirs[path]; d != nil && !d.leaving && d.Keeps() {
		return d
	}
	return nil
}

// add notes a name; with mu. Of a directory with one too many none is noted any more.
func (t *kept) add(d *keptHere, name string) {
	d.used = time.Now()
	if _, ok := d.names[name]; ok || t.dirs[d.path] != d {
		return
	}
	d.names[name] = struct{}{}
	if t.names++; t.names > blocktree.FSKeptNamesMax {
		d.leaving = true
	}
}

// remove is the reverse; with mu.
func (t *kept) remove(d *keptHere, name string) {
	if _, ok := d.names[name]; ok && t.dirs[d.path] == d {
		delete(d.names, name)
		t.names--
	}
}

// dropLocked forgets a directory, and reports whether it was there.
func (t *kept) dropLocked(d *keptHere) bool {
	if t.dirs[d.path] != d {
		return false
	}
	d.leaving = true
	delete(t.dirs, d.path)
	t.names -= len(d.names)
	t.counted()
	return true
}

// drop forgets a directory, and lets others change it.
func (t *kept) drop(d *keptHere) {
	t.mu.Lock()
	was := t.dropLocked(d)
	t.mu.Unlock()
	if was {
		d.Leave()
	}
}

// stop lets nobody fill a directory any more, and waits until nobody makes names in one by himself, and for what was sent until then: for that no longer than for a term.
func (t *kept) stop() {
	var until time.Time
	t.mu.Lock()
	t.stopping = true
	for _, d := range t.dirs {
		until = later(until, d.yield(nil))
	}
	t.mu.Unlock()
	_ = waitUntil(context.Background(), until) // it cannot fail
	var waits []<-chan struct{}
	t.mu.Lock()
	for w := range t.wholes {
		waits = append(waits, w.done)
	}
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), blocktree.FSFillFor)
	defer cancel()
	for _, wait := range waits {
		select {
		case <-wait:
		case <-ctx.Done(): // its name is in doubt
		}
	}
}

// close leaves all. Nobody uses the table from then on.
func (t *kept) close() {
	t.mu.Lock()
	var all []*keptHere
	for _, d := range t.dirs {
		all = append(all, d)
	}
	var owners []*owner
	for o := range t.asides {
		owners = append(owners, o)
	}
	t.mu.Unlock()
	for _, o := range owners {
		t.forget(o)
	}
	for _, d := range all {
		t.drop(d)
	}
}

// heard notes what the cluster said of what a path names to a caller, if that is a kept directory. Another one of that path is none.
func (t *kept) heard(o *owner, path blocktree.Path, found *Found, asked asking) {
	if t.idle() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.giving(o, path)
	switch {
	case d == nil:
	case d.ID() != found.Inode.ID:
		d.doubtful()
	default:
		if len(d.callers) >= blocktree.FSKeptCallersMax {
			clear(d.callers)
		}
		d.callers[o] = allowance{asked, found.Rights}
		d.describe(found, asked)
	}
}

// may reports whether the cluster has said lately that a caller may do something in a directory, and asks if not. Where it reports false it is to be asked for what the caller wants.
func (t *kept) may(ctx context.Context, o *owner, d *keptHere, want Rights) bool {
	ok, may := t.said(o, d, want)
	if ok {
		return may
	}
	asked := t.service.asks()
	found, err := t.service.cluster.Look(ctx, o.caller(), d.path)
	if err != nil {
		return false
	}
	t.heard(o, d.path, &found, asked)
	_, may = t.said(o, d, want)
	return may
}

// said is what the cluster has said lately of what a caller may do in a directory; not ok: nothing.
func (t *kept) said(o *owner, d *keptHere, want Rights) (ok, may bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, ok := d.callers[o]
	ok = ok && a.fresh(t.service.cluster.RightsNumber())
	return ok, ok && (!d.leaving || d.gives(o)) && a.rights.Has(want)
}

// absent reports whether there is certainly nothing at a path, and the caller may know.
func (t *kept) absent(ctx context.Context, o *owner, path blocktree.Path) bool {
	if t.idle() || o.anonymous {
		return false
	}
	look := func() *keptHere {
		t.mu.Lock()
		defer t.mu.Unlock()
		d := t.at(path.Parent())
		if d == nil || d.path == path || d.busy[path.Base()] != nil {
			return nil
		}
		if _, ok := d.names[path.Base()]; ok {
			return nil
		}
		return d
	}
	d := look()
	return d != nil && t.may(ctx, o, d, List) && look() == d
}
