package nbd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"blocktree"
	"blocktree/blockdev"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// answerMargin is what is left of a negotiation for the answer when an export that is being opened is not waited for any more.
const answerMargin = time.Second

// choose returns the export that a client means by name, read-only where the client may only read it. With join the
// connection is attached to it, and it is opened if that takes a client; else its Device may be nil. It fails with NotFound also where the client has no right to
// it, with Busy when it has all the connections it may have or somebody else holds the file, with Closed when the server stops. With join it may
// block until shortly before the negotiation has to end.
func (c *conn) choose(name string, join bool) (blockdev.Export, error) {
	e, onDemand, err := c.find(name)
	if err != nil {
		return blockdev.Export{}, err
	}
	if onDemand {
		if e, err = c.onDemand(e, join); err != nil {
			return blockdev.Export{}, err
		}
	}
	if !join {
		return e, nil
	}
	if err := c.attach(e); err != nil {
		if c.release != nil {
			c.release()
			c.release = nil
		}
		return blockdev.Export{}, err
	}
	return e, nil
}

// find returns what a client means by name, or, with onDemand, no more than the name and the rights of what may be opened.
func (c *conn) find(name string) (e blockdev.Export, onDemand bool, err error) {
	e, err = c.s.exports.Lookup(name)
	if err != nil && c.s.demand != nil {
		one, nameErr := c.s.demand.Name(name) // the name that the file has among the exports, if it is there
		if nameErr != nil {
			return e, false, nameErr
		}
		if e, err = c.s.exports.Lookup(one); err != nil {
			e, onDemand, err = blockdev.Export{Name: one, ReadOnly: c.s.demand.ReadOnly()}, true, nil
		}
	}
	if err != nil {
		return e, false, err
	}
	switch c.access(e.Name) {
	case NoAccess:
		if n := c.s.refused.Add(1); n&(n-1) == 0 { // the first, then ever more rarely: anybody can cause them
			c.log.Warn("a client asked for what it may not have", "export", e.Name, "refused", n)
		}
		return e, false, &blocktree.Error{Op: "nbd", Path: name, Kind: blocktree.NotFound}
	case ReadAccess:
		e.ReadOnly = true
	}
	return e, onDemand, nil
}

func (c *conn) access(export string) Access {
	if c.s.rights == nil {
		return WriteAccess
	}
	return c.s.rights(c.who, export)
}

// onDemand describes an export on demand, or opens it and leaves in c.release how it is given back.
func (c *conn) onDemand(e blockdev.Export, open bool) (blockdev.Export, error) {
	select {
	case c.s.awaiting <- struct{}{}:
		defer func() { <-c.s.awaiting }()
	default:
		return e, &blocktree.Error{Op: "nbd", Path: e.Name, Kind: blocktree.Busy,
			Err: fmt.Errorf("%d clients wait for exports to be opened already", cap(c.s.awaiting))}
	}
	c.awaits.Store(true)
	defer func() {
		c.move() // the time that this took was not the client's
		c.awaits.Store(false)
	}()
	ctx, cancel := context.WithDeadline(c.ctx, c.decideBy.Add(-answerMargin))
	defer cancel()
	stop := context.AfterFunc(c.s.stopped, cancel)
	defer stop()
	var err error
	if open {
		e, c.release, err = c.s.demand.Open(ctx, e.Name, e.ReadOnly)
	} else {
		e, err = c.s.demand.Describe(ctx, e.Name, e.ReadOnly)
	}
	if err != nil && c.s.stopping.Load() {
		err = blocktree.E("nbd", blocktree.Closed, errors.New("the server is stopping"))
	}
	return e, err
}

// visible are the exports that the client may use, those on demand that are open among them, in the order of their names.
func (c *conn) visible() []blockdev.Export {
	all := c.s.exports.List()
	if c.s.demand != nil {
		all = append(all, c.s.demand.List()...)
	}
	slices.SortStableFunc(all, func(a, b blockdev.Export) int { return strings.Compare(a.Name, b.Name) })
	all = slices.CompactFunc(all, func(a, b blockdev.Export) bool { return a.Name == b.Name })
	return slices.DeleteFunc(all, func(e blockdev.Export) bool { return c.access(e.Name) == NoAccess })
}

// refuse answers INFO or GO of what cannot be had.
func (n *negotiation) refuse(option uint32, err error) {
	var e *blocktree.Error
	switch {
	case blocktree.KindOf(err) == blocktree.NotFound && n.c.s.rights != nil:
		n.fail(option, protocol.NEGOTIATION_TYPE_REPLY_ERR_UNKNOWN, "no such export, or not for this client")
	case blocktree.KindOf(err) == blocktree.NotFound:
		n.fail(option, protocol.NEGOTIATION_TYPE_REPLY_ERR_UNKNOWN, "no such export")
	case blocktree.KindOf(err) == blocktree.Closed:
		n.fail(option, errTypeShutdown, err.Error())
	case errors.As(err, &e) && len(err.Error()) <= blocktree.PathBytesMax: // as much text as an answer may have
		n.fail(option, errTypePolicy, err.Error())
	default:
		n.fail(option, errTypePolicy, "it cannot be opened")
	}
}
