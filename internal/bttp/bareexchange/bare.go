package bareexchange

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"blocktree"
	"blocktree/crypto/cred"
)

const (
	alpn = "bareexchange/1"
	// prefixBytes is in front of each message: its length and the length of the answer that it wants, 0 in answers.
	prefixBytes = 8
	// bufferBytes is what both sides read and write at a time at least.
	bufferBytes = 64 << 10
	messageMax  = 1 << 20
	// batchBit in the length of the wanted answer allows the echo process to write several answers at once.
	batchBit = 1 << 31
)

// quicConfig has the windows that bttp uses.
func quicConfig() *quic.Config {
	return &quic.Config{
		InitialStreamReceiveWindow: blocktree.StreamWindowBytes, MaxStreamReceiveWindow: blocktree.StreamWindowBytes,
		InitialConnectionReceiveWindow: blocktree.ConnectionWindowBytes, MaxConnectionReceiveWindow: blocktree.ConnectionWindowBytes,
	}
}

// bareConn is the client's connection to one echo process.
type bareConn struct {
	conn  io.ReadWriter
	in    *bufio.Reader
	out   *bufio.Writer
	close func()
	await chan int // slots whose answers are to come, in order
}

// bare exchanges over plain connections. Every message is a write of its own, in both directions, unless batched.
type bare struct {
	conns   []*bareConn
	batched bool
	payload []byte
}

// newBare connects to all.
func (s *session) newBare(ctx context.Context, carrier string, batched bool) (exchanger, error) {
	b := &bare{batched: batched, payload: make([]byte, messageMax)}
	for _, p := range s.peers {
		config, err := cred.NewTLSConfig(cred.TLSOptions{Key: s.client.key, Expect: p.Runtime.Principal, ALPN: []string{alpn}})
		if err != nil {
			return nil, err
		}
		c := &bareConn{}
		if carrier == "tcp" {
			conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", p.TCP)
			if err != nil {
				return nil, err
			}
			c.conn, c.close = conn, func() { _ = conn.Close() }
		} else {
			conn, err := quic.DialAddr(ctx, p.QUIC, config, quicConfig())
			if err != nil {
				return nil, err
			}
			stream, err := conn.OpenStreamSync(ctx)
			if err != nil {
				return nil, err
			}
			c.conn, c.close = stream, func() { _ = conn.CloseWithError(0, "") }
		}
		c.in, c.out = bufio.NewReaderSize(c.conn, bufferBytes), bufio.NewWriterSize(c.conn, bufferBytes)
		b.conns = append(b.conns, c)
	}
	return b, nil
}

func (b *bare) close() {
	for _, c := range b.conns {
		c.close()
	}
}

// send writes one message, or puts it into the buffer when it may wait for more.
func (c *bareConn) send(payload []byte, want int, batched bool) error {
	var prefix [prefixBytes]byte
	answer := uint32(want)
	if batched {
		answer |= batchBit
	}
	binary.BigEndian.PutUint32(prefix[:], uint32(len(payload)))
	binary.BigEndian.PutUint32(prefix[4:], answer)
	if _, err := c.out.Write(prefix[:]); err != nil {
		return err
	}
	_, err := c.out.Write(payload)
	if err != nil || batched {
		return err
	}
	return c.out.Flush()
}

// receive reads one message into buf.
func receive(in *bufio.Reader, buf []byte) (want int, batched bool, err error) {
	prefix, err := in.Peek(prefixBytes)
	if err != nil {
		return 0, false, err
	}
	n, answer := int(binary.BigEndian.Uint32(prefix)), binary.BigEndian.Uint32(prefix[4:])
	want, batched = int(answer&^batchBit), answer&batchBit != 0
	if n > len(buf) || want > len(buf) {
		return 0, false, errors.New("a message is too long")
	}
	_, _ = in.Discard(prefixBytes)
	_, err = io.ReadFull(in, buf[:n])
	return want, batched, err
}

func (b *bare) run(shape Shape, depth int, stop time.Time) ([]time.Duration, error) {
	if depth == 1 {
		return b.runOne(shape, stop)
	}
	return b.runMany(shape, depth, stop)
}

// runOne does one exchange after the other in this goroutine.
func (b *bare) runOne(shape Shape, stop time.Time) ([]time.Duration, error) {
	var took []time.Duration
	buf := make([]byte, messageMax)
	for n := 0; ; n++ {
		begin := time.Now()
		if begin.After(stop) && n > 0 {
			return took, nil
		}
		for i := range shape.Peers {
			c := b.conns[(n+i)%len(b.conns)]
			if err := c.send(b.payload[:shape.OutBytes], shape.BackBytes, false); err != nil {
				return nil, err
			}
		}
		for i := range shape.Peers {
			if _, _, err := receive(b.conns[(n+i)%len(b.conns)].in, buf); err != nil {
				return nil, err
			}
		}
		took = append(took, time.Since(begin))
	}
}

// runMany keeps depth exchanges in flight.
func (b *bare) runMany(shape Shape, depth int, stop time.Time) ([]time.Duration, error) {
	left := make([]atomic.Int32, depth)
	free := make(chan int, depth)
	var broken atomic.Pointer[error]
	var readers sync.WaitGroup
	for _, c := range b.conns {
		c.await = make(chan int, depth)
		readers.Go(func() {
			buf := make([]byte, messageMax)
			for slot := range c.await {
				if _, _, err := receive(c.in, buf); err != nil {
					broken.Store(&err)
				}
				if left[slot].Add(-1) == 0 {
					free <- slot
				}
			}
		})
	}
	for slot := range depth {
		free <- slot
	}
	began := make([]time.Time, depth)
	var took []time.Duration
	err := b.issue(shape, depth, stop, free, began, left, &took)
	for _, c := range b.conns {
		close(c.await)
		if err != nil {
			c.close()
		}
	}
	readers.Wait()
	if e := broken.Load(); e != nil && err == nil {
		err = *e
	}
	return took, err
}

// issue is the writing side of runMany. It flushes when it would wait.
func (b *bare) issue(shape Shape, depth int, stop time.Time, free chan int, began []time.Time, left []atomic.Int32, took *[]time.Duration) error {
	flush := func() error {
		for _, c := range b.conns {
			if err := c.out.Flush(); err != nil {
				return err
			}
		}
		return nil
	}
	inFlight := 0
	for n := 0; ; n++ {
		var slot int
		select {
		case slot = <-free:
		default:
			if err := flush(); err != nil {
				return err
			}
			slot = <-free
		}
		now := time.Now()
		if !began[slot].IsZero() {
			*took = append(*took, now.Sub(began[slot]))
			inFlight--
		}
		if now.After(stop) && n >= depth {
			if err := flush(); err != nil {
				return err
			}
			for ; inFlight > 0; inFlight-- {
				slot = <-free
				*took = append(*took, time.Since(began[slot]))
			}
			return nil
		}
		began[slot] = now
		inFlight++
		left[slot].Store(int32(shape.Peers))
		for i := range shape.Peers {
			c := b.conns[(n+i)%len(b.conns)]
			c.await <- slot
			if err := c.send(b.payload[:shape.OutBytes], shape.BackBytes, b.batched); err != nil {
				return err
			}
		}
	}
}
