package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"blocktree/cluster"
	"blocktree/crypto/cred"
	"blocktree/crypto/keys"
	"blocktree/internal/bttp"
	"blocktree/internal/config"
	"blocktree/internal/node"
	"blocktree/route"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sealingkey: error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("usage: sealingkey CONFIG READER-KEY PATH")
	}
	c, err := config.LoadClient(config.Source{File: args[0]})
	if err != nil {
		return err
	}
	reader, err := keys.LoadReaderKey(args[1])
	if err != nil {
		return err
	}
	client, err := dial(&c.Base)
	if err != nil {
		return err
	}
	defer client.Close()
	path, err := c.Resolve(args[2])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	inode, err := client.Stat(ctx, path)
	if err != nil {
		return err
	}
	access, err := keys.DecodeAccess(inode.Access)
	if err != nil {
		return err
	}
	ring, err := access.OpenAll(reader)
	if err != nil {
		return err
	}
	for generation, key := range ring {
		fmt.Printf("%x\n", key.Sealing(access.KeyID, generation))
	}
	return nil
}

func dial(b *config.Base) (*cluster.Client, error) {
	key, err := cred.LoadKey(b.Identity.Key)
	if err != nil {
		return nil, err
	}
	chain, err := cred.Load(b.Identity.Credentials)
	if err != nil {
		return nil, err
	}
	table, err := route.NewTable(b.Runtimes())
	if err != nil {
		return nil, err
	}
	return cluster.Dial(context.Background(), cluster.ClientConfig{Path: b.RuntimePath(), Root: b.Root(), Key: key, Credentials: chain,
		Transport: bttp.Transport(b.Transport), Resolver: table, Scope: b.Directory(), Logger: slog.New(slog.DiscardHandler), Clock: node.SystemClock{}})
}
