package nbd

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/memfile"

	"golang.org/x/sys/unix"
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

// stage is a server for one connection after the other, which runs where the test does: when it is over, nothing of it may be left.
type stage struct {
	t      *testing.T
	srv    *Server
	memory *blockdev.Memory
	dev    *blockdev.Device
}

func newStage(t *testing.T, prompt bool) *stage {
	s := &stage{t: t, memory: blockdev.NewMemory(stageMemory)}
	var err error
	s.dev, err = blockdev.Open(memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 64 << 10}, Prompt: prompt, Starts: !prompt}),
		blockdev.Options{Memory: s.memory})
	if err != nil {
		t.Fatal(err)
	}
	var exports blockdev.Exports
	if err := exports.Add(blockdev.Export{Name: "/vm/disk0", Device: s.dev}); err != nil {
		t.Fatal(err)
	}
	s.srv = NewServer(Config{Exports: &exports, Memory: s.memory})
	s.srv.negotiationTimeout = time.Hour // how long a machine takes is not the matter here
	return s
}

const stageMemory = 1 << 20

// serve is the life of one connection; files is nil where TLS is not required.
func (s *stage) serve(nc net.Conn, files *TLS) {
	s.t.Helper()
	c := newConn(s.srv, nc)
	c.tls = files
	places := 1
	c.serve(func() { places-- })
	if places != 0 {
		s.t.Fatalf("%d places are still taken", places)
	}
	s.clean()
}

// clean demands that no connection has left anything.
func (s *stage) clean() {
	s.t.Helper()
	for _, u := range s.srv.Uses() {
		if len(u.Clients) > 0 {
			s.t.Fatalf("%d clients still use %s", len(u.Clients), u.Export.Name)
		}
	}
	if s.srv.attachedConns() != 0 || len(s.srv.awaiting) != 0 || s.memory.FreeBytes() != stageMemory {
		s.t.Fatalf("%d connections are attached, %d clients wait, %d of %d bytes are free", s.srv.attachedConns(), len(s.srv.awaiting), s.memory.FreeBytes(), stageMemory)
	}
}

func (s *stage) close() {
	s.t.Helper()
	if err := s.srv.Close(context.Background()); err != nil {
		s.t.Fatal(err)
	}
	if err := s.dev.Close(); err != nil {
		s.t.Fatal(err)
	}
}

// pair is a connection over a socket: what the client says, and what the server hears.
func pair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "end")
		ends[i], err = net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	return ends[0], ends[1]
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

// answers is what a new server says to a whole conversation.
func answers(t *testing.T, say []byte, first int) []byte {
	t.Helper()
	s := newStage(t, true)
	defer s.close()
	nc := &splitConn{scripted{Reader: bytes.NewReader(say)}, first}
	s.serve(nc, nil)
	return nc.said.Bytes()
}

// TestSplitAnywhere says a whole conversation in two pieces, split at every byte: the answers are the same.
func TestSplitAnywhere(t *testing.T) {
	for _, s := range styles {
		say := conversation(s)
		want := answers(t, say, 0)
		if len(want) < 1000 {
			t.Fatalf("%v: only %d bytes are said", s, len(want))
		}
		for first := 1; first < len(say); first++ {
			if got := answers(t, say, first); !bytes.Equal(got, want) {
				t.Fatalf("%v: split at byte %d of %d: other answers", s, first, len(say))
			}
		}
	}
}

// TestEveryByteByItself says a whole conversation over a socket, each byte in its own write, and under TLS in its own record: the
// answers are the same.
func TestEveryByteByItself(t *testing.T) {
	a := newAuthority(t)
	secure := a.load(CertificatesNone)
	for _, s := range styles {
		say := conversation(s)
		want := answers(t, say, 0)
		for _, files := range []*TLS{nil, secure} {
			stage := newStage(t, true)
			ours, theirs := pair(t)
			served := make(chan struct{})
			go func() {
				defer close(served)
				stage.serve(theirs, files)
			}()
			speak, hear, rest := ours, io.Reader(ours), say
			heard := make([]byte, handshakeBytes)
			if _, err := io.ReadFull(hear, heard); err != nil {
				t.Fatal(err)
			}
			if files != nil {
				c := &client{t: t, nc: ours, br: bufio.NewReader(ours)}
				c.send(say[:4])
				if _, err := c.startTLS(a.config()); err != nil {
					t.Fatal(err)
				}
				speak, hear, rest = c.nc, c.br, say[4:]
			}
			go func() {
				for _, x := range rest {
					if _, err := speak.Write([]byte{x}); err != nil {
						break // the server is gone, which shows in what it said
					}
				}
			}()
			more, err := io.ReadAll(hear)
			if err != nil || !bytes.Equal(append(heard, more...), want) {
				t.Fatalf("%v, TLS %v: other answers (%v)", s, files != nil, err)
			}
			<-served
			speak.Close()
			stage.close()
		}
	}
}
