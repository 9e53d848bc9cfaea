package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// options of a run.
type options struct {
	nodes int
	code  string
	seed  uint64
	lasts time.Duration // of the faults
	kinds []string      // of faults; empty: all
	bin   string        // where btnode and btnbd are
	plan  bool          // print the plan and do nothing
	keep  bool

	plain     bool   // nodes keep their store in plain directories
	lossydisk string // the program
	diskSize  string // of each node
}

// lastsMax bounds a run, as histories are kept in memory.
const lastsMax = 2 * time.Hour

func main() {
	o := options{}
	var kinds, disks string
	flag.IntVar(&o.nodes, "nodes", 3, "number of nodes")
	flag.StringVar(&o.code, "code", "2+1", "erasure code")
	flag.Uint64Var(&o.seed, "seed", 0, "of the plan of faults; 0 draws one")
	flag.DurationVar(&o.lasts, "for", time.Minute, "how long faults are made")
	flag.StringVar(&kinds, "kinds", "", "which kinds of faults, with commas; all when empty, all others when each has a - before it, none for \"none\"")
	flag.StringVar(&o.bin, "bin", "bin", "directory of btnode and btnbd")
	flag.StringVar(&disks, "disks", "lossy", "lossy: each node on an ext4 and a file system of its own; plain: a directory, without the faults of disks")
	flag.StringVar(&o.lossydisk, "lossydisk", "", "the program test/thrash/lossydisk")
	flag.StringVar(&o.diskSize, "disksize", "3G", "of each node, for lossy disks")
	flag.BoolVar(&o.plan, "plan", false, "print the plan of the faults and do nothing")
	flag.BoolVar(&o.keep, "keep", false, "keep all files at the end, not only after a failure")
	flag.Parse()
	if kinds != "" {
		o.kinds = strings.Split(kinds, ",")
	}
	o.plain = disks == "plain"
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano()) % 1_000_000_007
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "thrash: error:", err)
		os.Exit(1)
	}
}

func (o *options) check() error {
	if o.nodes < 1 || o.nodes > 16 || o.lasts <= 0 || o.lasts > lastsMax {
		return fmt.Errorf("%d nodes for %v: at most 16 and %v", o.nodes, o.lasts, lastsMax)
	}
	if !o.plain && o.lossydisk == "" && !o.plan {
		return errors.New("lossy disks need -lossydisk PROGRAM; test/thrash/run builds it")
	}
	for _, k := range o.kinds {
		if !known(strings.TrimPrefix(k, "-")) && k != "none" {
			return fmt.Errorf("no kind of fault %q; there are %s", k, strings.Join(kindNames(), ", "))
		}
	}
	bin, err := filepath.Abs(o.bin)
	o.bin = bin
	return err
}

// run is one whole run. Its error is the verdict.
func run(ctx context.Context, o options) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	plan := makePlan(o)
	fmt.Printf("thrash: %d nodes, %s, %v, seed %d: %d faults planned\n", o.nodes, o.code, o.lasts, o.seed, len(plan))
	if o.plan {
		for _, e := range plan {
			fmt.Println(e)
		}
		return nil
	}
	if os.Getuid() != 0 {
		return errors.New("network namespaces need root")
	}
	w, err := newWorld(ctx, o)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, w.abandon)()
	defer func() { err = errors.Join(err, w.close(err != nil && ctx.Err() == nil)) }() // who stops a run wants nothing kept
	if err := w.start(ctx); err != nil {
		return err
	}
	l, err := w.startLoads(ctx)
	if err != nil {
		return err
	}
	defer l.stop()
	began := time.Now()
	err = w.play(ctx, plan)
	w.say("the faults are over after %v", time.Since(began).Round(time.Second))
	if err == nil {
		err = w.finale(ctx, l)
	}
	l.stop()
	w.report(l)
	if err == nil {
		err = w.verdict()
	}
	return err
}

// verdict is an error that names what was wrong.
func (w *world) verdict() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.violations) > 0 {
		return fmt.Errorf("%d violations; the first: %s", len(w.violations), w.violations[0])
	}
	return nil
}
