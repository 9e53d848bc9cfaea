package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/memfile"
	"blocktree/blockdev/nbd"
	"blocktree/internal/cli"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "memory: error:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	socket := flag.String("socket", "", "path of the unix socket")
	mib := flag.Uint64("mib", 512, "size of the device in MiB")
	flag.Parse()
	if *socket == "" || *mib == 0 || *mib > blocktree.FileBytesMax>>20 || flag.NArg() > 0 {
		return errors.New("-socket PATH is needed, and -mib a size")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	defer cli.Profile(log, "memory")()
	memory := blockdev.NewMemory(blocktree.InFlightBytesMax)
	file := memfile.New(memfile.Options{Prompt: true, Info: blocktree.FileInfo{SizeBytes: *mib << 20}})
	device, err := blockdev.Open(file, blockdev.Options{Memory: memory})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	exports := new(blockdev.Exports)
	if err := exports.Add(blockdev.Export{Name: "/memory", Device: device}); err != nil {
		return err
	}
	listen := "unix:" + *socket
	l, err := nbd.Listen(listen, nbd.SocketMode)
	if err != nil {
		return err
	}
	uri, err := nbd.URI(listen, "/memory")
	if err != nil {
		return errors.Join(err, l.Close())
	}
	if _, err := fmt.Println("ready", uri); err != nil {
		return errors.Join(err, l.Close())
	}
	return nbd.NewServer(nbd.Config{Exports: exports, Memory: memory, Logger: log}).Serve(ctx, l)
}
