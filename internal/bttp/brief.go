package bttp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"blocktree"
)

// DialBriefly is Dial for who asks something and does not keep the connection. One that nobody has got by Dial is closed when for BriefIdleMax no call was in flight and nobody asked for it. Of such there are at
// most BriefConnectionsMax: the one that was asked for least lately, and has no call in flight, makes room, or an attempt that nobody waits for; where there is none it fails with Busy. Other connections are none of its business.
func (e *Endpoint) DialBriefly(ctx context.Context, r blocktree.Runtime) (*Conn, error) {
	return e.dialFor(ctx, r, true)
}

// makeRoom ends a connection that nobody keeps, if there are too many. Endpoint.mu is held.
func (e *Endpoint) makeRoom() error {
	n := 0
	var oldest, vain *dialing
	var nobody blocktree.Principal // whom vain is to
	for p, d := range e.dialed {
		if !d.brief || d.conn != nil && d.conn.Err() != nil {
			continue
		}
		if d.conn == nil && d.wait == 0 && (vain == nil || d.lent.Before(vain.lent)) {
			vain, nobody = d, p
		}
		if n++; d.conn != nil && d.conn.InFlight() == 0 && (oldest == nil || d.lent.Before(oldest.lent)) {
			oldest = d
		}
	}
	switch {
	case n < blocktree.BriefConnectionsMax:
		return nil
	case vain != nil: // so that whoever names runtimes that say nothing keeps nobody else from being asked
		vain.left = true
		vain.stop()
		delete(e.dialed, nobody)
		return nil
	case oldest == nil:
		return &blocktree.Error{Op: "bttp.DialBriefly", Kind: blocktree.Busy, Err: fmt.Errorf("%d runtimes are being asked", n),
			Hint: "more than that are not asked at a time: try again when some have answered"}
	}
	oldest.conn.fail(errBriefly("others are asked"))
	return nil
}

// endIdle ends a dialled connection that nobody keeps once it is idle.
func (e *Endpoint) endIdle(c *Conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.dialed[c.peer.Principal]
	switch {
	case d == nil || d.conn != c || !d.brief:
	case c.InFlight() > 0:
		d.lent = time.Now()
	case time.Since(d.lent) >= blocktree.BriefIdleMax:
		c.fail(errBriefly("nobody asks any more"))
	}
}

func errBriefly(why string) error {
	return blocktree.E("bttp", blocktree.Closed, errors.New(why))
}
