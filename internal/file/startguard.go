package file

import (
	"context"
	"sync"

	"blocktree"
	"blocktree/cluster"
	"blocktree/crypto/tree"
)

// guardedStart is a started read of a file of integrity tree whose answers are there: it is given out where they came in, as that of any file, if all its floors are in memory or in pages that
// are cached (docs/design/0038).
type guardedStart struct {
	noting
	run    run
	read   *cluster.Read
	pieces []cluster.Piece
	dst    []byte
	r      blocktree.Started
	floors []tree.Floor
	note   func(*cluster.Piece, []byte) error // noting.open
}

// guardedStarts are not in use.
var guardedStarts = sync.Pool{New: func() any {
	s := new(guardedStart)
	s.note = s.open
	return s
}}

func newGuardedStart(f *File, what run, read *cluster.Read, pieces []cluster.Piece, dst []byte, r blocktree.Started) *guardedStart {
	s := guardedStarts.Get().(*guardedStart)
	if uint64(cap(s.floors)) < what.count {
		s.floors, s.what.what, s.what.generations = make([]tree.Floor, what.count), make([]tree.Floor, what.count), make([]uint32, what.count)
	}
	s.floors, s.what.what, s.what.generations = s.floors[:what.count], s.what.what[:what.count], s.what.generations[:what.count]
	clear(s.what.what) // a piece without data is not noted
	clear(s.what.generations)
	if cap(s.sealed) < f.info.SectorBytes+blocktree.DataShardsMax {
		s.sealed = nil // that of a file of smaller sectors
	}
	s.f, s.what.first, s.run, s.read, s.pieces, s.dst, s.r = f, what.first, what, read, pieces, dst, r
	return s
}

// over gives the read's memory back, and says that it has ended.
func (s *guardedStart) over(released bool) (f *File, r blocktree.Started) {
	if !released {
		s.read.Release()
	}
	f, r = s.f, s.r
	s.f, s.read, s.pieces, s.dst, s.r = nil, nil, nil, nil, nil
	guardedStarts.Put(s)
	return f, r
}

// finishGuarded is finishStarted of a tree file, of a read that did not fail. The floors are looked up once the answers are there, so that they are those of some moment after the read began, and before the
// read is claimed: while a page is fetched who asked may give up. Nobody waits here: whatever needs a page that is not there, or another look, goes on in a goroutine.
func (f *File) finishGuarded(what run, read *cluster.Read, pieces []cluster.Piece, dst []byte, r blocktree.Started) {
	s := newGuardedStart(f, what, read, pieces, dst, r)
	if f.guard.floorsAtHand(what.first, s.floors) {
		s.end(nil)
		return
	}
	go func() {
		floors, err := f.guard.floors(f.guard.ctx, what.first, what.count)
		copy(s.floors, floors)
		s.end(f.guard.told(f.guard.unlessClosed(err)))
	}()
}

// end opens what came, and judges it by the floors; or fails with err.
func (s *guardedStart) end(err error) {
	f := s.f
	if !s.r.Claim() {
		s.over(false)
		f.started.Done()
		return
	}
	if err == nil {
		err = f.openPieces(s.run, s.pieces, s.dst, s.note)
		switch {
		case blocktree.KindOf(err) == blocktree.Corrupt:
			go s.lookFurther()
			return
		case err == nil && judge(s.what, s.floors) != nil:
			go s.again(false)
			return
		}
	}
	_, r := s.over(false)
	f.endStarted(r, err)
}

// again reads once more what was below its floors, which it may have been overtaken by.
func (s *guardedStart) again(released bool) {
	f, dst, what, floors := s.f, s.dst, s.run, append([]tree.Floor(nil), s.floors...)
	_, r := s.over(released)
	_, err := f.readAgain(context.Background(), what, floors, dst) // the read ends by itself
	f.endStarted(r, err)
}

// lookFurther asks more members about a sector that did not open as it came, as File.lookFurther does.
func (s *guardedStart) lookFurther() {
	f, ctx := s.f, context.Background() // the reads end by themselves
	err := f.openPieces(s.run, s.pieces, s.dst, func(p *cluster.Piece, part []byte) error { return f.openPiece(ctx, s.run, p, part, s.note) })
	if err == nil && judge(s.what, s.floors) != nil {
		s.again(false)
		return
	}
	_, r := s.over(false)
	f.endStarted(r, err)
}

// unlessClosed is err, or Closed where that is why.
func (g *guard) unlessClosed(err error) error {
	if err != nil && g.ctx.Err() != nil {
		return blocktree.E("integrity", blocktree.Closed, err)
	}
	return err
}
