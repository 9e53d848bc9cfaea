package stripe

import (
	"testing"

	"blocktree"
)

// TestCommitIsNeverAnswered: whatever becomes of a Commit, nobody waits for an answer to it, and its id is nobody's.
func TestCommitIsNeverAnswered(t *testing.T) {
	const id = 77
	for _, x := range []struct {
		name  string
		spoil func(n *testNode, m *Message)
	}{
		{"good", func(*testNode, *Message) {}},
		{"older epoch", func(_ *testNode, m *Message) { m.Epoch-- }},
		{"other incarnation", func(_ *testNode, m *Message) { m.Incarnation = blocktree.Incarnation{9} }},
		{"a view that Raft never had", func(_ *testNode, m *Message) { m.View += 9 }},
		{"an epoch that Raft never had", func(_ *testNode, m *Message) { m.Epoch += 9 }},
		{"a file that nobody knows", func(_ *testNode, m *Message) { m.File.Inode += 9 }},
		{"too many that wait", func(n *testNode, m *Message) {
			m.View += 9
			for range ParkedMax {
				c := *m
				n.m.Step(&c)
			}
		}},
	} {
		for _, end := range []struct {
			name string
			do   func(n *testNode, f blocktree.FileID)
		}{
			{"caught up", func(n *testNode, f blocktree.FileID) { n.m.CaughtUp(f) }},
			{"forgotten", func(n *testNode, f blocktree.FileID) { n.m.Forget(f) }},
		} {
			t.Run(x.name+", "+end.name, func(t *testing.T) {
				n, l := one(t, "")
				m := &Message{Kind: KindCommit, ID: id, Node: n.id, File: l.File, Epoch: l.Epoch, View: l.View(0).ID,
					Incarnation: incarnation(n.id, n.inc), Watermark: blocktree.Version{Epoch: l.Epoch, Sequence: 1}}
				x.spoil(n, m)
				n.w.net = nil
				n.m.Step(m)
				for range 3 {
					n.drain()
					n.sync(len(n.log))
					end.do(n, m.File)
				}
				n.drain()
				for _, e := range n.w.net {
					if e.msg.Kind == KindCommit {
						t.Fatalf("answered %v under id %d", e.msg.Err, e.msg.ID)
					}
				}
			})
		}
	}
}
