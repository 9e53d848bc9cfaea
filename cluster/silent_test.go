package cluster

import (
	"slices"
	"strings"
	"testing"
	"time"

	"blocktree"
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
			if took := time.Since(begun); took > blocktree.MemberTimeout+time.Second {
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
