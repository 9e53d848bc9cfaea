package fs

import (
	"time"

	"blocktree"
)

// What the service says of a directory that it keeps without asking the cluster: docs/design/0087-fewer-messages.md, 3.

// described is what is known of a kept directory; kept.mu is of it.
type described struct {
	info    *Info  // as the cluster said, with the time of what was named since; nil: it is to be asked. What it points to does not change
	said    asking // when the cluster was asked
	moving  int    // changes by this service that go on, and may move its times
	moved   uint64 // kept.moved when the last of these began, or ended, or it came to be kept
	unclear bool   // one of them may be done yet, nobody knows when
}

// describe notes what the cluster said; with mu. What it was asked for before a change began, or ended, may be of before that.
func (d *described) describe(found *Found, asked asking) {
	if found.Inode == nil || d.moved > asked.moved || asked.at.Before(d.said.at) {
		return
	}
	info := InfoOf(found.Inode)
	d.info, d.said = &info, asked
}

// describes is what the cluster would say to an owner of a directory that is kept, nil: it is to be asked.
func (t *kept) describes(o *owner, path blocktree.Path) *Info {
	if t.idle() || o.anonymous {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.describesTo(o, t.dirs[path])
}

// describesTo is describes of one that has its path, nil: of none; with mu.
func (t *kept) describesTo(o *owner, d *keptHere) *Info {
	if d == nil || !d.Counted() || d.leaving || d.info == nil || d.unclear || d.moving > 0 || time.Since(d.said.at) >= blocktree.MountCacheFor {
		return nil
	}
	select {
	case <-d.Wanted():
		return nil
	default:
	}
	number := t.service.cluster.RightsNumber()
	if a, ok := d.callers[o]; !ok || !a.fresh(number) || d.said.number != number || !d.Keeps() {
		return nil
	}
	return d.info
}

// fresh reports whether what was said of a caller counts under a rights number.
func (a *allowance) fresh(number uint64) bool {
	return a.asked.number == number && time.Since(a.asked.at) < blocktree.FSJudgeEvery
}

// move is something that goes on and may move the times of kept directories; kept.mu is of it.
type move struct {
	began uint64 // kept.moved then
	dirs  []*keptHere
}

// add notes that it may be about a directory, too.
func (m *move) add(d *keptHere) {
	m.dirs = append(m.dirs, d)
	d.moving++
	d.moved = max(d.moved, m.began)
}

// end notes what came of it, before that is answered: at is the time that the directories have by it, 0: nobody has said.
func (m *move) end(t *kept, at int64, err error) {
	now := t.moved.Add(1)
	for _, d := range m.dirs {
		d.moving--
		alone := d.moved == m.began // of two at a time nobody has said which was the last
		d.moved = now
		d.unclear = d.unclear || mayBeDone(err)
		if d.info == nil || err != nil || at == 0 || !alone || d.said.moved >= m.began { // what was asked for meanwhile may be of after it
			d.info = nil
			continue
		}
		info := *d.info
		info.Modified, info.Changed = at, at
		d.info = &info
	}
}

// mayBeDone reports whether an error leaves open whether a change was done, or is yet.
func mayBeDone(err error) bool { return err != nil && !refuses(err, true) && !refuses(err, false) }

// moves notes that something is about to be asked for that may move the times of directories. ended is called once, with what move.end wants.
func (t *kept) moves(dirs ...*keptHere) (ended func(at int64, err error)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := &move{began: t.moved.Add(1)}
	for _, d := range dirs {
		m.add(d)
	}
	return func(at int64, err error) {
		t.mu.Lock()
		defer t.mu.Unlock()
		m.end(t, at, err)
	}
}

// alters does something to the times, or the attributes, of what a path or an identity names, which may be a kept directory, or one that is being made.
func (t *kept) alters(r *attrRequest, do func() error) (err error) {
	t.mu.Lock()
	m := &move{began: t.moved.Add(1)}
	t.altering[m] = r
	for _, d := range t.dirs {
		m.altersToo(r, d)
	}
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.altering, m)
		for x := range t.making { // which nobody knows yet
			x.altered, x.unclear = true, x.unclear || mayBeDone(err)
		}
		m.end(t, 0, err)
	}()
	return do()
}

// altersToo is add of a directory that a request about attributes may be about.
func (m *move) altersToo(r *attrRequest, d *keptHere) {
	if d.path == r.path || d.ID() == r.file {
		m.add(d)
	}
}

// describeMade is describe of a directory that was made just now. What was asked for until now may be of before a change that was made meanwhile.
func (t *kept) describeMade(d *keptHere, m *making, made *Found) {
	if !m.altered {
		d.describe(made, m.said)
	}
	for x, r := range t.altering {
		x.altersToo(r, d)
	}
	d.moved, d.unclear = t.moved.Add(1), m.unclear
}
