package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cmd/internal/parts"
	"blocktree/internal/cli"
	"blocktree/internal/config"
	"blocktree/internal/node"
)

// clusterTimeout bounds the wait for the demo's own nodes: an election, and replays of logs where files are old.
const clusterTimeout = 60 * time.Second

// demo is what the flags of `btnbd demo` say.
type demo struct {
	options        parts.Options
	listen         string
	insecure       bool
	level          string
	accept         []string // values of --accept-loss
	acceptRollback []string
}

func newDemo() *cobra.Command {
	var d demo
	c := &cobra.Command{
		Use:   "demo [--dir DIR] [--nodes N] [--code K+M] [--size SIZE] [--durability ack|flush] [--listen unix:PATH|tcp:HOST:PORT]",
		Short: "Run a whole cluster in one process and export a disk from it",
		Long: `demo makes a domain with N real nodes, real connections over loopback and real stores, creates the file ` + parts.Disk + ` and
exports it. It prints "ready" with the NBD URI, and what to type next. Ctrl-C or SIGTERM stops it cleanly.

With --dir the data is there again next time; without it a temporary directory is used, and removed at the end.`,
		Example: `  btnbd demo
  btnbd demo --dir ~/demo --nodes 5 --code 3+2 --size 10GiB --listen tcp:127.0.0.1:10809`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args(),
	}
	f := c.Flags()
	f.StringVar(&d.options.Dir, "dir", "", "directory of nodes and keys, made when it is absent (default a temporary one)")
	f.IntVar(&d.options.Nodes, "nodes", 3, "number of nodes")
	_ = d.options.Code.Set("2+1") // a constant
	f.Var(&d.options.Code, "code", "erasure code: any K of the K+M shards of a sector suffice")
	_ = d.options.Size.Set("1GiB") // a constant
	f.Var(&d.options.Size, "size", "size of "+parts.Disk+": K, M, G or T with or without iB, 1024-based")
	f.StringVar(&d.options.Durability, "durability", "ack", "when a write is durable: ack, when it is answered; or flush, after the next FLUSH")
	f.StringVar(&d.listen, "listen", "", "unix:PATH or tcp:HOST:PORT (default a unix socket in the directory)")
	f.BoolVar(&d.insecure, "insecure", false, "allow an address that other machines reach, though NBD is not encrypted")
	f.StringVar(&d.level, "log-level", "error", "debug, info, warn or error")
	addAcceptances(c, &d.accept, &d.acceptRollback)
	_ = c.MarkFlagDirname("dir") // for completion only
	c.RunE = func(c *cobra.Command, _ []string) error {
		d.options.Given = parts.GivenFlags{Nodes: f.Changed("nodes"), Code: f.Changed("code"), Size: f.Changed("size"),
			Durability: f.Changed("durability")}
		d.options.Name = "btnbd demo"
		return d.run(c.Context(), c.OutOrStdout(), c.ErrOrStderr())
	}
	return c
}

// run prepares the playground, runs its nodes and serves its disk until ctx ends.
func (d *demo) run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	log, err := cli.NewLogger(stderr, d.level)
	if err != nil {
		return err
	}
	s := &server{log: log}
	if err := d.takeAddress(s); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			s.close() // closing twice does no harm
		}
	}()
	if d.options.Dir == "" {
		if err := d.options.Validate(); err != nil {
			return err
		}
		if d.options.Dir, err = os.MkdirTemp("", "btnbd-demo-"); err != nil {
			return &blocktree.Error{Op: "demo", Kind: blocktree.IO, Err: err, Hint: "use --dir with a directory that can be written"}
		}
		defer func() { err = errors.Join(err, os.RemoveAll(d.options.Dir)) }()
	}
	p, err := parts.Prepare(d.options)
	if err != nil {
		return err
	}
	defer p.Close()
	if s.cfg, err = config.LoadNBD(config.Source{File: p.NBD}); err != nil {
		return err
	}
	if s.acceptRollback, err = acceptance(s.cfg, acceptRollbackFlag, d.acceptRollback); err != nil {
		return err
	}
	if s.acceptLoss, err = acceptance(s.cfg, acceptLossFlag, d.accept); err != nil {
		return err
	}
	cli.IgnoreHangup()
	nodes, err := openNodes(ctx, p, log, d.level)
	defer func() { err = errors.Join(err, closeNodes(nodes)) }()
	if err != nil {
		return err
	}
	return d.serve(ctx, s, nodes, stdout)
}

// takeAddress listens on --listen before anything is made, where it was given.
func (d *demo) takeAddress(s *server) error {
	if d.listen == "" {
		return nil
	}
	if err := config.CheckListen(d.listen, d.insecure); err != nil {
		return err
	}
	s.cfg = &config.NBD{Listen: config.Addresses{d.listen}}
	return s.listen()
}

// serve waits for the cluster and serves until ctx ends or a node fails.
func (d *demo) serve(ctx context.Context, s *server, nodes []*node.Node, stdout io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for _, n := range nodes {
		go func() { // ends with ctx
			select {
			case err := <-n.Fatal():
				cancel(err)
			case <-ctx.Done():
			}
		}()
	}
	waitCtx, stopWaiting := context.WithTimeout(ctx, clusterTimeout)
	defer stopWaiting()
	if err := parts.AwaitUp(waitCtx, &s.cfg.Base); err != nil {
		if ctx.Err() != nil {
			return failure(ctx)
		}
		return err
	}
	if len(s.listeners) == 0 {
		if err := s.listen(); err != nil {
			return err
		}
	}
	err := s.run(ctx, func(uris []string) error {
		if err := printReady(stdout, uris[:1]); err != nil {
			return err
		}
		_, err := io.WriteString(stdout, next(uris[0], s.addresses[0]))
		return err
	})
	if err == nil {
		err = failure(ctx)
	}
	return err
}

// failure is the error of a node that ended the demo, nil when a signal did.
func failure(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// openNodes starts every node of the playground in this process.
func openNodes(ctx context.Context, p *parts.Playground, log *slog.Logger, level string) ([]*node.Node, error) {
	var nodes []*node.Node
	for _, file := range p.Nodes {
		cfg, err := config.LoadNode(config.Source{File: file})
		if err != nil {
			return nodes, err
		}
		cfg.Log.Level = level
		n, err := parts.OpenNode(ctx, cfg, log.With("node", cfg.RuntimePath().Short()))
		if err != nil {
			return nodes, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// closeNodes stops all nodes at once.
func closeNodes(nodes []*node.Node) error {
	errs := make(chan error, len(nodes))
	for _, n := range nodes {
		go func() { errs <- n.Close() }()
	}
	var all error
	for range nodes {
		all = errors.Join(all, <-errs)
	}
	return all
}

// next says what to type in a second shell.
func next(uri, listen string) string {
	export := strings.TrimPrefix(parts.Disk, "/")
	var b strings.Builder
	fmt.Fprintf(&b, "\nIn another shell:\n  nbdinfo '%s'\n  nbdcopy disk.img '%s'\n  qemu-system-x86_64 -drive file='%s',format=raw,if=virtio\n", uri, uri, uri)
	if address, ok := strings.CutPrefix(listen, "unix:"); ok {
		fmt.Fprintf(&b, "  nbd-client -unix %s -N %s /dev/nbd0 -b 4096   # as root, after modprobe nbd\n", address, export)
	} else if host, port, err := net.SplitHostPort(strings.TrimPrefix(listen, "tcp:")); err == nil {
		fmt.Fprintf(&b, "  nbd-client %s %s -N %s /dev/nbd0 -b 4096   # as root, after modprobe nbd\n", host, port, export)
	}
	b.WriteString("\nCtrl-C stops it.\n")
	return b.String()
}
