package erasure_test

import (
	"fmt"

	"blocktree"
	"blocktree/internal/erasure"
)

// Two sectors are coded 2+1, one shard is lost, and the sectors are read from the other two.
func Example() {
	codec, _ := erasure.New(blocktree.Code{Data: 2, Parity: 1})
	sealed := []byte("sector 0sector 1")
	shards := [][]byte{make([]byte, 8), make([]byte, 8), make([]byte, 8)}
	codec.Split(sealed, 8, shards)
	codec.Encode(shards)
	fmt.Printf("%s %s\n", shards[0], shards[1])

	shards[0] = nil
	read := make([]byte, 16)
	fmt.Println(codec.ReconstructData(shards), codec.Join(read, shards, 8), string(read))
	// Output:
	// sectsect or 0or 1
	// <nil> <nil> sector 0sector 1
}
