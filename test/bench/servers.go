package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is something that fio can talk to.
type server struct {
	name  string
	uri   string
	procs []process // whose CPU time is counted
	cmds  []*exec.Cmd
}

// process is one whose CPU time and memory are read from /proc.
type process struct {
	name string
	pid  int
}

const (
	nbdkit    = "nbdkit memory"
	qemu      = "qemu-nbd raw"
	blocktree = "blocktree 2+1"

	// flushing is the same nodes and btnbd, another file: of durability flush.
	flushing = "blocktree 2+1, flush"
)

// flushPath is that file.
const flushPath = "/vm/flush"

// startServers starts all; the first exchange with each waits until it listens.
func (b *bench) startServers(ctx context.Context) error {
	sock := func(n string) string { return filepath.Join(b.work, n) }
	region := strconv.Itoa(b.regionMiB) + "M"
	kit, err := b.start("nbdkit", "-f", "-U", sock("kit"), "memory", region)
	if err != nil {
		return err
	}
	b.servers = append(b.servers, &server{name: nbdkit, uri: "nbd+unix:///?socket=" + sock("kit"), cmds: []*exec.Cmd{kit},
		procs: []process{{"nbdkit", kit.Process.Pid}}})
	names := []string{"kit"}
	if !b.onlyEngine {
		names = append(names, "qemu")
		if err := b.startQemu(sock("qemu")); err != nil {
			return err
		}
	}
	for _, n := range names {
		if err := awaitFile(ctx, sock(n)); err != nil {
			return err
		}
	}
	if err := b.startOurs(ctx); err != nil {
		return err
	}
	return b.startBlocktree(ctx)
}

// startQemu starts qemu-nbd on a file of its own.
func (b *bench) startQemu(socket string) error {
	raw := filepath.Join(b.work, "raw")
	if err := os.WriteFile(raw, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(raw, int64(b.regionMiB)<<20); err != nil {
		return err
	}
	q, err := b.start("qemu-nbd", "-t", "-e", "16", "-f", "raw", "-k", socket, raw)
	if err != nil {
		return err
	}
	b.servers = append(b.servers, &server{name: qemu, uri: "nbd+unix:///?socket=" + socket, cmds: []*exec.Cmd{q},
		procs: []process{{"qemu-nbd", q.Process.Pid}}})
	return nil
}

// startBlocktree starts the nodes and btnbd with its cache off.
func (b *bench) startBlocktree(ctx context.Context) error {
	dir := filepath.Join(b.work, "p")
	s := &server{name: blocktree}
	b.servers = append(b.servers, s)
	play, _, err := b.startReady(ctx, b.binary("btnode"), "playground", "--dir", dir, "--nodes", "3",
		"--code", "2+1", "--size", strconv.Itoa(b.diskMiB)+"M")
	if play != nil {
		s.cmds = append(s.cmds, play)
	}
	if err != nil {
		return err
	}
	for i := range 3 {
		text, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("node%d", i+1), "btnode.pid"))
		if err != nil {
			return err
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			return err
		}
		s.procs = append(s.procs, process{fmt.Sprintf("node%d", i+1), pid})
	}
	if err := b.exportFlushing(filepath.Join(dir, "btnbd.yaml")); err != nil {
		return err
	}
	if err := b.serve(ctx, s, "off"); err != nil {
		return err
	}
	b.flushing = &server{name: flushing, uri: strings.Replace(s.uri, "/vm/disk0", flushPath, 1), procs: s.procs}
	return nil
}

// exportFlushing adds the file of durability flush to the exports, which are the last key of what a playground writes.
func (b *bench) exportFlushing(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "  - path: %s\n    create: {size: %dM, code: 2+1, durability: flush}\n", flushPath, b.regionMiB)
	return errors.Join(err, f.Close())
}

// serve starts btnbd with a cache of that size.
func (b *bench) serve(ctx context.Context, s *server, cache string) error {
	nbd, uri, err := b.startReady(ctx, b.binary("btnbd"), "serve", "--config",
		filepath.Join(b.work, "p", "btnbd.yaml"), "--cache", cache, "--log-level", "warn")
	if nbd != nil {
		s.cmds = append(s.cmds, nbd)
	}
	if err != nil {
		return err
	}
	s.uri = uri
	s.procs = append(s.procs, process{"btnbd", nbd.Process.Pid})
	return nil
}

// start starts a command whose output nobody needs.
func (b *bench) start(name string, args ...string) (*exec.Cmd, error) {
	c := exec.Command(name, args...)
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for bench, which stops them
	return c, c.Start()
}

// startReady starts a command and waits for its line "ready …", whose rest it returns.
func (b *bench) startReady(ctx context.Context, name string, args ...string) (*exec.Cmd, string, error) {
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), profileEnv+"="+b.work)
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := c.Start(); err != nil {
		return nil, "", err
	}
	lines := bufio.NewScanner(out)
	stop := context.AfterFunc(ctx, func() { _ = c.Process.Signal(syscall.SIGTERM) }) // unblocks the scan
	defer stop()
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "ready"); ok {
			return c, strings.TrimSpace(rest), nil
		}
	}
	return c, "", fmt.Errorf("%s ended before it was ready", filepath.Base(name))
}

// stopAll stops every process, the last started first.
func (b *bench) stopAll() {
	all := b.servers
	if b.ours != nil {
		all = append(slices.Clone(all), b.ours)
	}
	for _, s := range slices.Backward(all) {
		for len(s.cmds) > 0 {
			s.stopLast()
		}
	}
}

// stopLast stops the process of the server that was started last.
func (s *server) stopLast() {
	c := s.cmds[len(s.cmds)-1]
	s.cmds = s.cmds[:len(s.cmds)-1]
	_ = c.Process.Signal(syscall.SIGTERM) // it may have ended
	killer := time.AfterFunc(40*time.Second, func() { _ = c.Process.Kill() })
	_ = c.Wait() // its exit code says nothing about what was measured
	killer.Stop()
}

// awaitFile waits until a socket is there.
func awaitFile(ctx context.Context, name string) error {
	for range 100 {
		if _, err := os.Stat(name); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return errors.New("no socket " + name)
}
