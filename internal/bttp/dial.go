package bttp

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"

	"blocktree"
	"blocktree/crypto/cred"
)

// tcpHeadStart is how long QUIC waits for TCP where either will do.
const tcpHeadStart = 250 * time.Millisecond

// refusedPatience bounds the QUIC handshake with a host that refused TCP at once: a node that is down is not waited for.
const refusedPatience = 500 * time.Millisecond

// dialing is a connection to a principal, or the attempt to make it, shared by all who ask.
type dialing struct {
	ready chan struct{} // closed when conn or err is set
	conn  *Conn
	err   error
	brief bool              // nobody has asked for it to be kept; all but the channels and stop are under Endpoint.mu
	lent  time.Time         // when somebody asked for it last
	said  blocktree.Runtime // what who began it was told of the peer
	addrs []string          // that are tried, one after the other
	begun int               // so many of them have been
	more  chan struct{}     // there are further ones
	wait  int               // how many wait for it
	left  bool              // the attempt was given up, as nobody did and others had no room
	stop  func()            // ends the attempt
}

// Dial returns the connection to the runtime, made now or before: all callers of one principal share one, and close
// it for each other. A connection that the peer opened is never used for this, since another process may be using
// the peer's identity. It blocks until the peer has proven to be the principal, at the path, with the services of r
// (an empty path is not checked), or until ctx ends; the attempt itself lasts at most HandshakeTimeout per endpoint
// and is not ended by ctx, as others may wait for it.
//
// It fails with Invalid, Unavailable, Unauthenticated, Canceled, Timeout, Closed, or the kind that the peer refuses
// with. Failures are not remembered.
func (e *Endpoint) Dial(ctx context.Context, r blocktree.Runtime) (*Conn, error) {
	return e.dialFor(ctx, r, false)
}

func (e *Endpoint) dialFor(ctx context.Context, r blocktree.Runtime, brief bool) (*Conn, error) {
	if r.Principal.IsZero() || len(r.Endpoints) == 0 {
		return nil, &blocktree.Error{Op: "bttp.Dial", Runtime: string(r.Path), Kind: blocktree.Invalid,
			Err: errors.New("no principal or no endpoint")}
	}
	for {
		d, own, err := e.startDial(r, brief)
		if err != nil {
			return nil, err
		}
		select {
		case <-d.ready:
			e.leaveDial(d)
		case <-ctx.Done():
			e.leaveDial(d)
			return nil, &blocktree.Error{Op: "bttp.Dial", Runtime: string(r.Path), Kind: contextKind(ctx), Err: ctx.Err()}
		}
		if d.err != nil && !own && (d.said.Path != r.Path || !slices.Equal(d.said.Services, r.Services)) && ctx.Err() == nil {
			continue // who began it was told something else, which may be why it failed
		}
		if d.err != nil {
			return nil, d.err
		}
		if d.conn.Err() != nil {
			select { // it ended just now: once it is forgotten, make another
			case <-d.conn.done:
				continue
			case <-ctx.Done():
				return nil, &blocktree.Error{Op: "bttp.Dial", Runtime: string(r.Path), Kind: contextKind(ctx), Err: ctx.Err()}
			}
		}
		if err := matches(d.conn.peer, r); err != nil {
			return nil, err
		}
		return d.conn, nil
	}
}

// startDial returns the dialing of the principal, a new one, the caller's own, if there is none; brief as in DialBriefly.
func (e *Endpoint) startDial(r blocktree.Runtime, brief bool) (d *dialing, own bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, false, blocktree.E("bttp.Dial", blocktree.Closed, errors.New("endpoint closed"))
	}
	if d := e.dialed[r.Principal]; d != nil {
		d.brief, d.lent = d.brief && brief, time.Now()
		d.add(r.Endpoints)
		d.wait++
		return d, false, nil
	}
	if brief {
		if err := e.makeRoom(); err != nil {
			return nil, false, err
		}
	}
	d = &dialing{ready: make(chan struct{}), said: r, addrs: slices.Clone(r.Endpoints[:min(len(r.Endpoints), dialAddrsMax)]), more: make(chan struct{}, 1), brief: brief,
		lent: time.Now(), wait: 1}
	ctx, stop := context.WithCancel(e.ctx)
	d.stop = stop
	e.dialed[r.Principal] = d
	e.tasks.Add(1)
	go func() {
		defer e.tasks.Done()
		defer stop()
		conn, err := e.dial(ctx, r, d)
		e.mu.Lock()
		d.conn, d.err, d.lent = conn, err, time.Now()
		if (err != nil || conn.Err() != nil) && e.dialed[r.Principal] == d {
			delete(e.dialed, r.Principal)
		}
		left := d.left
		e.mu.Unlock()
		close(d.ready)
		if left && err == nil {
			conn.fail(errBriefly("others are asked"))
		}
	}()
	return d, true, nil
}

// leaveDial says that somebody does not wait for a dialing any more.
func (e *Endpoint) leaveDial(d *dialing) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d.wait--
}

// notAsSaid is why a peer is not what the runtime record says. It has proven the key: at its other addresses it is no different.
type notAsSaid string

func (why notAsSaid) Error() string { return string(why) }

// matches refuses a peer that is not what the runtime record says.
func matches(peer cred.Identity, r blocktree.Runtime) error {
	refuse := func(why string) error {
		return &blocktree.Error{Op: "bttp.Dial", Runtime: string(r.Path), Kind: blocktree.Unauthenticated, Err: notAsSaid(why)}
	}
	if peer.Principal != r.Principal {
		return refuse("the peer is " + peer.Principal.String() + ", not " + r.Principal.String())
	}
	if r.Path != "" && peer.Path != r.Path {
		return refuse("the peer is at " + string(peer.Path))
	}
	for _, s := range r.Services {
		if !peer.Allows(s) {
			return refuse("the peer may not offer service " + s)
		}
	}
	return nil
}

// dialAddr makes a connection by the carrier that the transport asks for.
func (e *Endpoint) dialAddr(ctx context.Context, addr string, r blocktree.Runtime, config *tls.Config) (*Conn, error) {
	switch e.config.Transport {
	case TCP:
		return e.dialWith(ctx, r, e.openTCP(addr, config))
	case QUIC:
		return e.dialUnlessRefused(ctx, addr, r, config)
	default:
		return e.dialAuto(ctx, addr, r, config)
	}
}

// dialUnlessRefused makes a QUIC connection, or fails as soon as the peer's host says that nobody listens: where only QUIC is spoken no other
// carrier's refusal tells a process that is down from one that is slow to answer, and a handshake takes HandshakeTimeout to give up. Who forges
// such a word can do what one can who forges a reset of TCP: have the dial fail.
func (e *Endpoint) dialUnlessRefused(ctx context.Context, addr string, r blocktree.Runtime, config *tls.Config) (*Conn, error) {
	ctx, refuse := context.WithCancelCause(ctx)
	defer refuse(nil)
	e.tasks.Go(func() { // within a task: the count is not zero
		remote, err := resolveUDP(ctx, addr)
		if err == nil {
			err = e.config.Network.AwaitRefusal(ctx, remote.String())
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			refuse(err)
		}
	})
	conn, err := e.dialWith(ctx, r, e.openQUIC(addr, config))
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, syscall.ECONNREFUSED) {
		return nil, blocktree.E("dial quic", blocktree.Unavailable, cause)
	}
	return conn, err
}

// attempt is what dialing by one carrier came to.
type attempt struct {
	conn *Conn
	err  error
}

// dialAuto prefers TCP: QUIC starts when TCP has failed, or has not connected for tcpHeadStart, and is used where it
// connects while TCP is still silent, or has failed and fails again now that the peer is known to be there. A refusal by
// either side is final.
func (e *Endpoint) dialAuto(ctx context.Context, addr string, r blocktree.Runtime, config *tls.Config) (*Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	attempts := func(open opener) chan attempt {
		result := make(chan attempt, 1)
		e.tasks.Go(func() { // within a task: the count is not zero
			conn, err := e.dialWith(ctx, r, open)
			result <- attempt{conn, err}
		})
		return result
	}
	tcp := attempts(e.openTCP(addr, config))
	head := time.NewTimer(tcpHeadStart)
	defer head.Stop()
	var first attempt
	failed := false
	select {
	case first = <-tcp:
		if first.err == nil || blocktree.KindOf(first.err) != blocktree.Unavailable {
			return first.conn, first.err
		}
		failed = true
		if errors.Is(first.err, syscall.ECONNREFUSED) { // the host is there and says no: a QUIC listener would answer soon
			defer time.AfterFunc(refusedPatience, cancel).Stop()
		}
	case <-head.C:
	}
	quic := attempts(e.openQUIC(addr, config))
	if !failed {
		select {
		case first = <-tcp:
			if first.err == nil {
				cancel()
				return first.conn, drop(<-quic)
			}
			failed = true
		case second := <-quic:
			if second.err == nil {
				cancel()
				return second.conn, drop(<-tcp)
			}
			first = <-tcp
			return first.conn, joinUnless(first.err, second.err)
		}
	}
	second := <-quic
	if second.err != nil {
		return nil, joinUnless(first.err, second.err)
	}
	return e.tcpAgain(ctx, addr, r, config, second.conn), nil
}

// tcpAgain tries TCP once more where QUIC has connected, as the peer may have been starting when TCP was tried.
func (e *Endpoint) tcpAgain(ctx context.Context, addr string, r blocktree.Runtime, config *tls.Config, conn *Conn) *Conn {
	ctx, cancel := context.WithTimeout(ctx, tcpHeadStart)
	defer cancel()
	better, err := e.dialWith(ctx, r, e.openTCP(addr, config))
	if err != nil {
		return conn
	}
	_ = drop(attempt{conn: conn})
	return better
}

// drop ends a connection that is not needed, if there is one.
func drop(a attempt) error {
	if a.conn != nil {
		a.conn.fail(blocktree.E("bttp", blocktree.Closed, errors.New("the other carrier is used")))
	}
	return nil
}

// joinUnless joins the errors of both carriers, unless the first is none.
func joinUnless(first, second error) error {
	if first == nil {
		return nil
	}
	return errors.Join(first, second)
}

// opener opens one more lane's carrier, and says whose key its peer has proven and where that is; the first call makes the connection. transport names the carrier, via who passes its bytes
// on, if anybody. fresh is an opener of another connection to the same place; nil where each carrier is one.
type opener struct {
	transport Transport
	via       blocktree.Path
	way       Way  // "" is Direct
	asked     bool // the connection comes of an ask: nothing else can be opened beside it
	lanes     int  // that it can have; 0: as the configuration says
	open      func(ctx context.Context) (carrier, blocktree.Principal, string, error)
	fresh     func() opener
}

// openTCP opens a TCP connection per lane.
func (e *Endpoint) openTCP(addr string, config *tls.Config) opener {
	return opener{transport: TCP, open: func(ctx context.Context) (carrier, blocktree.Principal, string, error) {
		conn, err := e.config.Network.Dial(ctx, addr)
		if err != nil {
			return nil, blocktree.Principal{}, "", blocktree.E("dial tcp", blocktree.Unavailable, err)
		}
		c, proven, err := newRawConn(conn, e.config.stall).handshake(ctx, config, false)
		if err != nil {
			_ = conn.Close()
			return nil, blocktree.Principal{}, "", lostError("", err)
		}
		return c, proven, conn.RemoteAddr().String(), nil
	}}
}

// openQUIC opens a QUIC connection and then streams of it.
func (e *Endpoint) openQUIC(addr string, config *tls.Config) opener {
	var conn *quic.Conn
	return opener{transport: QUIC, fresh: func() opener { return e.openQUIC(addr, config) }, open: func(ctx context.Context) (carrier, blocktree.Principal, string, error) {
		fail := func(err error) (carrier, blocktree.Principal, string, error) {
			return nil, blocktree.Principal{}, "", lostError("", err)
		}
		first := conn == nil
		if first {
			transport, err := e.dialTransport()
			if err != nil {
				return fail(err)
			}
			remote, err := resolveUDP(ctx, addr)
			if err != nil {
				return fail(err)
			}
			if conn, err = transport.Dial(ctx, remote, config, quicConfig()); err != nil {
				return fail(err)
			}
		}
		stream, err := conn.OpenStreamSync(ctx)
		var proven blocktree.Principal
		if err == nil {
			proven, err = cred.PeerPrincipal(conn.ConnectionState().TLS)
		}
		if err != nil {
			if first { // else its lanes have it
				_ = conn.CloseWithError(0, "")
			}
			return fail(err)
		}
		return &quicCarrier{conn: conn, stream: stream, stall: e.config.stall}, proven, conn.RemoteAddr().String(), nil
	}}
}

// resolveUDP is net.ResolveUDPAddr within the time of ctx.
func resolveUDP(ctx context.Context, addr string) (*net.UDPAddr, error) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", service)
	if err != nil {
		return nil, err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(ips[0].Unmap(), uint16(port))), nil
}

// dialTransport returns the QUIC socket for dialing, opened at the first use.
func (e *Endpoint) dialTransport() (*quic.Transport, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.dialQUIC != nil {
		return e.dialQUIC, nil
	}
	if e.closed {
		return nil, blocktree.E("dial quic", blocktree.Closed, errors.New("endpoint closed"))
	}
	udp, err := e.config.Network.ListenPacket(e.ctx, ":0")
	if err != nil {
		return nil, socketError(err)
	}
	t := &quic.Transport{Conn: udp, ConnContext: e.admitQUIC, VerifySourceAddress: e.mustProveAddress} // of connections that come, where openBack lets them
	e.dialQUIC = t
	e.tasks.Add(1) // for a probe's answer
	go func() { defer e.tasks.Done(); e.others(t, false) }()
	e.closers = append(e.closers, func() {
		_ = t.Close()
		_ = udp.Close()
	})
	return t, nil
}

// dialWith opens all lanes of a connection.
func (e *Endpoint) dialWith(ctx context.Context, r blocktree.Runtime, o opener) (*Conn, error) {
	own := e.own.Load()
	h := hello{conn: newConnID(), lanes: cmp.Or(o.lanes, e.config.Lanes), chain: own.chain}
	c, reader, answer, proven, remote, err := e.openLane(ctx, o, &h)
	if err != nil {
		return nil, err
	}
	peer, err := e.identify(answer.chain, proven)
	if err == nil {
		err = matches(peer, r)
	}
	conn := newConn(e, h.conn, peer, proven, h.lanes)
	conn.way = cmp.Or(o.way, Direct)
	conn.dialed, conn.transport, conn.remote, conn.opener, conn.told = true, o.transport, remote, o, own
	if err == nil {
		err = e.add(conn)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	if err := conn.addLane(0, c, reader); err != nil {
		c.close()
		return nil, err
	}
	for h.lane = 1; h.lane < h.lanes; h.lane++ {
		h.chain = nil
		c, reader, _, again, _, err := e.openLane(ctx, o, &h)
		if err == nil {
			if again != proven {
				err = blocktree.E("hello", blocktree.Unauthenticated, errors.New("another peer answers on a further lane"))
			} else {
				err = conn.addLane(h.lane, c, reader)
			}
			if err != nil {
				c.close()
			}
		}
		if err != nil {
			conn.fail(lostError(string(r.Path), err))
			return nil, err
		}
	}
	return conn, nil
}

// openLane opens a carrier and exchanges hellos on it within the time of ctx.
func (e *Endpoint) openLane(ctx context.Context, o opener, h *hello) (carrier, *reader, hello, blocktree.Principal, string, error) {
	fail := func(err error) (carrier, *reader, hello, blocktree.Principal, string, error) {
		return nil, nil, hello{}, blocktree.Principal{}, "", err
	}
	c, proven, remote, err := o.open(ctx)
	if err != nil {
		return fail(err)
	}
	stop := context.AfterFunc(ctx, c.close)
	r := e.newReader(c)
	err = writeHello(c, h)
	var answer hello
	if err == nil {
		answer, err = readHello(r)
	}
	if err == nil && (answer.conn != h.conn || answer.lane != h.lane) {
		err = blocktree.E("hello", blocktree.Invalid, errors.New("an answer to another hello"))
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		c.close()
		return fail(lostError("", err))
	}
	return c, r, answer, proven, remote, nil
}
