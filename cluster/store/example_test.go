package store_test

import (
	"fmt"

	"blocktree"
	"blocktree/cluster/store"
	"blocktree/internal/vfs"
)

// machine is a Replayer that needs nothing.
type machine struct{}

func (machine) Checkpoint(*store.Store, []byte) error { return nil }
func (machine) Record(store.Replayed) error           { return nil }

func Example() {
	fs := vfs.NewCrash() // vfs.Disk{} in production
	id := blocktree.NodeID(1)
	if err := store.Create(fs, "/node/store", id, store.Options{}); err != nil {
		fmt.Println(err)
	}
	s, err := store.Open(fs, "/node/store", id, store.Options{}, machine{})
	if err != nil {
		fmt.Println(err)
		return
	}
	file := blocktree.FileID{Generation: 1, Inode: 2}
	record := store.Record{
		Kind: store.KindData, File: file, First: 8, Count: 1, Version: blocktree.Version{Epoch: 1, Sequence: 1},
		ShardBytes: 5, Payload: []byte("shard"), Seals: make([]byte, store.SealBytes),
	}
	durable := make(chan error)
	refs, err := s.Append([]store.Record{record}, func(err error) { durable <- err })
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("durable:", <-durable)
	pending := store.Extent{First: 8, Count: 1, Content: store.Data, Version: record.Version, Ref: refs[0]}
	fmt.Println("committed:", s.Index(file, pending))
	found, _ := s.Lookup(file, 7, 2, nil)
	payload, seal := make([]byte, 5), make([]byte, store.SealBytes)
	err = s.ReadShards(file, found[1], payload, seal)
	fmt.Println(found[0].Content == store.Absent, string(payload), err)
	fmt.Println(s.Close([]byte("the machine's state")))
	// Output:
	// durable: <nil>
	// committed: <nil>
	// true shard <nil>
	// <nil>
}
