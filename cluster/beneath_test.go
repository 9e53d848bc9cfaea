package cluster

import (
	"fmt"
	"testing"

	"blocktree"
	"blocktree/cluster/meta"
)

// TestBeneathEnds: a cluster that names itself as its own child, or one above it, one beside it, or others without an end, has nobody asked twice, or outside of it, and the walk ends.
func TestBeneathEnds(t *testing.T) {
	top := blocktree.RootPath(blocktree.PrincipalOf([]byte("root")))
	for name, x := range map[string]struct {
		children func(path blocktree.Path) []blocktree.Path
		asked    int
		more     bool
	}{
		"itself": {func(p blocktree.Path) []blocktree.Path {
			if p == top {
				return []blocktree.Path{top.Join("a")}
			}
			return []blocktree.Path{p, top.Join("b"), top, top.Join("a"), "/other/c"}
		}, 1, false},
		"the same again": {func(blocktree.Path) []blocktree.Path {
			return []blocktree.Path{top.Join("a"), top.Join("a").Join("b"), top.Join("a")}
		}, 2, false},
		"without an end": {func(p blocktree.Path) (all []blocktree.Path) {
			for i := range 64 {
				all = append(all, p.Join(fmt.Sprint(i)))
			}
			return all
		}, beneathMax, true},
	} {
		w := beneathWalk{room: make(chan struct{}, beneathAtOnce), met: map[blocktree.Path]bool{},
			children: func(_ *Client, path blocktree.Path) (meta.Answer, error) {
				return meta.Answer{Children: x.children(path)}, nil
			},
			ask: func(of *Client, dir blocktree.Path) (Beneath, *Client) { return Beneath{Dir: dir}, of }}
		w.visit(&Client{}, top)
		w.wg.Wait()
		seen := map[blocktree.Path]bool{}
		for _, b := range w.out {
			if seen[b.Dir] || !b.Dir.Within(top) {
				t.Errorf("%s: %s was asked, again or though it is outside", name, b.Dir.Short())
			}
			seen[b.Dir] = true
		}
		if len(w.out) != x.asked || w.more != x.more {
			t.Errorf("%s: %d were asked, not %d; more: %v", name, len(w.out), x.asked, w.more)
		}
	}
}
