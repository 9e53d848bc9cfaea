package bttp

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"testing"
	"testing/iotest"
	"time"
	"unsafe"

	"blocktree"
	"blocktree/crypto/cred"
)

func TestFrameBounds(t *testing.T) {
	for _, x := range []struct {
		name string
		f    frame
		want blocktree.Kind // Other: good
	}{
		{"request", frame{kind: frameRequest, code: 3, id: 9, headerBytes: 5, bodyBytes: 7}, blocktree.Other},
		{"largest", frame{kind: frameReply, id: 1, headerBytes: blocktree.FrameHeaderBytesMax, bodyBytes: blocktree.FrameBodyBytesMax}, blocktree.Other},
		{"header", frame{kind: frameRequest, id: 1, headerBytes: blocktree.FrameHeaderBytesMax + 1}, blocktree.TooLarge},
		{"body", frame{kind: frameRequest, id: 1, bodyBytes: blocktree.FrameBodyBytesMax + 1}, blocktree.TooLarge},
		{"length of 4 GiB", frame{kind: frameOneWay, bodyBytes: 1<<32 - 1}, blocktree.TooLarge},
		{"hello", frame{kind: frameHello, bodyBytes: helloBytesMax + 1}, blocktree.TooLarge},
		{"failure's text", frame{kind: frameFailure, id: 1, bodyBytes: failureBytesMax + 1}, blocktree.TooLarge},
		{"no type", frame{}, blocktree.Invalid},
		{"relay", frame{kind: frameRelay, bodyBytes: relayBytes}, blocktree.Other},
		{"relay with more", frame{kind: frameRelay, bodyBytes: relayBytes + 1}, blocktree.TooLarge},
		{"relay with id", frame{kind: frameRelay, id: 1, bodyBytes: relayBytes}, blocktree.Invalid},
		{"unknown type", frame{kind: frameMeet + 1}, blocktree.Invalid},
		{"request without id", frame{kind: frameRequest}, blocktree.Invalid},
		{"reply without id", frame{kind: frameReply}, blocktree.Invalid},
		{"one-way with id", frame{kind: frameOneWay, id: 1}, blocktree.Invalid},
		{"kind in a reply", frame{kind: frameReply, id: 1, errorKind: blocktree.IO}, blocktree.Invalid},
		{"ping with a body", frame{kind: framePing, bodyBytes: 1}, blocktree.Invalid},
	} {
		got, err := decodeFrame(x.f.append(nil))
		if blocktree.KindOf(err) != x.want || (err == nil) != (x.want == blocktree.Other) {
			t.Errorf("%s: got %v, want kind %v", x.name, err, x.want)
		}
		if err == nil && got != x.f {
			t.Errorf("%s: got %+v", x.name, got)
		}
	}
	short := frame{kind: frameRequest, id: 1, headerBytes: 9}.append(nil)
	short[3] = 8 // the whole is shorter than its header
	if _, err := decodeFrame(short); blocktree.KindOf(err) != blocktree.Invalid {
		t.Errorf("a header longer than its frame: %v", err)
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(frame{kind: frameRequest, code: 3, id: 9, headerBytes: 5, bodyBytes: 7}.append(nil))
	f.Add(frame{kind: frameFailure, id: 9, errorKind: blocktree.NoSpace, bodyBytes: 12}.append(nil))
	f.Add(frame{kind: framePing}.append(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < fixedBytes {
			return
		}
		got, err := decodeFrame(in)
		if err == nil && !bytes.Equal(got.append(nil), in[:fixedBytes]) {
			t.Fatalf("encode(decode(%x)) = %x", in[:fixedBytes], got.append(nil))
		}
	})
}

func FuzzHello(f *testing.F) {
	d := newDomain(f)
	f.Add((&hello{lane: 0, lanes: 2, chain: d.config("a").Credentials}).encode())
	f.Add((&hello{lane: 1, lanes: 2}).encode())
	f.Fuzz(func(t *testing.T, in []byte) {
		h, err := decodeHello(in)
		if err == nil && !bytes.Equal(h.encode(), in) {
			t.Fatalf("encode(decode(%x)) = %x", in, h.encode())
		}
	})
}

func FuzzRelayFrame(f *testing.F) {
	f.Add((&relayFrame{conn: connID{1}, target: blocktree.Principal{2}}).encode())
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := decodeRelay(in)
		if err == nil && (!bytes.Equal(r.encode(), in) || len(in) != relayBytes) {
			t.Fatalf("encode(decode(%x)) = %x", in, r.encode())
		}
	})
}

func FuzzMeetFrame(f *testing.F) {
	f.Add(encodeMeet(askToken{1}))
	f.Fuzz(func(t *testing.T, in []byte) {
		token, err := decodeMeet(in)
		if err == nil && (!bytes.Equal(encodeMeet(token), in) || len(in) != meetBytes) {
			t.Fatalf("encode(decode(%x)) = %x", in, encodeMeet(token))
		}
	})
}

func FuzzAsk(f *testing.F) {
	d := newDomain(f)
	c := d.config("a")
	a := &Ask{Mode: AskBack, Token: askToken{1}, Path: blocktree.RootPath(d.root).Join("b"), Target: blocktree.Principal{2}, TCP: 1, UDP: 2, Lanes: 2, Time: time.Unix(3, 4)}
	a.sign(c.Key, c.Credentials)
	f.Add(a.Encode())
	f.Fuzz(func(t *testing.T, in []byte) {
		a, err := DecodeAsk(in)
		if err == nil && (!bytes.Equal(a.Encode(), in) || len(in) > AskBytesMax) {
			t.Fatalf("encode(decode(%x)) = %x", in, a.Encode())
		}
	})
}

func FuzzProbe(f *testing.F) {
	f.Add(encodeProbe(nonce{1}))
	f.Add(encodeSeen(nonce{1}, netip.MustParseAddrPort("192.0.2.1:7")))
	f.Fuzz(func(t *testing.T, in []byte) {
		if n, err := decodeProbe(in); err == nil && !bytes.Equal(encodeProbe(n), in) {
			t.Fatalf("encode(decode(%x)) = %x", in, encodeProbe(n))
		}
		if n, at, err := decodeSeen(in); err == nil && !bytes.Equal(encodeSeen(n, at), in) {
			t.Fatalf("encode(decode(%x)) = %x", in, encodeSeen(n, at))
		}
	})
}

func TestHelloRefuses(t *testing.T) {
	good := (&hello{lane: 1, lanes: 2}).encode()
	change := func(at int, b byte) []byte {
		c := bytes.Clone(good)
		c[at] = b
		return c
	}
	for name, in := range map[string][]byte{"empty": nil, "short": good[:10], "long": append(bytes.Clone(good), 0),
		"no lanes": change(18, 0), "lane not announced": change(17, 2), "too many lanes": change(18, blocktree.LanesMax+1),
		"empty chain": append(change(19, 1), (&wireBytes{cred.Credentials(nil).Encode()}).encode()...)} {
		if _, err := decodeHello(in); blocktree.KindOf(err) != blocktree.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := decodeHello(change(0, formatHello+1)); blocktree.KindOf(err) != blocktree.NewerFormat {
		t.Errorf("newer: %v", err)
	}
}

// wireBytes is a length and bytes.
type wireBytes struct{ b []byte }

func (w *wireBytes) encode() []byte {
	return append([]byte{0, 0, byte(len(w.b) >> 8), byte(len(w.b))}, w.b...)
}

// testReader reads frames from plain bytes.
func testReader(from io.Reader) *reader {
	return &reader{from: from, before: func() error { return nil }, after: func() {}, pools: new(bufferPools), buf: make([]byte, readBufferBytes)}
}

// TestReaderCutsAnyPieces gives the same frames in pieces of all sorts.
func TestReaderCutsAnyPieces(t *testing.T) {
	var stream []byte
	sizes := []int{0, 1, 100, 4095, 4096, 17000, readBufferBytes + 3, blocktree.FrameBodyBytesMax, 5, 32 << 10, 40000, 64<<10 - 1, 64 << 10, 256 << 10}
	for i, n := range sizes {
		stream = frame{kind: frameRequest, code: uint16(i), id: uint64(i + 1), headerBytes: i * 3, bodyBytes: n}.append(stream)
		stream = append(stream, bytes.Repeat([]byte{0xaa}, i*3)...)
		stream = append(stream, bytes.Repeat([]byte{byte(i + 1)}, n)...)
	}
	for name, from := range map[string]io.Reader{"whole": bytes.NewReader(stream), "halves": iotest.HalfReader(bytes.NewReader(stream)),
		"one byte": iotest.OneByteReader(bytes.NewReader(stream)), "end with data": iotest.DataErrReader(bytes.NewReader(stream))} {
		r := testReader(from)
		for i, n := range sizes {
			f, b, err := r.readFrame()
			if err != nil {
				t.Fatalf("%s, frame %d: %v", name, i, err)
			}
			reply := newReply(f, b)
			if f.code != uint16(i) || len(reply.Body) != n || bytes.Count(reply.Body, []byte{byte(i + 1)}) != n ||
				bytes.Count(reply.Header, []byte{0xaa}) != i*3 {
				t.Fatalf("%s: frame %d came out changed", name, i)
			}
			if n >= alignBytes && uintptr(unsafe.Pointer(&reply.Body[0]))%alignBytes != uintptr(shiftOf(n+i*3)) {
				t.Fatalf("%s: frame %d is not aligned", name, i)
			}
			reply.Release()
		}
		if _, _, err := r.readFrame(); !errors.Is(err, io.EOF) {
			t.Fatalf("%s: at the end: %v", name, err)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add(append(frame{kind: frameRequest, id: 1, headerBytes: 2, bodyBytes: 3}.append(nil), "hhbbb"...))
	f.Add(append(frame{kind: framePing}.append(nil), frame{kind: frameOneWay, bodyBytes: 1}.append(nil)...))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := testReader(bytes.NewReader(in))
		used := 0
		for {
			fr, b, err := r.readFrame()
			if err != nil {
				return
			}
			used += fixedBytes + fr.headerBytes + fr.bodyBytes
			if used > len(in) {
				t.Fatal("more came out than went in")
			}
			b.release()
		}
	})
}

func TestBuffersAreAlignedAndReleasedOnce(t *testing.T) {
	var p bufferPools
	for _, n := range append([]int{1, 4096}, bufferClasses[:]...) {
		b := p.get(n)
		if len(b.data) < n {
			t.Fatalf("%d bytes for %d", len(b.data), n)
		}
		if n >= alignBytes && uintptr(unsafe.Pointer(&b.data[0]))%alignBytes != uintptr(shiftOf(n)) {
			t.Fatalf("%d bytes are not aligned", n)
		}
		b.release()
	}
	if shiftOf(32<<10) != 0 || shiftOf(64<<10) != blocktree.RecordHeaderBytes || shiftOf(blocktree.FrameBodyBytesMax) != blocktree.RecordHeaderBytes {
		t.Error("a long body does not begin where a record's payload does")
	}
	if bufferClasses[len(bufferClasses)-1] < blocktree.FrameBodyBytesMax+blocktree.FrameHeaderBytesMax {
		t.Fatal("the largest frame has no class")
	}
	b := p.get(1)
	reply := newReply(frame{kind: frameReply, id: 1, bodyBytes: 1}, b)
	reply.Release()
	b.uses.Add(1) // somebody else got it
	defer func() {
		if recover() == nil || b.uses.Load()&1 == 0 {
			t.Fatal("released for somebody else")
		}
	}()
	reply.Release()
}
