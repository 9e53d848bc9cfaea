package nbd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/blockdev"
)

const (
	// stallTimeout is how long a client may make no progress with a payload or reply while others wait for the memory
	// that it holds. Progress is 1/stallsMax of it: the memory is free after stallTimeout * stallsMax at the latest, and
	// who has 16 MiB to take must manage 100 KiB/s.
	stallTimeout = 10 * time.Second
	stallsMax    = 16

	// drainTimeout is how long Serve lets requests finish after its context ended: as long as a write may wait for
	// enough members, and a little for the reply.
	drainTimeout = blocktree.WriteStallTimeout + 5*time.Second

	// hangUpTimeout is how long a client has to see that the server stops, before the connection is closed with what it says unread.
	hangUpTimeout = time.Second

	// acceptRetry is the pause after a passing failure to accept, such as too many open files.
	acceptRetry = 50 * time.Millisecond
)

// Config of a server.
type Config struct {
	Exports *blockdev.Exports // what is offered; may change at any time
	Demand  *blockdev.Demand  // opens what is not among Exports, for those who ask; nil for nothing
	Rights  Rights            // nil: everybody may do everything
	Memory  *blockdev.Memory  // the budget of bytes in flight; nil for one of blocktree.InFlightBytesMax
	Logger  *slog.Logger      // nil for none
}

// Server serves exports on any number of listeners. It is made by NewServer, serves once, and cannot be used again.
type Server struct {
	exports *blockdev.Exports
	demand  *blockdev.Demand
	rights  Rights
	memory  *blockdev.Memory
	log     *slog.Logger

	handshakesFailed atomic.Uint64
	refused          atomic.Uint64 // exports to clients without rights

	negotiationTimeout time.Duration
	stallTimeout       time.Duration
	speakingStay       time.Duration

	began time.Time

	hard        context.Context // ends when Close has lost patience
	hardStop    context.CancelFunc
	negotiating chan struct{} // one place for each client that has not chosen an export
	awaiting    chan struct{} // one place for each of those for which an export is being opened
	stopping    atomic.Bool   // set with mu held
	stop        chan struct{} // closed when stopping
	stopped     context.Context
	stopWaits   context.CancelFunc
	requests    sync.Pool // of *request

	mu        sync.Mutex
	changed   sync.Cond // a connection ended or left its export
	conns     map[*conn]struct{}
	sentAway  uint64
	undecided []*conn // that have not chosen an export, in the order in which they came
	attached  map[*blockdev.Device]*attachment
	listeners []net.Listener
	running   sync.WaitGroup // accept loops and connections
}

// NewServer returns a server that does nothing yet.
func NewServer(cfg Config) *Server {
	s := &Server{began: time.Now(), exports: cfg.Exports, demand: cfg.Demand, rights: cfg.Rights, memory: cfg.Memory, log: cfg.Logger,
		negotiationTimeout: blocktree.NBDNegotiationTimeout, stallTimeout: stallTimeout, speakingStay: speakingStay,
		negotiating: make(chan struct{}, blocktree.NBDNegotiatingMax), awaiting: make(chan struct{}, blocktree.NBDNegotiatingMax/2), stop: make(chan struct{}),
		conns: make(map[*conn]struct{}), attached: make(map[*blockdev.Device]*attachment)}
	if s.memory == nil {
		s.memory = blockdev.NewMemory(blocktree.InFlightBytesMax)
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.changed.L = &s.mu
	s.hard, s.hardStop = context.WithCancel(context.Background())
	s.stopped, s.stopWaits = context.WithCancel(context.Background())
	return s
}

// Serve accepts clients on the listeners, which it owns from now on, until ctx ends, Close is called or a listener
// fails for good. It returns after every connection has ended; requests in flight are finished first. The error is nil
// unless a listener failed.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		if !s.track(l) {
			l.Close() // stopped before it began
			continue
		}
		go func() {
			defer s.running.Done()
			if err := s.accept(l); err != nil {
				failed <- &blocktree.Error{Op: "nbd.Serve", Path: l.Addr().String(), Kind: blocktree.IO, Err: err}
			}
		}()
	}
	var err error
	select {
	case <-ctx.Done():
	case <-s.stop:
	case err = <-failed:
	}
	drain, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	s.Close(drain) // says only that it lost patience, which is logged
	return err
}

// Close stops the server: no new clients; no answer to new requests, ERR_SHUTDOWN for options; what is in flight is
// finished and answered, then the connections are closed. When ctx ends before that, the rest is cut off and Close
// returns Canceled. It waits for every goroutine either way. It may be called many times. Devices stay open.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	if !s.stopping.Load() {
		s.stopping.Store(true)
		close(s.stop)
		s.stopWaits()
	}
	for _, l := range s.listeners {
		l.Close() // its accept loop ends
	}
	for c := range s.conns {
		if c.attached {
			c.out.retire()
		}
	}
	s.mu.Unlock()
	stopCut := context.AfterFunc(ctx, s.cutAll)
	s.mu.Lock()
	for s.attachedConns() > 0 {
		s.changed.Wait()
	}
	for c := range s.conns { // only those that have not chosen an export
		c.kick()
	}
	s.mu.Unlock()
	s.running.Wait()
	if !stopCut() {
		s.log.Warn("clients cut off", "error", ctx.Err())
		return blocktree.E("nbd.Close", blocktree.Canceled, ctx.Err())
	}
	s.hardStop()
	return nil
}

// cutAll ends all connections, and then gives up what their clients asked for: nobody hears of errors that come of that.
func (s *Server) cutAll() {
	s.mu.Lock()
	for c := range s.conns {
		c.cut()
	}
	s.mu.Unlock()
	s.hardStop()
}

func (s *Server) attachedConns() int {
	n := 0
	for _, of := range s.attached {
		n += of.conns
	}
	return n
}

// track registers a listener and one running goroutine for it, unless the server stops.
func (s *Server) track(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		return false
	}
	s.listeners = append(s.listeners, l)
	s.running.Add(1)
	return true
}

// accept hands out clients until the listener is closed. When too many have not chosen an export it waits until one of them
// leaves or may be sent away; the rest stays in the kernel's backlog.
func (s *Server) accept(l net.Listener) error {
	for {
		nc, err := l.Accept()
		if err != nil {
			var passing interface{ Temporary() bool }
			switch {
			case s.stopping.Load() || errors.Is(err, net.ErrClosed):
				return nil
			case errors.As(err, &passing) && passing.Temporary():
				s.log.Warn("accept failed", "error", err)
				s.pause()
				continue
			}
			return err
		}
		if !s.takePlace() {
			nc.Close()
			return nil
		}
		c := newConn(s, nc)
		if secure, ok := l.(*tlsListener); ok {
			c.tls = secure.tls
		}
		if !s.admit(c) {
			c.cut()
			return nil
		}
		go func() {
			defer s.running.Done()
			defer s.dismiss(c)
			c.serve(func() { s.givePlace(c) })
		}()
	}
}

func (s *Server) pause() {
	t := time.NewTimer(acceptRetry)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.stop:
	}
}

// admit registers a connection and its goroutine, unless the server stops.
func (s *Server) admit(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		return false
	}
	s.conns[c] = struct{}{}
	s.undecided = append(s.undecided, c)
	s.running.Add(1)
	return true
}

func (s *Server) dismiss(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

func (s *Server) attach(c *conn, e blockdev.Export) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	to := s.attached[e.Device]
	switch {
	case s.stopping.Load():
		return blocktree.E("nbd", blocktree.Closed, errors.New("the server is stopping"))
	case to == nil:
		to = new(attachment)
		s.attached[e.Device] = to
		context.AfterFunc(e.Device.Gone(), func() { s.forget(e.Device) })
	case to.conns >= blocktree.NBDConnectionsPerExportMax:
		return &blocktree.Error{Op: "nbd", Path: e.Name, Kind: blocktree.Busy,
			Err: fmt.Errorf("%d connections already", blocktree.NBDConnectionsPerExportMax)}
	}
	to.conns++
	c.attached = true
	return nil
}

func (s *Server) detach(c *conn) {
	if c.release != nil {
		defer c.release() // without the lock: the device may be closed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.attached {
		return
	}
	c.attached = false
	from := s.attached[c.dev]
	counts, _ := c.out.look()
	from.past.Add(&counts)
	from.conns--
	s.drop(c.dev)
	s.changed.Broadcast()
}

// forget drops what was counted of a device that is closed, unless somebody is attached to it yet.
func (s *Server) forget(device *blockdev.Device) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(device)
}

// drop is forget for a device that may be open. s.mu is held.
func (s *Server) drop(device *blockdev.Device) {
	if of := s.attached[device]; of != nil && of.conns == 0 && device.Gone().Err() != nil {
		delete(s.attached, device)
	}
}
