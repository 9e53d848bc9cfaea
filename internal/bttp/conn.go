package bttp

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"blocktree"
	"blocktree/crypto/cred"
)

// bulkBytes is the length of a body from which on a call goes by a bulk lane, so that it delays no short one.
const bulkBytes = 16 << 10

// silentTicksMax is how many heartbeat intervals a lane may bring nothing. Ticks are counted, not time, so that a
// process that was stopped itself does not blame its peers.
const silentTicksMax = int(blocktree.DeadAfter / blocktree.HeartbeatInterval)

// Conn is a connection to one peer, from whichever side it was opened: both call, both serve. All methods may be
// called by many goroutines at once.
type Conn struct {
	endpoint  *Endpoint
	id        connID
	peer      cred.Identity                 // as it was at hello: its principal and its path are for good
	now       atomic.Pointer[cred.Identity] // as it is; set under Endpoint.mu
	proven    blocktree.Principal           // the key that TLS proved; an anonymous caller has one too
	dialed    bool
	way       Way
	transport Transport
	remote    string

	opener opener // how a dialed one got its carriers, and gets more
	relays int    // that hang on it; under Endpoint.mu

	// Under Endpoint.mu: which of this runtime's credentials the peer has, and whether a goroutine shows it newer ones. shown is under mu.
	told    *credentials
	showing bool
	shown   time.Time // when the peer showed new ones

	calls      calls
	unanswered atomic.Int64 // requests served and not answered
	quiet      atomic.Int32 // heartbeat intervals for which some lane has brought nothing

	mu       sync.Mutex
	lanes    []*lane // by index; nil while the dialer has not opened it
	claimed  []bool  // lanes that are open or being opened
	laneList atomic.Pointer[[]*lane]
	next     atomic.Uint32 // bulk lanes take turns

	dying    chan struct{}   // closed by the first failure
	ended    context.Context // ends just after
	end      context.CancelFunc
	done     chan struct{} // closed when all is over
	failOnce sync.Once
	cause    error
	readers  sync.WaitGroup

	kept atomic.Pointer[[]kept] // what whoever serves the connection keeps with it; set under mu
}

// newConn makes a connection without lanes.
func newConn(e *Endpoint, id connID, peer cred.Identity, proven blocktree.Principal, lanes int) *Conn {
	c := &Conn{endpoint: e, id: id, peer: peer, proven: proven, lanes: make([]*lane, lanes), claimed: make([]bool, lanes),
		dying: make(chan struct{}), done: make(chan struct{})}
	c.ended, c.end = context.WithCancel(context.Background())
	c.now.Store(&c.peer)
	c.claimed[0] = true // by whoever makes the connection
	c.laneList.Store(new([]*lane))
	return c
}

// Peer returns who the other side has proven to be. Of one connection its principal and path stay, the rest is as its newest credentials
// say.
func (c *Conn) Peer() cred.Identity { return *c.now.Load() }

// Keeper names what one who serves connections keeps with each of them: a pointer to one of its own.
type Keeper struct{ _ byte } // not of size zero: pointers differ

// kept is what a Keeper keeps.
type kept struct {
	by   *Keeper
	what any
}

// Keep returns what a Keeper keeps with the connection, as long as that is there: what made returned when it was first asked for. It takes no lock after
// that; there are few keepers. made must not call Keep.
func (c *Conn) Keep(by *Keeper, made func() any) any {
	if what, ok := c.find(by); ok {
		return what
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if what, ok := c.find(by); ok {
		return what
	}
	what := made()
	all := []kept{{by, what}}
	if before := c.kept.Load(); before != nil {
		all = append(all, *before...)
	}
	c.kept.Store(&all)
	return what
}

// find returns what a Keeper keeps already.
func (c *Conn) find(by *Keeper) (any, bool) {
	if all := c.kept.Load(); all != nil {
		for i := range *all {
			if (*all)[i].by == by {
				return (*all)[i].what, true
			}
		}
	}
	return nil, false
}

// Transport returns the carrier in use, QUIC, TCP or Memory; where a gateway passes the bytes on, the one to that.
func (c *Conn) Transport() Transport { return c.transport }

// Way returns how the connection came about.
func (c *Conn) Way() Way { return c.way }

// Asked reports whether it came of an ask (AskWay), by this side or the other: it is nobody else's, and nothing passes through it.
func (c *Conn) Asked() bool { return c.opener.asked }

// InFlight is how many calls of this side await an answer, and requests of the peer one of this side's.
func (c *Conn) InFlight() int { return c.calls.waiting() + int(c.unanswered.Load()) }

// RemoteAddr returns the peer's address, "host:port"; of a peer that has moved along with a QUIC connection that it dialed, the one that it has now.
func (c *Conn) RemoteAddr() string {
	if lanes := c.laneList.Load(); lanes != nil && len(*lanes) > 0 && !c.dialed {
		if q, ok := (*lanes)[0].carrier.(*quicCarrier); ok {
			return q.conn.RemoteAddr().String()
		}
	}
	return c.remote
}

// Done is closed once the connection has ended and every call has been answered.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Ended is closed as soon as the connection has failed, before its calls are answered: nothing that is sent arrives any more.
func (c *Conn) Ended() <-chan struct{} { return c.dying }

// Err returns nil while the connection is usable, and then why it ended: Unavailable where the peer or the network
// failed, Closed where this side closed it, Invalid or TooLarge where the peer broke the protocol, Unauthenticated
// where its credentials ended.
func (c *Conn) Err() error {
	select {
	case <-c.dying:
		return c.cause
	default:
		return nil
	}
}

// Close ends the connection for all who share it. Calls that wait for an answer fail with Closed. It waits for that,
// so it must not be called from Serve or from done.
func (c *Conn) Close() error {
	c.fail(blocktree.E("bttp", blocktree.Closed, errors.New("connection closed")))
	<-c.done
	return nil
}

// Call sends a request and returns without waiting for the network. If it returns an error, done is never called:
// TooLarge; Busy, which says nothing of the peer, when the lane's queue or the table of calls (RequestsPerConnectionMax)
// is full: AwaitRoom, or an answer, and try again; or what Err says. The queue holds LaneQueueBytesMax of messages, bodies
// that are not copied left out: those are their owner's, who has them in memory until done anyway.
//
// Otherwise done is called once: with the reply, from the reader goroutine of a lane, which it must not block; or with
// the error that the peer answered with; or, when the connection ends, with the error of Err from a goroutine of the
// connection. header is copied. The slices of body must not change until then; a body of at most 8 KiB is copied.
// The reply must be released.
//
// A body of 16 KiB or more goes by a bulk lane, the reply by the lane of its request.
func (c *Conn) Call(code uint16, header []byte, body [][]byte, done func(Reply, error)) error {
	return c.call(code, header, body, done, byteCount(body) >= bulkBytes, false)
}

// CallBulk is Call by a bulk lane, for a short request whose reply is long.
func (c *Conn) CallBulk(code uint16, header []byte, body [][]byte, done func(Reply, error)) error {
	return c.call(code, header, body, done, true, false)
}

func (c *Conn) call(code uint16, header []byte, body [][]byte, done func(Reply, error), bulk, mustCopy bool) error {
	m := message{frame: frame{kind: frameRequest, code: code, headerBytes: len(header), bodyBytes: byteCount(body)},
		header: header, body: body, mustCopy: mustCopy}
	if err := checkSize(m.frame); err != nil {
		return err
	}
	id, others, err := c.calls.add(mustCopy || m.frame.bodyBytes <= copyBytesMax, done)
	if err != nil {
		return err
	}
	m.frame.id = id
	m.more = others > 0
	if err := c.lane(bulk).send(&m, true); err != nil && c.calls.forget(id) {
		return err
	}
	return nil
}

// CallWait is Call that waits for the answer or for the end of ctx, and then fails with Canceled or Timeout; the peer
// may still act on the request. It copies the body. The reply must be released.
func (c *Conn) CallWait(ctx context.Context, code uint16, header []byte, body ...[]byte) (Reply, error) {
	return c.await(ctx, code, header, body, byteCount(body) >= bulkBytes, nil)
}

// Wait says how a call is waited for.
type Wait struct {
	Bulk bool        // by a bulk lane though the request is short, as its reply is long
	Late func(Reply) // unless it is nil, gets the reply that comes when nobody waits any more; it must not block, and does not release it
}

// CallWaiting is CallWait that is told how. Where its error is NotSent the peer has not received the request and never will.
func (c *Conn) CallWaiting(ctx context.Context, w Wait, code uint16, header []byte, body ...[]byte) (Reply, error) {
	return c.await(ctx, code, header, body, w.Bulk || byteCount(body) >= bulkBytes, w.Late)
}

func (c *Conn) await(ctx context.Context, code uint16, header []byte, body [][]byte, bulk bool, late func(Reply)) (Reply, error) {
	type answer struct {
		reply Reply
		err   error
	}
	answers := make(chan answer, 1)
	var taken atomic.Bool
	err := c.call(code, header, body, func(r Reply, err error) {
		if !taken.Swap(true) {
			answers <- answer{r, err}
			return
		}
		if err == nil && late != nil {
			late(r)
		}
		r.Release()
	}, bulk, true)
	if err != nil {
		return Reply{}, notSent{err}
	}
	select {
	case a := <-answers:
		return a.reply, a.err
	case <-ctx.Done():
	}
	if taken.Swap(true) {
		a := <-answers
		return a.reply, a.err
	}
	return Reply{}, &blocktree.Error{Op: "bttp.CallWait", Runtime: string(c.peer.Path), Kind: contextKind(ctx), Err: ctx.Err()}
}

// notSent is why a request was not even queued.
type notSent struct{ error }

func (e notSent) Unwrap() error { return e.error }

// NotSent reports whether a call that was waited for failed before anything of it was queued, so that it can be made elsewhere.
func NotSent(err error) bool {
	var e notSent
	return errors.As(err, &e)
}

// Send sends a message that wants no answer, and returns without waiting for the network; it copies header and body.
// It fails as Call does. Whether the peer received it is not known.
func (c *Conn) Send(code uint16, header []byte, body ...[]byte) error {
	m := message{frame: frame{kind: frameOneWay, code: code, headerBytes: len(header), bodyBytes: byteCount(body)},
		header: header, body: body, mustCopy: true}
	if err := checkSize(m.frame); err != nil {
		return err
	}
	if err := c.Err(); err != nil {
		return err
	}
	return c.lane(m.frame.bodyBytes >= bulkBytes).send(&m, true)
}

// AwaitRoom blocks until each lane's queue holds at most half of LaneQueueBytesMax, the connection ends, or
// ctx ends: for a caller that got Busy. It fails with Canceled or Timeout.
func (c *Conn) AwaitRoom(ctx context.Context) error {
	for _, l := range *c.laneList.Load() {
		if err := l.awaitRoom(ctx); err != nil {
			return &blocktree.Error{Op: "bttp.AwaitRoom", Runtime: string(c.peer.Path), Kind: contextKind(ctx), Err: err}
		}
	}
	return nil
}

// lane chooses a lane: the first for short messages, the others in turn for long ones.
func (c *Conn) lane(bulk bool) *lane {
	lanes := *c.laneList.Load()
	if !bulk || len(lanes) == 1 {
		return lanes[0]
	}
	return lanes[1+int(c.next.Add(1))%(len(lanes)-1)]
}

// claimLane reserves a lane for addLane. It fails with Invalid.
func (c *Conn) claimLane(index int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if index >= len(c.lanes) || c.claimed[index] {
		return blocktree.E("hello", blocktree.Invalid, errors.New("a lane that is open or was not announced"))
	}
	c.claimed[index] = true
	return nil
}

// addLane starts a lane that was claimed. It fails with what Err says, and then the carrier is the caller's.
func (c *Conn) addLane(index int, carrier carrier, r *reader) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.Err(); err != nil {
		return err
	}
	l := newLane(c, index, carrier)
	c.lanes[index] = l
	open := make([]*lane, 0, len(c.lanes))
	for _, l := range c.lanes {
		if l != nil {
			open = append(open, l)
		}
	}
	c.laneList.Store(&open)
	c.readers.Add(2)
	go func() { defer c.readers.Done(); l.readLoop(r) }()
	go func() { defer c.readers.Done(); l.writeLoop() }()
	return nil
}

// fail ends the connection with its first cause. It does not wait: run does the rest.
func (c *Conn) fail(err error) {
	c.failOnce.Do(func() {
		c.cause = err
		close(c.dying)
		c.end()
	})
}

// run is the connection's own goroutine: heartbeats until the end, then the end.
func (c *Conn) run() {
	ticker := time.NewTimer(c.endpoint.untilBeat())
	defer ticker.Stop()
	silent := make([]int, len(c.lanes))
	reads := make([]uint64, len(c.lanes))
	for {
		select {
		case <-c.dying:
			c.finish()
			return
		case <-ticker.C:
			ticker.Reset(c.endpoint.untilBeat())
		}
		if !c.peer.Anonymous() && c.endpoint.now().After(c.now.Load().NotAfter) {
			c.fail(&blocktree.Error{Op: "bttp", Runtime: string(c.peer.Path), Kind: blocktree.Unauthenticated,
				Err: errors.New("the peer's credentials have ended")})
			continue
		}
		if c.dialed {
			c.endpoint.endIdle(c)
		}
		for _, l := range *c.laneList.Load() {
			i := l.index
			if n := l.reads.Load(); n != reads[i] || l.busy.Load() {
				reads[i], silent[i] = n, 0
			} else if silent[i]++; silent[i] > silentTicksMax {
				c.fail(&blocktree.Error{Op: "bttp", Runtime: string(c.peer.Path), Kind: blocktree.Unavailable,
					Err: errors.New("no heartbeat for " + blocktree.DeadAfter.String())})
			}
			l.ping()
		}
		c.quiet.Store(int32(slices.Max(silent)))
	}
}

// Quiet returns for how long the peer has not been heard, in whole heartbeat intervals: of each lane, the longest. One that lives is heard in each.
func (c *Conn) Quiet() time.Duration {
	return time.Duration(c.quiet.Load()) * blocktree.HeartbeatInterval
}

// finish kills the lanes, fails all calls, and leaves the endpoint. Calls fail before readers are waited for: one
// may be inside a handler that waits for them.
func (c *Conn) finish() {
	c.mu.Lock() // no lane is added from here on
	lanes := *c.laneList.Load()
	c.mu.Unlock()
	for _, l := range lanes {
		l.carrier.close()
	}
	for _, l := range lanes {
		l.kill()
	}
	c.calls.end(c.cause)
	c.endpoint.remove(c)
	c.readers.Wait()
	close(c.done)
}

var errFlood = errors.New("more requests than allowed await their answer")

// serve passes a request to the handler.
func (c *Conn) serve(l *lane, f frame, b *buffer) error {
	r := &Request{Conn: c, Code: f.code, OneWay: f.kind == frameOneWay, lane: l, id: f.id, buf: b, use: b.use()}
	if b != nil {
		r.Body = b.data[:f.bodyBytes:f.bodyBytes]
		r.Header = b.data[f.bodyBytes : f.bodyBytes+f.headerBytes]
	}
	if !r.OneWay && c.unanswered.Add(1) > blocktree.RequestsPerConnectionMax {
		r.Release()
		return blocktree.E("bttp", blocktree.TooLarge, errFlood)
	}
	if f.code == codeCredentials {
		c.serveCredentials(r)
		return nil
	}
	h := c.endpoint.handler.Load()
	if h == nil {
		r.Fail(blocktree.E("bttp", blocktree.Unavailable, errors.New("the runtime serves nothing yet")))
		r.Release()
		return nil
	}
	(*h).Serve(r)
	return nil
}

// lostError is what a failure of a carrier means to callers: errors of our own keep their kind, a peer that refuses
// us says why.
func lostError(runtime string, err error) error {
	kind := blocktree.Unavailable
	var own *blocktree.Error
	var remote *net.OpError // "remote error" is how crypto/tls reports the peer's alert
	var quicTLS *quic.TransportError
	var refused *quic.ApplicationError
	switch {
	case errors.As(err, &own):
		kind = blocktree.KindOf(err)
	case errors.As(err, &remote) && remote.Op == "remote error",
		errors.As(err, &quicTLS) && quicTLS.ErrorCode.IsCryptoError():
		kind = blocktree.Unauthenticated
	case errors.As(err, &refused) && refused.Remote && refused.ErrorCode >= quicRefused:
		kind = blocktree.Kind(min(refused.ErrorCode-quicRefused, 255))
		if !kind.Valid() {
			kind = blocktree.Other
		}
		err = errors.New("refused by the peer: " + refused.ErrorMessage)
	case errors.Is(err, io.EOF):
		err = errors.New("the peer closed the connection")
	}
	return &blocktree.Error{Op: "bttp", Runtime: runtime, Kind: kind, Err: err}
}

// contextKind is the kind of a context's end.
func contextKind(ctx context.Context) blocktree.Kind {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return blocktree.Timeout
	}
	return blocktree.Canceled
}
