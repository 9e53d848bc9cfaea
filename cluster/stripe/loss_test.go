package stripe

import (
	"testing"

	"blocktree"
)

// TestLoss: members that are back on their disk are taken back, once too few others are left, by the next holder's epoch, and that is said.
func TestLoss(t *testing.T) {
	l := flushLayout(blocktree.Code{Data: 2, Parity: 1}).Acquire()
	one := l.MarkBack(1, volatileInc(1, 2))
	if one.Lossy() || one.Acquire().Loss != 0 || !one.Acquire().Marked[1] {
		t.Error("two of three are enough")
	}
	two := one.MarkBack(3, volatileInc(3, 5)).MarkBack(1, volatileInc(1, 3))
	if !two.Lossy() {
		t.Fatal("one of two that are needed is left, and it is no loss")
	}
	n := two.Acquire()
	if n.Loss != 1 || n.LossEpoch != n.Epoch || n.Epoch != l.Epoch+1 || len(n.Marked)+len(n.Back) != 0 || n.View(0).Count(InSync) != 3 ||
		n.Incarnations[1] != volatileInc(1, 3) || n.Incarnations[2] != volatileInc(2, 1) || n.Incarnations[3] != volatileInc(3, 5) {
		t.Errorf("%+v", n)
	}
	if len(two.Marked) != 2 || two.Loss != 0 {
		t.Error("the layout before has changed")
	}
	if again := n.Acquire(); again.Loss != 1 || again.LossEpoch != n.Epoch {
		t.Error("a loss is counted twice")
	}
}

// TestLossWithoutDisk: one that comes back on another disk has nothing that counts.
func TestLossWithoutDisk(t *testing.T) {
	l := flushLayout(blocktree.Code{Data: 2, Parity: 2}).Acquire()
	other := blocktree.Incarnation{9, 8: 1}
	l = l.MarkBack(1, other).MarkBack(2, volatileInc(2, 2)).MarkBack(3, volatileInc(3, 2))
	n := l.Acquire()
	if !l.Lossy() || n.Loss != 1 || n.View(1).Count(InSync) != 3 {
		t.Fatalf("%+v", n)
	}
	if s, _ := n.View(1).Shard(1); n.View(1).Members[s].State != Out || !n.Marked[1] {
		t.Error("a member without its disk is in the view")
	}
	l = l.MarkBack(2, other).MarkBack(3, other)
	if n := l.Acquire(); l.Lossy() || n.Loss != 0 || n.View(0).Count(InSync) != 4 {
		t.Error("nothing can be decided with one disk of two that are needed, and it is done")
	}
	ack := testLayout(blocktree.Code{Data: 2, Parity: 1}).Mark(1).Mark(2)
	if ack.Lossy() || ack.Acquire().Loss != 0 {
		t.Error("a file of durability ack has a loss")
	}
}

// TestReplaceAfterPowerLoss: a disk that died while all nodes were without power may be given up, if k others have what was flushed.
func TestReplaceAfterPowerLoss(t *testing.T) {
	l := flushLayout(blocktree.Code{Data: 1, Parity: 2}).Acquire().MarkBack(1, volatileInc(1, 2))
	l = l.MarkBack(2, volatileInc(2, 2)) // 3 does not answer, and Raft has no word of it
	if l.Lossy() {
		t.Fatal("3 may have everything")
	}
	n, err := l.Replace(3, 9)
	if err != nil || !n.Lossy() {
		t.Fatalf("%v, %+v", err, n)
	}
	if n = n.Acquire(); n.Loss != 1 || n.View(0).Count(InSync) != 2 {
		t.Errorf("%+v", n)
	}
	if _, err := l.MarkBack(1, blocktree.Incarnation{7}).MarkBack(2, blocktree.Incarnation{7}).Replace(3, 9); blocktree.KindOf(err) != blocktree.Unavailable {
		t.Errorf("the last that may have anything is given up: %v", err)
	}
}
