package fs

import (
	"context"
	"errors"

	"blocktree"
)

// Whoever keeps what it writes until that is flushed writes it again where a service may have lost it, if nobody else has written since (docs/design/0075). It goes by epochs: it is told that of its own if it is the only one who writes the file, and who comes beside it takes the file on to the next.

// epochs are under which the holder of a file writes it, and the newest one before under which it may have been written. Zero: not told.
type epochs struct{ held, written blocktree.Epoch }

// Epocher is an optional ability of a File that was opened with OpenOptions.Tell.
type Epocher interface {
	// Epochs returns the epoch under which this File alone writes the file, until somebody else comes to write it, which is under a later one; and the newest epoch before it under which the file may have been written. Zero: somebody else writes it, too, or nobody knows (a service of a version before, a file of integrity tree).
	Epochs() (held, written blocktree.Epoch)
}

// Againer is an optional ability of an Epocher: to write once more what was written before. Nobody else can get in between: Fenced, and nothing is done, once somebody else has come to write the file since it was opened, or where no epoch was told.
type Againer interface {
	WriteAgain(ctx context.Context, p []byte, off uint64) error
	PunchAgain(ctx context.Context, off, n uint64) error
}

var (
	_ Againer           = (*remote)(nil)
	_ Epocher           = (*remote)(nil)
	_ blocktree.Epocher = Epocher(nil)
)

// Epochs implements Epocher.
func (f *remote) Epochs() (held, written blocktree.Epoch) { return f.under.held, f.under.written }

// alone has an actor tell under which epoch it is the only one that writes the file, and reports whether it does.
func (a *openFile) alone(b *body) bool {
	e, ok := b.file.(blocktree.Epocher)
	if !ok || !a.tell || b.ender == nil || b.dear() {
		return false
	}
	if a.under.held, a.under.written = e.Epochs(); a.under.held == 0 {
		return false
	}
	s, x, path, info := a.service, a.shared, a.path, a.info
	beside := func(ctx context.Context) error { // who writes the file does, under whatever name
		ctx, cancel := context.WithTimeout(ctx, fileTimeout)
		defer cancel()
		return x.notAlone(ctx, func(ctx context.Context) (*body, error) {
			return s.openBodyBy(ctx, a.caller(), path, &info, OpenOptions{Write: true, Plain: !info.Encrypted, File: info.ID})
		})
	}
	b.beside.Store(&beside)
	return true
}

// errBeside is for who would write again what somebody else may have written over.
var errBeside = &blocktree.Error{Op: "fs", Kind: blocktree.Fenced, Err: errors.New("somebody else came to write the file"), Hint: "open it again"}

// errSucceeded is for who has waited for the turn of a body meanwhile.
var errSucceeded = &blocktree.Error{Op: "fs", Kind: blocktree.Unavailable, Err: errors.New("somebody else came to write the file"), Hint: "ask again"}

// succeed has the file written under another epoch from now on, after all that was written is flushed, and returns what all who write it go on with.
func (b *body) succeed(ctx context.Context, open func(context.Context) (*body, error)) (*body, error) {
	if err := b.enter(ctx); err != nil {
		return nil, err
	}
	defer b.leave()
	if err := b.flush(ctx); err != nil {
		return nil, b.noted(err)
	}
	next, err := open(ctx) // by the same session, which so has the file all the time
	if err != nil {
		return nil, err
	}
	b.stuck = errSucceeded
	b.next.Store(next)
	_ = b.file.Close() // all is flushed, and its lease is the other's
	return next, nil
}

// succeeded reports whether there is a newer one, once nobody is about to make one. What had failed may do there.
func (b *body) succeeded(ctx context.Context) bool {
	select {
	case b.turn <- struct{}{}:
		b.leave()
	case <-ctx.Done():
	}
	return b.next.Load() != nil
}

// newest is what who writes the file goes on with.
func (b *body) newest() *body {
	for next := b.next.Load(); next != nil; next = b.next.Load() {
		b = next
	}
	return b
}
