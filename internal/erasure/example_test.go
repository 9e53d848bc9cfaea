package erasure_test

import (
	"fmt"

	"blocktree"
	"blocktree/internal/erasure"
)

// Two sectors are coded 2+1, one shard is lost, and the sectors are read from the other two.
func Example() {
	codec, _ := erasure.New(blocktree.Code{Data: 2, Parity: 1})
	shards := [][]byte{[]byte("sectsect"), []byte("or 0or 1"), make([]byte, 8)} // of "sector 0" and "sector 1"
	codec.Encode(shards)

	shards[0] = nil
	read := make([]byte, 16)
	fmt.Println(codec.ReconstructData(shards), codec.Join(read, shards, 8), string(read))
	// Output:
	// <nil> <nil> sector 0sector 1
}
