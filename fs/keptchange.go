package fs

import (
	"context"
	"errors"
	"slices"
	"time"

	"blocktree"
)

// How requests get along with what is kept, and was given away.

// claims are names of kept directories that nobody else changes until they are given back.
type claims struct {
	table *kept
	paths []blocktree.Path // also of directories that are not kept
	takes bool             // a name is taken, so that what is beneath may be elsewhere then
	of    []claim
	busy  chan struct{}
}

type claim struct {
	dir  *keptHere
	path blocktree.Path
}

// claim claims what of some paths is a name of a kept directory, all at once. It waits for who has.
func (t *kept) claim(ctx context.Context, takes bool, paths ...blocktree.Path) (*claims, error) {
	for {
		c, wait := t.claimNow(takes, paths)
		if wait == nil {
			return c, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, blocktree.E("fs", blocktree.Unavailable, ctx.Err())
		}
	}
}

func (t *kept) claimNow(takes bool, paths []blocktree.Path) (c *claims, wait <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c = &claims{table: t, paths: paths, takes: takes, busy: make(chan struct{})}
	for _, path := range paths {
		d := t.dirs[path.Parent()] // also one that is being left: it is kept yet
		if d == nil || path == d.path {
			continue
		}
		if wait := d.busy[path.Base()]; wait != nil {
			return nil, wait
		}
		c.of = append(c.of, claim{d, path})
	}
	for _, x := range c.of {
		x.dir.busy[x.path.Base()] = c.busy
	}
	t.changes[c] = struct{}{}
	for m := range t.making {
		m.meets(c)
	}
	return c, nil
}

// areOthers reports whether somebody else than an owner fills one of the directories that the names are in: one that was made since he was asked to yield.
func (c *claims) areOthers(o *owner) bool {
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	return slices.ContainsFunc(c.of, func(x claim) bool { return x.dir.isOthers(o) })
}

// dirs are the kept directories that the names are in.
func (c *claims) dirs() (dirs []*keptHere) {
	for _, x := range c.of {
		if !slices.Contains(dirs, x.dir) {
			dirs = append(dirs, x.dir)
		}
	}
	return dirs
}

// release gives them back, after what came of it was noted.
func (c *claims) release(note func()) {
	c.table.mu.Lock()
	if note != nil {
		note()
	}
	for _, x := range c.of {
		if x.dir.busy[x.path.Base()] == c.busy {
			delete(x.dir.busy, x.path.Base())
		}
	}
	delete(c.table.changes, c)
	c.table.mu.Unlock()
	close(c.busy)
}

// note notes what came of a change that takes one name, and adds another; with the lock of the table.
func (c *claims) note(takes, adds blocktree.Path, err error) {
	for _, x := range c.of {
		name := x.path.Base()
		_, there := x.dir.names[name]
		switch {
		case err == nil && x.path == adds:
			c.table.add(x.dir, name)
		case err == nil && x.path == takes:
			c.table.remove(x.dir, name)
		case err != nil && !refuses(err, there):
			x.dir.doubtful()
		}
	}
}

// refuses reports whether an error of a change of a name says that nothing was done, and nothing else than is known of whether it is there. Busy does not: where others keep a directory it is asked for again until nobody waits any more, and the last try may yet be done.
func refuses(err error, there bool) bool {
	switch blocktree.KindOf(err) {
	case blocktree.Permission, blocktree.Unauthenticated, blocktree.Invalid, blocktree.TooLarge, blocktree.NoSpace, blocktree.Unsupported, blocktree.Elsewhere:
		return true
	case blocktree.Exists:
		return there
	case blocktree.NotFound:
		return !there
	}
	return false
}

// change does something that takes the name from what is at one path, and adds another, "" for none, after all that it is about has its name: and what is beneath, as that may be another path then.
func (t *kept) change(ctx context.Context, o *owner, takes, adds blocktree.Path, do func(context.Context) error) (err error) {
	if t.idle() {
		return do(ctx)
	}
	paths := []blocktree.Path{adds}
	if takes != "" {
		paths = []blocktree.Path{takes}
		if adds != "" && adds != takes {
			paths = append(paths, adds)
		}
		if t.concerns(paths) && !t.mayTake(ctx, o, paths) { // the cluster says so, and nobody has to leave anything for that
			return do(ctx)
		}
		defer func() { // what was made in it meanwhile
			for _, path := range paths {
				_, _ = t.drain(ctx, o, path) // that is left is left later
			}
		}()
	}
	c, own, err := t.drained(ctx, o, takes != "", paths)
	if err != nil {
		return err
	}
	defer func() { c.release(func() { c.note(takes, adds, err) }) }()
	for _, path := range paths {
		if err := t.settle(ctx, t.named(path)); err != nil {
			return err
		}
	}
	if len(c.of) > 0 {
		own = c.of[0].dir
	}
	if own != nil {
		ctx = own.Own(ctx)
	}
	ended := t.moves(c.dirs()...)
	defer func() { ended(0, err) }()
	return do(ctx)
}

// concerns reports whether anything is kept, or was given away, at one of some paths, or beneath.
func (t *kept) concerns(paths []blocktree.Path) bool {
	if t.keepsAny(paths) {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for p := range t.given {
		if slices.ContainsFunc(paths, p.Within) {
			return true
		}
	}
	return false
}

// mayTake reports whether somebody may change the entries of all directories that have some paths. Where it reports false, and he may all the same, he waits as anybody does.
func (t *kept) mayTake(ctx context.Context, o *owner, paths []blocktree.Path) bool {
	return !slices.ContainsFunc(paths, func(p blocktree.Path) bool {
		found, err := t.service.cluster.Look(ctx, o.caller(), p.Parent())
		return err != nil || !found.Rights.Has(Write)
	})
}

// drained is claim, for what takes a name after drain of all, so that nothing that is kept is elsewhere when that is done. own is one of those that were left, nil: none was.
func (t *kept) drained(ctx context.Context, o *owner, takes bool, paths []blocktree.Path) (c *claims, own *keptHere, err error) {
	for {
		for _, path := range paths { // before anything is claimed: who has claimed something waits for nobody who has
			d, err := (*keptHere)(nil), error(nil)
			if takes {
				d, err = t.drain(ctx, o, path)
			}
			if err != nil {
				return nil, nil, err
			}
			if d != nil {
				own = d
			}
		}
		if c, err = t.claim(ctx, takes, paths...); err != nil {
			return nil, own, err
		}
		others := c.areOthers(o)
		if !others && !(takes && t.keepsAny(paths)) {
			return c, own, nil
		}
		c.release(nil) // another was made while somebody else had the name, or since this was asked for
		if !others {
			continue
		}
		for _, path := range paths {
			// Not as what changes it: who makes a file whole does not wait for himself; and only for who filled it: others who make one wait as this does, and maybe for this.
			if err := t.yieldsTo(ctx, o, codeStat, &pathRequest{path: path}, func(d *keptHere, by *owner) bool { return by == d.granted }); err != nil {
				return nil, own, err
			}
		}
	}
}

// keepsAny reports whether a directory is kept at, or beneath, one of some paths.
func (t *kept) keepsAny(paths []blocktree.Path) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for p := range t.dirs {
		if slices.ContainsFunc(paths, p.Within) {
			return true
		}
	}
	return false
}

// named are the files that were given away under a path.
func (t *kept) named(path blocktree.Path) []*given {
	t.mu.Lock()
	defer t.mu.Unlock()
	if g := t.given[path]; g != nil {
		return []*given{g}
	}
	return nil
}

// identified are the files that were given away of an identity.
func (t *kept) identified(id blocktree.FileID) []*given {
	t.mu.Lock()
	defer t.mu.Unlock()
	if g := t.byID[id]; g != nil {
		return []*given{g}
	}
	return nil
}

// beneath are the files that were given away in a directory, or with deep in those beneath, too.
func (t *kept) beneath(dir blocktree.Path, deep bool) (all []*given) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for path, g := range t.given {
		if path.Parent() == dir || deep && path.Within(dir) {
			all = append(all, g)
		}
	}
	return all
}

// settle has files named, unless it turns out that they are not to be. An error says that of one nobody knows.
func (t *kept) settle(ctx context.Context, all []*given) (err error) {
	if len(all) == 1 {
		return all[0].settle(ctx)
	}
	errs := make(chan error, len(all))
	slots := make(chan struct{}, blocktree.FSKeptWorksMax)
	for _, g := range all {
		slots <- struct{}{}
		go func() { // it ends with ctx, and is waited for
			err := g.settle(ctx)
			<-slots
			errs <- err
		}()
	}
	for range all {
		if e := <-errs; err == nil {
			err = e
		}
	}
	return err
}

// settled has named what a request is about that changes no name.
func (t *kept) settled(ctx context.Context, code uint16, r *pathRequest) error {
	if t.idle() {
		return nil
	}
	all := t.named(r.path)
	if tellsOfAll(code) {
		all = append(all, t.beneath(r.path, false)...)
	}
	if r.attr.file != (blocktree.FileID{}) {
		all = append(all, t.identified(r.attr.file)...)
	}
	return t.settle(ctx, all)
}

// drain has all named that was given away at a path, or beneath, and leaves the kept directories there, as an owner asks for. It returns that of the path, or another of them.
func (t *kept) drain(ctx context.Context, o *owner, path blocktree.Path) (at *keptHere, err error) {
	if t.idle() {
		return nil, nil
	}
	var dirs []*keptHere
	t.mu.Lock()
	for p, d := range t.dirs {
		if p.Within(path) {
			dirs = append(dirs, d)
		}
	}
	if at = t.dirs[path]; at == nil && len(dirs) > 0 {
		at = dirs[0]
	}
	t.mu.Unlock()
	if err = t.leave(ctx, o, dirs); err == nil {
		err = t.settle(ctx, t.beneath(path, true))
	}
	return at, err
}

// leave has all named that was given away in some directories, and leaves them, as an owner asks for, nil: another service, or time: after whoever else fills them has had his term. One with a file of which it is not known whether it has its name is left later (kept.sweep): whoever removed or renamed that would have its name come again.
func (t *kept) leave(ctx context.Context, o *owner, dirs []*keptHere) (err error) {
	var waits []chan struct{}
	var until time.Time
	t.mu.Lock()
	for _, d := range dirs {
		d.leaving, d.draining = true, true
		if d.since.IsZero() {
			d.since = time.Now()
		}
		until = later(until, d.yield(o))
	}
	t.mu.Unlock()
	err = waitUntil(ctx, until)
	t.mu.Lock()
	for _, d := range dirs {
		if err == nil {
			d.term = time.Time{} // it has run out, or is given up
		}
		for _, busy := range d.busy {
			waits = append(waits, busy)
		}
		for w := range d.wholes {
			waits = append(waits, w.done)
		}
	}
	t.mu.Unlock()
	for _, wait := range waits { // somebody may be about to give something away
		select {
		case <-wait:
		case <-ctx.Done():
			err = blocktree.E("fs", blocktree.Unavailable, ctx.Err())
		}
	}
	if err == nil {
		err = t.sent(ctx, o, dirs)
	}
	waited := err == nil
	for _, d := range dirs {
		e := err
		if waited {
			e = t.settle(ctx, t.beneath(d.path, false))
		}
		if e == nil || !d.Keeps() || waited && time.Since(d.since) >= fileTimeout {
			t.drop(d)
		} else {
			t.stay(d)
		}
		if err == nil {
			err = e
		}
	}
	return err
}

// sent waits for what others than an owner had pending in directories, and send after their terms, one after the other: not for what they go on to send.
func (t *kept) sent(ctx context.Context, o *owner, dirs []*keptHere) error {
	for last := time.Now().Add(blocktree.FSFillFor); ; {
		var wait <-chan struct{}
		t.mu.Lock()
		for _, d := range dirs {
			for w := range d.wholes {
				if w.by != o && !w.begun.After(last) {
					wait = w.done
				}
			}
		}
		t.mu.Unlock()
		if wait == nil {
			return nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return blocktree.E("fs", blocktree.Unavailable, ctx.Err())
		}
	}
}

// stay has a directory that could not be left be left later.
func (t *kept) stay(d *keptHere) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.draining, d.again = false, time.Now().Add(blocktree.FSUnnamedMax)
}

// errDropped is for a file that is nobody's as it could not be given away.
var errDropped = blocktree.E("fs", blocktree.Closed, errors.New("it was not given away"))
