package attach

import (
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
)

// TestReconnect: a server that is away for a minute is reached again within the longest pause, by as many connections, and the kernel is set
// up as before.
func TestReconnect(t *testing.T) {
	for _, connections := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			b := newBed(t, func(o *Options) { o.Connections = connections })
			b.mustStart()
			set := b.m.device(0)
			want := Config{Index: 0, SizeBytes: 64 * mib, BlockBytes: 4096, Flags: usual, DeadTimeout: DeadTimeoutDefault, Backend: "nbd://192.0.2.1:10809/vm/disk0"}
			look := requestTimeout
			if connections > 1 {
				want.Timeout, look = TimeoutMin, 30*time.Second
			}
			got := set.c
			got.Sockets = nil
			if len(set.c.Sockets) != connections || got.Backend != want.Backend || got.SizeBytes != want.SizeBytes || got.BlockBytes != 4096 ||
				got.Flags != want.Flags || got.Timeout != want.Timeout || got.DeadTimeout != want.DeadTimeout || set.ioTimeout != look {
				t.Errorf("set up as %+v, requests are looked at each %v", set.c, set.ioTimeout)
			}
			b.s.change(func() { b.s.down = true })
			b.s.stop()
			b.m.serverGone(0)
			b.within(time.Second, "it waits", func() bool { return b.m.state(0).State == StateWaiting })
			time.Sleep(time.Minute)
			dials, _, _ := b.s.counts()
			if dials < 60/5+connections || dials > 60*2/5+10+connections {
				t.Errorf("%d dials in a minute", dials)
			}
			b.s.change(func() { b.s.down = false })
			b.within(retryMax+lookInterval, "reconnected", func() bool { return b.m.live(0) == connections })
			b.within(time.Second, "it says so", func() bool { return b.m.state(0).State == StateConnected })
			if d := b.m.device(0); d.timeout != want.Timeout || connections == 1 && d.ioTimeout != requestTimeout {
				t.Errorf("afterwards timeouts %v and %v", d.timeout, d.ioTimeout)
			}
			if s := b.m.state(0); s.Reconnects != connections || s.Connections != connections {
				t.Errorf("%+v", s)
			}
			if n := strings.Count(b.log.String(), "not reconnected yet"); n < 1 || n > 2 {
				t.Errorf("it complained %d times in a minute: %s", n, b.log)
			}
			b.end("")
			if b.m.flushed != 1 || b.m.calls[len(b.m.calls)-2] != "disconnect nbd0" {
				t.Errorf("not flushed, or not before the end: %q", b.m.calls)
			}
			if len(b.m.states) != 0 {
				t.Errorf("a state is left")
			}
		})
	}
}

// TestOneOfSeveral: a connection that dies alone is replaced alone, and the device never waits.
func TestOneOfSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, func(o *Options) { o.Connections = 3 })
		b.mustStart()
		b.m.mu.Lock()
		l := b.m.devices[0].sockets[1]
		l.server = false
		b.m.die(0, l)
		b.m.mu.Unlock()
		b.within(time.Second, "replaced", func() bool { return b.m.live(0) == 3 })
		if _, gos, _ := b.s.counts(); gos != 4 {
			t.Errorf("%d connections were made", gos)
		}
		for _, s := range b.m.saved {
			if s.State != StateConnected {
				t.Errorf("it said %q", s.State)
			}
		}
		b.end("")
	})
}

// TestOldLinkIsSettledFirst: a connection that the kernel cut off is not replaced before the server has ended it too, or has had the time
// that a server may take (invariant A1).
func TestOldLinkIsSettledFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, func(o *Options) { o.Connections = 2 })
		b.mustStart()
		old := b.m.cut(0)
		b.stays(20*time.Second, "no new connection", func() bool { return b.m.live(0) == 0 })
		b.m.settle(old[:1])
		b.stays(5*time.Second, "no new connection, since one of two is not settled", func() bool { return b.m.live(0) == 0 })
		b.m.settle(old)
		b.within(time.Second, "replaced", func() bool { return b.m.live(0) == 2 })
		b.m.cut(0) // this time the server never notices
		b.stays(settleMax-time.Second, "no new connection", func() bool { return b.m.live(0) == 0 })
		b.within(2*time.Second, "replaced after all", func() bool { return b.m.live(0) == 2 })
		b.end("")
	})
}

// TestNotTakenIsClosed: what the kernel does not take, because it has not seen yet that the old connection is dead, is closed, and tried again
// (invariant A2).
func TestNotTakenIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, nil)
		b.mustStart()
		b.m.mu.Lock()
		l := b.m.devices[0].sockets[0]
		l.server = false // and nothing else
		b.m.mu.Unlock()
		b.within(2*time.Second, "tried twice", func() bool { _, gos, _ := b.s.counts(); return gos >= 3 })
		b.m.mu.Lock()
		if n := len(b.m.links); n != 1 {
			t.Errorf("%d connections are held", n)
		}
		b.m.die(0, l)
		b.m.mu.Unlock()
		b.within(6*time.Second, "replaced", func() bool { return b.m.live(0) == 1 })
		b.end("")
	})
}

// TestAnotherExport: what is not the same export is never handed over, the device waits, and goes on when it is the same again (A3).
func TestAnotherExport(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*server)
		want   string
	}{
		"smaller":         {func(s *server) { s.size -= 4096 }, "67104768 bytes, it had 67108864"},
		"read-only":       {func(s *server) { s.flags = 1 | FlagReadOnly | FlagFlush | FlagFUA }, "read-only now"},
		"without flush":   {func(s *server) { s.flags &^= FlagFlush }, "lacks the abilities"},
		"without zeroes":  {func(s *server) { s.flags &^= FlagZeroes }, "lacks the abilities"},
		"larger blocks":   {func(s *server) { s.block = 8192 }, "takes blocks of 8192 bytes and more, the device has 4096"},
		"small requests":  {func(s *server) { s.payload = 65536 }, "takes 65536 bytes at a time"},
		"another file":    {func(s *server) { s.description = "a disk file=2" }, "file=1 is now file=2"},
		"after a loss":    {func(s *server) { s.description = "a disk file=1 loss=1" }, "loss=0 is now loss=1"},
		"another name":    {func(s *server) { s.name = "/vm/disk1" }, "no such export"},
		"an unsafe reply": {func(s *server) { s.refusal = errPolicy }, "does not allow it"},
		"by TLS":          {func(s *server) { s.refusal = errTLSRequired }, "asks for TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBed(t, nil)
				b.s.description = "a disk file=1 loss=0"
				b.mustStart()
				size, flags, name := b.s.size, b.s.flags, b.s.name
				b.restartServer(func() { tc.change(b.s) })
				b.stays(time.Minute, "waiting", func() bool { return b.m.live(0) == 0 && b.m.state(0).State == StateWaiting })
				if s := b.m.state(0); !strings.Contains(s.LastError, tc.want) || !strings.Contains(b.log.String(), tc.want) {
					t.Errorf("it said %q", s.LastError)
				}
				b.s.change(func() {
					b.s.size, b.s.flags, b.s.description, b.s.name, b.s.refusal = size, flags, "no more words", name, 0
					b.s.block, b.s.payload = 1, 32*mib
				})
				b.within(retryMax+lookInterval, "reconnected", func() bool { return b.m.live(0) == 1 })
				b.end("")
			})
		})
	}
}

// TestSizes: a file that has grown grows the device, while it is connected or by a reconnection; one that has shrunk does nothing to it (A7).
func TestSizes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, nil)
		b.mustStart()
		size := func() uint64 { return b.m.device(0).c.SizeBytes }
		b.s.change(func() { b.s.size = 100*mib + 512 })
		b.within(sizeInterval+time.Second, "grown", func() bool { return size() == 100*mib })
		b.s.change(func() { b.s.size = 50 * mib })
		b.stays(3*sizeInterval, "not shrunk", func() bool { return size() == 100*mib })
		if !strings.Contains(b.log.String(), "52428800 bytes, it had 104857600") {
			t.Errorf("nothing said: %s", b.log)
		}
		b.restartServer(func() { b.s.size = 200 * mib })
		b.within(retryMax+lookInterval, "grown", func() bool { return size() == 200*mib && b.m.live(0) == 1 })
		b.within(time.Second, "told", func() bool { return b.m.state(0).SizeBytes == 200*mib })
		b.m.noGrow = true
		b.s.change(func() { b.s.size = 300 * mib })
		b.within(sizeInterval+time.Second, "told", func() bool { return strings.Contains(b.log.String(), "does not take the new size") })
		if s := b.m.state(0); s.SizeBytes != 200*mib {
			t.Errorf("%+v", s)
		}
		_, gos, infos := b.s.counts()
		if gos != 2 || infos < 4 {
			t.Errorf("%d times GO, %d times INFO", gos, infos)
		}
		b.end("")
	})
}

// TestGrownWhileAway: the new size waits until the new connections are there. A kernel that takes a size waits for what is in flight, which
// waits for the connections.
func TestGrownWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, nil)
		b.m.frozen = make(chan struct{})
		b.mustStart()
		b.restartServer(func() { b.s.size = 200 * mib })
		time.Sleep(retryMax + lookInterval)
		if b.m.live(0) != 1 {
			t.Error("not reconnected")
		}
		b.within(time.Second, "grown", func() bool { return b.m.device(0).c.SizeBytes == 200*mib })
		close(b.m.frozen)
		b.end("")
	})
}

// TestHalfAReconnection: the connections were taken, and the rest of the change failed: it is made up for.
func TestHalfAReconnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, nil)
		b.mustStart()
		b.restartServer(func() { b.m.broken = 1 })
		b.within(retryMax+lookInterval, "reconnected", func() bool { return b.m.live(0) == 1 })
		b.within(2*retryMax, "connected, without a timeout", func() bool { return b.m.state(0).State == StateConnected && b.m.device(0).timeout == 0 })
		if d := b.m.device(0); d.ioTimeout != requestTimeout {
			t.Errorf("requests are looked at each %v", d.ioTimeout)
		}
		b.end("")
	})
}

// another makes the device that of another program, which tells the kernel no backend.
func (m *model) another() *modelLink {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := &modelLink{m: m, dead: true}
	m.devices[0] = &modelDevice{c: Config{SizeBytes: mib, BlockBytes: 4096}, sockets: []*modelLink{l}, timeout: time.Minute}
	return l
}

// TestForeignDevice: a keeper gives nothing to a device that another program has attached meanwhile, though neither it nor the kernel says to
// what: not while it runs, not when it had connections made for it, and not when it starts with a state of before (A3).
func TestForeignDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, nil)
		b.mustStart()
		untouched := func(l *modelLink) {
			t.Helper()
			if d := b.m.devices[0]; d == nil || d.sockets[0] != l || d.timeout != time.Minute || d.c.DeadTimeout != 0 || d.c.SizeBytes != mib {
				t.Fatalf("the other's device is %+v", d)
			}
		}
		b.s.change(func() { b.s.down = true })
		b.s.stop()
		b.m.serverGone(0)
		b.within(time.Second, "it waits", func() bool { return b.m.state(0).State == StateWaiting })
		b.m.Disconnect(t.Context(), 0)
		l := b.m.another()
		b.s.change(func() { b.s.down = false })
		if err := <-b.ended; err != nil {
			t.Error(err)
		}
		untouched(l)

		b.m.devices = map[int]*modelDevice{}
		b.s.down = false
		b.mustStart()
		dial := b.o.Dial
		b.m.used = true
		b.stop()
		<-b.ended
		b.m.used = false
		b.o.Dial = func(ctx context.Context) (net.Conn, error) { // takes so long that all is different then
			b.m.Disconnect(ctx, 0)
			l = b.m.another()
			return dial(ctx)
		}
		if took, err := b.start(); err != nil || !took {
			t.Fatalf("took over %v, %v", took, err)
		}
		if err := <-b.ended; err != nil {
			t.Error(err)
		}
		untouched(l)

		b.o.Dial = dial
		b.m.Save(&State{Index: 0, Server: b.o.Target.String(), Connections: 1})
		if took, err := b.start(); blocktree.KindOf(err) != blocktree.Busy || took {
			t.Errorf("took over %v, %v", took, err)
		}
		untouched(l)
		err := Detach(t.Context(), DetachOptions{Kernel: b.m, System: b.m})
		if blocktree.KindOf(err) != blocktree.Permission {
			t.Errorf("detached by %v", err)
		}
		untouched(l)
		b.m.devices = map[int]*modelDevice{}
		b.end0()
	})
}

// TestTakeOver: a keeper that finds the device attached to its export goes on with it, whether its connections live, die later, or are dead
// (A3); one of another export leaves it alone.
func TestTakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, func(o *Options) { o.Connections = 2 })
		b.mustStart()
		b.m.used = true
		b.stop()
		if err := <-b.ended; blocktree.KindOf(err) != blocktree.Busy || blocktree.HintOf(err) == "" {
			t.Fatalf("left a mounted device with %v", err)
		}
		if b.m.live(0) != 2 || b.m.flushed != 0 {
			t.Fatalf("%d connections live, %d flushes", b.m.live(0), b.m.flushed)
		}

		reader := *b
		reader.o.ReadOnly = true
		if _, err := reader.start(); blocktree.KindOf(err) != blocktree.Busy || !strings.Contains(err.Error(), "can be written") {
			t.Fatalf("read-only: %v", err)
		}
		other := *b
		other.o.Target.Export = "/vm/disk1"
		if _, err := other.start(); blocktree.KindOf(err) != blocktree.Busy || !strings.Contains(err.Error(), "attached to nbd://192.0.2.1:10809/vm/disk0") {
			t.Fatalf("another export: %v", err)
		}

		b.o.Connections = 1 // which is not what the device has
		b.o.DeadTimeout = time.Hour
		if took, err := b.start(); err != nil || !took {
			t.Fatalf("took over %v, %v", took, err)
		}
		time.Sleep(2*probeInterval + 10*time.Second) // between two probes
		synctest.Wait()
		if d := b.m.device(0); d.c.DeadTimeout != time.Hour {
			t.Errorf("dead timeout %v", d.c.DeadTimeout)
		}
		if _, gos, _ := b.s.counts(); gos < 2+3*2 {
			t.Errorf("%d connections were tried", gos)
		}
		b.m.mu.Lock()
		if n := len(b.m.links); n != 2 { // what was tried is closed again
			t.Errorf("%d connections are held", n)
		}
		b.m.mu.Unlock()
		b.restartServer(nil) // those of the first keeper: only the kernel tells
		b.within(retryMax+lookInterval, "reconnected", func() bool { return b.m.live(0) == 2 })
		b.within(time.Second, "told", func() bool { return b.m.state(0).State == StateConnected })
		_, gos, _ := b.s.counts()
		b.restartServer(nil) // now they are its own
		b.within(retryMax+lookInterval, "reconnected", func() bool { return b.m.live(0) == 2 })
		b.stays(2*probeInterval, "nothing to probe", func() bool { _, now, _ := b.s.counts(); return now == gos+2 })
		b.stop()
		<-b.ended

		b.s.change(func() { b.s.down = true })
		b.s.stop()
		b.m.serverGone(0) // with nobody there
		b.m.Forget(0)     // and /run cleaned
		b.o.Connections = 2
		if took, err := b.start(); err != nil || !took {
			t.Fatalf("took over %v, %v", took, err)
		}
		b.within(time.Second, "it waits", func() bool { return b.m.state(0).State == StateWaiting })
		b.s.change(func() { b.s.down, b.s.size = false, 32*mib })
		b.stays(20*time.Second, "waiting, as the file is smaller", func() bool { return b.m.live(0) == 0 })
		b.s.change(func() { b.s.size = 64 * mib })
		b.within(retryMax+time.Second, "reconnected", func() bool { return b.m.live(0) >= 1 })
		b.m.used = false
		b.end("")
	})
}

// TestRefusals of a start: nothing is attached, and nothing is left.
func TestRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*bed)
		kind   blocktree.Kind
	}{
		"no server":           {func(b *bed) { b.s.down = true }, blocktree.Other},
		"no export":           {func(b *bed) { b.s.name = "/x" }, blocktree.NotFound},
		"nothing in it":       {func(b *bed) { b.s.size = 100 }, blocktree.Invalid},
		"one connection only": {func(b *bed) { b.o.Connections, b.s.flags = 2, b.s.flags&^FlagMultiConn }, blocktree.Unsupported},
		"no connections":      {func(b *bed) { b.o.Connections = 0 }, blocktree.Invalid},
		"too many":            {func(b *bed) { b.o.Connections = 17 }, blocktree.Invalid},
		"too fast":            {func(b *bed) { b.o.Timeout = TimeoutMin - time.Second }, blocktree.Invalid},
		"fractions":           {func(b *bed) { b.o.DeadTimeout = 1500 * time.Millisecond }, blocktree.Invalid},
		"a device in use":     {func(b *bed) { b.m.devices[0] = &modelDevice{c: Config{}} }, blocktree.Busy},
		"a keeper there":      {func(b *bed) { b.m.locks[0] = true }, blocktree.Busy},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBed(t, nil)
				tc.change(b)
				_, err := b.start()
				if err == nil || blocktree.KindOf(err) != tc.kind || tc.kind != blocktree.Other && blocktree.HintOf(err) == "" && tc.kind != blocktree.Invalid {
					t.Errorf("%v (%v), hint %q", err, blocktree.KindOf(err), blocktree.HintOf(err))
				}
				b.end0()
			})
		})
	}
}

// TestAuto takes the first device that nobody has, attached or open.
func TestAuto(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, func(o *Options) { o.Index, o.ReadOnly = -1, true })
		b.m.devices[0], b.m.locks[1] = &modelDevice{}, true
		b.mustStart()
		if d := b.m.device(2); d.c.Index != 2 || d.c.Flags&FlagReadOnly == 0 {
			t.Errorf("%+v", d.c)
		}
		b.end("")
	})
}

// TestPauses double and vary.
func TestPauses(t *testing.T) {
	for tries := range 40 {
		top := min(retryMax, retryFirst<<min(tries, 10))
		for range 50 {
			if p := pause(tries); p <= top/2 || p > top {
				t.Errorf("try %d: a pause of %v", tries, p)
			}
		}
	}
	if pause(20) == pause(20) && pause(20) == pause(20) && pause(20) == pause(20) {
		t.Error("always the same")
	}
}
