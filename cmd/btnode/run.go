package main

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"blocktree/cmd/internal/parts"
	"blocktree/internal/cli"
	"blocktree/internal/config"
	"blocktree/internal/node"
)

func newRun() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "run --config FILE",
		Short: "Run a storage node in the foreground",
		Long: `run starts the node that FILE describes and stays in the foreground until SIGINT or SIGTERM, which stop it cleanly. It
logs to standard error and tells systemd when it is ready. The store is made when it is absent; a store of another node is refused. At
SIGHUP, or when they have changed, which is looked for every minute, it reads its credentials again and goes by them without a break. With --metrics, or metrics.listen in FILE, it answers Prometheus at /metrics.`,
		Example: `  btnode run --config /etc/blocktree/btnode.yaml
  btnode run --config btnode.yaml --metrics 9741
  BT_LOG_LEVEL=debug btnode run --config btnode.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args(),
	}
	addConfig(c, &file, "configuration of the node (btnode.yaml)")
	c.Flags().String("listen", "", "listen here instead of where the configuration says, HOST:PORT")
	c.Flags().String("log-level", "", "debug, info, warn or error")
	c.Flags().String("transport", "", "auto, quic or tcp")
	c.Flags().String("metrics", "", "answer Prometheus here, a port of loopback, HOST:PORT or unix:PATH")
	completeWords(c, "log-level", cli.LogLevels())
	completeWords(c, "transport", config.Transports())
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := cli.RequireFlags(c, "config"); err != nil {
			return err
		}
		cfg, err := config.LoadNode(config.Source{File: file, Flags: flagKeys(c, "listen", "log-level", "transport", "metrics")})
		if err != nil {
			return err
		}
		return runNode(c, cfg)
	}
	return c
}

// heapFloorBytes is how much garbage a node collects at least before it looks for what is still in use (cli.HeapFloor). Its own heap is some 15 MiB, index pages most of
// them, whatever it keeps; so much more keeps a node with 1 GiB of data under the 150 MiB of memory that it may take (docs/BENCHMARKS.md).
const heapFloorBytes = 24 << 20

// runNode runs the node until the command's context ends or the node fails.
func runNode(c *cobra.Command, cfg *config.Node) error {
	log, err := cli.NewLogger(c.ErrOrStderr(), cfg.Log.Level)
	if err != nil {
		return err
	}
	var renewal atomic.Pointer[parts.Renewal]
	defer cli.OnHangup(func() { renewal.Load().Look() })()
	defer cli.Profile(log, "btnode")()
	defer cli.HeapFloor(heapFloorBytes)()
	ctx := c.Context()
	var running atomic.Pointer[node.Node]
	stop, err := parts.ServeMetrics(&cfg.Metrics, log, nodeMetrics(&running))
	if err != nil {
		return err
	}
	defer stop()
	n, err := parts.OpenNode(ctx, cfg, log)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	running.Store(n)
	r, err := parts.Renew(&cfg.Base, log, n.SetCredentials)
	if err != nil {
		return errors.Join(err, n.Close())
	}
	defer r.Close()
	renewal.Store(r)
	cli.NotifyReady(log)
	log.Info("node runs", "path", cfg.RuntimePath().Short(), "listen", cfg.Listen, "store", cfg.Store.ID.String())
	select {
	case <-ctx.Done():
		cli.NotifyStopping(log)
		err = n.Close()
	case err = <-n.Fatal():
		_ = n.Close() // the first error is the one to tell
	}
	log.Info("node stopped", "path", cfg.RuntimePath().Short())
	return err
}

// addConfig adds --config, which every command that talks to a cluster needs.
func addConfig(c *cobra.Command, file *string, usage string) {
	c.Flags().StringVar(file, "config", "", usage)
	_ = c.MarkFlagFilename("config", "yaml") // for completion only
}

// completeWords offers the words for a flag.
func completeWords(c *cobra.Command, flag string, words []string) {
	_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)) // for completion only
}

// flagKeys returns the flags under the keys of the configuration that they stand for: "log-level" is log.level.
func flagKeys(c *cobra.Command, names ...string) map[string]*pflag.Flag {
	flags := map[string]*pflag.Flag{}
	for _, n := range names {
		key := n
		switch n {
		case "log-level":
			key = "log.level"
		case "metrics":
			key = "metrics.listen"
		}
		flags[key] = c.Flags().Lookup(n)
	}
	return flags
}
