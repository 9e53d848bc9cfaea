package cluster

import (
	"bytes"
	"testing"
	"time"

	"blocktree"
)

// TestNextLeg: W4.
func TestNextLeg(t *testing.T) {
	for _, x := range []struct {
		cluster, target blocktree.Scope
		down            bool
		want            legKind
	}{
		{"/r", "/r", false, legHere}, {"/r/a", "/r/a", true, legHere}, {"/r", "/r/a", false, legDown}, {"/r", "/r/a/b", true, legDown},
		{"/r/a", "/r", false, legUp}, {"/r/a", "/r/b", false, legUp}, {"/r/a", "/r/ab", false, legUp}, {"/r/a", "/r/b", true, legNone}, {"/r/a", "/r", true, legNone},
	} {
		if got := nextLeg(x.cluster, x.target, x.down); got != x.want {
			t.Errorf("nextLeg(%s, %s, %v) = %v, want %v", x.cluster, x.target, x.down, got, x.want)
		}
	}
}

// TestAskBudgets: a principal's asks, everybody's, and what is remembered.
func TestAskBudgets(t *testing.T) {
	now := time.Unix(1e9, 0)
	a := newAsks()
	token := func(i int) (t [16]byte) { t[0], t[1], t[2] = byte(i), byte(i>>8), byte(i>>16); return t }
	one, two := blocktree.Principal{1}, blocktree.Principal{2}
	taken := 0
	for i := range 2 * blocktree.AsksBurst {
		if leave, err := a.enter(one, token(i), now); err == nil {
			taken++
			leave()
			leave()
		}
	}
	if taken != blocktree.AsksBurst {
		t.Errorf("%d asks in a moment", taken)
	}
	if _, err := a.enter(two, token(1), now); blocktree.KindOf(err) != blocktree.Exists {
		t.Errorf("a token again: %v", err)
	}
	held := 0
	for i := range blocktree.AsksBurst {
		if _, err := a.enter(two, token(10000+i), now); err == nil {
			held++
		}
	}
	if held != blocktree.AsksPerPrincipalMax || a.active != held {
		t.Errorf("%d asks at a time, %d active", held, a.active)
	}
	if _, err := a.enter(one, token(20000), now.Add(time.Second)); err != nil {
		t.Errorf("a second later: %v", err)
	}
	if _, err := a.enter(one, token(1), now.Add(2*blocktree.AskTimeMax)); err != nil || len(a.seen) > 3 || len(a.old) != len(a.seen) {
		t.Errorf("when its time is over: %v, %d are remembered", err, len(a.seen))
	}
	for i := range 100 * blocktree.AsksMax {
		now = now.Add(100 * time.Millisecond)
		if leave, err := a.enter(blocktree.Principal{3, byte(i), byte(i >> 8), byte(i >> 16)}, token(1<<20+i), now); err == nil {
			leave()
		}
	}
	if len(a.by) > 2*blocktree.AsksMax {
		t.Errorf("%d principals are remembered", len(a.by))
	}
}

func FuzzWayHeader(f *testing.F) {
	f.Add((&wayHeader{hops: 3, lateral: true, down: true, host: "10.0.0.1", mirror: "10.0.0.2:7000"}).encode())
	f.Fuzz(func(t *testing.T, in []byte) {
		h, err := decodeWayHeader(in)
		if err == nil && !bytes.Equal(h.encode(), in) {
			t.Fatalf("encode(decode(%x)) = %x", in, h.encode())
		}
	})
}
