package bareexchange

import (
	"context"
	"encoding/binary"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"blocktree/internal/bttp"
)

// overBTTP exchanges over internal/bttp.
type overBTTP struct {
	endpoint *bttp.Endpoint
	conns    []*bttp.Conn
	payload  []byte
}

// newBTTP connects to all.
func (s *session) newBTTP(ctx context.Context, transport bttp.Transport, lanes int) (exchanger, error) {
	e, err := bttp.New(bttp.Config{Key: s.client.key, Credentials: s.client.chain, Root: s.client.root,
		Transport: transport, Lanes: lanes, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	b := &overBTTP{endpoint: e, payload: make([]byte, messageMax)}
	for _, p := range s.peers {
		c, err := e.Dial(ctx, p.Runtime)
		if err != nil {
			_ = e.Close()
			return nil, err
		}
		b.conns = append(b.conns, c)
	}
	return b, nil
}

func (b *overBTTP) close() { _ = b.endpoint.Close() }

// bttpSlot is one exchange after the other, driven by the answers of the one before.
type bttpSlot struct {
	*overBTTP
	shape  Shape
	stop   time.Time
	body   [][]byte
	header [4]byte
	n      int
	left   atomic.Int32
	began  time.Time
	took   []time.Duration
	failed atomic.Pointer[error]
	done   *sync.WaitGroup
}

func (b *overBTTP) run(shape Shape, depth int, stop time.Time) ([]time.Duration, error) {
	var done sync.WaitGroup
	slots := make([]*bttpSlot, depth)
	for i := range slots {
		slots[i] = &bttpSlot{overBTTP: b, shape: shape, stop: stop, n: i, body: [][]byte{b.payload[:shape.OutBytes]}, done: &done}
		binary.BigEndian.PutUint32(slots[i].header[:], uint32(shape.BackBytes))
		done.Add(1)
		slots[i].start(time.Now())
	}
	done.Wait()
	var took []time.Duration
	for _, s := range slots {
		if err := s.failed.Load(); err != nil {
			return nil, *err
		}
		took = append(took, s.took...)
	}
	return took, nil
}

// start begins an exchange.
func (s *bttpSlot) start(now time.Time) {
	s.began = now
	s.n++
	s.left.Store(int32(s.shape.Peers))
	for i := range s.shape.Peers {
		c := s.conns[(s.n+i)%len(s.conns)]
		call := c.Call
		if s.shape.BackBytes > 16<<10 {
			call = c.CallBulk
		}
		if err := call(1, s.header[:], s.body, s.answered); err != nil {
			s.failed.Store(&err)
			s.answered(bttp.Reply{}, nil)
		}
	}
}

// answered is called for each answer; the last one of an exchange begins the next.
func (s *bttpSlot) answered(r bttp.Reply, err error) {
	r.Release()
	if err != nil {
		s.failed.Store(&err)
	}
	if s.left.Add(-1) > 0 {
		return
	}
	now := time.Now()
	s.took = append(s.took, now.Sub(s.began))
	if now.After(s.stop) || s.failed.Load() != nil {
		s.done.Done()
		return
	}
	s.start(now)
}
