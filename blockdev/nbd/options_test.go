package nbd

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"blocktree"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// standing is where a negotiation is when an option comes.
type standing struct {
	name string
	tls  bool // the listener requires it
	take func(c *client)
}

// errors of options, by their numbers.
const (
	unsup, invalid, tlsReqd, unknown, tooBig, needsExtended = 1<<31 | 1, 1<<31 | 3, 1<<31 | 5, 1<<31 | 6, 1<<31 | 9, 1<<31 | 10
)

// standings are as many as the columns of TestEveryOption.
func standings(t *testing.T, a *authority) []standing {
	restyle := func(option uint32) func(c *client) {
		return func(c *client) {
			if got := c.ask(option, nil); got.last() != ack {
				c.t.Fatalf("option %d: %v", option, got)
			}
		}
	}
	return []standing{
		{"compact", false, func(*client) {}},
		{"structured", false, restyle(optStructuredReply)},
		{"extended", false, restyle(optExtendedHeaders)},
		{"before TLS", true, func(*client) {}},
		{"under TLS", true, func(c *client) {
			if _, err := c.startTLS(a.config()); err != nil {
				t.Fatal(err)
			}
		}},
		{"after a refused GO", false, func(c *client) {
			if got := goes(c, "/none"); got != unknown {
				c.t.Fatalf("%x", got)
			}
		}},
	}
}

// TestEveryOption asks each option in each standing: what is good, with every byte less, and with one more. Whatever the answer is,
// the negotiation goes on, but for ABORT and GO, which end it in their ways.
func TestEveryOption(t *testing.T) {
	a := newAuthority(t)
	secure := a.load(CertificatesNone)
	plain, required := newBed(t, setup{}), newBed(t, setup{tls: secure})
	info := infoRequest{name: "/vm/disk0", wants: []uint16{1, 2}}.encode()
	meta := metaQuery{"/vm/disk0", []string{"base:allocation"}}.encode()
	columns := standings(t, a)
	for _, x := range []struct {
		name    string
		id      uint32
		good    []byte
		whole   [6]uint32 // the answer to it in each standing
		other   [6]uint32 // to it with bytes missing, or one too many
		dataful bool      // any data will do
	}{
		{"0", 0, nil, all6(unsup, tlsReqd), all6(unsup, tlsReqd), true},
		{"ABORT", 2, nil, all6(ack, ack), all6(ack, ack), true},
		{"LIST", 3, nil, all6(ack, tlsReqd), all6(invalid, tlsReqd), false},
		{"PEEK_EXPORT", 4, []byte("/vm/disk0"), all6(unsup, tlsReqd), all6(unsup, tlsReqd), true},
		{"STARTTLS", 5, nil, [6]uint32{unsup, unsup, unsup, ack, invalid, unsup}, [6]uint32{unsup, unsup, unsup, invalid, invalid, unsup}, false},
		{"INFO", 6, info, all6(ack, tlsReqd), all6(invalid, tlsReqd), false},
		{"GO", 7, info, all6(ack, tlsReqd), all6(invalid, tlsReqd), false},
		{"STRUCTURED_REPLY", 8, nil, [6]uint32{ack, ack, needsExtended, tlsReqd, ack, ack}, all6(invalid, tlsReqd), false},
		{"LIST_META_CONTEXT", 9, meta, [6]uint32{invalid, ack, ack, tlsReqd, invalid, invalid}, all6(invalid, tlsReqd), false},
		{"SET_META_CONTEXT", 10, meta, [6]uint32{invalid, ack, ack, tlsReqd, invalid, invalid}, all6(invalid, tlsReqd), false},
		{"EXTENDED_HEADERS", 11, nil, all6(ack, tlsReqd), all6(invalid, tlsReqd), false},
		{"12", 12, []byte("IHAVEOPT"), all6(unsup, tlsReqd), all6(unsup, tlsReqd), true},
		{"the last number", 1<<32 - 1, []byte("IHAVEOPT"), all6(unsup, tlsReqd), all6(unsup, tlsReqd), true},
	} {
		for i, at := range columns {
			b := plain
			if at.tls {
				b = required
			}
			ask := func(data []byte, want uint32) {
				t.Helper()
				c := b.dial().hello(clientFlags)
				at.take(c)
				got := c.ask(x.id, data)
				if got.last() != want || want != ack && len(got) != 1 {
					t.Fatalf("%s, %s, %q: %v, want %x", x.name, at.name, data, got, want)
				}
				goesOn(c, x.id, got.last(), at.name == "before TLS")
			}
			ask(x.good, x.whole[i])
			for n := range x.good {
				ask(x.good[:n], x.other[i])
			}
			ask(append(slices.Clone(x.good), 0), x.other[i])
		}
	}
}

// all6 is the same answer in each standing but before TLS.
func all6(kind, beforeTLS uint32) [6]uint32 {
	return [6]uint32{kind, kind, kind, beforeTLS, kind, kind}
}

// goesOn demands that the negotiation goes on after an answer to an option, or ends where that is its sense.
func goesOn(c *client, option, answered uint32, beforeTLS bool) {
	c.t.Helper()
	switch {
	case option == optAbort:
		c.closed()
	case option == optStartTLS && answered == ack: // the handshake comes next
		c.nc.Close()
	case option == optGo && answered == ack: // requests come next, of a style that the caller knows
		c.nc.Close()
	default:
		want := uint32(ack)
		if beforeTLS {
			want = tlsReqd
		}
		if got := c.ask(optList, nil); got.last() != want {
			c.t.Fatalf("after option %d: LIST: %v", option, got)
		}
		c.nc.Close()
	}
}

// TestOptionLengths: each option may have 64 KiB of data, and not a byte more, whatever else is wrong with it.
func TestOptionLengths(t *testing.T) {
	b := newBed(t, setup{})
	most := make([]byte, blocktree.NBDOptionBytesMax)
	for _, id := range []uint32{0, optExportName, optAbort, optList, 4, optStartTLS, optInfo, optGo, optStructuredReply, optListMeta, optSetMeta,
		optExtendedHeaders, 12, 1<<32 - 1} {
		c := b.dial().hello(clientFlags)
		c.option(id, uint32(len(most)), most)
		switch id {
		case optExportName: // no such name: the only answer is the end
			c.closed()
		case optAbort:
			if got := c.replies(id); got.last() != ack {
				t.Errorf("option %d: %v", id, got)
			}
			c.closed()
		default:
			if got := c.replies(id); got.last()>>31 != 1 {
				t.Errorf("option %d with 64 KiB: %v", id, got)
			}
			goesOn(c, id, 0, false)
		}
		for _, length := range []uint32{uint32(len(most)) + 1, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
			c := b.dial().hello(clientFlags)
			c.option(id, length, nil) // a server that believed it would wait for what never comes
			if id != optExportName {
				if got := c.replies(id); len(got) != 1 || got.last() != tooBig {
					t.Errorf("option %d of %d bytes: %v", id, length, got)
				}
			}
			c.closed()
		}
	}
}

// TestGoSaysWhatInfoSaid: the same for every set of information that may be asked for, under every style, name and export.
func TestGoSaysWhatInfoSaid(t *testing.T) {
	for _, readOnly := range []bool{false, true} {
		b := newBed(t, setup{readOnly: readOnly})
		for _, s := range styles {
			for set := range 1 << 5 {
				var wants []uint16
				for kind := range uint16(5) { // the last is none
					if set&(1<<kind) != 0 {
						wants = append(wants, kind, kind) // twice is once
					}
				}
				q := infoRequest{name: []string{"/vm/disk0", "vm/disk0", ""}[set%3], wants: wants}.encode()
				c := b.dial().agree(s)
				asked, gone := c.ask(optInfo, q), c.ask(optGo, q)
				if fmt.Sprint(asked) != fmt.Sprint(gone) || gone.last() != ack {
					t.Fatalf("%v, %v: INFO %v, GO %v", s, wants, asked, gone)
				}
				var kinds []uint16
				for _, x := range gone[:len(gone)-1] {
					if x.kind != protocol.NEGOTIATION_TYPE_REPLY_INFO {
						t.Fatalf("%v, %v: %v", s, wants, gone)
					}
					kinds = append(kinds, binary.BigEndian.Uint16([]byte(x.data)))
				}
				slices.Sort(kinds)
				want := []uint16{0}
				for _, kind := range []uint16{1, 2, 3} {
					if kind == 3 || set&(1<<kind) != 0 {
						want = append(want, kind)
					}
				}
				if !slices.Equal(kinds, want) {
					t.Fatalf("%v, %v: kinds %v, want %v", s, wants, kinds, want)
				}
				c.inSync()
				c.leave()
			}
		}
	}
}
