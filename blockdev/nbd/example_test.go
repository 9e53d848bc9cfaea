package nbd_test

import (
	"context"
	"fmt"
	"net"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/memfile"
	"blocktree/blockdev/nbd"
)

func Example() {
	file := memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 1 << 30}})
	memory := blockdev.NewMemory(blocktree.InFlightBytesMax)
	device, err := blockdev.Open(file, blockdev.Options{Memory: memory})
	if err != nil {
		fmt.Println(err)
		return
	}
	var exports blockdev.Exports
	if err := exports.Add(blockdev.Export{Name: "/vm/disk0", Device: device}); err != nil {
		fmt.Println(err)
	}
	listener, err := nbd.Listen("tcp:127.0.0.1:0", nbd.SocketMode)
	if err != nil {
		fmt.Println(err)
		return
	}
	server := nbd.NewServer(nbd.Config{Exports: &exports, Memory: memory})
	served := make(chan error)
	go func() { served <- server.Serve(context.Background(), listener) }()

	nc, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	greeting := make([]byte, 8)
	nc.Read(greeting)
	fmt.Printf("%s\n", greeting)
	nc.Close()

	fmt.Println(server.Close(context.Background()), <-served, device.Close())
	fmt.Println(nbd.URI("unix:/run/btnbd.sock", "/vm/disk0"))
	// Output:
	// NBDMAGIC
	// <nil> <nil> <nil>
	// nbd+unix:///vm/disk0?socket=/run/btnbd.sock <nil>
}
