package fs

import (
	"context"
	"errors"
	"io"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/crypto/cred"
)

// openFile is the actor of an open file: run is its goroutine, the only one that looks at what is not said to be others'.
type openFile struct {
	actor   // others'
	service *Service
	owner   *owner
	path    blocktree.Path
	info    Info
	write   bool

	ctx context.Context // ends when the owner has, or the service stops

	shared   *shared             // with the other handles of the file
	made     blocktree.File      // that was made just now, and is nobody's yet
	given    *given              // nil: it had its name when it was opened
	body     *body               // of a file that is open for writing
	writer   blocktree.Principal // who counts as its writer
	tell     bool                // it is to be told under which epoch it writes
	under    epochs              // which was told
	beside   bool                // somebody else came to write it since
	news     uint64              // what shared.heard was when the cluster was last asked
	closings uint64              // what Service.closings was when it was first asked
	file     blocktree.File      // of one that is open to read; nil while it is not read
	loss     uint64              // its loss number when its sectors were first opened
	known    bool                // whether that was asked for
	stuck    error               // Lost
	judged   time.Time           // when the cluster was last asked about the caller
	number   uint64              // the rights number that it was asked under, or an older one
	doubt    bool                // it was asked since, and did not answer
	locked   bool                // it has, or had, locks
	used     time.Time           // when something was last asked of it
	lastRead time.Time
}

// caller is who has the file open.
func (a *openFile) caller() cred.Identity { return a.owner.caller() }

// want are the rights that an open file needs.
func (a *openFile) want() Rights {
	if a.write {
		return Read | Write | Lease
	}
	return Read
}

// run serves until the file is closed, the right is gone, nobody has asked for anything for too long, or the owner has ended.
func (a *openFile) run() {
	defer a.service.files.Add(-1)
	defer a.owner.forget(&a.actor)
	defer a.service.sharing.leave(a.shared)
	why := undeliverable("the file was closed")
	timer := time.NewTimer(a.rest())
	defer timer.Stop()
	for a.ctx.Err() == nil {
		m := a.box.take()
		if m == nil {
			timer.Reset(a.rest())
			select {
			case <-a.ctx.Done():
			case <-a.box.wake:
			case <-timer.C:
				if err := a.tend(); err != nil {
					why = err
					a.cancel()
				}
			}
			continue
		}
		a.used = time.Now()
		bytes, err := []byte(nil), error(nil)
		switch m.code {
		case codeFinish:
			err = a.mayFinish()
		case codeWriteFinish:
			err = a.writeFirst(m)
		}
		if m.code == codeClose || m.code == codeFinish && err == nil {
			a.cancel()
			a.shared.locks.drop(a, why)
			err := a.release(m.code == codeFinish)
			a.box.close(why)
			m.done(nil, err)
			return
		}
		if m.code != codeFinish && m.code != codeWriteFinish {
			bytes, err = a.do(m)
		}
		if gone := (*refusal)(nil); errors.As(err, &gone) {
			why = undeliverable("the file was closed: " + gone.err.Error())
			err = gone.err
			a.cancel()
		}
		if err != errLater {
			m.done(bytes, err)
		}
	}
	a.box.close(why)
	a.shared.locks.drop(a, why)
	_ = a.release(false) // there is nobody to tell; a lease that is not given back ends with the session
}

// refusal is an error after which the file is not open any more: the cluster has said no.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }

// do does what a message asks for, if the caller still may.
func (a *openFile) do(m *message) ([]byte, error) {
	ctx, cancel := context.WithTimeout(a.ctx, fileTimeout)
	defer cancel()
	if err := a.judge(ctx); err != nil {
		return nil, err
	}
	switch m.code {
	case codeRead, codeSum:
		bytes, err := a.read(ctx, m)
		if err == nil { // somebody's right went meanwhile, or it took so long that it may have ended
			err = a.judge(ctx)
		}
		if err != nil {
			return nil, err
		}
		if m.code == codeSum {
			return encodeSum(bytes), nil
		}
		return bytes, nil
	case codeFileStat:
		return a.stat(), nil
	case codeLock:
		return a.lock(m)
	}
	if !a.write {
		return nil, blocktree.E("fs", blocktree.ReadOnly, errors.New("the file is open for reading"))
	}
	return a.change(ctx, m)
}

// change does what a message asks to have done to the file, in a turn of its own.
func (a *openFile) change(ctx context.Context, m *message) (reply []byte, err error) {
	for {
		if m.again && (a.under.held == 0 || a.beside) {
			return nil, errBeside
		}
		if reply, err = a.changeOnce(ctx, m); !errors.Is(err, errSucceeded) {
			return reply, err
		}
		a.follow()
	}
}

// follow goes on with what all write after somebody else came to write the file.
func (a *openFile) follow() { a.body, a.beside = a.body.newest(), true }

func (a *openFile) changeOnce(ctx context.Context, m *message) (reply []byte, err error) {
	b := a.body
	err = b.do(ctx, func() error {
		if err := a.judge(ctx); err != nil { // the turn may have been long in coming
			return err
		}
		switch m.code {
		case codeWrite:
			return b.write(ctx, m.data, m.off)
		case codePunch:
			return a.punch(ctx, m.off, uint64(m.count))
		case codeFlush:
			return b.flush(ctx)
		case codeCut:
			return b.truncate(ctx, m.off)
		case codeAllocate:
			return b.lengthen(ctx, m.off)
		case codeAppend:
			off, err := b.add(ctx, m.data)
			reply = encodeOffset(off)
			return err
		}
		return blocktree.E("fs", blocktree.Unsupported, nil)
	})
	if err == nil && (m.code == codeFlush || m.code == codeCut || m.code == codeAllocate) { // others see it from now on
		a.changed()
	}
	return reply, err
}

// changed tells who watches, unless the file has lost its name, which may be another's.
func (a *openFile) changed() {
	if !a.shared.nameless.Load() {
		a.service.watches.tell(a.path, EventChanged)
	}
}

// stat describes the file as it is known here.
func (a *openFile) stat() []byte {
	info := a.info
	if b := a.shared.writing(); b != nil {
		b.describe(&info)
	}
	return encodeInfo(&info)
}

// judge asks the cluster about the caller unless it said yes lately, and nobody's right has gone since. A no is a refusal. What has no name yet gets it first: the cluster does not know it.
func (a *openFile) judge(ctx context.Context) error {
	number, news, now := a.service.cluster.RightsNumber(), a.shared.heard(), time.Now() // before it is asked
	if number == a.number && news == a.news && !a.doubt && now.Sub(a.judged) < blocktree.FSJudgeEvery {
		return nil
	}
	if a.body != nil {
		if err := a.body.name(ctx); err != nil {
			return err
		}
	}
	found, err := a.service.lookFile(ctx, a.caller(), a.info.ID, a.path, a.want()) // wherever it is: names change
	switch blocktree.KindOf(err) {
	case blocktree.Permission, blocktree.NotFound, blocktree.Unauthenticated:
		a.service.refused("use an open file", a.owner, a.path, err)
		return &refusal{hide(a.caller(), err)}
	}
	if err != nil {
		return err
	}
	if found.Inode.ID != a.info.ID {
		return &refusal{hide(a.caller(), &blocktree.Error{Op: "fs", Path: a.path.Short(), Kind: blocktree.NotFound, Err: errors.New("the file was removed")})}
	}
	seen := InfoOf(found.Inode)
	a.info.SizeBytes, a.info.Length, a.info.Modified, a.info.Changed = seen.SizeBytes, seen.Length, seen.Modified, seen.Changed
	a.number, a.news, a.judged, a.doubt = number, news, now, false
	if a.body != nil {
		a.body.learn(&seen)
	}
	return nil
}

// read fills a buffer that whoever gets it owns.
func (a *openFile) read(ctx context.Context, m *message) ([]byte, error) {
	bytes := make([]byte, m.count)
	if a.write {
		n, err := a.body.read(ctx, bytes, m.off)
		for err != nil && err != io.EOF && a.body.succeeded(ctx) {
			a.follow()
			n, err = a.body.read(ctx, bytes, m.off)
		}
		if err == io.EOF {
			err = nil // the length says it
		}
		return bytes[:n], err
	}
	ctx = cluster.Within(ctx)
	if err := a.openSectors(ctx); err != nil {
		return nil, err
	}
	a.lastRead = time.Now()
	v, err := a.view(ctx)
	if err != nil {
		return nil, err
	}
	n, err := v.read(ctx, bytes, m.off)
	if err == io.EOF {
		err = nil // the length says it
	}
	if blocktree.KindOf(err) == blocktree.Lost {
		a.stuck = err
	}
	return bytes[:n], err
}

// view is a file that is open to read up to its end: that which its writers at this service know, if there are some.
func (a *openFile) view(ctx context.Context) (view, error) {
	b := a.shared.writing()
	if b == nil || b.ender == nil {
		return view{a.file, &a.info}, nil
	}
	v := viewTo(a.file, b.end())
	h, hears := a.file.(blocktree.Hearer)
	if s, ok := a.file.(blocktree.Sizer); ok && hears && s.SizeBytes() < v.info.Length { // it was made larger just now
		return v, h.Hear(ctx)
	}
	return v, nil
}

// openSectors opens the sectors of a file that is open to read, unless they are.
func (a *openFile) openSectors(ctx context.Context) error {
	if a.stuck != nil {
		return a.stuck
	}
	if a.file != nil {
		return nil
	}
	f, err := a.service.open(ctx, a.caller(), a.path, a.info.ID, OpenOptions{Plain: !a.info.Encrypted, File: a.info.ID})
	if err != nil {
		a.service.refused("read", a.owner, a.path, err)
		return err
	}
	if l, ok := f.(blocktree.LossNumberer); ok {
		loss, err := l.LossNumber(ctx)
		if err != nil {
			_ = f.Close() // nothing was read
			return err
		}
		if a.known && loss != a.loss {
			_ = f.Close() // likewise
			a.stuck = &blocktree.Error{Op: "fs", Path: a.path.Short(), Kind: blocktree.Lost, Hint: "what was read before may be gone; open the file again"}
			return a.stuck
		}
		a.loss, a.known = loss, true
	}
	a.file = f
	return nil
}

// rest is how long nothing has to be done unless something is asked.
func (a *openFile) rest() time.Duration {
	until := a.used.Add(a.service.idle(a.owner))
	if a.write || a.locked {
		until = earlier(until, a.judged.Add(blocktree.FSJudgeEvery))
	}
	if a.file != nil {
		until = earlier(until, a.lastRead.Add(blocktree.FSReadIdleMax))
	}
	return max(0, time.Until(until))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// tend does what is due though nothing is asked. An error ends the file.
func (a *openFile) tend() error {
	now := time.Now()
	if now.Sub(a.used) >= a.service.idle(a.owner) {
		return undeliverable("the file was closed: nothing was asked of it for " + a.service.idle(a.owner).String())
	}
	if a.file != nil && now.Sub(a.lastRead) >= blocktree.FSReadIdleMax {
		_ = a.file.Close() // it was only read from
		a.file = nil
	}
	if !a.write && !a.locked || now.Sub(a.judged) < blocktree.FSJudgeEvery {
		return nil
	}
	ctx, cancel := context.WithTimeout(a.ctx, blocktree.FSJudgeEvery)
	defer cancel()
	err := a.judge(ctx)
	if gone := (*refusal)(nil); errors.As(err, &gone) {
		return undeliverable("the file was closed: " + gone.err.Error())
	}
	if err != nil {
		a.judged, a.doubt = now, true // the cluster does not answer: it is asked again after a while, and before anything is done
	}
	return nil
}

// mayFinish reports why a file is not to be flushed and closed: as it would be by a flush.
func (a *openFile) mayFinish() error {
	ctx, cancel := context.WithTimeout(a.ctx, fileTimeout)
	defer cancel()
	if a.shared.nameless.Load() { // a copy of the descriptor could not open it anew
		return blocktree.E("fs", blocktree.Unsupported, errors.New("the file has no name any more: it is flushed, and closed"))
	}
	if err := a.judge(ctx); err != nil || a.write {
		return err
	}
	return blocktree.E("fs", blocktree.ReadOnly, errors.New("the file is open for reading"))
}

// release closes the sectors, and lets others write. With flushed all that was written is durable when it returns nil, also where others have the file open yet.
func (a *openFile) release(flushed bool) (err error) {
	if a.file != nil {
		err = a.file.Close()
		a.file = nil
	}
	if a.body != nil {
		err = a.service.done(a.shared, a.body, a.writer, flushed)
		a.changed() // the cluster knows its end now
	}
	return err
}
