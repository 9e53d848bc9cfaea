package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"blocktree/test/nbdclient"
)

// What the client may ask, and the limits of what it may claim.
const (
	optGo   = 7
	optInfo = 6

	optionBytesMax  = 64 << 10
	requestBytesMax = 32 << 20
	inFlightMax     = 64

	flagNoMulti = ^uint16(1 << 8) // one connection only
)

// proxy serves one client, records what it does and ends when it leaves or ctx does.
func proxy(ctx context.Context, listen, server, export, log string) error {
	upstream, err := nbdclient.Dial(ctx, server, export)
	if err != nil {
		return err
	}
	defer upstream.Close()
	l, err := createLog(log, upstream.Size())
	if err != nil {
		return err
	}
	listener, err := net.Listen("unix", listen)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	stopListening := context.AfterFunc(ctx, func() { listener.Close() })
	conn, err := listener.Accept()
	stopListening()
	listener.Close()
	if err != nil {
		return ctxOr(ctx, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	s := &session{log: l, upstream: upstream, conn: conn, in: bufio.NewReaderSize(conn, 256<<10)}
	if err = s.negotiate(); err == nil {
		err = s.transmit(ctx)
	}
	return errors.Join(ctxOr(ctx, err), conn.Close(), l.f.Close())
}

// ctxOr is err, unless somebody asked for the end.
func ctxOr(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// session is the client's connection.
type session struct {
	log      *logFile
	upstream *nbdclient.Client
	conn     net.Conn
	in       *bufio.Reader

	sending sync.Mutex
	err     error // of the log or of sending; under sending
}

func (s *session) take(n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(s.in, b)
	return b, err
}

// negotiate answers INFO and GO, whatever the export's name, and refuses every other option.
func (s *session) negotiate() error {
	if _, err := s.conn.Write([]byte("NBDMAGICIHAVEOPT\x00\x03")); err != nil {
		return err
	}
	if _, err := s.take(4); err != nil {
		return err
	}
	for {
		head, err := s.take(16)
		if err != nil {
			return err
		}
		option, length := binary.BigEndian.Uint32(head[8:]), binary.BigEndian.Uint32(head[12:])
		if length > optionBytesMax {
			return fmt.Errorf("an option of %d bytes", length)
		}
		if _, err := s.take(int(length)); err != nil {
			return err
		}
		reply := func(kind uint32, data []byte) {
			b := binary.BigEndian.AppendUint64(nil, 0x3e889045565a9)
			b = binary.BigEndian.AppendUint32(b, option)
			b = binary.BigEndian.AppendUint32(b, kind)
			b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
			_, err = s.conn.Write(append(b, data...))
		}
		if option != optGo && option != optInfo {
			reply(1<<31|1, nil) // unsupported
		} else {
			info := binary.BigEndian.AppendUint64([]byte{0, 0}, s.upstream.Size())
			reply(3, binary.BigEndian.AppendUint16(info, s.upstream.Flags()&flagNoMulti))
			if err == nil {
				reply(1, nil)
			}
		}
		if err != nil || option == optGo {
			return err
		}
	}
}

// transmit passes requests on until the client leaves; what is in flight is finished first.
func (s *session) transmit(ctx context.Context) error {
	slots := make(chan struct{}, inFlightMax)
	var flight sync.WaitGroup
	defer flight.Wait()
	for {
		head, err := s.take(28)
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		q := request{flags: binary.BigEndian.Uint16(head[4:]), command: binary.BigEndian.Uint16(head[6:]),
			handle: binary.BigEndian.Uint64(head[8:]), offset: binary.BigEndian.Uint64(head[16:]), length: binary.BigEndian.Uint32(head[24:])}
		if binary.BigEndian.Uint32(head) != 0x25609513 || q.command <= 1 && q.length > requestBytesMax {
			return fmt.Errorf("a request %x", head)
		}
		if q.command == 2 {
			return nil
		}
		if q.command == 1 {
			if q.data, err = s.take(int(q.length)); err != nil {
				return err
			}
		}
		covers := s.log.now() // of a flush: what was answered before it came
		slots <- struct{}{}
		flight.Go(func() {
			s.serve(ctx, q, covers)
			<-slots
		})
	}
}

// request is one of the client's.
type request struct {
	flags, command uint16
	handle, offset uint64
	length         uint32
	data           []byte
}

// serve passes one request on, records it and answers.
func (s *session) serve(ctx context.Context, q request, covers uint64) {
	var err error
	kind, payload := kind(0), []byte(nil)
	switch q.command {
	case 0:
		payload = make([]byte, q.length)
		err = s.upstream.Read(ctx, payload, q.offset)
	case 1:
		kind = kindWrite
		err = s.upstream.Write(ctx, q.data, q.offset, q.flags)
	case 3:
		kind, q.offset = kindFlush, covers
		err = s.upstream.Flush(ctx)
	case 4:
		kind = kindZero
		err = s.upstream.Trim(ctx, q.offset, q.length, q.flags)
	case 6:
		kind = kindZero
		err = s.upstream.Zeroes(ctx, q.offset, q.length, q.flags)
	default:
		err = nbdclient.Errno(syscall.EINVAL)
	}
	if q.flags&nbdclient.FUA != 0 && kind != 0 && kind != kindFlush {
		kind |= fua
	}
	if err == nil && kind != 0 {
		err = s.log.add(kind, q.offset, q.length, q.data)
	}
	s.reply(q.handle, err, payload)
}

func (s *session) reply(handle uint64, err error, payload []byte) {
	errno := uint32(0)
	if err != nil {
		errno, payload = uint32(syscall.EIO), nil
		if e := nbdclient.Errno(0); errors.As(err, &e) {
			errno = uint32(e)
		}
		fmt.Fprintln(os.Stderr, "writelog: a request failed:", err)
	}
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 16+len(payload)), 0x67446698)
	b = binary.BigEndian.AppendUint32(b, errno)
	b = binary.BigEndian.AppendUint64(b, handle)
	s.sending.Lock()
	defer s.sending.Unlock()
	if s.err == nil {
		_, s.err = s.conn.Write(append(b, payload...))
	}
}
