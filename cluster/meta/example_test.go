package meta_test

import (
	"context"
	"fmt"
	"time"

	"blocktree"
	"blocktree/cluster/meta"

	"github.com/cockroachdb/pebble/v2/vfs"
)

type stillClock struct{}

func (stillClock) Now() time.Time      { return time.Time{} }
func (stillClock) Boot() time.Duration { return 0 }

// A cluster of one: it is founded, its node starts, a directory is made and read back.
func Example() {
	ctx := context.Background()
	root := blocktree.RootPath(blocktree.PrincipalOf([]byte("a public key")))
	self := blocktree.Runtime{Path: root + "/node1", Principal: blocktree.PrincipalOf([]byte("another")), Node: 1,
		Endpoints: []string{"127.0.0.1:7000"}, Services: []string{blocktree.ServiceSector}}
	group, err := meta.Open(ctx, meta.Config{Dir: "meta", FS: vfs.NewMem(), Node: 1, Founders: []blocktree.Runtime{self},
		Clock: stillClock{}, Send: func(blocktree.NodeID, []byte) {}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer group.Close()
	for _, op := range []meta.Op{
		meta.Found{Dir: root, Generation: 1, Runtimes: []blocktree.Runtime{self}, Mode: 0o755},
		meta.StartNode{Node: 1, Incarnation: blocktree.Incarnation{1}, StartCounter: 1},
		meta.MakeDir{Path: root + "/vm", Mode: 0o755},
		meta.MakeDir{Path: root + "/vm", Mode: 0o755},
	} {
		result, err := group.Propose(ctx, meta.Command{ID: meta.NewCommandID(), Op: op})
		fmt.Printf("%T: %v, done: %v\n", op, err, result.Err("propose") == nil)
	}
	answer, err := group.Answer(ctx, meta.Query{Kind: meta.QueryList, Path: root})
	fmt.Println(answer.Entries[0].Name, err)
	// Output:
	// meta.Found: <nil>, done: true
	// meta.StartNode: <nil>, done: true
	// meta.MakeDir: <nil>, done: true
	// meta.MakeDir: <nil>, done: false
	// vm <nil>
}
