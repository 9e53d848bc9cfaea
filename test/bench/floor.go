package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// floorNamed is test/bench/floor: what a request costs that has nothing done to it but what cannot be left out.
const floorNamed = "floor"

// floorWritten is the same that answers what is in its logs and syncs nothing: what a write of a file of durability flush costs at least.
const floorWritten = "floor -written"

// floorMiB is its size: what a node of it keeps and writes around in, in its page cache like that of the real ones once it was read.
const floorMiB = 128

// floorDir is where its logs are.
func (b *bench) floorDir() string { return filepath.Join(b.work, "floor.logs") }

// startFloor starts it for one run of measurements, with more flags.
func (b *bench) startFloor(ctx context.Context, name string, flags ...string) (*server, error) {
	program, err := b.build(ctx, "floor", "./test/bench/floor")
	if err != nil {
		return nil, err
	}
	c, line, err := b.startReady(ctx, program, append(flags, "-dir", b.floorDir(), "-socket", filepath.Join(b.work, "floor.sock"), "-mib", strconv.Itoa(floorMiB))...)
	s := &server{name: name}
	if c != nil {
		s.cmds = []*exec.Cmd{c}
	}
	if err != nil {
		return s, err
	}
	words := strings.Fields(line)
	if len(words) != 4 {
		return s, errors.New("the floor does not say where it is")
	}
	s.uri, s.procs = words[0], []process{{"btnbd", c.Process.Pid}}
	for i, word := range words[1:] {
		pid, err := strconv.Atoi(word)
		if err != nil {
			return s, err
		}
		s.procs = append(s.procs, process{fmt.Sprintf("node%d", i+1), pid})
	}
	return s, nil
}

// floorRound measures every workload that has a mark on the floor, and once more on Blocktree beside it; then the writes again, of durability flush.
func (b *bench) floorRound(ctx context.Context) error {
	round := readings{}
	if err := b.floorRun(ctx, round, b.line(), func(workload) bool { return true }, floorNamed); err != nil {
		return err
	}
	if err := b.floorRun(ctx, round, b.flushing, workload.writes, floorWritten, "-written"); err != nil {
		return err
	}
	b.floorReadings = append(b.floorReadings, round)
	return nil
}

// floorRun measures some workloads on a floor with these flags, and on ours.
func (b *bench) floorRun(ctx context.Context, round readings, ours *server, of func(workload) bool, name string, flags ...string) (err error) {
	s, err := b.startFloor(ctx, name, flags...)
	defer func() {
		for s != nil && len(s.cmds) > 0 {
			s.stopLast()
		}
		err = errors.Join(err, os.RemoveAll(b.floorDir()))
	}()
	if err != nil {
		return fmt.Errorf("floor: %w", err)
	}
	for _, w := range comparedWorkloads() {
		if !of(w.workload) {
			continue
		}
		w.regionMiB = floorMiB
		// Requests of the size that is read later: a read of a part of a record costs one read of the log more.
		if _, _, err := b.runFio(ctx, []string{"--name=fill", "--ioengine=nbd", "--uri=" + s.uri, "--rw=write", "--bs=" + w.block, "--iodepth=32",
			"--size=" + strconv.Itoa(floorMiB) + "m", "--refill_buffers", "--output-format=json"}); err != nil {
			return fmt.Errorf("fill the floor: %w", err)
		}
		for _, at := range []*server{s, ours} {
			if err := b.take(ctx, round, at, w.workload); err != nil {
				return err
			}
		}
	}
	return nil
}

// floorTable says how far the marks are from what is possible.
func (b *bench) floorTable(p *strings.Builder) {
	fmt.Fprintf(p, "\n## Floor\n\nA program that does of a request only what cannot be left out (test/bench/floor, docs/design/0036-floor.md): NBD, sealing with leaves, coding 2+1, TLS over TCP to\n"+
		"three processes, CRC, a log with one fdatasync for all that wait, answers; without views, versions, leases, an index, or connections that may end. Both over %d MiB, one after the other.\n"+
		"With two cores no rate is above 2 s / (CPU of a request). A mark above the floor's rate cannot be met on this machine by anything made of these parts.\n"+
		"Blocktree's records of TLS are its own since docs/design/0064-ciphers.md, the floor's are those of crypto/tls.\n\n"+
		floorHead, floorMiB)
	_, kitRead := b.at(nbdkit, randRead1)
	_, kitWrite := b.at(nbdkit, randWrite1)
	rate := func(part float64, shape string, depth int) string {
		return fmt.Sprintf("≥ %.0f /s", part*b.bareRate(shape, depth))
	}
	latency := func(us float64) string { return fmt.Sprintf("≤ %.0f µs", us) }
	b.floorRows(p, floorNamed, blocktree, map[string]string{
		randRead32:  rate(0.5, "read2KiB", 32),
		randWrite32: rate(0.35, "write2KiB", 32),
		seqRead:     rate(0.5, "read512KiB", 8),
		seqWrite:    rate(0.5, "write512KiB", 8),
		randRead1:   latency(3e6/b.bareRate("read2KiB", 1) + kitRead),
		randWrite1:  latency(2*(1e6/b.bareRate("write2KiB", 1)+median(b.syncs)) + kitWrite),
	})
	p.WriteString("\nThe marks of durability `flush`, whose writes are answered when they are in the logs: the floor syncs nothing there (`-written`). Reads are those of above.\n\n" + floorHead)
	b.floorRows(p, floorWritten, flushing, map[string]string{
		randWrite32: rate(0.8, "write2KiB", 32),
		seqWrite:    rate(0.7, "write512KiB", 8),
		randWrite1:  latency(2e6/b.bareRate("write2KiB", 1) + kitWrite),
	})
	b.floorRows(p, floorNamed, blocktree, map[string]string{
		randRead32: rate(0.8, "read2KiB", 32),
		seqRead:    rate(0.7, "read512KiB", 8),
		randRead1:  latency(2e6/b.bareRate("read2KiB", 1) + kitRead),
	})
}

const floorHead = "| workload | mark | floor | blocktree 2+1 | µs of CPU per request: floor | blocktree 2+1 | blocktree / floor |\n|---|---|---|---|---|---|---|\n"

// floorRows writes the workloads that have a limit.
func (b *bench) floorRows(p *strings.Builder, floor, ours string, limits map[string]string) {
	for _, w := range comparedWorkloads() {
		if limits[w.name] == "" {
			continue
		}
		var is [2]string
		var cpu [2][]float64
		for i, name := range []string{floor, ours} {
			var list []float64
			for _, r := range b.floorReadings {
				s := r[key{name, w.name}]
				if w.depth == 1 {
					list = append(list, s.latency)
				} else {
					list = append(list, s.perSecond)
				}
				cpu[i] = append(cpu[i], s.serverCPU()+s.cpu["fio"])
			}
			is[i] = spread(list, "/s")
			if w.depth == 1 {
				is[i] = spread(list, "µs")
			}
		}
		fmt.Fprintf(p, "| %s | %s | %s | %s | %s | %s | %.2f |\n", w.name, limits[w.name], is[0], is[1], spread(cpu[0], ""), spread(cpu[1], ""), median(cpu[1])/median(cpu[0]))
	}
}
