package nbd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/memfile"

	"github.com/pojntfx/go-nbd/pkg/protocol"
	"go.uber.org/goleak"
)

// activatedEnv makes the test binary a server on the sockets passed to it, for clients that start one.
const activatedEnv = "BT_TEST_NBD_ACTIVATED"

func TestMain(m *testing.M) {
	if os.Getenv(activatedEnv) != "" {
		if err := serveActivated(); err != nil {
			panic(err) // a test's main has no other way to fail
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func serveActivated() error {
	listeners, err := Activated()
	if err != nil || len(listeners) == 0 {
		return fmt.Errorf("%d listeners: %v", len(listeners), err)
	}
	dev, err := blockdev.Open(memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 123 << 12}}), blockdev.Options{})
	if err != nil {
		return err
	}
	var exports blockdev.Exports
	if err := exports.Add(blockdev.Export{Name: "/vm/disk0", Device: dev}); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return NewServer(Config{Exports: &exports}).Serve(ctx, listeners...)
}

// patience is how long a test waits for what must happen; nothing is measured by it.
const patience = 20 * time.Second

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// setup of a bed; zero values are a 1 MiB file of 4 KiB sectors and a production server.
type setup struct {
	file       memfile.Options
	memory     int64
	cacheBytes int64
	aheadBytes int64 // of them
	readOnly   bool
	waits      bool                               // every READ has a goroutine
	over       func(*memfile.File) blocktree.File // what the device is opened on; nil: the file itself
	server     func(*Server)
	listener   func(t testing.TB) net.Listener
	tls        *TLS // required
	config     Config
}

// bed is a server with one export, "/vm/disk0", over a memory file. At the end of the test it checks that the server stops
// cleanly and that not a byte of the budget is missing.
type bed struct {
	t       testing.TB
	file    *memfile.File
	dev     *blockdev.Device
	cache   *blockdev.Cache
	memory  *blockdev.Memory
	exports *blockdev.Exports
	srv     *Server
	l       net.Listener
	socket  string
	served  chan error
}

func newBed(t testing.TB, o setup) *bed {
	t.Helper()
	if o.file.Info.SizeBytes == 0 {
		o.file.Info.SizeBytes = 1 << 20
	}
	if o.memory == 0 {
		o.memory = blocktree.InFlightBytesMax
	}
	o.file.Starts = !o.waits
	cache, err := blockdev.NewCacheAhead(o.cacheBytes, o.aheadBytes)
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, file: memfile.New(o.file), cache: cache, memory: blockdev.NewMemory(o.memory),
		exports: new(blockdev.Exports), served: make(chan error, 1)}
	var file blocktree.File = b.file
	if o.over != nil {
		file = o.over(b.file)
	}
	b.dev, err = blockdev.Open(file, blockdev.Options{Cache: cache, Memory: b.memory})
	if err != nil {
		t.Fatal(err)
	}
	b.export(blockdev.Export{Name: "/vm/disk0", Description: "the first disk", Device: b.dev, ReadOnly: o.readOnly})
	o.config.Exports, o.config.Memory = b.exports, b.memory
	b.srv = NewServer(o.config)
	if o.server != nil {
		o.server(b.srv)
	}
	if o.listener != nil {
		b.l = o.listener(t)
	} else {
		b.socket = filepath.Join(t.TempDir(), "s")
		if b.l, err = Listen("unix:"+b.socket, SocketMode); err != nil {
			t.Fatal(err)
		}
	}
	if o.tls != nil {
		b.l = o.tls.Require(b.l)
	}
	go func() { b.served <- b.srv.Serve(context.Background(), b.l) }()
	t.Cleanup(func() { b.stop(o.memory) })
	return b
}

func (b *bed) export(e blockdev.Export) {
	b.t.Helper()
	if err := b.exports.Add(e); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) stop(memory int64) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	b.srv.Close(ctx) // its error is a test's own business
	if err := <-b.served; err != nil {
		b.t.Error(err)
	}
	b.dev.Close()
	b.cache.Close()
	if free := b.memory.FreeBytes(); free != memory {
		b.t.Errorf("%d of %d bytes are free at the end", free, memory)
	}
}

// uri is where clients find the export.
func (b *bed) uri(name string) string {
	b.t.Helper()
	uri, err := URI("unix:"+b.socket, name)
	if err != nil {
		b.t.Fatal(err)
	}
	return uri
}

// client speaks the protocol by hand.
type client struct {
	t    testing.TB
	nc   net.Conn
	br   *bufio.Reader
	deaf bool // sending to a server that has closed already is no failure

	style  style // of what it speaks after the negotiation
	greets bool  // it has said hello
}

// dial connects and takes the server's greeting.
func (b *bed) dial() *client {
	b.t.Helper()
	nc, err := net.Dial("unix", b.socket)
	if err != nil {
		b.t.Fatal(err)
	}
	return greeted(b.t, nc)
}

func greeted(t testing.TB, nc net.Conn) *client {
	t.Helper()
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(patience))
	c := &client{t: t, nc: nc, br: bufio.NewReader(nc)}
	if got := c.take(handshakeBytes); !bytes.Equal(got, []byte("NBDMAGICIHAVEOPT\x00\x03")) {
		t.Fatalf("greeted with %q", got)
	}
	return c
}

// hello sends the client's flags.
func (c *client) hello(flags uint32) *client {
	c.t.Helper()
	c.send(binary.BigEndian.AppendUint32(nil, flags))
	return c
}

// attach goes to the export the usual way.
func (b *bed) attach() *client {
	b.t.Helper()
	return b.dial().attach("/vm/disk0")
}

func (c *client) attach(name string) *client {
	c.t.Helper()
	if !c.greets {
		c.hello(clientFlags)
	}
	if answers := c.ask(protocol.NEGOTIATION_ID_OPTION_GO, infoRequest{name: name}.encode()); answers.last() != ack {
		c.t.Fatalf("GO: %v", answers)
	}
	return c
}

func (c *client) send(b []byte) {
	c.t.Helper()
	if _, err := c.nc.Write(b); err != nil && !c.deaf {
		c.t.Fatal(err)
	}
}

func (c *client) take(n int) []byte {
	c.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c.br, b); err != nil {
		c.t.Fatal(err)
	}
	return b
}

// closed fails the test unless the server has nothing more to say and closes.
func (c *client) closed() {
	c.t.Helper()
	rest, err := io.ReadAll(c.br)
	if len(rest) > 0 || errors.Is(err, context.DeadlineExceeded) {
		c.t.Fatalf("not closed, but %d more bytes (%v)", len(rest), err)
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		c.t.Fatal("not closed")
	}
}

const ack = protocol.NEGOTIATION_TYPE_REPLY_ACK

type optionReply struct {
	kind uint32
	data string
}

type optionReplies []optionReply

func (r optionReplies) last() uint32 { return r[len(r)-1].kind }

// info returns the data of the INFO reply of a kind, and whether there was one.
func (r optionReplies) info(kind uint16) (string, bool) {
	for _, x := range r {
		if x.kind == protocol.NEGOTIATION_TYPE_REPLY_INFO && binary.BigEndian.Uint16([]byte(x.data)) == kind {
			return x.data[2:], true
		}
	}
	return "", false
}

// option sends one option and does not wait.
func (c *client) option(id uint32, length uint32, data []byte) {
	c.t.Helper()
	b := binary.BigEndian.AppendUint64(nil, protocol.NEGOTIATION_MAGIC_OPTION)
	b = binary.BigEndian.AppendUint32(b, id)
	c.send(append(binary.BigEndian.AppendUint32(b, length), data...))
}

// ask sends an option and takes all replies to it: up to an acknowledgement or an error.
func (c *client) ask(id uint32, data []byte) optionReplies {
	c.t.Helper()
	c.option(id, uint32(len(data)), data)
	return c.replies(id)
}

func (c *client) replies(id uint32) (all optionReplies) {
	c.t.Helper()
	for {
		h := c.take(replyHeaderBytes)
		if binary.BigEndian.Uint64(h) != protocol.NEGOTIATION_MAGIC_REPLY || binary.BigEndian.Uint32(h[8:]) != id {
			c.t.Fatalf("a reply of %x", h)
		}
		r := optionReply{kind: binary.BigEndian.Uint32(h[12:])}
		r.data = string(c.take(int(binary.BigEndian.Uint32(h[16:]))))
		all = append(all, r)
		if r.kind == ack || r.kind>>31 == 1 {
			return all
		}
	}
}

// request is a header and payload ready to send.
func header(command, flags uint16, handle, offset uint64, length uint32) []byte {
	return encodeRequest(nil, protocol.TransmissionRequestHeader{RequestMagic: protocol.TRANSMISSION_MAGIC_REQUEST,
		Type: command, CommandFlags: flags, Handle: handle, Offset: offset, Length: length})
}

// reply takes one simple reply; data follows only a READ that succeeded, which is the caller's to take.
func (c *client) reply() (errno uint32, handle uint64) {
	c.t.Helper()
	b := c.take(simpleReplyBytes)
	if binary.BigEndian.Uint32(b) != protocol.TRANSMISSION_MAGIC_REPLY {
		c.t.Fatalf("a reply of %x", b)
	}
	return binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint64(b[8:])
}

// wantReply takes the reply to one request.
func (c *client) wantReply(handle uint64, errno uint32) {
	c.t.Helper()
	gotErrno, gotHandle := c.reply()
	if gotErrno != errno || gotHandle != handle {
		c.t.Fatalf("request %d: error %d, want request %d: error %d", gotHandle, gotErrno, handle, errno)
	}
}

// do sends one request, takes its reply and returns the data of a READ.
func (c *client) do(command, flags uint16, offset uint64, length uint32, payload []byte) (errno uint32, data []byte) {
	c.t.Helper()
	a := c.exchange(command, flags, offset, uint64(length), payload)
	return a.errno, a.data
}

// inSync proves that client and server agree where requests begin.
func (c *client) inSync() {
	c.t.Helper()
	if errno, _ := c.do(cmdRead, 0, 4000, 200, nil); errno != 0 {
		c.t.Fatalf("out of step: error %d", errno)
	}
}
