package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/nbd"
	"blocktree/crypto/cred"
	"blocktree/internal/cli"
)

// logFactor is how many times what a node keeps its log has room for: what is live is not written over until it was written again.
const logFactor = 4

func main() {
	cli.CalmMonitor("-dir", "-node") // as the commands do
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "floor: error:", err)
		os.Exit(1)
	}
}

func run() error {
	dir := flag.String("dir", "", "directory for three logs, which is left there")
	socket := flag.String("socket", "", "path of the unix socket")
	mib := flag.Uint64("mib", 128, "size of the device in MiB")
	written := flag.Bool("written", false, "answer a write when it is in the logs, as a file of durability flush does; nothing is ever synced")
	one := flag.Bool("node", false, "be one of the three processes, in this directory")
	only := flag.Bool("parts", false, "measure the parts of a request of 1 MiB one by one in one thread, in this directory, and end")
	flag.Parse()
	if *dir == "" || *mib == 0 || *mib > 1<<10 || flag.NArg() > 0 || (*one || *only) == (*socket != "") || *one && *only {
		return errors.New("-dir DIR and -socket PATH are needed, and -mib a size of at most 1024")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if *only {
		return parts(ctx, *dir)
	}
	if *one {
		defer cli.Profile(log, "floornode")()
		return beNode(ctx, *dir, int64(*mib<<20), *written)
	}
	defer cli.Profile(log, "floor")()
	return serve(ctx, log, *dir, *socket, *mib, *written)
}

// beNode is one of the three processes: it prints where it listens, and ends with its input.
func beNode(ctx context.Context, dir string, bytes int64, written bool) error {
	key, err := cred.LoadKey(filepath.Join(dir, "key.pem"))
	if err != nil {
		return err
	}
	n, err := newNode(dir, bytes/dataShards*logFactor)
	if err != nil {
		return err
	}
	n.written = written
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	if err := json.NewEncoder(os.Stdout).Encode(l.Addr().String()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // only its end is of interest
		cancel()
	}()
	return n.serve(ctx, l, key)
}

// child is a node's process.
type child struct {
	endpoint
	cmd   *exec.Cmd
	stdin io.Closer
}

// startNode starts this program as a node.
func startNode(dir string, mib uint64, written bool) (child, error) {
	key, err := cred.GenerateKey()
	if err != nil {
		return child{}, err
	}
	if err := errors.Join(os.MkdirAll(dir, 0o700), key.Save(filepath.Join(dir, "key.pem"))); err != nil {
		return child{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return child{}, err
	}
	c := child{cmd: exec.Command(self, "-node", "-dir", dir, "-mib", strconv.FormatUint(mib, 10), "-written="+strconv.FormatBool(written))}
	c.principal, c.cmd.Stderr = key.Principal(), os.Stderr
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return child{}, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return child{}, err
	}
	if err := c.cmd.Start(); err != nil {
		return child{}, err
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &c.addr)
	}
	if err != nil {
		return child{}, errors.Join(err, c.stop())
	}
	return c, nil
}

func (c child) stop() error { return errors.Join(c.stdin.Close(), c.cmd.Wait()) }

// serve starts the nodes and the device, and says so.
func serve(ctx context.Context, log *slog.Logger, dir, socket string, mib uint64, written bool) (err error) {
	var nodes []endpoint
	pids := ""
	for i := range allShards {
		c, e := startNode(filepath.Join(dir, strconv.Itoa(i)), mib, written)
		if e != nil {
			return e
		}
		defer func() { err = errors.Join(err, c.stop()) }()
		nodes, pids = append(nodes, c.endpoint), fmt.Sprintf("%s %d", pids, c.cmd.Process.Pid)
	}
	key, err := cred.GenerateKey()
	if err != nil {
		return err
	}
	f, err := connect(ctx, blocktree.FileInfo{Path: "/floor", SizeBytes: mib << 20, SectorBytes: sectorBytes}, key, nodes)
	if err != nil {
		return err
	}
	memory := blockdev.NewMemory(blocktree.InFlightBytesMax)
	device, err := blockdev.Open(f, blockdev.Options{Memory: memory})
	if err != nil {
		return errors.Join(err, f.Close())
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	exports := new(blockdev.Exports)
	if err := exports.Add(blockdev.Export{Name: "/floor", Device: device}); err != nil {
		return err
	}
	listen := "unix:" + socket
	l, err := nbd.Listen(listen, nbd.SocketMode)
	if err != nil {
		return err
	}
	uri, err := nbd.URI(listen, "/floor")
	if err != nil {
		return errors.Join(err, l.Close())
	}
	if _, err := fmt.Println("ready", uri+pids); err != nil {
		return errors.Join(err, l.Close())
	}
	return nbd.NewServer(nbd.Config{Exports: exports, Memory: memory, Logger: log}).Serve(ctx, l)
}
