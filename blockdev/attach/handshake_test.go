package attach

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
)

// script is a server whose words are fixed: it says them, whatever it hears, and then nothing, or it hangs up.
type script struct {
	net.Conn // nil: what the handshake does not need is not there
	say      io.Reader
	heard    bytes.Buffer
}

func (s *script) Read(p []byte) (int, error)    { return s.say.Read(p) }
func (s *script) Write(p []byte) (int, error)   { return s.heard.Write(p) }
func (s *script) SetDeadline(t time.Time) error { return nil }

// oneByte gives one byte at a time.
type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(1, len(p))]) }

func good() []byte {
	return bytes.Join([][]byte{hello(3), exportInfo(7, 64*mib, usual), answer(7, 3, blockInfo(1, 4096, 32*mib)), answer(7, 3, []byte("\x00\x01/vm/disk0")),
		answer(7, 3, []byte("\x00\x02a disk\x1b[2J")), answer(7, 3, []byte{0, 77, 1, 2, 3}), answer(7, 1, nil)}, nil)
}

// TestHandshakeEveryByte: however the server's words are cut into pieces, they are understood and nothing behind them is read; ended at any
// byte they are an error (A6).
func TestHandshakeEveryByte(t *testing.T) {
	words, next := good(), []byte("the kernel's")
	for _, one := range []bool{false, true} {
		rest := bytes.NewReader(append(bytes.Clone(words), next...))
		s := &script{say: rest}
		if one {
			s.say = oneByte{rest}
		}
		e, err := choose(s, "/vm/disk0")
		if err != nil {
			t.Fatal(err)
		}
		if e.SizeBytes != 64*mib || e.Flags != usual || e.BlockBytesMin != 1 || e.BlockBytesBest != 4096 || e.PayloadBytesMax != 32*mib ||
			e.Name != "/vm/disk0" || e.Description != "a disk?[2J" {
			t.Errorf("%+v", e)
		}
		if rest.Len() != len(next) {
			t.Errorf("%d bytes are left of those behind", rest.Len())
		}
		want := append([]byte{0, 0, 0, 3}, "IHAVEOPT\x00\x00\x00\x07\x00\x00\x00\x15\x00\x00\x00\x09/vm/disk0\x00\x03\x00\x03\x00\x01\x00\x02"...)
		if !bytes.Equal(s.heard.Bytes(), want) {
			t.Errorf("said %q", s.heard.Bytes())
		}
	}
	for n := range words {
		if e, err := choose(&script{say: bytes.NewReader(words[:n])}, "/vm/disk0"); blocktree.KindOf(err) != blocktree.Unavailable {
			t.Errorf("%d bytes: %+v, %v", n, e, err)
		}
	}
}

// TestHandshakeRefusals: what a server may not say, and what it may refuse.
func TestHandshakeRefusals(t *testing.T) {
	join := func(b ...[]byte) []byte { return bytes.Join(b, nil) }
	after := func(b ...[]byte) []byte { return join(append([][]byte{hello(3)}, b...)...) }
	export, ack := exportInfo(7, mib, usual), answer(7, 1, nil)
	block := func(low, best, high uint32) []byte {
		return after(answer(7, 3, blockInfo(low, best, high)), export, ack)
	}
	magic := answer(7, 1, nil)
	magic[0]++
	for name, tc := range map[string]struct {
		say  []byte
		kind blocktree.Kind
	}{
		"another protocol":      {[]byte("SSH-2.0-OpenSSH_9.2\r\nxxxxxxxxx"), blocktree.Invalid},
		"oldstyle":              {append([]byte("NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53"), 0, 0), blocktree.Unsupported},
		"not fixed":             {hello(2), blocktree.Unsupported},
		"a wrong magic":         {after(export, magic), blocktree.Invalid},
		"another option":        {after(answer(6, 1, nil)), blocktree.Invalid},
		"a huge reply":          {after(answer(7, 3, make([]byte, replyBytesMax+1))), blocktree.Invalid},
		"a claimed huge reply":  {after(binary.BigEndian.AppendUint32(answer(7, 3, nil)[:16], 1<<32-1)), blocktree.Invalid},
		"too many replies":      {after(bytes.Repeat(answer(7, 3, []byte{0, 77}), repliesMax+1)), blocktree.Invalid},
		"no kind":               {after(answer(7, 3, []byte{0})), blocktree.Invalid},
		"an unknown kind":       {after(export, answer(7, 5, nil)), blocktree.Invalid},
		"no size":               {after(ack), blocktree.Invalid},
		"the size twice":        {after(export, export, ack), blocktree.Invalid},
		"a short size":          {after(answer(7, 3, make([]byte, 11)), ack), blocktree.Invalid},
		"a negative size":       {after(exportInfo(7, 1<<63, usual), ack), blocktree.Invalid},
		"no flags":              {after(exportInfo(7, mib, 0), ack), blocktree.Invalid},
		"data to the end":       {after(export, answer(7, 1, []byte{1})), blocktree.Invalid},
		"a long name":           {after(answer(7, 3, append([]byte{0, 1}, make([]byte, 4097)...))), blocktree.Invalid},
		"blocks: 3":             {block(3, 4096, mib), blocktree.Invalid},
		"blocks: 0":             {block(0, 4096, mib), blocktree.Invalid},
		"blocks: 128 KiB":       {block(128<<10, 128<<10, mib), blocktree.Invalid},
		"blocks: best < least":  {block(4096, 512, mib), blocktree.Invalid},
		"blocks: most < least":  {block(4096, 4096, 512), blocktree.Invalid},
		"blocks: odd most":      {block(4096, 4096, mib+1), blocktree.Invalid},
		"blocks: short":         {after(answer(7, 3, blockInfo(1, 512, mib)[:13])), blocktree.Invalid},
		"unknown export":        {after(answer(7, errBit|6, []byte("who?"))), blocktree.NotFound},
		"unknown option":        {after(answer(7, errBit|1, nil)), blocktree.Unsupported},
		"policy":                {after(answer(7, errPolicy, nil)), blocktree.Permission},
		"TLS required":          {after(answer(7, errTLSRequired, nil)), blocktree.Unsupported},
		"block size required":   {after(answer(7, errBlockSize, nil)), blocktree.Unsupported},
		"stopping":              {after(answer(7, errShutdown, nil)), blocktree.Unavailable},
		"something new":         {after(answer(7, errBit|99, make([]byte, 60000))), blocktree.Unavailable},
		"refused after the end": {after(export, answer(7, errPolicy, nil)), blocktree.Permission},
	} {
		e, err := choose(&script{say: bytes.NewReader(tc.say)}, "/vm/disk0")
		if err == nil || blocktree.KindOf(err) != tc.kind || blocktree.HintOf(err) == "" || len(err.Error()) > 8192 {
			t.Errorf("%s: %+v, %v, hint %q", name, e, err, blocktree.HintOf(err))
		}
	}
	if _, err := choose(&script{say: bytes.NewReader(good())}, strings.Repeat("x", 4097)); blocktree.KindOf(err) != blocktree.TooLarge {
		t.Errorf("a long path: %v", err)
	}
	unlimited := join(hello(1), exportInfo(7, mib, usual), answer(7, 3, blockInfo(1, 4096, sizeUnlimited)), ack)
	s := &script{say: bytes.NewReader(unlimited)}
	if e, err := choose(s, "x"); err != nil || e.PayloadBytesMax != sizeUnlimited || s.heard.Bytes()[3] != 1 {
		t.Errorf("a server without NO_ZEROES: %+v, %v", e, err)
	}
}

// TestHandshakeTime: a server that says nothing, or one byte now and then, costs NBDNegotiationTimeout.
func TestHandshakeTime(t *testing.T) {
	for _, chatty := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			var server sync.WaitGroup
			defer server.Wait()
			defer near.Close()
			server.Go(func() {
				defer far.Close()
				for _, b := range good() {
					if !chatty {
						break
					}
					time.Sleep(time.Second)
					if _, err := far.Write([]byte{b}); err != nil {
						return
					}
				}
				io.Copy(io.Discard, far) // until the client leaves
			})
			began := time.Now()
			if _, err := choose(near, "x"); blocktree.KindOf(err) != blocktree.Timeout || time.Since(began) != blocktree.NBDNegotiationTimeout {
				t.Errorf("chatty %v: %v after %v", chatty, err, time.Since(began))
			}
		})
	}
}

// FuzzHandshake: whatever a server says, it is refused or makes sense, within bounds.
func FuzzHandshake(f *testing.F) {
	f.Add(good(), true)
	f.Add(append(hello(3), answer(7, errBit|6, []byte("no"))...), true)
	f.Add(append(hello(3), answer(6, 3, blockInfo(512, 4096, mib))...), false)
	f.Fuzz(func(t *testing.T, words []byte, chooses bool) {
		s := &script{say: bytes.NewReader(words)}
		ask := info
		if chooses {
			ask = choose
		}
		e, err := ask(s, "/vm/disk0")
		if err != nil {
			var known *blocktree.Error
			if !errors.As(err, &known) || blocktree.HintOf(err) == "" || len(err.Error()) > 16384 {
				t.Fatalf("%v", err)
			}
			return
		}
		if e.SizeBytes > 1<<63-1 || e.Flags&1 == 0 || e.BlockBytesMin == 0 || e.BlockBytesBest < e.BlockBytesMin || e.PayloadBytesMax < e.BlockBytesMin ||
			len(e.Name) > 3*4096 || strings.ContainsAny(e.Name+e.Description, "\x00\n\x1b") {
			t.Fatalf("%+v", e)
		}
	})
}

// FuzzDecodeState: a damaged file of /run is no state.
func FuzzDecodeState(f *testing.F) {
	f.Add([]byte(`{"version":1,"index":3,"connections":2,"told":["file=1"]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := decodeState(b, 3); err != nil || s != nil && (s.Index != 3 || s.Connections < 0 || s.Connections > 16) {
			t.Fatalf("%+v, %v", s, err)
		}
	})
}

// FuzzDecodeKernel: whatever came as an answer of the kernel.
func FuzzDecodeKernel(f *testing.F) {
	f.Add([]byte{8, 0, 1, 0, 3, 0, 0, 0})
	f.Add([]byte{24, 0, 9, 128, 20, 0, 1, 128, 8, 0, 1, 0, 2, 0, 0, 0, 5, 0, 2, 0, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if index, err := decodeIndex(b); err == nil && index < 0 {
			t.Fatal(index)
		}
		decodeStatus(b) // must not panic
	})
}
