package nbd

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"blocktree/blockdev/memfile"
)

// TestCookies: a cookie is the client's own. The same ones are in flight on several connections at once, and twice on one; each comes back as
// it was, where it was sent, with the data of its own request.
func TestCookies(t *testing.T) {
	cookies := []uint64{0, 1, 1, math.MaxUint64, 1 << 63, math.MaxUint32, 0x6744669800000000, 0x2560951300000000} // some look like magic numbers
	g := newGate(func(c memfile.Call) bool { return c.Op == memfile.Read })
	b := newBed(t, setup{file: g.options()})
	image := make([]byte, size)
	for i := range image {
		image[i] = byte(i>>12) | 0x80 // tells its sector, and is no hole
	}
	if err := b.dev.WriteAt(t.Context(), image, 0, false); err != nil {
		t.Fatal(err)
	}
	all := []*client{b.attachAs(compact), b.attachAs(structured), b.attachAs(extended), b.attachAs(compact)}
	sector := func(connection, request int) uint64 { return uint64(connection*len(cookies) + request) }
	for i, c := range all {
		for j, cookie := range cookies {
			c.send(c.request(cmdRead, 0, cookie, sector(i, j)<<12, 512, nil))
		}
	}
	until(t, "all are held", func() bool { return int(g.held.Load()) == len(all)*len(cookies) })
	close(g.release)
	for i, c := range all {
		left := map[[2]uint64]bool{} // cookie, sector
		for j, cookie := range cookies {
			left[[2]uint64{cookie, sector(i, j)}] = true
		}
		for range cookies {
			cookie, data := c.anyRead(512)
			got := [2]uint64{cookie, uint64(data[0] &^ 0x80)}
			if !left[got] || !bytes.Equal(data, bytes.Repeat(data[:1], 512)) {
				t.Fatalf("connection %d (%v): cookie %x with sector %d; left are %v", i, c.style, cookie, got[1], left)
			}
			delete(left, got)
		}
		c.inSync()
	}
}

// anyRead takes the answer to whichever READ of n bytes of data it is.
func (c *client) anyRead(n int) (cookie uint64, data []byte) {
	c.t.Helper()
	if c.style == compact {
		errno, cookie := c.reply()
		if errno != 0 {
			c.t.Fatalf("error %d", errno)
		}
		return cookie, c.take(n)
	}
	h, err := c.br.Peek(c.style.chunkBytes())
	if err != nil {
		c.t.Fatal(err)
	}
	var offset uint64
	if c.style == extended {
		offset = binary.BigEndian.Uint64(h[16:])
	}
	x := c.chunk(offset)
	if x.kind != chunkData || !x.done || len(x.payload) != 8+n {
		c.t.Fatalf("a chunk of kind %d, %d bytes", x.kind, len(x.payload))
	}
	return x.handle, x.payload[8:]
}
