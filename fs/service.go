package fs

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
	"blocktree/internal/workers"
)

// Config is what a service is made of.
type Config struct {
	Cluster   Cluster
	Anonymous bool // callers without credentials may stat, list and read what everybody may
	Logger    *slog.Logger
	Clock     blocktree.Clock // nil: the process's own
	// KeepNoNames has every directory made, and every file in it, as before docs/design/0079: the cluster is asked to keep the names of none.
	KeepNoNames bool

	idle time.Duration // tests shorten FSIdleMax
}

// Service is the filesystem service of a runtime: a bttp.Handler of the codes from cluster.CodesOfOthers on.
type Service struct {
	cfg      Config
	cluster  Cluster
	sharing  sharing
	watches  watches
	kept     kept
	closings atomic.Uint64 // of bodies
	files    atomic.Int64  // that are open
	bytes    atomic.Int64  // that reads and writes in flight hold
	guests   atomic.Int64  // the same, of anonymous callers

	paths      chan struct{} // a token per request about a path
	guestPaths chan struct{} // and one of these for each of an anonymous caller
	guestRate  bucket        // of requests
	guestBytes bucket        // that are read
	audit      *cluster.Audit
	keeper     bttp.Keeper // of a connection's owner

	ctx    context.Context
	cancel context.CancelFunc
	mu     sync.Mutex // of closed
	closed bool
	tasks  workers.Pool
}

// How long the service works on what it was asked: fileTimeout is that of internal/file itself, and some; pathTimeout what a client waits for.
const (
	fileTimeout = blocktree.WriteStallTimeout + 5*time.Second
	pathTimeout = 15 * time.Second
)

// New makes a service.
func New(c Config) *Service {
	s := &Service{cfg: c, cluster: c.Cluster, paths: make(chan struct{}, blocktree.FSPathRequestsMax),
		guestPaths: make(chan struct{}, blocktree.FSPathRequestsAnonymousMax)}
	s.sharing.files, s.sharing.names = map[blocktree.FileID]*shared{}, map[blocktree.Path]*named{}
	s.watches.all = map[*watch]struct{}{}
	s.kept.init(s)
	if s.cfg.Clock == nil {
		s.cfg.Clock = ownClock{time.Now()}
	}
	s.audit = cluster.NewAudit(c.Logger, s.cfg.Clock)
	if s.cfg.idle == 0 {
		s.cfg.idle = blocktree.FSIdleMax
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.tasks.Go(s.keepAudit)
	return s
}

// Admit is bttp.Config.Admit for the runtime of the service.
func (s *Service) Admit(peer cred.Identity) error {
	if peer.Anonymous() && !s.cfg.Anonymous {
		return blocktree.E("hello", blocktree.Unauthenticated, errors.New("anonymous callers are not admitted here"))
	}
	return nil
}

// OpenFiles is how many files are open.
func (s *Service) OpenFiles() int { return int(s.files.Load()) }

// Close closes every open file, releases their leases, and waits. What is asked from then on fails with Closed. Who fills directories is served until his terms have run out.
func (s *Service) Close() error {
	s.kept.stop()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.tasks.Wait()
	s.kept.close()
	if c, ok := s.cluster.(closer); ok {
		c.Close()
	}
	return nil
}

// closer is an optional ability of a Cluster that does something by itself: Close ends that, and waits. The Cluster may still be asked.
type closer interface{ Close() }

// task starts a goroutine of the service, unless that is closed.
func (s *Service) task(f func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return blocktree.E("fs", blocktree.Closed, errors.New("the service is stopping"))
	}
	s.tasks.Go(f)
	return nil
}

// ownerOf returns the owner that a connection is; it ends with the connection.
func (s *Service) ownerOf(conn *bttp.Conn) *owner {
	return conn.Keep(&s.keeper, func() any {
		o := newOwner(s, conn.Peer, conn.RemoteAddr())
		if s.task(func() {
			select {
			case <-conn.Ended():
			case <-s.ctx.Done():
			}
			o.end()
		}) != nil {
			o.end()
		}
		return o
	}).(*owner)
}

// Serve implements bttp.Handler. It does not block.
func (s *Service) Serve(req *bttp.Request) {
	if err := s.admit(req); err != nil {
		if blocktree.KindOf(err) == blocktree.Permission {
			s.audit.Refused(req.Conn.Peer(), req.Conn.RemoteAddr(), nameOf(req.Code), "", err)
		}
		req.Fail(err)
		req.Release()
		return
	}
	o := s.ownerOf(req.Conn)
	if err := s.gate(o); err != nil {
		req.Fail(err)
		req.Release()
		return
	}
	if ofHandle(req.Code) {
		s.serveFile(o, req)
		return
	}
	r, err := decodeAbout(req.Code, req.Body)
	code := req.Code
	req.Release()
	if err == nil && o.anonymous && r.flags != 0 {
		err = denied()
		s.refused(nameOf(code), o, r.path, err)
	}
	if err == nil {
		err = s.servePath(o, code, r, req)
	}
	if err != nil {
		req.Fail(err)
	}
}

func denied() error {
	return blocktree.E("fs", blocktree.Permission, errors.New("anonymous callers may not ask for this"))
}

// admit refuses by who asks and what for alone.
func (s *Service) admit(req *bttp.Request) error {
	switch {
	case req.Conn.Peer().Anonymous() && !(s.cfg.Anonymous && forAnybody(req.Code)):
		return denied()
	case !known(req.Code) && req.Code != codeSpace:
		return blocktree.E("fs", blocktree.Unsupported, nil)
	case req.OneWay && req.Code != codeClose: // nothing bounds how many of them come
		return blocktree.E("fs", blocktree.Invalid, errors.New("a request that wants no answer"))
	}
	return nil
}

// gate bounds how often anonymous callers ask.
func (s *Service) gate(o *owner) error {
	if !o.anonymous {
		return nil
	}
	now := time.Now()
	if !o.rate.take(1, blocktree.FSAnonymousRequestsPerSecondConnection, now) || !s.guestRate.take(1, blocktree.FSAnonymousRequestsPerSecond, now) {
		return busy("too many requests of anonymous callers")
	}
	return nil
}

// busy is the answer over a bound: nothing was done, and trying later may help.
func busy(why string) error { return blocktree.E("fs", blocktree.Unavailable, errors.New(why)) }

// serveFile puts a message into the mailbox of an open file, or of a watch.
func (s *Service) serveFile(o *owner, req *bttp.Request) {
	r, lock, err := fileRequest{}, lockRequest{}, error(nil)
	if req.Code == codeLock {
		lock, err = decodeLockRequest(req.Header)
		r.handle = lock.handle
	} else {
		r, err = decodeOfHandle(req.Code, req.Header)
	}
	if err != nil {
		req.Fail(err)
		req.Release()
		return
	}
	f := o.find(r.handle)
	if f != nil && req.Code != codeClose && (f.open == nil) != (req.Code == codeWatched) {
		req.Fail(blocktree.E("fs", blocktree.Invalid, errors.New("the handle is that of something else")))
		req.Release()
		return
	}
	if f == nil {
		req.Fail(undeliverable("no such open file on this connection"))
		req.Release()
		return
	}
	m := &message{code: req.Code, off: r.off, data: req.Body, count: int(r.count), again: r.again, lock: lock}
	held := int64(len(req.Body))
	if req.Code == codeRead || req.Code == codeSum {
		held += int64(m.count)
	}
	if err := s.hold(o, held); err != nil {
		req.Fail(err)
		req.Release()
		return
	}
	m.done = func(bytes []byte, err error) {
		req.Release()
		if err != nil {
			s.letGo(o, held)
			req.Fail(err)
			return
		}
		req.ReplyThen(func() { s.letGo(o, held) }, nil, bytes)
	}
	if len(req.Body) > blocktree.FSTransferBytesMax {
		m.done(nil, blocktree.E("fs", blocktree.TooLarge, errors.New("a write of more than a request carries")))
		return
	}
	if err := f.box.put(m); err != nil {
		m.done(nil, err)
	}
}

// hold counts the bytes of a request until letGo. Over a bound it fails, and counts nothing.
func (s *Service) hold(o *owner, bytes int64) error {
	if o.bytes.Add(bytes) > o.bytesMax {
		o.bytes.Add(-bytes)
		return busy("too much is in flight on this connection")
	}
	if o.anonymous && s.guests.Add(bytes) > blocktree.FSAnonymousBytesMax {
		s.guests.Add(-bytes)
		o.bytes.Add(-bytes)
		return busy("too much is in flight for anonymous callers")
	}
	if s.bytes.Add(bytes) > blocktree.FSInFlightBytesMax {
		s.letGo(o, bytes)
		return busy("too much is in flight")
	}
	if o.anonymous && !s.guestBytes.take(int(bytes), blocktree.FSAnonymousBytesPerSecond, time.Now()) {
		s.letGo(o, bytes)
		return busy("too much is read by anonymous callers")
	}
	return nil
}

func (s *Service) letGo(o *owner, bytes int64) {
	if o.anonymous {
		s.guests.Add(-bytes)
	}
	o.bytes.Add(-bytes)
	s.bytes.Add(-bytes)
}

// idle is how long nothing need be asked of an open file.
func (s *Service) idle(o *owner) time.Duration {
	if o.anonymous {
		return min(s.cfg.idle, blocktree.FSIdleAnonymousMax)
	}
	return s.cfg.idle
}
