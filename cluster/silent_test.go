package cluster

import (
	"slices"
	"strings"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
)

// of returns what was told of a node, in order.
func (w *told) of(node string) (events []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if strings.Fields(e)[1] == node {
			events = append(events, e)
		}
	}
	return events
}

// TestSilentIsTold: that the connection to a node has ended is told at once, also to who begins to watch only then; up or down follows in the 5 s of
// DESIGN, whatever becomes of the node: it stays away, comes back with another disk, has another id, says nothing, or is forgotten.
func TestSilentIsTold(t *testing.T) {
	for how, want := range map[string][]string{
		"away":      {"up 1 1", "silent 1", "down 1"},
		"back":      {"up 1 1", "silent 1", "up 1 2"},
		"other id":  {"up 1 1", "silent 1", "down 1"},
		"mute":      {"up 1 1", "silent 1", "down 1"},
		"forgotten": {"up 1 1", "silent 1", "down 1"},
	} {
		t.Run(how, func(t *testing.T) {
			b := newGatewayBed(t)
			b.begin()
			for _, up := range []string{"up 1 1", "up 2 1", "up 3 1"} {
				awaitThat(t, "a node is not reached", func() bool { return b.told.count(up) == 1 })
			}
			n, late := b.nodes[0], &told{}
			begun, inTime := time.Now(), false
			if how == "forgotten" {
				b.client.adopt([]blocktree.Runtime{b.nodes[1].runtime, b.nodes[2].runtime})
			} else {
				n.stop()
				awaitThat(t, "its silence is not told", func() bool { return b.told.count("silent 1") == 1 })
				b.client.watch(late)
				inTime = b.told.count("down 1") == 0
				n.incarnation.Store(2)
			}
			switch how {
			case "other id":
				n.runtime.Node = 9
				b.start(n, n.runtime.Endpoints[0], nil)
			case "mute":
				n.mute.Store(true)
				b.start(n, n.runtime.Endpoints[0], nil)
			case "back":
				b.start(n, n.runtime.Endpoints[0], nil)
			}
			awaitThat(t, "what becomes of it is not told", func() bool { return b.told.count(want[2]) == 1 })
			if took := time.Since(begun); took > blocktree.MemberTimeout+10*time.Second { // for a busy machine
				t.Errorf("after %v", took)
			}
			if got := b.told.of("1"); !slices.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
			if inTime {
				awaitThat(t, "and not to who has begun to watch", func() bool { return slices.Equal(late.of("1"), want[2:]) }) // nothing that is old
			}
		})
	}
}

// TestNobodyLeavesBesideASilentOne: a node that misses writes does not leave its views while another's connection has just ended: that one may come
// back with another disk, and too few would be left (I12).
func TestNobodyLeavesBesideASilentOne(t *testing.T) {
	b := newGatewayBed(t)
	var all []blocktree.Runtime
	for _, n := range b.nodes {
		all = append(all, n.runtime)
	}
	group, err := meta.Open(t.Context(), meta.Config{Dir: t.TempDir(), Node: 1, Founders: all[:1], Send: func(blocktree.NodeID, []byte) {}, Clock: stoppedClock{}})
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	do, root := proposer(t, group), blocktree.RootPath(b.root)
	do(meta.Found{Dir: root, Generation: 1, Runtimes: all})
	for _, r := range all {
		do(meta.StartNode{Node: r.Node, Incarnation: blocktree.Incarnation{1}, StartCounter: 1})
	}
	do(meta.CreateFile{Path: root.Join("f"), SizeBytes: 1 << 20, SectorBytes: 4096, Code: blocktree.Code{Data: 2, Parity: 1}})
	s := &scrubber{node: 1, group: group, peers: b.client}
	b.begin()
	awaitThat(t, "no two others serve", s.enoughStay)
	b.nodes[1].stop()
	awaitThat(t, "its silence is not told", func() bool { return b.told.count("silent 2") == 1 })
	if s.enoughStay() {
		t.Error("it may leave: of the two that would be left one says nothing")
	}
	b.start(b.nodes[1], b.nodes[1].runtime.Endpoints[0], nil)
	awaitThat(t, "never again", s.enoughStay)
}

// TestAnswersIsAsked: a node whose connection has not ended yet does not answer for that: it is asked.
func TestAnswersIsAsked(t *testing.T) {
	b := newGatewayBed(t)
	b.begin()
	c := &Client{peers: b.client}
	awaitThat(t, "a node that lives does not answer", func() bool { return c.answers(t.Context(), 1) })
	b.nodes[0].mute.Store(true)
	if c.answers(t.Context(), 1) {
		t.Error("one that says nothing answers")
	}
	if !b.client.isServing(1) || b.client.conn(1) == nil {
		t.Error("its connection has ended: this shows nothing")
	}
}
