package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"blocktree/internal/bttp/bareexchange"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bareexchange: error:", err)
		os.Exit(1)
	}
}

func run() error {
	each := flag.Duration("each", time.Second, "how long each row is measured")
	carriers := flag.String("carriers", "tcp,quic", "carriers, separated by commas")
	overs := flag.String("over", "bare,batched,bttp", "what is measured, separated by commas")
	only := flag.String("shapes", "", "shapes, separated by commas; empty is all")
	depth := flag.Int("depth", 0, "the depth; 0 is those of the shape")
	lanes := flag.Int("lanes", 0, "lanes of a connection of bttp; 0 is the usual number")
	profile := flag.String("cpuprofile", "", "write a CPU profile of the client to this file")
	echo := flag.String("echo", "", "be an echo process with the identity in this directory")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *echo != "" {
		return bareexchange.Echo(ctx, *echo, os.Stdin, os.Stdout)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	shapes := bareexchange.Shapes()
	if *only != "" {
		shapes = slices.DeleteFunc(shapes, func(s bareexchange.Shape) bool {
			return !slices.Contains(strings.Split(*only, ","), s.Name)
		})
	}
	for i := range shapes {
		if *depth > 0 {
			shapes[i].Depths = []int{*depth}
		}
	}
	lines := json.NewEncoder(os.Stdout)
	return bareexchange.Run(ctx, []string{self, "-echo"}, bareexchange.Options{Each: *each,
		Carriers: strings.Split(*carriers, ","), Overs: strings.Split(*overs, ","), Shapes: shapes, Lanes: *lanes},
		func(r bareexchange.Row) { _ = lines.Encode(r) })
}
