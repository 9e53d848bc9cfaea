package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/crypto/seal"
	"blocktree/internal/erasure"
)

// startMax is the longest request that is done where it is asked for and where its answer comes in; longer ones have a goroutine.
const startMax = 16 << 10

// file is the device's content: a blocktree.File that is a ReadStarter, WriteStarter and Batcher.
type file struct {
	info  blocktree.FileInfo
	codec *erasure.Codec
	seal  *seal.Sealer
	wires [allShards]*wire
	memos sync.Pool // *request

	corked    atomic.Int32
	receiving atomic.Int32 // readers of answers that have more before them

	mu       sync.Mutex
	requests []*request // by id
	unused   []uint32
	after    []func()
	failed   error
}

// request is one in flight, with its memory.
type request struct {
	id    uint32
	first blocktree.SectorIndex
	count int
	left  atomic.Int32
	write bool
	dst   []byte
	end   func(error)

	shards [allShards][]byte
	seals  []byte
	metas  [dataShards][]byte
	all    []byte
}

// connect makes the file of three nodes.
func connect(ctx context.Context, info blocktree.FileInfo, key cred.Key, nodes []endpoint) (*file, error) {
	codec, err := erasure.New(blocktree.Code{Data: dataShards, Parity: allShards - dataShards})
	if err != nil {
		return nil, err
	}
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // it never fails
	f := &file{info: info, codec: codec, seal: seal.New(secret, seal.XAES256GCM, blocktree.FileID{Generation: 1, Inode: 1}, 1)}
	for i, n := range nodes {
		config, err := cred.NewTLSConfig(cred.TLSOptions{Key: key, Expect: n.principal, ALPN: []string{alpn}})
		if err != nil {
			return nil, err
		}
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", n.addr)
		if err != nil {
			return nil, err
		}
		if f.wires[i], err = newWire(conn, config, false); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	for i := range f.wires {
		go func() { f.fail(f.receive(i)) }()
	}
	return f, nil
}

// endpoint is where a node listens, and who it is.
type endpoint struct {
	addr      string
	principal blocktree.Principal
}

// nodeOf is which node has a shard of a run that begins with first: all take turns.
func nodeOf(first blocktree.SectorIndex, shard int) int {
	return (int(first/sectorsMax) + shard) % allShards
}

// shardOf is nodeOf backwards.
func shardOf(first blocktree.SectorIndex, node int) int {
	return (node + allShards - int(first/sectorsMax)%allShards) % allShards
}

// begin takes a request of consecutive sectors that lie in one run of sectorsMax.
func (f *file) begin(first blocktree.SectorIndex, bytes int, write bool, end func(error)) *request {
	r, _ := f.memos.Get().(*request)
	if r == nil {
		r = new(request)
	}
	r.first, r.count, r.write, r.end = first, bytes/sectorBytes, write, end
	shard, metas := r.count*shardBytes, r.count*metaBytes
	need := allShards*shard + dataShards*metas
	if cap(r.all) < need {
		r.all = make([]byte, need)
	}
	for i := range r.shards {
		r.shards[i] = r.all[i*shard : (i+1)*shard]
	}
	for i := range r.metas {
		r.metas[i] = r.all[allShards*shard+i*metas : allShards*shard+(i+1)*metas]
	}
	r.seals = r.metas[0][:r.count*seal.HeaderBytes]
	f.mu.Lock()
	defer f.mu.Unlock()
	if last := len(f.unused) - 1; last >= 0 {
		r.id, f.unused = f.unused[last], f.unused[:last]
		f.requests[r.id] = r
	} else {
		r.id = uint32(len(f.requests))
		f.requests = append(f.requests, r)
	}
	return r
}

// finish ends a request.
func (f *file) finish(r *request, err error) {
	f.mu.Lock()
	f.requests[r.id] = nil
	f.unused = append(f.unused, r.id)
	f.mu.Unlock()
	end := r.end
	r.end, r.dst = nil, nil
	f.memos.Put(r)
	end(err)
}

// Parts is the place of a sealed sector in the data shards, for SealRun.
func (r *request) Parts(i int, parts [][]byte) [][]byte {
	for _, s := range r.shards[:dataShards] {
		parts = append(parts, s[i*shardBytes:(i+1)*shardBytes])
	}
	return parts
}

// Seal is the place of a sector's header.
func (r *request) Seal(i int) []byte { return r.seals[i*seal.HeaderBytes : (i+1)*seal.HeaderBytes] }

// write seals, codes and sends; src is not used any more when it returns.
func (f *file) write(r *request, src []byte) error {
	v := blocktree.Version{Epoch: 1, Sequence: 1}
	f.seal.SealRun(r, src[:r.count*sectorBytes], sectorBytes, r.first, v)
	if err := f.codec.Encode(r.shards[:]); err != nil {
		return err
	}
	r.left.Store(allShards)
	h := frameHeader{op: opWrite, id: r.id, first: uint64(r.first), count: uint32(r.count)}
	shards, seals, first := r.shards, r.seals, r.first // after the last is sent it may be another's
	for s := range shards {
		if err := f.send(nodeOf(first, s), &h, shards[s], seals); err != nil {
			return err
		}
	}
	return nil
}

// read asks the nodes that have the data.
func (f *file) read(r *request) error {
	r.left.Store(dataShards)
	h := frameHeader{op: opRead, id: r.id, first: uint64(r.first), count: uint32(r.count)}
	first := r.first
	for s := range dataShards {
		if err := f.send(nodeOf(first, s), &h); err != nil {
			return err
		}
	}
	return nil
}

// send puts a frame on its way: at once, or with others if somebody corks.
func (f *file) send(node int, h *frameHeader, body ...[]byte) error {
	w := f.wires[node]
	var header [headerBytes]byte
	h.encode(header[:])
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.put(header[:]); err != nil {
		return err
	}
	for _, b := range body {
		if err := w.put(b); err != nil {
			return err
		}
	}
	if f.corked.Load() > 0 {
		return nil
	}
	return w.flush()
}

// receive takes one node's answers, and ends requests with the last of theirs.
func (f *file) receive(node int) error {
	w := f.wires[node]
	batch := false
	var header [answerBytes]byte
	for {
		if batch && !w.more() {
			batch = false
			f.endBatch()
		}
		if _, err := io.ReadFull(w.in, header[:headerBytes]); err != nil {
			return err
		}
		if !batch && w.more() {
			batch = true
			f.receiving.Add(1)
		}
		h := decodeFrame(header[:])
		f.mu.Lock()
		r := (*request)(nil)
		if int(h.id) < len(f.requests) {
			r = f.requests[h.id]
		}
		f.mu.Unlock()
		if r == nil {
			return errors.New("an answer to nothing")
		}
		if err := f.take(w, r, node, header[headerBytes:]); err != nil {
			return err
		}
		if r.left.Add(-1) == 0 {
			f.ended(r)
		}
	}
}

// take receives the rest of an answer.
func (f *file) take(w *wire, r *request, node int, rest []byte) error {
	if r.write {
		_, err := io.ReadFull(w.in, rest)
		return err
	}
	s := shardOf(r.first, node)
	if _, err := io.ReadFull(w.in, r.shards[s]); err != nil {
		return err
	}
	_, err := io.ReadFull(w.in, r.metas[s])
	return err
}

// ended ends a request that has all its answers: a long read is opened by who waits for it.
func (f *file) ended(r *request) {
	if r.write {
		f.finish(r, nil)
		return
	}
	if len(r.dst) > startMax {
		r.end(nil)
		return
	}
	f.finish(r, f.open(r))
}

// open opens what was read.
func (f *file) open(r *request) error {
	v := blocktree.Version{Epoch: 1, Sequence: 1}
	var room [dataShards][]byte
	for i := range r.count {
		for s := range room {
			room[s] = r.shards[s][i*shardBytes : (i+1)*shardBytes]
		}
		err := f.seal.OpenParts(r.dst[i*sectorBytes:(i+1)*sectorBytes], room[:], r.first+blocktree.SectorIndex(i), v, r.metas[0][i*metaBytes:i*metaBytes+seal.HeaderBytes])
		if err != nil {
			return err
		}
	}
	return nil
}

// endBatch calls who wanted to hear when a batch of answers is handled.
func (f *file) endBatch() {
	f.mu.Lock()
	f.receiving.Add(-1)
	after := f.after
	f.after = nil
	f.mu.Unlock()
	for _, do := range after {
		do()
	}
}

// fail fails everything that is in flight: nothing is tried again.
func (f *file) fail(err error) {
	f.mu.Lock()
	if f.failed == nil {
		f.failed = fmt.Errorf("a node has failed: %w", err)
	}
	requests := f.requests
	f.requests, f.unused = nil, nil
	f.mu.Unlock()
	for _, r := range requests {
		if r != nil && r.end != nil {
			r.end(blocktree.E("floor", blocktree.Unavailable, err))
		}
	}
}
