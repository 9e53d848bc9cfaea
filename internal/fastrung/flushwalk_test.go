package fastrung

import (
	"context"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
)

// flushRounds is how often a walk with a file of durability flush loses something.
const flushRounds = 6

// TestFlushRandomWalk writes and flushes a file of durability flush, ends processes and takes the power of any nodes at one moment, and compares with
// the mirror: a loss is said where fewer than k nodes kept their memory, and nowhere else; what was flushed is always there.
func TestFlushRandomWalk(t *testing.T) {
	first, count := uint64(0), uint64(seedsDefault)
	if s := os.Getenv("SEED"); s != "" {
		first, count = number(t, s), 1
	} else if s := os.Getenv("SEEDS"); s != "" {
		count = number(t, s)
	}
	flushing(t, first, count, func(b *flushBed, seed uint64) {
		w := &flushWalk{flushBed: b, rng: rand.New(rand.NewPCG(seed, 2)), begun: make([]uint64, flushSectors)}
		for range flushRounds {
			w.round()
		}
		b.T.Logf("%v: %d writes, %d flushes, %d losses; to see it again: SEED=%d go test ./internal/fastrung -run TestFlushRandomWalk -v", b.Elapsed(), w.writes, w.flushes, w.losses, seed)
	})
}

type flushWalk struct {
	*flushBed
	rng                     *rand.Rand
	begun                   []uint64 // the newest write of each sector that was asked for
	next                    uint64
	writes, flushes, losses int
}

// round works for a while, has something happen to some of the nodes, and demands that all is well again.
func (w *flushWalk) round() {
	w.T.Helper()
	for range 5 + w.rng.IntN(30) {
		if err := w.work(); err != nil {
			w.T.Errorf("%v: while all is well: %v", w.Elapsed(), err)
		}
	}
	powerless := w.strike()
	for range w.rng.IntN(3) { // some of them while the others are away, or go
		_ = w.work()
	}
	time.Sleep(time.Duration(w.rng.IntN(4000)) * time.Millisecond)
	w.back()
	before := w.lossNumber(w.lazy)
	found, heard, reopened := w.settle()
	after := w.lossNumber(w.lazy)
	lossy := after != before
	if lossy {
		w.losses++
	}
	if lossy && powerless < 2 || heard && !lossy {
		w.T.Errorf("%v: %d nodes lost their power, and the loss number went from %d to %d; the holder heard of it: %v", w.Elapsed(), powerless, before, after, heard)
	}
	for i, k := range found {
		low := w.acked[i]
		if lossy {
			low = w.flushed[i]
		}
		if k < low || k > w.begun[i] {
			w.T.Errorf("%v: sector %d is of write %d; %d was flushed, %d acknowledged, %d begun; a loss: %v", w.Elapsed(), i, k, w.flushed[i], w.acked[i], w.begun[i], lossy)
		}
		if reopened { // a take-over has decided
			w.flushed[i], w.acked[i], w.begun[i] = k, k, k
		}
	}
}

// work writes a sector, or flushes.
func (w *flushWalk) work() error {
	ctx, cancel := context.WithTimeout(w.T.Context(), time.Minute)
	defer cancel()
	if w.rng.IntN(6) == 0 {
		if err := w.lazy.Flush(ctx); err != nil {
			return err
		}
		w.flushes++
		copy(w.flushed, w.acked)
		return nil
	}
	i := w.rng.IntN(flushSectors)
	w.next++
	w.begun[i] = w.next
	if err := w.lazy.WriteSectors(ctx, blocktree.SectorIndex(i), numbered(blocktree.SectorIndex(i), w.next)); err != nil {
		return err
	}
	w.writes++
	w.acked[i] = w.next
	return nil
}

// strike stops, kills or takes the power of some nodes, and returns how many have lost what they had not synced.
func (w *flushWalk) strike() (powerless int) {
	var killed, dark, stopped []int
	for i := range 3 {
		switch w.rng.IntN(5) {
		case 0:
		case 1, 2:
			killed = append(killed, i)
		default:
			dark = append(dark, i)
		}
	}
	if w.rng.IntN(4) == 0 { // power only, or none
		killed, dark = nil, append(killed, dark...)
	} else if w.rng.IntN(3) == 0 {
		killed, dark = append(killed, dark...), nil
	}
	if w.rng.IntN(4) == 0 {
		killed, stopped = nil, killed
	}
	w.PowerLoss(w.rng.Uint64(), dark...)
	w.Kill(killed...)
	for _, i := range stopped { // last: that takes a while, and one that is left out meanwhile counts for nothing when others lose their power
		w.Stop(i)
	}
	for _, i := range killed {
		if w.rng.IntN(4) == 0 {
			w.PowerLossStopped(w.rng.Uint64(), i)
			powerless++
		}
	}
	w.T.Logf("%v: took the power of %v, killed %v, of which %d lost their power then, stopped %v", w.Elapsed(), dark, killed, powerless, stopped)
	return powerless + len(dark)
}

// settle waits until nothing is missing and the file can be read, by its holder or, where that hears that it is none any more, by the next. It
// returns which write each sector is of, and whether a holder heard of a loss.
func (w *flushWalk) settle() (found []uint64, heard, reopened bool) {
	w.T.Helper()
	w.await("an end of the trouble", 5*time.Minute, func() bool {
		var err error
		if found, err = w.readAll(); err == nil {
			return w.Status(w.client).Health == cluster.HealthOK
		}
		if kind := blocktree.KindOf(err); kind == blocktree.Lost || kind == blocktree.Fenced {
			heard, reopened = heard || kind == blocktree.Lost, true
			_ = w.lazy.Close()
			w.lazy = w.openLazy(w.client)
		}
		return false
	})
	return found, heard, reopened
}

// readAll returns which write each sector is of.
func (w *flushWalk) readAll() (found []uint64, err error) {
	ctx, cancel := context.WithTimeout(w.T.Context(), 5*time.Second)
	defer cancel()
	for i := range w.acked {
		k, err := read(ctx, w.T, w.lazy, blocktree.SectorIndex(i))
		if err != nil {
			return nil, err
		}
		found = append(found, k)
	}
	return found, nil
}
