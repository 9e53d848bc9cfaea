package main

import (
	"fmt"
	"io"
	"net"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "relay: error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: relay SOCKET HOST:PORT")
	}
	l, err := net.Listen("unix", args[0])
	if err != nil {
		return err
	}
	for {
		near, err := l.Accept()
		if err != nil {
			return err
		}
		go relay(near, args[1])
	}
}

// relay ends with the connection.
func relay(near net.Conn, address string) {
	defer near.Close()
	far, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	go func() {
		defer far.Close()
		defer near.Close()
		io.Copy(near, far) // its end is all that matters
	}()
	defer far.Close()
	io.Copy(far, near)
}
