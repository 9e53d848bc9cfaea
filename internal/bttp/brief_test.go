package bttp

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/internal/simnet"
)

// briefBed is an endpoint that dials, and runtimes to be asked, in a bubble.
type briefBed struct {
	*domain
	t     *testing.T
	net   *simnet.Net
	asker *Endpoint
	at    []blocktree.Runtime
}

// briefSilent is where nobody is, nor anybody who would say so.
const briefSilent = "10.9.9.9"

// briefly runs a test with n runtimes that can be asked.
func briefly(t *testing.T, n int, test func(b *briefBed)) {
	synctest.Test(t, func(t *testing.T) {
		net := simnet.New(1)
		b := &briefBed{domain: newDomain(t), t: t, net: net}
		host := func(i int) *simnet.Host { return net.Host(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i + 1)})) }
		for i := range n {
			c := b.config(fmt.Sprintf("n%d", i))
			c.Network, c.Transport, c.Handler = host(i), TCP, HandlerFunc(func(r *Request) {
				if len(r.Body) > 0 { // to be answered late
					body := len(r.Body)
					time.AfterFunc(time.Duration(body)*time.Second, func() { r.Reply(nil); r.Release() })
					return
				}
				r.ReplyThen(r.Release, nil)
			})
			c.Addrs = []string{fmt.Sprintf("10.0.%d.%d:7000", i>>8, byte(i+1))}
			_, r := b.listen(c)
			b.at = append(b.at, r)
		}
		c := b.config("asker")
		c.Network, c.Transport = host(n+1), TCP
		net.Set(netip.AddrFrom4([4]byte{10, 0, byte((n + 1) >> 8), byte(n + 2)}), netip.MustParseAddr(briefSilent), simnet.Link{Cut: true})
		b.asker = b.client(c)
		test(b)
	})
}

// ask asks the i-th runtime something that takes some seconds to be answered.
func (b *briefBed) ask(i, seconds int) error {
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Hour)
	defer cancel()
	conn, err := b.asker.DialBriefly(ctx, b.at[i])
	if err != nil {
		return err
	}
	reply, err := conn.CallWait(ctx, 7, nil, make([]byte, seconds))
	reply.Release()
	return err
}

func (b *briefBed) open() int { return b.asker.Stats().TCP }

// TestBriefConnections: what was made to ask is closed when it is idle, and not before; there are at most so many; and one that somebody keeps stays.
func TestBriefConnections(t *testing.T) {
	const most, idle = blocktree.BriefConnectionsMax, blocktree.BriefIdleMax
	briefly(t, most+2, func(b *briefBed) {
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(b.ask(0, 0))
		time.Sleep(idle - time.Second)
		must(b.ask(0, 0))
		time.Sleep(idle - time.Second)
		if n := b.open(); n != 1 {
			t.Errorf("%d connections, one of which was asked for just now", n)
		}
		must(b.ask(0, int(2*idle/time.Second)))
		if n := b.open(); n != 1 {
			t.Errorf("%d connections, one of which has just been answered on", n)
		}
		time.Sleep(idle + time.Second)
		if n := b.open(); n != 0 {
			t.Errorf("%d connections that nobody uses", n)
		}
		must(b.ask(0, 0))
		kept := b.dial(b.asker, b.at[0]) // somebody keeps it from now on
		must(b.ask(0, 0))
		for i := range most + 1 {
			must(b.ask(1+i, 0))
			time.Sleep(time.Millisecond) // that which made room is gone
			if n := b.open(); n > most+1 {
				t.Errorf("%d connections, at most %d to ask and the one that is kept", n, most)
			}
		}
		time.Sleep(idle + time.Second)
		if n := b.open(); n != 1 || kept.Err() != nil {
			t.Errorf("%d connections, one is kept: %v", n, kept.Err())
		}
		ended := make(chan error, most)
		for i := range most {
			go func() { ended <- b.ask(1+i, 5) }()
		}
		time.Sleep(time.Second)
		if err := b.ask(most+1, 0); blocktree.KindOf(err) != blocktree.Busy || blocktree.HintOf(err) == "" {
			t.Errorf("beside %d that are being asked: %v", most, err)
		}
		for range most {
			must(<-ended)
		}
		must(b.ask(most+1, 0))
	})
}

// TestBriefIsFreshWhenItIsThere: a connection that took long to make does not make room for others as soon as it is there, before it was asked anything.
func TestBriefIsFreshWhenItIsThere(t *testing.T) {
	const most = blocktree.BriefConnectionsMax
	briefly(t, most+1, func(b *briefBed) {
		slow := b.at[0]
		slow.Endpoints = []string{briefSilent + ":7000", slow.Endpoints[0]}
		made := make(chan *Conn, 1)
		go func() {
			conn, err := b.asker.DialBriefly(b.t.Context(), slow)
			if err != nil {
				b.t.Error(err)
			}
			made <- conn
		}()
		time.Sleep(time.Millisecond)
		for i := range most - 1 {
			if err := b.ask(1+i, 0); err != nil {
				b.t.Fatal(err)
			}
		}
		conn := <-made
		if err := b.ask(most, 0); err != nil {
			b.t.Fatal(err)
		}
		if conn != nil && conn.Err() != nil {
			b.t.Errorf("it made room before it was asked anything: %v", conn.Err())
		}
	})
}

// TestBriefInVain: attempts that nobody waits for any more keep no others from being asked, and end.
func TestBriefInVain(t *testing.T) {
	const most = blocktree.BriefConnectionsMax
	briefly(t, 2, func(b *briefBed) {
		host := netip.AddrFrom4([4]byte{10, 9, 0, 1})
		b.net.Set(netip.AddrFrom4([4]byte{10, 0, 0, 4}), host, simnet.Link{Cut: true})
		ctx, cancel := context.WithCancel(b.t.Context())
		cancel()
		for i := range 3 * most {
			r := blocktree.Runtime{Principal: blocktree.PrincipalOf([]byte(fmt.Sprint(i))), Endpoints: []string{"10.9.0.1:7000"}}
			if _, err := b.asker.DialBriefly(ctx, r); blocktree.KindOf(err) != blocktree.Canceled {
				t.Fatalf("%d: %v", i, err)
			}
		}
		for i := range b.at {
			if err := b.ask(i, 0); err != nil {
				t.Fatalf("who is there: %v", err)
			}
		}
		b.asker.mu.Lock()
		n := len(b.asker.dialed)
		b.asker.mu.Unlock()
		if n > most {
			t.Errorf("%d are being dialled", n)
		}
		time.Sleep(2 * blocktree.HandshakeTimeout)
		if n := b.open(); n != len(b.at) {
			t.Errorf("%d connections, not %d", n, len(b.at))
		}
	})
}
