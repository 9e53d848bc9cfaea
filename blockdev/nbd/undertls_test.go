package nbd

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// socketPair are two ends of a TCP connection.
func socketPair(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if theirs, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	if ours, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	return ours, theirs
}

// deadlined knows the deadline of writes to a socket.
type deadlined struct {
	*net.TCPConn
	deadline time.Time
}

func (d *deadlined) SetWriteDeadline(t time.Time) error {
	d.deadline = t
	return d.TCPConn.SetWriteDeadline(t)
}

// TestNoDeadlineAfterAKeyUpdate: the deadline of a key update, which the reader writes, is none of what is written long after it.
func TestNoDeadlineAfterAKeyUpdate(t *testing.T) {
	ours, _ := socketPair(t)
	d := &deadlined{TCPConn: ours.(*net.TCPConn)}
	u := newUnderTLS(d, time.Minute, func() bool { return false })
	u.patience(true)
	if _, err := u.Write([]byte("a key update")); err != nil {
		t.Fatal(err)
	}
	if !d.deadline.IsZero() { // a minute later
		if err := d.TCPConn.SetWriteDeadline(past()); err != nil {
			t.Fatal(err)
		}
	}
	u.hold()
	if _, err := u.Write([]byte("a reply")); err != nil {
		t.Fatal(err)
	}
	if done, err := u.tryHeld(); !done || err != nil {
		t.Errorf("done: %v, %v", done, err)
	}
}

// TestTryBesideAKeyUpdate: who must not wait does not wait for the reader, which writes a key update to a client that takes nothing.
func TestTryBesideAKeyUpdate(t *testing.T) {
	a := newAuthority(t)
	b := newBed(t, setup{tls: a.load(CertificatesNone)})
	c := b.secureDial(a.config()).attach2("")
	c.inSync()
	conn := b.onlyConn()
	until(t, "nobody writes", func() bool {
		conn.out.mu.Lock()
		defer conn.out.mu.Unlock()
		return !conn.out.writing
	})
	w := conn.out.w.tls
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.under.Write(make([]byte, 30*mib)) // more than both ends of a socket hold
	}()
	until(t, "it writes", func() bool {
		if !w.under.mu.TryLock() {
			return true
		}
		w.under.mu.Unlock()
		return false
	})
	tried := make(chan struct{})
	go func() {
		defer close(tried)
		if sealed, _, err := w.try([][]byte{[]byte("abc")}); sealed || err != nil {
			t.Errorf("sealed: %v, %v", sealed, err)
		}
	}()
	until(t, "it was tried", func() bool {
		select {
		case <-tried:
			return true
		default:
			return false
		}
	})
	conn.nc.Close()
	<-ended
}

// TestHeldUnderTLS: what a client does not take at once is kept, in order, before all that comes later, whoever writes it.
func TestHeldUnderTLS(t *testing.T) {
	ours, theirs := socketPair(t)
	u := newUnderTLS(ours, time.Minute, func() bool { return false })
	u.patience(true)
	var want []byte
	write := func(b []byte) {
		t.Helper()
		want = append(want, b...)
		if n, err := u.Write(b); n != len(b) || err != nil {
			t.Fatal(n, err)
		}
	}
	u.hold()
	write([]byte("first "))
	write(bytes.Repeat([]byte("much more than a socket takes "), 1<<20)) // 30 MiB, more than both ends of a socket hold
	if done, err := u.tryHeld(); done || err != nil {
		t.Fatalf("done: %v, %v", done, err)
	}
	write([]byte("a key update of the reader's "))
	if done, err := u.tryHeld(); done || err != nil {
		t.Fatalf("done: %v, %v", done, err)
	}
	got := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(theirs)
		got <- b
	}()
	if err := u.begin(3); err != nil {
		t.Fatal(err)
	}
	write([]byte("end"))
	if err := u.end(); err != nil {
		t.Fatal(err)
	}
	ours.Close()
	if b := <-got; !bytes.Equal(b, want) {
		t.Errorf("%d bytes arrived of %d, or others", len(b), len(want))
	}
}

// TestTryUnderTLS: a few replies are written by whoever has them, in order; of many nothing is sealed before somebody may wait.
func TestTryUnderTLS(t *testing.T) {
	a := newAuthority(t)
	b := newBed(t, setup{tls: a.load(CertificatesNone)})
	c := b.secureDial(a.config()).attach2("")
	c.inSync()
	out := &b.onlyConn().out
	until(t, "nobody writes", func() bool {
		out.mu.Lock()
		defer out.mu.Unlock()
		return !out.writing
	})
	w := &out.w
	if sealed, _, err := w.tls.try([][]byte{make([]byte, tlsTryBytesMax+1)}); sealed || err != nil || len(w.tls.under.held) > 0 {
		t.Errorf("sealed: %v, %v, %d bytes held", sealed, err, len(w.tls.under.held))
	}
	if sealed, done, err := w.tls.try([][]byte{[]byte("abc"), []byte("def")}); !sealed || !done || err != nil {
		t.Errorf("sealed: %v, done: %v, %v", sealed, done, err)
	}
	if got := string(c.take(6)); got != "abcdef" {
		t.Errorf("%q", got)
	}
}
