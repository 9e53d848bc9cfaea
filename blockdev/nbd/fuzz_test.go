package nbd

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/memfile"
)

func FuzzInfo(f *testing.F) {
	f.Add(infoRequest{name: "/vm/disk0", wants: []uint16{1, 3}}.encode())
	f.Add([]byte("\xff\xff\xff\xff\x00\x00"))
	f.Add([]byte("\x00\x00\x00\x00\x00\x01\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := decodeInfo(b)
		if err != nil {
			if k := blocktree.KindOf(err); k != blocktree.Invalid && k != blocktree.TooLarge {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(q.encode(), b) {
			t.Fatalf("%+v is not %x", q, b)
		}
	})
}

func FuzzOptionHeader(f *testing.F) {
	f.Add([]byte("IHAVEOPT\x00\x00\x00\x07\x00\x00\x00\x10"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < optionHeaderBytes {
			return
		}
		h, err := decodeOption(b)
		if (err == nil) != strings.HasPrefix(string(b), "IHAVEOPT") {
			t.Fatal(err)
		}
		again := appendReplyHeader(nil, h.ID, 0, int(h.Length)) // the same two numbers in other places
		if !bytes.Equal(again[8:12], b[8:12]) || !bytes.Equal(again[16:20], b[12:16]) {
			t.Fatalf("%+v is not %x", h, b)
		}
	})
}

func FuzzRequestHeader(f *testing.F) {
	f.Add(header(cmdWrite, 1, 2, 3, 4))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < requestBytes {
			return
		}
		h, err := decodeRequest(b)
		if (err == nil) != strings.HasPrefix(string(b), "\x25\x60\x95\x13") {
			t.Fatal(err)
		}
		if got := encodeRequest(nil, h); !bytes.Equal(got, b[:requestBytes]) {
			t.Fatalf("%+v is not %x", h, b)
		}
	})
}

// scripted is a connection on which the client has said everything already.
type scripted struct {
	*bytes.Reader
	said bytes.Buffer
}

func (s *scripted) Write(b []byte) (int, error)      { return s.said.Write(b) }
func (s *scripted) Close() error                     { return nil }
func (s *scripted) LocalAddr() net.Addr              { return &net.UnixAddr{} }
func (s *scripted) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
func (s *scripted) SetDeadline(time.Time) error      { return nil }
func (s *scripted) SetReadDeadline(time.Time) error  { return nil }
func (s *scripted) SetWriteDeadline(time.Time) error { return nil }

// FuzzConversation says anything at all to a server: it must come to an end, panic never, and give back all memory.
func FuzzConversation(f *testing.F) {
	option := func(id byte, data string) string {
		return "IHAVEOPT\x00\x00\x00" + string(id) + "\x00\x00\x00" + string(byte(len(data))) + data
	}
	hello := "\x00\x00\x00\x03"
	q := string(infoRequest{name: "/vm/disk0", wants: []uint16{1, 2, 3}}.encode())
	chosen := hello + option(7, q)
	f.Add([]byte(hello + option(3, "") + option(6, q) + option(8, "") + option(2, "")))
	f.Add([]byte(hello + option(1, "vm/disk0") + string(header(cmdRead, 0, 1, 0, 100))))
	f.Add([]byte(chosen + string(header(cmdWrite, 1, 1, 5, 3)) + "abc" + string(header(cmdFlush, 0, 2, 0, 0))))
	f.Add([]byte(chosen + string(header(cmdWriteZeroes, 16, 1, 5, 30000)) + string(header(cmdTrim, 0, 2, 0, 9000))))
	f.Add([]byte(chosen + string(header(cmdWrite, 0, 1, 1<<63, 1<<31)) + "abc"))
	f.Add([]byte(chosen + string(header(99, 0, 1, 0, 9)) + string(header(cmdDisc, 0, 2, 0, 0))))
	f.Fuzz(func(t *testing.T, script []byte) {
		memory := blockdev.NewMemory(64 << 20)
		dev, err := blockdev.Open(memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 64 << 10}}),
			blockdev.Options{Memory: memory})
		if err != nil {
			t.Fatal(err)
		}
		var exports blockdev.Exports
		if err := exports.Add(blockdev.Export{Name: "/vm/disk0", Device: dev}); err != nil {
			t.Fatal(err)
		}
		s := NewServer(Config{Exports: &exports, Memory: memory})
		nc := &scripted{Reader: bytes.NewReader(script)}
		c := newConn(s, nc)
		c.serve(func() {})
		if !strings.HasPrefix(nc.said.String(), "NBDMAGICIHAVEOPT\x00\x03") {
			t.Fatalf("said %q", nc.said.String())
		}
		if memory.FreeBytes() != 64<<20 {
			t.Fatal("memory is missing")
		}
		if err := s.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := dev.Close(); err != nil {
			t.Fatal(err)
		}
		if len(s.attached) != 0 {
			t.Fatalf("still attached: %v", s.attached)
		}
	})
}

var _ io.Reader = (*scripted)(nil)
