package file

import (
	"context"

	"blocktree"
	"blocktree/cluster"
)

// startBytesMax is the longest read that is opened where its last answer comes in, and the longest write that is sealed
// where it is asked for: some microseconds. Longer ones are worth a goroutine each, so that they are worked on side by side.
const startBytesMax = 16 << 10

// startSectorsMax is how many sectors those are at most.
const startSectorsMax = startBytesMax / blocktree.SectorBytesMin

// StartRead implements blocktree.ReadStarter for a run under a lease.
func (f *File) StartRead(first blocktree.SectorIndex, dst []byte, r blocktree.Started) bool {
	what, ok := f.startable(first, len(dst))
	if !ok {
		return false
	}
	f.started.Add(1)
	f.handle.StartRead(what.region, first, uint32(what.count), func(read *cluster.Read) { f.finishStarted(what, read, dst, r) })
	return true
}

// StartWrite implements blocktree.WriteStarter for a run.
func (f *File) StartWrite(first blocktree.SectorIndex, src []byte, done func(error)) bool {
	what, ok := f.startable(first, len(src))
	if !ok || f.info.ReadOnly {
		return false
	}
	if f.guard != nil {
		if _, full := f.guard.full(); full {
			return false // WriteSectors waits
		}
	}
	phase, wait := f.gate.enter(first, what.count)
	if wait != nil {
		return false // WriteSectors waits
	}
	if f.checkRange(writeOp, first, what.count) != nil { // it has got another end before this was through
		f.gate.leave(phase)
		return false // WriteSectors says so
	}
	out, err := f.seal(what, src)
	if err != nil {
		f.gate.leave(phase)
		return false // WriteSectors says why
	}
	floors := f.floorsOf(what, out)
	f.started.Add(1)
	f.handle.Wrote()
	f.handle.StartWrite(out, func(err error) {
		defer f.started.Done()
		defer f.gate.leave(phase)
		if err == nil && f.guard != nil {
			f.guard.note(first, floors)
		}
		done(f.fail(writeOp, err))
	})
	return true
}

// startable says whether a request is short, whole, inside the file and within one region, under a lease.
func (f *File) startable(first blocktree.SectorIndex, bytes int) (run, bool) {
	size, sectors := uint64(f.info.SectorBytes), f.sectors()
	count := uint64(bytes) / size
	if f.handle == nil || count == 0 || bytes > startBytesMax || count*size != uint64(bytes) || count > f.runSectors ||
		uint64(first) >= sectors || count > sectors-uint64(first) {
		return run{}, false
	}
	region := uint64(first) / f.regionSectors
	return run{blocktree.RegionIndex(region), first, count}, (uint64(first)+count-1)/f.regionSectors == region
}

// finishStarted opens what came. A sector that does not open as it came is looked into by a goroutine of its own: that asks
// more members, and the goroutine that brought the answer must not wait for those.
func (f *File) finishStarted(what run, read *cluster.Read, dst []byte, r blocktree.Started) {
	pieces, err := read.Pieces()
	if err == nil && f.guard != nil {
		f.finishGuarded(what, read, pieces, dst, r)
		return
	}
	if !r.Claim() {
		defer f.started.Done()
		if err == nil {
			read.Release()
		}
		return
	}
	if err == nil {
		if err = f.openPieces(what, pieces, dst, f.open); blocktree.KindOf(err) == blocktree.Corrupt {
			go f.lookFurther(what, read, dst, r)
			return
		}
		read.Release()
	}
	f.endStarted(r, err)
}

// endStarted tells who started the read, which keeps the file open until then.
func (f *File) endStarted(r blocktree.Started, err error) {
	defer f.started.Done()
	r.End(f.fail(readOp, err))
}

// lookFurther is finishRead for a read that has ended and did not open. Nobody waits for it who could give up; the reads
// that it asks for end by themselves.
func (f *File) lookFurther(what run, read *cluster.Read, dst []byte, r blocktree.Started) {
	defer read.Release()
	ctx := context.Background()
	pieces, err := read.Pieces()
	if err == nil {
		err = f.openPieces(what, pieces, dst, func(p *cluster.Piece, part []byte) error { return f.openPiece(ctx, what, p, part, f.open) })
	}
	f.endStarted(r, err)
}
