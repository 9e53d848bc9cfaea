package attach

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

const mib = 1 << 20

// usual is what btnbd says of an export.
const usual = 1 | FlagFlush | FlagFUA | FlagTrim | FlagZeroes | FlagMultiConn

// server is an NBD server up to the end of the handshake, strict about what a client may say. It serves net.Pipe.
type server struct {
	mu          sync.Mutex
	name        string
	size        uint64
	flags       uint16
	description string
	block       uint32
	payload     uint32
	down        bool
	refusal     uint32 // not 0: GO and INFO get it
	conns       []net.Conn
	dials, gos  int
	infos       int
	problem     error
	left        bool // the keeper was told to end: it may hang up anywhere
}

func newServer() *server {
	return &server{name: "/vm/disk0", size: 64 * mib, flags: usual, block: 1, payload: 32 * mib}
}

func (s *server) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *server) counts() (dials, gos, infos int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dials, s.gos, s.infos
}

// Dial is the seam of the keeper.
func (s *server) Dial(context.Context) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dials++
	if s.down {
		return nil, errServerDown
	}
	near, far := net.Pipe()
	s.conns = append(s.conns, far)
	go func() { // ends with the connection
		err := s.serve(far)
		far.Close()
		s.change(func() {
			if s.problem == nil {
				s.problem = err
			}
		})
	}()
	return near, nil
}

// stop ends every connection.
func (s *server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
	s.conns = nil
}

func (s *server) serve(c net.Conn) error {
	if _, err := c.Write(hello(3)); err != nil {
		return nil
	}
	var flags [4]byte
	if _, err := io.ReadFull(c, flags[:]); err != nil {
		return nil
	}
	if binary.BigEndian.Uint32(flags[:]) != 3 {
		return fmt.Errorf("client flags %x", flags)
	}
	for {
		var head [16]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return nil
		}
		option, data := binary.BigEndian.Uint32(head[8:]), make([]byte, binary.BigEndian.Uint32(head[12:]))
		if string(head[:8]) != "IHAVEOPT" {
			return fmt.Errorf("magic %q", head[:8])
		}
		if _, err := io.ReadFull(c, data); err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.left || errors.Is(err, io.ErrClosedPipe) { // which it is when this server was stopped
				return nil
			}
			return fmt.Errorf("half an option: %w", err)
		}
		switch option {
		case 2:
			if len(data) != 0 {
				return fmt.Errorf("ABORT with data")
			}
			return nil
		case 6, 7:
			done, err := s.info(c, option, data)
			if err != nil || done {
				return err
			}
		default:
			return fmt.Errorf("option %d", option)
		}
	}
}

// info answers INFO and GO, and after GO demands silence.
func (s *server) info(c net.Conn, option uint32, data []byte) (done bool, err error) {
	s.mu.Lock()
	name, size, flags, description, refusal, block, payload := s.name, s.size, s.flags, s.description, s.refusal, s.block, s.payload
	if option == 7 {
		s.gos++
	} else {
		s.infos++
	}
	s.mu.Unlock()
	n := int(binary.BigEndian.Uint32(data))
	rest := data[4+n:]
	if wants := int(binary.BigEndian.Uint16(rest)); len(rest) != 2+2*wants {
		return false, fmt.Errorf("%d kinds in %d bytes", wants, len(rest))
	}
	if refusal != 0 {
		c.Write(answer(option, refusal, []byte("no\n")))
		return false, nil
	}
	if string(data[4:4+n]) != name {
		c.Write(answer(option, errBit|6, nil))
		return false, nil
	}
	c.Write(bytes.Join([][]byte{exportInfo(option, size, flags), answer(option, 3, blockInfo(block, max(block, 4096), payload)),
		answer(option, 3, append([]byte{0, 2}, description...)), answer(option, 1, nil)}, nil))
	if option == 6 {
		return false, nil
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 {
		return true, fmt.Errorf("a byte after GO, which is the kernel's (%v)", err)
	}
	return true, nil
}

func hello(flags uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte("NBDMAGICIHAVEOPT"), flags)
}

func answer(option, kind uint32, data []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, 0x3e889045565a9)
	b = binary.BigEndian.AppendUint32(b, option)
	b = binary.BigEndian.AppendUint32(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

func exportInfo(option uint32, size uint64, flags uint16) []byte {
	b := binary.BigEndian.AppendUint64([]byte{0, 0}, size)
	return answer(option, 3, binary.BigEndian.AppendUint16(b, flags))
}

func blockInfo(low, best, high uint32) []byte {
	b := binary.BigEndian.AppendUint32([]byte{0, 3}, low)
	b = binary.BigEndian.AppendUint32(b, best)
	return binary.BigEndian.AppendUint32(b, high)
}
