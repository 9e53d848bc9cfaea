package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"blocktree"
	"blocktree/fs"
	"blocktree/fs/connect"
	"blocktree/fs/files"
	"blocktree/internal/config"
)

const usage = "owner: error: usage: owner hold CONFIG PATH..., wait|lease CONFIG PATH, or many CONFIG COUNT PATH\nowner: hint: see doc.go"

func main() {
	if len(os.Args) < 4 || os.Args[1] == "many" && len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1], os.Args[2], os.Args[3:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "owner: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, what, name string, args []string) error {
	if what == "lease" {
		return lease(ctx, name, args[0])
	}
	cfg, err := config.LoadClient(config.Source{File: name})
	if err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	c, err := connect.Cluster(ctx, &cfg.Base, log)
	if err != nil {
		return err
	}
	defer c.Close()
	service, err := connect.Filesystem(&cfg.Base, c, log)
	if err != nil {
		return err
	}
	defer service.Close()
	count := 0
	if what == "many" {
		if count, err = strconv.Atoi(args[0]); err != nil {
			return err
		}
		args = args[1:]
	}
	var paths []blocktree.Path
	for _, arg := range args {
		path, err := blocktree.ParsePath(arg, cfg.Root())
		if err != nil {
			return err
		}
		paths = append(paths, path)
	}
	switch what {
	case "hold":
		return hold(ctx, service, paths)
	case "wait":
		return wait(ctx, service, paths[0])
	case "many":
		return many(ctx, service, paths[0], count)
	}
	return fmt.Errorf("%s is nothing that is done", what)
}

// open opens a file to write.
func open(ctx context.Context, c *fs.Client, path blocktree.Path) (fs.File, fs.Locker, error) {
	f, err := c.Open(ctx, path, fs.OpenOptions{Write: true})
	if err != nil {
		return nil, nil, err
	}
	l, ok := f.(fs.Locker)
	if !ok {
		return nil, nil, fmt.Errorf("%s has no locks", path.Short())
	}
	return f, l, nil
}

func hold(ctx context.Context, c *fs.Client, paths []blocktree.Path) error {
	var first fs.File
	for _, path := range paths {
		f, l, err := open(ctx, c, path)
		if err != nil {
			return err
		}
		if err := f.WriteAt(ctx, []byte("held"), 0); err != nil {
			return err
		}
		if err := l.Lock(ctx, 0, 0, true, false); err != nil {
			return err
		}
		if first == nil {
			first = f
		}
	}
	fmt.Println("ready")
	for ctx.Err() == nil {
		if _, err := first.ReadAt(ctx, make([]byte, 4), 0); err != nil && err != io.EOF {
			fmt.Printf("told %v\n", err)
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

func wait(ctx context.Context, c *fs.Client, path blocktree.Path) error {
	f, l, err := open(ctx, c, path)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	if err := l.Lock(ctx, 0, 0, true, true); err != nil {
		return err
	}
	fmt.Printf("had %d\n", time.Now().UnixNano())
	if err := f.WriteAt(ctx, []byte("next"), 0); err != nil {
		return err
	}
	if err := f.Flush(ctx); err != nil {
		return err
	}
	return f.Close()
}

func lease(ctx context.Context, config, name string) error {
	t, err := files.Connect(ctx, config, nil)
	if err != nil {
		return err
	}
	defer t.Close()
	fmt.Println("ready")
	for {
		f, err := t.OpenFile(ctx, name, os.O_RDWR, 0)
		if blocktree.KindOf(err) == blocktree.Busy {
			continue // it was waited for a while already
		}
		if err != nil {
			return err
		}
		fmt.Printf("had %d\n", time.Now().UnixNano())
		if _, err := f.WriteAt([]byte("sealed"), 0); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		return f.Close()
	}
}

func many(ctx context.Context, c *fs.Client, path blocktree.Path, count int) error {
	for i := range count {
		f, err := c.Open(ctx, path, fs.OpenOptions{})
		if err != nil {
			return err
		}
		l, ok := f.(fs.Locker)
		if !ok {
			return fmt.Errorf("%s has no locks", path.Short())
		}
		if err := l.Lock(ctx, uint64(i), 1, false, false); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	<-ctx.Done()
	return nil
}
