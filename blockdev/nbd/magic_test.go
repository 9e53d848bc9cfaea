package nbd

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"blocktree/blockdev/memfile"
)

// TestBadMagic: one bit of a magic number is enough, of an option and of a request of any style. The connection ends without a word, because
// nobody knows where the next one begins; what was begun before is finished and answered.
func TestBadMagic(t *testing.T) {
	b := newBed(t, setup{})
	option := appendOption(nil, optList, nil)
	for bit := range 64 {
		c := b.dial().hello(clientFlags)
		c.ask(optList, nil)
		c.deaf = true
		c.send(flipped(option, bit))
		c.closed()
	}
	for _, s := range styles {
		read := (&client{style: s}).request(cmdRead, 0, 1, 0, 512, nil)
		var bad [][]byte
		for bit := range 32 {
			bad = append(bad, flipped(read, bit))
		}
		for _, magic := range []uint32{0x25609513, magicExtendedRequest, 0x67446698, magicStructured, magicExtendedReply, 0} { // those of others
			other := binary.BigEndian.AppendUint32(nil, magic)
			if !bytes.Equal(other, read[:4]) {
				bad = append(bad, append(other, read[4:]...))
			}
		}
		for _, x := range bad {
			g := newGate(func(memfile.Call) bool { return true })
			b := newBed(t, setup{file: g.options()})
			c := b.attachAs(s)
			c.send(read)
			until(t, "it is held", func() bool { return g.held.Load() == 1 })
			c.send(x)
			close(g.release)
			if a := c.answer(1, cmdRead, 0, 0, 512); a.errno != 0 {
				t.Errorf("%v: error %d", s, a.errno)
			}
			c.closed()
		}
	}
}

// flipped is b with one bit the other way round.
func flipped(b []byte, bit int) []byte {
	b = slices.Clone(b)
	b[bit/8] ^= 1 << (bit % 8)
	return b
}
