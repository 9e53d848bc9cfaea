package bttp

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"blocktree"
)

const (
	// laneStallTimeout is how long a peer that still sends heartbeats may take nothing of what is written to a lane.
	laneStallTimeout = 10 * time.Second
	// copyBytesMax is the longest body that is copied into the queue; longer ones are sealed from where they lie.
	copyBytesMax = CopiedBytesMax
	// stageBytesMax is how much is sealed before it is written: one system call carries that, and what TLS adds. It is four records, so that
	// the kernel makes one segment of it, which has at most 65,464 bytes over loopback: a write that needs two costs a sixth more for each byte, and one of
	// 256 KiB no less than that (docs/design/0045-bulk-again.md).
	stageBytesMax = 4 * recordBytes
	// inlineRounds is how many writes a caller that found the lane idle does, of its own messages and what others
	// queued meanwhile, before the lane's own goroutine takes over.
	inlineRounds = 4
	// answerRounds is the same of who answers: a long answer is sealed and written where it was read, whose cache has it, and nobody is woken for it.
	// Who asks is not: the rest of what it has to say is for others.
	answerRounds = 12
	// corkFramesMax and corkBytesMax end a cork: so much is worth a write of its own.
	corkFramesMax = 64
	corkBytesMax  = 128 << 10
	// keepBytesMax is the largest queue memory that is kept for the next batch.
	keepBytesMax = 512 << 10
)

// lane is one ordered channel of a connection. Its goroutines are a reader (laneread.go) and a writer; most writing
// is done by callers.
type lane struct {
	conn    *Conn
	index   int
	carrier carrier

	mu      sync.Mutex
	queue   batch // what waits to be written
	waiting int   // bytes of queue and out
	copied  int   // those of them that are in memory of the lane's own
	answers int   // those of them that nothing else bounds
	writing bool  // somebody owns out and the carrier's writing side
	dead    bool  // nothing is queued any more
	space   *sync.Cond
	held    bool // in cork.lanes, and guarded by cork.mu

	out  batch         // owned by whoever writes
	wake chan struct{} // hands that to the lane's writer goroutine
	gone chan struct{} // closed when nobody will write any more

	reads atomic.Uint64 // counts successful reads, for the heartbeat
	busy  atomic.Bool   // the reader works on what it read

	corked bool     // the reader's own: it has corked the endpoint
	after  []func() // likewise: are called when that is over
}

// batch is a run of encoded frames; long bodies are not in buf but spliced in at their place.
type batch struct {
	buf     []byte
	splices []splice
	frames  int
	bytes   int // all, splices included
	copied  int // all but the splices
	answers int // of replies and failures
	staged  int // bytes of buf that are staged already
	next    int // the first splice that is not
	piece   int // of that splice: the first piece of the body that is not,
	offset  int // and how much of it is
}

// splice is a long body between buf[:at] and buf[at:].
type splice struct {
	at      int
	body    [][]byte
	request uint64 // the call it belongs to, 0 for none
	release func() // called when the body is not needed any more; may be nil
}

// empty reports whether everything is staged.
func (b *batch) empty() bool { return b.staged == len(b.buf) && b.next == len(b.splices) }

// reset makes the batch new, keeping its memory within reason.
func (b *batch) reset() {
	clear(b.splices)
	buf, splices := b.buf[:0], b.splices[:0]
	if cap(buf) > keepBytesMax {
		buf = nil
	}
	*b = batch{buf: buf, splices: splices}
}

// drop releases the bodies that were never staged.
func (b *batch) drop() {
	for ; b.next < len(b.splices); b.next++ {
		if r := b.splices[b.next].release; r != nil {
			r()
		}
	}
	b.reset()
}

// newLane makes a lane and starts nothing.
func newLane(c *Conn, index int, carrier carrier) *lane {
	l := &lane{conn: c, index: index, carrier: carrier, wake: make(chan struct{}, 1), gone: make(chan struct{})}
	l.space = sync.NewCond(&l.mu)
	return l
}

// message is one frame to send. body is copied if it is short or mustCopy is set, and otherwise used until release.
type message struct {
	frame    frame
	header   []byte
	body     [][]byte
	mustCopy bool
	more     bool // other messages are likely to follow at once
	release  func()
}

// copies reports whether the body is copied.
func (m *message) copies() bool { return m.mustCopy || m.frame.bodyBytes <= copyBytesMax }

// answers reports whether it is one.
func (m *message) answers() bool { return m.frame.kind == frameReply || m.frame.kind == frameFailure }

// byteCount sums the pieces of a body.
func byteCount(body [][]byte) int {
	n := 0
	for _, b := range body {
		n += len(b)
	}
	return n
}

// send queues the message and, when the lane is idle and not corked, writes it: in the calling goroutine, without
// blocking, or, where more messages are likely to follow, in the lane's own as soon as that runs, with what has come
// until then. bounded messages are refused with Busy when the lane holds LaneQueueBytesMax already.
func (l *lane) send(m *message, bounded bool) error {
	size := fixedBytes + len(m.header) + m.frame.bodyBytes
	l.mu.Lock()
	if l.dead {
		l.mu.Unlock()
		return l.conn.Err()
	}
	own := size
	if !m.copies() {
		own -= m.frame.bodyBytes
	}
	if bounded && l.copied+own > blocktree.LaneQueueBytesMax {
		l.mu.Unlock()
		return &blocktree.Error{Op: "bttp.Call", Runtime: string(l.conn.peer.Path), Kind: blocktree.Busy, Err: errQueueFull}
	}
	l.queue.add(m, size, own)
	l.waiting += size
	l.copied += own
	if m.answers() {
		l.answers += size
		l.queue.answers += size
	}
	write := !l.writing && (l.queue.frames >= corkFramesMax || l.queue.bytes >= corkBytesMax || !l.conn.endpoint.cork.holds(l))
	if write {
		l.writing = true
	}
	l.mu.Unlock()
	if m.release != nil && m.copies() {
		m.release()
	}
	switch {
	case write && m.more:
		l.wake <- struct{}{}
	case write && m.answers():
		l.write(answerRounds)
	case write:
		l.write(inlineRounds)
	}
	return nil
}

// add encodes the message, of size bytes and own of them copied, at the end of the batch.
func (b *batch) add(m *message, size, own int) {
	b.buf = m.frame.append(b.buf)
	b.buf = append(b.buf, m.header...)
	b.frames++
	b.bytes += size
	b.copied += own
	if m.copies() {
		for _, p := range m.body {
			b.buf = append(b.buf, p...)
		}
		return
	}
	s := splice{at: len(b.buf), body: m.body, release: m.release}
	if m.frame.kind == frameRequest {
		s.request = m.frame.id
	}
	b.splices = append(b.splices, s)
}

// ping writes a heartbeat unless something is on its way anyway. As any sender it does not wait: what the carrier does not take at once is left to the
// lane's goroutine.
func (l *lane) ping() {
	l.mu.Lock()
	if l.dead || l.writing {
		l.mu.Unlock()
		return
	}
	if l.waiting == 0 { // else somebody corks for very long, and this ends it
		l.queue.add(&message{frame: frame{kind: framePing}}, fixedBytes, fixedBytes)
		l.waiting += fixedBytes
		l.copied += fixedBytes
	}
	l.writing = true
	l.mu.Unlock()
	l.write(inlineRounds)
}

// writeQueued writes what waits, if nobody does.
func (l *lane) writeQueued() {
	l.mu.Lock()
	write := !l.writing && !l.dead && l.queue.frames > 0
	if write {
		l.writing = true
	}
	l.mu.Unlock()
	if write {
		l.write(inlineRounds)
	}
}

// write sends what is queued until nothing is. The caller owns l.writing and has lost it afterwards: given back, or
// handed to the lane's goroutine where writing would block or takes more than so many writes. That goroutine itself has no such bound, 0.
func (l *lane) write(rounds int) {
	for round := 0; ; round++ {
		if l.out.empty() && l.carrier.staged() == 0 && !l.nextBatch() {
			return
		}
		if rounds > 0 && round == rounds {
			l.wake <- struct{}{}
			return
		}
		err := l.stage()
		sent := true
		switch {
		case err != nil:
		case rounds > 0:
			sent, err = l.carrier.tryFlush()
		default:
			err = l.carrier.flush()
		}
		if err != nil {
			l.conn.fail(lostError(string(l.conn.peer.Path), err))
			l.giveUp()
			return
		}
		if !sent {
			l.wake <- struct{}{}
			return
		}
	}
}

// nextBatch takes what is queued. If that is nothing, or the lane is dead, it ends the caller's turn.
func (l *lane) nextBatch() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting -= l.out.bytes
	l.copied -= l.out.copied
	l.answers -= l.out.answers
	l.out.reset()
	if l.queue.frames == 0 || l.dead {
		l.writing = false
		l.space.Broadcast()
		return false
	}
	l.out, l.queue = l.queue, l.out
	l.space.Broadcast()
	return true
}

// giveUp ends the caller's turn after a failure.
func (l *lane) giveUp() {
	l.mu.Lock()
	l.writing = false
	l.dead = true
	l.space.Broadcast()
	l.mu.Unlock()
}

// stage moves frames from out to the carrier, stageBytesMax of them or all.
func (l *lane) stage() error {
	b := &l.out
	for !b.empty() && l.carrier.staged() < stageBytesMax {
		end := len(b.buf)
		if b.next < len(b.splices) {
			end = b.splices[b.next].at
		}
		if end > b.staged {
			end = min(end, b.staged+stageBytesMax-l.carrier.staged())
			if err := l.carrier.stage(b.buf[b.staged:end]); err != nil {
				return err
			}
			b.staged = end
			continue
		}
		if err := l.stageSplice(&b.splices[b.next]); err != nil {
			return err
		}
	}
	return nil
}

// stageSplice moves some of a long body to the carrier. When all of it has moved it tells who owns the body.
func (l *lane) stageSplice(s *splice) error {
	b := &l.out
	for b.piece < len(s.body) {
		p := s.body[b.piece][b.offset:]
		if len(p) == 0 { // behind the last byte, too: once that is written the peer may answer
			b.piece, b.offset = b.piece+1, 0
			continue
		}
		room := stageBytesMax - l.carrier.staged()
		if room <= 0 {
			return nil
		}
		p = p[:min(len(p), room)]
		if err := l.carrier.stage(p); err != nil {
			return err
		}
		b.offset += len(p)
	}
	b.next, b.piece = b.next+1, 0
	l.conn.calls.markSent(s.request)
	if s.release != nil {
		s.release()
	}
	return nil
}

// writeLoop is the lane's writer goroutine: it takes over when a caller should not go on.
func (l *lane) writeLoop() {
	for {
		select {
		case <-l.wake:
			l.write(0)
		case <-l.gone:
			return
		}
	}
}

// kill refuses new frames, ends the carrier, waits until nobody writes, and drops what was queued. No body that was
// given to send is read afterwards. It is called once.
func (l *lane) kill() {
	l.mu.Lock()
	l.dead = true
	l.space.Broadcast()
	l.mu.Unlock()
	l.carrier.close()
	l.mu.Lock()
	for l.writing {
		l.space.Wait()
	}
	l.mu.Unlock()
	close(l.gone)
	l.out.drop()
	l.queue.drop()
}

// awaitSpace blocks the reader while answers pile up because the peer does not take them. Requests do not count: the peer takes them only
// once we have taken its answers, perhaps. Before it blocks it calls uncork. It reports false when the lane is dead, and nothing that it still
// brings matters.
func (l *lane) awaitSpace(uncork func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.answers > blocktree.LaneQueueBytesMax && !l.dead {
		l.mu.Unlock()
		uncork() // writes, maybe here
		l.mu.Lock()
	}
	for l.answers > blocktree.LaneQueueBytesMax && !l.dead {
		l.space.Wait()
	}
	return !l.dead
}

// awaitRoom blocks until the lane holds at most half of LaneQueueBytesMax, the lane is dead, or ctx ends.
func (l *lane) awaitRoom(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		l.mu.Lock() // so that it is not missed between test and Wait
		l.space.Broadcast()
		l.mu.Unlock()
	})
	defer stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.copied > blocktree.LaneQueueBytesMax/2 && !l.dead && ctx.Err() == nil {
		l.space.Wait()
	}
	return ctx.Err()
}
