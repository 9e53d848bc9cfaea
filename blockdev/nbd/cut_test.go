package nbd

import (
	"bytes"
	"crypto/tls"
	"net"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"

	"blocktree/blockdev"
)

// TestEndAnywhere ends a whole conversation after every byte of it, the client still listening: what was said in full is answered as if the rest had
// come, what was not is not, and nothing is left.
func TestEndAnywhere(t *testing.T) {
	for _, s := range styles {
		say := conversation(s)
		want := answers(t, say, 0)
		most := 0
		for n := range len(say) + 1 {
			got := answers(t, say[:n], 0)
			if !bytes.HasPrefix(want, got) || len(got) < most {
				t.Fatalf("%v: ended after %d of %d bytes: other answers", s, n, len(say))
			}
			most = len(got)
		}
		if most != len(want) {
			t.Fatalf("%v: %d of %d bytes of answers", s, most, len(want))
		}
	}
}

// cutScript is a connection that is reset when the server has read all that the client said. Until then the client listens.
type cutScript struct {
	scripted
	cut atomic.Bool
}

func (c *cutScript) Read(p []byte) (int, error) {
	n, err := c.scripted.Read(p)
	if err != nil {
		c.cut.Store(true)
		return 0, syscall.ECONNRESET
	}
	return n, nil
}

func (c *cutScript) Write(p []byte) (int, error) {
	if c.cut.Load() {
		return 0, syscall.EPIPE
	}
	return len(p), nil
}

func (c *cutScript) Close() error {
	c.cut.Store(true)
	return nil
}

// cuts are the ways in which a connection can end in the middle of what the client says.
func cuts() map[string]func(t *testing.T, say []byte) net.Conn {
	return map[string]func(t *testing.T, say []byte) net.Conn{
		"when all is read": func(_ *testing.T, say []byte) net.Conn {
			return &cutScript{scripted: scripted{Reader: bytes.NewReader(say)}}
		},
		"before anything is answered": func(t *testing.T, say []byte) net.Conn {
			ours, theirs := pair(t)
			if _, err := ours.Write(say); err != nil {
				t.Fatal(err)
			}
			ours.Close()
			return theirs
		},
	}
}

// TestCutAnywhere cuts the connection off after every byte of a whole conversation: its memory, its goroutines, its place among those who negotiate and
// its use of the export come back, also where requests go on by themselves.
func TestCutAnywhere(t *testing.T) {
	for name, cut := range cuts() {
		for _, prompt := range []bool{true, false} {
			for _, s := range styles {
				stage := newStage(t, prompt)
				before := runtime.NumGoroutine()
				say := conversation(s)
				for n := range len(say) + 1 {
					stage.serve(cut(t, say[:n]), nil)
				}
				until(t, name+": all goroutines have ended", func() bool { return runtime.NumGoroutine() <= before })
				stage.close()
			}
		}
	}
}

// TestCutReleasesDemand: an export on demand is given back, wherever its client was cut off, and closed.
func TestCutReleasesDemand(t *testing.T) {
	var o onDemand
	demand := o.demand(t)
	srv := NewServer(Config{Exports: new(blockdev.Exports), Demand: demand})
	say := bytes.ReplaceAll(conversation(structured), []byte("/vm/disk0"), []byte("/vm/a////")) // as long
	for n := range len(say) + 1 {
		newConn(srv, cuts()["when all is read"](t, say[:n])).serve(func() {})
	}
	if o.opens.Load() == 0 {
		t.Fatal("nothing was opened")
	}
	until(t, "all that was opened is closed", func() bool { return o.closes.Load() == o.opens.Load() && len(demand.List()) == 0 })
	if err := srv.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestCutUnderTLS closes the connection after every byte that a client under TLS sends: of its handshake, and of records.
func TestCutUnderTLS(t *testing.T) {
	a := newAuthority(t)
	secure := a.load(CertificatesRequired)
	own, _ := a.client("vm1", edKey(t))
	cfg := a.config(own)
	cfg.CurvePreferences = []tls.CurveID{tls.X25519} // the shortest handshake
	stage := newStage(t, true)
	before := runtime.NumGoroutine()
	whole := false
	for n := 0; !whole; n++ {
		ours, theirs := pair(t)
		cut := &cutConn{Conn: ours, left: n}
		spoken := make(chan bool, 1)
		go func() { spoken <- speakTLS(cut, cfg) }()
		stage.serve(theirs, secure)
		whole = <-spoken
		ours.Close()
		if n > 100000 {
			t.Fatal("it never got through")
		}
	}
	until(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= before })
	stage.close()
}

// speakTLS has a short conversation under TLS, and reports whether all of it was sent.
func speakTLS(nc net.Conn, cfg *tls.Config) bool {
	defer nc.Close()
	if _, err := nc.Write(appendOption([]byte{0, 0, 0, 3}, optStartTLS, nil)); err != nil {
		return false
	}
	if !discard(nc, handshakeBytes+replyHeaderBytes) {
		return false
	}
	secure := tls.Client(nc, cfg)
	if secure.Handshake() != nil {
		return false
	}
	say := appendOption(nil, optGo, infoRequest{name: "/vm/disk0"}.encode())
	say = append(append(say, header(cmdWrite, 0, 1, 5, 3)...), "abc"...)
	for _, part := range [][]byte{say, header(cmdRead, 0, 2, 0, 100), header(cmdDisc, 0, 3, 0, 0)} {
		if _, err := secure.Write(part); err != nil {
			return false
		}
	}
	return true
}

func discard(nc net.Conn, n int) bool {
	for b := make([]byte, n); len(b) > 0; {
		got, err := nc.Read(b)
		if err != nil {
			return false
		}
		b = b[got:]
	}
	return true
}

// cutConn is closed when so many bytes have been written to it.
type cutConn struct {
	net.Conn
	left int
}

func (c *cutConn) Write(b []byte) (int, error) {
	if len(b) <= c.left {
		c.left -= len(b)
		return c.Conn.Write(b)
	}
	n, _ := c.Conn.Write(b[:c.left])
	c.left = 0
	c.Close()
	return n, net.ErrClosed
}
