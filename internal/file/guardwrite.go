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

// endAll is end of all, also after an error; it returns the first, and the writes, some of which may not have ended when ctx has.
func (f *File) endAll(ctx context.Context, writes []guardedWrite, err error) (sent []*cluster.Write, _ error) {
	for _, w := range writes {
		if e := f.end(ctx, w); err == nil {
			err = e
		}
		sent = append(sent, w.write)
	}
	return sent, err
}

// writeGuarded returns when all is written, or ctx ends; and what it wrote, some of which may be on its way then.
func (f *File) writeGuarded(ctx context.Context, first blocktree.SectorIndex, count uint64, src []byte) ([]*cluster.Write, error) {
	if err := f.guard.admit(ctx); err != nil {
		return nil, err
	}
	var writes []guardedWrite
	err := f.cut(first, count, f.runSectors, func(r run) error {
		w, err := f.startGuarded(r, f.part(src, first, r))
		if err == nil {
			writes = append(writes, w)
		}
		return err
	})
	return f.endAll(ctx, writes, err)
}

// zeroGuarded writes zeros as any data, as writeGuarded does: a tombstone is not sealed, so anybody could make one up.
func (f *File) zeroGuarded(ctx context.Context, first blocktree.SectorIndex, count uint64) ([]*cluster.Write, error) {
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
		if err = f.end(ctx, writes[0]); err == nil {
			writes = writes[1:]
		}
		return err
	})
	return f.endAll(ctx, writes, err)
}

// WritesZeros implements blocktree.ZeroWriter.
func (f *File) WritesZeros() bool { return f.guard != nil }
