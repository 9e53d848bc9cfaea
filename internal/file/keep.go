package file

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/crypto/keys"
)

// keeper is what a holder does about the keys of its file: it goes by each new access record, says so to the group, and re-seals what is sealed under a generation
// before. It is one goroutine, which ends with the file.
type keeper struct {
	f      *File
	log    *slog.Logger
	cancel context.CancelFunc
	wg     sync.WaitGroup
	news   chan *meta.Inode // the newest that was not gone by yet

	heard meta.Heard // what the group was told last, or is about to be: all before its place is durable
	place uint64     // the sectors before it are re-sealed, durably or not yet
	pages uint64     // and, of a file of integrity tree, the pages before it
	under uint64     // number of the last write that may be under a generation before
	noted time.Time  // when
	done  uint64     // bytes that were re-sealed since
}

// retryMin and retryMax lie between two tries at what the cluster, or a disk, does not do now.
const (
	retryMin = time.Second
	retryMax = time.Minute
)

// renew has the file go by the newest record before anything is written: that which it was opened by may have been replaced before the lease was had
// (docs/design/0027). It returns what the group has heard of it.
func (f *File) renew(ctx context.Context) (heard meta.Heard, err error) {
	if f.keys.Load().access == nil {
		return heard, nil
	}
	inode, err := f.unlocker.client.StatFile(ctx, f.info.ID)
	if err != nil {
		return heard, err
	}
	if keys.NumberOf(inode.Access) != f.keys.Load().number() {
		r, err := f.unlocker.ring(ctx, inode)
		if err != nil {
			return heard, &blocktree.Error{Op: "open", Path: f.info.Path.Short(), Err: err}
		}
		f.setKeys(r)
	}
	return inode.Heard, nil
}

// keep starts the keeper of a file that may be written to from now on.
func (f *File) keep(ctx context.Context, heard meta.Heard, log *slog.Logger) error {
	if f.keys.Load().access == nil {
		return nil
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	k := &keeper{f: f, log: log.With("file", f.info.Path.Short()), news: make(chan *meta.Inode, 1)}
	k.begin(heard)
	if r := f.keys.Load(); r.number() > 1 || r.older() { // else nobody can be waiting for this holder to say so
		if err := k.note(ctx); err != nil {
			return err
		}
	}
	var run context.Context
	run, k.cancel = context.WithCancel(context.Background())
	f.keeper = k
	f.handle.FollowAccess(f.keys.Load().number(), k.tell)
	k.wg.Go(func() { k.run(run) })
	return nil
}

func (k *keeper) end() {
	k.f.handle.FollowAccess(0, nil)
	k.cancel()
	k.wg.Wait()
}

// tell takes news, the newest only.
func (k *keeper) tell(i *meta.Inode) {
	select {
	case <-k.news:
	default:
	}
	k.news <- i // there is room: nobody else puts anything there
}

// begin makes what is to be said of the ring that the file goes by, with the place of before if that was of the same generation.
func (k *keeper) begin(before meta.Heard) {
	r := k.f.keys.Load()
	place := before.Sectors
	switch {
	case !r.older():
		place = meta.AllResealed
	case before.Generation != r.generation:
		place = 0
	}
	k.heard = meta.Heard{Number: r.number(), Generation: r.generation, Sectors: place}
	if before.Generation != r.generation {
		k.place, k.pages = 0, 0
	}
	k.place = max(k.place, place)
}

// note tells the group.
func (k *keeper) note(ctx context.Context) error {
	if err := k.f.handle.NoteAccess(ctx, k.heard); err != nil {
		return err
	}
	k.noted, k.done = time.Now(), 0
	return nil
}

func (k *keeper) run(ctx context.Context) {
	pause := retryMin
	for {
		var next <-chan time.Time
		if k.unfinished() {
			wait, err := k.reseal(ctx)
			switch {
			case err == nil:
				pause = retryMin
			case k.over(ctx, err):
				return
			default:
				k.log.Warn("sectors could not be re-sealed under the newest key; it is tried again", "sector", k.place, "err", err)
				wait, pause = pause, min(2*pause, retryMax)
			}
			next = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case inode := <-k.news:
			if !k.goBy(ctx, inode) {
				return
			}
		case <-next:
		}
	}
}

// over says whether nothing can be done any more under this lease.
func (k *keeper) over(ctx context.Context, err error) bool {
	switch blocktree.KindOf(err) {
	case blocktree.Fenced, blocktree.Closed, blocktree.Lost:
		return true
	}
	return ctx.Err() != nil
}

// goBy goes by a new record, as often as it takes, and returns false when the file is over. Order: 1. writes that begin are sealed as it says; 2. those that had begun
// have ended, and of a file of integrity tree there is a record under its key; 3. the group is told.
func (k *keeper) goBy(ctx context.Context, inode *meta.Inode) bool {
	f := k.f
	for pause := retryMin; ; pause = min(2*pause, retryMax) {
		r, err := f.unlocker.ring(ctx, inode)
		switch blocktree.KindOf(err) {
		case blocktree.Other:
			if err == nil {
				f.setKeys(r)
			}
		case blocktree.Permission:
			if a, e := f.unlocker.record(inode); e == nil { // the record is right, and this reader is not in it
				was := *f.keys.Load()
				was.access, was.refused = a, err
				f.setKeys(&was)
				k.log.Error("the file's key is not for this reader any more: nothing more is written", "number", a.Number, "err", err)
				err = nil
			}
		}
		if err == nil {
			k.begin(k.heard)
			if f.keys.Load().refused != nil {
				k.heard.Number = keys.NumberOf(inode.Access)
			}
			if err = f.gate.turn(ctx); err == nil && f.guard != nil {
				err = f.guard.rekeyed(ctx)
			}
			if err == nil {
				k.under = f.handle.Submitted()
				err = k.note(ctx)
			}
		}
		switch {
		case err == nil:
			k.log.Info("the file has a new access record", "number", k.heard.Number, "keyGeneration", f.keys.Load().generation)
			return true
		case k.over(ctx, err):
			return false
		}
		k.log.Error("a new access record cannot be gone by; writes are sealed as before", "number", keys.NumberOf(inode.Access), "err", err)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		case inode = <-k.news:
		}
	}
}
