package meta

import (
	"time"

	"blocktree"
)

// sessionClock is what this member noted of a session: the last renewal that it applied, and when, on its own clock. A
// client counts its term from when it sent the renewal, which was earlier, so a lease is never expired too soon.
type sessionClock struct {
	renewals uint64
	at       time.Duration // Clock.Boot
	proposed time.Duration // when ExpireSession was proposed, 0 if not
}

// noteSession follows opened, renewed and closed sessions, and tells a refused Acquire how long the holder was silent.
func (g *Group) noteSession(s *state, data []byte, r *Result) {
	code, rest := opOf(data)
	if len(rest) < len(SessionID{}) && code != 0 {
		return
	}
	var id SessionID
	copy(id[:], rest)
	done := r.Kind == blocktree.Other
	switch op := code; {
	case done && r.Session != nil && (op == opOpenSession || op == opRenewSession):
		if x := s.session(id); x == nil || x.Renewals != r.Session.Renewals {
			return // a copy of an opening, answered as then
		}
		g.sessions[id] = &sessionClock{renewals: r.Session.Renewals, at: g.cfg.Clock.Boot()}
	case op == opCloseSession, op == opExpireSession:
		if s.session(id) == nil { // a late copy of a closing says done, also of a session that was opened again
			delete(g.sessions, id)
		}
	case op == opAcquire && r.Kind == blocktree.Busy && r.Lease != nil && g.leading:
		if c := g.sessions[r.Lease.Session]; c != nil {
			r.HolderQuiet = max(g.cfg.Clock.Boot()-c.at, 0)
		}
	}
}

// reload begins anew with the state that the store has.
func (g *Group) reload() error {
	s, err := stateAt(g.db)
	if err != nil {
		return err
	}
	if g.ids = readDoneIDs(s); g.cache == nil {
		g.cache = newCache(g.db, &g.gate, s)
	} else {
		g.cache.reset(s)
	}
	g.reloadSessions(s)
	return s.err
}

// reloadSessions notes every stored session as renewed now.
func (g *Group) reloadSessions(s *state) {
	clear(g.sessions)
	now := g.cfg.Clock.Boot()
	g.reloadClaims(s, now)
	s.eachSession(func(x *Session) { g.sessions[x.ID] = &sessionClock{renewals: x.Renewals, at: now} })
}

// restartTerms gives every session and every claimed lease a full term, on becoming leader: what another leader answered is unknown.
func (g *Group) restartTerms() {
	now := g.cfg.Clock.Boot()
	for _, c := range g.sessions {
		c.at, c.proposed = now, 0
	}
	for _, c := range g.claims {
		c.begun, c.asked, c.proposed, c.due = now, now, 0, false
	}
}

// expireSilent proposes to expire sessions that were not renewed for a term. A renewal that is on its way wins, whichever
// order they come in: the expiry names the renewals that it has seen.
func (g *Group) expireSilent() {
	now := g.cfg.Clock.Boot()
	for id, c := range g.sessions {
		if now-c.at < blocktree.LeaseTerm || c.proposed != 0 && now-c.proposed < time.Second {
			continue
		}
		c.proposed = now
		if err := g.proposeOwn(ExpireSession{Session: id, Renewals: c.renewals}); err != nil {
			g.log.Debug("expiry not proposed", "error", err)
			return
		}
	}
}
