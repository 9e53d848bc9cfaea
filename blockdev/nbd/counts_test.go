package nbd

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/memfile"
)

// use is the only export's.
func (b *bed) use() Use {
	b.t.Helper()
	uses := b.srv.Uses()
	if len(uses) != 1 {
		b.t.Fatalf("%d exports", len(uses))
	}
	return uses[0]
}

// total is how many requests have ended.
func (n *Counts) total() (all uint64) {
	for _, outcomes := range n.Requests {
		for _, k := range outcomes {
			all += k
		}
	}
	return all
}

// TestCounts: each request is counted once, with its outcome, by the time that its answer is there; an answer that is an error moved no bytes.
func TestCounts(t *testing.T) {
	broken := blocktree.E("test", blocktree.Unavailable, nil)
	full := blocktree.E("test", blocktree.NoSpace, nil)
	hook := func(_ context.Context, c memfile.Call) error {
		switch {
		case c.Op == memfile.Read && c.First == 10:
			return broken
		case c.Op == memfile.Write && c.First == 11:
			return full
		}
		return nil
	}
	for _, waits := range []bool{false, true} {
		b := newBed(t, setup{file: memfile.Options{Hook: hook}, waits: waits})
		c := b.attach()
		size := b.dev.Size()
		var want [Commands][Outcomes]uint64
		for _, x := range []struct {
			command        uint16
			offset, length uint64
			errno          uint32
			counted        Command
			outcome        Outcome
		}{
			{cmdRead, 0, 4096, 0, CommandRead, OutcomeOK},
			{cmdRead, 100, 1000, 0, CommandRead, OutcomeOK},
			{cmdRead, 10 * 4096, 4096, nbdEIO, CommandRead, OutcomeEIO},
			{cmdRead, size, 1, nbdEINVAL, CommandRead, OutcomeEINVAL},
			{cmdWrite, 4096, 8192, 0, CommandWrite, OutcomeOK},
			{cmdWrite, 11 * 4096, 4096, nbdENOSPC, CommandWrite, OutcomeENOSPC},
			{cmdWrite, size, 512, nbdENOSPC, CommandWrite, OutcomeENOSPC},
			{cmdFlush, 0, 0, 0, CommandFlush, OutcomeOK},
			{cmdTrim, 0, 65536, 0, CommandTrim, OutcomeOK},
			{cmdWriteZeroes, 65536, 8192, 0, CommandWriteZeroes, OutcomeOK},
			{cmdCache, 0, 4096, 0, CommandCache, OutcomeOK},
			{cmdBlockStatus, 0, 4096, nbdEINVAL, CommandBlockStatus, OutcomeEINVAL},
			{99, 0, 0, nbdEINVAL, CommandUnknown, OutcomeEINVAL},
		} {
			var payload []byte
			if x.command == cmdWrite {
				payload = make([]byte, x.length)
			}
			if errno, _ := c.do(x.command, 0, x.offset, uint32(x.length), payload); errno != x.errno {
				t.Fatalf("%+v: error %d", x, errno)
			}
			want[x.counted][x.outcome]++
			if got := b.use().Counts; got.Requests != want {
				t.Fatalf("after %+v: %v, want %v", x, got.Requests, want)
			}
		}
		u := b.use()
		u.checkSums(t, want)
		c.leave()
		until(t, "the client is gone", func() bool { return len(b.use().Clients) == 0 })
		if got := b.use().Counts; got != u.Counts {
			t.Errorf("what was counted went with the client: %v", got.Requests)
		}
	}
}

// checkSums checks what TestCounts counts beside the requests.
func (u *Use) checkSums(t *testing.T, want [Commands][Outcomes]uint64) {
	t.Helper()
	bytes := [Commands]uint64{CommandRead: 5096, CommandWrite: 8192, CommandTrim: 65536, CommandWriteZeroes: 8192, CommandCache: 4096}
	if u.Counts.Bytes != bytes {
		t.Errorf("bytes %v, want %v", u.Counts.Bytes, bytes)
	}
	if u.Traffic != (Traffic{Reads: 2, ReadBytes: 5096, Writes: 1, WriteBytes: 8192, Others: 4}) || u.Clients[0].Traffic != u.Traffic {
		t.Errorf("traffic %+v", u.Traffic)
	}
	for k := range u.Counts.Latency {
		n := uint64(0)
		for _, m := range want[k] {
			n += m
		}
		if got := u.Counts.Latency[k].Count(); got != n {
			t.Errorf("%v: %d latencies of %d requests", Command(k), got, n)
		}
	}
}

// TestCountsOfThoseWhoLeave: who does not wait for the answer is counted as gone: in the middle of a payload, with a read that is given up, and with
// a write that goes on.
func TestCountsOfThoseWhoLeave(t *testing.T) {
	release := make(chan struct{})
	hook := func(ctx context.Context, c memfile.Call) error {
		switch c.Op {
		case memfile.Read:
			<-ctx.Done()
			return ctx.Err()
		case memfile.Write:
			<-release
		}
		return nil
	}
	b := newBed(t, setup{file: memfile.Options{Hook: hook}, waits: true})
	c := b.attach()
	c.send(header(cmdRead, 0, 1, 0, 4096))
	c.send(append(header(cmdWrite, 0, 2, 8192, 4096), make([]byte, 4096)...))
	c.send(append(header(cmdWrite, 0, 3, 16384, 4096), make([]byte, 100)...))
	until(t, "three are open", func() bool { return b.use().InFlight == 3 })
	c.nc.Close()
	close(release)
	until(t, "the client is gone", func() bool { return len(b.use().Clients) == 0 })
	n := b.use().Counts
	if n.total() != 3 || n.Requests[CommandRead][OutcomeGone] != 1 || n.Requests[CommandWrite][OutcomeGone] < 1 ||
		n.Requests[CommandWrite][OutcomeGone]+n.Requests[CommandWrite][OutcomeOK] != 2 { // the write may be answered before anybody knows
		t.Errorf("%v", n.Requests)
	}
	if n.Latency[CommandRead].Count() != 0 {
		t.Error("the time that nobody waited was counted")
	}
}

// TestCountsGoWithTheDevice: what an export did is kept until its device is closed, and no longer.
func TestCountsGoWithTheDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewServer(Config{Exports: new(blockdev.Exports)})
		open := func() *blockdev.Device {
			d, err := blockdev.Open(memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 1 << 20}}), blockdev.Options{})
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		attach := func(d *blockdev.Device) *conn {
			c := &conn{s: s}
			c.out.c = c
			if err := c.attach(blockdev.Export{Name: "/a", Device: d}); err != nil {
				t.Fatal(err)
			}
			return c
		}
		idle, used := open(), open()
		s.detach(attach(idle))
		user := attach(used)
		if len(s.attached) != 2 {
			t.Fatalf("%d devices are known", len(s.attached))
		}
		for _, d := range []*blockdev.Device{idle, used} {
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if len(s.attached) != 1 || s.attached[used] == nil {
			t.Errorf("%d devices are known once they are closed, one with a client", len(s.attached))
		}
		s.detach(user)
		if len(s.attached) != 0 {
			t.Error("a device is known that is closed and has no client")
		}
	})
}

// TestCountedLatency: it begins with the header and ends with the answer.
func TestCountedLatency(t *testing.T) {
	const wait = 3 * time.Millisecond // longer at any rate: only the lower bound is looked at
	b := newBed(t, setup{file: memfile.Options{Hook: func(context.Context, memfile.Call) error {
		time.Sleep(wait)
		return nil
	}}, waits: true})
	c := b.attach()
	if errno, _ := c.do(cmdRead, 0, 0, 4096, nil); errno != 0 {
		t.Fatal(errno)
	}
	l := b.use().Counts.Latency[CommandRead]
	if l.Count() != 1 || l.Sum() < wait || l.Cumulative()[2e-3] != 0 {
		t.Errorf("%v in %v", l.Count(), l.Sum())
	}
}

func TestOutcomes(t *testing.T) {
	for _, errno := range errnos {
		if o := outcomeOf(errno); o == OutcomeOK || o == OutcomeGone {
			t.Errorf("error %d is %v", errno, o)
		}
	}
	seen := map[string]bool{}
	for o := Outcome(0); int(o) < Outcomes; o++ {
		seen[o.String()] = true
	}
	for c := Command(0); int(c) < Commands; c++ {
		seen[c.String()] = true
	}
	if len(seen) != Outcomes+Commands {
		t.Errorf("%d names", len(seen))
	}
}

// TestCountingAllocatesNothing: what is added to each request for the sake of its being counted.
func TestCountingAllocatesNothing(t *testing.T) {
	s, n, r := &Server{began: time.Now()}, new(Counts), &request{command: cmdWrite, length: 4096}
	if k := testing.AllocsPerRun(1000, func() {
		r.began = time.Since(s.began)
		r.outcome = outcomeOf(0)
		n.count(r, time.Since(s.began))
	}); k != 0 {
		t.Errorf("%v allocations", k)
	}
}

// BenchmarkCounting is what counting adds to a request: with, as the engine does it for a batch of that many replies; without, the loop alone.
func BenchmarkCounting(b *testing.B) {
	for _, batch := range []int{1, 32} {
		for _, counted := range []bool{true, false} {
			name := map[bool]string{true: "with", false: "without"}[counted]
			b.Run(name+"/batch="+map[int]string{1: "1", 32: "32"}[batch], func(b *testing.B) {
				s, n := &Server{began: time.Now()}, new(Counts)
				replies := make([]*request, batch)
				for i := range replies {
					replies[i] = &request{command: cmdRead, length: 4096}
				}
				b.ReportAllocs()
				for i := 0; i < b.N; i += batch {
					came := time.Duration(0)
					if counted {
						came = time.Since(s.began)
					}
					for _, r := range replies {
						r.outcome = OutcomeOK
					}
					if counted {
						now := time.Since(s.began)
						for _, r := range replies {
							r.began = came
							n.count(r, now)
						}
					}
				}
			})
		}
	}
}
