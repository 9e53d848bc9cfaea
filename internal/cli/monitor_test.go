package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// monitorCommand is what the child below is started with as its first argument.
const monitorCommand = "serve-for-long"

// filesSoft is how many files it may have open when it is started, until Go asks for more.
const filesSoft = 200

// monitorReport is what the child says of itself.
type monitorReport struct {
	PID     int
	Env     string // of monitorEnv, after all
	Started bool   // a second time
	Passed  bool   // the socket that it was started with is there, and is its own
	Hangup  bool   // it ignores SIGHUP, as it was started
	Files   uint64 // it may have open
	Workers []uint64
	Others  map[string]int // slack of threads, as /proc says, to how many have it; empty where that may not be read
}

// TestMain is the process that TestCalmMonitor starts, where the environment says so: as early as a command's main.
func TestMain(m *testing.M) {
	if out := os.Getenv("MONITOR_REPORT"); out != "" {
		started := os.Getenv(monitorEnv) != ""
		if err := beforeMonitor(os.Getenv("MONITOR_BEFORE")); err != nil && !started {
			panic(err)
		}
		CalmMonitor(os.Getenv("MONITOR_COMMAND"))
		if err := reportMonitor(out, started); err != nil {
			panic(err)
		}
		return
	}
	m.Run()
}

// beforeMonitor does to the program's file what an upgrade, or whoever looks after the machine, may do between its start and main.
func beforeMonitor(what string) error {
	switch what {
	case "replaced":
		return os.Rename(os.Args[0]+".other", os.Args[0])
	case "deleted":
		return os.Remove(os.Args[0])
	case "locked":
		return os.Chmod(os.Args[0], 0o600)
	}
	return nil
}

// reportMonitor is the rest of that process.
func reportMonitor(out string, started bool) error {
	r := monitorReport{PID: os.Getpid(), Env: os.Getenv(monitorEnv), Started: started, Others: map[string]int{}}
	if l, err := net.FileListener(os.NewFile(3, "passed")); err == nil {
		r.Passed = os.Getenv("LISTEN_PID") == strconv.Itoa(r.PID) && l.Addr().String() == os.Getenv("MONITOR_SOCKET")
	}
	r.Hangup = signal.Ignored(unix.SIGHUP)
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return err
	}
	r.Files = files.Cur
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
	dir := t.TempDir()
	out, self := filepath.Join(dir, "report"), filepath.Join(dir, "self")
	text, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	other := []byte("#!/bin/sh\necho another program was started; exit 1\n")
	if err := errors.Join(os.WriteFile(self, text, 0o700), os.WriteFile(self+".other", other, 0o700)); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	passed, err := socket.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer passed.Close()
	c := exec.Command("sh", "-c", fmt.Sprintf(`trap "" HUP; ulimit -Sn %d; LISTEN_PID=$$ exec "$0" "$@"`, filesSoft), self, monitorCommand)
	c.Env = append(append(os.Environ(), "MONITOR_REPORT="+out, "MONITOR_COMMAND="+command, "MONITOR_SOCKET="+socket.Addr().String()), env...)
	c.ExtraFiles = []*os.File{passed} // as systemd does
	if text, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if text, err = os.ReadFile(out); err != nil {
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
		{"a slack left in the environment", monitorCommand, []string{monitorEnv + "=4000000000"}, false},
		{"a program that was replaced", monitorCommand, []string{"MONITOR_BEFORE=replaced"}, false},
		{"a program that was deleted", monitorCommand, []string{"MONITOR_BEFORE=deleted"}, false},
		{"a program that may not be started any more", monitorCommand, []string{"MONITOR_BEFORE=locked"}, false},
	} {
		t.Run(x.what, func(t *testing.T) {
			r, pid := monitorChild(t, x.command, x.env...)
			if r.PID != pid {
				t.Errorf("process %d became %d", pid, r.PID)
			}
			if r.Env != "" {
				t.Errorf("children would inherit %s=%s", monitorEnv, r.Env)
			}
			if !r.Passed || !r.Hangup {
				t.Errorf("the socket that systemd passed is its own: %t; SIGHUP is ignored, as it was: %t", r.Passed, r.Hangup)
			}
			if r.Files <= filesSoft { // Go makes it as many as it may
				t.Errorf("it may have %d files open only", r.Files)
			}
			if started := x.calm || len(x.env) == 1 && strings.HasPrefix(x.env[0], monitorEnv); r.Started != started { // the variable looks like a second start
				t.Errorf("started again: %t", r.Started)
			}
			spared := 0
			for _, ns := range r.Workers {
				if ns == uint64(was) {
					spared++
				}
			}
			if spared <= spareThreadsMin/2 { // one or two may have been out of reach
				t.Errorf("only %d of %d threads of goroutines have a slack of %v: %v", spared, len(r.Workers), time.Duration(was), r.Workers)
			}
			if len(r.Others) > 0 && (r.Others[calm] > 0) != x.calm { // only root may read that of other threads
				t.Errorf("%d threads with the slack of a monitor, want some %t: %s", r.Others[calm], x.calm, fmt.Sprint(r.Others))
			}
		})
	}
}
