package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"blocktree"
	"blocktree/fs"
	"blocktree/fs/connect"
	"blocktree/internal/config"
)

const (
	usage  = "crowd: error: usage: crowd make CONFIG DIR COUNT [FIRST], list CONFIG DIR, or one CONFIG DIR TIMES\ncrowd: hint: see doc.go"
	makers = blocktree.FSPathRequestsPerConnectionMax // files that are being made at one time
	tenths = 10
)

func main() {
	args := os.Args[1:]
	if len(args) < 3 || len(args) > 5 || len(args) == 3 && args[0] != "list" || len(args) == 5 && args[0] != "make" {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, args)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "crowd: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	count, first := 0, 0
	if len(args) > 3 {
		var err error
		if count, err = strconv.Atoi(args[3]); err != nil || count < tenths {
			return fmt.Errorf("%q is no number of %d or more", args[3], tenths)
		}
	}
	if len(args) > 4 {
		var err error
		if first, err = strconv.Atoi(args[4]); err != nil || first < 0 {
			return fmt.Errorf("%q is no number of the first file", args[4])
		}
	}
	cfg, err := config.LoadClient(config.Source{File: args[1]})
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
	dir, err := blocktree.ParsePath(args[2], cfg.Root())
	if err != nil {
		return err
	}
	switch args[0] {
	case "make":
		return fill(ctx, service, dir, first, count)
	case "list":
		return list(ctx, service, dir)
	case "one":
		return one(ctx, service, dir, count)
	}
	return fmt.Errorf("%s is nothing that is done", args[0])
}

func options() fs.CreateOptions {
	return fs.CreateOptions{SizeBytes: 4096, SectorBytes: 4096, Code: blocktree.Code{Data: 2, Parity: 1}, Mode: 0o644}
}

// fill makes count files, the first of which is numbered so. Their names ascend, as those of a program that counts do.
func fill(ctx context.Context, c *fs.Client, dir blocktree.Path, first, count int) error {
	var next, made atomic.Int64
	var g sync.WaitGroup
	var once sync.Once
	var failed error
	began := time.Now()
	at := make([]time.Duration, tenths+1) // when so many tenths were made
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for range makers {
		g.Go(func() {
			for ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= int64(count) {
					return
				}
				if err := c.Create(ctx, dir.Join(fmt.Sprintf("f%08d", int64(first)+i)), options()); err != nil {
					once.Do(func() { failed = err; stop() })
					return
				}
				if n := made.Add(1); n*tenths%int64(count) < tenths {
					at[n*tenths/int64(count)] = time.Since(began)
				}
			}
		})
	}
	g.Wait()
	if failed != nil {
		return failed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	tenth := float64(count) / tenths
	fmt.Printf("%.0f %.0f %.1f\n", tenth/at[1].Seconds(), tenth/(at[tenths]-at[tenths-1]).Seconds(), at[tenths].Seconds())
	return nil
}

func list(ctx context.Context, c *fs.Client, dir blocktree.Path) error {
	began, longest, n := time.Now(), time.Duration(0), 0
	for after, more := "", true; more; {
		asked := time.Now()
		entries, there, err := c.ReadDirAfter(ctx, dir, after, 0)
		if err != nil {
			return err
		}
		longest = max(longest, time.Since(asked))
		more = there
		if n += len(entries); len(entries) > 0 {
			after = entries[len(entries)-1].Name
		}
	}
	fmt.Printf("%d %.2f %.3f\n", n, time.Since(began).Seconds(), longest.Seconds())
	return nil
}

func one(ctx context.Context, c *fs.Client, dir blocktree.Path, times int) error {
	path := dir.Join("one")
	steps := []func() error{
		func() error { return c.Create(ctx, path, options()) },
		func() error { _, err := c.Stat(ctx, path); return err },
		func() error { return c.Remove(ctx, path) },
	}
	took := make([][]time.Duration, len(steps))
	for range times {
		for i, step := range steps {
			began := time.Now()
			if err := step(); err != nil {
				return err
			}
			took[i] = append(took[i], time.Since(began))
		}
	}
	for i := range took {
		slices.Sort(took[i])
		fmt.Print(took[i][times/2].Microseconds(), " ")
	}
	fmt.Println()
	return nil
}
