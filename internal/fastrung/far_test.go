package fastrung

import (
	"context"
	"sync"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/bttp"
	"blocktree/internal/simnet"
	"blocktree/internal/testenv"
)

// far is a link on which a connection takes its time to be made, one round trip after the other.
func far() simnet.Link { return simnet.Link{Delay: 200 * time.Millisecond} }

// restarted is longer than a node that is started again takes until its start is recorded, and than it is taken to serve all the while.
const restarted = 5 * time.Second

// TestWipedFarAway starts a node on an empty disk, and on one that went back in time, where everybody is far away: it waits for
// their word, and is refused. With its own disk it serves and is in sync, far away as they are.
func TestWipedFarAway(t *testing.T) {
	carriers(t, func(b *bed) {
		node := (b.Leader(b.client) + 1) % 3
		b.Stop(node)
		yesterday := b.Keep(node)
		b.Start(node)
		time.Sleep(restarted)
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

// TestReplaceLeaderOutOfReach asks for the replacement of a node from where neither it nor the leader can be reached but through
// others: it is not lost, so it is not replaced.
func TestReplaceLeaderOutOfReach(t *testing.T) {
	withNodes(t, bttp.QUIC, 4, 1, func(*testenv.Simulated) {}, func(b *bed) {
		leader := b.Leader(b.client)
		node := (leader + 1) % 4
		admin := b.Client()
		b.Status(admin)
		for _, i := range []int{leader, node} {
			b.Net.Set(b.ClientAddr(1), b.NodeAddr(i), simnet.Link{Cut: true})
			b.Net.Set(b.NodeAddr(i), b.ClientAddr(1), simnet.Link{Cut: true})
		}
		time.Sleep(10 * time.Second)
		if r, err := admin.ReplaceNode(b.T.Context(), b.Members[node].Path, false); blocktree.KindOf(err) != blocktree.Busy || blocktree.HintOf(err) == "" {
			b.T.Errorf("%+v, %v, want busy", r, err)
		}
	})
}

// TestReplaceBesideSlow asks for the replacement of a node that who asks cannot reach, while another node takes longer to answer
// than anybody waits: that one does not keep the leader from being asked.
func TestReplaceBesideSlow(t *testing.T) {
	carriers(t, func(b *bed) {
		leader := b.Leader(b.client)
		slow := 0 // who is asked first
		if leader == slow {
			slow = 1
		}
		node := 3 - leader - slow
		admin := b.Client()
		b.Status(admin)
		for delay := 200 * time.Millisecond; delay <= 1700*time.Millisecond; delay += 100 * time.Millisecond { // no step is a silence
			b.Net.Set(b.ClientAddr(1), b.NodeAddr(slow), simnet.Link{Delay: delay})
			b.Net.Set(b.NodeAddr(slow), b.ClientAddr(1), simnet.Link{Delay: delay})
			time.Sleep(2 * time.Second)
		}
		b.Net.Set(b.ClientAddr(1), b.NodeAddr(node), simnet.Link{Cut: true})
		b.Net.Set(b.NodeAddr(node), b.ClientAddr(1), simnet.Link{Cut: true})
		time.Sleep(10 * time.Second)
		if r, err := admin.ReplaceNode(b.T.Context(), b.Members[node].Path, false); blocktree.KindOf(err) != blocktree.Busy {
			b.T.Errorf("%+v, %v, want busy", r, err)
		}
	})
}

// TestReplaceDuringElection takes the leader off the network, and all the time until long after another leads asks for the replacement of a
// node that only who asks cannot reach, and whose answers take longer to come than a leader to be elected: it is not replaced.
func TestReplaceDuringElection(t *testing.T) {
	withNodes(t, bttp.QUIC, 5, 1, func(*testenv.Simulated) {}, func(b *bed) {
		leader := b.Leader(b.client)
		node := (leader + 1) % 5
		admin := b.Client()
		b.Status(admin)
		b.SetAll(b.NodeAddr(node), simnet.Link{Delay: 400 * time.Millisecond})
		b.Net.Set(b.ClientAddr(1), b.NodeAddr(node), simnet.Link{Cut: true})
		b.Net.Set(b.NodeAddr(node), b.ClientAddr(1), simnet.Link{Cut: true})
		time.Sleep(10 * time.Second)
		var wg sync.WaitGroup
		for i := range 60 {
			if i == 30 { // those who have asked who the nodes are wait for their answers
				b.Off(b.NodeAddr(leader))
			}
			wg.Go(func() {
				r, err := admin.ReplaceNode(b.T.Context(), b.Members[node].Path, false)
				if k := blocktree.KindOf(err); k != blocktree.Busy && k != blocktree.Unavailable {
					b.T.Errorf("%v: %+v, %v, want busy or unavailable", b.Elapsed(), r, err)
				}
			})
			time.Sleep(100 * time.Millisecond)
		}
		wg.Wait()
	})
}

// TestWipedStopped stops a node on an empty disk while it waits for the others' word: it takes no part in its group first.
func TestWipedStopped(t *testing.T) {
	carriers(t, func(b *bed) {
		node := (b.Leader(b.client) + 1) % 3
		b.Stop(node)
		b.Wipe(node)
		b.Off(b.NodeAddr(node))
		ctx, cancel := context.WithTimeout(b.T.Context(), time.Second)
		defer cancel()
		if err := b.TryStartWithin(ctx, node); blocktree.KindOf(err) != blocktree.Canceled && blocktree.KindOf(err) != blocktree.Timeout {
			b.T.Errorf("%v, want that it was stopped", err)
		}
	})
}

// TestColdStart starts a whole cluster at once, and once more without one of its machines, for whose word the others wait: for no longer
// than HandshakeTimeout, and beside one another.
func TestColdStart(t *testing.T) {
	carriers(t, func(b *bed) {
		w := b.write(b.file, 4)
		time.Sleep(time.Second)
		w.finishWell()
		start := func(nodes ...int) time.Duration {
			for i := range 3 {
				b.Stop(i)
			}
			begun := time.Now()
			var wg sync.WaitGroup
			for _, i := range nodes {
				wg.Go(func() {
					if err := b.TryStart(i); err != nil {
						b.T.Errorf("node %d: %v", i, err)
					}
				})
			}
			wg.Wait()
			b.await("a read", time.Minute, func() bool { _, err := read(b.T.Context(), b.T, b.file, 0); return err == nil })
			took := time.Since(begun)
			w.check(b.file, "after the start")
			return took
		}
		b.between("to start at once", start(0, 1, 2), 0, 5*time.Second)
		b.Healthy(b.client)
		b.Off(b.NodeAddr(2))
		b.between("to start without a machine", start(0, 1), 0, blocktree.HandshakeTimeout+5*time.Second)
	})
}

// TestStatusFarAway asks for the status from far away, as the command does: it connects first, has ten seconds, and there is more than one
// file. All is well.
func TestStatusFarAway(t *testing.T) {
	carriers(t, func(b *bed) {
		for _, path := range []string{"/vm/disk1", "/vm/disk2", "/vm/old/disk3"} {
			b.Create(b.client, path, 4<<20, blocktree.Code{Data: 2, Parity: 1})
		}
		asker := b.ClientAddr(1)
		for i := range 3 {
			b.Net.Set(asker, b.NodeAddr(i), far())
			b.Net.Set(b.NodeAddr(i), asker, far())
		}
		admin := b.Client()
		ctx, cancel := context.WithTimeout(b.T.Context(), 10*time.Second)
		defer cancel()
		begun := time.Now()
		s, err := admin.Status(ctx)
		if err != nil {
			b.T.Fatal(err)
		}
		b.T.Logf("it took %v", time.Since(begun))
		if s.Health != cluster.HealthOK || len(s.Files) != 4 {
			b.T.Errorf("%+v", s)
		}
	})
}

// TestStatusBesideDown asks for the status where a node is down, or its machine off, and where two are: nobody is waited for for much longer
// than a handshake may take.
func TestStatusBesideDown(t *testing.T) {
	carriers(t, func(b *bed) {
		ask := func(what string, health cluster.Health, most time.Duration) {
			admin := b.Client()
			begun := time.Now()
			if s := b.Status(admin); s.Health != health {
				b.T.Errorf("%s: %s", what, s.Health)
			}
			b.between("the status, "+what, time.Since(begun), 0, most)
		}
		ask("all up", cluster.HealthOK, 100*time.Millisecond)
		b.Stop(2)
		ask("one down", cluster.HealthDegraded, 3*time.Second)
		b.Off(b.NodeAddr(2))
		ask("one off", cluster.HealthDegraded, 3*time.Second)
		b.Off(b.NodeAddr(1))
		ask("two off", cluster.HealthUnavailable, 8*time.Second)
	})
}

// TestRestartBesideDown restarts a node while another one is down, its machine up: who is down is not waited for, whatever the carrier.
func TestRestartBesideDown(t *testing.T) {
	carriers(t, func(b *bed) {
		b.Stop(2)
		b.Stop(1)
		begun := time.Now()
		b.Start(1)
		b.between("the start", time.Since(begun), 0, time.Second)
	})
}

// TestWipedAlone starts a node on an empty disk, and on one that went back in time, while all others are down: it goes on, as a cluster is
// founded like that. Once the group says which start of it was the last, it ends, and what the others have is not touched.
func TestWipedAlone(t *testing.T) {
	for _, disk := range []string{"wiped", "yesterday"} {
		t.Run(disk, func(t *testing.T) {
			carriers(t, func(b *bed) {
				node := (b.Leader(b.client) + 1) % 3
				b.Stop(node)
				yesterday := b.Keep(node)
				b.Start(node)
				time.Sleep(restarted)
				b.Healthy(b.client)
				w := b.write(b.file, 4)
				time.Sleep(time.Second)
				w.finishWell()
				for i := range 3 {
					b.Stop(i)
				}
				if disk == "wiped" {
					b.Wipe(node)
				} else {
					b.Put(node, yesterday)
				}
				b.Start(node)
				for i := range 3 {
					if i != node {
						b.Start(i)
					}
				}
				select {
				case err := <-b.Fatal(node):
					if blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
						b.T.Errorf("%v, want a refusal of kind invalid with a hint", err)
					}
				case <-time.After(time.Minute):
					b.T.Error("it takes part in its group")
				}
				b.Stop(node)
				w.check(b.file, "without it") // whose holder has seen all of it
			})
		})
	}
}
