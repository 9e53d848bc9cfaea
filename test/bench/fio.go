package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
)

// workload is one fio job.
type workload struct {
	name      string
	rw        string // fio's word
	block     string
	depth     int
	extra     []string
	regionMiB int // what is touched, if it is not that of the plan
}

const (
	randWrite1  = "4 KiB write, depth 1"
	randWrite32 = "4 KiB write, depth 32"
	randRead1   = "4 KiB read, depth 1"
	randRead32  = "4 KiB read, depth 32"
	flushed     = "4 KiB write + flush"
	seqWrite    = "1 MiB write, depth 8"
	seqRead     = "1 MiB read, depth 8"
)

func workloads() []workload {
	return []workload{
		{name: randWrite1, rw: "randwrite", block: "4k", depth: 1},
		{name: randWrite32, rw: "randwrite", block: "4k", depth: 32},
		{name: randRead1, rw: "randread", block: "4k", depth: 1},
		{name: randRead32, rw: "randread", block: "4k", depth: 32},
		{name: flushed, rw: "randwrite", block: "4k", depth: 1, extra: []string{"--fsync=1"}},
		{name: seqWrite, rw: "write", block: "1m", depth: 8},
		{name: seqRead, rw: "read", block: "1m", depth: 8},
	}
}

func (w workload) writes() bool { return w.rw == "randwrite" || w.rw == "write" }

// key names the samples of one workload on one server.
type key struct{ server, workload string }

// sample is one measurement.
type sample struct {
	perSecond float64
	latency   float64            // microseconds: the mean of one request, with its flush where it has one
	p99       float64            // microseconds
	cpu       map[string]float64 // microseconds of CPU per request, by process; "fio" is the client
}

// fioResult is the part of fio's JSON that is read.
type fioResult struct {
	Jobs []struct {
		Error  int          `json:"error"`
		UsrCPU float64      `json:"usr_cpu"`
		SysCPU float64      `json:"sys_cpu"`
		Read   fioDirection `json:"read"`
		Write  fioDirection `json:"write"`
	} `json:"jobs"`
}

type fioDirection struct {
	IOPS    float64 `json:"iops"`
	Total   float64 `json:"total_ios"`
	Runtime float64 `json:"runtime"` // milliseconds
	Lat     struct {
		Mean float64 `json:"mean"`
	} `json:"lat_ns"`
	Clat struct {
		Percentile map[string]float64 `json:"percentile"`
	} `json:"clat_ns"`
}

// fio runs one workload on one server.
func (b *bench) fio(ctx context.Context, s *server, w workload) (sample, error) {
	region := cmp.Or(w.regionMiB, b.regionMiB)
	args := []string{"--name=" + strconv.Itoa(len(w.name)), "--ioengine=nbd", "--uri=" + s.uri, "--rw=" + w.rw, "--bs=" + w.block,
		"--iodepth=" + strconv.Itoa(w.depth), "--size=" + strconv.Itoa(region) + "m", "--time_based",
		"--runtime=" + strconv.Itoa(int(b.each.Seconds())), "--randrepeat=0", "--norandommap", "--output-format=json"}
	before := cpuOf(s.procs)
	d, client, err := b.runFio(ctx, append(args, w.extra...))
	if err != nil {
		return sample{}, err
	}
	got := sample{perSecond: d.IOPS, latency: d.Lat.Mean / 1e3, p99: d.Clat.Percentile["99.000000"] / 1e3, cpu: map[string]float64{}}
	if w.name == flushed {
		got.latency = 1e6 / d.IOPS // fio counts the flush apart
	}
	for name, us := range cpuOf(s.procs) {
		got.cpu[name] = (us - before[name]) / d.Total
	}
	got.cpu["fio"] = client
	return got, nil
}

// runFio returns the one direction that the job had, and the client's CPU time per request in microseconds.
func (b *bench) runFio(ctx context.Context, args []string) (fioDirection, float64, error) {
	c := exec.CommandContext(ctx, "fio", args...)
	c.Dir = b.work
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return fioDirection{}, 0, fmt.Errorf("fio: %w: %s", err, stderr.String())
	}
	var r fioResult
	if i := bytes.IndexByte(out, '{'); i > 0 {
		out = out[i:] // warnings come first
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return fioDirection{}, 0, fmt.Errorf("fio's answer: %w", err)
	}
	if len(r.Jobs) != 1 || r.Jobs[0].Error != 0 {
		return fioDirection{}, 0, fmt.Errorf("fio failed: %s", stderr.String())
	}
	j := r.Jobs[0]
	d := j.Write
	if j.Read.Total > 0 {
		d = j.Read
	}
	if d.Total == 0 {
		return fioDirection{}, 0, fmt.Errorf("fio did nothing")
	}
	return d, (j.UsrCPU + j.SysCPU) / 100 * d.Runtime * 1e3 / d.Total, nil
}

// fill writes every byte that is read later, and on Blocktree the whole file.
func (b *bench) fill(ctx context.Context) error {
	for _, s := range append(slices.Clone(b.servers), b.ours, b.flushing) {
		size := b.regionMiB
		if s.name == blocktree {
			size = b.diskMiB
		}
		d, _, err := b.runFio(ctx, []string{"--name=fill", "--ioengine=nbd", "--uri=" + s.uri, "--rw=write", "--bs=1m", "--iodepth=8",
			"--size=" + strconv.Itoa(size) + "m", "--end_fsync=1", "--refill_buffers", "--output-format=json"})
		if err != nil {
			return fmt.Errorf("fill %s: %w", s.name, err)
		}
		if s.name == blocktree {
			b.fillMiBs = d.IOPS
		}
	}
	return nil
}

// memory reads what the nodes have resident now that they keep the whole file, and what btnbd has with its default cache
// after it was read through.
func (b *bench) memory(ctx context.Context) error {
	s := b.line()
	for _, p := range s.procs {
		if p.name != "btnbd" {
			b.nodeRSS = append(b.nodeRSS, residentMiB(p.pid))
		}
	}
	if err := b.restart(ctx, strconv.Itoa(cacheMiB)+"MiB"); err != nil {
		return err
	}
	for _, w := range []workload{{name: "warm", rw: "read", block: "1m", depth: 8}, {name: "mix", rw: "randrw", block: "4k", depth: 32}} {
		if _, err := b.fio(ctx, s, w); err != nil {
			return err
		}
	}
	b.nbdRSS = residentMiB(s.procs[len(s.procs)-1].pid)
	return nil
}

// cacheMiB is btnbd's cache while its memory is measured, its default.
const cacheMiB = 64

// binary returns the path of one of the two programs.
func (b *bench) binary(name string) string { return filepath.Join(b.root, "bin", name) }
