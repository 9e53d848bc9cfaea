package blockdev_test

import (
	"context"
	"fmt"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/memfile"
)

func Example() {
	file := memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 1 << 20}})
	device, err := blockdev.Open(file, blockdev.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer device.Close()
	ctx := context.Background()
	if err := device.WriteAt(ctx, []byte("any byte"), 5000, true); err != nil { // durable when it returns
		fmt.Println(err)
	}
	p := make([]byte, 4)
	if err := device.ReadAt(ctx, p, 5004); err != nil {
		fmt.Println(err)
	}
	fmt.Printf("%s\n", p)
	fmt.Println(device.ReadAt(ctx, p, device.Size()))
	// Output:
	// byte
	// blockdev.ReadAt /mem: out of range: 4 bytes at 1048576 of 1048576
}
