package file

import (
	"context"

	"blocktree"
	"blocktree/cluster"
)

// startBytesMax is the longest read that is opened where its last answer comes in: some microseconds of deciphering. Longer
// ones are worth a goroutine each, so that they are opened side by side.
const startBytesMax = 16 << 10

// StartRead implements blocktree.ReadStarter for a run under a lease.
func (f *File) StartRead(first blocktree.SectorIndex, dst []byte, r blocktree.StartedRead) bool {
	size := uint64(f.info.SectorBytes)
	count := uint64(len(dst)) / size
	if f.handle == nil || count == 0 || len(dst) > startBytesMax || count*size != uint64(len(dst)) || count > f.runSectors ||
		uint64(first) >= f.info.Sectors() || count > f.info.Sectors()-uint64(first) {
		return false
	}
	region := uint64(first) / f.regionSectors
	if (uint64(first)+count-1)/f.regionSectors != region {
		return false
	}
	what := run{blocktree.RegionIndex(region), first, count}
	f.started.Add(1)
	f.handle.StartRead(what.region, first, uint32(count), func(read *cluster.Read) { f.finishStarted(what, read, dst, r) })
	return true
}

// finishStarted opens what came. A sector that does not open as it came is looked into by a goroutine of its own: that asks
// more members, and the goroutine that brought the answer must not wait for those.
func (f *File) finishStarted(what run, read *cluster.Read, dst []byte, r blocktree.StartedRead) {
	pieces, err := read.Pieces()
	if !r.Claim() {
		defer f.started.Done()
		if err == nil {
			read.Release()
		}
		return
	}
	if err == nil {
		if err = f.openPieces(what, pieces, dst, f.joinAndOpen); blocktree.KindOf(err) == blocktree.Corrupt {
			go f.lookFurther(what, read, dst, r)
			return
		}
		read.Release()
	}
	f.endStarted(r, err)
}

// endStarted tells who started the read, which keeps the file open until then.
func (f *File) endStarted(r blocktree.StartedRead, err error) {
	defer f.started.Done()
	r.End(f.fail(readOp, err))
}

// lookFurther is finishRead for a read that has ended and did not open. Nobody waits for it who could give up; the reads
// that it asks for end by themselves.
func (f *File) lookFurther(what run, read *cluster.Read, dst []byte, r blocktree.StartedRead) {
	defer read.Release()
	ctx := context.Background()
	pieces, err := read.Pieces()
	if err == nil {
		err = f.openPieces(what, pieces, dst, func(p *cluster.Piece, part []byte) error { return f.openPiece(ctx, what, p, part) })
	}
	f.endStarted(r, err)
}
