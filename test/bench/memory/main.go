package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
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
	secure := flag.String("tls", "", "address of TCP, HOST:PORT, to listen at with TLS instead")
	certificates := flag.String("certificates", "", "directory of what `btnbd certificate` makes, for -tls")
	mib := flag.Uint64("mib", 512, "size of the device in MiB")
	flag.Parse()
	if (*socket == "") == (*secure == "") || (*secure == "") != (*certificates == "") || *mib == 0 || *mib > blocktree.FileBytesMax>>20 || flag.NArg() > 0 {
		return errors.New("-socket PATH is needed, or -tls ADDRESS and -certificates DIR, and -mib a size")
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
	l, uri, err := listen(*socket, *secure, *certificates)
	if err != nil {
		return err
	}
	if _, err := fmt.Println("ready", uri); err != nil {
		return errors.Join(err, l.Close())
	}
	return nbd.NewServer(nbd.Config{Exports: exports, Memory: memory, Logger: log}).Serve(ctx, l)
}

// listen listens at a unix socket, or at an address with TLS, and says where the device is.
func listen(socket, secure, certificates string) (net.Listener, string, error) {
	if secure == "" {
		at := "unix:" + socket
		l, err := nbd.Listen(at, nbd.SocketMode)
		if err != nil {
			return nil, "", err
		}
		uri, err := nbd.URI(at, "/memory")
		if err != nil {
			return nil, "", errors.Join(err, l.Close())
		}
		return l, uri, nil
	}
	file := func(name string) string { return filepath.Join(certificates, name) }
	t, err := nbd.LoadTLS(nbd.TLSFiles{Certificate: file("server-cert.pem"), Key: file("server-key.pem"), ClientCA: file("ca-cert.pem")})
	if err != nil {
		return nil, "", err
	}
	l, err := nbd.Listen("tcp:"+secure, nbd.SocketMode)
	if err != nil {
		return nil, "", err
	}
	return t.Require(l), "nbds://" + l.Addr().String() + "/memory", nil
}
