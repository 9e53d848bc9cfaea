package dispatch

import (
	"context"
	"errors"
	"time"

	"blocktree"
	"blocktree/internal/bttp"
)

// link is a connection that is remembered, so that it is found again without the endpoint, which for one that was asked for is the only way.
type link struct {
	conn  *bttp.Conn
	own   bool          // it was asked for: whoever forgets it closes it
	gone  chan struct{} // closed when it is forgotten
	holds int           // messages on their way, and actors; under Dispatcher.mu, as all below
	used  uint64        // turn of the newest use
	kept  bool          // it is in the table
}

// link returns the link to a runtime with a service, held: the one that is remembered, or a new one.
func (d *Dispatcher) link(ctx context.Context, service string, r *blocktree.Runtime) (*link, error) {
	if l := d.remembered(service, r); l != nil {
		return l, nil
	}
	if d.isClosed() {
		return nil, blocktree.E("dispatch", blocktree.Closed, nil)
	}
	to := *r
	to.Services = []string{service} // which it must prove, whatever else it has
	conn, err := d.cfg.Connect(ctx, to)
	if err != nil {
		return nil, err
	}
	return d.keep(r.Principal, conn, conn.Asked())
}

func (d *Dispatcher) isClosed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closed
}

// remembered returns the link to a runtime, held, if there is one and it proves what it should; nil if not. It does not allocate.
func (d *Dispatcher) remembered(service string, r *blocktree.Runtime) *link {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.links[r.Principal]
	if l == nil || d.closed || l.conn.Err() != nil {
		return nil
	}
	if peer := l.conn.Peer(); peer.Path != r.Path || !peer.Allows(service) {
		return nil // connecting says why
	}
	d.holdLocked(l)
	return l
}

// keep remembers a connection, and returns its link, held: another one's where two connected at a time.
func (d *Dispatcher) keep(to blocktree.Principal, conn *bttp.Conn, own bool) (*link, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := &link{conn: conn, own: own, gone: make(chan struct{})}
	if d.closed {
		if l.own {
			go conn.Close() // it waits for nothing but its own goroutines; the endpoint's Close waits for those
		}
		return nil, blocktree.E("dispatch", blocktree.Closed, nil)
	}
	if old := d.links[to]; old != nil {
		if old.conn == conn || old.conn.Err() == nil && l.own {
			if old.conn != conn {
				d.reap(l)
			}
			d.holdLocked(old)
			return old, nil
		}
		d.forget(to, old)
	}
	switch room := d.makeRoom(); {
	case room:
		l.kept = true
		d.links[to] = l
		d.wg.Go(func() { d.attend(to, l) })
	case l.own:
		d.reap(l)
		return nil, &blocktree.Error{Op: "dispatch", Kind: blocktree.Busy, Err: errors.New("too many connections that were asked for are in use"), Hint: "close some of what is open, or ask less at a time"}
	}
	d.holdLocked(l)
	return l, nil
}

// makeRoom forgets the link that was used least lately and that nothing hangs on, if there are too many. Dispatcher.mu is held.
func (d *Dispatcher) makeRoom() bool {
	if len(d.links) < blocktree.DispatchLinksMax {
		return true
	}
	var to blocktree.Principal
	var oldest *link
	for p, l := range d.links {
		if l.holds == 0 && (oldest == nil || l.used < oldest.used) {
			to, oldest = p, l
		}
	}
	if oldest == nil {
		return false
	}
	d.forget(to, oldest)
	return true
}

// forget takes a link out of the table. Dispatcher.mu is held.
func (d *Dispatcher) forget(to blocktree.Principal, l *link) {
	if !l.kept {
		return
	}
	l.kept = false
	delete(d.links, to)
	close(l.gone)
	d.reap(l)
}

// reap closes the connection of a link that nobody finds any more and nothing hangs on, if it is nobody else's. Dispatcher.mu is held.
func (d *Dispatcher) reap(l *link) {
	if l.own && !l.kept && l.holds == 0 && !d.closed {
		d.wg.Go(func() { _ = l.conn.Close() })
	}
}

// attend forgets a link when its connection has ended, and closes one that was asked for when nothing has hung on it for BriefIdleMax.
func (d *Dispatcher) attend(to blocktree.Principal, l *link) {
	idle := time.NewTicker(blocktree.BriefIdleMax)
	defer idle.Stop()
	last := uint64(0) // turn of the use at the last look
	for {
		select {
		case <-l.gone:
			return
		case <-d.end:
			return
		case <-l.conn.Ended():
			d.mu.Lock()
			d.forget(to, l)
			d.mu.Unlock()
			return
		case <-idle.C:
		}
		d.mu.Lock()
		if l.own && l.kept && l.holds == 0 && l.used == last {
			d.forget(to, l)
		}
		last = l.used
		d.mu.Unlock()
	}
}

// hold has a link be used until letGo.
func (d *Dispatcher) hold(l *link) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holdLocked(l)
}

func (d *Dispatcher) holdLocked(l *link) {
	d.turn++
	l.used = d.turn
	l.holds++
}

func (d *Dispatcher) letGo(l *link) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l.holds--
	d.reap(l)
}

// Close closes the connections that nobody else keeps, and waits. Messages on their way by these come back as undeliverable; so do later ones, of which the cause is Closed: nobody is connected to for them.
func (d *Dispatcher) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	close(d.end)
	var own []*bttp.Conn
	for to, l := range d.links {
		if l.own {
			own = append(own, l.conn)
		}
		l.kept = false
		delete(d.links, to)
	}
	d.mu.Unlock()
	for _, c := range own {
		_ = c.Close()
	}
	d.wg.Wait()
	return nil
}
