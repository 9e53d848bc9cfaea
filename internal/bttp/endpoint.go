package bttp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"blocktree"
	"blocktree/crypto/cred"
)

// Transport is a carrier, or the rule that chooses one.
type Transport string

// The transports. Auto is the zero value's meaning too.
const (
	Auto Transport = "auto" // TCP lanes where TCP reaches the peer, else QUIC
	QUIC Transport = "quic"
	TCP  Transport = "tcp"
	// Memory is the carrier of a connection with oneself (Loopback), whatever the rule.
	Memory Transport = "memory"
)

const (
	// LanesDefault is one lane for short messages and one for bulk.
	LanesDefault = 2
	// handshakesMax bounds connections whose peer has not yet proven who it is.
	handshakesMax = 64
	// handshakesPerNetworkMax of them may be of one address (of one /64 with IPv6): the rest is for everybody else.
	handshakesPerNetworkMax = 48
	// closeGrace bounds how long closing waits for the carriers themselves.
	closeGrace = time.Second
)

// Config is what an endpoint is made of. It is not kept by reference, except for what it points to.
type Config struct {
	Key         cred.Key                  // of the runtime; zero for an anonymous caller
	Credentials cred.Credentials          // of Key, until SetCredentials; empty for an anonymous caller, which cannot listen
	Root        blocktree.Principal       // of the domain: peers' credentials start there
	Addrs       []string                  // "host:port" to listen on, for UDP and TCP; port 0 picks one free in both
	Transport   Transport                 // for dialing and listening; "" is Auto, which listens on both
	Lanes       int                       // per dialed connection, 1 to LanesMax; 0 is LanesDefault
	Handler     Handler                   // what peers ask for; nil until SetHandler: requests fail with Unavailable
	Admit       func(cred.Identity) error // judges who connects; nil admits everybody in the domain, no anonymous caller
	// Relay makes this endpoint a gateway: it returns its own connection, as Dial has given it, to a runtime to which a peer wants bytes
	// passed on, nil to refuse. It must not block. If it is nil nothing is passed on.
	Relay   func(target blocktree.Principal) *Conn
	Log     *slog.Logger    // required
	Clock   blocktree.Clock // for the validity of credentials; nil is the system's
	Network Network         // where sockets come from; nil is Machine
	// Loopback joins this endpoint with the others of its runtime in the process; nil: it reaches them over the network.
	Loopback *Loopback

	stall time.Duration // tests shorten laneStallTimeout
}

// Endpoint is the one place of a runtime where connections begin and end. All methods may be called by many
// goroutines at once.
type Endpoint struct {
	config    Config
	serverTLS *tls.Config
	handler   atomic.Pointer[Handler]
	own       atomic.Pointer[credentials] // set under mu
	pools     bufferPools
	cork      cork
	begun     time.Time // its heartbeats are a whole number of intervals after that
	refusals  refusedLines

	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
	tasks     sync.WaitGroup // every goroutine of the endpoint and of its connections
	admission chan struct{}  // a token per handshake

	mu         sync.Mutex
	closed     bool
	refused    func(cred.Identity) error // nil: nobody
	conns      map[*Conn]struct{}
	accepted   map[connID]*Conn
	principals map[blocktree.Principal]int
	relays     int                  // that are open
	relayPairs map[relayPair]int    // the same, by asker and target
	strangers  map[netip.Prefix]int // tokens of admission by the network that holds them
	anonymous  map[netip.Prefix]int // connections of anonymous callers, likewise
	dialed     map[blocktree.Principal]*dialing
	meetings   map[askToken]meeting // what takes the carriers of an ask
	probes     map[nonce]chan netip.AddrPort
	legs       map[blocktree.Principal]*askerLegs
	legCount   int // pairs of carriers in legs
	addrs      []string
	closers    []func() // listeners and sockets
	dialQUIC   *quic.Transport
	asksOnly   bool // its TCP listener is for carriers of its own asks alone; set before there is one

	backMu           sync.Mutex
	backTCP, backUDP uint16 // ports that were opened for dial-backs
	legPace          *pace
}

// New makes an endpoint that does not listen; it can dial. It fails with Invalid, or as cred.Verify does when the
// credentials are not those of the key or not valid now.
func New(c Config) (*Endpoint, error) {
	const op = "bttp.New"
	if c.Lanes == 0 {
		c.Lanes = LanesDefault
	}
	if c.stall == 0 {
		c.stall = laneStallTimeout
	}
	if c.Transport == "" {
		c.Transport = Auto
	}
	if c.Network == nil {
		c.Network = Machine{}
	}
	switch {
	case c.Log == nil:
		return nil, blocktree.E(op, blocktree.Invalid, errors.New("no logger"))
	case c.Lanes < 1 || c.Lanes > blocktree.LanesMax:
		return nil, blocktree.E(op, blocktree.Invalid, fmt.Errorf("%d lanes, 1 to %d are possible", c.Lanes, blocktree.LanesMax))
	case c.Transport != Auto && c.Transport != QUIC && c.Transport != TCP:
		return nil, &blocktree.Error{Op: op, Kind: blocktree.Invalid, Err: fmt.Errorf("no transport %q", c.Transport),
			Hint: "transport is auto, quic or tcp"}
	case c.Root.IsZero():
		return nil, blocktree.E(op, blocktree.Invalid, errors.New("no root principal"))
	}
	e := &Endpoint{config: c, admission: make(chan struct{}, handshakesMax), conns: map[*Conn]struct{}{},
		begun: time.Now(), accepted: map[connID]*Conn{}, relayPairs: map[relayPair]int{}, principals: map[blocktree.Principal]int{},
		strangers: map[netip.Prefix]int{}, anonymous: map[netip.Prefix]int{}, dialed: map[blocktree.Principal]*dialing{},
		meetings: map[askToken]meeting{}, probes: map[nonce]chan netip.AddrPort{}, legs: map[blocktree.Principal]*askerLegs{}, legPace: newPace(blocktree.LegRelayBytesPerSecond)}
	e.own.Store(new(credentials))
	if len(c.Credentials) > 0 {
		own, err := e.verify(c.Credentials)
		if err != nil {
			return nil, &blocktree.Error{Op: op, Err: err}
		}
		e.own.Store(own)
	}
	if c.Handler != nil {
		e.SetHandler(c.Handler)
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e, nil
}

// Listen makes an endpoint that listens on c.Addrs. It fails as New does, and with Busy or Unavailable when an
// address is in use or not there. ctx bounds only the call.
func Listen(ctx context.Context, c Config) (*Endpoint, error) {
	e, err := New(c)
	if err != nil {
		return nil, err
	}
	if err := e.listen(ctx); err != nil {
		_ = e.Close()
		return nil, err
	}
	return e, nil
}

// SetHandler replaces the handler; requests that come before the first fail with Unavailable.
func (e *Endpoint) SetHandler(h Handler) { e.handler.Store(&h) }

// Addrs returns the addresses that the endpoint listens on, ports filled in.
func (e *Endpoint) Addrs() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.addrs...)
}

// Stats counts what is open.
type Stats struct {
	// Connections by carrier, those that peers opened included; one with an endpoint of this process counts at each of its ends.
	QUIC, TCP, Memory int
	Relays            int // pairs of lanes that are passed on
	Legs              int // those of them that an ask brought about
	// CredentialsEnd is when this runtime's credentials do, the zero time for an anonymous caller.
	CredentialsEnd time.Time
}

// Stats returns a snapshot.
func (e *Endpoint) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Stats{Relays: e.relays + e.legCount, Legs: e.legCount, CredentialsEnd: e.own.Load().identity.NotAfter}
	for c := range e.conns {
		switch c.transport {
		case QUIC:
			s.QUIC++
		case Memory:
			s.Memory++
		default:
			s.TCP++
		}
	}
	return s
}

// Identity returns who this endpoint is, the zero Identity for an anonymous caller.
func (e *Endpoint) Identity() cred.Identity {
	id, _ := cred.Verify(e.own.Load().chain, e.config.Root, e.now())
	return id
}

// Credentials returns those that the endpoint shows, none for an anonymous caller.
func (e *Endpoint) Credentials() cred.Credentials { return e.own.Load().chain }

// Cork holds back what is sent on all connections until Uncork, so that many messages go out in one write per lane; up
// to 64 messages or 128 KiB of a lane are held. Each Cork needs its Uncork, soon, by the same goroutine: no lock, disk
// or network between them. It is worth it for who sends several messages in a row outside of Serve and done.
func (e *Endpoint) Cork() { e.cork.push() }

// Uncork sends what was held back.
func (e *Endpoint) Uncork() { e.cork.pull() }

// AfterBatch has f called once when what is being handled together has been: the messages that came with one read, or what lies between a Cork and
// its Uncork. f must not block. It reports false, and does nothing, where nothing is.
func (e *Endpoint) AfterBatch(f func()) bool { return e.cork.later(f) }

// now is the wall clock.
func (e *Endpoint) now() time.Time {
	if e.config.Clock != nil {
		return e.config.Clock.Now()
	}
	return time.Now()
}

// untilBeat is how long it is until the next heartbeat, which is that of all connections: a process that does nothing else wakes once for all of them.
func (e *Endpoint) untilBeat() time.Duration {
	return blocktree.HeartbeatInterval - time.Since(e.begun)%blocktree.HeartbeatInterval
}

// Close ends all connections and listeners and waits for every goroutine of the endpoint. Calls in flight fail with
// Closed. It must not be called from Serve or done.
func (e *Endpoint) Close() error {
	if l := e.config.Loopback; l != nil {
		l.leave(e)
	}
	e.mu.Lock()
	e.closed = true
	closers := e.closers
	e.closers = nil
	conns := make([]*Conn, 0, len(e.conns))
	for c := range e.conns {
		conns = append(conns, c)
	}
	e.mu.Unlock()
	for _, c := range conns {
		c.fail(blocktree.E("bttp", blocktree.Closed, errors.New("endpoint closed")))
	}
	e.cancel()
	for _, c := range conns {
		<-c.done
	}
	for _, f := range closers {
		f()
	}
	e.tasks.Wait()
	return nil
}

// task starts a goroutine of the endpoint, unless that is closed.
func (e *Endpoint) task(f func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.tasks.Add(1)
	go func() { defer e.tasks.Done(); f() }()
	return true
}

// add registers a connection and starts it, without a lane yet. It fails with Closed or, over a bound, Unavailable.
func (e *Endpoint) add(c *Conn) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return blocktree.E("bttp", blocktree.Closed, errors.New("endpoint closed"))
	case len(e.conns) >= blocktree.RuntimeConnectionsMax:
		return blocktree.E("bttp", blocktree.Unavailable, fmt.Errorf("%d connections already", len(e.conns)))
	case e.principals[c.proven] >= blocktree.RuntimeConnectionsPerPrincipalMax:
		return blocktree.E("bttp", blocktree.Unavailable,
			fmt.Errorf("%d connections of one principal already", e.principals[c.proven]))
	case !c.dialed && e.accepted[c.id] != nil:
		return blocktree.E("bttp", blocktree.Invalid, errors.New("connection id in use"))
	}
	if e.refused != nil {
		if err := e.refused(c.Peer()); err != nil {
			return err
		}
	}
	if c.Peer().Anonymous() {
		if err := e.addAnonymous(c); err != nil {
			return err
		}
	}
	e.conns[c] = struct{}{}
	e.principals[c.proven]++
	if !c.dialed {
		e.accepted[c.id] = c
	}
	e.tasks.Add(1)
	go func() { defer e.tasks.Done(); c.run() }()
	e.show(c)
	return nil
}

// addAnonymous counts a connection of an anonymous caller, whose keys cost nothing. Over a bound it fails with Unavailable. Endpoint.mu is held.
func (e *Endpoint) addAnonymous(c *Conn) error {
	all := 0
	for _, n := range e.anonymous {
		all += n
	}
	network := networkOfAddress(c.remote)
	if all >= blocktree.AnonymousConnectionsMax || e.anonymous[network] >= blocktree.AnonymousConnectionsPerNetworkMax {
		return blocktree.E("bttp", blocktree.Unavailable, fmt.Errorf("%d connections of anonymous callers already, %d of your network", all, e.anonymous[network]))
	}
	e.anonymous[network]++
	return nil
}

// remove forgets a connection that has ended.
func (e *Endpoint) remove(c *Conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.conns, c)
	if c.peer.Anonymous() {
		network := networkOfAddress(c.remote)
		if e.anonymous[network]--; e.anonymous[network] == 0 {
			delete(e.anonymous, network)
		}
	}
	if e.principals[c.proven]--; e.principals[c.proven] == 0 {
		delete(e.principals, c.proven)
	}
	if !c.dialed {
		delete(e.accepted, c.id)
	}
	if d := e.dialed[c.peer.Principal]; d != nil && d.conn == c {
		delete(e.dialed, c.peer.Principal)
	}
}

// newReader makes the reader of a lane.
func (e *Endpoint) newReader(from carrier) *reader {
	return &reader{from: from, before: func() error { return nil }, after: func() {}, pools: &e.pools,
		buf: make([]byte, readBufferBytes)}
}

// quicConfig is the same for all connections. Liveness is the heartbeat's, so the carrier sends no keep-alives.
func quicConfig() *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:           blocktree.HandshakeTimeout,
		MaxIdleTimeout:                 blocktree.IdleTimeout,
		InitialStreamReceiveWindow:     blocktree.StreamWindowBytes,
		MaxStreamReceiveWindow:         blocktree.StreamWindowBytes,
		InitialConnectionReceiveWindow: blocktree.ConnectionWindowBytes,
		MaxConnectionReceiveWindow:     blocktree.ConnectionWindowBytes,
		MaxIncomingStreams:             blocktree.LanesMax,
		MaxIncomingUniStreams:          -1,
	}
}

// listen opens all sockets.
func (e *Endpoint) listen(ctx context.Context) error {
	const op = "bttp.Listen"
	if len(e.own.Load().chain) == 0 {
		return blocktree.E(op, blocktree.Invalid, errors.New("an anonymous runtime cannot listen"))
	}
	var err error
	if e.serverTLS, err = cred.NewTLSConfig(cred.TLSOptions{Key: e.config.Key, ALPN: []string{alpn}, Server: true}); err != nil {
		return &blocktree.Error{Op: op, Err: err}
	}
	for _, addr := range e.config.Addrs {
		if err := e.listenOn(ctx, addr); err != nil {
			return &blocktree.Error{Op: op, Path: addr, Err: err}
		}
	}
	if e.config.Loopback != nil {
		e.config.Loopback.listen(e)
	}
	return nil
}

// portTries is how often a port that the kernel picked for one carrier is tried for the other.
const portTries = 16

// listenOn opens TCP and UDP on one address, as the transport asks.
func (e *Endpoint) listenOn(ctx context.Context, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return blocktree.E("listen", blocktree.Invalid, err)
	}
	for try := 1; ; try++ {
		var tcp net.Listener
		var udp net.PacketConn
		listen := addr
		if e.config.Transport != QUIC {
			if tcp, err = e.config.Network.Listen(ctx, listen); err != nil {
				return socketError(err)
			}
			listen = net.JoinHostPort(host, strconv.Itoa(tcp.Addr().(*net.TCPAddr).Port))
		}
		if e.config.Transport != TCP {
			if udp, err = e.config.Network.ListenPacket(ctx, listen); err != nil {
				if tcp != nil {
					_ = tcp.Close()
				}
				if tcp != nil && port == "0" && try < portTries {
					continue // taken in UDP: another one
				}
				return socketError(err)
			}
			listen = net.JoinHostPort(host, strconv.Itoa(udp.LocalAddr().(*net.UDPAddr).Port))
		}
		return e.accept(listen, tcp, udp)
	}
}
