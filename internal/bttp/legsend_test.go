package bttp

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
)

// silentCarrier takes everything and brings nothing.
type silentCarrier struct{ carrier }

func (silentCarrier) Read([]byte) (int, error)    { return 0, io.EOF }
func (silentCarrier) stage([]byte) error          { return nil }
func (silentCarrier) flush() error                { return nil }
func (silentCarrier) setDeadline(time.Time) error { return nil }
func (silentCarrier) close()                      {}

// A carrier that comes at the moment at which a target's end of a relay is over is closed, and nobody waits for it.
func TestCarrierAtTheEnd(t *testing.T) {
	d := newDomain(t)
	e, err := Listen(t.Context(), d.config("target"))
	if err != nil {
		t.Fatal(err)
	}
	for range 3000 {
		conn, a := newConn(e, newConnID(), cred.Identity{}, blocktree.Principal{1}, 1), &Ask{Mode: AskRelay, Token: newConnID(), Lanes: 1}
		if err := e.endLegs(t.Context(), a, blocktree.Principal{2}, conn); err != nil {
			t.Fatal(err)
		}
		e.mu.Lock()
		take := e.meetings[a.Token]
		e.mu.Unlock()
		var both sync.WaitGroup
		both.Go(func() { close(conn.dying); conn.end() })
		e.task(func() {
			s := &relayed{carrier: silentCarrier{}}
			s.in = e.newReader(s.carrier)
			_ = take(arrival{relayed: s, proven: blocktree.Principal{1}})
		})
		both.Wait()
		eventually(t, "lanes are counted", func() bool {
			e.mu.Lock()
			defer e.mu.Unlock()
			return e.legCount == 0
		})
	}
	closed := make(chan struct{})
	go func() { defer close(closed); _ = e.Close() }()
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Fatal("somebody waits for a carrier that nobody brings")
	}
}

// A relay with a token that this runtime expects for an ask of its own is refused, and that ask goes on.
func TestTokenOfAnotherAsk(t *testing.T) {
	b := newLegsBed(t, TCP)
	token := newConnID()
	if err := b.target.expect(token, func(arrival) error { return nil }); err != nil {
		t.Fatal(err)
	}
	a := &Ask{Mode: AskRelay, Token: token, Target: b.at.Principal, Path: b.at.Path, Lanes: 1}
	if _, err := b.target.AnswerAsk(t.Context(), a, b.asker.Identity(), b.uplink, "", ""); blocktree.KindOf(err) != blocktree.Exists {
		t.Errorf("a token that is in use: %v", err)
	}
	b.target.mu.Lock()
	defer b.target.mu.Unlock()
	if b.target.meetings[token] == nil || b.target.legCount != 0 {
		t.Errorf("its own ask is forgotten, or %d lanes are counted", b.target.legCount)
	}
}

// W2: neither end of a punched hole sends to what the way says in another kind of network than that of its own leg.
func TestPunchGoesNowhereElse(t *testing.T) {
	b := newLegsBed(t, QUIC)
	inside, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	outside := &Conn{remote: "192.0.2.1:7000"}
	a := &Ask{Mode: AskPunch, Token: newConnID(), Target: b.at.Principal, Path: b.at.Path, UDP: 9, Lanes: 1}
	if _, err := b.target.AnswerAsk(t.Context(), a, b.asker.Identity(), outside, "192.0.2.7", inside.LocalAddr().String()); blocktree.KindOf(err) != blocktree.Unavailable {
		t.Errorf("with a mirror of its own machine: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*punchEvery)
	defer cancel()
	if err := b.asker.openSide(ctx, []byte(inside.LocalAddr().String()), outside); blocktree.KindOf(err) != blocktree.Invalid {
		t.Errorf("with a target on its own machine: %v", err)
	}
	_ = inside.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, _, err := inside.ReadFrom(make([]byte, 100)); err == nil {
		t.Errorf("%d bytes came", n)
	}
	if err := b.asker.openSide(ctx, []byte(inside.LocalAddr().String()), b.first); err != nil {
		t.Errorf("in the network of the leg: %v", err)
	}
}

// Whoever makes up addresses cannot take all tokens for handshakes by the socket that a runtime dials from and is dialled back at.
func TestDialledBackProvesItsAddress(t *testing.T) {
	b := newLegsBed(t, QUIC)
	socket, err := b.one.dialTransport()
	if err != nil {
		t.Fatal(err)
	}
	must := socket.VerifySourceAddress
	if must == nil || must(nil) {
		t.Fatal("addresses need a proof never, or always")
	}
	for range handshakesMax/2 + 1 {
		b.one.admission <- struct{}{}
	}
	if !must(nil) {
		t.Error("addresses need no proof though tokens run out")
	}
	for range handshakesMax/2 + 1 {
		<-b.one.admission
	}
}
