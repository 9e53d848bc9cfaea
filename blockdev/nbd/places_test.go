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

// TestSentAwayInOrder: the silent ones go first, the oldest of them first; nobody who has just come.
func TestSentAwayInOrder(t *testing.T) {
	now := time.Now()
	s := NewServer(Config{})
	add := func(age time.Duration, spoke bool) *conn {
		nc, _ := net.Pipe()
		c := newConn(s, nc)
		c.began = now.Add(-age)
		c.spoke.Store(spoke)
		s.undecided = append(s.undecided, c)
		return c
	}
	awaits := add(9*time.Second, true)
	awaits.awaits.Store(true)
	spoke := add(8*time.Second, true)
	silent, later := add(7*time.Second, false), add(silentStay+time.Millisecond, false)
	fresh, speaking := add(silentStay-20*time.Millisecond, false), add(speakingStay-10*time.Millisecond, true)
	for i, x := range []struct {
		gone *conn
		wait time.Duration
	}{{silent, silentStay}, {later, silentStay}, {spoke, silentStay}, {nil, 10 * time.Millisecond}} {
		if wait := s.sendAway(now); wait != x.wait {
			t.Errorf("%d: waits %v, want %v", i, wait, x.wait)
		}
		if x.gone != nil && x.gone.ctx.Err() == nil {
			t.Errorf("%d: another one had to go", i)
		}
	}
	for _, c := range []*conn{awaits, fresh, speaking} {
		if c.ctx.Err() != nil {
			t.Error("one had to go too early")
		}
		c.cut()
	}
}
