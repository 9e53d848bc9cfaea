package nbd

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/memfile"

	"golang.org/x/sys/unix"
)

const (
	size = 1 << 20
	mib  = 1 << 20
)

// TestErrnos fails every command with every kind: the table is total, and a READ that fails sends no data.
func TestErrnos(t *testing.T) {
	if len(errnos) != blocktree.Kinds() {
		t.Fatalf("%d of %d kinds have an error value", len(errnos), blocktree.Kinds())
	}
	want := map[blocktree.Kind]uint32{blocktree.NoSpace: 28, blocktree.ReadOnly: 1, blocktree.Closed: 108,
		blocktree.Unavailable: 5, blocktree.Fenced: 5, blocktree.Corrupt: 5, blocktree.Lost: 5, blocktree.IO: 5,
		blocktree.Invalid: 22, blocktree.Unsupported: 22, blocktree.OutOfRange: 22}
	for i, s := range append(styles, styles...) {
		for kind := range blocktree.Kind(blocktree.Kinds()) {
			b := newBed(t, setup{file: memfile.Options{Prompt: i < len(styles), Hook: func(context.Context, memfile.Call) error {
				return blocktree.E("test", kind, nil)
			}}, cacheBytes: 1 << 20})
			c := b.attachAs(s)
			for _, command := range []uint16{cmdRead, cmdWrite, cmdFlush, cmdTrim, cmdWriteZeroes, cmdCache, cmdBlockStatus} {
				var payload []byte
				length := uint32(4096)
				if command == cmdWrite {
					payload = make([]byte, length)
				}
				if command == cmdFlush {
					length = 0
				}
				errno, _ := c.do(command, 0, 0, length, payload)
				switch errno {
				case nbdEPERM, nbdEIO, nbdENOMEM, nbdEINVAL, nbdENOSPC, nbdESHUTDOWN:
				default: // ENOTSUP and EOVERFLOW among them
					t.Errorf("%v, command %d: error %d", kind, command, errno)
				}
				expected, known := want[kind]
				if kind == blocktree.OutOfRange && (command == cmdWrite || command == cmdWriteZeroes) {
					expected = 28
				}
				if s == compact && command == cmdBlockStatus {
					expected = 22
				}
				if known && errno != expected {
					t.Errorf("%v, command %d: error %d, want %d", kind, command, errno, expected)
				}
			}
			if errno, _ := c.do(cmdWriteZeroes, 16, 0, 4096, nil); kind == blocktree.Unsupported && errno != 95 {
				t.Errorf("FAST_ZERO: error %d", errno)
			}
		}
	}
	if errnoOf(context.Canceled, cmdRead, 0) != nbdEIO || errnoOf(nil, cmdRead, 0) != 0 {
		t.Error("foreign errors")
	}
}

// gated holds calls of a file that a test picks until it lets them go.
type gated struct {
	pick    func(memfile.Call) bool
	held    atomic.Int32
	release chan struct{}
}

func newGate(pick func(memfile.Call) bool) *gated {
	return &gated{pick: pick, release: make(chan struct{})}
}

func (g *gated) hook(ctx context.Context, c memfile.Call) error {
	if g.pick(c) {
		g.held.Add(1)
		select {
		case <-g.release:
		case <-ctx.Done():
			return blocktree.E("test", blocktree.Canceled, ctx.Err())
		}
	}
	return nil
}

func (g *gated) options() memfile.Options { return memfile.Options{Hook: g.hook} }

func TestRepliesOutOfOrder(t *testing.T) {
	g := newGate(func(c memfile.Call) bool { return c.First == 9 })
	b := newBed(t, setup{file: g.options()})
	c := b.attach()
	c.send(header(cmdRead, 0, 1, 9*4096, 4096))
	c.send(append(header(cmdWrite, 0, 2, 9*4096, 4096), make([]byte, 4096)...))
	c.send(header(cmdRead, 0, 3, 0, 10))
	c.wantReply(3, 0)
	c.take(10)
	close(g.release)
	for range 2 {
		if _, handle := c.reply(); handle == 1 {
			c.take(4096)
		}
	}
	c.inSync()
}

// TestInFlightIsBounded holds requests until the connection has no slot left.
func TestInFlightIsBounded(t *testing.T) {
	g := newGate(func(c memfile.Call) bool { return c.Op == memfile.Read })
	b := newBed(t, setup{file: g.options()})
	c := b.attach()
	const over = 10
	for i := range uint64(blocktree.NBDRequestsPerConnectionMax + over) {
		c.send(header(cmdRead, 0, i, 0, 1))
	}
	until(t, "the reader waits for a slot", func() bool {
		out := &b.onlyConn().out
		out.mu.Lock()
		defer out.mu.Unlock()
		return out.waiting && out.open == blocktree.NBDRequestsPerConnectionMax
	})
	until(t, "all that have a slot are in flight", func() bool {
		return g.held.Load() == blocktree.NBDRequestsPerConnectionMax
	})
	close(g.release)
	seen := make(map[uint64]bool)
	for range blocktree.NBDRequestsPerConnectionMax + over {
		errno, handle := c.reply()
		c.take(1)
		if errno != 0 || seen[handle] {
			t.Fatalf("request %d: error %d, answered before: %t", handle, errno, seen[handle])
		}
		seen[handle] = true
	}
}

func (b *bed) onlyConn() *conn {
	b.srv.mu.Lock()
	defer b.srv.mu.Unlock()
	for c := range b.srv.conns {
		return c
	}
	b.t.Fatal("no connection")
	return nil
}

// TestMemoryIsShared: what one connection holds, the other waits for, and gets.
func TestMemoryIsShared(t *testing.T) {
	g := newGate(func(c memfile.Call) bool { return c.Op == memfile.Read && c.First == 0 })
	b := newBed(t, setup{file: g.options(), memory: 256 << 10})
	first, second := b.attach(), b.attach()
	first.send(header(cmdRead, 0, 1, 0, 128<<10))
	until(t, "the first is held", func() bool { return g.held.Load() == 1 })
	second.send(header(cmdRead, 0, 2, 4096, 200<<10))
	until(t, "the second waits for memory", func() bool { return b.memory.Waiting() > 0 })
	if n := b.file.Calls(memfile.Read); n != 1 {
		t.Fatalf("%d reads", n)
	}
	close(g.release)
	first.wantReply(1, 0)
	first.take(128 << 10)
	second.wantReply(2, 0)
	second.take(200 << 10)
}

// TestStalledClients: one who does not take replies, and one who does not send the payload that was announced, go on
// existing until their memory is needed.
func TestStalledClients(t *testing.T) {
	for _, x := range []struct {
		name    string
		timeout time.Duration // long where there is always some progress
		stall   func(c *client)
	}{
		{"replies", 20 * time.Millisecond, func(c *client) {
			for i := range uint64(4) {
				c.send(header(cmdRead, 0, i, 0, 1*mib))
			}
		}},
		{"payload", 20 * time.Millisecond, func(c *client) {
			c.send(append(header(cmdWrite, 0, 1, 0, mib), make([]byte, 500000)...))
		}},
		{"payload, a byte at a time", 500 * time.Millisecond, func(c *client) {
			c.send(append(header(cmdWrite, 0, 1, 0, mib), make([]byte, 500000)...))
			c.nc.SetDeadline(time.Time{})
			go func() { // until it is cut off, by the server or at the end of the test
				for {
					if _, err := c.nc.Write([]byte{0}); err != nil {
						return
					}
					time.Sleep(5 * time.Millisecond)
				}
			}()
		}},
	} {
		for _, prompt := range []bool{false, true} {
			b := newBed(t, setup{file: memfile.Options{Prompt: prompt}, memory: 3 * mib / 2,
				server: func(s *Server) { s.stallTimeout = x.timeout }})
			rude, good := b.attach(), b.attach()
			x.stall(rude)
			until(t, x.name+": the memory is taken", func() bool { return b.memory.FreeBytes() < mib })
			if x.name == "payload" { // patient as long as nobody is harmed
				time.Sleep(100 * time.Millisecond)
				rude.send(make([]byte, mib-500000))
				rude.wantReply(1, 0)
				x.stall(rude)
				until(t, x.name+": the memory is taken again", func() bool { return b.memory.FreeBytes() < mib })
			}
			if errno, _ := good.do(cmdRead, 0, 0, mib, nil); errno != 0 {
				t.Fatalf("%s: error %d", x.name, errno)
			}
		}
	}
}

// TestTricklingTaker: who takes a little of its replies in each stall timeout holds their memory as long as nobody else
// wants it.
func TestTricklingTaker(t *testing.T) {
	const whole = 96 * mib
	for _, harmful := range []bool{true, false} {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		var ends [2]net.Conn
		for i, fd := range pair {
			f := os.NewFile(uintptr(fd), "end")
			ends[i], err = net.FileConn(f)
			f.Close()
			if err != nil {
				t.Fatal(err)
			}
			defer ends[i].Close()
		}
		taken := make(chan int, 1)
		go func() { // at most 5 MiB in 500 ms, where its share is 6
			n := 0
			for buf := make([]byte, 100<<10); ; {
				got, err := ends[1].Read(buf)
				if n += got; err != nil {
					taken <- n
					return
				}
				if harmful {
					time.Sleep(10 * time.Millisecond)
				}
			}
		}()
		var w vecWriter
		w.init(ends[0])
		w.add(make([]byte, whole))
		err = w.wait(500*time.Millisecond, func() bool { return harmful })
		ends[0].Close()
		if n := <-taken; (err != nil) != harmful || !harmful && n != whole || harmful && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("harmful %v: %d bytes taken, %v", harmful, n, err)
		}
	}
}

// TestSlowTakerIsServed: replies that the client leaves lying about arrive whole, later, if nobody needs the memory.
func TestSlowTakerIsServed(t *testing.T) {
	for _, prompt := range []bool{false, true} {
		b := newBed(t, setup{file: memfile.Options{Prompt: prompt}, memory: 3 * mib,
			server: func(s *Server) { s.stallTimeout = 10 * time.Millisecond }})
		c := b.attach()
		pattern := make([]byte, mib)
		for i := range pattern {
			pattern[i] = byte(i * 7 >> 3)
		}
		if errno, _ := c.do(cmdWrite, 0, 0, mib, pattern); errno != 0 {
			t.Fatal(errno)
		}
		for i := range uint64(8) { // more than there is memory for: this client may wait for itself
			c.send(header(cmdRead, 0, i, 0, mib))
		}
		until(t, "the socket is full", func() bool {
			out := &b.onlyConn().out
			out.mu.Lock()
			defer out.mu.Unlock()
			return out.writing
		})
		time.Sleep(50 * time.Millisecond) // some stall timeouts
		for range 8 {
			if errno, _ := c.reply(); errno != 0 || !bytes.Equal(c.take(mib), pattern) {
				t.Fatalf("error %d or other data", errno)
			}
		}
	}
}

// TestNothingReadyWaits: replies that are ready go out before the reader waits, for whatever it waits: the end of a
// payload, the end of a payload to be drained, memory that they hold themselves, or nothing more at all.
func TestNothingReadyWaits(t *testing.T) {
	for _, x := range []struct {
		name       string
		behind     []byte
		rest       int    // bytes to be sent when the first reply is there
		then       uint32 // answer to the second request
		data       int
		disconnect bool
	}{
		{"short payload", header(cmdWrite, 0, 2, 0, 4096), 4096, 0, 0, false},
		{"long payload", header(cmdWrite, 0, 2, 0, 100000), 100000, 0, 0, false},
		{"drained payload", header(cmdWrite, 0, 2, size, 4096), 4096, 28, 0, false},
		{"memory", header(cmdRead, 0, 2, 0, 512<<10), 0, 0, 512 << 10, false},
		{"DISC", header(cmdDisc, 0, 2, 0, 0), 0, 0, 0, true},
	} {
		b := newBed(t, setup{file: memfile.Options{Prompt: true}, memory: 256 << 10})
		c := b.attach()
		c.send(append(header(cmdRead, 0, 1, 0, 4096), x.behind...))
		c.wantReply(1, 0)
		c.take(4096)
		if x.disconnect {
			c.closed()
			continue
		}
		c.send(make([]byte, x.rest))
		c.wantReply(2, x.then)
		c.take(x.data)
		c.inSync()
	}
}

// TestVanishedClient: what a client sent in full is done although it is gone; what it sent in part is not.
func TestVanishedClient(t *testing.T) {
	g := newGate(func(c memfile.Call) bool { return c.Op == memfile.Write })
	b := newBed(t, setup{file: g.options()})
	c := b.attach()
	c.send(append(header(cmdWrite, 0, 1, 0, 4096), bytes.Repeat([]byte{7}, 4096)...))
	c.send(append(header(cmdWrite, 0, 2, 8192, 200000), bytes.Repeat([]byte{8}, 150000)...))
	until(t, "the first write is held", func() bool { return g.held.Load() == 1 })
	c.nc.Close()
	close(g.release)
	until(t, "the connection is gone", func() bool {
		b.srv.mu.Lock()
		defer b.srv.mu.Unlock()
		return len(b.srv.conns) == 0
	})
	p := make([]byte, 8193)
	if err := b.dev.ReadAt(t.Context(), p, 0); err != nil || p[0] != 7 || p[8192] != 0 {
		t.Fatalf("%d, %d, %v", p[0], p[8192], err)
	}
	b.attach().inSync()
}

// TestFlushCoversAllConnections: a write answered on one connection survives after a flush on another.
func TestFlushCoversAllConnections(t *testing.T) {
	b := newBed(t, setup{file: memfile.Options{Volatile: true}})
	first, second := b.attach(), b.attach()
	seven := bytes.Repeat([]byte{7}, 4096)
	for i, do := range []func(){
		func() { second.do(cmdFlush, 0, 0, 0, nil) },
		func() { second.do(cmdWrite, 1, 8192, 4096, seven) }, // FUA here makes at least itself durable
	} {
		first.do(cmdWrite, 0, uint64(i)*16384, 4096, seven)
		do()
		b.file.Crash()
	}
	if _, p := first.do(cmdRead, 0, 0, 4096, nil); p[0] != 7 {
		t.Fatal("FLUSH forgot another connection's write")
	}
	if _, p := first.do(cmdRead, 0, 8192, 4096, nil); p[0] != 7 {
		t.Fatal("FUA did not make its own write durable")
	}
}

// TestFlushErrorReachesAll: the first failure of a flush is everybody's.
func TestFlushErrorReachesAll(t *testing.T) {
	var fail atomic.Bool
	b := newBed(t, setup{file: memfile.Options{Hook: func(_ context.Context, c memfile.Call) error {
		if c.Op == memfile.Flush && fail.Load() {
			return blocktree.E("test", blocktree.Unavailable, nil)
		}
		return nil
	}}})
	first, second := b.attach(), b.attach()
	fail.Store(true)
	if errno, _ := first.do(cmdFlush, 0, 0, 0, nil); errno != 5 {
		t.Fatalf("error %d", errno)
	}
	fail.Store(false)
	for _, c := range []*client{first, second, b.attach()} {
		if errno, _ := c.do(cmdFlush, 0, 0, 0, nil); errno != 5 {
			t.Fatalf("error %d", errno)
		}
	}
}

func TestRemovedExport(t *testing.T) {
	b := newBed(t, setup{})
	c := b.attach()
	if _, err := b.exports.Remove("vm/disk0"); err != nil {
		t.Fatal(err)
	}
	c.inSync() // goes on until the device is closed
	if err := b.dev.Close(); err != nil {
		t.Fatal(err)
	}
	if errno, _ := c.do(cmdRead, 0, 0, 4096, nil); errno != 108 {
		t.Fatalf("error %d", errno)
	}
	if errno, _ := c.do(cmdFlush, 0, 0, 0, nil); errno != 108 {
		t.Fatalf("error %d", errno)
	}
}

// TestCachedReadIsInline: a cached READ is answered although the file is stuck.
func TestCachedReadIsInline(t *testing.T) {
	var stuck atomic.Bool
	g := newGate(func(memfile.Call) bool { return stuck.Load() })
	b := newBed(t, setup{file: g.options(), cacheBytes: 1 << 20})
	c := b.attach()
	until(t, "the sector is cached", func() bool {
		c.do(cmdRead, 0, 4096, 4096, nil)
		return b.dev.TryReadAt(make([]byte, 1), 4096)
	})
	stuck.Store(true)
	for _, x := range []struct{ at, length int }{{5000, 100}, {4096, 4096}} { // whole sectors would be started, past the cache
		if errno, p := c.do(cmdRead, 0, uint64(x.at), uint32(x.length), nil); errno != 0 || len(p) != x.length {
			t.Fatalf("error %d", errno)
		}
	}
	if g.held.Load() != 0 {
		t.Fatal("the file was asked")
	}
	close(g.release)
}

// TestCacheFillsTheCache: CACHE has sectors read, so that later reads of them ask nobody.
func TestCacheFillsTheCache(t *testing.T) {
	b := newBed(t, setup{cacheBytes: 1 << 20})
	c := b.attach()
	until(t, "both sectors are cached, and no other", func() bool {
		if errno, _ := c.do(cmdCache, 0, 5000, 4096, nil); errno != 0 {
			t.Fatalf("error %d", errno)
		}
		p := make([]byte, 4096)
		return b.dev.TryReadAt(p, 4096) && b.dev.TryReadAt(p, 8192) && !b.dev.TryReadAt(p, 12288)
	})
}

var _ blockdev.Prompt = (*memfile.File)(nil)
