package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"path/filepath"
	"sync"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/crypto/seal"
	"blocktree/internal/vfs"
)

const alpn = "floor/1"

// recordAlign is where records begin.
const recordAlign = 512

// recordHeaderBytes is what a record's header takes in the log of cluster/store.
const recordHeaderBytes = blocktree.RecordHeaderBytes

// node is one of the three: a log, and in memory where each sector lies in it.
type node struct {
	log      vfs.File
	written  bool // answers when a record is in the log, synced or not
	logBytes int64
	end      int64 // where the next record goes: around and around

	mu     sync.Mutex
	places map[uint64]place // by sector; guarded by mu
	queue  []*record
	wake   chan struct{}
	conn   *wire
	free   sync.Pool
}

// place is a sector's record.
type place struct {
	offset       int64
	index, count uint32
}

// record is a write that waits for its group.
type record struct {
	header frameHeader
	buf    []byte // recordHeaderBytes | payload | metadata | padding
}

// newNode makes the log and writes it through once: a log that is used again needs no new blocks of the file system.
func newNode(dir string, logBytes int64) (*node, error) {
	f, err := vfs.Disk{}.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	n := &node{log: f, logBytes: logBytes, places: map[uint64]place{}, wake: make(chan struct{}, 1)}
	chunk := make([]byte, 1<<20)
	for at := int64(0); at < logBytes; at += int64(len(chunk)) {
		if _, err := f.WriteAt(chunk, at); err != nil {
			return nil, err
		}
	}
	return n, f.Datasync()
}

// serve answers the one connection that it gets, until ctx or that ends.
func (n *node) serve(ctx context.Context, l net.Listener, key cred.Key) error {
	config, err := cred.NewTLSConfig(cred.TLSOptions{Key: key, ALPN: []string{alpn}, Server: true})
	if err != nil {
		return err
	}
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if n.conn, err = newWire(conn, config, true); err != nil {
		return err
	}
	failed := make(chan error, 2)
	go func() { failed <- n.commit() }()
	go func() { failed <- n.receive() }()
	if err := <-failed; ctx.Err() == nil && err != io.EOF {
		return err
	}
	return nil
}

// receive takes requests: writes are queued, reads answered.
func (n *node) receive() error {
	var header [headerBytes]byte
	var out []byte
	w := n.conn
	for {
		if _, err := io.ReadFull(w.in, header[:]); err != nil {
			return err
		}
		h := decodeFrame(header[:])
		if h.count == 0 || h.count > sectorsMax {
			return fmt.Errorf("a frame of %d sectors", h.count)
		}
		if h.op == opWrite {
			if err := n.takeWrite(h); err != nil {
				return err
			}
		} else {
			need := headerBytes + int(h.count)*(shardBytes+metaBytes)
			if cap(out) < need {
				out = make([]byte, need)
			}
			w.mu.Lock()
			err := n.read(h, out[:need])
			if err == nil {
				err = w.put(out[:need])
			}
			w.mu.Unlock()
			if err != nil {
				return err
			}
		}
		if !w.more() {
			select {
			case n.wake <- struct{}{}:
			default:
			}
			w.mu.Lock()
			err := w.flush()
			w.mu.Unlock()
			if err != nil {
				return err
			}
		}
	}
}

// takeWrite receives a write where it is written from, and makes its CRCs.
func (n *node) takeWrite(h frameHeader) error {
	payload := int(h.count) * shardBytes
	align := recordAlign
	if payload >= blocktree.DirectBytesMin {
		align = vfs.DirectBytes
	}
	bytes := (recordHeaderBytes + payload + int(h.count)*metaBytes + align - 1) &^ (align - 1)
	r, _ := n.free.Get().(*record)
	if r == nil || cap(r.buf) < bytes {
		r = &record{buf: vfs.DirectMemory(bytes)}
	}
	r.header, r.buf = h, r.buf[:bytes]
	body := r.buf[recordHeaderBytes:]
	if _, err := io.ReadFull(n.conn.in, body[:payload]); err != nil {
		return err
	}
	for i := range int(h.count) {
		m := body[payload+i*metaBytes:][:metaBytes]
		if _, err := io.ReadFull(n.conn.in, m[:seal.HeaderBytes]); err != nil {
			return err
		}
		binary.BigEndian.PutUint32(m[seal.HeaderBytes:], shardCRC(h.first+uint64(i), m, body[i*shardBytes:(i+1)*shardBytes]))
	}
	h.encode(r.buf)
	binary.BigEndian.PutUint32(r.buf[recordHeaderBytes-4:], crc32.Checksum(r.buf[:recordHeaderBytes-4], castagnoli()))
	n.mu.Lock()
	n.queue = append(n.queue, r)
	n.mu.Unlock()
	return nil
}

// castagnoli is the polynomial's table, which the package keeps.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// shardCRC binds a shard to its sector.
func shardCRC(sector uint64, meta, shard []byte) uint32 {
	var place [8]byte
	binary.BigEndian.PutUint64(place[:], sector)
	crc := crc32.Update(0, castagnoli(), place[:])
	crc = crc32.Update(crc, castagnoli(), meta[:seal.HeaderBytes])
	return crc32.Update(crc, castagnoli(), shard)
}

// commit writes what waits, syncs once, and answers all of it in one write.
func (n *node) commit() error {
	var group []*record
	var bufs [][]byte
	answer := make([]byte, answerBytes)
	for {
		n.mu.Lock()
		group, n.queue = n.queue, group[:0]
		n.mu.Unlock()
		if len(group) == 0 {
			<-n.wake
			continue
		}
		for from := 0; from < len(group); {
			if len(group[from].buf) >= blocktree.DirectBytesMin {
				n.end = (n.end + vfs.DirectBytes - 1) &^ (vfs.DirectBytes - 1)
			}
			begin, to := n.end, from
			for bufs = bufs[:0]; to < len(group) && n.end+int64(len(group[to].buf)) <= n.logBytes; to++ {
				bufs = append(bufs, group[to].buf)
				n.end += int64(len(group[to].buf))
			}
			if len(bufs) > 0 {
				if err := n.write(bufs, begin); err != nil {
					return err
				}
				n.keep(group[from:to], begin)
			}
			if from = to; to < len(group) {
				n.end = 0
			}
		}
		if !n.written {
			if err := n.log.Datasync(); err != nil {
				return err
			}
		}
		n.conn.mu.Lock()
		err := n.answer(group, answer)
		n.conn.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// write writes a part of a group, past the page cache if all of it is long records.
func (n *node) write(bufs [][]byte, at int64) error {
	direct := at%vfs.DirectBytes == 0
	for _, b := range bufs {
		direct = direct && len(b) >= blocktree.DirectBytesMin && vfs.CanBeDirect(b)
	}
	if f, ok := n.log.(vfs.Direct); ok && direct {
		_, err := f.WriteDirectAt(bufs, at)
		return err
	}
	_, err := n.log.WritevAt(bufs, at)
	return err
}

// keep notes where the sectors of records lie.
func (n *node) keep(group []*record, at int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range group {
		for i := range r.header.count {
			n.places[r.header.first+uint64(i)] = place{at, i, r.header.count}
		}
		at += int64(len(r.buf))
	}
}

// answer says of each that it is durable.
func (n *node) answer(group []*record, answer []byte) error {
	for i, r := range group {
		h := frameHeader{op: opWrite, id: r.header.id, count: 1}
		h.encode(answer)
		if err := n.conn.put(answer); err != nil {
			return err
		}
		n.free.Put(r)
		group[i] = nil
	}
	return n.conn.flush()
}

// read fills out with the answer to a read. Sectors of one record are read with two reads of the log, one sector of a record of one with one.
func (n *node) read(h frameHeader, out []byte) error {
	h.encode(out)
	payload, metas := out[headerBytes:headerBytes+int(h.count)*shardBytes], out[headerBytes+int(h.count)*shardBytes:]
	for i := uint32(0); i < h.count; {
		n.mu.Lock()
		p, ok := n.places[h.first+uint64(i)]
		run := uint32(1)
		for ok && i+run < h.count && n.places[h.first+uint64(i+run)] == (place{p.offset, p.index + run, p.count}) {
			run++
		}
		n.mu.Unlock()
		if !ok {
			return blocktree.E("floor: read", blocktree.NotFound, fmt.Errorf("sector %d was never written", h.first+uint64(i)))
		}
		to, meta := payload[int(i)*shardBytes:int(i+run)*shardBytes], metas[int(i)*metaBytes:int(i+run)*metaBytes]
		start := p.offset + recordHeaderBytes
		if p.count == 1 {
			var one [shardBytes + metaBytes]byte
			if _, err := n.log.ReadAt(one[:], start); err != nil {
				return err
			}
			copy(meta, one[copy(to, one[:]):])
		} else {
			if _, err := n.log.ReadAt(to, start+int64(p.index)*shardBytes); err != nil {
				return err
			}
			if _, err := n.log.ReadAt(meta, start+int64(p.count)*shardBytes+int64(p.index)*metaBytes); err != nil {
				return err
			}
		}
		for j := range int(run) {
			m := meta[j*metaBytes:][:metaBytes]
			if sector := h.first + uint64(i) + uint64(j); shardCRC(sector, m, to[j*shardBytes:(j+1)*shardBytes]) != binary.BigEndian.Uint32(m[seal.HeaderBytes:]) {
				return blocktree.E("floor: read", blocktree.Corrupt, fmt.Errorf("sector %d", sector))
			}
		}
		i += run
	}
	return nil
}
