package fs

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
)

// openFile is the actor of an open file: run is its goroutine, the only one that looks at what is not said to be others'.
type openFile struct {
	service *Service
	owner   *owner
	path    blocktree.Path
	info    Info
	write   bool
	handle  uint64 // others', set once
	box     mailbox

	ctx    context.Context // ends when the owner has, or the service stops
	cancel context.CancelFunc

	file     blocktree.File // nil while a file that is open to read is not read
	loss     uint64         // its loss number when its sectors were first opened
	known    bool           // whether that was asked for
	stuck    error          // the first flush that failed, or Lost
	judged   time.Time      // when the cluster was last asked about the caller
	number   uint64         // the rights number that it was asked under, or an older one
	doubt    bool           // it was asked since, and did not answer
	used     time.Time      // when something was last asked of it
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
	defer a.owner.forget(a)
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
		if m.code == codeClose {
			a.cancel()
			err := a.release()
			a.box.close(why)
			m.done(nil, err)
			return
		}
		bytes, err := a.do(m)
		if gone := (*refusal)(nil); errors.As(err, &gone) {
			why = undeliverable("the file was closed: " + gone.err.Error())
			err = gone.err
			a.cancel()
		}
		m.done(bytes, err)
	}
	a.box.close(why)
	_ = a.release() // there is nobody to tell; a lease that is not given back ends with the session
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
	case codeWrite, codePunch, codeFlush:
		if !a.write {
			return nil, blocktree.E("fs", blocktree.ReadOnly, errors.New("the file is open for reading"))
		}
		if a.stuck != nil {
			return nil, a.stuck
		}
		switch m.code {
		case codeWrite:
			return nil, view{a.file, &a.info}.write(ctx, m.data, m.off)
		case codePunch:
			return nil, a.punch(ctx, m.off, uint64(m.count))
		}
		err := a.file.Flush(ctx)
		if err != nil {
			a.stuck = err
		}
		return nil, err
	}
	return nil, blocktree.E("fs", blocktree.Unsupported, nil)
}

// judge asks the cluster about the caller unless it said yes lately, and nobody's right has gone since. A no is a refusal.
func (a *openFile) judge(ctx context.Context) error {
	number, now := a.service.cluster.RightsNumber(), time.Now() // before it is asked
	if number == a.number && !a.doubt && now.Sub(a.judged) < blocktree.FSJudgeEvery {
		return nil
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
	a.info.SizeBytes, a.info.Length = seen.SizeBytes, seen.Length
	a.number, a.judged, a.doubt = number, now, false
	return nil
}

// read fills a buffer that whoever gets it owns.
func (a *openFile) read(ctx context.Context, m *message) ([]byte, error) {
	if err := a.openSectors(ctx); err != nil {
		return nil, err
	}
	a.lastRead = time.Now()
	bytes := make([]byte, m.count)
	n, err := view{a.file, &a.info}.read(ctx, bytes, m.off)
	if err == io.EOF {
		err = nil // the length says it
	}
	if blocktree.KindOf(err) == blocktree.Lost {
		a.stuck = err
	}
	return bytes[:n], err
}

// openSectors opens the sectors of a file that is open to read, unless they are.
func (a *openFile) openSectors(ctx context.Context) error {
	if a.stuck != nil && blocktree.KindOf(a.stuck) == blocktree.Lost {
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
	if a.write {
		until = earlier(until, a.judged.Add(blocktree.FSJudgeEvery))
	} else if a.file != nil {
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
	if !a.write {
		if a.file != nil && now.Sub(a.lastRead) >= blocktree.FSReadIdleMax {
			_ = a.file.Close() // it was only read from
			a.file = nil
		}
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

// release closes the sectors, and lets others write.
func (a *openFile) release() (err error) {
	if a.file != nil {
		err = a.file.Close()
		a.file = nil
	}
	if a.write {
		a.service.writers.leave(a.info.ID)
	}
	return err
}

// writers are the files that are open for writing through the service. It is asked when files are opened and closed only.
type writers struct {
	mu    sync.Mutex
	files map[blocktree.FileID]blocktree.File // nil while it is opened
}

// enter fails with Busy if somebody writes the file already.
func (w *writers) enter(id blocktree.FileID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.files[id]; ok {
		return &blocktree.Error{Op: "fs", Kind: blocktree.Busy, Err: errors.New("somebody has the file open for writing"), Hint: "one at a time writes a file; wait until it is closed"}
	}
	w.files[id] = nil
	return nil
}

// opened says which file somebody that has entered writes through.
func (w *writers) opened(id blocktree.FileID, f blocktree.File) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files[id] = f
}

// forget has no time noted of what was written to a file until now: somebody says what time it is of.
func (w *writers) forget(id blocktree.FileID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f, ok := w.files[id].(blocktree.WriteForgetter); ok {
		f.ForgetWrites()
	}
}

func (w *writers) leave(id blocktree.FileID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.files, id)
}
