package fastrung

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"blocktree"
	"blocktree/internal/bttp"
)

// writing writes one sector after the other until stop is called, which returns the longest of the writes; none may fail.
func (b *bed) writing() (stop func() time.Duration) {
	done, longest := make(chan struct{}), make(chan time.Duration, 1)
	go func() {
		most := time.Duration(0)
		defer func() { longest <- most }()
		for n := uint64(1); ; n++ {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
			}
			begun := time.Now()
			sector := blocktree.SectorIndex(n % 64)
			if err := b.file.WriteSectors(b.T.Context(), sector, numbered(sector, n)); err != nil {
				b.T.Errorf("%v: write %d: %v", b.Elapsed(), n, err)
				return
			}
			most = max(most, time.Since(begun))
		}
	}()
	return func() time.Duration { close(done); return <-longest }
}

// TestNodeRoams: W11. A node's address changes under load: no write fails, nobody is voted out, and where it is from then on is known: its siblings reach it there, its record says so, and so a client, and one that
// begins then, does. It goes back, and on to a third.
func TestNodeRoams(t *testing.T) {
	for _, transport := range []bttp.Transport{bttp.TCP, bttp.QUIC} {
		t.Run(string(transport), func(t *testing.T) {
			within(t, transport, 1, func(b *bed) {
				for i, to := range []string{"10.0.77.1", "10.0.77.2"} {
					removed := stats(b.file).Removed
					stop := b.writing()
					time.Sleep(time.Second)
					b.Move(b.NodeAddr(1), netip.MustParseAddr(to))
					time.Sleep(20 * time.Second)
					b.between("the longest write", stop(), 0, deadAfter+250*time.Millisecond+3*time.Second)
					if n := stats(b.file).Removed; n != removed {
						t.Errorf("move %d: %d members were voted out", i, n-removed)
					}
					if s := b.Status(b.client); s.Files[0].InSync != 3 || len(b.down(s)) > 0 {
						t.Errorf("move %d: %d in sync, %v down", i, s.Files[0].InSync, b.down(s))
					}
					hosts, err := b.client.Hosts(b.T.Context())
					if err != nil {
						t.Fatal(err)
					}
					j := slices.IndexFunc(hosts, func(r blocktree.Runtime) bool { return r.Path == b.Members[1].Path })
					if at := hosts[j].Endpoints; at[len(at)-1] != to+":7000" || at[0] != b.Members[1].Endpoints[0] {
						t.Errorf("move %d: the record says %v", i, at)
					}
					b.await("the way", time.Minute, func() bool { return b.Status(b.client).Nodes[1].Via == "" })
				}
				fresh := b.Client()
				b.await("another client", 5*time.Second, func() bool { s := b.Status(fresh); return len(b.down(s)) == 0 && s.Nodes[1].Via == "" })
			})
		})
	}
}

// TestClientRoams: W11. A client's address changes under load: no write fails, and nobody is voted out.
func TestClientRoams(t *testing.T) {
	for _, transport := range []bttp.Transport{bttp.TCP, bttp.QUIC} {
		t.Run(string(transport), func(t *testing.T) {
			within(t, transport, 1, func(b *bed) {
				removed := stats(b.file).Removed
				stop := b.writing()
				time.Sleep(time.Second)
				b.Move(b.ClientAddr(0), netip.MustParseAddr("10.0.88.1"))
				time.Sleep(20 * time.Second)
				b.between("the longest write", stop(), 0, deadAfter+500*time.Millisecond)
				if n := stats(b.file).Removed; n != removed {
					t.Errorf("%d members were voted out", n-removed)
				}
			})
		})
	}
}
