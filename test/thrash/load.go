package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"blocktree/test/nbdclient"
)

const (
	sectorBytes = 4096

	// opTimeout is longer than any fault and the 30 s that a write waits for members: what is not answered then is left open.
	opTimeout = 90 * time.Second

	// thinkMax is the longest pause of a client between two operations: the machine has better things to do than to be full.
	thinkMax = 12 * time.Millisecond
)

// loads are all clients of a run.
type loads struct {
	w         *world
	registers *registers
	mirror    *mirror
	fio       *fioLoad
	ctx       context.Context
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	once      sync.Once
}

// startLoads begins all loads; stop ends them and waits.
func (w *world) startLoads(ctx context.Context) (*loads, error) {
	ctx, cancel := context.WithCancel(ctx)
	l := &loads{w: w, ctx: ctx, cancel: cancel, registers: newRegisters(), fio: newFio(w)}
	l.mirror = newMirror()
	w.loads = l
	for i := range registerWriters {
		l.wg.Go(func() {
			l.registers.work(ctx, newConnection(w, w.writer, registersPath, &l.registers.tally), uint64(i))
		})
	}
	for i := range registerReaders {
		l.wg.Go(func() {
			l.registers.work(ctx, newConnection(w, w.reader, registersPath, &l.registers.tally), uint64(registerWriters+i))
		})
	}
	for i := range l.mirror.parts {
		l.wg.Go(func() {
			l.mirror.parts[i].work(ctx, newConnection(w, w.writer, mirrorPath, &l.mirror.tally), uint64(100+i))
		})
	}
	l.wg.Go(func() { l.fio.work(ctx) })
	return l, nil
}

func (l *loads) stop() {
	l.once.Do(func() {
		l.cancel()
		l.wg.Wait()
	})
}

// tally counts the answers of one load.
type tally struct {
	mu      sync.Mutex
	acked   int
	open    int            // no answer
	refused map[string]int // by error
	longest time.Duration  // of an acknowledged operation
	lastAck time.Time
	silence time.Duration // the longest time without any acknowledgement
	resting bool          // the faults are over: pauses count no more
}

// rest ends the measuring of pauses: afterwards the load stops and goes on as the finale wants it.
func (t *tally) rest() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.resting = true
}

func (t *tally) add(err error, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errno nbdclient.Errno
	switch {
	case err == nil:
		t.acked++
		if t.resting {
			return
		}
		now := time.Now()
		if !t.lastAck.IsZero() {
			t.silence = max(t.silence, now.Sub(t.lastAck))
		}
		t.lastAck = now
		t.longest = max(t.longest, took)
	case errors.As(err, &errno):
		if t.refused == nil {
			t.refused = map[string]int{}
		}
		t.refused[syscall.Errno(errno).Error()]++
	default:
		t.open++
	}
}

func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var refused []string
	for _, k := range slices.Sorted(maps.Keys(t.refused)) {
		refused = append(refused, fmt.Sprintf("%d %s", t.refused[k], k))
	}
	return fmt.Sprintf("%8d acknowledged, %d without an answer, refused: %s; longest operation %.1f s, longest silence %.1f s",
		t.acked, t.open, strings.Join(append(refused, fmt.Sprint(len(refused), " kinds")), ", "), t.longest.Seconds(), t.silence.Seconds())
}

// connection is one NBD connection of a load, dialed again whenever it is lost.
type connection struct {
	w      *world
	s      *server
	export string
	tally  *tally
	nbd    *nbdclient.Client
	life   int64 // of the server that answers here, or a later one
}

func newConnection(w *world, s *server, export string, t *tally) *connection {
	return &connection{w: w, s: s, export: export, tally: t}
}

// ready reports whether there is a connection; it dials until there is one or ctx ends.
func (c *connection) ready(ctx context.Context) bool {
	for c.nbd == nil && ctx.Err() == nil {
		nbd, err := nbdclient.Dial(ctx, c.s.socket, c.export)
		if err != nil {
			sleep(ctx, 200*time.Millisecond)
			continue
		}
		// Read after the dial: if the server was replaced since, this connection is dead and says nothing any more.
		c.nbd, c.life = nbd, c.s.life.Load()
	}
	return c.nbd != nil && ctx.Err() == nil
}

// do runs one operation to its end, even if the load is told to stop meanwhile, unless the run is.
func (c *connection) do(op func(ctx context.Context, nbd *nbdclient.Client) error) error {
	ctx, cancel := context.WithTimeout(c.w.ctx, opTimeout)
	defer cancel()
	began := time.Now()
	err := op(ctx, c.nbd)
	took := time.Since(began)
	c.tally.add(err, took)
	var errno nbdclient.Errno
	if err == nil || errors.As(err, &errno) {
		c.s.answered(err, took)
		return err
	}
	c.close()
	return err
}

func (c *connection) close() {
	if c.nbd != nil {
		c.nbd.Close()
		c.nbd = nil
	}
}
