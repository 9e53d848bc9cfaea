package cluster

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
)

// passes knows, for this node, who may read and write a file's sectors (docs/design/0026). A pass is made by this node from what it has applied of
// the cluster's rights, for one connection, whose credentials say who asks, and one file. It is of no use after PassTerm, nor once any
// right has changed; then another is made, which takes no question to anybody.
type passes struct {
	group  *meta.Group
	clock  blocktree.Clock
	keeper bttp.Keeper // of a connection's passes

	changes atomic.Uint64 // of rights, applied here since the start
	now     atomic.Int64  // Clock.Boot at the last tick: a message must not cost a look at the clock
	led     atomic.Int64  // Clock.Boot when a leader was known last
}

// passTick is how often the time is looked at.
const passTick = 250 * time.Millisecond

// pass is what was judged for a connection and a file.
type pass struct {
	rights  meta.Rights
	changes uint64
	until   int64 // on passes.now
	refusal error // why something was refused when it was judged last, after a ReadIndex; nil: nothing was
	of      attributes
}

// attributes are what a pass goes by of the credentials of its connection, which may be shown newer ones. Of groups it is the list itself: another one is another's.
type attributes struct {
	uid, gid uint32
	groups   *uint32
}

func attributesOf(who *cred.Identity) attributes {
	a := attributes{uid: who.UID, gid: who.GID}
	if len(who.Groups) > 0 {
		a.groups = &who.Groups[0]
	}
	return a
}

// connPasses are the passes of one connection, at most PassesPerConnectionMax.
type connPasses struct {
	mu sync.RWMutex
	of map[blocktree.FileID]pass
}

func newConnPasses() any { return &connPasses{of: map[blocktree.FileID]pass{}} }

// applied is part of meta.Config.OnApply.
func (p *passes) applied(c meta.Changes) {
	if c.Rights || c.Reset || len(c.Removed) > 0 || len(c.Revoked) > 0 {
		p.changes.Add(1)
	}
}

// tick looks at the clock, and whether there is a leader.
func (p *passes) tick() {
	now := int64(p.clock.Boot())
	p.now.Store(now)
	if _, ok := p.group.Leader(); ok {
		p.led.Store(now)
	}
}

// cutOff reports whether no leader has been heard of for PassTerm: what was revoked since is not known here.
func (p *passes) cutOff() bool { return p.now.Load()-p.led.Load() > int64(blocktree.PassTerm) }

// wanted is the right that a message needs of who is not a sector host.
func wanted(msg *stripe.Message) meta.Rights {
	if msg.Kind == stripe.KindRead || msg.Kind == stripe.KindLearn {
		return meta.RightRead
	}
	return meta.RightsHold
}

// look says whether the connection has a pass for a file that gives want, or was refused it; neither where that must be judged.
func (p *passes) look(conn *bttp.Conn, f blocktree.FileID, want meta.Rights) (ok bool, refusal error) {
	who := conn.Peer()
	return p.find(conn.Keep(&p.keeper, newConnPasses).(*connPasses), &who, f, want)
}

func (p *passes) find(of *connPasses, who *cred.Identity, f blocktree.FileID, want meta.Rights) (ok bool, refusal error) {
	of.mu.RLock()
	x := of.of[f]
	of.mu.RUnlock()
	if x.changes != p.changes.Load() || p.now.Load() >= x.until || x.of != attributesOf(who) {
		return false, nil
	}
	if x.rights&want == want {
		return true, nil
	}
	return false, x.refusal
}

// judge makes a pass. final is whether what is applied here is as new as the message: then a refusal is kept, too.
func (p *passes) judge(conn *bttp.Conn, f blocktree.FileID, want meta.Rights, final bool) (ok bool, refusal error) {
	return p.make(conn.Keep(&p.keeper, newConnPasses).(*connPasses), conn.Peer(), f, want, final)
}

func (p *passes) make(of *connPasses, who cred.Identity, f blocktree.FileID, want meta.Rights, final bool) (bool, error) {
	changes := p.changes.Load() // before what is judged is looked at
	wall := p.clock.Now().UnixNano()
	j, err := p.group.Judge(callerOf(who), f, want, wall)
	switch {
	case err != nil && !final: // the file may be newer than what is applied here
		return false, nil
	case blocktree.KindOf(err) == blocktree.NotFound: // which the member says itself
		return true, nil
	case err != nil:
		return false, err
	}
	x := pass{rights: j.Rights, changes: changes, of: attributesOf(&who), until: p.now.Load() + int64(blocktree.PassTerm)}
	if j.Until != 0 {
		x.until = min(x.until, int64(p.clock.Boot())+j.Until-wall)
	}
	if j.Refusal != nil && !final {
		return false, nil
	}
	x.refusal = j.Refusal
	of.mu.Lock()
	defer of.mu.Unlock()
	if _, there := of.of[f]; !there && len(of.of) >= blocktree.PassesPerConnectionMax {
		for other := range of.of { // any: it is judged anew when it is wanted
			delete(of.of, other)
			break
		}
	}
	of.of[f] = x
	return j.Refusal == nil, j.Refusal
}

// callerOf is who an identity is to the metadata.
func callerOf(who cred.Identity) *meta.Caller {
	if who.Anonymous() {
		return &meta.Caller{}
	}
	return &meta.Caller{Principal: who.Principal, Path: who.Path, UID: who.UID, GID: who.GID, Groups: who.Groups, Chain: who.Chain}
}

// allow says whether a message of somebody who is no sector host may be served: yes, no and why, or, with neither, that this is judged once what is
// applied here is as new as the message.
func (s *Service) allow(conn *bttp.Conn, msg *stripe.Message, final bool) (bool, error) {
	if s.passes.cutOff() && !s.holders.mayChange(conn.Peer().Principal, msg.File) {
		return false, &blocktree.Error{Op: "cluster", Kind: blocktree.Unavailable, Err: errors.New("the node has not heard of a leader for so long that it serves holders only")}
	}
	want := wanted(msg)
	ok, refusal := s.passes.look(conn, msg.File, want)
	if ok || refusal != nil {
		return ok, refusal
	}
	return s.passes.judge(conn, msg.File, want, final)
}

// watchPasses keeps the time for the passes and the audit.
func (s *Service) watchPasses(ctx context.Context) {
	t := time.NewTicker(passTick)
	defer t.Stop()
	for {
		s.passes.tick()
		s.audit.flush()
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}
