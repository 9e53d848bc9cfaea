package fs

import (
	"context"
	"errors"
	"time"

	"blocktree"
)

// given is a file that somebody was given under a name which the cluster has not heard of yet.
type given struct {
	table *kept
	dir   *keptHere
	path  blocktree.Path
	id    blocktree.FileID
	file  unnamed
	body  *body // set before it is in the table

	turn    chan struct{} // holds a token while somebody asks for the name
	durable uint64        // whose turn it is looks at this: where the file ends, of what is durable, by the name that was asked for last

	// The table's lock is of these.
	listed bool
	end    givenEnd
	doubt  bool      // an earlier try to name it may have been done
	at     time.Time // when it was given, or tried to be named
	trying bool      // somebody names it as it is time
}

// givenEnd is what became of the name of a file that was given away.
type givenEnd uint8

const (
	givenYet     givenEnd = iota // nothing yet
	givenNamed                   // the cluster has it
	givenRefused                 // nothing of it is there
	givenUnknown                 // nobody knows, and it is not asked for any more
)

// enter waits for the turn, and returns what became of its name by then.
func (g *given) enter(ctx context.Context) (givenEnd, error) {
	select {
	case g.turn <- struct{}{}:
	case <-ctx.Done():
		return givenYet, blocktree.E("fs", blocktree.Unavailable, ctx.Err())
	}
	g.table.mu.Lock()
	defer g.table.mu.Unlock()
	return g.end, nil
}

func (g *given) leave() { <-g.turn }

// settle has the file named with where it ends, of what is known to be durable: it waits for no sectors. It returns nil, too, where it turns out that it never will be: whoever has it open is told.
func (g *given) settle(ctx context.Context) error {
	end, err := g.enter(ctx)
	if err != nil {
		return err
	}
	defer g.leave()
	if end != givenYet || g.ask(ctx) == nil {
		return nil
	}
	return g.unnamed()
}

// ask asks for the name, in a turn.
func (g *given) ask(ctx context.Context) error {
	ended := g.table.moves(g.dir)
	err := g.file.Name(ctx, g.durable)
	ended(g.file.NamedAt(), err)
	switch {
	case err == nil:
		g.became(givenNamed, nil)
	case passes(ctx, err):
		g.doubts()
	default:
		g.body.spoil(err)
		g.became(givenRefused, err)
	}
	return err
}

// unnamed is an error while nothing is known of its name.
func (g *given) unnamed() error {
	g.table.mu.Lock()
	defer g.table.mu.Unlock()
	if g.end != givenYet {
		return nil
	}
	return &blocktree.Error{Op: "fs", Path: g.path.Short(), Kind: blocktree.Unavailable, Err: errors.New("it is not known whether the file has its name yet")}
}

// became notes what came of its name. why is the error, if there is one.
func (g *given) became(end givenEnd, why error) {
	t := g.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if g.end != givenYet {
		return
	}
	kind, wrong := blocktree.KindOf(why), false // the directory may not be what is thought
	if end == givenRefused {
		wrong = why != errDropped && (kind == blocktree.NotFound || !refuses(why, false))
		if g.doubt && kind != blocktree.Exists && kind != blocktree.NotFound && kind != blocktree.Fenced {
			end = givenUnknown
		}
	}
	if wrong || end == givenUnknown {
		g.dir.doubtful()
	}
	g.dir.again = time.Time{} // it may have been this that it waits for
	if g.end = end; !g.listed {
		return
	}
	delete(t.byID, g.id)
	if t.given[g.path] == g {
		delete(t.given, g.path)
	}
	t.counted()
	if end == givenRefused {
		t.remove(g.dir, g.path.Base())
		t.service.watches.tell(g.path, EventGone)
	}
}

// doubts notes that nobody knows whether it was named: it is asked again.
func (g *given) doubts() {
	g.table.mu.Lock()
	defer g.table.mu.Unlock()
	g.doubt = true
	g.dir.doubtful()
}

// passes reports whether what an error says of a name may be otherwise when it is asked for again.
func passes(ctx context.Context, err error) bool {
	switch blocktree.KindOf(err) {
	case blocktree.Unavailable, blocktree.Busy, blocktree.Canceled, blocktree.Other:
		return true
	}
	return ctx.Err() != nil
}

// makeKept makes a file in a directory that is kept, of a spare, of any if that is nil, or gone and it is not the only one that it may be: nobody else is asked. done is false where it is to be made as any.
func (s *Service) makeKept(ctx context.Context, o *owner, r *pathRequest, options CreateOptions, spare aside) (reply []byte, done bool, err error) {
	t := &s.kept
	if t.idle() || o.anonymous {
		return nil, false, nil
	}
	t.mu.Lock()
	d := t.giving(o, r.path.Parent())
	t.mu.Unlock()
	if d == nil || d.path == r.path {
		return nil, false, nil
	}
	a := newOpening(s, o, r, true)
	if !t.may(ctx, o, d, Write) {
		return nil, false, nil
	}
	if err := r.meant(d.ID()); err != nil {
		return nil, true, err
	}
	c, err := t.claim(ctx, false, r.path)
	if err != nil {
		return nil, true, err
	}
	var g *given
	defer func() { c.release(func() { t.gave(g) }) }()
	if !t.may(ctx, o, d, Write) || !t.free(c, d, o, r.path.Base()) { // it may have waited for long
		return nil, false, nil
	}
	f, inode, e := d.MakeUnnamed(ctx, o.caller(), r.path, options, spare)
	if spare != nil && !r.only && blocktree.KindOf(e) == blocktree.Unsupported {
		f, inode, e = d.MakeUnnamed(ctx, o.caller(), r.path, options, nil)
	}
	if e != nil { // nothing was done; where there are no spares nobody is to be kept waiting for nothing
		if !r.only {
			t.unsure(r.path)
		}
		return nil, false, nil
	}
	x := &given{table: t, dir: d, path: r.path, id: inode.ID, file: f, turn: make(chan struct{}, 1), at: time.Now()}
	a.info, a.made, a.given = InfoOf(inode), f, x
	if reply, err = s.takeGiven(ctx, a); err != nil {
		return nil, true, err
	}
	if !d.Keeps() { // by the time of the answer: somebody else may have made it meanwhile
		t.unsure(r.path)
		a.body.forgo()
		a.cancel()
		return nil, false, nil
	}
	g = x
	return reply, true, nil
}

// takeGiven opens what is to be given away. With an error nothing of it is there.
func (s *Service) takeGiven(ctx context.Context, a *openFile) ([]byte, error) {
	if s.files.Add(1) > blocktree.FSOpenFilesMax {
		s.files.Add(-1)
		_ = a.made.Close() // nothing was written
		return nil, busy("too many open files")
	}
	a.shared = s.sharing.enter(a.info.ID)
	info, err := s.take(ctx, a, false)
	if err != nil {
		s.files.Add(-1)
		return nil, err
	}
	return encodeUnder(a.handle, &info, a.under), nil
}

// free reports whether a name that was claimed for an owner is not there, in a directory that is kept yet, and that nobody else fills since.
func (t *kept) free(c *claims, d *keptHere, o *owner, name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, there := d.names[name]
	return !there && len(c.of) == 1 && c.of[0].dir == d && d.gives(o) && !d.isOthers(o)
}

// gave notes a file that was given away, nil: none; with mu.
func (t *kept) gave(g *given) {
	if g == nil {
		return
	}
	switch g.end {
	case givenYet: // most often
		g.listed = true
		t.given[g.path], t.byID[g.id] = g, g
		t.counted()
	case givenRefused:
		return
	}
	t.add(g.dir, g.path.Base())
}

// name has the file have its name, with what is known to be durable of it.
func (b *body) name(ctx context.Context) error {
	g := b.given.Load()
	if g == nil {
		return nil
	}
	err := g.settle(ctx)
	if lost := b.lost.Load(); lost != nil {
		return *lost
	}
	return err
}

// nameWith has the file have its name, and end there, if it has none. All before is durable. In a turn.
func (b *body) nameWith(ctx context.Context, end uint64) error {
	g := b.given.Load()
	if g == nil {
		return nil
	}
	was, err := g.enter(ctx)
	if err != nil {
		return err
	}
	defer g.leave()
	switch was {
	case givenYet:
		g.durable = end
		if err := g.ask(ctx); err != nil {
			return err
		}
	case givenRefused, givenUnknown: // while this was waited for, or flushed
		if lost := b.lost.Load(); lost != nil {
			return *lost
		}
		return errDropped
	}
	b.hasName(g)
	return nil
}

// hasName goes on as with any file. In a turn of both.
func (b *body) hasName(g *given) {
	b.given.Store(nil)
	b.told, b.guess = g.durable, false
}

// spoil has every handle of a file that has no name fail from now on, the close, too: there is nothing that others could ever see.
func (b *body) spoil(why error) {
	if b.given.Load() != nil && b.lost.CompareAndSwap(nil, &why) {
		b.over.Store(true)
	}
}

// unname has a file that could not be flushed never have its name, if it has none yet. In a turn.
func (b *body) unname(why error) {
	g := b.given.Load()
	if g == nil {
		return
	}
	end, _ := g.enter(context.Background()) // whoever has it is bounded by its own
	defer g.leave()
	if end == givenYet {
		b.spoil(why)
		g.became(givenRefused, errDropped)
	}
}

// closeGiven closes a file that has no name: with that, if all is well. It reports false of any other, and did nothing. In a turn that nobody gets any more.
func (b *body) closeGiven(ctx context.Context, whole bool) (done bool, err error) {
	g := b.given.Load()
	if g == nil {
		return false, nil
	}
	end, _ := g.enter(context.Background()) // whoever has it is bounded by its own
	defer g.leave()
	if end == givenNamed {
		b.hasName(g)
		return false, nil
	}
	b.given.Store(nil)
	if lost := b.lost.Load(); lost != nil || !whole || end != givenYet {
		_ = b.file.Close() // whatever comes of it
		g.became(givenRefused, errDropped)
		err = errNothing
		if lost != nil {
			err = *lost
		}
		return true, err
	}
	ended := g.table.moves(g.dir)
	err = g.file.CloseName(ctx, b.ends.Load())
	ended(g.file.NamedAt(), err)
	switch {
	case err == nil:
		g.became(givenNamed, nil)
	case passes(ctx, err):
		g.became(givenUnknown, err)
	default:
		g.became(givenRefused, err)
	}
	return true, err
}

// unsure has a directory left of which it is of no use to keep it, as something may be in it of which nobody knows.
func (t *kept) unsure(path blocktree.Path) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d := t.dirs[path.Parent()]; d != nil {
		d.doubtful()
	}
}

// forgo has a file that could not be given away never have its name.
func (b *body) forgo() {
	b.turn <- struct{}{} // nobody has it for long: nobody else knows the file
	defer b.leave()
	if b.stuck == nil {
		b.stuck = errDropped
	}
}

// errNothing is for who closes a file that failed before it had its name.
var errNothing = blocktree.E("fs", blocktree.Closed, errors.New("the file failed before it had its name: there is nothing of it"))

var errNoName = errors.New("there is nothing of that name")

// nothing is the answer to who may know it that there is nothing at a path.
func nothing(path blocktree.Path) error {
	return &blocktree.Error{Op: "stat", Path: path.Short(), Kind: blocktree.NotFound, Err: errNoName}
}

// makeDir makes a directory, and keeps its names if the cluster lets it; here is nil where it is not kept.
func (s *Service) makeDir(ctx context.Context, o *owner, r *pathRequest) (here *keptHere, err error) {
	k, keeps := s.cluster.(keeper)
	keeps = keeps && !s.cfg.KeepNoNames
	err = s.kept.change(ctx, o, "", r.path, func(ctx context.Context) error {
		var m *making
		if keeps {
			m = s.kept.begin(r.path, o)
		}
		if m != nil {
			d, made, err := k.MakeDirKept(ctx, o.caller(), r.path, r.mode)
			here = s.kept.keep(m, d, &made)
			if blocktree.KindOf(err) != blocktree.Unsupported || err == nil {
				return err
			}
		}
		return s.cluster.MakeDir(ctx, o.caller(), r.path, r.mode)
	})
	return here, err
}
