package bttp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/quic-go/quic-go"

	"blocktree"
)

// A mirror tells who sends it a probe from which address that came: every runtime that listens by QUIC is one, for anybody. A probe is as long as what
// answers it, so that nobody has a mirror send more to a third party than was sent to it.

const (
	// probeBytes is the length of a probe and of its answer: magic, nonce, and in the answer an address and a port; the rest is zero.
	probeBytes = 48
	// probeMagic and seenMagic begin them. The first bits say that they are no QUIC packets.
	probeMagic = "\x01btprobe"
	seenMagic  = "\x01btseen\x00"
	// mirrorPerSecond bounds the answers of a runtime.
	mirrorPerSecond = 1000
	// probeEvery is how often a probe is repeated until it is answered.
	probeEvery = 100 * time.Millisecond
)

// nonce names a probe.
type nonce [16]byte

// encodeProbe makes a probe.
func encodeProbe(n nonce) []byte {
	b := append(make([]byte, 0, probeBytes), probeMagic...)
	return append(b, n[:]...)[:probeBytes]
}

// decodeProbe reads one.
func decodeProbe(b []byte) (n nonce, err error) {
	copy(n[:], b[min(len(b), len(probeMagic)):])
	if !bytes.Equal(b, encodeProbe(n)) {
		return nonce{}, blocktree.E("probe", blocktree.Invalid, errors.New("no probe"))
	}
	return n, nil
}

// encodeSeen makes the answer to a probe that came from an address.
func encodeSeen(n nonce, at netip.AddrPort) []byte {
	b := append(make([]byte, 0, probeBytes), seenMagic...)
	b = append(b, n[:]...)
	ip := at.Addr().As16()
	b = append(b, ip[:]...)
	return binary.BigEndian.AppendUint16(b, at.Port())[:probeBytes]
}

// decodeSeen reads one.
func decodeSeen(b []byte) (n nonce, at netip.AddrPort, err error) {
	if len(b) == probeBytes {
		rest := b[len(seenMagic):]
		copy(n[:], rest)
		at = netip.AddrPortFrom(netip.AddrFrom16([16]byte(rest[16:32])).Unmap(), binary.BigEndian.Uint16(rest[32:]))
	}
	if !bytes.Equal(b, encodeSeen(n, at)) || at.Port() == 0 {
		return nonce{}, netip.AddrPort{}, blocktree.E("probe", blocktree.Invalid, errors.New("no answer to a probe"))
	}
	return n, at, nil
}

// others reads what comes to a QUIC socket and is none of its packets: probes, which are answered where mirror is set, and answers to this runtime's own.
func (e *Endpoint) others(t *quic.Transport, mirror bool) {
	pace := newPace(mirrorPerSecond)
	b := make([]byte, probeBytes+1)
	for {
		n, from, err := t.ReadNonQUICPacket(e.ctx, b)
		if err != nil {
			return
		}
		if probe, err := decodeProbe(b[:n]); err == nil && mirror {
			if at, err := netip.ParseAddrPort(from.String()); err == nil {
				pace.take(e.ctx, 1)
				_, _ = t.WriteTo(encodeSeen(probe, at), from) // who probes does so again
			}
			continue
		}
		if probe, at, err := decodeSeen(b[:n]); err == nil {
			e.mu.Lock()
			seen := e.probes[probe]
			e.mu.Unlock()
			if seen != nil {
				select {
				case seen <- at:
				default: // it has one
				}
			}
		}
	}
}

// outside asks a mirror, "ip:port", from which address what this runtime's dialling socket sends comes. It blocks until that is known or ctx ends.
func (e *Endpoint) outside(ctx context.Context, mirror string) (netip.AddrPort, error) {
	to, err := netip.ParseAddrPort(mirror)
	if err != nil {
		return netip.AddrPort{}, blocktree.E("probe", blocktree.Unavailable, errors.New("nobody to tell the address that is seen from outside"))
	}
	t, err := e.dialTransport()
	if err != nil {
		return netip.AddrPort{}, err
	}
	n := nonce(newConnID())
	seen := make(chan netip.AddrPort, 1)
	e.mu.Lock()
	e.probes[n] = seen
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.probes, n)
	}()
	for again := time.NewTicker(probeEvery); ; {
		if _, err := t.WriteTo(encodeProbe(n), net.UDPAddrFromAddrPort(to)); err != nil {
			again.Stop()
			return netip.AddrPort{}, blocktree.E("probe", blocktree.Unavailable, err)
		}
		select {
		case at := <-seen:
			again.Stop()
			return at, nil
		case <-ctx.Done():
			again.Stop()
			return netip.AddrPort{}, blocktree.E("probe", blocktree.Unavailable, errors.New("no mirror answers"))
		case <-again.C:
		}
	}
}
