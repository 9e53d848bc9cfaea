package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "writelog: error:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	switch {
	case len(args) == 5 && args[0] == "proxy":
		return proxy(ctx, args[1], args[2], args[3], args[4])
	case len(args) == 2 && args[0] == "points":
		size, records, err := readLog(args[1])
		if err == nil {
			fmt.Printf("%d flush points, %d records, a device of %d bytes\n", len(points(records)), len(records), size)
		}
		return err
	case (len(args) == 4 || len(args) == 5) && args[0] == "image":
		point, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		seed := uint64(0)
		if len(args) == 5 {
			if seed, err = strconv.ParseUint(args[4], 10, 64); err != nil {
				return err
			}
		}
		return image(args[1], point, args[3], seed)
	}
	return errors.New("usage: writelog proxy LISTEN SERVER EXPORT LOG | points LOG | image LOG POINT FILE [SEED]")
}
