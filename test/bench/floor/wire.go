package main

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"net"
	"sync"

	"blocktree"
	"blocktree/crypto/seal"
)

// How a sector lies here: 2+1, of the usual size.
const (
	sectorBytes = blocktree.SectorBytesDefault
	dataShards  = 2
	allShards   = dataShards + 1
	shardBytes  = sectorBytes / dataShards
	metaBytes   = seal.HeaderBytes + 4 // behind the payload, per sector: what Seal made, and a CRC
)

// A frame is a header, shards and what Seal made of each sector, all of them of consecutive sectors. A write's answer has answerBytes.
const (
	opWrite     = 1
	opRead      = 2
	headerBytes = 20
	answerBytes = 64
	sectorsMax  = blocktree.RunSectorsMax
)

// frameHeader stands before everything.
type frameHeader struct {
	op    uint32
	id    uint32 // of the request; answers repeat it
	first uint64
	count uint32
}

func (h *frameHeader) encode(b []byte) {
	binary.BigEndian.PutUint32(b, h.op)
	binary.BigEndian.PutUint32(b[4:], h.id)
	binary.BigEndian.PutUint64(b[8:], h.first)
	binary.BigEndian.PutUint32(b[16:], h.count)
}

func decodeFrame(b []byte) frameHeader {
	return frameHeader{op: binary.BigEndian.Uint32(b), id: binary.BigEndian.Uint32(b[4:]), first: binary.BigEndian.Uint64(b[8:]), count: binary.BigEndian.Uint32(b[16:])}
}

// held is a TCP connection below TLS: it reads much at a time, and keeps what TLS writes until flush, so that many records are one system call.
type held struct {
	net.Conn
	in      *bufio.Reader
	holding bool
	out     []byte
}

const (
	rawBytes   = 128 << 10 // one read brings so much at most
	stageBytes = 48 << 10  // one write carries about so much
)

func (h *held) Read(p []byte) (int, error) { return h.in.Read(p) }

func (h *held) Write(p []byte) (int, error) {
	if !h.holding {
		return h.Conn.Write(p)
	}
	h.out = append(h.out, p...)
	return len(p), nil
}

// wire is a connection with its handshake done. Reading is one goroutine's; writing is guarded by mu.
type wire struct {
	raw *held
	tls *tls.Conn
	in  *bufio.Reader

	mu   sync.Mutex
	some []byte // short frames that wait to become one record
}

// newWire does the handshake.
func newWire(conn net.Conn, config *tls.Config, server bool) (*wire, error) {
	raw := &held{Conn: conn, in: bufio.NewReaderSize(conn, rawBytes)}
	w := &wire{raw: raw}
	if server {
		w.tls = tls.Server(raw, config)
	} else {
		w.tls = tls.Client(raw, config)
	}
	if err := w.tls.Handshake(); err != nil {
		return nil, err
	}
	raw.holding = true
	w.in = bufio.NewReaderSize(w.tls, rawBytes/2)
	return w, nil
}

// put adds a piece to what is written at the next flush; mu is held.
func (w *wire) put(p []byte) error {
	if len(p) <= 4<<10 {
		w.some = append(w.some, p...)
		if len(w.some) < 16<<10 {
			return nil
		}
		p = nil
	}
	if err := w.seal(); err != nil {
		return err
	}
	for len(p) > 0 {
		n := min(len(p), stageBytes)
		if _, err := w.tls.Write(p[:n]); err != nil {
			return err
		}
		p = p[n:]
		if len(w.raw.out) >= stageBytes {
			if err := w.send(); err != nil {
				return err
			}
		}
	}
	return nil
}

// seal makes records of the short frames; mu is held.
func (w *wire) seal() error {
	if len(w.some) == 0 {
		return nil
	}
	_, err := w.tls.Write(w.some)
	w.some = w.some[:0]
	return err
}

func (w *wire) send() error {
	_, err := w.raw.Conn.Write(w.raw.out)
	w.raw.out = w.raw.out[:0]
	return err
}

// flush writes what was put, in one system call if it is not much; mu is held.
func (w *wire) flush() error {
	if err := w.seal(); err != nil || len(w.raw.out) == 0 {
		return err
	}
	return w.send()
}

// more reports whether a read would not have to wait for the kernel: something is there that came with the last one.
func (w *wire) more() bool { return w.in.Buffered() > 0 || w.raw.in.Buffered() > 0 }
