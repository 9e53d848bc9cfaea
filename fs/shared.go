package fs

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
)

// tellTimeout bounds how long the last writer of a file waits, when it closes, until the cluster knows where the file ends.
const tellTimeout = 5 * time.Second

// shared is what the handles of one file have in common (docs/design/0059): it is there as long as one of them is.
type shared struct {
	id    blocktree.FileID
	users int // of the table
	// body is what the file's writers write; nil while there are none.
	body  atomic.Pointer[body]
	locks locks
	news  atomic.Uint64 // moves when there come to be writers, or none, and when a time is set here: what was heard of the file before is old

	nameless atomic.Bool // it was removed, and is kept for those who have it open
	forgets  []func()    // of the table: what is to be done when nobody has it open any more

	opening chan struct{} // holds a token while somebody opens or closes the body
	// Whose turn it is at opening looks at these.
	writers int
	told    bool                        // under which epoch the only one writes: who comes beside it takes the file on to the next (docs/design/0075)
	of      map[blocktree.Principal]int // how many of the writers are whose
}

// sharing are the files that are open at the service. It is asked when files are opened and closed, and about paths.
type sharing struct {
	mu    sync.Mutex
	files map[blocktree.FileID]*shared
	names map[blocktree.Path]*named
}

// enter returns what the handles of a file share, for one more of them.
func (t *sharing) enter(id blocktree.FileID) *shared {
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.files[id]
	if x == nil {
		x = &shared{id: id, opening: make(chan struct{}, 1)}
		t.files[id] = x
	}
	x.users++
	return x
}

// leave is for one less. What is kept without a name is forgotten with the last.
func (t *sharing) leave(x *shared) {
	t.mu.Lock()
	var forgets []func()
	if x.users--; x.users == 0 {
		delete(t.files, x.id)
		forgets = x.forgets
	}
	t.mu.Unlock()
	for _, forget := range forgets {
		forget()
	}
}

// writing is the body, nil while there is none, and where it can do nothing any more: the cluster knows better then than who has it open still.
func (x *shared) writing() *body {
	if b := x.body.Load(); b != nil && !b.over.Load() {
		return b
	}
	return nil
}

// written returns what is written of a file, nil where nobody here writes it.
func (t *sharing) written(id blocktree.FileID) *body {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x := t.files[id]; x != nil {
		return x.writing()
	}
	return nil
}

// askAnew has who has a file open ask the cluster what it is like now.
func (t *sharing) askAnew(id blocktree.FileID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if x := t.files[id]; x != nil {
		x.news.Add(1)
	}
}

// heard is a number that moves when what was heard of the file before is old.
func (x *shared) heard() uint64 {
	n := x.news.Load()
	if b := x.body.Load(); b != nil {
		n += b.cuts.Load() << 32
	}
	return n
}

// seen has a description say what the writers of this service know better than the cluster.
func (t *sharing) seen(info *Info) {
	if info.Dir {
		return
	}
	if b := t.written(info.ID); b != nil {
		b.describe(info)
	}
}

// describe has a description say where the file ends.
func (b *body) describe(info *Info) {
	if b.ender == nil {
		return
	}
	info.SizeBytes = max(info.SizeBytes, b.size())
	info.Length = min(b.end(), info.SizeBytes)
}

// enter has nobody else open or close the body until leave.
func (x *shared) enter(ctx context.Context) error {
	select {
	case x.opening <- struct{}{}:
		return nil
	case <-ctx.Done():
		return blocktree.E("fs", blocktree.Unavailable, ctx.Err())
	}
}

func (x *shared) leave() { <-x.opening }

// write returns the body, opened if it is not, for one more writer of a principal, who is Busy if he must not have it open already. tell has the writer be told under which epoch it writes, and that nobody else does, if so.
func (x *shared) write(ctx context.Context, by blocktree.Principal, anew bool, tell func(*body) bool, open func(context.Context) (*body, error)) (*body, error) {
	if err := x.enter(ctx); err != nil {
		return nil, err
	}
	defer x.leave()
	b := x.body.Load()
	if b != nil && b.over.Load() { // those who have it are told why; its lease is wanted
		_ = b.close(ctx, errAnew) // what it says they have been told, or will be
		x.body.Store(nil)
		x.news.Add(1)
		b = nil
	}
	var err error
	switch {
	case b == nil:
		if b, err = open(ctx); err != nil {
			return nil, err
		}
		x.body.Store(b)
		x.news.Add(1)
		x.writers, x.of, x.told = 0, map[blocktree.Principal]int{}, tell != nil && tell(b)
	case anew && x.of[by] > 0:
		return nil, errStillOpen
	case x.told:
		if b, err = x.succeed(ctx, b, open); err != nil {
			return nil, err
		}
	}
	x.writers++
	x.of[by]++
	return b, nil
}

// succeed has the file written under the next epoch, so that nobody who was told of this one takes what is done from now on for its own. Who calls it has entered.
func (x *shared) succeed(ctx context.Context, b *body, open func(context.Context) (*body, error)) (*body, error) {
	next, err := b.succeed(ctx, open)
	if err != nil {
		return nil, err
	}
	x.body.Store(next)
	x.news.Add(1)
	x.told = false
	return next, nil
}

// notAlone is succeed, if somebody was told, for who changes the file and does not come to write it.
func (x *shared) notAlone(ctx context.Context, open func(context.Context) (*body, error)) error {
	if err := x.enter(ctx); err != nil {
		return err
	}
	defer x.leave()
	b := x.writing()
	if b == nil || !x.told {
		return nil
	}
	_, err := x.succeed(ctx, b, open)
	return err
}

var errAnew = &blocktree.Error{Op: "fs", Kind: blocktree.Closed, Err: errors.New("it failed, and was opened anew by somebody else"), Hint: "open it again"}

// errStillOpen is for who has it open by a connection that broke, and of which the service has not heard the end.
var errStillOpen = &blocktree.Error{Op: "fs", Kind: blocktree.Busy, Err: errors.New("it is open for writing by another connection of the same principal"), Hint: "that ends within seconds if it broke"}

// done is for one writer less. The last one closes the body: the cluster knows then where the file ends, and others may write it. With flushed all that was written is durable then, or an error says that it may not be.
func (s *Service) done(x *shared, b *body, by blocktree.Principal, flushed bool) (err error) {
	wait := tellTimeout
	if flushed {
		wait = fileTimeout
	}
	x.opening <- struct{}{} // whoever has it is bounded by its context
	defer x.leave()
	b = b.newest()
	if x.body.Load() != b { // it was opened anew
		if flushed {
			err = errAnew
		}
		return err
	}
	if x.of[by]--; x.of[by] <= 0 {
		delete(x.of, by)
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if x.writers--; x.writers > 0 {
		if flushed {
			err = b.do(ctx, func() error { return b.flush(ctx) })
		}
		return err
	}
	if flushed {
		err = b.settle(ctx)
	}
	if e := b.close(ctx, errAnew); err == nil {
		err = e
	}
	x.body.Store(nil)
	x.news.Add(1)
	s.closings.Add(1)
	return err
}

// openBody opens a file to write it, for somebody who may.
func (s *Service) openBody(ctx context.Context, caller cred.Identity, path blocktree.Path, info *Info) (*body, error) {
	return s.openBodyBy(ctx, caller, path, info, OpenOptions{Write: true, Plain: !info.Encrypted})
}

func (s *Service) openBodyBy(ctx context.Context, caller cred.Identity, path blocktree.Path, info *Info, o OpenOptions) (*body, error) {
	f, err := s.open(ctx, caller, path, info.ID, o)
	if err != nil {
		return nil, err
	}
	b, err := newBody(ctx, f, info)
	if err != nil {
		_ = f.Close() // nothing was done with it
	}
	return b, err
}
