package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// node is one `btnode run`.
type node struct {
	w      *world
	name   string
	host   *host
	config string
	log    string
	disk   *disk
	busy   sync.Mutex // held by the one fault that stops, kills or starts it

	mu   sync.Mutex
	proc *process
	over bool // do not start it again
}

// restartPause is how long a node stays down that has ended by itself.
const restartPause = time.Second

// begin starts the process. If it ends and nobody said that it may, that is a violation, and it is started again.
func (n *node) begin() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.over || !n.proc.ended() || n.w.ctx.Err() != nil {
		return nil
	}
	p, err := n.w.launch(n.log, n.host.in(filepath.Join(n.w.o.bin, "btnode"), "run", "--config", n.config))
	if err != nil {
		return err
	}
	n.proc = p
	n.w.wg.Go(func() {
		<-p.done
		if p.mayEnd.Load() {
			return
		}
		n.w.violate("%s ended by itself: %v: %s", n.name, p.err, tail(n.log))
		time.Sleep(restartPause)
		if err := n.begin(); err != nil {
			n.w.violate("%s cannot be started: %v", n.name, err)
		}
	})
	return nil
}

// mayEnd says that the process may end by itself, and returns it.
func (n *node) mayEnd() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.proc.mayEnd.Store(true)
	return n.proc
}

// kill ends the process with SIGKILL.
func (n *node) kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.proc.ended() {
		n.proc.kill()
	}
}

// restart stops the process as an operator would, and starts it again.
func (n *node) restart() {
	n.mu.Lock()
	if p := n.proc; !p.ended() {
		if err := p.stop(); err != nil {
			n.w.violate("%s: %v", n.name, err)
		}
	}
	n.mu.Unlock()
	n.mustBegin()
}

func (n *node) mustBegin() {
	if err := n.begin(); err != nil {
		n.w.violate("%s cannot be started: %v", n.name, err)
	}
}

func (n *node) signal(s syscall.Signal) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.proc.ended() {
		n.proc.signal(s)
	}
}

// status is what `btnode status --json` says.
type status struct {
	Health string
	Nodes  []struct{ Path, State string }
	Files  []struct {
		Path            string
		InSync, Joining int
	}
}

// status asks the cluster from the writer's host.
func (w *world) status(ctx context.Context) (s status, err error) {
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	line := w.writer.host.in(filepath.Join(w.o.bin, "btnode"), "status", "--json", "--config", filepath.Join(w.dir, "p", "client.yaml"))
	out, err := exec.CommandContext(ctx, line[0], line[1:]...).Output()
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(out, &s)
}

// awaitSync waits until the cluster says that everything is as it should be.
func (w *world) awaitSync(ctx context.Context, within time.Duration) error {
	deadline := time.Now().Add(within)
	for {
		s, err := w.status(ctx)
		if err == nil && s.Health == "ok" && len(s.Files) == 3 && len(s.Nodes) == w.o.nodes {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not in sync after %v: %+v %v", within, s, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}
