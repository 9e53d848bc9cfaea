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
	moved   uint64 // kept.moved when the last of these began, or ended
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
	d := t.dirs[path]
	if d == nil || d.leaving || d.info == nil || d.unclear || d.moving > 0 || time.Since(d.said.at) >= blocktree.MountCacheFor {
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

// moves notes that something is about to be asked for that may move the times of directories. ended is called once, before the answer: at is the time that they have by it, 0: nobody has said.
func (t *kept) moves(dirs ...*keptHere) (ended func(at int64, err error)) {
	if len(dirs) == 0 {
		return func(int64, error) {}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	began := t.moved.Add(1)
	for _, d := range dirs {
		d.moving++
		d.moved = began
	}
	return func(at int64, err error) {
		t.mu.Lock()
		defer t.mu.Unlock()
		now := t.moved.Add(1)
		for _, d := range dirs {
			d.moving--
			alone := d.moved == began // of two at a time nobody has said which was the last
			d.moved = now
			if err != nil && !refuses(err, true) && !refuses(err, false) {
				d.unclear = true
			}
			if d.info == nil || err != nil || at == 0 || !alone {
				d.info = nil
				continue
			}
			info := *d.info
			info.Modified, info.Changed = at, at
			d.info = &info
		}
	}
}

// alters does something to the times, or the attributes, of what a path or an identity names, which may be a kept directory, or one that is being made.
func (t *kept) alters(r *attrRequest, do func() error) (err error) {
	t.mu.Lock()
	t.altering++
	for m := range t.making {
		m.altered = true
	}
	t.mu.Unlock()
	ended := t.moves(t.altered(r)...)
	defer func() {
		ended(0, err)
		t.moves(t.altered(r)...)(0, err) // what is kept since then, too
		t.mu.Lock()
		defer t.mu.Unlock()
		t.altering--
	}()
	return do()
}

// altered are the kept directories that a request about attributes may be about.
func (t *kept) altered(r *attrRequest) (dirs []*keptHere) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for path, d := range t.dirs {
		if path == r.path || d.ID() == r.file {
			dirs = append(dirs, d)
		}
	}
	return dirs
}
