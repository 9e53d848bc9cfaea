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

// worlds says of which sweep a world is.
type worlds struct{ flush, liars, forgetful bool }

// test is the name of the sweep's test.
func (of worlds) test() string {
	return map[worlds]string{{}: "TestSweep", {flush: true}: "TestFlushSweep", {liars: true}: "TestLiarSweep", {flush: true, liars: true}: "TestLiarFlushSweep",
		{forgetful: true}: "TestForgetfulSweep"}[of]
}

// counters are the tags of what a sweep must have counted.
func (of worlds) counters() []string {
	tags := []string{""}
	if of.liars {
		tags = nil // the honest worlds are what the others are for
	}
	if of.flush && !of.liars { // where members lie the world takes no more memory than the code bears beside them
		tags = append(tags, "flush")
	}
	if of.liars {
		tags = append(tags, "liars")
	}
	return tags
}

// optionsOf is the world of a seed: its config follows from the seed unless CFG chooses one. Worlds with files of durability
// flush are a sweep of their own.
func optionsOf(t testing.TB, seed uint64, of worlds, mutant string) Options {
	n := uint64(len(Configs()))
	c := seed % n
	if of.liars { // only of shapes that bear any
		c = []uint64{0, 1, 3, 4, 5}[seed%5]
	}
	c = fromEnv(t, "CFG", c)
	if c >= n {
		t.Fatalf("CFG=%d: there are %d configs", c, n)
	}
	return Options{Config: int(c), Seed: seed, Flush: of.flush, Liars: of.liars, Forgetful: of.forgetful, Mutant: mutant}
}

// reproduce is the command that shows one world again.
func reproduce(t testing.TB, o Options) string {
	s := fmt.Sprintf("SEED=%d", o.Seed)
	if o.Config != optionsOf(t, o.Seed, worlds{o.Flush, o.Liars, o.Forgetful}, "").Config {
		s += fmt.Sprintf(" CFG=%d", o.Config)
	}
	if o.Mutant != "" {
		s += " MUTANT=" + o.Mutant
	}
	return s + " go test ./internal/sim -run " + worlds{o.Flush, o.Liars, o.Forgetful}.test() + " -v"
}

// sweep lives the worlds of seeds first … first+n-1 on all cores. each is called for one world at a time and stops
// the sweep by returning false.
func sweep(t testing.TB, of worlds, mutant string, first, n uint64, each func(o Options, r Result) (goOn bool)) {
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
				o := optionsOf(t, seed, of, mutant)
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
func TestSweep(t *testing.T) { sweepAll(t, worlds{}) }

// TestFlushSweep is the same for worlds with files of durability flush: what of them was not synced is lost all the time.
func TestFlushSweep(t *testing.T) { sweepAll(t, worlds{flush: true}) }

// TestLiarSweep is the same for worlds in which some members lie, as many as the code bears (docs/design/0029).
func TestLiarSweep(t *testing.T) { sweepAll(t, worlds{liars: true}) }

// TestLiarFlushSweep is that with files of durability flush.
func TestLiarFlushSweep(t *testing.T) { sweepAll(t, worlds{flush: true, liars: true}) }

// TestForgetfulSweep is that of worlds in which members keep no layout longer than they need it (docs/design/0073).
func TestForgetfulSweep(t *testing.T) { sweepAll(t, worlds{forgetful: true}) }

func sweepAll(t *testing.T, of worlds) {
	mutant := os.Getenv("MUTANT")
	if seed := fromEnv(t, "SEED", 0); seed != 0 {
		o := optionsOf(t, seed, of, mutant)
		o.Trace = os.Stdout
		if r := Run(o); r.Failure != "" {
			t.Errorf("%s\n\t%s", r.Failure, reproduce(t, o))
		}
		return
	}
	worldsDefault := uint64(sweepDefault)
	if of.forgetful {
		worldsDefault = sweepDefault / 8
	}
	n := fromEnv(t, "SEEDS", worldsDefault)
	var c Counters
	var steps, bad uint64
	start := time.Now()
	rate := func() float64 { return float64(c.Worlds) / time.Since(start).Seconds() }
	sweep(t, of, mutant, fromEnv(t, "FIRST", 1), n, func(o Options, r Result) bool {
		c.Add(&r.Counters)
		steps += uint64(r.Steps)
		if r.Failure != "" {
			bad++
			t.Errorf("%s\n\t%s", r.Failure, reproduce(t, o))
		}
		if c.Worlds%1000 == 0 && n > sweepDefault {
			fmt.Printf("%8d worlds %6.0f/s %5d steps each: %9d writes acknowledged, %9d reads, %7d take-overs, %7d view changes, %d bad\n",
				c.Worlds, rate(), steps/c.Worlds, c.Acknowledged, c.HolderReads+c.LeaselessReads, c.TakeOvers, c.ViewChanges, bad)
		}
		return bad < badMost
	})
	t.Logf("%d worlds, %.0f/s, %d steps, %d bad\n%s", c.Worlds, rate(), steps, bad, &c)
	if n >= sweepDefault && bad == 0 {
		for _, name := range c.Zeros(of.counters()...) {
			t.Errorf("nothing was counted as %s: the sweep does not prove what it claims", name)
		}
	}
}

// TestSameSeedSameTrace lives worlds twice.
func TestSameSeedSameTrace(t *testing.T) {
	seen := map[uint64]bool{}
	for seed := uint64(1); seed <= 60; seed++ {
		o := optionsOf(t, seed, worlds{seed%3 == 0, seed%4 == 0, seed%5 == 0}, "")
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
		steps += Run(optionsOf(b, uint64(i+1), worlds{}, "")).Steps
	}
	b.ReportMetric(float64(steps)/float64(b.N), "steps/world")
}
