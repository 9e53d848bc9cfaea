package cluster

import (
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/internal/bttp"
)

// lineCounter counts lines of the log.
type lineCounter struct{ n atomic.Int64 }

func (c *lineCounter) Write(p []byte) (int, error) { c.n.Add(1); return len(p), nil }

// TestUplinkFlood: W5. Who says again and again that its connection is an uplink, or is refused again and again, costs no goroutine and no line of the log for each; and no
// member of a child takes the places of the others.
func TestUplinkFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newWayBed(t)
		root := b.cluster("/", 1)[0]
		var lines lineCounter
		root.service.cfg.Logger = slog.New(slog.NewTextHandler(&lines, nil))
		dials := func(c bttp.Config) *bttp.Conn {
			e, err := bttp.New(c)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = e.Close() })
			conn, err := e.Dial(t.Context(), root.runtime)
			if err != nil {
				t.Fatal(err)
			}
			return conn
		}
		says := func(conn *bttp.Conn, code uint16, header ...byte) blocktree.Kind {
			r, err := conn.CallWait(t.Context(), code, header)
			r.Release()
			return blocktree.KindOf(err)
		}
		member, _ := b.config("/lab/n1", blocktree.ServiceSector)
		conn := dials(member)
		before := runtime.NumGoroutine()
		for i := range 400 {
			if kind := says(conn, codeUplink, byte(1-i%2)); kind != blocktree.Other {
				t.Fatalf("uplink: %v", kind)
			}
		}
		for range 100 {
			says(conn, codeUplink, 1)
		}
		if n := runtime.NumGoroutine() - before; n > 20 {
			t.Errorf("%d goroutines for one connection", n)
		}
		for range 400 {
			if says(conn, codeWay, 9) == blocktree.Other {
				t.Fatal("no ask was taken")
			}
		}
		guest, _ := b.config("/lab/guest")
		refused := dials(guest)
		for range 400 {
			if kind := says(refused, codeUplink, 1); kind != blocktree.Permission {
				t.Fatalf("a guest: %v", kind)
			}
		}
		if n := lines.n.Load(); n == 0 || n > 3*blocktree.RefusedLinesPerSecond {
			t.Errorf("%d lines", n)
		}
		for range blocktree.DownlinksPerDirectoryMax {
			if kind := says(dials(member), codeUplink, 1); kind != blocktree.Other {
				t.Fatalf("once more: %v", kind)
			}
		}
		other, _ := b.config("/lab/n2", blocktree.ServiceSector)
		last := dials(other)
		if kind := says(last, codeUplink, 1); kind != blocktree.Other {
			t.Errorf("another member: %v", kind)
		}
		lab := blocktree.RootPath(b.root).Join("lab")
		if n := len(root.service.uplinks.down(lab)); n != 2 {
			t.Errorf("%d connections of two members", n)
		}
		_ = last.Close()
		b.await("the end of it", time.Second, func() bool { return len(root.service.uplinks.down(lab)) == 1 })
	})
}
