package nbd

import (
	"bufio"
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

// inverse: what decode takes is what encode writes, to the byte.
func inverse[Q interface{ encode() []byte }](f *testing.F, decode func([]byte) (Q, error)) {
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := decode(b)
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

func FuzzInfo(f *testing.F) {
	f.Add(infoRequest{name: "/vm/disk0", wants: []uint16{1, 3}}.encode())
	f.Add([]byte("\xff\xff\xff\xff\x00\x00"))
	f.Add([]byte("\x00\x00\x00\x00\x00\x01\x00"))
	inverse(f, decodeInfo)
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

func FuzzExtendedHeader(f *testing.F) {
	f.Add(encodeExtended(nil, command{kind: cmdWrite, flags: cmdFlagPayloadLen, handle: 2, offset: 3, length: 4}))
	f.Add(encodeExtended(nil, command{kind: cmdTrim, offset: 3, length: 1 << 63}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < extendedRequestBytes {
			return
		}
		q, err := decodeExtended(b)
		good := strings.HasPrefix(string(b), "\x21\xe4\x1c\x71")
		if (err == nil) != good {
			t.Fatal(err)
		}
		if q.payload != 0 && (q.payload != q.length || q.flags&cmdFlagPayloadLen == 0) {
			t.Fatalf("%+v", q)
		}
		if got := encodeExtended(nil, q); good && !bytes.Equal(got, b[:extendedRequestBytes]) {
			t.Fatalf("%+v is not %x", q, b)
		}
	})
}

func FuzzMetaQuery(f *testing.F) {
	f.Add(metaQuery{"/vm/disk0", []string{"base:allocation", "x-y:"}}.encode())
	f.Add([]byte("\x00\x00\x00\x00\xff\xff\xff\xff"))
	inverse(f, decodeMetaQuery)
}

// FuzzReadChunks: whatever is read, its chunks say it again, in either style.
func FuzzReadChunks(f *testing.F) {
	f.Add([]byte{1, 0, 2}, uint64(5), uint16(9000))
	f.Add([]byte{0, 0, 0, 0}, uint64(1<<40), uint16(4096))
	f.Add([]byte{0, 0, 1, 0, 0}, uint64(4095), uint16(8191))
	f.Fuzz(func(t *testing.T, pattern []byte, offset uint64, step uint16) {
		if len(pattern) == 0 || len(pattern) > 64 || step == 0 || offset > 1<<62 {
			return
		}
		for _, s := range styles[1:] {
			memory := blockdev.NewMemory(64 << 20)
			length := len(pattern) * int(step)
			r := &request{c: &conn{agreed: agreed{style: s}}, command: cmdRead, handle: 7, offset: offset, length: uint64(length),
				buf: memory.TryGet(s.room()+length, 0)}
			want := r.data()
			for i, x := range pattern {
				p := want[i*int(step) : (i+1)*int(step)]
				clear(p)
				p[len(p)-1] = x
			}
			want = bytes.Clone(want)
			r.finish(0, nil)
			var said []byte
			for _, b := range r.reply() {
				said = append(said, b...)
			}
			if len(said) != r.replyBytes || len(r.reply()) > partsMax {
				t.Fatalf("%d bytes in %d slices, not %d", len(said), len(r.reply()), r.replyBytes)
			}
			c := &client{t: t, br: bufio.NewReader(bytes.NewReader(said)), style: s}
			if a := c.answer(7, cmdRead, 0, offset, uint64(length)); !bytes.Equal(a.data, want) || c.br.Buffered() > 0 {
				t.Fatalf("%v: other bytes, or %d too many", s, c.br.Buffered())
			}
			r.release()
			if memory.FreeBytes() != 64<<20 {
				t.Fatal("memory is missing")
			}
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
	meta := option(10, string(metaQuery{"/vm/disk0", []string{"base:allocation"}}.encode()))
	status := string(header(cmdBlockStatus, 0, 1, 5, 3000)) + string(header(cmdBlockStatus, 8, 2, 0, 9)) + string(header(cmdCache, 0, 3, 0, 9000))
	f.Add([]byte(hello + option(9, q) + option(8, "") + meta + option(9, "") + option(7, q) + status + string(header(cmdRead, 4, 4, 0, 60000))))
	long := string(encodeExtended(nil, command{kind: cmdBlockStatus, flags: 32, handle: 1, length: 12})) + "\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\x00\x01" +
		string(encodeExtended(nil, command{kind: cmdWrite, flags: 32, handle: 2, offset: 3, length: 3})) + "abc" +
		string(encodeExtended(nil, command{kind: cmdRead, flags: 33, handle: 3, length: 4})) + "abcd" +
		string(encodeExtended(nil, command{kind: cmdTrim, handle: 4, length: 1 << 40})) + string(encodeExtended(nil, command{kind: cmdRead, handle: 5, length: 60000}))
	f.Add([]byte(hello + option(11, "") + meta + option(8, "") + option(7, q) + long))
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
		s.mu.Lock()
		defer s.mu.Unlock()
		if n := s.attachedConns(); n != 0 {
			t.Fatalf("%d connections are still attached: %v", n, s.attached)
		}
	})
}

var _ io.Reader = (*scripted)(nil)
