package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// plan is how much is measured.
type plan struct {
	rounds    int
	each      time.Duration // per workload and server
	diskMiB   int           // size of Blocktree's file, all written: a node keeps half of it
	regionMiB int           // what the workloads touch, on every server
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	only := flag.String("only", "", "measure a subset: engine, the marks of the NBD engine and of the whole line")
	flag.Parse()
	if flag.NArg() > 0 || *only != "" && *only != "engine" {
		return errors.New("the only subset is --only engine, and there are no arguments")
	}
	p := plan{rounds: 3, each: 3 * time.Second, diskMiB: 2048, regionMiB: 512}
	if os.Getenv("QUICK") != "" {
		p = plan{rounds: 1, each: 2 * time.Second, diskMiB: 512, regionMiB: 256}
	}
	if *only != "" {
		p = plan{rounds: 5, each: 2 * time.Second, diskMiB: 1024, regionMiB: 512}
		if os.Getenv("QUICK") != "" {
			p = plan{rounds: 3, each: time.Second, diskMiB: 512, regionMiB: 256}
		}
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		return fmt.Errorf("run it as test/bench/run: %w", err)
	}
	work, err := os.MkdirTemp(os.Getenv("BENCH_DIR"), "bt-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	b := &bench{plan: p, onlyEngine: *only != "", toggles: map[int]int{}, root: root, work: work, began: time.Now(), samples: map[key][]sample{}, bare: map[bareKey][]float64{}}
	defer b.stopAll()
	if err := b.measure(ctx); err != nil {
		return err
	}
	out := os.Getenv("BENCH_OUT")
	if out == "" && !b.onlyEngine {
		out = filepath.Join(root, "docs", "BENCHMARKS.md")
	}
	page := b.report()
	fmt.Println(page)
	if out != "" {
		err = os.WriteFile(out, []byte(page), 0o644)
	}
	if names := b.unmet(); err == nil && b.onlyEngine && len(names) > 0 {
		err = fmt.Errorf("%d marks are not met: %s", len(names), strings.Join(names, "; "))
	}
	return err
}

// bench is one run.
type bench struct {
	plan
	onlyEngine bool
	root, work string
	began      time.Time
	load       string // of the machine, before
	servers    []*server
	flushing   *server
	samples    map[key][]sample
	bare       map[bareKey][]float64 // exchanges per second
	syncs      []float64             // microseconds: the slowest of three, one median per round
	nodeRSS    []float64             // MiB, each node, full
	nbdRSS     float64               // MiB, btnbd with its default cache, after reads
	fillMiBs   float64               // MiB/s
	profiles   []profiled
	toggles    map[int]int // profiles that each process has begun

	ours                                         *server // the engine over memory
	engineReadings, cachedReadings               []readings
	floorReadings                                []readings
	engineProfiles, cachedProfiles, lineProfiles []profiled
}

// measure does everything in order.
func (b *bench) measure(ctx context.Context) error {
	b.load = loadAverage()
	steps := []func(context.Context) error{b.startServers, b.fill}
	if !b.onlyEngine {
		for r := range b.rounds {
			steps = append(steps, func(ctx context.Context) error {
				fmt.Fprintf(os.Stderr, "round %d of %d\n", r+1, b.rounds)
				return b.round(ctx, r)
			})
		}
		steps = append(steps, b.profile, b.memory)
	}
	steps = append(steps, b.engine)
	for _, s := range steps {
		if err := s(ctx); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// serversFor is what a workload is measured on: writes also on the file of durability flush.
func (b *bench) serversFor(w workload) []*server {
	if w.writes() {
		return append(slices.Clone(b.servers), b.flushing)
	}
	return b.servers
}

// round measures every workload on every server, and the yardsticks.
func (b *bench) round(ctx context.Context, r int) error {
	for _, w := range workloads() {
		for _, s := range b.serversFor(w) {
			got, err := b.fio(ctx, s, w)
			if err != nil {
				return fmt.Errorf("%s on %s: %w", w.name, s.name, err)
			}
			k := key{s.name, w.name}
			b.samples[k] = append(b.samples[k], got)
			fmt.Fprintf(os.Stderr, "  %-24s %-20s %9.0f/s %9.0f µs\n", w.name, s.name, got.perSecond, got.latency)
		}
	}
	if err := b.bareExchange(ctx, r == 0); err != nil {
		return fmt.Errorf("bare exchange: %w", err)
	}
	us, err := slowestOfThree(b.work, b.each/2)
	if err != nil {
		return fmt.Errorf("fdatasync: %w", err)
	}
	b.syncs = append(b.syncs, us)
	return b.floorRound(ctx)
}
