package cluster

import (
	"fmt"
	"log/slog"
	"testing"

	"blocktree"
	"blocktree/route"
)

// TestRoutesAskThoseAbove: for a way to a node those are asked who were reached in directories above, not beside or in its own; nobody where none was met but the seeds; and what is remembered is bounded.
func TestRoutesAskThoseAbove(t *testing.T) {
	root := blocktree.PrincipalOf([]byte("root"))
	top := blocktree.RootPath(root)
	node := func(dir blocktree.Scope, i int) blocktree.Runtime {
		p := dir.Join(fmt.Sprintf("n%d", i))
		return blocktree.Runtime{Path: p, Principal: blocktree.PrincipalOf([]byte(p)), Node: blocktree.NodeID(i + 1), Endpoints: []string{"127.0.0.1:1"}}
	}
	r, err := NewRoutes(RoutesConfig{Root: root, Seeds: route.Seeds{node(top, 0)}, Logger: slog.New(slog.DiscardHandler), Clock: wayClock{}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	lab, sub := top.Join("lab"), top.Join("lab").Join("sub")
	if got := r.above(sub); len(got) != 1 || got[0].Path != node(top, 0).Path {
		t.Errorf("by the seeds: %v", got)
	}
	if got := r.above(top); len(got) != 0 {
		t.Errorf("above the root directory: %v", got)
	}
	for i := range 2 * reachedRuntimesMax {
		r.reached(top, node(top, i))
	}
	r.reached(lab, node(lab, 1))
	r.reached(sub, node(sub, 1))
	r.reached(top.Join("beside"), node(top.Join("beside"), 1))
	got := r.above(sub)
	if len(got) != 1+reachedRuntimesMax || got[0].Path != node(lab, 1).Path || got[1].Path != node(top, 2*reachedRuntimesMax-1).Path {
		t.Errorf("above %s: %v", sub.Short(), got)
	}
	r.lost(lab, node(lab, 1).Principal)
	if got := r.above(sub); len(got) != reachedRuntimesMax {
		t.Errorf("after one was lost: %v", got)
	}
	for i := range 2 * reachedMax {
		r.reached(top.Join(fmt.Sprint(i)), node(top.Join(fmt.Sprint(i)), 1))
	}
	if len(r.direct) > reachedMax {
		t.Errorf("%d directories are remembered", len(r.direct))
	}
}
