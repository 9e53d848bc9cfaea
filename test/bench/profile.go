package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// profileEnv is cli.ProfileEnv.
const profileEnv = "BT_PROFILE"

// profiled is where the CPU time of one workload went, in microseconds per request.
type profiled struct {
	workload string
	layers   map[string]map[string]float64 // side ("btnbd", "nodes" or "memory") → package → µs
	causes   map[string]map[string]float64 // side → what the processor did → µs
}

// profile runs some workloads once more while all processes of Blocktree write CPU profiles.
func (b *bench) profile(ctx context.Context) (err error) {
	list := slices.DeleteFunc(workloads(), func(w workload) bool { return w.name == flushed })
	b.profiles, err = b.profileOf(ctx, b.line(), list)
	return err
}

// profileOf runs workloads on a server while its processes write CPU profiles.
func (b *bench) profileOf(ctx context.Context, s *server, list []workload) (all []profiled, err error) {
	for _, w := range list {
		if err := b.toggle(s); err != nil {
			return nil, err
		}
		got, err := b.fio(ctx, s, w)
		if err != nil {
			return nil, err
		}
		if err := b.toggle(s); err != nil {
			return nil, err
		}
		requests := got.perSecond * b.each.Seconds()
		p := profiled{w.name, map[string]map[string]float64{}, map[string]map[string]float64{}}
		for _, proc := range s.procs {
			side, name := "nodes", "btnode"
			if proc.name == "btnbd" || proc.name == "memory" {
				side, name = proc.name, proc.name
			}
			file := filepath.Join(b.work, fmt.Sprintf("%s-%d-%d.pprof", name, proc.pid, b.toggles[proc.pid]/2))
			if err := awaitFile(ctx, file); err != nil {
				return nil, err
			}
			if err := p.add(ctx, file, side, requests); err != nil {
				return nil, err
			}
		}
		all = append(all, p)
	}
	return all, nil
}

// toggle begins or ends a profile in every process of the server.
func (b *bench) toggle(s *server) error {
	for _, p := range s.procs {
		b.toggles[p.pid]++
		if err := syscall.Kill(p.pid, syscall.SIGUSR1); err != nil {
			return fmt.Errorf("profile of %s: %w", p.name, err)
		}
	}
	time.Sleep(20 * time.Millisecond) // a profile that misses a moment is still a profile
	return nil
}

// sampleLine is the first line of a sample in `go tool pprof -traces`: its time, then the innermost function.
var sampleLine = regexp.MustCompile(`^\s*([0-9.]+)(ns|us|ms|s|mins)\s+(\S.*)$`)

// add counts the samples of one file.
func (p *profiled) add(ctx context.Context, file, side string, requests float64) error {
	c := exec.CommandContext(ctx, "go", "tool", "pprof", "-traces", file)
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return fmt.Errorf("go tool pprof: %w", err)
	}
	if p.layers[side] == nil {
		p.layers[side], p.causes[side] = map[string]float64{}, map[string]float64{}
	}
	for block := range bytes.SplitSeq(out, []byte("-----------+")) {
		us, stack := parseSample(string(block))
		if us == 0 {
			continue
		}
		p.layers[side][layerOf(stack)] += us / requests
		p.causes[side][causeOf(stack)] += us / requests
	}
	return nil
}

// parseSample returns the microseconds of a sample and its functions, the innermost first.
func parseSample(block string) (us float64, stack []string) {
	for line := range strings.Lines(block) {
		line = strings.TrimRight(line, "\n")
		if m := sampleLine.FindStringSubmatch(line); m != nil && us == 0 {
			v, _ := strconv.ParseFloat(m[1], 64) // the expression lets numbers through only
			us = v * map[string]float64{"ns": 1e-3, "us": 1, "ms": 1e3, "s": 1e6, "mins": 60e6}[m[2]]
			stack = append(stack, m[3])
			continue
		}
		if us > 0 && strings.TrimSpace(line) != "" {
			stack = append(stack, strings.TrimSpace(line))
		}
	}
	return us, stack
}

// layerOf names the package of Blocktree nearest to the innermost function, else the library or runtime that ran on its own.
func layerOf(stack []string) string {
	for _, f := range stack {
		if rest, ok := strings.CutPrefix(f, "blocktree/"); ok {
			return packageOf(rest)
		}
	}
	for _, f := range stack {
		for _, lib := range []string{"quic-go/quic-go", "cockroachdb/pebble", "etcd.io/raft", "ristretto"} {
			if strings.Contains(f, lib) {
				return lib[strings.LastIndexByte(lib, '/')+1:]
			}
		}
	}
	for _, f := range stack {
		if strings.HasPrefix(f, "runtime.gc") || strings.HasPrefix(f, "runtime.bgsweep") {
			return "(garbage collection)"
		}
	}
	return "(runtime: scheduling)"
}

// packageOf cuts "internal/bttp.(*lane).read" to "internal/bttp".
func packageOf(function string) string {
	slash := strings.LastIndexByte(function, '/')
	dot := strings.IndexByte(function[slash+1:], '.')
	if dot < 0 {
		return function
	}
	return function[:slash+1+dot]
}

// causeOf says what the processor did, by the innermost functions.
func causeOf(stack []string) string {
	for i, f := range stack {
		if i > 3 {
			break
		}
		for _, c := range causes() {
			for _, word := range c.words {
				if strings.Contains(f, word) {
					return c.name
				}
			}
		}
	}
	return "other"
}

type cause struct {
	name  string
	words []string
}

func causes() []cause {
	return []cause{
		{"system calls", []string{"syscall.Syscall", "syscall.RawSyscall", "runtime/syscall", "Syscall6", "runtime.epollwait", "runtime.netpoll"}},
		{"waking and parking threads", []string{"runtime.futex", "runtime.usleep", "runtime.osyield", "runtime.findRunnable", "runtime.stealWork"}},
		{"AES-GCM", []string{"/aes", "gcm"}},
		{"SHA-256", []string{"sha256"}},
		{"erasure coding", []string{"reedsolomon"}},
		{"CRC", []string{"crc32"}},
		{"copying and clearing memory", []string{"runtime.memmove", "runtime.memclr"}},
		{"garbage collection and allocation", []string{"runtime.gc", "runtime.mallocgc", "runtime.scan", "runtime.bgsweep", "runtime.sweep", "runtime.grey", "runtime.greyobject"}},
	}
}
