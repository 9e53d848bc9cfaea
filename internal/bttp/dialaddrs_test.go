package bttp

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/internal/simnet"
)

// beside runs test with an endpoint that dials, a runtime that it reaches, and addresses from which nothing comes.
func beside(t *testing.T, test func(t *testing.T, d *domain, e *Endpoint, r blocktree.Runtime, silent []string)) {
	synctest.Test(t, func(t *testing.T) {
		d, net := newDomain(t), simnet.New(1)
		on := func(name string, host byte) Config {
			c := d.config(name)
			c.Transport, c.Network = TCP, net.Host(netip.AddrFrom4([4]byte{10, 0, 0, host}))
			return c
		}
		sc := on("a", 1)
		sc.Addrs, sc.Handler = []string{"10.0.0.1:7000"}, echo
		_, r := d.listen(sc)
		var silent []string
		for i := range 2 * dialAddrsMax {
			host := netip.AddrFrom4([4]byte{10, 0, 1, byte(i)})
			net.Set(netip.AddrFrom4([4]byte{10, 0, 0, 2}), host, simnet.Link{Cut: true})
			silent = append(silent, fmt.Sprintf("%v:7000", host))
		}
		test(t, d, d.client(on("b", 2)), r, silent)
	})
}

// TestDialBesideALie: who dials a runtime of which somebody else was told lies, of where it is, of its path or of what it may offer, and dials it already, is held up by none of them.
func TestDialBesideALie(t *testing.T) {
	lies := map[string]func(r *blocktree.Runtime, silent []string){
		"addresses": func(r *blocktree.Runtime, silent []string) { r.Endpoints = silent[:dialAddrsMax] },
		"more":      func(r *blocktree.Runtime, silent []string) { r.Endpoints = silent },
		"path":      func(r *blocktree.Runtime, _ []string) { r.Path += "x" },
		"path and addresses": func(r *blocktree.Runtime, silent []string) {
			r.Path, r.Endpoints = r.Path+"x", silent
		},
		"path, address and more": func(r *blocktree.Runtime, silent []string) {
			r.Path, r.Endpoints = r.Path+"x", append([]string{silent[0], r.Endpoints[0]}, silent[1:]...)
		},
		"services": func(r *blocktree.Runtime, _ []string) { r.Services = []string{"none such"} },
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			beside(t, func(t *testing.T, d *domain, e *Endpoint, r blocktree.Runtime, silent []string) {
				lied := r
				lie(&lied, silent)
				ended := make(chan error, 1)
				go func() {
					_, err := e.DialBriefly(t.Context(), lied)
					ended <- err
				}()
				synctest.Wait() // it waits for the network
				ctx, cancel := context.WithTimeout(t.Context(), 2*addrHeadStart)
				defer cancel()
				conn, err := e.Dial(ctx, r)
				if err != nil {
					t.Fatalf("beside who was told of another: %v", err)
				}
				if err := <-ended; (err == nil) != (lied.Path == r.Path && slices.Equal(lied.Services, r.Services)) {
					t.Errorf("who was told of another: %v", err)
				}
				if conn.Err() != nil {
					t.Error(conn.Err())
				}
			})
		})
	}
}

// TestDialAddresses: an address that says nothing holds up none of the others, nor one that is told of while it is tried; the first that is there is used, and nothing of the others is left.
func TestDialAddresses(t *testing.T) {
	for _, transport := range []Transport{TCP, QUIC, Auto} {
		t.Run(string(transport), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, net := newDomain(t), simnet.New(1)
				on := func(name string, host byte) Config {
					c := d.config(name)
					c.Transport, c.Network = transport, net.Host(netip.AddrFrom4([4]byte{10, 0, 0, host}))
					return c
				}
				sc := on("a", 1)
				sc.Addrs, sc.Handler = []string{"10.0.0.1:7000"}, echo
				_, r := d.listen(sc)
				here, silent := r.Endpoints[0], []string{}
				for i := range 2 {
					host := netip.AddrFrom4([4]byte{10, 0, 1, byte(i)})
					net.Set(netip.AddrFrom4([4]byte{10, 0, 0, 2}), host, simnet.Link{Cut: true})
					silent = append(silent, fmt.Sprintf("%v:7000", host))
				}
				e := d.client(on("b", 2))
				dial := func(most time.Duration, addrs ...string) {
					t.Helper()
					at := r
					at.Endpoints = addrs
					begun := time.Now()
					conn, err := e.Dial(t.Context(), at)
					if err != nil {
						t.Fatalf("%v: %v", addrs, err)
					}
					if d := time.Since(begun); d > most {
						t.Errorf("%v took %v", addrs, d)
					}
					_ = conn.Close()
				}
				dial(100*time.Millisecond, here, silent[0])
				dial(2*addrHeadStart+100*time.Millisecond, silent[0], silent[1], here)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				r.Endpoints = silent[:1]
				if _, err := e.Dial(ctx, r); blocktree.KindOf(err) != blocktree.Timeout {
					t.Fatalf("a silent address: %v", err)
				}
				dial(100*time.Millisecond, silent[0], here) // the attempt goes on, and hears of another
				r.Endpoints = silent
				begun := time.Now()
				if _, err := e.Dial(t.Context(), r); err == nil || time.Since(begun) > blocktree.HandshakeTimeout+addrHeadStart+time.Second {
					t.Errorf("nobody is there: %v after %v", err, time.Since(begun))
				}
				time.Sleep(time.Minute)
				if s := e.Stats(); s.TCP+s.QUIC > 0 {
					t.Errorf("%d connections are left", s.TCP+s.QUIC)
				}
			})
		})
	}
}
