package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"

	"blocktree/blockdev/memfile"
)

// pipeListener hands out connections without a socket underneath, as TLS will be.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener(testing.TB) net.Listener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case nc := <-l.conns:
		return nc, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// TestSameBytes runs the same random operations of any alignment, pipelined over several connections, on differently
// built servers, and compares all that is read with a flat slice. Connections own neighbouring ranges whose borders lie
// inside sectors, so that they meet there.
func TestSameBytes(t *testing.T) {
	yield := func(context.Context, memfile.Call) error { runtime.Gosched(); return nil }
	for _, x := range []struct {
		name  string
		setup setup
	}{
		{"goroutines", setup{file: memfile.Options{Hook: yield}, waits: true}},
		{"started", setup{file: memfile.Options{Hook: yield}}},
		{"prompt", setup{file: memfile.Options{Prompt: true}}},
		{"cached", setup{file: memfile.Options{Hook: yield}, cacheBytes: 1 << 20}},
		{"ahead", setup{file: memfile.Options{Hook: yield, Starts: true}, cacheBytes: 4 << 20, aheadBytes: 2 << 20}},
		{"little memory", setup{file: memfile.Options{Hook: yield}, memory: 64 << 10}},
		{"no socket", setup{file: memfile.Options{Hook: yield}, listener: newPipeListener}},
	} {
		t.Run(x.name, func(t *testing.T) {
			b := newBed(t, x.setup)
			model := make([]byte, 1<<20)
			const connections = 5
			var wg sync.WaitGroup
			for i := range connections {
				from, to := i*(33*1024+1), (i+1)*(33*1024+1)
				c := b.attachAs(styles[i%len(styles)])
				wg.Go(func() {
					p := &pipeliner{client: c, rand: rand.New(rand.NewPCG(uint64(i), 3)), base: uint64(from),
						model: model[from:to], flying: make(map[uint64]flight)}
					if err := p.run(400); err != nil {
						t.Errorf("connection %d: %v", i, err)
					}
				})
			}
			wg.Wait()
			got := make([]byte, len(model))
			if err := b.dev.ReadAt(t.Context(), got, 0); err != nil || !bytes.Equal(got, model) {
				t.Fatalf("at the end other bytes than the model's (%v)", err)
			}
		})
	}
}

// any connects by whatever the listener is.
func (b *bed) any() *client {
	l, ok := b.l.(*pipeListener)
	if !ok {
		return b.dial()
	}
	ours, theirs := net.Pipe()
	l.conns <- theirs
	return greeted(b.t, ours)
}

// pipeliner keeps requests in flight whose ranges do not overlap.
type pipeliner struct {
	*client
	rand   *rand.Rand
	base   uint64
	model  []byte // of the range from base on that this connection owns
	next   uint64 // handle
	flying map[uint64]flight
}

type flight struct {
	command, flags uint16
	off, length    int
}

func (p *pipeliner) run(steps int) error {
	for range steps {
		f := flight{off: p.rand.IntN(len(p.model))}
		f.length = p.rand.IntN(min(len(p.model)-f.off, 9000)) + 1
		for len(p.flying) >= 16 || p.overlaps(f) {
			if err := p.land(); err != nil {
				return err
			}
		}
		if err := p.launch(f); err != nil {
			return err
		}
	}
	for len(p.flying) > 0 {
		if err := p.land(); err != nil {
			return err
		}
	}
	return nil
}

func (p *pipeliner) overlaps(f flight) bool {
	for _, g := range p.flying {
		if f.off < g.off+g.length && g.off < f.off+f.length {
			return true
		}
	}
	return false
}

func (p *pipeliner) launch(f flight) error {
	part := p.model[f.off : f.off+f.length]
	off := p.base + uint64(f.off)
	var flags uint16
	var payload []byte
	switch p.rand.IntN(8) {
	case 0, 1, 2:
		f.command = cmdRead
		if p.style != compact && p.rand.IntN(3) == 0 {
			flags = cmdFlagDF
		}
	case 3:
		f.command, flags = cmdWriteZeroes, cmdFlagFastZero
		clear(part)
	case 4:
		f.command = cmdTrim
		const sector = 4096
		if from, to := (off+sector-1)/sector*sector, (off+uint64(f.length))/sector*sector; from < to {
			clear(p.model[from-p.base : to-p.base])
		}
	default:
		f.command, flags = cmdWrite, uint16(p.rand.IntN(2))
		for i := range part {
			part[i] = byte(p.rand.Uint32())
		}
		payload = part
	}
	p.next++
	f.flags = flags
	p.flying[p.next] = f
	_, err := p.nc.Write(p.request(f.command, flags, p.next, off, uint64(f.length), payload))
	return err
}

// land takes the next reply; the chunks of one are not mixed with others'.
func (p *pipeliner) land() error {
	b, err := p.br.Peek(16) // where every style has the handle
	if err != nil {
		return err
	}
	handle := binary.BigEndian.Uint64(b[8:])
	f, ok := p.flying[handle]
	if !ok {
		return fmt.Errorf("a reply to request %d", handle)
	}
	a := p.answer(handle, f.command, f.flags, p.base+uint64(f.off), uint64(f.length))
	if a.errno != 0 {
		return fmt.Errorf("request %d (%+v): error %d %s", handle, f, a.errno, a.text)
	}
	delete(p.flying, handle)
	if f.command == cmdRead && !bytes.Equal(a.data, p.model[f.off:f.off+f.length]) {
		return fmt.Errorf("request %d (%+v): other bytes than the model's", handle, f)
	}
	return nil
}
