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

	// The table's lock is of these.
	listed bool
	end    givenEnd
	doubt  bool      // an earlier try to name it may have been done
	at     time.Time // when it was given
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

// settle has the file named with where it ends, after what was written. It returns nil, too, where it turns out that it never will be: whoever has it open is told.
func (g *given) settle(ctx context.Context) error {
	err := g.body.name(ctx)
	g.table.mu.Lock()
	defer g.table.mu.Unlock()
	if g.end != givenYet {
		return nil
	}
	return err
}

// became notes what came of its name. why is the error, if there is one.
func (g *given) became(end givenEnd, why error) {
	t := g.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if g.end != givenYet {
		return
	}
	if end == givenRefused && g.doubt {
		switch blocktree.KindOf(why) {
		case blocktree.Exists, blocktree.NotFound, blocktree.Fenced, blocktree.Permission: // to the same question
		default:
			end = givenUnknown
		}
	}
	g.end = end
	if g.listed {
		delete(t.byID, g.id)
		if t.given[g.path] == g {
			delete(t.given, g.path)
		}
	}
	switch end {
	case givenRefused:
		t.remove(g.dir, g.path.Base())
		if k := blocktree.KindOf(why); k == blocktree.Exists || k == blocktree.NotFound || k == blocktree.Fenced {
			g.dir.leaving = true // it is not what was thought
		}
	case givenUnknown:
		g.dir.leaving = true
	}
	t.counted()
	if end == givenRefused && g.listed {
		t.service.watches.tell(g.path, EventGone)
	}
}

// doubts notes that nobody knows whether it was named: it is asked again.
func (g *given) doubts() {
	g.table.mu.Lock()
	defer g.table.mu.Unlock()
	g.doubt = true
	g.dir.leaving = true
}

// passes reports whether what an error says of a name may be otherwise when it is asked for again.
func passes(ctx context.Context, err error) bool {
	switch blocktree.KindOf(err) {
	case blocktree.Unavailable, blocktree.Busy, blocktree.Canceled, blocktree.Other:
		return true
	}
	return ctx.Err() != nil
}

// makeKept makes a file in a directory that is kept: nobody else is asked. done is false where it is to be made as any.
func (s *Service) makeKept(ctx context.Context, o *owner, r *pathRequest, options CreateOptions) (reply []byte, done bool, err error) {
	t := &s.kept
	if t.idle() || o.anonymous {
		return nil, false, nil
	}
	t.mu.Lock()
	d := t.at(r.path.Parent())
	t.mu.Unlock()
	if d == nil || d.path == r.path {
		return nil, false, nil
	}
	a := newOpening(s, o, r, true)
	if !t.may(ctx, o, d, Write) {
		return nil, false, nil
	}
	c, err := t.claim(ctx, r.path)
	if err != nil {
		return nil, true, err
	}
	var g *given
	defer func() { c.release(func() { t.gave(g, err) }) }()
	if !t.free(c, d, r.path.Base()) {
		return nil, false, nil
	}
	f, inode, e := d.MakeUnnamed(ctx, o.caller(), r.path, options)
	if e != nil { // nothing was done
		return nil, false, nil
	}
	g = &given{table: t, dir: d, path: r.path, id: inode.ID, file: f, at: time.Now()}
	a.info, a.made, a.given = InfoOf(inode), f, g
	reply, err = s.takeGiven(ctx, a)
	return reply, true, err
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

// free reports whether a name that was claimed is not there, in a directory that is kept yet.
func (t *kept) free(c *claims, d *keptHere, name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, there := d.names[name]
	return !there && !d.leaving && len(c.of) == 1 && c.of[0].dir == d && d.Keeps()
}

// gave notes a file that was given away, or nil, or one that was not; with mu.
func (t *kept) gave(g *given, err error) {
	if g == nil || err != nil {
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

// name has the file have its name.
func (b *body) name(ctx context.Context) error {
	if b.given.Load() == nil {
		return nil
	}
	return b.do(ctx, func() error { return b.nameInTurn(ctx) })
}

// nameInTurn is name for who has the turn.
func (b *body) nameInTurn(ctx context.Context) error {
	if b.given.Load() == nil {
		return nil
	}
	return b.flush(ctx)
}

// named gives the body's file its name, with where it ends; what was written is durable. In a turn.
func (b *body) named(ctx context.Context, g *given) error {
	end := b.ends.Load()
	err := g.file.Name(ctx, end)
	switch {
	case err == nil:
		b.given.Store(nil)
		b.told, b.guess = end, false
		g.became(givenNamed, nil)
	case passes(ctx, err):
		g.doubts()
	default:
		b.refuse(g, err)
	}
	return err
}

// refuse has every handle fail from now on, the close too, as there is nothing that others could ever see.
func (b *body) refuse(g *given, why error) {
	b.stuck, b.lost = why, why
	b.over.Store(true)
	b.given.Store(nil)
	g.became(givenRefused, why)
}

// closeGiven closes a file that has no name yet: with that, if all is well. In a turn that nobody gets any more.
func (b *body) closeGiven(ctx context.Context, g *given, tell bool) error {
	b.given.Store(nil)
	if !tell {
		err := b.file.Close()
		g.became(givenRefused, errDropped)
		return err
	}
	err := g.file.CloseName(ctx, b.ends.Load())
	switch {
	case err == nil:
		g.became(givenNamed, nil)
	case passes(ctx, err):
		g.became(givenUnknown, err)
	default:
		g.became(givenRefused, err)
	}
	return err
}

// unsure has a directory left in which something may be of which nobody knows.
func (t *kept) unsure(path blocktree.Path) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d := t.dirs[path.Parent()]; d != nil {
		d.leaving = true
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

var errNoName = errors.New("there is nothing of that name")

// nothing is the answer to who may know it that there is nothing at a path.
func nothing(path blocktree.Path) error {
	return &blocktree.Error{Op: "stat", Path: path.Short(), Kind: blocktree.NotFound, Err: errNoName}
}

// makeDir makes a directory, and keeps its names if the cluster lets it.
func (s *Service) makeDir(ctx context.Context, o *owner, r *pathRequest) error {
	k, keeps := s.cluster.(keeper)
	return s.kept.change(ctx, "", r.path, func(ctx context.Context) error {
		if keeps && s.kept.takesMore(r.path) {
			d, err := k.MakeDirKept(ctx, o.caller(), r.path, r.mode)
			if d != nil {
				s.kept.keep(r.path, d)
			}
			if blocktree.KindOf(err) != blocktree.Unsupported || err == nil {
				return err
			}
		}
		return s.cluster.MakeDir(ctx, o.caller(), r.path, r.mode)
	})
}
