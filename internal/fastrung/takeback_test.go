package fastrung

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/bttp"
	"blocktree/internal/testenv"
)

// again adds the nodes of a directory that was taken back, with other stores.
func again(b *testenv.Simulated, c *cluster.Client, child *testenv.Simulated) {
	b.T.Helper()
	for i := range child.Members {
		if err := c.AddNode(b.T.Context(), child.Members[i]); blocktree.KindOf(err) != blocktree.Exists || blocktree.HintOf(err) == "" {
			b.T.Errorf("a store of before: %v", err)
		}
		child.Members[i].Node = cluster.NewStore()
	}
	addAll(b, c, child)
}

// hints starts a node that cannot start, and returns what it says is to be done.
func hints(child *testenv.Simulated, i int) string {
	child.T.Helper()
	ctx, cancel := context.WithTimeout(child.T.Context(), 15*time.Second)
	defer cancel()
	err := child.TryStartWithin(ctx, i)
	if err == nil {
		child.T.Fatal("it starts")
	}
	return blocktree.HintOf(err)
}

// TestTakenBack: Y1. A founder is lost after it has handed over, before others have joined: all nodes say what to type, and that gets every name back at once, and after that a cluster. Its old store, should it turn up, answers for nothing.
func TestTakenBack(t *testing.T) {
	withNodes(t, bttp.TCP, 3, 1, func(*testenv.Simulated) {}, func(b *bed) {
		for _, short := range []string{"/rack1/old", "/rack1/sub/older"} {
			b.Create(b.client, short, 1<<20, childCode)
		}
		child := b.Below("/rack1", 2)
		addAll(b.Simulated, b.client, child)
		child.Start(0)
		time.Sleep(10 * time.Second) // it has them all, and waits for the other one
		child.Stop(0)
		lost := child.Keep(0)
		child.Wipe(0)
		for i := range 2 {
			if hint := hints(child, i); !strings.Contains(hint, "btnode dir take-back /rack1") {
				t.Errorf("node %d: %q", i, hint)
			}
		}
		hosts, err := b.client.TakeBack(b.T.Context(), b.Path("/rack1"))
		if err != nil || len(hosts) != 2 {
			t.Fatal(hosts, err)
		}
		if _, err := b.client.TakeBack(b.T.Context(), b.Path("/rack1")); blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
			t.Errorf("once more: %v", err)
		}
		entries, err := b.client.List(b.T.Context(), b.Path("/rack1"))
		if err != nil || len(entries) != 2 {
			t.Fatal(entries, err)
		}
		fresh := child.Keep(0)
		child.Put(0, lost)
		child.Start(0)
		select {
		case err := <-child.Fatal(0):
			if blocktree.KindOf(err) != blocktree.Invalid || !strings.Contains(blocktree.HintOf(err), "btnode node add /rack1/") || !strings.Contains(blocktree.HintOf(err), "btnode ls /rack1") {
				t.Errorf("the old store: %v, %q", err, blocktree.HintOf(err))
			}
		case <-time.After(time.Minute):
			t.Error("the old store goes on")
		}
		child.Stop(0)
		child.Put(0, fresh)
		again(b.Simulated, b.client, child)
		child.StartAll()
		for short, want := range map[string][]string{"/rack1": {"old", "sub"}, "/rack1/sub": {"older"}} {
			if got := answers(b.Simulated, b.client, short); !slices.Equal(got, want) {
				t.Errorf("%s has %v", short, got)
			}
		}
		if _, err := b.client.TakeBack(b.T.Context(), b.Path("/rack1")); blocktree.KindOf(err) != blocktree.Busy || blocktree.HintOf(err) == "" {
			t.Errorf("from a cluster that answers: %v", err)
		}
	})
}

// TestWipedFounders: Y1. Whenever the founder of an empty or a full directory is wiped, it gets through, or what it says that is to be done gets it through.
func TestWipedFounders(t *testing.T) {
	for i := range 12 { // as soon as it is of each stage, and at other moments, from before anything is handed over until after all is
		full := i%2 == 0
		withNodes(t, bttp.TCP, 3, uint64(i+1), func(*testenv.Simulated) {}, func(b *bed) {
			var want []string
			if full {
				b.Create(b.client, "/rack1/old", 1<<20, childCode)
				want = []string{"old"}
			} else if err := b.client.MakeDir(b.T.Context(), b.Path("/rack1"), 0o755, false); err != nil {
				t.Fatal(err)
			}
			child := b.Below("/rack1", 1)
			addAll(b.Simulated, b.client, child)
			begun := time.Now()
			child.Start(0)
			if took := time.Since(begun); took > 300*time.Millisecond { // a node that asks whether it founds its cluster does not wait for itself
				t.Errorf("its start took %v", took)
			}
			certain := ""
			switch i / 2 {
			case 0:
				certain = "nothing"
			case 1:
				b.founded("/rack1", false)
				certain = "take it back"
			case 2:
				b.founded("/rack1", true)
				certain = "put it back"
			default:
				time.Sleep(time.Duration(i-5) * 600 * time.Millisecond)
			}
			after := time.Since(begun)
			child.Stop(0)
			lost := child.Keep(0)
			child.Wipe(0)
			err, said := child.TryStart(0), "nothing"
			switch hint := blocktree.HintOf(err); {
			case err == nil:
			case blocktree.KindOf(err) == blocktree.Invalid && strings.Contains(hint, "btnode dir take-back /rack1"):
				said = "take it back"
				if _, err := b.client.TakeBack(b.T.Context(), b.Path("/rack1")); err != nil {
					t.Fatal(err)
				}
				again(b.Simulated, b.client, child)
				child.Start(0)
			case blocktree.KindOf(err) == blocktree.Invalid && strings.HasPrefix(hint, "put the store's directory back: nobody else"):
				said = "put it back"
				child.Put(0, lost)
				child.Start(0)
			default:
				t.Fatalf("after %v: %v, %q", after, err, hint)
			}
			if certain != "" && said != certain {
				t.Errorf("wiped after %v it says %q, not %q", after, said, certain)
			}
			if got := answers(b.Simulated, b.client, "/rack1"); !slices.Equal(got, want) {
				t.Errorf("wiped after %v: %v, want %v", after, got, want)
			}
		})
	}
}

// founded waits until the cluster of a directory has everything of it, or until the one above keeps nothing of it any more.
func (b *bed) founded(short string, alone bool) {
	b.T.Helper()
	b.await("the cluster of "+short, time.Minute, func() bool {
		d, _, err := b.client.Below(b.T.Context(), b.Path(short))
		if err != nil || d == nil || !d.HandedOver {
			return false
		}
		return !alone || blocktree.KindOf(b.client.MayTakeBack(b.T.Context(), b.Path(short), d.Generation)) == blocktree.Busy
	})
}
