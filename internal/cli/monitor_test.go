package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// monitorCommand is what the child below is started with as its first argument.
const monitorCommand = "serve-for-long"

// monitorReport is what the child says of itself.
type monitorReport struct {
	PID     int
	Env     string // of monitorEnv, after all
	Workers []uint64
	Others  map[string]int // slack of threads, as /proc says, to how many have it; empty where that may not be read
}

// TestMain is the process that TestCalmMonitor starts, where the environment says so: as early as a command's main.
func TestMain(m *testing.M) {
	if out := os.Getenv("MONITOR_REPORT"); out != "" {
		CalmMonitor(os.Getenv("MONITOR_COMMAND"))
		if err := reportMonitor(out); err != nil {
			panic(err)
		}
		return
	}
	m.Run()
}

// reportMonitor is the rest of that process.
func reportMonitor(out string) error {
	r := monitorReport{PID: os.Getpid(), Env: os.Getenv(monitorEnv), Others: map[string]int{}}
	var mu sync.Mutex
	var all sync.WaitGroup
	all.Add(spareThreadsMin)
	for range spareThreadsMin { // each has a thread to itself
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			ns, _ := slack()
			mu.Lock()
			r.Workers = append(r.Workers, uint64(ns))
			mu.Unlock()
			all.Done()
			all.Wait()
		}()
	}
	all.Wait()
	names, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		return err
	}
	for _, n := range names {
		if text, err := os.ReadFile("/proc/" + filepath.Base(n) + "/timerslack_ns"); err == nil {
			r.Others[strings.TrimSpace(string(text))]++
		}
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(out, text, 0o600)
}

// monitorChild starts the child and returns what it says, and its process id.
func monitorChild(t *testing.T, command string, env ...string) (monitorReport, int) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "report")
	c := exec.Command(os.Args[0], monitorCommand)
	c.Env = append(append(os.Environ(), "MONITOR_REPORT="+out, "MONITOR_COMMAND="+command), env...)
	if text, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var r monitorReport
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return r, c.Process.Pid
}

// TestCalmMonitor: the process stays the one that was started, the monitor has its slack, and most of the threads that goroutines run on have what they had.
func TestCalmMonitor(t *testing.T) {
	was, ok := slack()
	if !ok {
		t.Fatal("this system has no timer slack")
	}
	calm := strconv.FormatInt(int64(monitorSlack), 10)
	for _, x := range []struct {
		what, command string
		env           []string
		calm          bool
	}{
		{"a command that serves", monitorCommand, nil, true},
		{"another command", "once", nil, false},
		{"nonsense left in the environment", monitorCommand, []string{monitorEnv + "=nonsense"}, false},
	} {
		r, pid := monitorChild(t, x.command, x.env...)
		if r.PID != pid {
			t.Errorf("%s: process %d became %d", x.what, pid, r.PID)
		}
		if r.Env != "" {
			t.Errorf("%s: children would inherit %s=%s", x.what, monitorEnv, r.Env)
		}
		spared := 0
		for _, ns := range r.Workers {
			if ns == uint64(was) {
				spared++
			}
		}
		if spared <= spareThreadsMin/2 { // one or two may have been out of reach
			t.Errorf("%s: only %d of %d threads of goroutines have a slack of %v: %v", x.what, spared, len(r.Workers), time.Duration(was), r.Workers)
		}
		if len(r.Others) > 0 && (r.Others[calm] > 0) != x.calm { // only root may read that of other threads
			t.Errorf("%s: %d threads with the slack of a monitor, want some %t: %s", x.what, r.Others[calm], x.calm, fmt.Sprint(r.Others))
		}
	}
}
