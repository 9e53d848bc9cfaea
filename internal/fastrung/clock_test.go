package fastrung

import (
	"context"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/bttp"
	"blocktree/internal/simnet"
)

// TestLeaderLost takes the leader of the metadata off the network: another leads within two elections, and what needs Raft goes
// on; the old one, back again, follows.
func TestLeaderLost(t *testing.T) {
	carriers(t, func(b *bed) {
		for range 3 {
			old := b.Leader(b.client)
			b.Off(b.NodeAddr(old))
			cut := time.Now()
			b.Create(b.client, "/vm/made"+cut.Format("150405"), 1<<20, blocktree.Code{Data: 1, Parity: 0})
			b.between("a command", time.Since(cut), electionMin-raftTick, 5*time.Second)
			if now := b.Leader(b.client); now == old {
				b.T.Errorf("node %d leads, which is off", now)
			}
			b.On(b.NodeAddr(old))
			b.Healthy(b.client)
		}
	})
}

// TestNoMajorityForAnHour takes two nodes of three away for an hour: writes wait, and fail after WriteStallTimeout; nothing is promised, nothing
// forgotten. When the nodes are back, all is well by itself; the holder, whose session nobody could end, and who comes back a little later, goes on.
func TestNoMajorityForAnHour(t *testing.T) {
	within(t, bttp.QUIC, 1, func(b *bed) {
		w := b.write(b.file, 4)
		time.Sleep(time.Second)
		b.Off(b.NodeAddr(0))
		b.Off(b.NodeAddr(1))
		cut := time.Now()
		b.await("the writes fail", 2*writeStall, func() bool { return len(w.failed()) == len(w.acked) })
		b.between("the failure of writes", time.Since(cut), writeStall, writeStall+time.Second)
		w.finish()
		if s := b.Status(b.client); s.Health != cluster.HealthUnavailable {
			b.T.Errorf("%+v", s)
		}
		short, cancel := context.WithTimeout(b.T.Context(), 10*time.Second)
		if _, err := read(short, b.T, b.file, 0); err == nil {
			b.T.Error("one member of three was enough for a read")
		}
		cancel()
		time.Sleep(time.Hour - time.Since(cut))
		b.On(b.NodeAddr(0))
		b.On(b.NodeAddr(1))
		b.Off(b.ClientAddr(0)) // for less than a term: whoever leads now cannot know what another had confirmed
		time.Sleep(leaseTerm / 2)
		b.On(b.ClientAddr(0))
		b.between("coming back", b.Healthy(b.client), 0, 15*time.Second)
		w.check(b.file, "after the hour")
		w.errs = nil
		w.start(b.file)
		time.Sleep(time.Second)
		w.finishWell()
		w.checkWithout(b.file)
		if err := b.file.Close(); err != nil {
			b.T.Error(err)
		}
		w.check(b.open(b.Client()), "by another holder")
	})
}

// TestQuietHour lets a healthy cluster alone for an hour: the lease is kept, nobody is voted out, nobody else leads.
func TestQuietHour(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	within(t, bttp.QUIC, 1, func(b *bed) {
		leader, before := b.Leader(b.client), stats(b.file)
		for range 60 {
			time.Sleep(time.Minute)
			if !believes(b.file) {
				b.T.Fatalf("%v: the lease was not kept", b.Elapsed())
			}
		}
		if after := stats(b.file); after.Removed != before.Removed || b.Leader(b.client) != leader {
			b.T.Errorf("%d were removed, %d leads and not %d", after.Removed-before.Removed, b.Leader(b.client), leader)
		}
	})
}

// TestCredentialsEnd lets a node's credentials expire while it is connected: within a heartbeat nobody talks to it any more, it is voted out,
// and the others go on. With new ones it is welcome.
func TestCredentialsEnd(t *testing.T) {
	carriers(t, func(b *bed) {
		node := (b.Leader(b.client) + 1) % 3
		b.Stop(node)
		until := time.Now().Add(time.Minute)
		b.Renew(node, until)
		b.Start(node)
		b.Healthy(b.client)
		before := stats(b.file)
		w := b.write(b.file, 4)
		time.Sleep(time.Until(until) - time.Second)
		if b.Status(b.client).Health != cluster.HealthOK {
			b.T.Error("it was sent away before its time")
		}
		w.forget()
		b.await("removal", 10*time.Second, func() bool { return stats(b.file).Removed > before.Removed })
		b.between("the end of the credentials", time.Since(until), 0, 2*time.Second)
		time.Sleep(time.Minute)
		if s := b.Status(b.client); s.Health != cluster.HealthDegraded || s.Files[0].InSync != 2 {
			b.T.Errorf("%+v", s)
		}
		if w.pause() > 5*time.Second {
			b.T.Errorf("writes waited %v", w.pause())
		}
		w.finishWell()
		b.Stop(node)
		b.Renew(node, time.Now().Add(24*time.Hour))
		b.Start(node)
		b.Healthy(b.client)
		w.check(b.file, "in the end")
	})
}

// TestSlowMember slows one member down by degrees: below MemberTimeout it stays, and writes take as long as it does; beyond, it is
// voted out though its connection lives.
func TestSlowMember(t *testing.T) {
	const slow = memberTimeout/2 + 100*time.Millisecond // in each direction
	carriers(t, func(b *bed) {
		node := (b.Leader(b.client) + 1) % 3
		before := stats(b.file)
		w := b.write(b.file, 4)
		b.SetAll(b.NodeAddr(node), simnet.Link{Delay: 600 * time.Millisecond})
		time.Sleep(time.Minute)
		if after := stats(b.file); after.Removed != before.Removed || w.pause() < 1200*time.Millisecond {
			b.T.Errorf("at 600 ms: %d were removed, writes waited %v", after.Removed-before.Removed, w.pause())
		}
		w.forget()
		for delay := 700 * time.Millisecond; delay <= slow; delay += 100 * time.Millisecond { // no step is a silence
			b.SetAll(b.NodeAddr(node), simnet.Link{Delay: delay})
			time.Sleep(5 * time.Second)
		}
		if after := stats(b.file); after.Removed != before.Removed+1 {
			b.T.Errorf("at %v: %d were removed", slow, after.Removed-before.Removed)
		}
		time.Sleep(10 * time.Second)
		b.between("the slowest write", w.pause(), memberTimeout-200*time.Millisecond, memberTimeout+100*time.Millisecond)
		b.On(b.NodeAddr(node))
		b.Healthy(b.client)
		w.finishWell()
		w.check(b.file, "in the end")
	})
}
