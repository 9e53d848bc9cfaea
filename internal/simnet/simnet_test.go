package simnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"blocktree/internal/bttest"
	"blocktree/internal/bttp"
)

var _ bttp.Network = (*Host)(nil)

// hosts are the addresses of tests.
func hosts() (a, b netip.Addr) {
	return netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
}

func TestNetwork(t *testing.T) {
	bttest.Network(t, func(t *testing.T, run func(*testing.T, bttp.Network, string)) {
		synctest.Test(t, func(t *testing.T) {
			a, _ := hosts()
			run(t, New(1).Host(a), a.String())
		})
	})
}

// TestLinks sends datagrams over links of every kind and counts, to the nanosecond, what arrives and when.
func TestLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		at, bt := hosts()
		a, err := n.Host(at).ListenPacket(t.Context(), ":1")
		if err != nil {
			t.Fatal(err)
		}
		b, err := n.Host(bt).ListenPacket(t.Context(), ":1")
		if err != nil {
			t.Fatal(err)
		}
		send := func(from, to net.PacketConn, count int) (arrived int, after time.Duration) {
			begun := time.Now()
			for range count {
				if _, err := from.WriteTo([]byte{1}, to.LocalAddr()); err != nil {
					t.Fatal(err)
				}
			}
			_ = to.SetReadDeadline(time.Now().Add(time.Second))
			for {
				if _, _, err := to.ReadFrom(make([]byte, 1)); err != nil {
					return arrived, after
				}
				arrived, after = arrived+1, time.Since(begun)
			}
		}
		if k, after := send(a, b, 3); k != 3 || after != DelayDefault {
			t.Errorf("%d arrived after %v", k, after)
		}
		n.Set(at, bt, Link{Delay: 200 * time.Millisecond})
		if k, after := send(a, b, 3); k != 3 || after != 200*time.Millisecond {
			t.Errorf("slow: %d arrived after %v", k, after)
		}
		if k, after := send(b, a, 3); k != 3 || after != DelayDefault {
			t.Errorf("the other direction: %d arrived after %v", k, after)
		}
		n.Set(at, bt, Link{Cut: true})
		if k, _ := send(a, b, 3); k != 0 {
			t.Errorf("cut: %d arrived", k)
		}
		if k, _ := send(b, a, 3); k != 3 {
			t.Errorf("the direction that is not cut: %d arrived", k)
		}
		n.Set(at, bt, Link{Loss: 0.25})
		if k, _ := send(a, b, 1000); k < 700 || k > 800 {
			t.Errorf("lossy: %d of 1000 arrived", k)
		}
		_, _ = a.Close(), b.Close()
	})
}

// TestStreamOverCut writes to a stream whose link is cut, lossy and slow: all arrives, in order, when it can.
func TestStreamOverCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(1)
		at, bt := hosts()
		l, err := n.Host(bt).Listen(t.Context(), ":1")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		n.Set(bt, at, Link{Cut: true})
		short, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := n.Host(at).Dial(short, l.Addr().String()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a dial whose answer is cut: %v", err)
		}
		time.AfterFunc(time.Minute, func() { n.Set(bt, at, Link{}) })
		begun := time.Now()
		near, err := n.Host(at).Dial(t.Context(), l.Addr().String())
		if err != nil || time.Since(begun) != time.Minute+2*DelayDefault {
			t.Fatalf("%v after %v", err, time.Since(begun))
		}
		far, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		n.Set(at, bt, Link{Cut: true})
		want := bytes.Repeat([]byte("0123456789"), 100_000)
		if _, err := near.Write(want); err != nil {
			t.Fatal(err)
		}
		if err := near.Close(); err != nil {
			t.Fatal(err)
		}
		_ = far.SetReadDeadline(time.Now().Add(time.Hour))
		if k, err := far.Read(make([]byte, 1)); k != 0 || err == nil {
			t.Errorf("%d bytes came over a cut link, %v", k, err)
		}
		_ = far.SetReadDeadline(time.Time{})
		n.Set(at, bt, Link{Loss: 0.5, Delay: time.Millisecond})
		if got, err := io.ReadAll(far); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		_ = far.Close()
	})
}
