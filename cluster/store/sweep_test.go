package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"blocktree"
	"blocktree/internal/vfs"
)

// The sweep goes further than the crash test: the power goes between any two changes of the disk, not only at syncs; again
// and again within the starts that follow; writes find no space in between; checkpoints are begun at any moment, also in
// callbacks of the log.

// sweep is a world (crash_test.go) with these in addition. mu of the embedded world guards the history.
type sweep struct {
	world
	machine sync.Mutex // the machine's own lock
	every   int        // one of so many steps is a crash
	refused int
}

// crashAt cuts the power here, and kills the process here. history is that of the start whose log crash holds; nil: w's own.
func (w *sweep) crashAt(crash *vfs.Crash, op, name string, depth int, history []event) error {
	w.mu.Lock() // history and clones are of one moment
	if history == nil {
		history = slices.Clone(w.history)
	}
	seed := w.rng.Uint64()
	w.clones++
	after := []*vfs.Crash{crash.Clone(seed), crash.Kill()}
	w.mu.Unlock()
	for i, fs := range after {
		if err := w.recoverFrom(fs, depth, append([]event{}, history...)); err != nil {
			return fmt.Errorf("%s %s (depth %d, seed %d, kill %v): %w", op, name, depth, seed, i == 1, err)
		}
	}
	return nil
}

// recoverFrom opens a store and checks it; until Open returns, crashes happen again.
func (w *sweep) recoverFrom(crash *vfs.Crash, depth int, history []event) error {
	var turn sync.Mutex // of Open and of the preparer that it starts
	var inner error
	on := depth > 0
	fs := &stepFS{FS: crash}
	fs.before = func(op, name string) {
		w.mu.Lock()
		chosen := w.rng.IntN(6) == 0
		w.mu.Unlock()
		turn.Lock()
		defer turn.Unlock()
		if on && chosen && inner == nil {
			inner = w.crashAt(crash, op, name, depth-1, history)
		}
	}
	m := newMini()
	s, err := Open(fs, testDir, testID, w.opts, m)
	turn.Lock()
	on = false
	turn.Unlock()
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	err = errors.Join(inner, m.recover())
	if err == nil {
		err = m.compare()
	}
	if err == nil && len(s.Damaged()) > 0 {
		err = fmt.Errorf("damage: %+v", s.Damaged())
	}
	if err == nil {
		err = w.checkAcked(m.Model, history)
	}
	return errors.Join(err, s.Close(nil))
}

func (w *sweep) runSweep(rounds, operations int) {
	for range rounds {
		fault := vfs.NewFault(w.fs)
		step := &stepFS{FS: fault, before: func(op, name string) {
			w.mu.Lock()
			chosen := w.watch.Load() && len(w.failures) == 0 && w.rng.IntN(w.every) == 0
			w.mu.Unlock()
			if chosen {
				if err := w.crashAt(w.fs, op, name, 2, nil); err != nil {
					w.fail("%v", err)
				}
			}
		}}
		m, err := openMini(step, w.opts)
		if err != nil {
			w.fail("start: %v", err)
			return
		}
		w.m, w.base, w.history, w.applied = m, slices.Clone(m.Model), nil, 0
		w.watch.Store(true)
		var done sync.WaitGroup
		for range operations {
			if w.chance(12) {
				fault.Inject(vfs.Injection{Op: vfs.FaultWrite, Name: segmentPrefix, Short: w.chance(2), Err: syscall.ENOSPC})
			}
			w.appendOne(&done)
			if w.chance(3) {
				done.Wait()
			}
			if w.chance(2) {
				w.machine.Lock()
				w.pumpAll()
				w.machine.Unlock()
			}
			if w.chance(6) {
				w.machine.Lock()
				w.tryCheckpoint()
				w.machine.Unlock()
			}
			if w.failed() {
				break
			}
		}
		done.Wait()
		w.machine.Lock()
		w.pumpAll()
		w.machine.Unlock()
		w.wg.Wait()
		if !w.failed() {
			if err := w.m.compare(); err != nil {
				w.fail("live: %v", err)
			}
		}
		w.watch.Store(false)
		fault.Clear()
		var blob []byte
		if w.chance(3) {
			blob = w.m.blob(w.t)
		}
		w.copied += w.m.s.Stats().CompactedSegments
		if err := w.m.s.Close(blob); err != nil {
			w.fail("close: %v", err)
		}
		if w.failed() {
			return
		}
		w.fs = w.fs.Clone(uint64(w.clones))
	}
}

func (w *sweep) chance(n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.IntN(n) == 0
}

// appendOne appends random records, or takes back what found no space.
func (w *sweep) appendOne(done *sync.WaitGroup) {
	w.machine.Lock()
	defer w.machine.Unlock()
	w.mu.Lock()
	steps, recs := w.randomSteps()
	at := len(w.history)
	w.history = append(w.history, event{steps: slices.Clone(steps)})
	w.mu.Unlock()
	done.Add(1)
	v := steps[0].V
	refs, err := w.m.s.Append(recs, func(err error) {
		defer done.Done()
		if w.chance(10) && w.machine.TryLock() {
			w.tryCheckpoint()
			w.machine.Unlock()
		}
		if err != nil && blocktree.KindOf(err) != blocktree.NoSpace {
			w.fail("append: %v", err)
			return
		}
		if err == nil {
			w.mu.Lock()
			w.history[at].acked = true
			w.mu.Unlock()
			return
		}
		w.machine.Lock() // it never happened
		defer w.machine.Unlock()
		w.m.Pending = slices.DeleteFunc(w.m.Pending, func(st step) bool { return st.V == v })
		w.mu.Lock()
		w.history[at].steps = nil
		w.history[at].acked = true
		w.refused++
		w.mu.Unlock()
	})
	if err != nil {
		w.fail("append: %v", err)
		done.Done()
		return
	}
	for i := range steps {
		steps[i].Ref = refs[i]
	}
	w.m.Pending = append(w.m.Pending, steps...)
}

// pumpAll applies what is acknowledged, in order; the machine's lock is held.
func (w *sweep) pumpAll() {
	for {
		w.mu.Lock()
		ready := w.applied < len(w.history) && w.history[w.applied].acked
		n := 0
		if ready {
			n = len(w.history[w.applied].steps)
			w.applied++
		}
		w.mu.Unlock()
		if !ready {
			return
		}
		steps := w.m.Pending[:n]
		for _, st := range steps {
			if err := w.m.apply(st, n > 1); err != nil {
				w.fail("apply: %v", err)
			}
		}
		w.m.Pending = w.m.Pending[n:]
	}
}

// tryCheckpoint begins one unless one is being written; the machine's lock is held.
func (w *sweep) tryCheckpoint() {
	c, err := w.m.s.BeginCheckpoint(w.m.blob(w.t))
	if err != nil {
		if blocktree.KindOf(err) != blocktree.Busy {
			w.fail("begin: %v", err)
		}
		return
	}
	w.wg.Go(func() {
		if err := c.Finish(); err != nil && blocktree.KindOf(err) != blocktree.NoSpace {
			w.fail("checkpoint: %v", err)
		}
	})
}

func newSweep(t *testing.T, seed uint64, m mutant) *sweep {
	w := &sweep{every: 25, world: world{
		t: t, rng: rand.New(rand.NewPCG(seed, 2)), fs: vfs.NewCrash(), base: make([]cell, worldSectors),
		opts: Options{SegmentBytes: 24 << 10, CheckpointBytes: 100 << 10, CacheBytes: 4 << 10, mutant: m, compactEager: true},
	}}
	if err := Create(w.fs, testDir, testID, w.opts); err != nil {
		t.Fatal(err)
	}
	return w
}

// sweepFor, an environment variable, is how many seconds TestCrashBetweenAnyTwoSteps goes on with new seeds.
const sweepFor = "BT_STORE_SWEEP_SECONDS"

func TestCrashBetweenAnyTwoSteps(t *testing.T) {
	seconds, _ := strconv.Atoi(os.Getenv(sweepFor)) // 0: the two seeds of every run
	start := uint64(0)
	if seconds > 0 {
		start = rand.Uint64N(1 << 32)
	}
	begun, clones, refused, copied := time.Now(), 0, 0, uint64(0)
	for seed := start; seed < start+2 || time.Since(begun) < time.Duration(seconds)*time.Second; seed++ {
		w := newSweep(t, seed, forgetNothing)
		w.runSweep(3, 40)
		if len(w.failures) > 0 {
			t.Fatalf("seed %d: %s", seed, strings.Join(w.failures, "\n"))
		}
		clones, refused, copied = clones+w.clones, refused+w.refused, copied+w.copied
	}
	if clones < 50 || refused == 0 || copied == 0 {
		t.Errorf("%d crashes, %d appends without space, %d segments compacted", clones, refused, copied)
	}
	t.Logf("%d crashes, %d appends without space, %d segments compacted", clones, refused, copied)
}
