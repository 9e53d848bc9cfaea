package stripe

import (
	"testing"
	"time"

	"blocktree"
)

// TestReadsUnderAnOldLayout: of several reads that are under way when the view changes each is tried again at once under the newest layout, though one member says of
// each of them the same of the same layout.
func TestReadsUnderAnOldLayout(t *testing.T) {
	const reads = 8
	for _, why := range []blocktree.Kind{blocktree.StaleView, blocktree.Fenced, blocktree.Recovering} {
		l := testLayout(blocktree.Code{Data: 2, Parity: 1}).Acquire()
		r := NewReader(ReaderConfig{MemberTimeout: time.Second, StallTimeout: 30 * time.Second}, 0)
		for _, m := range l.View(0).Members {
			r.NodeUp(m.Node, l.Incarnations[m.Node])
		}
		for op := range uint64(reads) {
			r.Read(op, l, 0, 0, 1)
		}
		over := map[uint64]blocktree.Kind{}
		for now := time.Duration(0); now < time.Second && len(over) < reads; now += 50 * time.Millisecond {
			r.Tick(now)
			for {
				rd := r.Ready()
				for _, d := range rd.Done {
					over[d.Op] = d.Err
				}
				asked := append([]*Message(nil), rd.Messages...)
				if len(asked) == 0 {
					break
				}
				for _, m := range asked {
					r.Step(&Message{Kind: m.Kind, Answer: true, ID: m.ID, Node: m.Node, File: m.File, Epoch: m.Epoch, Err: why})
				}
			}
		}
		for op := range uint64(reads) {
			if over[op] == blocktree.Other {
				t.Errorf("%v: read %d still waits after a second, for members that all say that there is a newer layout", why, op)
			}
		}
	}
}

// TestReadsBehindAnOldLayout: a read that began after the first refusal, under a layout that was asked for before, waits for a member that is dead no longer than
// for any that is late.
func TestReadsBehindAnOldLayout(t *testing.T) {
	l := testLayout(blocktree.Code{Data: 2, Parity: 1}).Acquire()
	r := NewReader(ReaderConfig{MemberTimeout: time.Second, StallTimeout: 30 * time.Second}, 0)
	members := l.View(0).Members
	for _, m := range members {
		r.NodeUp(m.Node, l.Incarnations[m.Node])
	}
	var over []Done
	now := time.Duration(0)
	step := func() { // the first is under the new view, the second has nothing to say of it yet, and the third is dead
		r.Tick(now)
		for {
			rd := r.Ready()
			over = append(over, rd.Done...)
			asked := append([]*Message(nil), rd.Messages...)
			if len(asked) == 0 {
				return
			}
			for _, m := range asked {
				if m.Node == members[0].Node {
					r.Step(&Message{Kind: m.Kind, Answer: true, ID: m.ID, Node: m.Node, File: m.File, Epoch: m.Epoch, Err: blocktree.StaleView})
				}
			}
		}
	}
	r.Read(1, l, 0, 0, 1)
	step()
	r.Read(2, l, 0, 0, 1)
	for ; now < 3*time.Second; now += 50 * time.Millisecond {
		step()
	}
	if len(over) != 2 || over[0].Err != blocktree.StaleView || over[1].Err != blocktree.StaleView {
		t.Errorf("two reads, under a layout that is not the newest: %+v", over)
	}
}
