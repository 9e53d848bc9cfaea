package meta

import (
	"context"
	"testing"
	"time"

	"blocktree"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The last voter is neither removed nor made a learner: Raft would panic on it at every start of every member.
func TestLastVoterStays(t *testing.T) {
	w := newWorld(t)
	w.found(1)
	g := w.group(1)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := g.RemoveMember(ctx, 1); blocktree.KindOf(err) != blocktree.Invalid {
		t.Fatal(err)
	}
	if err := g.AddMember(ctx, 1, false); blocktree.KindOf(err) != blocktree.Invalid {
		t.Fatal(err)
	}
	if err := g.AddMember(ctx, 1, true); err != nil {
		t.Fatal(err)
	}
	w.must(MakeDir{Path: path("/d")})
}

// A change of the members while another one is under way is refused, not left without an answer.
func TestSecondChangeIsRefused(t *testing.T) {
	w := newWorld(t)
	w.found(2)
	l := w.leader()
	g := w.group(l)
	other := node(3 - int(l))
	w.start(8, vfs.NewCrashableMem(), nil)
	w.isolate(other, true) // nothing is committed
	errs := make(chan error, 2)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for range 2 {
		go func() { errs <- g.AddMember(ctx, 8, false) }()
	}
	select {
	case err := <-errs: // NotLeader: the machine was so slow that the leader gave up before it saw the second
		if k := blocktree.KindOf(err); k != blocktree.Unavailable && k != blocktree.NotLeader {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("no answer")
	}
	w.isolate(other, false)
	if err := <-errs; err != nil && blocktree.KindOf(err) != blocktree.NotLeader {
		t.Error(err)
	}
}
