package fastrung

import (
	"testing"
	"time"

	"blocktree"
	"blocktree/internal/simnet"
)

// far is a link on which a connection takes its time to be made, one round trip after the other.
func far() simnet.Link { return simnet.Link{Delay: 200 * time.Millisecond} }

// TestWipedFarAway starts a node on an empty disk, and on one that went back in time, where everybody is far away: it waits for
// their word, and is refused. With its own disk it serves and is in sync, far away as they are.
func TestWipedFarAway(t *testing.T) {
	carriers(t, func(b *bed) {
		node := (b.Leader(b.client) + 1) % 3
		b.Stop(node)
		yesterday := b.Keep(node)
		b.Start(node)
		b.Healthy(b.client)
		b.Stop(node)
		for _, host := range b.Everybody() {
			b.SetAll(host, far())
		}
		today := b.Keep(node)
		for name, put := range map[string]func(){"wiped": func() { b.Wipe(node) }, "yesterday": func() { b.Put(node, yesterday) }} {
			put()
			if err := b.TryStart(node); blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
				b.T.Errorf("%s: %v, want a refusal of kind invalid with a hint", name, err)
			}
			b.Stop(node)
		}
		b.Put(node, today)
		before := stats(b.file)
		b.Start(node)
		b.between("to be in sync from far away", b.await("promotion", time.Minute, func() bool { return stats(b.file).Promoted > before.Promoted }), 0, 30*time.Second)
		for _, host := range b.Everybody() {
			b.On(host)
		}
		b.Healthy(b.client)
	})
}

// TestReplaceFarAway asks for the replacement of a node that is far away from who asks, and from nobody else: it is not lost.
func TestReplaceFarAway(t *testing.T) {
	carriers(t, func(b *bed) {
		node := (b.Leader(b.client) + 1) % 3
		admin := b.Client()
		link := simnet.Link{Delay: 400 * time.Millisecond}
		b.Net.Set(b.ClientAddr(1), b.NodeAddr(node), link)
		b.Net.Set(b.NodeAddr(node), b.ClientAddr(1), link)
		if r, err := admin.ReplaceNode(b.T.Context(), b.Members[node].Path, false); blocktree.KindOf(err) != blocktree.Busy || blocktree.HintOf(err) == "" {
			b.T.Errorf("%+v, %v, want busy", r, err)
		}
		b.Off(b.NodeAddr(node))
		time.Sleep(5 * time.Second)
		if _, err := admin.ReplaceNode(b.T.Context(), b.Members[node].Path, false); err != nil {
			b.T.Errorf("one that is lost: %v", err)
		}
	})
}
