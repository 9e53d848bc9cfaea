package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cmd/internal/parts"
	"blocktree/internal/cli"
	"blocktree/internal/config"
)

const (
	// readyTimeout bounds the wait for a new cluster: elections and, where files are old, replays of logs.
	readyTimeout = 60 * time.Second

	// stopTimeout is how long a node may take to stop by itself.
	stopTimeout = 30 * time.Second

	// logTailBytes of a node's log are shown when the node ends before the cluster is ready.
	logTailBytes = 2 << 10
)

// process is one `btnode run` that the playground started. Its goroutine owns cmd.Wait; done is closed after it.
type process struct {
	name    string // node1
	cmd     *exec.Cmd
	pidFile string
	logFile string
	done    chan struct{}
	err     error // set before done is closed
}

// runPlayground starts the nodes, prints ready, and stops them when the command's context ends.
func runPlayground(c *cobra.Command, p *parts.Playground) (err error) {
	self, err := os.Executable()
	if err != nil {
		return blocktree.E("playground", blocktree.IO, err)
	}
	ctx := c.Context()
	cli.IgnoreHangup()
	var nodes []*process
	defer func() { err = errors.Join(err, stopAll(nodes)) }()
	for _, file := range p.Nodes {
		n, err := startNode(self, file)
		if err != nil {
			return err
		}
		nodes = append(nodes, n)
	}
	if err := awaitCluster(ctx, p, nodes); err != nil || ctx.Err() != nil {
		return err
	}
	out := c.OutOrStdout()
	fmt.Fprintf(out, "ready\n\nnext:\n  btnbd serve --config %s\n  btnode status --config %s\n  btnode file ls / --config %s\n",
		p.NBD, p.Client, p.Client)
	return watch(ctx, c.ErrOrStderr(), nodes)
}

// watch tells of every node that ends until ctx does.
func watch(ctx context.Context, w io.Writer, nodes []*process) error {
	ended := make(chan *process, len(nodes))
	for _, n := range nodes {
		go func() { // ends with the process, which stopAll waits for
			<-n.done
			ended <- n
		}()
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case n := <-ended:
			if ctx.Err() != nil {
				return nil
			}
			fmt.Fprintf(w, "btnode: %s ended: %s\n", n.name, n.state())
		}
	}
}

// startNode starts one node in a process group of its own, so that Ctrl-C reaches the playground alone.
func startNode(self, file string) (*process, error) {
	dir := filepath.Dir(file)
	n := &process{name: filepath.Base(dir), pidFile: filepath.Join(dir, "btnode.pid"), logFile: filepath.Join(dir, "btnode.log"),
		done: make(chan struct{})}
	log, err := os.OpenFile(n.logFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, &blocktree.Error{Op: "playground", Path: n.logFile, Kind: blocktree.IO, Err: err}
	}
	defer log.Close() // the process has its own
	n.cmd = exec.Command(self, "run", "--config", file)
	n.cmd.Stdout, n.cmd.Stderr = log, log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := n.cmd.Start(); err != nil {
		return nil, &blocktree.Error{Op: "playground", Path: self, Kind: blocktree.IO, Err: err}
	}
	go func() {
		n.err = n.cmd.Wait()
		close(n.done)
	}()
	pid := strconv.Itoa(n.cmd.Process.Pid) + "\n"
	if err := os.WriteFile(n.pidFile, []byte(pid), 0o600); err != nil {
		return nil, errors.Join(&blocktree.Error{Op: "playground", Path: n.pidFile, Kind: blocktree.IO, Err: err}, n.stop())
	}
	return n, nil
}

// state says how an ended process ended.
func (n *process) state() string { return n.cmd.ProcessState.String() }

// ended reports whether the process has ended.
func (n *process) ended() bool {
	select {
	case <-n.done:
		return true
	default:
		return false
	}
}

// stop asks the process to stop, waits, and kills it when that takes too long.
func (n *process) stop() error {
	defer os.Remove(n.pidFile)
	if n.ended() {
		return nil // told by watch
	}
	_ = n.cmd.Process.Signal(syscall.SIGTERM) // it may have ended just now
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-n.done:
	case <-timer.C:
		_ = n.cmd.Process.Kill()
		<-n.done
		return blocktree.E("stop "+n.name, blocktree.Timeout, fmt.Errorf("killed after %v", stopTimeout))
	}
	if n.err != nil {
		return &blocktree.Error{Op: "stop " + n.name, Kind: blocktree.IO, Err: n.err, Hint: "see " + n.logFile}
	}
	return nil
}

// stopAll stops all at once, so that none of them spends time on missing the others.
func stopAll(nodes []*process) error {
	errs := make(chan error, len(nodes))
	for _, n := range nodes {
		go func() { errs <- n.stop() }()
	}
	var all error
	for range nodes {
		all = errors.Join(all, <-errs)
	}
	return all
}

// awaitCluster returns when every node of the playground is up and the cluster answers, or one node ended, or it takes
// too long. It returns nil when ctx ends.
func awaitCluster(ctx context.Context, p *parts.Playground, nodes []*process) error {
	cfg, err := config.LoadClient(config.Source{File: p.Client})
	if err != nil {
		return err
	}
	waitCtx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	settled := make(chan error, 1)
	go func() { settled <- parts.AwaitUp(waitCtx, &cfg.Base) }()
	defer func() {
		cancel()
		if settled != nil {
			<-settled
		}
	}()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-settled:
			settled = nil
			if ctx.Err() != nil {
				return nil
			}
			return err
		case <-tick.C:
			for _, n := range nodes {
				if n.ended() {
					return n.early()
				}
			}
		}
	}
}

// early is the error of a node that ended before the cluster was ready, with what it said itself.
func (n *process) early() error {
	text, _ := os.ReadFile(n.logFile) // without it the state is all there is to tell
	if len(text) > logTailBytes {
		text = text[len(text)-logTailBytes:]
	}
	said, hint := n.state(), "see "+n.logFile
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if s, ok := strings.CutPrefix(line, "btnode: error: "); ok {
			said = s
		}
		if s, ok := strings.CutPrefix(line, "btnode: hint: "); ok {
			hint = s
		}
	}
	return &blocktree.Error{Op: n.name + " ended", Kind: blocktree.Unavailable, Err: errors.New(said), Hint: hint}
}
