package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"blocktree/blockdev/memfile"
)

// TestHangUpIsNotHurried: a connection that has begun to hang up has the time for it, whoever else finds that it is to end. Closing it at once, with
// requests unread, would reset it, and what it was answered last would be lost.
func TestHangUpIsNotHurried(t *testing.T) {
	server, client := net.Pipe()
	nc := &halfClosed{Conn: server, deadlines: make(chan time.Time, 4)}
	c := newConn(NewServer(Config{}), nc)
	defer c.cut()
	hungUp := make(chan struct{})
	go func() {
		defer close(hungUp)
		c.hangUp()
	}()
	<-nc.deadlines // it has begun
	c.out.retire() // as Close does, of each connection that it finds
	select {
	case d := <-nc.deadlines:
		t.Errorf("the deadline was changed to %v", d)
	default:
	}
	client.Close()
	<-hungUp
}

// halfClosed is a connection that can end what it says, and tells of its deadlines.
type halfClosed struct {
	net.Conn
	deadlines chan time.Time
}

func (c *halfClosed) CloseWrite() error { return nil }

func (c *halfClosed) SetReadDeadline(d time.Time) error {
	c.deadlines <- d
	return c.Conn.SetReadDeadline(d)
}

// TestImpatientStopTellsNoErrors: who stops and waits no longer cuts connections off first and gives requests up then. The other way round a client
// would be told of an I/O error, which its kernel believes.
func TestImpatientStopTellsNoErrors(t *testing.T) {
	g := newGate(func(c memfile.Call) bool { return c.Op == memfile.Write })
	b := newBed(t, setup{file: g.options()})
	c := b.attach()
	c.send(append(header(cmdWrite, 1, 2, 8192, 4096), make([]byte, 4096)...))
	until(t, "it is held", func() bool { return g.held.Load() == 1 })
	b.srv.mu.Lock() // so that cutting off waits
	cut := make(chan struct{})
	go func() {
		defer close(cut)
		b.srv.cutAll()
	}()
	c.nc.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := c.br.Read(make([]byte, 16)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("an answer of %d bytes, %v", n, err)
	}
	b.srv.mu.Unlock()
	<-cut
	c.nc.SetReadDeadline(time.Now().Add(patience))
	c.closed()
}

// TestCutTellsNoErrors: of one connection, too, reads are given up when nobody can hear of it any more.
func TestCutTellsNoErrors(t *testing.T) {
	server, client := net.Pipe()
	defer client.Close()
	nc := &onClose{Conn: server}
	c := newConn(NewServer(Config{}), nc)
	nc.do = func() {
		if c.ctx.Err() != nil {
			t.Error("reads are given up before the connection is closed")
		}
		nc.do = func() {}
	}
	c.cut()
	if c.ctx.Err() == nil {
		t.Error("reads go on")
	}
}

// onClose is a connection that does something when it is closed.
type onClose struct {
	net.Conn
	do func()
}

func (c *onClose) Close() error {
	c.do()
	return c.Conn.Close()
}

// TestWaitingForTheServerIsNoRest: a client for which the server had to look something up has all of its time for what it says next.
func TestWaitingForTheServerIsNoRest(t *testing.T) {
	var o onDemand
	b := newBed(t, setup{config: Config{Demand: o.demand(t)}})
	nc, _ := net.Pipe()
	c := newConn(b.srv, nc)
	defer c.cut()
	c.began = time.Now().Add(-time.Hour)
	c.decideBy = time.Now().Add(time.Hour)
	c.moved.Store(1) // it said something an hour ago
	if _, err := c.choose("/vm/a", false); err != nil {
		t.Fatal(err)
	}
	if still := time.Since(c.began) - time.Duration(c.moved.Load()); still > time.Minute {
		t.Errorf("it counts as still for %v", still)
	}
}

// TestStopWhileExportsAreDescribed: who waits for what an export is, is told that the server stops, whichever option asked.
func TestStopWhileExportsAreDescribed(t *testing.T) {
	o := onDemand{statGate: make(chan struct{})}
	b := newBed(t, setup{config: Config{Demand: o.demand(t)}})
	c, d := b.dial().hello(clientFlags), b.dial().hello(clientFlags)
	if got := d.ask(optStructuredReply, nil); got.last() != ack {
		t.Fatalf("%v", got)
	}
	q := infoRequest{name: "/vm/a"}.encode()
	c.option(optInfo, uint32(len(q)), q)
	m := metaQuery{"/vm/a", []string{metaContext}}.encode()
	d.option(optSetMeta, uint32(len(m)), m)
	until(t, "both wait", func() bool { return len(b.srv.awaiting) == 2 })
	if err := b.srv.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := c.replies(optInfo); got.last() != errTypeShutdown {
		t.Errorf("INFO: %v", got)
	}
	if got := d.replies(optSetMeta); got.last() != errTypeShutdown {
		t.Errorf("SET_META_CONTEXT: %v", got)
	}
}

// TestStopEndsTLS: a client under TLS can tell the end of a server that stops from a cut connection.
func TestStopEndsTLS(t *testing.T) {
	a := newAuthority(t)
	b := newBed(t, setup{tls: a.load(CertificatesNone)})
	cfg := a.config()
	cfg.MaxVersion = tls.VersionTLS12 // where an alert is told from data by its first byte
	c := b.dial().hello(clientFlags)
	heard := &recorded{Conn: c.nc}
	c.nc = heard
	if _, err := c.startTLS(cfg); err != nil {
		t.Fatal(err)
	}
	c.attach2("").inSync()
	heard.bytes = nil
	stopped := make(chan error, 1)
	go func() { stopped <- b.srv.Close(context.Background()) }()
	c.closed()
	c.nc.Close()
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if len(heard.bytes) == 0 || heard.bytes[0] != 0x15 {
		t.Errorf("the last it heard is %x", heard.bytes)
	}
}

// recorded keeps what was read.
type recorded struct {
	net.Conn
	bytes []byte
}

func (r *recorded) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.bytes = append(r.bytes, p[:n]...)
	return n, err
}
