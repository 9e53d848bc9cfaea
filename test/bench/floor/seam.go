package main

import (
	"context"
	"errors"

	"blocktree"
)

// Info implements blocktree.File.
func (f *file) Info() blocktree.FileInfo { return f.info }

// startable says whether a request is short and lies in one run.
func startable(first blocktree.SectorIndex, bytes int) bool {
	return bytes <= startMax && first/sectorsMax == (first+blocktree.SectorIndex(bytes/sectorBytes)-1)/sectorsMax
}

// StartRead implements blocktree.ReadStarter.
func (f *file) StartRead(first blocktree.SectorIndex, dst []byte, s blocktree.Started) bool {
	if !startable(first, len(dst)) || !s.Claim() {
		return false
	}
	r := f.begin(first, len(dst), false, s.End)
	r.dst = dst
	if err := f.read(r); err != nil {
		f.fail(err)
	}
	return true
}

// StartWrite implements blocktree.WriteStarter.
func (f *file) StartWrite(first blocktree.SectorIndex, src []byte, done func(error)) bool {
	if !startable(first, len(src)) {
		return false
	}
	if err := f.write(f.begin(first, len(src), true, done), src); err != nil {
		f.fail(err)
	}
	return true
}

// each cuts a request into runs.
func each(first blocktree.SectorIndex, b []byte, do func(blocktree.SectorIndex, []byte) error) error {
	for len(b) > 0 {
		n := min(len(b), int(sectorsMax-first%sectorsMax)*sectorBytes)
		if err := do(first, b[:n]); err != nil {
			return err
		}
		first += blocktree.SectorIndex(n / sectorBytes)
		b = b[n:]
	}
	return nil
}

// ReadSectors implements blocktree.File.
func (f *file) ReadSectors(_ context.Context, first blocktree.SectorIndex, dst []byte) error {
	return each(first, dst, func(first blocktree.SectorIndex, part []byte) error {
		done := make(chan error, 1)
		r := f.begin(first, len(part), false, func(err error) { done <- err })
		r.dst = part
		long := len(part) > startMax
		if err := f.read(r); err != nil {
			return err
		}
		err := <-done
		if err == nil && long {
			err = f.open(r)
			r.end = func(error) {}
			f.finish(r, nil)
		}
		return err
	})
}

// WriteSectors implements blocktree.File.
func (f *file) WriteSectors(_ context.Context, first blocktree.SectorIndex, src []byte) error {
	return each(first, src, func(first blocktree.SectorIndex, part []byte) error {
		done := make(chan error, 1)
		if err := f.write(f.begin(first, len(part), true, func(err error) { done <- err }), part); err != nil {
			return err
		}
		return <-done
	})
}

// ZeroSectors implements blocktree.File: nobody asks for it here.
func (f *file) ZeroSectors(context.Context, blocktree.SectorIndex, uint64) error {
	return blocktree.E("floor", blocktree.Invalid, errors.New("it has no zeros"))
}

// Flush implements blocktree.File: what is answered is durable.
func (f *file) Flush(context.Context) error { return nil }

// Close implements blocktree.File.
func (f *file) Close() error {
	var errs []error
	for _, w := range f.wires {
		errs = append(errs, w.raw.Conn.Close())
	}
	return errors.Join(errs...)
}

// Cork implements blocktree.Batcher.
func (f *file) Cork() { f.corked.Add(1) }

// Uncork implements blocktree.Batcher.
func (f *file) Uncork() {
	f.corked.Add(-1)
	for _, w := range f.wires {
		w.mu.Lock()
		err := w.flush()
		w.mu.Unlock()
		if err != nil {
			f.fail(err)
		}
	}
}

// AfterBatch implements blocktree.Batcher.
func (f *file) AfterBatch(do func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.receiving.Load() == 0 {
		return false
	}
	f.after = append(f.after, do)
	return true
}
