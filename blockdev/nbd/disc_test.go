package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"testing"

	"blocktree"
	"blocktree/blockdev/memfile"
)

// TestDiscFinishesFirst: DISC, and the end of the stream, come while requests are held, as many as may be; all of them are answered, and only then the
// connection ends.
func TestDiscFinishesFirst(t *testing.T) {
	for _, s := range styles {
		for _, many := range []int{1, 2, blocktree.NBDRequestsPerConnectionMax} {
			for _, disc := range []bool{true, false} {
				t.Run(fmt.Sprint(s, many, disc), func(t *testing.T) { discFinishesFirst(t, s, many, disc) })
			}
		}
	}
}

func discFinishesFirst(t *testing.T, s style, many int, disc bool) {
	g := newGate(func(memfile.Call) bool { return true })
	b := newBed(t, setup{file: g.options()})
	c := b.attachAs(s)
	commands := make(map[uint64]uint16)
	for i := range uint64(many) {
		command, payload := []uint16{cmdWrite, cmdRead, cmdWriteZeroes, cmdTrim}[i%4], []byte(nil)
		if command == cmdWrite {
			payload = bytes.Repeat([]byte{7}, 4096)
		}
		commands[i] = command
		c.send(c.request(command, 0, i, i<<12, 4096, payload))
	}
	if disc {
		c.send(c.request(cmdDisc, 0, 1<<40, 0, 0, nil))
	} else if err := c.nc.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	until(t, "all are held", func() bool { return int(g.held.Load()) == many })
	close(g.release)
	for range many {
		handle := c.peekHandle()
		command, open := commands[handle]
		if !open {
			t.Fatalf("an answer to request %d", handle)
		}
		delete(commands, handle)
		if a := c.answer(handle, command, 0, handle<<12, 4096); a.errno != 0 {
			t.Fatalf("request %d: error %d", handle, a.errno)
		}
	}
	c.closed()
	p := make([]byte, 1)
	for i := 0; i < many; i += 4 {
		if err := b.dev.ReadAt(context.Background(), p, uint64(i)<<12); err != nil || p[0] != 7 {
			t.Fatalf("write %d was dropped (%d, %v)", i, p[0], err)
		}
	}
}

// peekHandle tells to which request the next answer is. Every style has it in the same place.
func (c *client) peekHandle() uint64 {
	c.t.Helper()
	b, err := c.br.Peek(16)
	if err != nil {
		c.t.Fatal(err)
	}
	return binary.BigEndian.Uint64(b[8:])
}
