package meta

import (
	"time"

	"blocktree"
	"blocktree/internal/wire"
)

// claim is what is noted on a lease that a session wants by force (docs/design/0010).
type claim struct {
	epoch   blocktree.Epoch // of the lease that is to end; on a lease of another epoch it is void
	session SessionID       // the claimant's
	first   uint64          // when the first asking was drawn: tells it from an earlier one of that session, which has lapsed
	asked   uint64          // first, and one more for each asking since
	id      CommandID       // of the newest asking, by when it was drawn
}

func putClaim(e *wire.Encoder, c *claim) {
	e.U64(uint64(c.epoch))
	e.Raw(c.session[:])
	e.U64(c.first)
	e.U64(c.asked)
	e.Raw(c.id[:])
}

func getClaim(d *wire.Decoder) *claim {
	return &claim{epoch: blocktree.Epoch(d.U64()), session: get16(d), first: d.U64(), asked: d.U64(), id: get16(d)}
}

// claim returns the claim on a lease, or nil.
func (s *state) claim(l *Lease) *claim {
	c := value(s, kindClaim, inodeRest(l.File.Inode), getClaim)
	if c == nil || c.epoch != l.Epoch {
		return nil
	}
	return c
}

// firm returns the leases of a session that nobody claims, and whether any was ever claimed; if not, all are firm and none is returned.
func (s *state) firm(id SessionID) (firm []FirmLease, claimed bool) {
	if _, claimed = s.get(kindClaimed, id[:]); !claimed {
		return nil, false
	}
	for _, i := range s.held(id) {
		if l := value(s, kindLease, inodeRest(i), getLease); l != nil && s.claim(l) == nil {
			firm = append(firm, FirmLease{File: l.File, Epoch: l.Epoch})
		}
	}
	return firm, true
}

func (s *state) claimLease(o ClaimLease) Result {
	x := s.session(o.Session)
	if x == nil {
		return refuse(blocktree.NotFound, "the session is closed or expired")
	}
	if r, ok := s.believed(x.Path, x.Principal); !ok {
		return r
	}
	if k, ok := s.keeper(o.File); ok && k != o.Session {
		return refuse(blocktree.NotFound, "file %v was removed", o.File)
	}
	held := s.lease(o.File)
	var c *claim
	if held != nil {
		c = s.claim(held)
	}
	var r Result
	switch {
	case held == nil || held.Session == o.Session || held.Epoch != o.Epoch:
		r = refuse(blocktree.Fenced, "no other session holds the lease under epoch %d", o.Epoch)
	case s.id.drawn()+uint64(AcquireStaleAfter) < s.renewed(o.Session):
		r = refuse(blocktree.Busy, "asked for too long ago").hinted("ask again")
	case c != nil && c.session == (SessionID{}): // it ends for nobody, no later than it would for the claimant
	case c != nil && c.session != o.Session && s.session(c.session) != nil:
		r = refuse(blocktree.Busy, "%s is taking it over already", held.Claimant.Short())
	case x.Leases >= LeasesPerSessionMax:
		r = refuse(blocktree.Unavailable, "the session holds %d leases", x.Leases)
	default:
		if c == nil || c.session != o.Session {
			c = &claim{epoch: o.Epoch, session: o.Session, first: s.id.drawn(), asked: s.id.drawn()}
			s.set(kindClaimed, held.Session[:], nil)
		} else {
			c.asked++
		}
		if s.id.drawn() > c.id.drawn() {
			c.id = s.id
		}
		store(s, kindClaim, inodeRest(o.File.Inode), c, putClaim)
		held.Claimant = x.Path
	}
	r.Lease = held
	return r
}

func (s *state) endClaim(o EndClaim) Result {
	held := s.lease(o.File)
	var c *claim
	if held != nil && held.Epoch == o.Epoch {
		c = s.claim(held)
	}
	if c == nil || c.session != o.Session || o.Asked < c.first {
		return refuse(blocktree.NotFound, "no such claim")
	}
	if c.session == (SessionID{}) {
		if !o.Grant {
			return refuse(blocktree.Busy, "the holder may not hold it any more")
		}
		s.dropLease(held)
		if x := s.session(held.Session); x != nil {
			x.Leases--
			s.setSession(x)
		}
		return Result{Lease: held}
	}
	if !o.Grant || !s.mayClaim(o) {
		if !o.Grant && c.asked != o.Asked {
			return refuse(blocktree.Busy, "the claim was repeated")
		}
		s.del(kindClaim, inodeRest(o.File.Inode))
		held.Claimant = ""
		return Result{Lease: held}
	}
	x, l := s.session(o.Session), s.layout(o.File)
	if x != nil {
		if r, ok := s.believed(x.Path, x.Principal); !ok {
			return r
		}
	}
	switch {
	case x == nil || l == nil:
		return refuse(blocktree.NotFound, "the session is closed or expired")
	case x.Leases >= LeasesPerSessionMax:
		return refuse(blocktree.Unavailable, "the session holds %d leases", x.Leases)
	}
	s.dropLease(held)
	if old := s.session(held.Session); old != nil {
		old.Leases--
		s.setSession(old)
	}
	x.Leases++
	s.setSession(x)
	return s.grant(x, l, c.id)
}

// mayClaim reports whether a claimant may still hold what it has claimed: since it was judged its right may have gone. Of a claim that an older log has
// nothing is known, and it is as it was.
func (s *state) mayClaim(o EndClaim) bool {
	c, i := value(s, kindCaller, o.Session[:], getCaller), s.inode(o.File)
	return c == nil || i == nil || s.mayHold(c, i, s.now)
}

// claimClock is what this member noted of a claim, on its own clock. Whatever confirmed the lease to its holder was applied before the
// claim was, and so was sent before begun: a term from then the holder does not believe in it any more.
type claimClock struct {
	session  SessionID
	epoch    blocktree.Epoch
	count    uint64         // claim.asked
	holder   blocktree.Path // for the log
	begun    time.Duration  // when the claim was applied, or this member began to lead
	asked    time.Duration  // when the newest asking was
	due      bool           // it was asked for when a term had passed
	proposed time.Duration  // when EndClaim was proposed, 0 if not
}

// noteClaim follows claims, tells a claimant for how long the lease has been claimed, and logs who claims and takes what.
func (g *Group) noteClaim(s *state, data []byte, r *Result) {
	g.noteEvicted(s)
	if r.Kind == blocktree.Busy || s.err != nil {
		return
	}
	code, _ := opOf(data)
	switch done := r.Kind == blocktree.Other; code {
	case opClaimLease:
		if !done {
			return
		}
		f, now, c := r.Lease.File, g.cfg.Clock.Boot(), s.claim(r.Lease)
		if c == nil { // the read failed
			return
		}
		old := g.claims[f]
		if old == nil || old.session != c.session || old.epoch != c.epoch {
			old = &claimClock{session: c.session, epoch: c.epoch, holder: r.Lease.Holder, begun: now}
			g.claims[f] = old
			g.log.Warn("a lease is claimed by force", "file", f.String(), "epoch", uint64(c.epoch), "holder", r.Lease.Holder.Short(),
				"claimant", r.Lease.Claimant.Short())
		}
		old.count, old.asked, old.due = c.asked, now, now-old.begun >= blocktree.LeaseTerm
		if g.leading {
			r.HolderQuiet = max(now-old.begun, 0)
		}
	case opEndClaim:
		c, err := DecodeCommand(data)
		o, ok := c.Op.(EndClaim)
		if err != nil || !ok {
			return
		}
		var holder blocktree.Path
		if old := g.claims[o.File]; old != nil {
			holder = old.holder
		}
		if l := s.lease(o.File); l == nil || s.claim(l) == nil {
			delete(g.claims, o.File)
		}
		switch {
		case done && o.Session == SessionID{}:
			g.log.Warn("the lease of a holder that may not hold the file any more has ended", "file", o.File.String(), "epoch", uint64(o.Epoch), "holder", holder.Short())
		case done && r.Lease.Session == o.Session:
			g.log.Warn("a lease was taken by force", "file", o.File.String(), "epoch", uint64(r.Lease.Epoch), "from", holder.Short(),
				"by", r.Lease.Holder.Short())
		case done:
			g.log.Warn("a claim has lapsed, the holder keeps its lease", "file", o.File.String(), "epoch", uint64(o.Epoch), "holder", holder.Short())
		}
	}
}

// noteEvicted follows leases that are to end because their holders may not have them any more.
func (g *Group) noteEvicted(s *state) {
	now := g.cfg.Clock.Boot()
	for _, l := range s.evicted {
		var holder blocktree.Path
		if x := s.session(l.Session); x != nil {
			holder = x.Path
		}
		g.claims[l.File] = &claimClock{epoch: l.Epoch, count: 1, holder: holder, begun: now, asked: now}
		g.log.Warn("a holder may not hold its file any more: its lease ends in a term", "file", l.File.String(), "epoch", uint64(l.Epoch), "holder", holder.Short())
	}
	s.evicted = nil
}

// reloadClaims notes every stored claim as made now.
func (g *Group) reloadClaims(s *state, now time.Duration) {
	clear(g.claims)
	each(s, kindLease, getLease, func(l *Lease) {
		if l = s.lease(l.File); l == nil {
			return
		}
		if c := s.claim(l); c != nil {
			g.claims[l.File] = &claimClock{session: c.session, epoch: c.epoch, count: c.asked, holder: l.Holder, begun: now, asked: now}
		}
	})
}

// endClaims proposes to grant the leases whose claim was repeated when a term had passed, and to drop the claims that nobody repeats: who has
// stopped waiting is given nothing.
func (g *Group) endClaims() {
	now := g.cfg.Clock.Boot()
	for f, c := range g.claims {
		nobody := c.session == SessionID{}
		lapsed, due := !nobody && now-c.asked >= blocktree.ClaimTerm, c.due || nobody && now-c.begun >= blocktree.LeaseTerm
		if !lapsed && !due || c.proposed != 0 && now-c.proposed < time.Second {
			continue
		}
		c.proposed = now
		if err := g.proposeOwn(EndClaim{File: f, Epoch: c.epoch, Session: c.session, Asked: c.count, Grant: !lapsed}); err != nil {
			g.log.Debug("end of a claim not proposed", "error", err)
			return
		}
	}
}

// proposeOwn proposes a command of the leader's own, whose result nobody waits for.
func (g *Group) proposeOwn(o Op) error {
	data, err := EncodeCommand(nil, Command{ID: NewCommandID(), Op: o})
	if err != nil {
		return err
	}
	return g.rn.Propose(data)
}
