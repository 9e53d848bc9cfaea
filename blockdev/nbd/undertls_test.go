package nbd

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// TestHeldUnderTLS: what a client does not take at once is kept, in order, before all that comes later, whoever writes it.
func TestHeldUnderTLS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	theirs, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	ours, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
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
	u.hold(true)
	write([]byte("first "))
	write(bytes.Repeat([]byte("much more than a socket takes "), 1<<20)) // 30 MiB, more than both ends of a socket hold
	u.hold(false)
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
