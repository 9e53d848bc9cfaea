package meta

import (
	"fmt"
	"sync/atomic"
	"testing"

	"blocktree"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// N4 of docs/design/0072: a command is two writes of a member's store, that of the log and that of what it did, which says that it is committed, too; and so a store that is opened again goes on.
func TestWritesOfACommand(t *testing.T) {
	const commands = 20
	var writes atomic.Int64
	fs := vfs.NewMem()
	open := func() *Group {
		g, err := Open(t.Context(), Config{Dir: "meta", FS: fs, Node: 1, Founders: founders(1), Send: func(blocktree.NodeID, []byte) {}, Clock: &fakeClock{}, Logger: discard,
			hooks: hooks{committed: func() { writes.Add(1) }}})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	must := func(g *Group, op Op) {
		t.Helper()
		if r, err := g.Propose(t.Context(), Command{ID: NewCommandID(), Op: op}); err != nil || r.Kind != blocktree.Other {
			t.Fatal(r, err)
		}
	}
	g := open()
	must(g, Found{Dir: rootDir, Generation: 1, Runtimes: founders(1)})
	begun := writes.Load()
	for i := range commands {
		must(g, MakeDir{Path: path(fmt.Sprintf("/d%d", i))})
	}
	if n := writes.Load() - begun; n > 2*commands+commands/4 {
		t.Errorf("%d writes for %d commands", n, commands)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	g = open()
	must(g, MakeDir{Path: path("/again")})
	if names, _, err := g.List(rootDir, "", 0); err != nil || len(names) != commands+1 {
		t.Errorf("%d names: %v", len(names), err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
}
