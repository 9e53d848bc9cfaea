package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// What the subset "engine" measures beside nbdkit and the two files of Blocktree.
const (
	ours        = "our engine over memory"
	cached      = "blocktree 2+1, cached"
	bareNamed   = "bare exchange"
	syncsNamed  = "slowest of three fdatasyncs"
	cachedMiB   = 64  // what is read from the cache
	bigCacheMiB = 256 // of the btnbd whose cache is measured: it holds all of that
)

// compared is a workload of the subset, and the bare exchange that a code 2+1 makes of it.
type compared struct {
	workload
	shape string
}

func comparedWorkloads() []compared {
	shapes := map[string]string{randRead1: "read2KiB", randRead32: "read2KiB", randWrite1: "write2KiB", randWrite32: "write2KiB",
		seqRead: "read512KiB", seqWrite: "write512KiB"}
	var list []compared
	for _, w := range workloads() {
		if shape, ok := shapes[w.name]; ok {
			list = append(list, compared{w, shape})
		}
	}
	return list
}

// cachedWorkloads are reads of what a cache holds.
func cachedWorkloads() []workload {
	return []workload{
		{name: randRead1, rw: "randread", block: "4k", depth: 1, regionMiB: cachedMiB},
		{name: randRead32, rw: "randread", block: "4k", depth: 32, regionMiB: cachedMiB},
	}
}

// readings is one round: everything is measured once, one after the other, so that ratios within it hold on a busy machine.
type readings map[key]sample

// startOurs starts our engine over memory.
func (b *bench) startOurs(ctx context.Context) error {
	program, err := b.build(ctx, "memory", "./test/bench/memory")
	if err != nil {
		return err
	}
	c, uri, err := b.startReady(ctx, program, "-socket", filepath.Join(b.work, "ours"), "-mib", strconv.Itoa(b.regionMiB))
	if c != nil {
		b.ours = &server{name: ours, uri: uri, cmds: []*exec.Cmd{c}, procs: []process{{"memory", c.Process.Pid}}}
	}
	return err
}

// build makes one of the programs that only measuring needs, once.
func (b *bench) build(ctx context.Context, name, dir string) (string, error) {
	program := filepath.Join(b.work, name)
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	c := exec.CommandContext(ctx, "go", "build", "-o", program, dir)
	c.Dir, c.Stderr = b.root, os.Stderr
	return program, c.Run()
}

// engine measures the subset: the engine and the whole line, then reads from the cache, then where the time went.
func (b *bench) engine(ctx context.Context) error {
	if err := b.restart(ctx, "off"); err != nil {
		return err
	}
	for r := range b.rounds {
		fmt.Fprintf(os.Stderr, "engine, round %d of %d\n", r+1, b.rounds)
		if err := b.engineRound(ctx); err != nil {
			return err
		}
	}
	var list []workload
	for _, w := range comparedWorkloads() {
		list = append(list, w.workload)
	}
	var err error
	if b.engineProfiles, err = b.profileOf(ctx, b.ours, list); err != nil {
		return err
	}
	if b.lineProfiles, err = b.profileOf(ctx, b.flushing, list); err != nil {
		return err
	}
	return b.cachedReads(ctx)
}

// engineRound measures every workload on everything once.
func (b *bench) engineRound(ctx context.Context) error {
	round := readings{}
	for _, w := range comparedWorkloads() {
		for _, s := range []*server{b.servers[0], b.ours, b.line(), b.flushing} {
			if err := b.take(ctx, round, s, w.workload); err != nil {
				return err
			}
		}
		rows, err := b.exchange(ctx, "-carriers", "tcp", "-over", "bare", "-shapes", w.shape, "-depth", strconv.Itoa(w.depth), "-each", (b.each / 2).String())
		if err != nil {
			return fmt.Errorf("bare exchange: %w", err)
		}
		for _, rate := range rows {
			round[key{bareNamed, w.name}] = sample{perSecond: rate, latency: 1e6 * float64(w.depth) / rate}
		}
	}
	us, err := slowestOfThree(b.work, b.each/2)
	if err != nil {
		return fmt.Errorf("fdatasync: %w", err)
	}
	round[key{syncsNamed, ""}] = sample{latency: us, perSecond: 1e6 / us}
	b.engineReadings = append(b.engineReadings, round)
	return nil
}

// take measures one workload on one server.
func (b *bench) take(ctx context.Context, round readings, s *server, w workload) error {
	got, err := b.fio(ctx, s, w)
	if err != nil {
		return fmt.Errorf("%s on %s: %w", w.name, s.name, err)
	}
	round[key{s.name, w.name}] = got
	fmt.Fprintf(os.Stderr, "  %-24s %-24s %9.0f/s %9.0f µs\n", w.name, s.name, got.perSecond, got.latency)
	return nil
}

// cachedReads measures reads of sectors that btnbd has in its cache.
func (b *bench) cachedReads(ctx context.Context) error {
	if err := b.restart(ctx, strconv.Itoa(bigCacheMiB)+"MiB"); err != nil {
		return err
	}
	s := &server{name: cached, uri: b.flushing.uri, procs: b.flushing.procs[len(b.flushing.procs)-1:]} // btnbd alone: nodes are not asked
	warm := workload{name: "warm", rw: "read", block: "128k", depth: 8, regionMiB: cachedMiB}
	if _, err := b.fio(ctx, s, warm); err != nil {
		return err
	}
	for range b.rounds {
		round := readings{}
		for _, w := range cachedWorkloads() {
			for _, at := range []*server{b.servers[0], s} {
				if err := b.take(ctx, round, at, w); err != nil {
					return err
				}
			}
		}
		b.cachedReadings = append(b.cachedReadings, round)
	}
	var err error
	b.cachedProfiles, err = b.profileOf(ctx, s, cachedWorkloads())
	return err
}

// line is Blocktree with its file of durability ack.
func (b *bench) line() *server { return b.servers[len(b.servers)-1] }

// restart starts btnbd anew with a cache of that size.
func (b *bench) restart(ctx context.Context, cache string) error {
	s := b.line()
	s.stopLast()
	s.procs = s.procs[:len(s.procs)-1]
	err := b.serve(ctx, s, cache)
	b.flushing.procs = s.procs
	return err
}

// exchange runs the bare exchange and returns exchanges per second by row.
func (b *bench) exchange(ctx context.Context, args ...string) (map[bareKey]float64, error) {
	program, err := b.build(ctx, "bareexchange", "./internal/bttp/bareexchange/cmd")
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, program, args...)
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return nil, err
	}
	return parseExchange(out)
}
