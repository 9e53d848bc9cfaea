package nbdclient

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// Magic numbers, options, commands and flags, as the protocol document has them.
const (
	magicOption  = 0x49484156454F5054
	magicReply   = 0x3e889045565a9
	magicRequest = 0x25609513
	magicSimple  = 0x67446698

	optGo      = 7
	replyAck   = 1
	replyInfo  = 3
	infoExport = 0

	cmdRead   = 0
	cmdWrite  = 1
	cmdDisc   = 2
	cmdFlush  = 3
	cmdTrim   = 4
	cmdZeroes = 6
)

// Flags of a request.
const (
	FUA    = uint16(1 << 0)
	NoHole = uint16(1 << 1)
)

// handshakeTimeout bounds the negotiation, sendTimeout a server that takes no request off the socket, and
// optionReplyBytesMax what one reply to an option may claim.
const (
	handshakeTimeout    = 10 * time.Second
	sendTimeout         = 60 * time.Second
	optionReplyBytesMax = 64 << 10
)

// ErrLost says that the connection ended before the answer came.
var ErrLost = errors.New("nbd: connection lost")

// Errno is an answer that refuses a request.
type Errno uint32

// Error implements error.
func (e Errno) Error() string { return "nbd: " + syscall.Errno(e).Error() }

// Client is one connection to one export.
type Client struct {
	conn  net.Conn
	size  uint64
	flags uint16 // of the export

	sending sync.Mutex // one request at a time on the wire

	mu    sync.Mutex
	next  uint64
	calls map[uint64]*call
	err   error // why the connection is over
	done  chan struct{}
}

type call struct {
	data  []byte // what a read fills
	ended chan error
}

// Dial connects to an export on a unix socket.
func Dial(ctx context.Context, socket, export string) (*Client, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	c := &Client{conn: conn, calls: map[uint64]*call{}, done: make(chan struct{})}
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline) // a connection that cannot have one fails below
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	r := bufio.NewReaderSize(conn, 256<<10)
	err = c.negotiate(r, export)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("nbd: %s: %w", export, err)
	}
	_ = conn.SetDeadline(time.Time{})
	go c.receive(r) // ends with the connection; Close waits for it
	return c, nil
}

// negotiate goes to the export.
func (c *Client) negotiate(r *bufio.Reader, export string) error {
	hello := make([]byte, 18)
	if _, err := io.ReadFull(r, hello); err != nil {
		return err
	}
	if binary.BigEndian.Uint64(hello[8:]) != magicOption {
		return errors.New("not a newstyle server")
	}
	b := binary.BigEndian.AppendUint32(nil, 3) // fixed newstyle, no zeroes
	b = binary.BigEndian.AppendUint64(b, magicOption)
	b = binary.BigEndian.AppendUint32(b, optGo)
	b = binary.BigEndian.AppendUint32(b, uint32(4+len(export)+2))
	b = binary.BigEndian.AppendUint32(b, uint32(len(export)))
	b = append(b, export...)
	b = binary.BigEndian.AppendUint16(b, 0)
	if _, err := c.conn.Write(b); err != nil {
		return err
	}
	for {
		head := make([]byte, 20)
		if _, err := io.ReadFull(r, head); err != nil {
			return err
		}
		kind, length := binary.BigEndian.Uint32(head[12:]), binary.BigEndian.Uint32(head[16:])
		if binary.BigEndian.Uint64(head) != magicReply || length > optionReplyBytesMax {
			return errors.New("a broken reply to GO")
		}
		data := make([]byte, length)
		if _, err := io.ReadFull(r, data); err != nil {
			return err
		}
		switch {
		case kind == replyAck:
			return nil
		case kind == replyInfo && length >= 12 && binary.BigEndian.Uint16(data) == infoExport:
			c.size, c.flags = binary.BigEndian.Uint64(data[2:]), binary.BigEndian.Uint16(data[10:])
		case kind == replyInfo:
		default:
			return fmt.Errorf("GO was refused: %#x %q", kind, data)
		}
	}
}

// receive hands every reply to the call that waits for it, until the connection ends.
func (c *Client) receive(r *bufio.Reader) {
	defer close(c.done)
	head := make([]byte, 16)
	for {
		_, err := io.ReadFull(r, head)
		if err == nil && binary.BigEndian.Uint32(head) != magicSimple {
			err = fmt.Errorf("a reply that begins with %x", head)
		}
		if err != nil {
			c.fail(err)
			return
		}
		errno, handle := Errno(binary.BigEndian.Uint32(head[4:])), binary.BigEndian.Uint64(head[8:])
		c.mu.Lock()
		call := c.calls[handle]
		delete(c.calls, handle)
		c.mu.Unlock()
		if call == nil {
			c.fail(fmt.Errorf("a reply to request %d, which nobody waits for", handle))
			return
		}
		if errno != 0 {
			call.ended <- errno
			continue
		}
		if _, err := io.ReadFull(r, call.data); err != nil {
			call.ended <- fmt.Errorf("%w: %w", ErrLost, err)
			c.fail(err)
			return
		}
		call.ended <- nil
	}
}

// fail ends the connection and every call in flight.
func (c *Client) fail(err error) {
	c.conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = fmt.Errorf("%w: %w", ErrLost, err)
	}
	for handle, call := range c.calls {
		delete(c.calls, handle)
		call.ended <- c.err
	}
}

// do sends one request and waits for its answer.
func (c *Client) do(ctx context.Context, command, flags uint16, offset uint64, length uint32, payload, into []byte) error {
	call := &call{data: into, ended: make(chan error, 1)}
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return c.err
	}
	c.next++
	handle := c.next
	c.calls[handle] = call
	c.mu.Unlock()
	b := make([]byte, 0, 28+len(payload))
	b = binary.BigEndian.AppendUint32(b, magicRequest)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint16(b, command)
	b = binary.BigEndian.AppendUint64(b, handle)
	b = binary.BigEndian.AppendUint64(b, offset)
	b = binary.BigEndian.AppendUint32(b, length)
	b = append(b, payload...)
	c.sending.Lock()
	_ = c.conn.SetWriteDeadline(time.Now().Add(sendTimeout)) // a connection that cannot have one fails in Write
	_, err := c.conn.Write(b)
	c.sending.Unlock()
	if err != nil {
		c.fail(err) // ends this call too
	}
	select {
	case err := <-call.ended:
		return err
	case <-ctx.Done():
		c.fail(ctx.Err())
		return <-call.ended // the answer may have come just now
	}
}

// Size is the size of the export in bytes.
func (c *Client) Size() uint64 { return c.size }

// Flags are the transmission flags of the export.
func (c *Client) Flags() uint16 { return c.flags }

// Read fills p from offset. p belongs to the connection until Read returns.
func (c *Client) Read(ctx context.Context, p []byte, offset uint64) error {
	return c.do(ctx, cmdRead, 0, offset, uint32(len(p)), nil, p)
}

// Write writes p at offset. p is not kept.
func (c *Client) Write(ctx context.Context, p []byte, offset uint64, flags uint16) error {
	return c.do(ctx, cmdWrite, flags, offset, uint32(len(p)), p, nil)
}

// Trim says that a range is not needed; Blocktree reads it as zeros then.
func (c *Client) Trim(ctx context.Context, offset uint64, length uint32, flags uint16) error {
	return c.do(ctx, cmdTrim, flags, offset, length, nil, nil)
}

// Zeroes makes a range zeros.
func (c *Client) Zeroes(ctx context.Context, offset uint64, length uint32, flags uint16) error {
	return c.do(ctx, cmdZeroes, flags, offset, length, nil, nil)
}

// Flush returns when everything that was answered before is durable.
func (c *Client) Flush(ctx context.Context) error {
	return c.do(ctx, cmdFlush, 0, 0, 0, nil, nil)
}

// Close ends the connection. Requests in flight end with ErrLost.
func (c *Client) Close() {
	b := binary.BigEndian.AppendUint32(nil, magicRequest)
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint16(b, cmdDisc)
	b = append(b, make([]byte, 20)...)
	c.sending.Lock()
	_ = c.conn.SetWriteDeadline(time.Now().Add(time.Second)) // a server that does not read is left without a word
	_, _ = c.conn.Write(b)
	c.sending.Unlock()
	c.fail(net.ErrClosed)
	<-c.done
}
