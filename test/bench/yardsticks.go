package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// bareKey names one row of the bare exchange.
type bareKey struct {
	over, carrier, shape string
	depth                int
}

// bareExchange runs the yardstick on the carrier in use, TCP lanes; with quic also on the other one, once, for orientation.
func (b *bench) bareExchange(ctx context.Context, quic bool) error {
	runs := [][]string{{"-carriers", "tcp", "-over", "bare,batched"}}
	if quic {
		runs = append(runs, []string{"-carriers", "quic", "-over", "bare"})
	}
	for _, args := range runs {
		rows, err := b.exchange(ctx, append(args, "-each", (b.each/3).String())...)
		if err != nil {
			return err
		}
		for k, rate := range rows {
			b.bare[k] = append(b.bare[k], rate)
		}
	}
	return nil
}

// parseExchange reads the rows that the bare exchange prints: exchanges per second.
func parseExchange(out []byte) (map[bareKey]float64, error) {
	rows := map[bareKey]float64{}
	for line := range bytes.Lines(out) {
		var r struct {
			Over, Carrier, Shape string
			Depth                int
			PerSecond            float64
		}
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, err
		}
		rows[bareKey{r.Over, r.Carrier, r.Shape, r.Depth}] = r.PerSecond
	}
	return rows, nil
}

// slowestOfThree appends 4 KiB to three files and fdatasyncs all at once, again and again; it returns the median over
// the rounds of the slowest of the three, in microseconds.
func slowestOfThree(dir string, length time.Duration) (float64, error) {
	const files = 3
	var fs [files]*os.File
	for i := range fs {
		f, err := os.Create(filepath.Join(dir, "sync"+strconv.Itoa(i)))
		if err != nil {
			return 0, err
		}
		defer os.Remove(f.Name())
		defer f.Close() // its content is of no use
		fs[i] = f
	}
	page := bytes.Repeat([]byte{0x5a}, 4096)
	var all []float64
	for end := time.Now().Add(length); time.Now().Before(end); {
		var wg sync.WaitGroup
		var took [files]time.Duration
		var errs [files]error
		for i, f := range fs {
			wg.Go(func() {
				if _, errs[i] = f.Write(page); errs[i] != nil {
					return
				}
				began := time.Now()
				errs[i] = syscall.Fdatasync(int(f.Fd()))
				took[i] = time.Since(began)
			})
		}
		wg.Wait()
		for _, err := range errs {
			if err != nil {
				return 0, err
			}
		}
		all = append(all, float64(slices.Max(took[:]).Nanoseconds())/1e3)
	}
	return median(all), nil
}

// cpuOf returns the CPU time that each process has used, in microseconds. One that is gone has none.
func cpuOf(procs []process) map[string]float64 {
	const ticksPerSecond = 100 // USER_HZ, the same on every Linux that Go runs on
	out := map[string]float64{}
	for _, p := range procs {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		user, _ := strconv.ParseFloat(fields[11], 64)
		system, _ := strconv.ParseFloat(fields[12], 64)
		out[p.name] = (user + system) * 1e6 / ticksPerSecond
	}
	return out
}

// residentMiB is the resident memory of a process, 0 of one that is gone.
func residentMiB(pid int) float64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024
		}
	}
	return 0
}

func loadAverage() string {
	text, _ := os.ReadFile("/proc/loadavg")
	f := strings.Fields(string(text))
	if len(f) < 3 {
		return "unknown"
	}
	return strings.Join(f[:3], ", ")
}

// machine describes where this runs, a line each.
func machine(dir string) []string {
	model := "unknown"
	cpu, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(cpu)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			model = strings.TrimSpace(value)
			break
		}
	}
	mem, _ := os.ReadFile("/proc/meminfo")
	total := "unknown"
	if f := strings.Fields(string(mem)); len(f) > 1 {
		kib, _ := strconv.Atoi(f[1])
		total = fmt.Sprintf("%.1f GiB", float64(kib)/(1<<20))
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	fsType, _ := exec.Command("df", "--output=fstype", dir).Output()
	_, kind, _ := strings.Cut(strings.TrimSpace(string(fsType)), "\n")
	return []string{
		fmt.Sprintf("%s, %d cores, %s of memory, Linux %s", model, runtime.NumCPU(), total, strings.TrimSpace(string(kernel))),
		fmt.Sprintf("files on %s, one disk for everything", kind),
		fmt.Sprintf("%s, %s, %s, %s", firstLine("fio", "--version"), firstLine("nbdkit", "--version"), firstLine("qemu-nbd", "--version"), runtime.Version()),
	}
}

func firstLine(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return name + " unknown"
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

// median of a copy; 0 of nothing.
func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(list))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
