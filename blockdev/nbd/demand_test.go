package nbd

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/memfile"
)

// onDemand are files below /vm that a bed opens for those who ask.
type onDemand struct {
	opens, closes, stats atomic.Int64
	gate                 chan struct{} // an opening waits for it to be closed
	statGate             chan struct{} // likewise a look at what there is
}

type onDemandFile struct {
	*memfile.File
	closes *atomic.Int64
}

func (f onDemandFile) Close() error {
	f.closes.Add(1)
	return f.File.Close()
}

func (o *onDemand) demand(t testing.TB) *blockdev.Demand {
	there := func(name string) error {
		if name == "/vm/busy" {
			return &blocktree.Error{Kind: blocktree.Busy, Err: errors.New("held by /other under epoch 7: ends in 4s")}
		}
		if name != "/vm/a" && name != "/vm/b" {
			return blocktree.E("test", blocktree.NotFound, nil)
		}
		return nil
	}
	d := blockdev.NewDemand(blockdev.DemandOptions{OpenMax: 4, Linger: time.Millisecond, Patience: patience,
		Name: func(name string) (string, error) {
			name = "/" + strings.Trim(name, "/")
			if !strings.HasPrefix(name, "/vm/") {
				return "", blocktree.E("test", blocktree.NotFound, nil)
			}
			return name, nil
		},
		Stat: func(ctx context.Context, name string) (uint64, error) {
			o.stats.Add(1)
			if o.statGate != nil {
				select {
				case <-o.statGate:
				case <-ctx.Done():
					return 0, ctx.Err()
				}
			}
			if name == "/vm/busy" {
				return 1 << 20, nil
			}
			return 1 << 20, there(name)
		},
		Open: func(ctx context.Context, name string, readOnly bool) (*blockdev.Device, error) {
			o.opens.Add(1)
			if o.gate != nil {
				select {
				case <-o.gate:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			if err := there(name); err != nil {
				return nil, err
			}
			f := memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 1 << 20, ReadOnly: readOnly}})
			return blockdev.Open(onDemandFile{f, &o.closes}, blockdev.Options{})
		}})
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// TestOnDemand: INFO and LIST open nothing; GO opens once, for as long as somebody uses it; names are of one form.
func TestOnDemand(t *testing.T) {
	var o onDemand
	b := newBed(t, setup{config: Config{Demand: o.demand(t)}})
	c := b.dial().hello(clientFlags)
	told := c.ask(optInfo, infoRequest{name: "vm/a"}.encode())
	if got, _ := told.info(0); told.last() != ack || got != exportInfo(1<<20, writableFlags) {
		t.Fatalf("%v", told)
	}
	if got := c.ask(optList, nil); len(got) != 2 || o.opens.Load() != 0 || o.stats.Load() != 1 {
		t.Fatalf("%v; %d opened", got, o.opens.Load())
	}
	for _, name := range []string{"/vm/absent", "/etc/passwd", "vm"} {
		if got := c.ask(optGo, infoRequest{name: name}.encode()); got.last() != 1<<31|6 {
			t.Fatalf("%s: %v", name, got)
		}
	}
	if got := c.ask(optInfo, infoRequest{name: "/vm/busy"}.encode()); got.last() != ack {
		t.Fatalf("%v", got)
	}
	got := c.ask(optGo, infoRequest{name: "/vm/busy"}.encode())
	if got.last() != errTypePolicy || !strings.Contains(got[0].data, "held by /other under epoch 7: ends in 4s") {
		t.Fatalf("%v", got)
	}
	before := o.opens.Load()
	if got := c.ask(optGo, infoRequest{name: "/vm/a/"}.encode()); got.last() != ack {
		t.Fatalf("%v", got)
	}
	c.inSync()
	other := b.dial().hello(clientFlags)
	other.option(optExportName, 4, []byte("vm/a"))
	other.take(10)
	if n := len(b.dial().hello(clientFlags).ask(optList, nil)); n != 3 || o.opens.Load() != before+1 {
		t.Fatalf("%d answers to LIST; opened %d times", n, o.opens.Load()-before)
	}
	c.nc.Close()
	time.Sleep(20 * time.Millisecond) // longer than it lingers: if it were closed under the other one, that would fail
	other.inSync()
	other.send(header(cmdDisc, 0, 0, 0, 0))
	until(t, "it is closed", func() bool { return o.closes.Load() == 1 })
	mine := b.attach() // a configured export of that form of a name is not opened a second time
	mine.inSync()
	if got := goes(b.dial().hello(clientFlags), "vm/disk0/"); got != ack || o.opens.Load() != before+1 {
		t.Fatalf("%x; opened %d times", got, o.opens.Load()-before)
	}
}

// TestOnDemandTogether: two that ask at once open once, one of them for reading only.
func TestOnDemandTogether(t *testing.T) {
	o := onDemand{gate: make(chan struct{})}
	a := newAuthority(t)
	reader, readerID := a.client("reader", edKey(t))
	writer, _ := a.client("writer", edKey(t))
	rights := func(who Identity, _ string) Access {
		if who.Principal == readerID.Principal {
			return ReadAccess
		}
		return WriteAccess
	}
	b := newBed(t, setup{tls: a.load(CertificatesRequired), config: Config{Demand: o.demand(t), Rights: rights}})
	var wg sync.WaitGroup
	for i := range 6 {
		own := writer
		if i%2 == 1 {
			own = reader
		}
		c := b.secureDial(a.config(own))
		wg.Go(func() {
			got := c.ask(optGo, infoRequest{name: "/vm/b"}.encode())
			flags, _ := got.info(0)
			if got.last() != ack || (flags == exportInfo(1<<20, readOnlyFlags)) != (i%2 == 1) {
				t.Errorf("%v", got)
			}
		})
	}
	until(t, "all wait", func() bool { return len(b.srv.awaiting) == 6 })
	close(o.gate)
	wg.Wait()
	if n := o.opens.Load(); n != 2 {
		t.Errorf("opened %d times", n)
	}
}

// TestWaitingForExportsIsBounded: clients that wait for a cluster that says nothing keep nobody out, and leave in time.
func TestWaitingForExportsIsBounded(t *testing.T) {
	o := onDemand{gate: make(chan struct{})}
	b := newBed(t, setup{config: Config{Demand: o.demand(t)}, server: func(s *Server) {
		s.awaiting = make(chan struct{}, 2)
		s.negotiating = make(chan struct{}, 3)
		s.negotiationTimeout = answerMargin + 2*time.Second
	}})
	q := infoRequest{name: "/vm/a"}.encode()
	one, two := b.dial().hello(clientFlags), b.dial().hello(clientFlags)
	one.option(optGo, uint32(len(q)), q)
	two.option(optGo, uint32(len(q)), q)
	until(t, "both wait", func() bool { return len(b.srv.awaiting) == 2 })
	c := b.dial().hello(clientFlags)
	if got := c.ask(optGo, q); got.last() != errTypePolicy {
		t.Fatalf("a third one: %v", got)
	}
	c.attach2("/vm/disk0").inSync()
	if got := one.replies(optGo); got.last() != errTypePolicy || !strings.Contains(got[0].data, "ask again") {
		t.Fatalf("%v", got)
	}
	two.replies(optGo)
}

// TestStopWhileExportsOpen: who waits for an export is told that the server stops.
func TestStopWhileExportsOpen(t *testing.T) {
	o := onDemand{gate: make(chan struct{})}
	b := newBed(t, setup{config: Config{Demand: o.demand(t)}})
	c := b.dial().hello(clientFlags)
	q := infoRequest{name: "/vm/a"}.encode()
	c.option(optGo, uint32(len(q)), q)
	until(t, "it waits", func() bool { return len(b.srv.awaiting) == 1 })
	if err := b.srv.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := c.replies(optGo); got.last() != errTypeShutdown {
		t.Fatalf("%v", got)
	}
	c.closed()
}
