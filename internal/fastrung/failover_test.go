package fastrung

import (
	"slices"
	"testing"
	"time"

	"blocktree/cluster"
	"blocktree/internal/simnet"
)

// What a member's loss costs a write: its connections bring nothing for DeadAfter (counted in ticks, the first and the last of which are not
// whole), its own way and those through gateways are tried anew for ways at least, an attempt ends after dialPatience, and Raft removes it.
const (
	ways         = 750 * time.Millisecond // cluster.lostGrace
	dialPatience = 2 * time.Second        // cluster.dialTimeout
	pauseMin     = deadAfter + ways
	pauseMax     = deadAfter + 2*heartbeat + dialPatience + 50*time.Millisecond
)

// TestFailover takes a node off the network under load: no write fails, none waits longer than 5 s, status says what is missing. Back
// again, the node is in sync by itself. The node that leads the metadata is one like any other.
func TestFailover(t *testing.T) {
	carriers(t, func(b *bed) {
		leader := b.Leader(b.client)
		for turn, node := range []int{(leader + 1) % 3, leader} {
			b.lose(node, turn)
		}
	})
}

func (b *bed) lose(node, turn int) {
	t := b.T
	w := b.write(b.file, 8)
	time.Sleep(time.Second)
	before := stats(b.file)
	w.forget()
	b.Off(b.NodeAddr(node))
	cut := time.Now()
	b.between("to notice", b.noticed(node).Sub(cut), pauseMin, pauseMax)
	b.await("removal", time.Second, func() bool { return stats(b.file).Removed == before.Removed+1 })
	time.Sleep(2 * time.Second)
	b.between("the pause of writes", w.pause(), pauseMin, pauseMax)
	if w.pause() > 5*time.Second {
		t.Errorf("writes waited %v", w.pause())
	}
	w.forget()
	time.Sleep(10 * time.Second)
	if w.pause() > 100*time.Millisecond {
		t.Errorf("without the node a write waited %v", w.pause())
	}
	s := b.Status(b.client)
	if s.Health != cluster.HealthDegraded || len(s.Files) != 1 || s.Files[0].InSync != 2 || s.Files[0].Tolerates != 0 || !slices.Equal(b.down(s), []int{node}) {
		t.Errorf("turn %d: without node %d: %+v", turn, node, s)
	}
	b.On(b.NodeAddr(node))
	b.between("coming back", b.Healthy(b.client), 0, 5*time.Second)
	if s := b.Status(b.client); s.Files[0].InSync != 3 || s.Files[0].Tolerates != 1 {
		t.Errorf("turn %d: back again: %+v", turn, s)
	}
	after := stats(b.file)
	if after.Removed != before.Removed+1 || after.Promoted != before.Promoted+1 {
		t.Errorf("turn %d: %d were removed and %d promoted, want one each", turn, after.Removed-before.Removed, after.Promoted-before.Promoted)
	}
	w.finishWell()
	w.checkWithout(b.file)
}

// TestOneWayCut cuts one direction between a node and everybody else, then the other: either is the loss of that node, and of no
// other. One direction between the node and the holder alone is the loss of nobody: the holder reaches it through another.
func TestOneWayCut(t *testing.T) {
	carriers(t, func(b *bed) {
		node := (b.Leader(b.client) + 1) % 3
		for _, outward := range []bool{true, false} {
			for _, everybody := range []bool{true, false} {
				w := b.write(b.file, 4)
				b.await("a connection of its own", 3*time.Minute, func() bool { return b.Status(b.client).Nodes[node].Via == "" })
				time.Sleep(time.Second)
				before := stats(b.file)
				w.forget()
				others := b.Everybody()
				if !everybody {
					others = others[3:]
				}
				for _, other := range others {
					if from, to := b.NodeAddr(node), other; outward {
						b.Net.Set(from, to, simnet.Link{Cut: true})
					} else {
						b.Net.Set(to, from, simnet.Link{Cut: true})
					}
				}
				cut := time.Now()
				lost := before.Removed
				if everybody {
					lost++
					b.between("to notice", b.noticed(node).Sub(cut), pauseMin, pauseMax)
					b.await("removal", time.Second, func() bool { return stats(b.file).Removed > before.Removed })
				}
				time.Sleep(20 * time.Second)
				after := stats(b.file)
				if after.Removed != lost || w.pause() > 5*time.Second || !everybody && w.pause() < deadAfter {
					b.T.Errorf("outward %t, everybody %t: %d were removed, writes waited %v", outward, everybody, after.Removed-before.Removed, w.pause())
				}
				b.T.Logf("outward %t, everybody %t: writes waited %v", outward, everybody, w.pause())
				b.On(b.NodeAddr(node))
				b.Healthy(b.client)
				w.finishWell()
				w.check(b.file, "in the end")
			}
		}
	})
}

// TestBadLinks slows every link down, and makes them lossy, for a minute each: nobody is voted out, nobody else leads, no write fails.
func TestBadLinks(t *testing.T) {
	carriers(t, func(b *bed) {
		for name, link := range map[string]simnet.Link{
			"lossy":          {Loss: 0.05},
			"slow":           {Delay: 200 * time.Millisecond},
			"slow and lossy": {Delay: 50 * time.Millisecond, Loss: 0.02},
		} {
			leader, before := b.Leader(b.client), stats(b.file)
			for _, host := range b.Everybody() {
				b.SetAll(host, link)
			}
			w := b.write(b.file, 4)
			time.Sleep(time.Minute)
			w.finishWell()
			if after := stats(b.file); after.Removed != before.Removed {
				b.T.Errorf("%s: %d were removed", name, after.Removed-before.Removed)
			}
			if now := b.Leader(b.client); now != leader {
				b.T.Errorf("%s: node %d leads, and not %d any more", name, now, leader)
			}
			b.T.Logf("%s: %d writes, the slowest took %v", name, w.total(), w.pause())
			for _, host := range b.Everybody() {
				b.On(host)
			}
			b.Healthy(b.client)
			w.check(b.file, name)
		}
	})
}
