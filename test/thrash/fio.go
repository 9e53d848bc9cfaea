package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// fioLoad runs fio with verification, one job after the other.
type fioLoad struct {
	w *world

	mu       sync.Mutex
	jobs     int // that ended without an error
	failed   int // ended by an I/O error, or the server going away
	verified int // reads
	finished chan struct{}
}

func newFio(w *world) *fioLoad { return &fioLoad{w: w, finished: make(chan struct{}, 1)} }

// eilseq is what fio says of data that are not what it wrote.
const eilseq = int(syscall.EILSEQ)

// work runs jobs until ctx ends.
func (f *fioLoad) work(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		if f.w.writer.up.Load() {
			if err := f.job(ctx, i); err != nil && ctx.Err() == nil {
				f.w.log("fio: %v", err)
			}
		}
		sleep(ctx, 500*time.Millisecond)
	}
}

// job writes and verifies once. A job that is stopped proves nothing and fails nothing.
func (f *fioLoad) job(ctx context.Context, i int) error {
	c := exec.CommandContext(ctx, "fio", "--name=thrash", "--ioengine=nbd",
		fmt.Sprintf("--uri=nbd+unix://%s?socket=%s", "/"+fioPath, f.w.writer.socket), "--rw=randwrite", "--bsrange=512-64k",
		"--blockalign=512", "--size=40M", "--io_size=6M", fmt.Sprintf("--offset=%dM", i%8), "--iodepth=8", "--rate=1m", "--verify=crc32c",
		"--verify_fatal=1", "--verify_state_save=0", "--do_verify=1", "--fsync=32", fmt.Sprintf("--randseed=%d", i+1),
		"--output-format=json")
	c.Dir = f.w.dir
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = opTimeout
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var stderr bounded
	c.Stderr = &stderr
	out, err := c.Output()
	var result struct {
		Jobs []struct {
			Error int
			Read  struct {
				Total int `json:"total_ios"`
			}
		}
	}
	if at := bytes.IndexByte(out, '{'); at >= 0 {
		_ = json.Unmarshal(out[at:], &result) // what is no JSON has no jobs
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(result.Jobs) == 1 {
		f.verified += result.Jobs[0].Read.Total
		if result.Jobs[0].Error == eilseq {
			name := filepath.Join(f.w.dir, fmt.Sprintf("fio.%d", i))
			_ = os.WriteFile(name, append(out, stderr.kept...), 0o600) // the violation is what counts
			f.w.violate("fio read something else than it wrote, see %s: %s", name, bytes.TrimSpace(stderr.kept))
			return nil
		}
	}
	if err != nil {
		f.failed++
		return fmt.Errorf("job %d: %w: %.300s", i, err, bytes.TrimSpace(stderr.kept))
	}
	f.jobs++
	return nil
}

// bounded keeps the beginning of what is written to it, and then fails: the writer's pipe breaks, and it ends. fio, whose server was killed, may say
// so for ever (as 3.33 does: nothing to poll for in state DEAD).
type bounded struct{ kept []byte }

const boundedBytesMax = 64 << 10

func (b *bounded) Write(p []byte) (int, error) {
	if len(b.kept)+len(p) > boundedBytesMax {
		return 0, errors.New("that is too much to say")
	}
	b.kept = append(b.kept, p...)
	return len(p), nil
}

func (f *fioLoad) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprintf("%d jobs verified, %d ended by an error or a restart, %d reads verified", f.jobs, f.failed, f.verified)
}
