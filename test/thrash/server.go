package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// server is one `btnbd serve`, started again whenever it has ended.
type server struct {
	w      *world
	name   string
	host   *host
	config string
	socket string
	log    string
	busy   sync.Mutex // held by the one fault that stops or kills it

	// life counts starts. What a dead life left undone cannot happen once a later one answers.
	life atomic.Int64
	up   atomic.Bool // it has been ready in this life

	// Times in nanoseconds since the world began: of the last answer without an error, and of the first quick refusal since.
	lastOK, refusedSince atomic.Int64

	mu     sync.Mutex
	proc   *process
	held   bool // a fault keeps it down
	over   bool
	starts int
}

const (
	// readyWithin is how long a start may take; the server itself gives up after 90 s.
	readyWithin = 100 * time.Second

	// lostAfter is how long a server may refuse everything at once before it is restarted, as its operator would: it lost its
	// lease and will never get it back.
	lostAfter = 4 * time.Second
)

// caches of the server, one life after the other: answers come from memory or from the nodes.
func cacheOf(start int) string { return []string{"off", "1MiB", "64MiB"}[start%3] }

// supervise keeps the server running until ctx ends.
func (s *server) supervise(ctx context.Context) {
	for ctx.Err() == nil {
		if err := s.live(ctx); err != nil {
			s.w.violate("%s: %v", s.name, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// live is one life, unless a fault keeps the server down.
func (s *server) live(ctx context.Context) error {
	p, err := s.begin()
	if p == nil || err != nil {
		return err
	}
	defer s.up.Store(false)
	if !s.awaitSocket(ctx, p) {
		if ctx.Err() != nil {
			return nil
		}
		if !p.ended() {
			s.w.violate("%s is not ready after %v: %s", s.name, readyWithin, tail(s.log))
			p.kill()
		} else if !p.mayEnd.Load() {
			s.w.note(s.name + " gave up starting") // without a majority it has to
			s.w.log("%s gave up starting: %s", s.name, tail(s.log))
		}
		return nil
	}
	s.refusedSince.Store(0)
	s.up.Store(true)
	for {
		select {
		case <-p.done:
			if !p.mayEnd.Load() && ctx.Err() == nil {
				return fmt.Errorf("ended by itself: %w: %s", orNil(p.err), tail(s.log))
			}
			return nil
		case <-ctx.Done():
			return nil
		case <-time.After(200 * time.Millisecond):
		}
		if since := s.refusedSince.Load(); since > 0 && s.now()-since > int64(lostAfter) {
			s.w.note(s.name + " restarted because it refused everything")
			s.w.log("%s refuses everything and is restarted", s.name)
			p.kill()
		}
	}
}

func orNil(err error) error {
	if err == nil {
		return errors.New("exit code 0")
	}
	return err
}

func (s *server) now() int64 { return int64(time.Since(s.w.began)) }

// begin starts the process, unless it is kept down.
func (s *server) begin() (*process, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held || s.over || s.w.ctx.Err() != nil {
		return nil, nil
	}
	s.life.Add(1)
	p, err := s.w.launch(s.log, s.host.in(filepath.Join(s.w.o.bin, "btnbd"), "serve", "--config", s.config, "--cache", cacheOf(s.starts)))
	if err != nil {
		return nil, err
	}
	s.starts++
	s.proc = p
	return p, nil
}

// awaitSocket waits until the server lets a client in, which it does when it has opened all files.
func (s *server) awaitSocket(ctx context.Context, p *process) bool {
	deadline := time.Now().Add(readyWithin)
	for time.Now().Before(deadline) && ctx.Err() == nil {
		if s.answers() {
			return true
		}
		select {
		case <-p.done:
			return false
		case <-time.After(50 * time.Millisecond):
		}
	}
	return false
}

// answers reports whether something greets on the socket.
func (s *server) answers() bool {
	c, err := net.DialTimeout("unix", s.socket, time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Second)) // or Read fails
	n, err := c.Read(make([]byte, 1))
	return n == 1 && err == nil
}

// await waits until the server is up.
func (s *server) await(ctx context.Context, within time.Duration) error {
	deadline := time.Now().Add(within)
	for !s.up.Load() {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not up after %v: %s", s.name, within, tail(s.log))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// answered notes how an operation ended, for the server's own watch.
func (s *server) answered(err error, took time.Duration) {
	if err == nil {
		s.lastOK.Store(s.now())
		s.refusedSince.Store(0)
	} else if took < time.Second {
		s.refusedSince.CompareAndSwap(0, s.now())
	}
}

// hold ends the process by SIGKILL and keeps it down until release.
func (s *server) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = true
	if !s.proc.ended() {
		s.proc.kill()
	}
}

func (s *server) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = false
}

// end stops it as an operator would; a supervisor starts it again.
func (s *server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc.ended() {
		return
	}
	if err := s.proc.stop(); err != nil {
		s.w.note(s.name + " stopped with an error") // without a quorum it cannot flush, which its clients know
		s.w.log("%v", err)
	}
}

func (s *server) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.proc.ended() {
		s.proc.signal(sig)
	}
}
