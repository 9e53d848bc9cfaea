package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// stopTimeout is how long a process may take to stop by itself.
const stopTimeout = 40 * time.Second

// process is one server that runs. done is closed when it has ended, after err was set.
type process struct {
	cmd    *exec.Cmd
	log    string
	done   chan struct{}
	err    error
	mayEnd atomic.Bool // whoever ends it says so first; else its end is a violation
}

// startProcess runs a command line with both outputs appended to a log file, in a process group of its own, so that a ^C is
// this program's alone.
func startProcess(log string, line []string) (*process, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close() // the process has its own
	p := &process{cmd: exec.Command(line[0], line[1:]...), log: log, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = f, f
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // owns Wait; ends with the process
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) } // it may have ended just now

func (p *process) ended() bool {
	if p == nil {
		return true
	}
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill ends it at once.
func (p *process) kill() {
	p.mayEnd.Store(true)
	p.signal(syscall.SIGKILL)
	<-p.done
}

// stop asks it to end, and fails if it takes too long or says that something was wrong.
func (p *process) stop() error {
	p.mayEnd.Store(true)
	p.signal(syscall.SIGCONT) // a stopped process does not hear
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		p.signal(syscall.SIGQUIT) // its log shows then where every goroutine stands
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
			p.kill()
		}
		return fmt.Errorf("%s did not stop within %v", filepath.Base(p.log), stopTimeout)
	}
	if p.err != nil {
		return fmt.Errorf("%s stopped with %w: %s", filepath.Base(p.log), p.err, tail(p.log))
	}
	return nil
}

// tail is the last lines of a log.
func tail(name string) string {
	text, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(string(bytes.TrimSpace(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-4):], " | ")
}
