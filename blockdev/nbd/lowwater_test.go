package nbd

import (
	"bytes"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newTCPBed is a bed at a TCP port, with TLS if o says so.
func newTCPBed(t *testing.T, o setup) *bed {
	t.Helper()
	o.file.Info.SizeBytes = 4 * mib
	o.listener = func(t testing.TB) net.Listener {
		l, err := Listen("tcp:127.0.0.1:0", SocketMode)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	b := newBed(t, o)
	return b
}

// dialTCP attaches a client to the export, over TLS if cfg is one.
func (b *bed) dialTCP(cfg *tls.Config) *client {
	b.t.Helper()
	nc, err := net.Dial("tcp", b.l.Addr().String())
	if err != nil {
		b.t.Fatal(err)
	}
	c := greeted(b.t, nc).hello(clientFlags)
	if cfg == nil {
		c.greets = true
		return c.attach("/vm/disk0")
	}
	if _, err := c.startTLS(cfg); err != nil {
		b.t.Fatal(err)
	}
	return c.attach2("")
}

// lowWaterNow is what the kernel waits for on the only connection.
func (b *bed) lowWaterNow() int {
	b.t.Helper()
	raw, err := b.onlyConn().nc.(*net.TCPConn).SyscallConn()
	if err != nil {
		b.t.Fatal(err)
	}
	low := 0
	if e := raw.Control(func(fd uintptr) { low, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVLOWAT) }); e != nil || err != nil {
		b.t.Fatal(e, err)
	}
	return low
}

// overTCP runs f over TCP without and with TLS.
func overTCP(t *testing.T, o setup, f func(t *testing.T, b *bed, cfg *tls.Config)) {
	t.Run("plain", func(t *testing.T) { f(t, newTCPBed(t, o), nil) })
	t.Run("TLS", func(t *testing.T) {
		a := newAuthority(t)
		o.tls = a.load(CertificatesNone)
		f(t, newTCPBed(t, o), a.config())
	})
}

// TestNoMoreIsAwaitedThanComes: payloads of every length around those from which on the reader waits for much, sent in pieces that end anywhere, are
// received without a byte more behind them; and the reader hears of a single byte afterwards.
func TestNoMoreIsAwaitedThanComes(t *testing.T) {
	overTCP(t, setup{}, func(t *testing.T, b *bed, cfg *tls.Config) {
		c := b.dialTCP(cfg)
		payload := bytes.Repeat([]byte("0123456789abcdef#"), 2*mib/17+1)
		lengths := []int{lowWaterTailBytes, mib, 2 * mib}
		for past := 1; past <= lowWaterBytes; past *= 3 {
			lengths = append(lengths, lowWaterTailBytes+past)
		}
		for i, n := range lengths {
			sent := append(header(cmdWrite, 0, uint64(i), 0, uint32(n)), payload[:n]...)
			for piece := 1000 + 7777*i; len(sent) > 0; {
				k := min(piece, len(sent))
				c.send(sent[:k])
				sent = sent[k:]
			}
			c.wantReply(uint64(i), 0)
			if errno, got := c.do(cmdRead, 0, 0, uint32(n), nil); errno != 0 || !bytes.Equal(got, payload[:n]) {
				t.Fatalf("%d bytes: error %d, or other bytes", n, errno)
			}
			if low := b.lowWaterNow(); low > 1 { // 0 until it was ever set
				t.Fatalf("the reader is woken by %d bytes, after a payload of %d", low, n)
			}
		}
	})
}

// TestAwaitsMuchOfALongPayload: in the middle of a long payload the reader is not woken by every byte; and who leaves there is noticed at once.
func TestAwaitsMuchOfALongPayload(t *testing.T) {
	overTCP(t, setup{}, func(t *testing.T, b *bed, cfg *tls.Config) {
		c := b.dialTCP(cfg)
		c.send(append(header(cmdWrite, 0, 1, 0, mib), make([]byte, 100_000)...))
		until(t, "the reader waits for much", func() bool { return b.lowWaterNow() == lowWaterBytes })
		c.nc.Close()
		until(t, "it has left", func() bool {
			b.srv.mu.Lock()
			defer b.srv.mu.Unlock()
			return len(b.srv.conns) == 0
		})
	})
}

// TestSlowPayloadOverTCP: who sends less than the reader waits for is patiently waited for as long as nobody needs the memory, and cut off then.
func TestSlowPayloadOverTCP(t *testing.T) {
	o := setup{memory: 3 * mib / 2, server: func(s *Server) { s.stallTimeout = 20 * time.Millisecond }}
	overTCP(t, o, func(t *testing.T, b *bed, cfg *tls.Config) {
		slow := b.dialTCP(cfg)
		payload := bytes.Repeat([]byte("fedcba9876543210"), mib/16)
		slow.send(append(header(cmdWrite, 0, 1, 0, mib), payload[:50_000]...))
		until(t, "the timeout has passed, and any byte will do", func() bool { return b.memory.FreeBytes() < mib && b.lowWaterNow() <= 1 })
		slow.send(payload[50_000:])
		slow.wantReply(1, 0)
		if errno, got := slow.do(cmdRead, 0, 0, mib, nil); errno != 0 || !bytes.Equal(got, payload) {
			t.Fatalf("error %d, or other bytes", errno)
		}
		slow.send(append(header(cmdWrite, 0, 2, 0, mib), payload[:50_000]...))
		until(t, "its memory is taken again", func() bool { return b.memory.FreeBytes() < mib })
		good := b.dialTCP(cfg)
		if errno, _ := good.do(cmdRead, 0, 0, mib, nil); errno != 0 {
			t.Fatal(errno)
		}
	})
}
