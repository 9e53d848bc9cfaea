package bttp

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"blocktree"
)

// TestMirror: W9. Who probes learns its address; nothing else is answered; nobody is a mirror who does not listen for everybody.
func TestMirror(t *testing.T) {
	d := newDomain(t)
	_, at := d.listen(d.config("mirror"))
	c := d.config("asker")
	c.Transport = QUIC
	asker := d.client(c)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	seen, err := asker.outside(ctx, at.Endpoints[0])
	if err != nil {
		t.Fatal(err)
	}
	own, err := asker.dialTransport()
	if err != nil {
		t.Fatal(err)
	}
	port := own.Conn.LocalAddr().(*net.UDPAddr).Port
	if want := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port)); seen != want {
		t.Errorf("seen at %v, is at %v", seen, want)
	}
	if len(asker.probes) != 0 {
		t.Error("a probe is kept")
	}
	if len(encodeProbe(nonce{})) < len(encodeSeen(nonce{}, seen)) {
		t.Error("an answer is longer than its question")
	}
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	patience := 20 * time.Second                    // whoever listens answers the second
	answers := func(to string, probe []byte) bool { // a true one behind it, where that is answered, shows that the first was not
		addr, err := net.ResolveUDPAddr("udp", to)
		if err != nil {
			t.Fatal(err)
		}
		last := nonce{9}
		for _, b := range [][]byte{probe, encodeProbe(last)} {
			_, _ = socket.WriteTo(b, addr)
		}
		_ = socket.SetReadDeadline(time.Now().Add(patience))
		b := make([]byte, 100)
		n, _, err := socket.ReadFrom(b)
		return err == nil && !bytes.Equal(b[8:24], last[:]) && n > 0
	}
	if !answers(at.Endpoints[0], encodeProbe(nonce{1})) {
		t.Error("a probe is not answered")
	}
	_, _, _ = socket.ReadFrom(make([]byte, 100))
	for name, b := range map[string][]byte{"short": encodeProbe(nonce{1})[:47], "long": append(encodeProbe(nonce{1}), 0), "an answer": encodeSeen(nonce{1}, seen),
		"another": bytes.Repeat([]byte{1}, probeBytes), "one byte": {0}} {
		if answers(at.Endpoints[0], b) {
			t.Errorf("%s is answered", name)
		}
	}
	if err := asker.openPunch(); err != nil {
		t.Fatal(err)
	}
	patience = 300 * time.Millisecond
	if answers("127.0.0.1:"+strconv.Itoa(int(asker.backUDP)), encodeProbe(nonce{1})) {
		t.Error("a runtime that serves nobody is a mirror")
	}
	for _, bad := range []string{"", "nowhere", "localhost:1"} {
		if _, err := asker.outside(ctx, bad); blocktree.KindOf(err) != blocktree.Unavailable {
			t.Errorf("mirror %q: %v", bad, err)
		}
	}
}
