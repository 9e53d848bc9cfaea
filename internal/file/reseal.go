package file

import (
	"context"
	"slices"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
)

const (
	// resealBytes is how much is re-sealed at a time: writes to it wait for that long.
	resealBytes = 256 << 10
	// noteEvery is how much work a crash costs.
	noteEvery = 5 * time.Second
)

// unfinished says whether sectors are to be re-sealed, or keys of older generations dropped.
func (k *keeper) unfinished() bool {
	r := k.f.keys.Load()
	return r.refused == nil && r.older()
}

// reseal does one run at the place, and returns how long to wait before the next. At the end of the file it has all that was written made durable, says so to the
// group, and drops the keys of older generations if this client may administer the file.
func (k *keeper) reseal(ctx context.Context) (time.Duration, error) {
	f := k.f
	if !f.handle.Settled(k.under) { // what it writes is not there yet to be found, and may come to be there later
		return retryMin, nil
	}
	end := f.kept()
	if k.place >= end {
		return k.finish(ctx)
	}
	began, others := time.Now(), f.gate.total.Load()
	first := blocktree.SectorIndex(k.place)
	count := min(end-k.place, uint64(max(1, resealBytes/f.info.SectorBytes)))
	err := f.cut(first, count, f.runSectors, func(r run) error {
		if _, err := f.resealRun(ctx, r); err != nil {
			return err
		}
		k.place += r.count
		k.done += r.count * uint64(f.info.SectorBytes)
		return nil
	})
	if blocktree.KindOf(err) == blocktree.OutOfRange && f.sectors() < end { // it is being made smaller: what comes of what lies behind its new end is not known yet
		return retryMin, nil
	}
	if err != nil {
		return 0, err
	}
	if since := time.Since(k.noted); since >= noteEvery {
		k.heard.Rate = uint64(float64(k.done) / since.Seconds())
		if err := k.durably(ctx, k.place); err != nil {
			return 0, err
		}
	}
	return k.pause(began, others, count*uint64(f.info.SectorBytes)), nil
}

// pause is how long to wait after so many bytes, which were begun when others had written so often.
func (k *keeper) pause(began time.Time, others, bytes uint64) time.Duration {
	rate := uint64(blocktree.ResealBytesPerSecond)
	if k.f.gate.total.Load() != others {
		rate /= resealYield
	}
	return max(0, time.Duration(bytes)*time.Second/time.Duration(rate)-time.Since(began))
}

// resealYield is what part of the rate is left while others write.
const resealYield = 4

// durably tells the group of a place, once all before it is durable.
func (k *keeper) durably(ctx context.Context, place uint64) error {
	if err := k.f.Flush(ctx); err != nil {
		return err
	}
	k.heard.Sectors = place
	return k.note(ctx)
}

// finish ends a re-sealing. Where the keys of older generations cannot be dropped by this client, whoever may administer the file does that: the place says that it may be done.
func (k *keeper) finish(ctx context.Context) (time.Duration, error) {
	if k.place != meta.AllResealed {
		if more, wait, err := k.resealPages(ctx); more || err != nil {
			return wait, err
		}
		k.heard.Rate = 0
		if err := k.durably(ctx, meta.AllResealed); err != nil {
			return 0, err
		}
		k.place = meta.AllResealed
		k.log.Info("every sector is sealed under the newest key", "keyGeneration", k.heard.Generation)
	}
	r := k.f.keys.Load()
	if err := dropOlder(ctx, k.f.unlocker.client, k.f.info.Path, k.f.info.ID, r.access); err != nil {
		switch blocktree.KindOf(err) {
		case blocktree.Permission, blocktree.StaleView:
			return retryMax, nil
		}
		return 0, err
	}
	return retryMin, nil // the record that says so will be heard of
}

// keepOut keeps writes out of a run, for who writes there itself and leaves by the phase before it lets them in again: that is waited for as any write is, and finds the run in the file yet.
func (f *File) keepOut(ctx context.Context, r run) (phase uint32, open func(), err error) {
	if open, err = f.gate.close(ctx, r.first, r.count); err != nil {
		return 0, nil, err
	}
	phase = f.gate.begin()
	if err = f.checkRange("file.reseal", r.first, r.count); err != nil {
		f.gate.leave(phase)
		open()
	}
	return phase, open, err
}

// resealRun seals what of a run is of an older generation under the newest, and says how much data it had. Writes to it wait until that is over, so that none is undone.
func (f *File) resealRun(ctx context.Context, r run) (bytes uint64, err error) {
	phase, open, err := f.keepOut(ctx, r)
	if err != nil {
		return 0, err
	}
	defer open()
	var writes []*cluster.Write
	defer func() { f.leave(ctx, phase, writes) }()
	if f.guard != nil {
		return 0, f.resealGuarded(ctx, r)
	}
	read := f.handle.Read(r.region, r.first, uint32(r.count))
	pieces, err := read.Wait(ctx)
	if err != nil {
		return 0, err
	}
	defer read.Release()
	newest, size := f.keys.Load().generation, f.info.SectorBytes
	for i := range pieces {
		p := &pieces[i]
		if !p.Data() {
			continue
		}
		plain, old := make([]byte, int(p.Count)*size), false
		bytes += uint64(len(plain))
		generations := make([]uint32, p.Count)
		if _, err = f.openUnder(p, plain, generations); blocktree.KindOf(err) == blocktree.Corrupt {
			old = true
			err = f.handle.ReadCareful(ctx, r.region, p.First, p.Count, plain, f.open)
		} else if err == nil {
			old = slices.ContainsFunc(generations, func(g uint32) bool { return g != newest })
		}
		if err != nil {
			break
		}
		if !old {
			continue
		}
		var w *cluster.Write
		if w, err = f.write(run{r.region, p.First, uint64(p.Count)}, plain); err != nil {
			break
		}
		writes = append(writes, w)
	}
	return bytes, waitAll(ctx, writes, err)
}
