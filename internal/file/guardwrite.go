package file

import (
	"context"

	"blocktree"
	"blocktree/cluster"
	"blocktree/crypto/seal"
	"blocktree/crypto/tree"
)

// zerosAtOnce bounds the runs of zeros in flight of one request.
const zerosAtOnce = 8

// floorsOf are the floors that a sealed run gives once it is acknowledged; none without a guard. Afterwards the run may be given away.
func (f *File) floorsOf(r run, out *cluster.Run) []tree.Floor {
	if f.guard == nil {
		return nil
	}
	floors := make([]tree.Floor, r.count)
	for i := range floors {
		floors[i] = tree.FloorOf(out.Version(), seal.HeaderLeaf(out.Seal(i)))
	}
	return floors
}

// guardedWrite is a write in flight, and what is known once it is acknowledged.
type guardedWrite struct {
	write  *cluster.Write
	first  blocktree.SectorIndex
	floors []tree.Floor
}

// startGuarded seals one run and hands it to the coordinator.
func (f *File) startGuarded(r run, src []byte) (guardedWrite, error) {
	out, err := f.seal(r, src)
	if err != nil {
		return guardedWrite{}, err
	}
	floors := f.floorsOf(r, out)
	return guardedWrite{f.handle.Write(out), r.first, floors}, nil
}

// end waits for a write; its floors are known before anybody hears of it.
func (f *File) end(ctx context.Context, w guardedWrite) error {
	err := w.write.Wait(ctx)
	if err == nil {
		f.guard.note(w.first, w.floors)
	}
	return err
}

func (f *File) writeGuarded(ctx context.Context, first blocktree.SectorIndex, count uint64, src []byte) error {
	if err := f.guard.admit(ctx); err != nil {
		return err
	}
	var writes []guardedWrite
	err := f.cut(first, count, f.runSectors, func(r run) error {
		w, err := f.startGuarded(r, f.part(src, first, r))
		if err == nil {
			writes = append(writes, w)
		}
		return err
	})
	for _, w := range writes {
		err = either(err, f.end(ctx, w))
	}
	return err
}

// zeroGuarded writes zeros as any data: a tombstone is not sealed, so anybody could make one up.
func (f *File) zeroGuarded(ctx context.Context, first blocktree.SectorIndex, count uint64) error {
	zeros := make([]byte, f.runSectors*uint64(f.info.SectorBytes))
	var writes []guardedWrite
	err := f.cut(first, count, f.runSectors, func(r run) error {
		if err := f.guard.admit(ctx); err != nil {
			return err
		}
		w, err := f.startGuarded(r, zeros[:r.count*uint64(f.info.SectorBytes)])
		if err != nil {
			return err
		}
		if writes = append(writes, w); len(writes) < zerosAtOnce {
			return nil
		}
		err = f.end(ctx, writes[0])
		writes = writes[1:]
		return err
	})
	for _, w := range writes {
		err = either(err, f.end(ctx, w))
	}
	return err
}

// WritesZeros implements blocktree.ZeroWriter.
func (f *File) WritesZeros() bool { return f.guard != nil }
