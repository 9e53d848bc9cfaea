package nbd

import (
	"net"
	"testing"
	"time"

	"blocktree"
)

// endless gives nobody's place back by time.
func endless(places int) func(*Server) {
	return func(s *Server) {
		s.negotiationTimeout = time.Hour
		s.negotiating = make(chan struct{}, places)
	}
}

// TestSilentClientsKeepNobodyOut: however many say nothing, who speaks is served, and who spoke stays.
func TestSilentClientsKeepNobodyOut(t *testing.T) {
	b := newBed(t, setup{server: func(s *Server) {
		endless(blocktree.NBDNegotiatingMax)(s)
		s.speakingStay = time.Hour // however busy the machine is
	}})
	attached := b.attach()
	talker := b.dial().hello(clientFlags)
	talker.ask(optList, nil)
	for range 3 * blocktree.NBDNegotiatingMax {
		nc, err := net.Dial("unix", b.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
	}
	b.attach().inSync()
	attached.inSync()
	talker.attach2("").inSync()
	b.srv.mu.Lock()
	defer b.srv.mu.Unlock()
	if n := len(b.srv.undecided); n > blocktree.NBDNegotiatingMax {
		t.Errorf("%d have not chosen an export", n)
	}
}

// TestHalfHandshakesKeepNobodyOut: who began and goes no further makes room, too; TLS handshakes among them.
func TestHalfHandshakesKeepNobodyOut(t *testing.T) {
	a := newAuthority(t)
	b := newBed(t, setup{tls: a.load(CertificatesNone), server: endless(4)})
	for i := range 12 {
		c := b.dial().hello(clientFlags)
		c.deaf = true
		switch i % 3 {
		case 0:
			c.send([]byte("IHAVEOPT\x00\x00"))
		case 1:
			c.option(optGo, 60000, []byte("begun"))
		case 2:
			c.option(optStartTLS, 0, nil)
			c.send([]byte("\x16\x03\x01\x40\x00begun"))
		}
	}
	b.secureDial(a.config()).attach2("").inSync()
}

// TestSentAwayInOrder: the silent ones go first, the oldest of them first; then who has not moved for longest; nobody who has just come or moved.
func TestSentAwayInOrder(t *testing.T) {
	now := time.Now()
	s := NewServer(Config{})
	// add makes a client that came so long ago and moved so long ago; 0: never.
	add := func(came, moved time.Duration) *conn {
		nc, _ := net.Pipe()
		c := newConn(s, nc)
		c.began = now.Add(-came)
		if moved != 0 {
			c.moved.Store(int64(came - moved))
		}
		s.undecided = append(s.undecided, c)
		return c
	}
	awaits := add(9*time.Second, 8*time.Second)
	awaits.awaits.Store(true)
	moving := add(8*time.Second, s.speakingStay-10*time.Millisecond)
	stuck, stuckLonger := add(7*time.Second, time.Second), add(6*time.Second, 2*time.Second)
	silent, later := add(5*time.Second, 0), add(silentStay+time.Millisecond, 0)
	fresh := add(silentStay-20*time.Millisecond, 0)
	for i, x := range []struct {
		gone *conn
		wait time.Duration
	}{{silent, silentStay}, {later, silentStay}, {stuckLonger, silentStay}, {stuck, silentStay}, {nil, 10 * time.Millisecond}} {
		if wait := s.sendAway(now); wait != x.wait {
			t.Errorf("%d: waits %v, want %v", i, wait, x.wait)
		}
		if x.gone != nil && x.gone.ctx.Err() == nil {
			t.Errorf("%d: another one had to go", i)
		}
	}
	for _, c := range []*conn{awaits, moving, fresh} {
		if c.ctx.Err() != nil {
			t.Error("one had to go too early")
		}
		c.cut()
	}
}
