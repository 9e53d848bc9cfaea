package fs

import (
	"context"
	"errors"
	"time"

	"blocktree"
)

// The service's half of directories that a client fills: docs/design/0086-filled-directories.md.

// aside is a spare that was set aside for somebody.
type aside interface {
	ID() blocktree.FileID
	// Leave gives it back, unless it was used, or is gone. A second time does nothing.
	Leave()
}

// asides are the spares of one owner; kept.mu is of them.
type asides struct {
	spares map[blocktree.FileID]heldAside
	shape  CreateOptions // that the owner asked for
	want   int           // how many he is to have
	taking int           // how many more are being taken for him
	used   time.Time     // when he last filled, or made, anything
}

type heldAside struct {
	aside
	at time.Time
}

// inTerm reports whether an owner may make names by himself yet; with mu.
func (d *keptHere) inTerm(o *owner) bool { return d.granted == o && time.Now().Before(d.term) }

// doubtful has the directory be left, as something may be in it of which nobody knows; with mu.
func (d *keptHere) doubtful() { d.leaving, d.unsure = true, true }

// yield takes the right to fill it, for good, from whoever has it but o, and returns until when he may make names by himself yet; with mu.
func (d *keptHere) yield(o *owner) (until time.Time) {
	if d.filler != o {
		d.filler = nil
	}
	if d.granted != o {
		until = d.term
	}
	return until
}

// isOthers reports whether somebody else than an owner fills it, or may do so yet; with mu.
func (d *keptHere) isOthers(o *owner) bool {
	return d.filler != nil && d.filler != o || d.granted != nil && d.granted != o && time.Now().Before(d.term)
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// waitUntil waits for a time.
func waitUntil(ctx context.Context, until time.Time) error {
	wait := time.Until(until)
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return blocktree.E("fs", blocktree.Unavailable, ctx.Err())
	}
}

// yields takes the right to fill from whoever fills a directory of which somebody else asks what is in it, or wants to change that, and waits until the term has run out, and what the other one sent until then was done: also what he had pending, and sends a little later, but not what he goes on to send.
// A change of a name waits for what is being made whole of that name, in whatever directory, by whomever: that he asks again, maybe by another connection.
func (t *kept) yields(ctx context.Context, o *owner, code uint16, r *pathRequest) error {
	return t.yieldsTo(ctx, o, code, r, func(d *keptHere, by *owner) bool { return by != o && !d.inTerm(o) }) // in a directory that he fills others wait for him
}

// yieldsTo is yields, of what is on its way in a directory by those for whom that is to wait.
func (t *kept) yieldsTo(ctx context.Context, o *owner, code uint16, r *pathRequest, waits func(d *keptHere, by *owner) bool) error {
	if t.idle() {
		return nil
	}
	var until time.Time
	t.mu.Lock()
	t.about(code, r, func(d *keptHere, _ string) { until = later(until, d.yield(o)) })
	t.mu.Unlock()
	if err := waitUntil(ctx, until); err != nil {
		return err
	}
	for last := time.Now().Add(blocktree.FSFillFor); ; {
		wait := t.onTheWay(o, code, r, last, waits)
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

// onTheWay is a file that is being made whole, begun by then, for which an owner's request waits; nil: there is none.
func (t *kept) onTheWay(o *owner, code uint16, r *pathRequest, last time.Time, waits func(d *keptHere, by *owner) bool) (wait <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.about(code, r, func(d *keptHere, name string) {
		for w := range d.wholes {
			if waits(d, w.by) && (name == "" || name == w.path.Base()) && !w.begun.After(last) {
				wait = w.done
			}
		}
	})
	if !changes(code) {
		return wait
	}
	for w := range t.wholes {
		d := t.dirs[w.path.Parent()]
		if (w.path == r.path || w.path == r.to) && !w.begun.After(last) && (w.by == o || d == nil || !d.inTerm(o)) {
			wait = w.done
		}
	}
	return wait
}

// about is called with each kept directory of which a request asks about a name, or about all: ""; with mu.
func (t *kept) about(code uint16, r *pathRequest, do func(d *keptHere, name string)) {
	for _, p := range []blocktree.Path{r.path, r.to} {
		if p == "" {
			continue
		}
		if d := t.dirs[p.Parent()]; d != nil && d.path != p {
			do(d, p.Base())
		}
	}
	if d := t.dirs[r.path]; d != nil && (tellsOfAll(code) || code == codeSetXattr || code == codeRemoveXattr) {
		do(d, "")
	}
}

// tellsOfAll reports whether a request of a directory is about all that is in it.
func tellsOfAll(code uint16) bool {
	return code == codeList || code == codeWatch || code == codeSetTimes // what is made in it later moves its time
}

// giving is the directory of a path, if a file may be made in it for an owner without asking: what the one who fills it sends is done as long as his term runs; with mu.
func (t *kept) giving(o *owner, path blocktree.Path) *keptHere {
	if d := t.dirs[path]; d != nil && d.gives(o) {
		return d
	}
	return nil
}

// gives reports whether files are given away in it to an owner; with mu.
func (d *keptHere) gives(o *owner) bool {
	return d.Keeps() && (!d.leaving || !d.unsure && d.inTerm(o))
}

// errNotFilled is the answer to who may not fill a directory.
var errNotFilled = blocktree.E("fs", blocktree.Unsupported, errors.New("the names of the directory are not given away"))

// fill lets an owner make names by himself in a directory that he has made, and sets spares aside for him.
func (s *Service) fill(ctx context.Context, o *owner, r *pathRequest) ([]byte, error) {
	t, options := &s.kept, r.makes()
	t.mu.Lock()
	d := t.dirs[r.path]
	t.mu.Unlock()
	if d == nil || !t.fills(o, d) || !t.may(ctx, o, d, Write) || !s.roomy(ctx, o, d, options.Code) {
		return nil, errNotFilled
	}
	f := t.granted(ctx, o, d, r, true)
	if f.Term == 0 {
		return nil, errNotFilled
	}
	return encodeFilling(&f), nil
}

// mkdirFill makes a directory, and says how it is, and lets its maker fill it, where nobody is to be asked for that (docs/design/0088).
func (s *Service) mkdirFill(ctx context.Context, o *owner, r *pathRequest) ([]byte, error) {
	d, err := s.makeDir(ctx, o, r)
	if err != nil {
		return nil, err
	}
	var info *Info
	var f Filling
	if d != nil {
		info, f = s.mayFill(ctx, o, d, r)
	}
	return encodeMkdirFill(info, &f), nil
}

// mayFill is what there is to say to the maker of a directory of it, nil: nothing, and what he is granted.
func (s *Service) mayFill(ctx context.Context, o *owner, d *keptHere, r *pathRequest) (info *Info, f Filling) {
	t := &s.kept
	t.mu.Lock()
	info = t.describesTo(o, d) // one whose path is another's by now is left
	t.mu.Unlock()
	if _, may := t.said(o, d, Write); may && t.fills(o, d) && s.stillRoomy(o, d, r.code, true) {
		ctx, cancel := context.WithTimeout(ctx, blocktree.FSFillFor) // a session may be lost, and what was made is to be answered
		defer cancel()
		f = t.granted(ctx, o, d, r, false)
	}
	return info, f
}

// granted sets spares aside for an owner who may fill a directory, waiting for the first, if it may, and lets him: nothing, where either is not to be had.
func (t *kept) granted(ctx context.Context, o *owner, d *keptHere, r *pathRequest, waits bool) Filling {
	n := int(min(r.limit, blocktree.FSFillSparesMax))
	t.wants(o, r.makes(), n)
	spares := t.setAside(ctx, o, d, r.makes(), n, waits)
	if len(spares) > 0 || n == 0 || t.hasAside(o) {
		if term := t.grant(o, d); term > 0 {
			return Filling{Dir: d.ID(), Term: term, Spares: spares}
		}
	}
	for _, id := range spares {
		if x := t.takeAside(o, id); x != nil {
			x.Leave()
		}
	}
	return Filling{}
}

// fills reports whether an owner may fill a directory.
func (t *kept) fills(o *owner, d *keptHere) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return d.filler == o && d.gives(nil) && t.dirs[d.path] == d
}

// grant lets an owner make names in a directory for a term from now on, no longer than it is certainly kept. Zero: not any more.
func (t *kept) grant(o *owner, d *keptHere) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-d.Wanted():
		d.leaving = true
	default:
	}
	now := time.Now()
	if d.filler != o || d.leaving || t.stopping || t.dirs[d.path] != d || now.Sub(d.used) >= blocktree.FSKeptIdleMax { // only what is made is use
		return 0
	}
	term := min(d.KeptFor(), blocktree.FSFillFor)
	if term < blocktree.FSFillForMin {
		return 0
	}
	d.granted, d.term = o, later(d.term, now.Add(term))
	return term
}

// goesOn is what the one who has made a file in a directory is granted anew, and spares in the place of those that he used.
func (s *Service) goesOn(ctx context.Context, o *owner, dir blocktree.Path) (f Filling) {
	t := &s.kept
	t.mu.Lock()
	d, x := t.dirs[dir], t.asides[o]
	var shape CreateOptions
	missing := 0
	if x != nil {
		x.used, shape, missing = time.Now(), x.shape, x.want-len(x.spares)
	}
	t.mu.Unlock()
	if d == nil || x == nil || !t.fills(o, d) || !s.stillRoomy(o, d, shape.Code, false) {
		return f
	}
	if f.Term = t.grant(o, d); f.Term > 0 {
		f.Dir = d.ID()
		f.Spares = t.setAside(ctx, o, d, shape, missing, false)
	}
	return f
}

// roomOf is a cluster, and the code of files.
type roomOf struct {
	cluster blocktree.Generation
	code    blocktree.Code
}

// room is what a cluster said of its room; kept.mu is of it.
type room struct {
	enough bool
	until  time.Time // it is believed
	asking bool      // it is asked anew, beside
}

// room is that of a directory's cluster; with mu.
func (t *kept) room(d *keptHere, code blocktree.Code) *room {
	of := roomOf{d.ID().Generation, code}
	x := t.rooms[of]
	if x != nil {
		return x
	}
	if len(t.rooms) >= blocktree.FSRoomsMax {
		var first roomOf
		for of, x := range t.rooms {
			if o := t.rooms[first]; o == nil || x.until.Before(o.until) {
				first = of
			}
		}
		delete(t.rooms, first)
	}
	x = &room{}
	t.rooms[of] = x
	return x
}

// roomy reports whether a cluster has room enough left, so that what is made in one of its directories is not refused.
func (s *Service) roomy(ctx context.Context, o *owner, d *keptHere, code blocktree.Code) bool {
	s.kept.mu.Lock()
	x := s.kept.room(d, code)
	enough, known := x.enough, time.Now().Before(x.until)
	s.kept.mu.Unlock()
	return known && enough || !known && s.asksRoom(ctx, o, d, code, x)
}

// stillRoomy is roomy as it was known last; with lately, if that is believed yet. When it is not it is asked for anew, beside, as nodes may not answer.
func (s *Service) stillRoomy(o *owner, d *keptHere, code blocktree.Code, lately bool) bool {
	t := &s.kept
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.room(d, code)
	old := !time.Now().Before(x.until)
	if old && !x.asking {
		x.asking = t.work(func(ctx context.Context) { s.asksRoom(ctx, o, d, code, x) })
	}
	return x.enough && !(lately && old)
}

// asksRoom asks a cluster. That it does not say is not believed for long, as it may be for a moment, and not at all where that is for the directory by which it was asked, which may be gone by then, or for who asked: it is of all others, too.
func (s *Service) asksRoom(ctx context.Context, o *owner, d *keptHere, code blocktree.Code, x *room) bool {
	space, err := s.cluster.Space(ctx, o.caller(), d.path, code)
	believed := blocktree.SpaceBelievedFor
	if err != nil {
		believed = blocktree.FSJudgeEvery
	}
	s.kept.mu.Lock()
	defer s.kept.mu.Unlock()
	if kind := blocktree.KindOf(err); err != nil && (kind == blocktree.NotFound || kind == blocktree.Permission) {
		x.asking = false
		return false
	}
	x.enough, x.until, x.asking = err == nil && space.FreeBytes >= blocktree.FSFillRoomBytes, time.Now().Add(believed), false
	return x.enough
}

// asidesOf are the spares of an owner; with mu.
func (t *kept) asidesOf(o *owner) *asides {
	x := t.asides[o]
	if x == nil {
		x = &asides{spares: map[blocktree.FileID]heldAside{}}
		t.asides[o] = x
		t.counted()
	}
	x.used = time.Now()
	return x
}

// wants notes how many more spares an owner wants, and of which shape.
func (t *kept) wants(o *owner, shape CreateOptions, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.asidesOf(o)
	x.shape, x.want = shape, max(x.want, min(len(x.spares)+n, blocktree.FSFillSparesMax))
}

// setAside sets n spares aside for an owner, at most, and as many as there may be. It waits for the first, if it may.
func (t *kept) setAside(ctx context.Context, o *owner, d keptDir, shape CreateOptions, n int, waits bool) (ids []blocktree.FileID) {
	ids, _ = t.setAsideOf(ctx, o, d, shape, n, waits, false) // without any it is done as before
	return ids
}

// setAsideOf is setAside, and says why there is none; with other in the place of a spare that is not to be had, also for a principal that has all by which it may fill, and not for good.
func (t *kept) setAsideOf(ctx context.Context, o *owner, d keptDir, shape CreateOptions, n int, waits, other bool) (ids []blocktree.FileID, err error) {
	most := blocktree.FSFillSparesOfAllMax / 2
	if other {
		most = blocktree.FSFillSparesOfAllMax * 3 / 4
	}
	t.mu.Lock()
	x := t.asidesOf(o)
	if other && x.want == 0 {
		x.shape, x.want = shape, min(len(x.spares)+n, blocktree.FSFillSparesMax)
	}
	n = max(0, min(n, blocktree.FSFillSparesMax-len(x.spares)-x.taking, blocktree.FSFillSparesOfAllMax-t.aside, most-t.asideOf(o)))
	t.aside += n
	x.taking += n
	t.mu.Unlock()
	var taken []aside
	if n > 0 {
		taken, err = d.TakeSpares(ctx, shape, n, waits)
	}
	t.mu.Lock()
	t.aside -= n - len(taken)
	x.taking -= n
	there := t.asides[o] == x // he has not ended
	x.used = time.Now()
	for _, a := range taken {
		if there {
			x.spares[a.ID()] = heldAside{a, time.Now()}
			ids = append(ids, a.ID())
		}
	}
	if !there {
		t.aside -= len(taken)
	}
	t.mu.Unlock()
	for _, a := range taken[len(ids):] {
		a.Leave()
	}
	return ids, err
}

// asideOf is how many spares are set aside, or being taken, for the principal of an owner; with mu.
func (t *kept) asideOf(o *owner) (n int) {
	for other, x := range t.asides {
		if other.caller().Principal == o.caller().Principal {
			n += len(x.spares) + x.taking
		}
	}
	return n
}

// hasAside reports whether spares are set aside for an owner.
func (t *kept) hasAside(o *owner) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.asides[o]
	return x != nil && len(x.spares) > 0
}

// takeAside takes a spare that was set aside for an owner, and is his from then on; nil: there is no such one.
func (t *kept) takeAside(o *owner, id blocktree.FileID) aside {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.asides[o]
	if x == nil {
		return nil
	}
	x.used = time.Now()
	a, ok := x.spares[id]
	if !ok {
		return nil
	}
	delete(x.spares, id)
	t.aside--
	return a.aside
}

// spareOf takes the spare that a request names, to be left by who asks unless it was used; nil: it names none, or none of this owner.
func (t *kept) spareOf(o *owner, r *pathRequest) aside {
	if r.flags&flagSpare == 0 {
		return nil
	}
	return t.takeAside(o, r.file)
}

// agedAsides takes what is set aside for too long; with mu.
func (t *kept) agedAsides(now time.Time) (old []aside) {
	for o, x := range t.asides {
		idle := x.taking == 0 && now.Sub(x.used) >= blocktree.FSFillSparesFor
		for id, a := range x.spares {
			if idle || now.Sub(a.at) >= blocktree.FSFillSpareFor {
				old = append(old, a.aside)
				delete(x.spares, id)
				t.aside--
			}
		}
		if idle {
			delete(t.asides, o)
		}
	}
	return old
}

// forget gives back what is set aside for an owner who has ended. What he may have been granted runs out.
func (t *kept) forget(o *owner) {
	t.mu.Lock()
	x := t.asides[o]
	delete(t.asides, o)
	if x != nil {
		t.aside -= len(x.spares)
	}
	t.mu.Unlock()
	if x == nil {
		return
	}
	for _, a := range x.spares { // nobody else has them
		a.Leave()
	}
}
