package stripe

import (
	"testing"
	"time"

	"blocktree"
)

// TestReaderAsksAgain: a leaseless read of which one message was lost, or was answered Busy, ends well although there is
// nobody else to ask.
func TestReaderAsksAgain(t *testing.T) {
	for _, x := range []struct {
		name string
		lose func(w *world, m *Message)
		most time.Duration // the members' patience is 1 s, a read's 3 s
	}{
		{"lost", func(*world, *Message) {}, 1200 * time.Millisecond},
		{"busy", func(w *world, m *Message) {
			w.rd.Step(&Message{Kind: m.Kind, Answer: true, ID: m.ID, Node: m.Node, File: m.File, Epoch: m.Epoch, Err: blocktree.Busy})
			w.runReader()
		}, 200 * time.Millisecond},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := calm(blocktree.Code{Data: 2, Parity: 0})
			lost := false
			w.block = func(m *Message) bool {
				if m.Kind != KindRead || lost {
					return false
				}
				lost = true
				x.lose(w, m)
				return true
			}
			ok := w.readsOK
			w.leaseless()
			start := w.now
			for len(w.ops) > 0 && w.now-start < 10*time.Second {
				w.turns(1, 20*time.Millisecond)
			}
			if w.readsOK != ok+1 || w.now-start > x.most {
				t.Errorf("after %v: failures %v", w.now-start, w.fails)
			}
		})
	}
}
