package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/memfile"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// FuzzBeforeTLS says anything at all to a listener that requires TLS: it is told nothing of any export and attached to none, and nothing
// is acknowledged but STARTTLS and ABORT.
func FuzzBeforeTLS(f *testing.F) {
	a := newAuthority(f)
	secure := a.load(CertificatesRequired)
	hello := []byte{0, 0, 0, 3}
	q := infoRequest{name: "/vm/disk0", wants: []uint16{1, 2, 3}}.encode()
	f.Add(appendOption(appendOption(hello, optList, nil), optGo, q))
	f.Add(appendOption(appendOption(hello, optInfo, q), optStartTLS, nil))
	f.Add(append(appendOption(hello, optStartTLS, nil), "\x16\x03\x01\x00\x05hello"...))
	f.Add(append(appendOption(hello, optExportName, []byte("/vm/disk0")), header(cmdRead, 0, 1, 0, 100)...))
	f.Add(appendOption(appendOption(hello, optStartTLS, []byte("data")), optAbort, nil))
	f.Fuzz(func(t *testing.T, script []byte) {
		memory := blockdev.NewMemory(64 << 20)
		dev, err := blockdev.Open(memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 64 << 10}}), blockdev.Options{Memory: memory})
		if err != nil {
			t.Fatal(err)
		}
		defer dev.Close()
		var exports blockdev.Exports
		if err := exports.Add(blockdev.Export{Name: "/vm/disk0", Device: dev}); err != nil {
			t.Fatal(err)
		}
		s := NewServer(Config{Exports: &exports, Memory: memory})
		nc := &scripted{Reader: bytes.NewReader(script)}
		c := newConn(s, nc)
		c.tls = secure
		c.serve(func() {})
		if c.dev != nil || c.secured != nil {
			t.Fatal("attached, or secured, without a handshake")
		}
		said := nc.said.Bytes()[min(handshakeBytes, nc.said.Len()):]
		for len(said) >= replyHeaderBytes && binary.BigEndian.Uint64(said) == protocol.NEGOTIATION_MAGIC_REPLY {
			option, kind, n := binary.BigEndian.Uint32(said[8:]), binary.BigEndian.Uint32(said[12:]), binary.BigEndian.Uint32(said[16:])
			if kind>>31 == 0 && (kind != ack || option != optStartTLS && option != optAbort) {
				t.Fatalf("option %d was answered %x", option, kind)
			}
			said = said[replyHeaderBytes+int(n):]
		}
		if bytes.Contains(said, []byte("disk0")) {
			t.Fatalf("said %q", said)
		}
		if err := s.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	})
}
