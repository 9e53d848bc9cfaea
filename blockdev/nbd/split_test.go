package nbd

import (
	"bytes"
	"context"
	"testing"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/memfile"
)

// splitConn gives what the client says in two pieces.
type splitConn struct {
	scripted
	first int // bytes until the second begins
}

func (c *splitConn) Read(p []byte) (int, error) {
	at := int(c.Size()) - c.Len()
	if at < c.first && len(p) > c.first-at {
		p = p[:c.first-at]
	}
	return c.scripted.Read(p)
}

// conversation is one that has every option and command, in a style.
func conversation(s style) []byte {
	say := []byte{0, 0, 0, 3}
	meta := metaQuery{"/vm/disk0", []string{"base:allocation"}}.encode()
	say = appendOption(say, optList, nil)
	say = appendOption(say, 77, []byte("IHAVEOPT"))
	say = appendOption(say, optListMeta, meta)
	switch s {
	case structured:
		say = appendOption(say, optStructuredReply, nil)
	case extended:
		say = appendOption(say, optExtendedHeaders, nil)
	}
	say = appendOption(say, optListMeta, meta)
	say = appendOption(say, optSetMeta, meta)
	say = appendOption(say, optInfo, infoRequest{name: "/vm/disk0", wants: []uint16{1, 2, 3}}.encode())
	say = appendOption(say, optGo, infoRequest{name: "/vm/disk0"}.encode())
	c := &client{style: s}
	say = append(say, c.request(cmdWrite, 1, 1, 4000, 200, bytes.Repeat([]byte{7}, 200))...)
	say = append(say, c.request(cmdWrite, 0, 2, 1<<40, 9, []byte("refused !"))...)
	say = append(say, c.request(cmdRead, 0, 3, 3900, 400, nil)...)
	say = append(say, c.request(cmdRead, cmdFlagDF, 4, 0, 60000, nil)...)
	for i, command := range []uint16{cmdRead, cmdFlush, cmdTrim, cmdWriteZeroes, cmdCache, cmdBlockStatus, 99} {
		length := uint64(40000)
		if command == cmdFlush {
			length = 0
		}
		say = append(say, c.request(command, 0, uint64(10+i), 0, length, nil)...)
	}
	if s == extended {
		say = append(say, encodeExtended(nil, command{kind: cmdBlockStatus, flags: cmdFlagPayloadLen, handle: 20, length: 12})...)
		say = append(say, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 1)
		say = append(say, encodeExtended(nil, command{kind: cmdTrim, flags: cmdFlagPayloadLen, handle: 21, length: 5})...)
		say = append(say, "12345"...)
	}
	return append(say, c.request(cmdDisc, 0, 99, 0, 0, nil)...)
}

// TestSplitAnywhere says a whole conversation in two pieces, split at every byte: the answers are the same.
func TestSplitAnywhere(t *testing.T) {
	for _, s := range styles {
		say := conversation(s)
		hear := func(first int) []byte {
			memory := blockdev.NewMemory(1 << 20)
			dev, err := blockdev.Open(memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 64 << 10}, Prompt: true}),
				blockdev.Options{Memory: memory})
			if err != nil {
				t.Fatal(err)
			}
			var exports blockdev.Exports
			if err := exports.Add(blockdev.Export{Name: "/vm/disk0", Device: dev}); err != nil {
				t.Fatal(err)
			}
			srv := NewServer(Config{Exports: &exports, Memory: memory})
			nc := &splitConn{scripted{Reader: bytes.NewReader(say)}, first}
			newConn(srv, nc).serve(func() {})
			if err := srv.Close(context.Background()); err != nil || memory.FreeBytes() != 1<<20 {
				t.Fatalf("%v, %d bytes are free", err, memory.FreeBytes())
			}
			if err := dev.Close(); err != nil {
				t.Fatal(err)
			}
			return nc.said.Bytes()
		}
		want := hear(0)
		if len(want) < 1000 {
			t.Fatalf("%v: only %d bytes are said", s, len(want))
		}
		for first := 1; first < len(say); first++ {
			if got := hear(first); !bytes.Equal(got, want) {
				t.Fatalf("%v: split at byte %d of %d: other answers", s, first, len(say))
			}
		}
	}
}
