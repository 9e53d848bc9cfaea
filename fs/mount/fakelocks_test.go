package mount

import (
	"context"

	"blocktree"
	"blocktree/fs"
)

// fakeLock is a lock that somebody has at the fake.
type fakeLock struct {
	by        *opened
	client    int
	owner     uint64
	from, to  uint64
	exclusive bool
}

// Open has what is open take locks, too.
func (a *able) Open(ctx context.Context, path blocktree.Path, o fs.OpenOptions) (fs.File, error) {
	f, err := a.fake.Open(ctx, path, o)
	switch f := f.(type) {
	case *growing:
		return &growingLocked{f, lockers{f.opened, a.client}}, err
	case *opened:
		return &struct {
			*opened
			lockers
		}{f, lockers{f, a.client}}, err
	}
	return f, err
}

// growingLocked is one whose end moves, and that can be locked.
type growingLocked struct {
	*growing
	lockers
}

func (f *growingLocked) Stat(ctx context.Context) (fs.Info, error) { return f.growing.Stat(ctx) }

// lockers has the locks of an open file of a client.
type lockers struct {
	by     *opened
	client int
}

func (l lockers) LockOwner(n uint64) fs.Locker { return fakeLocker{l, n} }

// Stat has an open file say where it ends by now.
func (l lockers) Stat(context.Context) (fs.Info, error) {
	l.by.fake.mu.Lock()
	defer l.by.fake.mu.Unlock()
	info := l.by.info
	info.Length = uint64(len(l.by.written))
	return info, l.by.down()
}

type fakeLocker struct {
	lockers
	owner uint64
}

// against is what is in the way; with the fake's lock.
func (l fakeLocker) against(want fakeLock) *fakeLock {
	for _, h := range l.by.fake.locked[l.by.info.ID] {
		if (h.client != want.client || h.owner != want.owner) && h.from < want.to && want.from < h.to && (h.exclusive || want.exclusive) {
			return &h
		}
	}
	return nil
}

func (l fakeLocker) Lock(ctx context.Context, off, bytes uint64, exclusive, wait bool) error {
	want := fakeLock{l.by, l.client, l.owner, off, off + bytes, exclusive}
	for {
		c := l.by.fake
		c.mu.Lock()
		if err := l.by.down(); err != nil {
			c.mu.Unlock()
			return err
		}
		if l.against(want) == nil {
			l.cut(off, off+bytes)
			c.locked[l.by.info.ID] = append(c.locked[l.by.info.ID], want)
			c.mu.Unlock()
			return nil
		}
		freed := c.freed
		c.mu.Unlock()
		if !wait {
			return blocktree.E("fake", blocktree.Busy, nil)
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return blocktree.E("fake", blocktree.Canceled, ctx.Err())
		}
	}
}

// cut takes a range from the owner; with the fake's lock.
func (l fakeLocker) cut(from, to uint64) {
	var left []fakeLock
	for _, h := range l.by.fake.locked[l.by.info.ID] {
		if h.client != l.client || h.owner != l.owner {
			left = append(left, h)
			continue
		}
		if before := h; h.from < from {
			before.to = min(h.to, from)
			left = append(left, before)
		}
		if after := h; h.to > to {
			after.from = max(h.from, to)
			left = append(left, after)
		}
	}
	l.by.fake.locked[l.by.info.ID] = left
}

func (l fakeLocker) Unlock(_ context.Context, off, bytes uint64) error {
	c := l.by.fake
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := l.by.down(); err != nil {
		return err
	}
	l.cut(off, off+bytes)
	c.wake()
	return nil
}

func (l fakeLocker) TestLock(_ context.Context, off, bytes uint64, exclusive bool) (fs.Lock, error) {
	c := l.by.fake
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := l.by.down(); err != nil {
		return fs.Lock{}, err
	}
	h := l.against(fakeLock{l.by, l.client, l.owner, off, off + bytes, exclusive})
	if h == nil {
		return fs.Lock{}, nil
	}
	return fs.Lock{Held: true, Off: h.from, Bytes: h.to - h.from, Exclusive: h.exclusive}, nil
}

// wake wakes who waits; with the fake's lock.
func (c *fake) wake() {
	close(c.freed)
	c.freed = make(chan struct{})
}

// unlock takes what an open file has locked; with the fake's lock.
func (c *fake) unlock(f *opened) {
	var left []fakeLock
	for _, h := range c.locked[f.info.ID] {
		if h.by != f {
			left = append(left, h)
		}
	}
	c.locked[f.info.ID] = left
	c.wake()
}
