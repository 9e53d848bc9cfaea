package sim

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"testing"
	"time"
)

// fromEnv reads a number; an empty or missing variable means def.
func fromEnv(t testing.TB, name string, def uint64) uint64 {
	s := os.Getenv(name)
	if s == "" {
		return def
	}
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q is not a number", name, s)
	}
	return v
}

// optionsOf is the world of a seed: its config follows from the seed unless CFG chooses one. Worlds with files of durability
// flush are a sweep of their own.
func optionsOf(t testing.TB, seed uint64, flush bool, mutant string) Options {
	n := uint64(len(Configs()))
	c := fromEnv(t, "CFG", seed%n)
	if c >= n {
		t.Fatalf("CFG=%d: there are %d configs", c, n)
	}
	return Options{Config: int(c), Seed: seed, Flush: flush, Mutant: mutant}
}

// reproduce is the command that shows one world again.
func reproduce(o Options) string {
	s := fmt.Sprintf("SEED=%d", o.Seed)
	if o.Config != int(o.Seed%uint64(len(Configs()))) {
		s += fmt.Sprintf(" CFG=%d", o.Config)
	}
	if o.Mutant != "" {
		s += " MUTANT=" + o.Mutant
	}
	if o.Flush {
		return s + " go test ./internal/sim -run FlushSweep -v"
	}
	return s + " go test ./internal/sim -run TestSweep -v"
}

// sweep lives the worlds of seeds first … first+n-1 on all cores. each is called for one world at a time and stops
// the sweep by returning false.
func sweep(t testing.TB, flush bool, mutant string, first, n uint64, each func(o Options, r Result) (goOn bool)) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	var mu sync.Mutex
	next, stop := first, false
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				mu.Lock()
				seed := next
				next++
				end := stop || seed >= first+n
				mu.Unlock()
				if end {
					return
				}
				o := optionsOf(t, seed, flush, mutant)
				r := Run(o)
				mu.Lock()
				if !stop && !each(o, r) {
					stop = true
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// sweepDefault is how many worlds a plain go test lives through.
const sweepDefault = 2000

// badMost is how many broken worlds a sweep reports before it gives up.
const badMost = 10

// TestSweep is the proof: no world of the sweep may break anything, and every counter must have moved. SEEDS says how many
// worlds, FIRST the first seed; SEED lives that one only and prints everything that happens in it.
func TestSweep(t *testing.T) { sweepAll(t, false) }

// TestFlushSweep is the same for worlds with files of durability flush: what of them was not synced is lost all the time.
func TestFlushSweep(t *testing.T) { sweepAll(t, true) }

func sweepAll(t *testing.T, flush bool) {
	mutant := os.Getenv("MUTANT")
	if seed := fromEnv(t, "SEED", 0); seed != 0 {
		o := optionsOf(t, seed, flush, mutant)
		o.Trace = os.Stdout
		if r := Run(o); r.Failure != "" {
			t.Errorf("%s\n\t%s", r.Failure, reproduce(o))
		}
		return
	}
	n := fromEnv(t, "SEEDS", sweepDefault)
	var c Counters
	var steps, bad uint64
	start := time.Now()
	rate := func() float64 { return float64(c.Worlds) / time.Since(start).Seconds() }
	sweep(t, flush, mutant, fromEnv(t, "FIRST", 1), n, func(o Options, r Result) bool {
		c.Add(&r.Counters)
		steps += uint64(r.Steps)
		if r.Failure != "" {
			bad++
			t.Errorf("%s\n\t%s", r.Failure, reproduce(o))
		}
		if c.Worlds%1000 == 0 && n > sweepDefault {
			fmt.Printf("%8d worlds %6.0f/s %5d steps each: %9d writes acknowledged, %9d reads, %7d take-overs, %7d view changes, %d bad\n",
				c.Worlds, rate(), steps/c.Worlds, c.Acknowledged, c.HolderReads+c.LeaselessReads, c.TakeOvers, c.ViewChanges, bad)
		}
		return bad < badMost
	})
	t.Logf("%d worlds, %.0f/s, %d steps, %d bad\n%s", c.Worlds, rate(), steps, bad, &c)
	if n >= sweepDefault && bad == 0 {
		for _, name := range c.Zeros(flush) {
			t.Errorf("nothing was counted as %s: the sweep does not prove what it claims", name)
		}
	}
}

// TestSameSeedSameTrace lives worlds twice.
func TestSameSeedSameTrace(t *testing.T) {
	seen := map[uint64]bool{}
	for seed := uint64(1); seed <= 60; seed++ {
		o := optionsOf(t, seed, seed%3 == 0, "")
		a, b := Run(o), Run(o)
		if a != b {
			t.Fatalf("seed %d: %d steps, hash %016x, %q, then %d steps, hash %016x, %q", seed, a.Steps, a.Hash, a.Failure, b.Steps, b.Hash, b.Failure)
		}
		seen[a.Hash] = true
	}
	if len(seen) < 60 {
		t.Fatalf("60 seeds have only %d different traces", len(seen))
	}
}

func BenchmarkWorld(b *testing.B) {
	steps := 0
	for i := range b.N {
		steps += Run(optionsOf(b, uint64(i+1), false, "")).Steps
	}
	b.ReportMetric(float64(steps)/float64(b.N), "steps/world")
}
