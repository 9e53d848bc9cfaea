package attach

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
)

// TestStop: the device is flushed and then detached, unless somebody uses it or it cannot be flushed: then it stays (A4).
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, nil)
		b.mustStart()
		b.m.flush = make(chan struct{})
		b.stop()
		began := time.Now()
		err := <-b.ended
		if blocktree.KindOf(err) != blocktree.Timeout || time.Since(began) != flushTimeout || b.m.live(0) != 1 {
			t.Errorf("ended with %v after %v, %d connections live", err, time.Since(began), b.m.live(0))
		}
		close(b.m.flush)
		if took, err := b.start(); err != nil || !took {
			t.Fatalf("took over %v, %v", took, err)
		}
		b.end("")
		if d := b.m.device(0); d.c.Backend != "" {
			t.Error("still attached")
		}
	})
}

// TestStopReconnects: a keeper that is told to end while its server is away reconnects the device for the flush, if that comes back in time.
func TestStopReconnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, nil)
		b.mustStart()
		b.m.flush = make(chan struct{})
		b.s.change(func() { b.s.down = true })
		b.s.stop()
		b.m.serverGone(0)
		b.stop()
		time.Sleep(10 * time.Second)
		b.s.change(func() { b.s.down = false })
		b.within(retryMax+lookInterval, "reconnected", func() bool { return b.m.live(0) == 1 })
		close(b.m.flush)
		b.end("")
		if b.m.flushed != 1 || len(b.m.devices) != 0 {
			t.Errorf("%d flushes, %d devices", b.m.flushed, len(b.m.devices))
		}
	})
}

// TestProbeShadow: a connection that the keeper cannot see, and that dies as it is tried, may have been cut off by that (A1).
func TestProbeShadow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, nil)
		b.mustStart()
		b.m.used = true
		b.stop()
		<-b.ended
		if took, err := b.start(); err != nil || !took {
			t.Fatalf("took over %v, %v", took, err)
		}
		b.m.cut(0)
		b.stays(settleMax-time.Second, "no new connection", func() bool { return b.m.live(0) == 0 })
		b.within(2*time.Second, "replaced", func() bool { return b.m.live(0) == 1 })
		b.stop()
		<-b.ended
		if took, err := b.start(); err != nil || !took {
			t.Fatalf("took over %v, %v", took, err)
		}
		time.Sleep(2 * probeShadow)
		b.m.serverGone(0)
		b.within(2*time.Second, "replaced at once", func() bool { return b.m.live(0) == 1 })
		b.m.used = false
		b.end("")
	})
}

// TestGoneIsWaitedFor: a device is detached when the kernel has let go of it, and what somebody has open yet is told.
func TestGoneIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, nil)
		b.mustStart()
		b.m.stays = true
		b.stop()
		began := time.Now()
		if err := <-b.ended; blocktree.KindOf(err) != blocktree.Busy || time.Since(began) != goneTimeout {
			t.Errorf("ended with %v after %v", err, time.Since(began))
		}
		b.m.stays = false
		b.end0()
	})
}

// TestOldKernel: one that keeps no backend has a timeout, without which it would end the device, and its device is taken over by the word of
// the state that the last keeper left.
func TestOldKernel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, nil)
		b.m.old = true
		b.mustStart()
		if d := b.m.device(0); d.timeout != TimeoutMin || d.ioTimeout != TimeoutMin {
			t.Errorf("timeouts %v and %v", d.timeout, d.ioTimeout)
		}
		b.restartServer(nil)
		b.within(retryMax+lookInterval, "reconnected", func() bool { return b.m.live(0) == 1 })
		if d := b.m.device(0); d.timeout != TimeoutMin {
			t.Errorf("timeout %v", d.timeout)
		}
		b.m.used = true
		b.stop()
		<-b.ended
		if took, err := b.start(); err != nil || !took {
			t.Fatalf("took over %v, %v", took, err)
		}
		b.stop()
		<-b.ended
		b.m.Forget(0)
		if _, err := b.start(); blocktree.KindOf(err) != blocktree.Busy {
			t.Errorf("without a word of what it is: %v", err)
		}
		b.end0()
	})
}

// TestDetachedByOthers: a keeper whose device is gone, or somebody else's, ends and brings nothing back.
func TestDetachedByOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, nil)
		b.mustStart()
		b.m.Disconnect(context.Background(), 0)
		if err := <-b.ended; err != nil {
			t.Error(err)
		}
		if n := len(b.m.calls); n != 2 {
			t.Errorf("%q", b.m.calls)
		}
		b.end0()
	})
}

// TestDetach: by the keeper where there is one, by itself where there is none, by force against all.
func TestDetach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, nil)
		o := DetachOptions{Index: 0, Kernel: b.m, System: b.m, Signal: func(pid int) error {
			if pid != 4711 {
				t.Errorf("process %d was asked", pid)
			}
			b.stop()
			return nil
		}}
		detach := func(force bool) error { o.Force = force; return Detach(t.Context(), o) }
		if err := detach(false); blocktree.KindOf(err) != blocktree.NotFound {
			t.Errorf("not attached: %v", err)
		}
		b.mustStart()
		b.m.used = true
		if err := detach(false); blocktree.KindOf(err) != blocktree.Busy || b.m.live(0) != 1 || len(b.ended) != 0 {
			t.Errorf("in use: %v", err)
		}
		b.m.used = false
		if err := detach(false); err != nil || b.m.flushed != 1 || <-b.ended != nil {
			t.Errorf("%v, %d flushes", err, b.m.flushed)
		}
		b.mustStart()
		b.s.change(func() { b.s.down = true })
		b.s.stop()
		b.m.serverGone(0)
		b.within(time.Second, "it waits", func() bool { return b.m.state(0).State == StateWaiting })
		if err := detach(false); blocktree.KindOf(err) != blocktree.Unavailable || len(b.ended) != 0 {
			t.Errorf("while it waits: %v", err)
		}
		b.s.change(func() { b.s.down = false })
		b.within(retryMax+lookInterval, "reconnected", func() bool { return b.m.live(0) == 1 })
		b.m.used = true
		if err := detach(true); err != nil || b.m.device(0).c.Backend != "" || b.m.flushed != 1 {
			t.Errorf("by force: %v, %d flushes", err, b.m.flushed)
		}
		if err := <-b.ended; blocktree.KindOf(err) != blocktree.Busy {
			t.Errorf("the keeper: %v", err)
		}
		b.m.used = false
		b.mustStart()
		b.m.used = true
		b.stop()
		<-b.ended
		b.m.used = false
		if err := detach(false); err != nil || b.m.flushed != 2 {
			t.Errorf("without a keeper: %v, %d flushes", err, b.m.flushed)
		}
		b.m.devices[0] = &modelDevice{}
		if err := detach(false); blocktree.KindOf(err) != blocktree.Permission || len(b.m.devices) != 1 {
			t.Errorf("of another program: %v", err)
		}
		b.m.devices[0].detached = true
		b.end0()
	})
}

// TestDetachOfAStuckKeeper: one that waits in the kernel for what only the end of the device brings, so that even its death waits, prevents
// --force from nothing.
func TestDetachOfAStuckKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, nil)
		b.mustStart()
		asked := 0
		o := DetachOptions{Kernel: b.m, System: b.m, Signal: func(int) error { asked++; return nil }}
		if err := Detach(t.Context(), o); blocktree.KindOf(err) != blocktree.Timeout || asked != 1 || b.m.live(0) != 1 {
			t.Errorf("%v, asked %d times, %d connections live", err, asked, b.m.live(0))
		}
		o.Force = true
		if err := Detach(t.Context(), o); err != nil || asked != 2 || b.m.device(0).c.Backend != "" {
			t.Errorf("%v, asked %d times", err, asked)
		}
		if err := <-b.ended; err != nil {
			t.Error(err)
		}
		b.end0()
	})
}

// TestList tells what is connected, what waits and what nobody keeps.
func TestList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, nil)
		b.mustStart()
		b.m.devices[2] = &modelDevice{c: Config{SizeBytes: mib}}
		list := func() (states string) {
			all, err := List(b.m)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range all {
				states += e.Device + " " + e.State + " "
			}
			return states
		}
		if got := list(); got != "/dev/nbd0 connected /dev/nbd2 unkept " {
			t.Error(got)
		}
		b.s.change(func() { b.s.down = true })
		b.m.serverGone(0)
		time.Sleep(2 * time.Second)
		if got := list(); got != "/dev/nbd0 waiting /dev/nbd2 unkept " {
			t.Error(got)
		}
		b.m.used = true
		b.stop()
		<-b.ended
		if got := list(); got != "/dev/nbd0 unkept /dev/nbd2 unkept " {
			t.Error(got)
		}
		b.end0()
	})
}
