package files

import (
	"context"

	"blocktree"
	"blocktree/fs"
)

// A file whose end moves while it is open (docs/design/0059): what is written behind the end makes it longer, whoever else writes it by the same service too. Else, of a service of a version before, it is opened anew to grow.

// mover is what such a file can.
type mover interface {
	fs.File
	fs.Truncater
	fs.Appender
	fs.Stater
}

// What is known of a file's end.
const (
	unknown = iota
	moves
	stays
)

// mover returns the open file if its end moves, nil if it does not. Who calls it has the lock, to read at least.
func (f *File) mover() (mover, error) {
	m, ok := f.raw.(mover)
	switch {
	case !ok || f.moving.Load() == stays:
		return nil, nil
	case f.moving.Load() == moves:
		return m, nil
	}
	_, err := m.Stat(f.ctx)
	switch blocktree.KindOf(err) {
	case blocktree.Unsupported:
		f.moving.Store(stays)
		return nil, nil
	case blocktree.Other:
		if err == nil {
			f.moving.Store(moves)
			return m, nil
		}
	}
	return nil, err
}

// length is where a file that is open for writing ends.
func (f *File) length(ctx context.Context) (uint64, error) {
	m, err := f.mover()
	if m == nil || err != nil {
		return f.size(), err
	}
	info, err := m.Stat(ctx)
	return info.Length, err
}

// appendTo writes all of p to the end of the file, wherever others have that by then, and returns where it ends.
func (f *File) appendTo(m mover, p []byte) (end uint64, done int, err error) {
	for len(p) > 0 {
		n := min(len(p), blocktree.FSTransferBytesMax)
		off, err := m.Append(f.ctx, p[:n])
		if err != nil {
			return end, done, err
		}
		end, done, p = off+uint64(n), done+n, p[n:]
	}
	return end, done, nil
}

// reaches notes that the file was written up to an end.
func (o *opened) reaches(end uint64) {
	for was := o.end.Load(); was < end && !o.end.CompareAndSwap(was, end); {
		was = o.end.Load()
	}
}

// writeEnd writes p to the end of a file whose end moves; it does nothing where that does not, and says so.
func (f *File) writeEnd(p []byte) (n int, done bool, err error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if err := f.may("write", f.write); err != nil {
		return 0, true, err
	}
	m, err := f.mover()
	if err != nil || m == nil || len(p) == 0 {
		return 0, err != nil || m != nil, failed("write", f.name, err)
	}
	f.dirty.Store(true)
	end, n, err := f.appendTo(m, p)
	if n > 0 {
		f.pos = end
		f.reaches(end)
	}
	return n, true, failed("write", f.name, err)
}
