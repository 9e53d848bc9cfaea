package file

import (
	"context"
	"time"

	"blocktree"
)

// resealGuarded is resealRun of a file of integrity tree, within the gate: what is below its floor is not sealed anew, or it would pass as newer from then on.
func (f *File) resealGuarded(ctx context.Context, r run) error {
	size := uint64(f.info.SectorBytes)
	plain := make([]byte, r.count*size)
	what, err := f.readJudged(ctx, r, f.ask(ctx, r), plain)
	if err != nil {
		return err
	}
	newest := f.keys.Load().generation
	for i := uint64(0); i < r.count; {
		n := uint64(0)
		for i+n < r.count && what.generations[i+n] != 0 && what.generations[i+n] != newest {
			n++
		}
		if n > 0 {
			if _, err := f.writeGuarded(ctx, r.first+blocktree.SectorIndex(i), n, plain[i*size:(i+n)*size]); err != nil {
				return err
			}
		}
		i += n + 1
	}
	return nil
}

// resealPages seals pages of the tree that are under an older key anew, each as it is and where it is: a run at a time, and says whether more are left, and how long to wait. All those that
// the anchored tree has are gone through, as a fold writes under the newest key. When none is left they are durable.
func (k *keeper) resealPages(ctx context.Context) (more bool, wait time.Duration, err error) {
	if k.f.guard == nil {
		return false, 0, nil
	}
	pages := k.f.guard.pages
	end := pages.sectors()
	if k.pages >= end {
		return false, 0, pages.Flush(ctx)
	}
	began, others, bytes := time.Now(), k.f.gate.total.Load(), uint64(0)
	for k.pages < end && bytes < resealBytes && time.Since(began) < time.Second { // most of it was never written
		count := min(end-k.pages, uint64(resealBytes/pages.info.SectorBytes))
		err := pages.cut(blocktree.SectorIndex(k.pages), count, pages.runSectors, func(r run) error {
			some, err := pages.resealRun(ctx, r)
			if err == nil {
				k.pages += r.count
				bytes += some
			}
			return err
		})
		if err != nil {
			return true, 0, err
		}
	}
	return true, k.pause(began, others, bytes), nil
}
