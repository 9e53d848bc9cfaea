package fs

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"blocktree"
)

// watch is the actor of a watched directory (docs/design/0059, item 12): run is its goroutine, the only one that looks at what is not said to be others'.
type watch struct {
	actor   // others'
	service *Service
	owner   *owner
	path    blocktree.Path // others', set once
	id      blocktree.FileID
	ctx     context.Context
	events  happened    // others'
	moved   atomic.Bool // others': it may be another directory that is there now

	changed int64     // when an entry last changed, as it was last seen; 0: nobody notes it
	judged  time.Time // when the cluster was last asked about the caller
	number  uint64    // the rights number that it was asked under
	doubt   bool      // it was asked since, and did not answer
	used    time.Time
	waiter  *message // who waits for events, nil if nobody does
	until   time.Time
}

// happened are the events that nobody has heard of yet. The events of a watch are numbered from 1 on.
type happened struct {
	mu       sync.Mutex
	last     uint64 // event that was
	given    uint64 // the last one that somebody was told of, and may have heard of
	lost     uint64 // the last one that is known by its number alone, 0 if there is none
	waiting  []Event
	numbered []uint64 // of these
}

// add notes an event; that of no name says that anything may have changed.
func (h *happened) add(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.waiting)
	if n > 0 && e.Kind == EventChanged && h.waiting[n-1] == e && h.numbered[n-1] > h.given { // who has not heard of the first needs no second
		return
	}
	h.last++
	if h.lost > h.given || e.Overflow || n >= blocktree.FSWatchEventsMax {
		h.lost, h.waiting, h.numbered = h.last, nil, nil
		return
	}
	h.waiting, h.numbered = append(h.waiting, e), append(h.numbered, h.last)
}

// after returns what came after an event, which is forgotten with those before it, and the number of the last one. It fails with Invalid where there was no such event.
func (h *happened) after(heard uint64) (events []Event, last uint64, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if heard > h.last {
		return nil, 0, blocktree.E("watch", blocktree.Invalid, errors.New("an event that never was"))
	}
	if h.lost <= heard {
		h.lost = 0
	}
	for len(h.waiting) > 0 && h.numbered[0] <= heard {
		h.waiting, h.numbered = h.waiting[1:], h.numbered[1:]
	}
	if h.lost != 0 { // what waits came after that
		h.given = max(h.given, h.lost)
		return []Event{{Overflow: true}}, h.lost, nil
	}
	h.given = h.last
	return append([]Event(nil), h.waiting...), h.last, nil
}

// openWatch begins to watch a directory for the owner, and answers with its handle.
func (s *Service) openWatch(ctx context.Context, o *owner, r *pathRequest) ([]byte, error) {
	w := &watch{actor: actor{box: newMailbox()}, service: s, owner: o, path: r.path, number: s.cluster.RightsNumber(), judged: time.Now()}
	if !tryEnter(o.watches) {
		return nil, &blocktree.Error{Op: "watch", Path: r.path.Short(), Kind: blocktree.TooLarge, Err: errors.New("too many watches on this connection"), Hint: "close some of them"}
	}
	err := s.watches.enter(w) // before it is looked at: what changes from then on is an event
	if err == nil {
		var info Info
		if info, err = w.first(ctx); err == nil {
			return encodeOpened(w.handle, &info), nil
		}
		s.watches.leave(w)
	}
	leave(o.watches)
	return nil, err
}

// first looks at the directory, and starts the actor.
func (w *watch) first(ctx context.Context) (Info, error) {
	s := w.service
	found, err := s.look(ctx, w.owner.caller(), w.path, List)
	if err != nil {
		return Info{}, err
	}
	info := InfoOf(found.Inode)
	if !info.Dir {
		return Info{}, &blocktree.Error{Op: "watch", Path: w.path.Short(), Kind: blocktree.Invalid, Err: errors.New("it is no directory"), Hint: "watch the directory that it is in"}
	}
	w.id, w.changed, w.used = info.ID, noted(&found), time.Now()
	if s.files.Add(1) > blocktree.FSOpenFilesMax {
		s.files.Add(-1)
		return Info{}, busy("too many open files")
	}
	w.ctx, w.cancel = context.WithCancel(s.ctx)
	if err = w.owner.add(&w.actor); err == nil {
		if err = s.task(w.run); err == nil {
			return info, nil
		}
		w.owner.forget(&w.actor)
	}
	w.cancel()
	s.files.Add(-1)
	return Info{}, err
}

// noted is when an entry of a directory last changed, 0 where nobody notes that: where a member of a version before is, or another cluster keeps the entries.
func noted(f *Found) int64 {
	if f.Inode.Delegation != nil {
		return 0
	}
	return f.Inode.Changed
}

// run serves until the watch is closed, the right is gone, or the directory, nobody has asked for anything for too long, or the owner has ended.
func (w *watch) run() {
	why := undeliverable("the watch was closed")
	defer func() {
		w.service.watches.leave(w)
		leave(w.owner.watches)
		w.owner.forget(&w.actor)
		w.cancel()
		w.service.files.Add(-1)
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for w.ctx.Err() == nil {
		if m := w.box.take(); m != nil {
			w.used = time.Now()
			if m.code == codeClose {
				w.answer(nil, why)
				w.box.close(why)
				m.done(nil, nil)
				return
			}
			w.answer(nil, blocktree.E("watch", blocktree.Canceled, errors.New("it was asked once more")))
			w.waiter, w.until = m, time.Now().Add(blocktree.FSWatchWaitMax)
			continue
		}
		if err := w.attend(); err != nil {
			why = err
			break
		}
		timer.Reset(w.rest())
		select {
		case <-w.ctx.Done():
		case <-w.box.wake:
		case <-timer.C:
		}
	}
	w.answer(nil, why)
	w.box.close(why)
}

// answer answers who waits, if somebody does.
func (w *watch) answer(bytes []byte, err error) {
	if m := w.waiter; m != nil {
		w.waiter = nil
		m.done(bytes, err)
	}
}

// attend judges what is due, and tells who waits what has happened, or that nothing has for a while. An error ends the watch.
func (w *watch) attend() error {
	now := time.Now()
	if now.Sub(w.used) >= w.service.idle(w.owner) {
		return undeliverable("the watch was closed: nothing was asked of it for " + w.service.idle(w.owner).String())
	}
	ctx, cancel := context.WithTimeout(w.ctx, blocktree.FSJudgeEvery)
	defer cancel()
	err := w.judge(ctx)
	if gone := (*refusal)(nil); errors.As(err, &gone) {
		w.answer(nil, gone.err)
		return undeliverable("the watch was closed: " + gone.err.Error())
	}
	if err != nil { // nothing is told, and it is asked again after a while, or when the client asks
		w.judged, w.doubt = now, true
		w.answer(nil, err)
		return nil
	}
	if w.waiter == nil {
		return nil
	}
	events, last, err := w.events.after(w.waiter.off)
	switch {
	case err != nil:
		w.answer(nil, err)
	case len(events) > 0 || !time.Now().Before(w.until):
		w.answer(encodeEvents(last, events), nil)
	}
	return nil
}

// judge asks the cluster about the caller and the directory, unless it said yes lately, and nothing has moved since. A no is a refusal.
func (w *watch) judge(ctx context.Context) error {
	number, now := w.service.cluster.RightsNumber(), time.Now() // before it is asked
	if moved := w.moved.Swap(false); !moved && number == w.number && !(w.doubt && w.waiter != nil) && now.Sub(w.judged) < blocktree.FSJudgeEvery {
		return nil
	}
	caller := w.owner.caller()
	found, err := w.service.look(ctx, caller, w.path, List)
	switch blocktree.KindOf(err) {
	case blocktree.Permission, blocktree.NotFound, blocktree.Unauthenticated:
		w.service.refused("watch", w.owner, w.path, err)
		return &refusal{hide(caller, err)}
	}
	if err != nil {
		w.moved.Store(true)
		return err
	}
	if found.Inode.ID != w.id {
		return &refusal{&blocktree.Error{Op: "watch", Path: w.path.Short(), Kind: blocktree.NotFound, Err: errors.New("another directory has its place")}}
	}
	if changed := noted(&found); changed == 0 || changed != w.changed { // by whom, nobody says
		w.changed = changed
		w.events.add(Event{Overflow: true})
	}
	w.number, w.judged, w.doubt = number, now, false
	return nil
}

// rest is how long nothing has to be done unless something happens.
func (w *watch) rest() time.Duration {
	until := earlier(w.used.Add(w.service.idle(w.owner)), w.judged.Add(blocktree.FSJudgeEvery))
	if w.waiter != nil {
		until = earlier(until, w.until)
	}
	return max(0, time.Until(until))
}

// watches are those of a service. They are looked at by what changes names, when there are some.
type watches struct {
	number atomic.Int64
	mu     sync.Mutex
	all    map[*watch]struct{}
}

// enter adds a watch. It fails with Unavailable when there are too many.
func (x *watches) enter(w *watch) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.all) >= blocktree.FSWatchesMax {
		return busy("too many watches")
	}
	x.all[w] = struct{}{}
	x.number.Store(int64(len(x.all)))
	return nil
}

func (x *watches) leave(w *watch) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.all, w)
	x.number.Store(int64(len(x.all)))
}

// wake has the actor look at what is new.
func (w *watch) wake() {
	select {
	case w.box.wake <- struct{}{}:
	default:
	}
}

// tell tells who watches its directory what happened to a path.
func (x *watches) tell(path blocktree.Path, kind EventKind) {
	if x.number.Load() == 0 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for w := range x.all {
		if w.path == path.Parent() && w.path != path {
			w.events.add(Event{Name: path.Base(), Kind: kind})
			w.wake()
		}
	}
}

// shift has those who watch a path, or what is beneath, look whether that is still there.
func (x *watches) shift(path blocktree.Path) {
	if x.number.Load() == 0 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for w := range x.all {
		if w.path.Within(path) {
			w.moved.Store(true)
			w.wake()
		}
	}
}

// told tells what was done by a request about paths.
func (x *watches) told(code uint16, r *pathRequest) {
	switch code {
	case codeCreate, codeMakeOpen, codeMkdir, codeMkdirFill, codeSymlink: // not codeMakeWhole: that goes on when nobody waits for it
		x.tell(r.path, EventMade)
	case codeRemove, codeRemoveFile:
		x.tell(r.path, EventGone)
		x.shift(r.path)
	case codeRename:
		x.tell(r.path, EventGone)
		x.tell(r.to, EventMade)
		x.shift(r.path)
		x.shift(r.to)
	case codeResize, codeLength, codeTruncate, codeSetTimes, codeSetXattr, codeRemoveXattr:
		x.tell(r.path, EventChanged)
	}
}
