package bttp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"blocktree"
)

// pattern fills a body so that each byte depends on the seed and its place.
func pattern(b []byte, seed uint64) []byte {
	for i := range b {
		b[i] = byte(seed + uint64(i)*7 + uint64(i>>8)*13)
	}
	return b
}

// TestMixedTraffic has many callers in both directions, with answers given at once, later, or as failures.
func TestMixedTraffic(t *testing.T) {
	carriersAndMemory(t, func(t *testing.T, transport Transport) {
		for _, lanes := range []int{1, 3} {
			t.Run(fmt.Sprint(lanes), func(t *testing.T) { mixedTraffic(t, transport, lanes) })
		}
	})
}

func mixedTraffic(t *testing.T, transport Transport, lanes int) {
	d := newDomain(t)
	var later sync.WaitGroup
	handler := HandlerFunc(func(r *Request) {
		switch r.Code {
		case 1: // at once
			echo(r)
		case 2: // from another goroutine, the request released first
			header, body := bytes.Clone(r.Header), bytes.Clone(r.Body)
			r.Release()
			later.Go(func() { r.Reply(header, body) })
		default:
			r.Fail(blocktree.E("test", blocktree.Kind(int(r.Code)%blocktree.Kinds()), errors.New(strings.Repeat("ä", 400))))
			r.Release()
		}
	})
	sc, cc := d.pair(transport)
	inbound := make(chan *Conn, 1)
	sc.Handler = HandlerFunc(func(r *Request) {
		select {
		case inbound <- r.Conn:
		default:
		}
		handler(r)
	})
	cc.Handler, cc.Lanes = handler, lanes
	_, r := d.listen(sc)
	out := d.dial(d.client(cc), r)
	first, err := out.CallWait(context.Background(), 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	first.Release()
	defer later.Wait()
	var callers sync.WaitGroup
	for worker := range 12 {
		conn := out
		if worker%3 == 2 {
			conn = <-inbound
			inbound <- conn
		}
		callers.Go(func() { mixedCaller(t, conn, uint64(worker)) })
	}
	callers.Wait()
}

// mixedCaller keeps a few calls in flight and checks each answer.
func mixedCaller(t *testing.T, conn *Conn, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	tokens := make(chan struct{}, 4)
	var all sync.WaitGroup
	defer all.Wait()
	for n := range 20 {
		size := 1 << random.IntN(21)
		size += random.IntN(size)
		size = min(size-1, blocktree.FrameBodyBytesMax)
		body := pattern(make([]byte, size), seed+uint64(n))
		header := binary.BigEndian.AppendUint64(nil, seed)
		code := uint16(1 + n%3)
		if code == 3 {
			code = uint16(3 + random.IntN(100))
		}
		tokens <- struct{}{}
		all.Add(1)
		cut := random.IntN(size + 1)
		done := func(r Reply, err error) {
			switch {
			case code > 2:
				if err == nil || blocktree.KindOf(err) != blocktree.Kind(int(code)%blocktree.Kinds()) {
					t.Errorf("code %d failed with %v", code, err)
				}
			case err != nil || r.Code != code || !bytes.Equal(r.Header, header) || !bytes.Equal(r.Body, body):
				t.Errorf("code %d, %d bytes: %v, %d came back", code, size, err, len(r.Body))
			}
			r.Release()
			<-tokens
			all.Done()
		}
		err := conn.Call(code, header, [][]byte{body[:cut], nil, body[cut:]}, done)
		for blocktree.KindOf(err) == blocktree.Busy {
			_ = conn.AwaitRoom(context.Background())
			err = conn.Call(code, header, [][]byte{body[:cut], nil, body[cut:]}, done)
		}
		if err != nil {
			t.Error(err)
			all.Done()
			return
		}
	}
}

func TestMessagesOverTheLimitAreRefusedHere(t *testing.T) {
	d := newDomain(t)
	sc := d.config("a")
	sc.Handler = HandlerFunc(func(r *Request) { r.Release(); r.Reply(nil, make([]byte, blocktree.FrameBodyBytesMax+1)) })
	_, r := d.listen(sc)
	conn := d.dial(d.client(d.config("b")), r)
	never := func(Reply, error) { t.Error("done was called") }
	if err := conn.Call(1, nil, [][]byte{make([]byte, blocktree.FrameBodyBytesMax+1)}, never); blocktree.KindOf(err) != blocktree.TooLarge {
		t.Error(err)
	}
	if err := conn.Call(1, make([]byte, blocktree.FrameHeaderBytesMax+1), nil, never); blocktree.KindOf(err) != blocktree.TooLarge {
		t.Error(err)
	}
	if err := conn.Send(1, nil, make([]byte, blocktree.FrameBodyBytesMax+1)); blocktree.KindOf(err) != blocktree.TooLarge {
		t.Error(err)
	}
	if _, err := conn.CallWait(context.Background(), 1, nil); blocktree.KindOf(err) != blocktree.TooLarge {
		t.Errorf("an answer over the limit: %v", err)
	}
}

func TestOneWay(t *testing.T) {
	carriersAndMemory(t, func(t *testing.T, transport Transport) {
		d := newDomain(t)
		got := make(chan string, 1)
		sc, cc := d.pair(transport)
		sc.Handler = HandlerFunc(func(r *Request) {
			got <- fmt.Sprint(r.OneWay, r.Code, string(r.Header), string(r.Body[:4]), len(r.Body))
			r.Release()
			r.Reply(nil) // dropped
		})
		_, r := d.listen(sc)
		conn := d.dial(d.client(cc), r)
		body := bytes.Repeat([]byte("abcd"), 20000)
		if err := conn.Send(9, []byte("head"), body); err != nil {
			t.Fatal(err)
		}
		clear(body) // Send copies
		if s := <-got; s != "true 9headabcd80000" {
			t.Fatal(s)
		}
	})
}

func TestNoHandlerYet(t *testing.T) {
	d := newDomain(t)
	e, r := d.listen(d.config("a"))
	conn := d.dial(d.client(d.config("b")), r)
	if _, err := conn.CallWait(context.Background(), 1, nil); blocktree.KindOf(err) != blocktree.Unavailable {
		t.Fatal(err)
	}
	e.SetHandler(echo)
	if _, err := conn.CallWait(context.Background(), 1, nil); err != nil {
		t.Fatal(err)
	}
}

func TestCallWaitEndsWithItsContext(t *testing.T) {
	carriersAndMemory(t, func(t *testing.T, transport Transport) {
		d := newDomain(t)
		held := make(chan *Request, 2)
		sc, cc := d.pair(transport)
		sc.Handler = HandlerFunc(func(r *Request) { held <- r })
		_, r := d.listen(sc)
		conn := d.dial(d.client(cc), r)
		ctx, cancel := context.WithCancel(context.Background())
		go func() { (<-held).Reply(nil, nil); held <- nil }() // only the second call's is answered in time
		r1 := make(chan error, 1)
		go func() {
			_, err := conn.CallWait(context.Background(), 1, nil)
			r1 <- err
		}()
		if err := <-r1; err != nil {
			t.Fatal(err)
		}
		<-held
		done := make(chan error, 1)
		go func() { _, err := conn.CallWait(ctx, 1, nil, make([]byte, 100000)); done <- err }()
		late := <-held
		cancel()
		if err := <-done; blocktree.KindOf(err) != blocktree.Canceled {
			t.Fatal(err)
		}
		late.Reply(nil, []byte("too late"))
		go func() { (<-held).Reply(nil) }()
		if _, err := conn.CallWait(context.Background(), 1, nil); err != nil {
			t.Fatalf("after a late answer: %v", err)
		}
	})
}

// frozen is a TCP forwarder that can stop forwarding without closing, as a peer whose machine hangs.
type frozen struct {
	addr  string
	stop  atomic.Bool
	close func()
}

func freezer(t *testing.T, to string) *frozen {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &frozen{addr: l.Addr().String()}
	var all sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	pipe := func(dst, src net.Conn) {
		b := make([]byte, 64<<10)
		for {
			n, err := src.Read(b)
			if err != nil {
				_ = dst.Close()
				return
			}
			if !f.stop.Load() {
				_, _ = dst.Write(b[:n])
			}
		}
	}
	all.Go(func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", to)
			if err != nil {
				_ = a.Close()
				continue
			}
			mu.Lock()
			conns = append(conns, a, b)
			mu.Unlock()
			all.Go(func() { pipe(a, b) })
			all.Go(func() { pipe(b, a) })
		}
	})
	f.close = sync.OnceFunc(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	t.Cleanup(f.close)
	return f
}

// TestDeadPeer lets the peer die in three ways with calls in flight: every done is called once, with Unavailable.
func TestDeadPeer(t *testing.T) {
	for _, way := range []string{"closes", "is cut off", "falls silent"} {
		t.Run(way, func(t *testing.T) {
			d := newDomain(t)
			var served atomic.Int32
			all := make(chan struct{})
			sc := d.config("a")
			sc.Handler = HandlerFunc(func(r *Request) {
				r.Release()
				if served.Add(1) == 100 {
					close(all)
				}
			})
			e, r := d.listen(sc)
			proxy := freezer(t, r.Endpoints[0])
			r.Endpoints = []string{proxy.addr}
			cc := d.config("b")
			cc.Transport = TCP
			conn := d.dial(d.client(cc), r)
			results := make(chan error, 200)
			for i := range 100 {
				body := make([]byte, i*100)
				if err := conn.Call(1, nil, [][]byte{body}, func(r Reply, err error) { clear(body); r.Release(); results <- err }); err != nil {
					t.Fatal(err)
				}
			}
			<-all
			switch way {
			case "closes":
				_ = e.Close()
			case "is cut off":
				proxy.close()
			case "falls silent":
				proxy.stop.Store(true)
			}
			for range 100 {
				if err := <-results; blocktree.KindOf(err) != blocktree.Unavailable {
					t.Fatalf("a call failed with %v", err)
				}
			}
			<-conn.Done()
			if len(results) > 0 {
				t.Fatal("done was called twice")
			}
			if err := conn.Err(); blocktree.KindOf(err) != blocktree.Unavailable {
				t.Fatal(err)
			}
			if err := conn.Call(1, nil, nil, func(Reply, error) { t.Error("done was called") }); blocktree.KindOf(err) != blocktree.Unavailable {
				t.Fatal(err)
			}
		})
	}
}

func TestQUICPeerFallsSilent(t *testing.T) {
	d := newDomain(t)
	sc := d.config("a")
	got := make(chan struct{})
	sc.Handler = HandlerFunc(func(r *Request) { r.Release(); close(got) })
	e, r := d.listen(sc)
	cc := d.config("b")
	cc.Transport = QUIC
	conn := d.dial(d.client(cc), r)
	failed := make(chan error, 1)
	if err := conn.Call(1, nil, nil, func(_ Reply, err error) { failed <- err }); err != nil {
		t.Fatal(err)
	}
	<-got
	e.mu.Lock()
	for c := range e.conns { // the peer's heart stops: its connection goroutine ends, its carrier stays
		c.mu.Lock()
		for _, l := range c.lanes {
			l.mu.Lock()
			l.dead = true
			l.mu.Unlock()
		}
		c.mu.Unlock()
	}
	e.mu.Unlock()
	if err := <-failed; blocktree.KindOf(err) != blocktree.Unavailable || !strings.Contains(err.Error(), "heartbeat") {
		t.Fatal(err)
	}
}

// TestSlowReader has a peer that takes nothing: calls fail once the lane's queue is full, whatever is asked for.
func TestSlowReader(t *testing.T) {
	carriersAndMemory(t, func(t *testing.T, transport Transport) {
		d := newDomain(t)
		gate := make(chan struct{})
		sc, cc := d.pair(transport)
		sc.Handler = HandlerFunc(func(r *Request) { <-gate; echo(r) })
		_, r := d.listen(sc)
		conn := d.dial(d.client(cc), r)
		body := [][]byte{make([]byte, copyBytesMax)}
		results := make(chan error, blocktree.RequestsPerConnectionMax)
		calls := 0
		for {
			err := conn.Call(1, nil, body, func(r Reply, err error) { r.Release(); results <- err })
			if err != nil {
				if blocktree.KindOf(err) != blocktree.Busy || conn.Err() != nil {
					t.Fatal(err, conn.Err())
				}
				break
			}
			calls++
		}
		full := false // else the table of calls was full first
		for _, l := range *conn.laneList.Load() {
			l.mu.Lock()
			full = full || l.copied > blocktree.LaneQueueBytesMax/2
			if l.copied > blocktree.LaneQueueBytesMax {
				t.Errorf("the lane holds %d bytes", l.copied)
			}
			l.mu.Unlock()
		}
		soon, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		if err := conn.AwaitRoom(soon); full && blocktree.KindOf(err) != blocktree.Timeout {
			t.Errorf("room in a full queue: %v", err)
		}
		cancel()
		close(gate)
		if err := conn.AwaitRoom(context.Background()); err != nil {
			t.Fatal(err)
		}
		for range calls {
			if err := <-results; err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestUnreadAnswers has a client that asks and never reads: the listener stops reading it.
func TestUnreadAnswers(t *testing.T) {
	carriers(t, func(t *testing.T, transport Transport) {
		d := newDomain(t)
		var served atomic.Int64
		big := make([]byte, 1<<20)
		sc := d.config("a")
		sc.stall = 300 * time.Millisecond
		sc.Handler = HandlerFunc(func(r *Request) { served.Add(1); r.Release(); r.Reply(nil, big) })
		e, r := d.listen(sc)
		p := rawDial(t, d, transport, d.config("raw"), r, true)
		sent := make(chan error, 1)
		go func() {
			for id := range uint64(1 << 20) { // far more than would be read
				if err := p.stage(frame{kind: frameRequest, id: id + 1}.append(nil)); err != nil {
					sent <- err
					return
				}
				if p.staged() > 4096 {
					if err := p.flush(); err != nil {
						sent <- err
						return
					}
				}
			}
			sent <- nil
		}()
		<-e.onlyConn(t).Done() // the listener gives up on a peer that takes nothing for laneStallTimeout, or on its silence
		p.close()
		if err := <-sent; err == nil {
			t.Fatal("everything was read")
		}
		if n := served.Load(); n > 100 {
			t.Fatalf("%d answers of a megabyte were made for nobody", n)
		}
	})
}

// onlyConn returns the endpoint's only connection.
func (e *Endpoint) onlyConn(t *testing.T) *Conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.conns {
		return c
	}
	t.Fatal("no connection")
	return nil
}

func TestFloodEndsTheConnection(t *testing.T) {
	d := newDomain(t)
	sc := d.config("a")
	sc.Handler = HandlerFunc(func(r *Request) { r.Release() }) // never answers
	e, r := d.listen(sc)
	p := rawDial(t, d, TCP, d.config("raw"), r, true)
	conn := e.onlyConn(t)
	for id := range uint64(blocktree.RequestsPerConnectionMax + 1) {
		if err := p.stage(frame{kind: frameRequest, id: id + 1}.append(nil)); err != nil {
			t.Fatal(err)
		}
	}
	_ = p.flush()
	<-conn.Done()
	if err := conn.Err(); blocktree.KindOf(err) != blocktree.TooLarge {
		t.Fatal(err)
	}
}

func TestTooManyCalls(t *testing.T) {
	d := newDomain(t)
	sc := d.config("a")
	sc.Handler = HandlerFunc(func(r *Request) { r.Release() })
	_, r := d.listen(sc)
	conn := d.dial(d.client(d.config("b")), r)
	var failed atomic.Int32
	for range blocktree.RequestsPerConnectionMax {
		if err := conn.Call(1, nil, nil, func(Reply, error) { failed.Add(1) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Call(1, nil, nil, func(Reply, error) {}); blocktree.KindOf(err) != blocktree.Busy || conn.Err() != nil {
		t.Fatal(err, conn.Err())
	}
	_ = conn.Close()
	if n := failed.Load(); n != blocktree.RequestsPerConnectionMax {
		t.Fatalf("%d calls failed", n)
	}
	if blocktree.KindOf(conn.Err()) != blocktree.Closed {
		t.Fatal(conn.Err())
	}
}

func TestCredentialsEndDuringAConnection(t *testing.T) {
	d := newDomain(t)
	sc := d.config("a")
	now := &movingClock{}
	sc.Clock = now
	e, r := d.listen(sc)
	conn := d.dial(d.client(d.config("b")), r)
	now.add.Store(int64(2 * time.Hour)) // for the listener, the client's credentials have ended
	<-conn.Done()
	_ = e.Close()
}

// movingClock is ahead of the system's.
type movingClock struct{ add atomic.Int64 }

func (c *movingClock) Now() time.Time      { return time.Now().Add(time.Duration(c.add.Load())) }
func (c *movingClock) Boot() time.Duration { return 0 }

// TestStallIsNotForgotten has the stall timeout pass between two writes: it bounds each of them, not the lane's life.
func TestStallIsNotForgotten(t *testing.T) {
	carriers(t, func(t *testing.T, transport Transport) {
		d := newDomain(t)
		sc, cc := d.config("a"), d.config("b")
		sc.Handler, cc.Transport = echo, transport
		sc.stall, cc.stall = time.Second, time.Second // on a busy machine 100 KB take a while
		_, r := d.listen(sc)
		conn := d.dial(d.client(cc), r)
		for range 2 {
			reply, err := conn.CallWait(context.Background(), 1, nil, make([]byte, 100000))
			if err != nil {
				t.Fatal(err)
			}
			reply.Release()
			time.Sleep(blocktree.HeartbeatInterval + sc.stall) // a heartbeat, and more
		}
	})
}
