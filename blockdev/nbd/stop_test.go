package nbd

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"

	"blocktree"
	"blocktree/blockdev/memfile"
)

// TestStop closes the server while a write is held: the write is finished and answered, requests that come meanwhile are not answered, so
// that who reconnects repeats them, options are refused by name, and then everybody is let go.
func TestStop(t *testing.T) {
	g := newGate(func(c memfile.Call) bool { return c.Op == memfile.Write })
	b := newBed(t, setup{file: g.options()})
	busy, idle, negotiating := b.attach(), b.attach(), b.dial().hello(clientFlags)
	part := b.attach()
	part.send(append(header(cmdWrite, 0, 1, 0, 200000), make([]byte, 100000)...)) // never to be sent in full
	busy.send(append(header(cmdWrite, 0, 7, 0, 4096), make([]byte, 4096)...))
	until(t, "the write is held", func() bool { return g.held.Load() == 1 })
	closed := make(chan error, 1)
	go func() { closed <- b.srv.Close(context.Background()) }()
	until(t, "the server is stopping", b.srv.stopping.Load)
	idle.closed()
	part.closed()
	busy.send(header(cmdRead, 0, 8, 0, 4096))
	busy.send(append(header(cmdWrite, 0, 9, 0, 70000), make([]byte, 70000)...))
	for _, id := range []uint32{optGo, optInfo, optList, 99} {
		if got := negotiating.ask(id, nil); got.last() != errTypeShutdown {
			t.Fatalf("%v", got)
		}
	}
	if _, err := net.Dial("unix", b.socket); err == nil {
		t.Fatal("still listening")
	}
	select {
	case err := <-closed:
		t.Fatalf("Close did not wait: %v", err)
	default:
	}
	close(g.release)
	busy.wantReply(7, 0)
	busy.closed()
	negotiating.closed()
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if err := b.srv.Close(context.Background()); err != nil {
		t.Fatalf("closing again: %v", err)
	}
}

// TestStopImpatiently cuts off what does not end.
func TestStopImpatiently(t *testing.T) {
	g := newGate(func(c memfile.Call) bool { return c.Op != memfile.Flush }) // for ever
	b := newBed(t, setup{file: g.options()})
	c := b.attach()
	c.send(header(cmdRead, 0, 1, 0, 4096))
	c.send(append(header(cmdWrite, 0, 2, 8192, 4096), make([]byte, 4096)...))
	until(t, "both are held", func() bool { return g.held.Load() == 2 })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := b.srv.Close(ctx); blocktree.KindOf(err) != blocktree.Canceled {
		t.Fatalf("got %v", err)
	}
}

// TestServeEndsWithContext: the context of Serve stops the server too, and a stopped one serves nothing.
func TestServeEndsWithContext(t *testing.T) {
	b := newBed(t, setup{})
	ctx, cancel := context.WithCancel(context.Background())
	s := NewServer(Config{Exports: b.exports})
	l, err := Listen("unix:"+filepath.Join(t.TempDir(), "t"), SocketMode)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- s.Serve(ctx, l) }()
	nc, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := greeted(t, nc).attach("")
	c.inSync()
	cancel()
	c.closed()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	late, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(context.Background(), late); err != nil {
		t.Fatal(err)
	}
	if _, err := late.Accept(); err == nil {
		t.Fatal("a stopped server left a listener open")
	}
}

// TestServeReportsALostListener: a listener that fails for good ends Serve with an error.
func TestServeReportsALostListener(t *testing.T) {
	b := newBed(t, setup{})
	s := NewServer(Config{Exports: b.exports})
	err := s.Serve(context.Background(), brokenListener{})
	if blocktree.KindOf(err) != blocktree.IO {
		t.Fatalf("got %v", err)
	}
}

type brokenListener struct{}

func (brokenListener) Accept() (net.Conn, error) { return nil, blocktree.E("test", blocktree.IO, nil) }
func (brokenListener) Close() error              { return nil }
func (brokenListener) Addr() net.Addr            { return &net.UnixAddr{Name: "broken", Net: "unix"} }

// countWritten counts the sectors that are written.
func countWritten(sectors *atomic.Uint64) func(context.Context, memfile.Call) error {
	return func(_ context.Context, c memfile.Call) error {
		if c.Op == memfile.Write {
			sectors.Add(c.Count)
		}
		return nil
	}
}

// TestStopUnderLoad stops the server while clients of unix and TCP have many writes under way: each is answered without an error, or not
// answered. An error of any kind would be an I/O error of the kernel's, whose file system loses what it wrote then.
func TestStopUnderLoad(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			var sectors atomic.Uint64 // written: several writes may be one of the file
			b := newBed(t, setup{file: memfile.Options{Hook: countWritten(&sectors)}})
			listen := "unix:" + filepath.Join(t.TempDir(), "s")
			if network == "tcp" {
				listen = "tcp:127.0.0.1:0"
			}
			l, err := Listen(listen, SocketMode)
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan error, 1)
			go func() { served <- b.srv.Serve(context.Background(), l) }()
			nc, err := net.Dial(network, l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			c := &client{t: t, nc: nc, br: bufio.NewReader(nc)}
			t.Cleanup(func() { nc.Close() })
			c.take(handshakeBytes)
			c.hello(clientFlags).ask(optGo, infoRequest{name: "/vm/disk0"}.encode())
			sent := make(chan uint64, 1)
			go func() { // until the connection ends
				handle := uint64(0)
				for {
					handle++
					if _, err := nc.Write(append(header(cmdWrite, 0, handle, 8192*(handle%16), 8192), make([]byte, 8192)...)); err != nil {
						break
					}
				}
				sent <- handle
			}()
			answered := uint64(0)
			take := func() bool {
				var reply [simpleReplyBytes]byte
				if _, err := io.ReadFull(c.br, reply[:]); err != nil {
					return false
				}
				answered++
				if errno := binary.BigEndian.Uint32(reply[4:]); errno != 0 {
					t.Fatalf("answer %d is error %d", answered, errno)
				}
				return true
			}
			for range 500 {
				if !take() {
					t.Fatal("the connection ended before the server stopped")
				}
			}
			closed := make(chan error, 1)
			go func() { closed <- b.srv.Close(context.Background()) }()
			for take() {
			}
			nc.Close() // as the kernel does when the server has
			if err := <-closed; err != nil {
				t.Error(err)
			}
			if n, done := <-sent, sectors.Load()/2; answered > n || answered != done {
				t.Errorf("%d answers to %d writes, of which %d were done", answered, n, done)
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}
