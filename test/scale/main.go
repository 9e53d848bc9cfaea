package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir := flag.String("docs", "docs", "directory of ROUTES.md, whose numbers are replaced, and of routes.svg")
	processes := flag.Int("processes", 16, "how many clients each run has, one after the other")
	small := flag.Bool("small", false, "a small domain, in seconds; prints the numbers and writes no file")
	flag.Parse()
	if err := scale(ctx, *dir, *processes, *small, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "scale: error:", err)
		stop()
		os.Exit(1)
	}
}

// The domain of a million directories in a hundred thousand clusters, deep and flat.
func deep(plain bool) shape {
	name := "deep"
	if plain {
		name = "deep, covering"
	}
	return shape{name: name, fan: []int{100, 30, 33}, directories: 9, plain: plain}
}

func flat() shape { return shape{name: "flat", fan: []int{100_000}, directories: 9} }

// plan is what is run: shapes and loads.
func plan(processes int, small bool) (shapes []shape, loads []load) {
	usual := load{seed: 1, processes: processes, lookups: 2048, pause: time.Second, near: 0.8}
	anything := usual
	anything.near = 0
	daily, often, founding := usual, usual, usual
	daily.lives, often.lives, founding.founds = 24*time.Hour, time.Hour, 8*time.Hour
	shapes = []shape{deep(false), deep(true), deep(false), flat(), deep(true), deep(true), deep(true)}
	loads = []load{usual, usual, anything, anything, daily, often, founding}
	if small {
		for i := range shapes {
			shapes[i].fan = []int{5, 3, 4}
			if shapes[i].name == "flat" {
				shapes[i].fan = []int{80}
			}
			loads[i].lookups = 256
			loads[i].founds /= 16
		}
	}
	return shapes, loads
}

// measure runs the plan.
func measure(ctx context.Context, processes int, small bool, progress io.Writer) (runs []outcome, swept outcome, err error) {
	shapes, loads := plan(processes, small)
	for i, s := range shapes {
		begin := time.Now()
		o, err := run(ctx, s, loads[i])
		if err != nil {
			return nil, outcome{}, err
		}
		sum := o.all()
		fmt.Fprintf(progress, "%s, %s: %d lookups, %d asked, in %v\n", s.name, near(loads[i]), sum.lookups, sum.asks, time.Since(begin).Round(time.Second))
		runs = append(runs, o)
	}
	wide := shapes[1]
	if !small { // a tenth of it: every cluster is asked, and signs
		wide.fan = []int{100, 10, 9}
	}
	swept, err = sweep(ctx, wide)
	return runs, swept, err
}

func scale(ctx context.Context, dir string, processes int, small bool, out io.Writer) error {
	name := filepath.Join(dir, "ROUTES.md")
	if page, err := os.ReadFile(name); err != nil { // before it takes long
		return err
	} else if _, err := fill(string(page), ""); err != nil {
		return err
	}
	runs, swept, err := measure(ctx, processes, small, out)
	if err != nil {
		return err
	}
	text := tables(runs, swept)
	fmt.Fprintln(out, text)
	if small {
		return nil
	}
	page, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	filled, err := fill(string(page), text)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "routes.svg"), []byte(plot(charts(runs))), 0o644); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(filled), 0o644)
}
