package bttp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
)

// itself starts a runtime with a handler, and dials it as the same runtime.
func (d *domain) itself(h Handler) (e, client *Endpoint, conn *Conn) {
	d.t.Helper()
	sc, cc := d.pair(Memory)
	sc.Handler = h
	e, r := d.listen(sc)
	client = d.client(cc)
	if conn = d.dial(client, r); conn.Transport() != Memory {
		d.t.Fatal(conn.Transport())
	}
	return e, client, conn
}

// TestOnlyOneselfIsMemory: whoever is not the runtime that listens, by key, by path or by process, comes over the network, and so does who dials another.
func TestOnlyOneselfIsMemory(t *testing.T) {
	d := newDomain(t)
	sc, cc := d.pair(Memory)
	sc.Handler = echo
	e, r := d.listen(sc)
	_, other := d.listen(d.config("other"))
	dialed := func(c Config, r blocktree.Runtime) Transport {
		t.Helper()
		client := d.client(c)
		defer client.Close()
		return d.dial(client, r).Transport()
	}
	if got := dialed(cc, r); got != Memory {
		t.Error("a runtime dials itself by", got)
	}
	for _, transport := range []Transport{TCP, QUIC} {
		c := cc
		c.Transport = transport
		if got := dialed(c, r); got != Memory {
			t.Error("with transport", transport, "a runtime dials itself by", got)
		}
		c.Loopback = nil
		if got := dialed(c, r); got != transport {
			t.Error("another process of the runtime dials it by", got)
		}
	}
	stranger := d.config("b")
	stranger.Loopback = cc.Loopback
	if got := dialed(stranger, r); got == Memory {
		t.Error("another runtime that has got the loopback dials by", got)
	}
	elsewhere := cc
	elsewhere.Credentials = d.issue(&elsewhere, blocktree.RootPath(d.root).Join("c"), time.Now().Add(time.Hour), blocktree.ServiceSector)
	if got := dialed(elsewhere, r); got == Memory {
		t.Error("the same key at another path dials by", got)
	}
	if got := dialed(cc, other); got == Memory {
		t.Error("another runtime is dialled by", got)
	}
	other.Path = ""
	if got := dialed(cc, other); got == Memory {
		t.Error("another runtime, wherever it is, is dialled by", got)
	}
	keyOnly := cc
	keyOnly.Credentials = nil
	if err := d.dialErr(d.client(keyOnly), r); blocktree.KindOf(err) != blocktree.Unauthenticated {
		t.Errorf("the key without credentials: %v", err)
	}
	far := r
	far.Path = "/elsewhere"
	client := d.client(cc)
	if err := d.dialErr(client, far); blocktree.KindOf(err) != blocktree.Unauthenticated {
		t.Errorf("itself at another path: %v", err)
	}
	far = r
	far.Services = []string{"fs"}
	if err := d.dialErr(client, far); blocktree.KindOf(err) != blocktree.Unauthenticated {
		t.Errorf("itself with a service that it has not: %v", err)
	}
	if got := d.dial(e, r).Transport(); got != Memory { // the listener itself
		t.Error("one endpoint dials itself by", got)
	}
}

// TestSelfIsJudged: who one is to oneself is what it would be to others, and a policy judges it.
func TestSelfIsJudged(t *testing.T) {
	d := newDomain(t)
	asked := make(chan *Conn, 1)
	e, _, conn := d.itself(HandlerFunc(func(r *Request) { asked <- r.Conn; echo(r) }))
	reply, err := conn.CallWait(t.Context(), 1, nil, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	reply.Release()
	far := <-asked
	if far.Peer().Path != e.Identity().Path || far.Peer().Principal != conn.Peer().Principal || !far.Peer().Allows(blocktree.ServiceSector) || far.Way() != Direct {
		t.Errorf("served as %+v", far.Peer())
	}
	for _, c := range []*Conn{conn, far} {
		if c.RemoteAddr() != e.Addrs()[0] {
			t.Errorf("at %s, not %s", c.RemoteAddr(), e.Addrs()[0])
		}
	}
	if s := e.Stats(); s.Memory != 1 || s.TCP+s.QUIC != 0 {
		t.Errorf("%+v", s)
	}
	sc, cc := d.pair(Memory)
	sc.Admit = func(cred.Identity) error { return blocktree.E("admit", blocktree.Permission, errors.New("nobody")) }
	_, r := d.listen(sc)
	if err := d.dialErr(d.client(cc), r); blocktree.KindOf(err) != blocktree.Permission {
		t.Errorf("where nobody is admitted: %v", err)
	}
}

// TestSelfListensAnew: a runtime whose listener closes loses the connection, is not there meanwhile, and is reached again, in memory, when it listens again.
func TestSelfListensAnew(t *testing.T) {
	d := newDomain(t)
	sc, cc := d.pair(Memory)
	sc.Handler = echo
	e, r := d.listen(sc)
	client := d.client(cc)
	conn := d.dial(client, r)
	_ = e.Close()
	<-conn.Done()
	if err := conn.Err(); blocktree.KindOf(err) != blocktree.Unavailable {
		t.Fatal(err)
	}
	if err := d.dialErr(client, r); blocktree.KindOf(err) != blocktree.Unavailable {
		t.Fatal(err)
	}
	sc.Addrs = r.Endpoints
	d.listen(sc)
	if again := d.dial(client, r); again.Transport() != Memory {
		t.Fatal(again.Transport())
	}
}

// TestSelfIsAwaited: who dials its own runtime before that listens, as a node's clients do when it starts, reaches it in memory and not at the address where it listens.
func TestSelfIsAwaited(t *testing.T) {
	d := newDomain(t)
	sc, cc := d.pair(Memory)
	e, r := d.listen(sc)
	_ = e.Close()
	client := d.client(cc)
	got := make(chan *Conn, 1)
	go func() {
		for { // an attempt may end before it listens
			c, err := client.Dial(context.Background(), r)
			if err == nil || blocktree.KindOf(err) != blocktree.Unavailable {
				got <- c
				return
			}
		}
	}()
	l := cc.Loopback
	await(t, "the dial", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.begins != nil
	})
	sc.Addrs = r.Endpoints
	d.listen(sc)
	if c := <-got; c == nil || c.Transport() != Memory {
		t.Fatal("memory is not used")
	}
}

// TestLoopbackAwait: who waits gets who listens when that begins, or the end of its patience.
func TestLoopbackAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Loopback
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun, e := time.Now(), &Endpoint{}
		time.AfterFunc(time.Second/4, func() { l.listen(e) })
		if got, err := l.await(ctx); got != e || err != nil || time.Since(begun) != time.Second/4 {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		l.leave(&Endpoint{}) // one of before
		if got, _ := l.await(ctx); got != e {
			t.Error("nobody listens")
		}
		l.leave(e)
		if got, err := l.await(ctx); got != nil || blocktree.KindOf(err) != blocktree.Unavailable || time.Since(begun) != time.Second {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
	})
}

// TestSelfCallsItself has a handler call its own runtime, by the connection that it is called by and by one of its own, and answer in place, while every queue and pipe on the
// way is full: it goes on, as between two processes.
func TestSelfCallsItself(t *testing.T) {
	d := newDomain(t)
	const calls = 24 // 12 MiB each way in each of three directions, where 255 KiB have room
	big := pattern(make([]byte, 512<<10), 1)
	answers := make(chan error, 3*calls)
	call := func(c *Conn, code uint16) {
		err := c.Call(code, nil, [][]byte{big}, func(r Reply, err error) {
			if err == nil && !bytes.Equal(r.Body, big) {
				err = errors.New("another body")
			}
			r.Release()
			answers <- err
		})
		if err != nil {
			answers <- err
		}
	}
	var back *Conn // the listener's own connection to itself
	e, client, conn := d.itself(HandlerFunc(func(r *Request) {
		if r.Code == 0 {
			call(r.Conn, 1)
			call(back, 1)
		}
		echo(r)
	}))
	client.SetHandler(echo)
	id := e.Identity()
	back = d.dial(e, blocktree.Runtime{Path: id.Path, Principal: id.Principal, Endpoints: e.Addrs()})
	for range calls {
		call(conn, 0)
	}
	for range 3 * calls {
		if err := <-answers; err != nil {
			t.Fatal(err)
		}
	}
}

// TestSelfAnswersBothWays has both ends of a lane answer in place, each much more than has room, while neither reads.
func TestSelfAnswersBothWays(t *testing.T) {
	d := newDomain(t)
	big := pattern(make([]byte, 1<<20), 2)
	far := make(chan *Conn, 1)
	var both sync.WaitGroup
	both.Add(2)
	handler := HandlerFunc(func(r *Request) {
		if r.Code == 0 {
			far <- r.Conn
			echo(r)
			return
		}
		both.Done()
		both.Wait()
		r.ReplyThen(r.Release, nil, big)
	})
	_, client, conn := d.itself(handler)
	client.SetHandler(handler)
	reply, err := conn.CallWait(t.Context(), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	reply.Release()
	answers := make(chan error, 2)
	for _, c := range []*Conn{conn, <-far} {
		if err := c.CallBulk(1, nil, nil, func(r Reply, err error) {
			if err == nil && !bytes.Equal(r.Body, big) {
				err = errors.New("another body")
			}
			r.Release()
			answers <- err
		}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := <-answers; err != nil {
			t.Fatal(err)
		}
	}
}

// TestSelfClosedInTheMiddle closes either end while a long message is on its way that the other does not read: calls fail, once each, bodies are given back, nobody waits.
func TestSelfClosedInTheMiddle(t *testing.T) {
	for _, who := range []string{"who asks", "who serves", "the connection"} {
		t.Run(who, func(t *testing.T) {
			d := newDomain(t)
			gate, got := make(chan struct{}), make(chan struct{}, 1)
			e, client, conn := d.itself(HandlerFunc(func(r *Request) {
				if got <- struct{}{}; r.OneWay {
					<-gate
				}
				r.Release()
			}))
			if err := conn.Send(1, nil, make([]byte, bulkBytes)); err != nil { // the bulk lane's reader is inside the handler
				t.Fatal(err)
			}
			<-got
			const calls = 4
			failed := make(chan error, calls+1)
			for range calls {
				body := make([]byte, blocktree.FrameBodyBytesMax)
				if err := conn.Call(1, nil, [][]byte{body}, func(r Reply, err error) { clear(body); r.Release(); failed <- err }); err != nil {
					t.Fatal(err)
				}
			}
			var closed sync.WaitGroup
			kind := blocktree.Closed
			switch who {
			case "who asks":
				closed.Go(func() { _ = client.Close() })
			case "who serves":
				kind = blocktree.Unavailable
				closed.Go(func() { _ = e.Close() })
			default:
				closed.Go(func() { _ = conn.Close() })
			}
			for range calls {
				if err := <-failed; blocktree.KindOf(err) != kind {
					t.Errorf("a call failed with %v", err)
				}
			}
			close(gate)
			closed.Wait()
			<-conn.Done()
			if len(failed) > 0 {
				t.Error("done was called twice")
			}
		})
	}
}

// TestSelfRevoked: whose credentials are revoked, or have ended, has no connection with itself either, and one with new ones is known by these.
func TestSelfRevoked(t *testing.T) {
	d := newDomain(t)
	clock := &movingClock{}
	sc, cc := d.pair(Memory)
	sc.Handler, sc.Clock, cc.Clock = echo, clock, clock
	e, r := d.listen(sc)
	client := d.client(cc)
	conn := d.dial(client, r)
	until := time.Now().Add(150 * time.Minute).Truncate(time.Second)
	chain := d.issue(&cc, r.Path, until, blocktree.ServiceSector)
	if err := errors.Join(client.SetCredentials(chain), e.SetCredentials(chain)); err != nil {
		t.Fatal(err)
	}
	far := e.onlyConn(t)
	await(t, "the renewal", func() bool { return far.Peer().NotAfter.Equal(until) && conn.Peer().NotAfter.Equal(until) })
	clock.add.Store(int64(2 * time.Hour)) // the first ones have ended
	_ = conn.Close()
	if conn = d.dial(client, r); conn.Transport() != Memory || !conn.Peer().NotAfter.Equal(until) {
		t.Fatal(conn.Transport(), conn.Peer().NotAfter)
	}
	e.SetRefused(func(id cred.Identity) error {
		return blocktree.E("revoked", blocktree.Unauthenticated, errors.New("it was revoked"))
	})
	<-conn.Done()
	if err := d.dialErr(client, r); blocktree.KindOf(err) != blocktree.Unauthenticated {
		t.Fatalf("revoked, and dialled again: %v", err)
	}
	e.SetRefused(func(cred.Identity) error { return nil })
	conn = d.dial(client, r)
	clock.add.Store(int64(3 * time.Hour))
	<-conn.Done()
	if err := d.dialErr(client, r); blocktree.KindOf(err) != blocktree.Unauthenticated && blocktree.KindOf(err) != blocktree.Permission {
		t.Fatalf("with credentials that have ended: %v", err)
	}
}

// TestRelayByOneself goes to another runtime by way of one's own listener: what hangs on a connection in memory is passed on as what hangs on any.
func TestRelayByOneself(t *testing.T) {
	d := newDomain(t)
	tc := d.config("target")
	tc.Handler = echo
	target, r := d.listen(tc)
	sc, cc := d.pair(Memory)
	var gateway *Endpoint
	var standing *Conn
	sc.Relay = func(blocktree.Principal) *Conn { return standing }
	gateway, own := d.listen(sc)
	standing = d.dial(gateway, r)
	client := d.client(cc)
	via, err := client.DialVia(t.Context(), d.dial(client, own), r)
	if err != nil {
		t.Fatal(err)
	}
	body := pattern(make([]byte, 1<<20), 3)
	reply, err := via.CallWait(t.Context(), 1, nil, body)
	if err != nil || !bytes.Equal(reply.Body, body) {
		t.Fatal(err)
	}
	reply.Release()
	if via.Via() != own.Path || via.Peer().Path != r.Path {
		t.Error(via.Via(), via.Peer().Path)
	}
	_ = target.Close()
	<-via.Done()
	eventually(t, "relays are counted", func() bool { return gateway.Stats().Relays == 0 })
}

// TestMemoryCarrier is what a lane asks of a carrier, of the one in memory alone.
func TestMemoryCarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := newMemoryCarriers(time.Minute)
		begun := time.Now()
		piece, total := pattern(make([]byte, stageBytesMax), 5), 0
		put := func() bool {
			t.Helper()
			if err := near.stage(piece); err != nil || near.staged() != len(piece) {
				t.Fatal(err, near.staged())
			}
			sent, err := near.tryFlush()
			if err != nil || sent != (near.staged() == 0) {
				t.Fatal(sent, err, near.staged())
			}
			total += len(piece)
			return sent
		}
		if far.inputReady() {
			t.Error("something is ready where nothing was sent")
		}
		for put() {
			if total > memoryBytesMax {
				t.Fatal("it takes more than it has room for")
			}
		}
		if time.Since(begun) != 0 {
			t.Error("a try waits")
		}
		if total != memoryBytesMax+len(piece) || !far.inputReady() {
			t.Errorf("%d bytes were taken", total)
		}
		if err := near.flush(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begun) != time.Minute {
			t.Errorf("where nobody reads, after %v: %v", time.Since(begun), err)
		}
		flushed := make(chan error, 1)
		go func() { flushed <- near.flush() }()
		synctest.Wait()
		got := make([]byte, total)
		if _, err := io.ReadFull(far, got); err != nil || <-flushed != nil || near.staged() != 0 {
			t.Fatal(err)
		}
		for at := 0; at < total; at += len(piece) {
			if !bytes.Equal(got[at:at+len(piece)], piece) {
				t.Fatalf("at %d another piece came", at)
			}
		}
	})
}

// TestMemoryCarrierCloses is its end: a reader that waits is woken by the first byte, the last ones arrive, and nothing is sent any more.
func TestMemoryCarrierCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := newMemoryCarriers(time.Minute)
		piece, got := make([]byte, 2), make([]byte, 16)
		ends := make(chan error, 1)
		go func() { _, err := far.Read(got); ends <- err }()
		synctest.Wait()
		_ = near.stage(piece[:1])
		if sent, err := near.tryFlush(); !sent || err != nil {
			t.Fatal(err)
		}
		if err := <-ends; err != nil {
			t.Fatal(err)
		}
		_ = near.stage(piece[:2])
		_, _ = near.tryFlush()
		near.close()
		if n, err := far.Read(got); n != 2 || err != nil {
			t.Errorf("what was sent before the end: %d bytes, %v", n, err)
		}
		if _, err := far.Read(got); err != io.EOF || !far.inputReady() {
			t.Error(err)
		}
		if _, err := near.Read(got); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		for _, c := range []*memoryCarrier{near, far} {
			_ = c.stage(piece[:1])
			if sent, err := c.tryFlush(); sent || err == nil {
				t.Error("something is sent that nobody reads")
			}
			if err := c.flush(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
		}
	})
}

// TestMemoryCloseWrite: of a carrier that is passed on each direction ends by itself.
func TestMemoryCloseWrite(t *testing.T) {
	near, far := newMemoryCarriers(time.Hour)
	passed := &relayed{carrier: near, in: testReader(near)}
	if _, err := passed.Write([]byte("last")); err != nil {
		t.Fatal(err)
	}
	if err := passed.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(far); err != nil || string(got) != "last" {
		t.Errorf("%q, %v", got, err)
	}
	_ = far.stage([]byte("words"))
	if err := far.flush(); err != nil {
		t.Error(err)
	}
	far.close()
	if got, err := io.ReadAll(passed); err != nil || string(got) != "words" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestMemoryCarrierEnds unblocks whoever waits at either end of a pipe.
func TestMemoryCarrierEnds(t *testing.T) {
	for _, byReader := range []bool{false, true} {
		near, far := newMemoryCarriers(time.Hour)
		for sent := true; sent; {
			_ = near.stage(make([]byte, stageBytesMax))
			sent, _ = near.tryFlush()
		}
		ends := make(chan error, 2)
		go func() { ends <- near.flush() }()
		go func() { _, err := near.Read(make([]byte, 1)); ends <- err }()
		if byReader {
			far.close()
		} else {
			near.close()
		}
		for range 2 {
			if err := <-ends; err == nil {
				t.Error("no error at the end")
			}
		}
	}
}
