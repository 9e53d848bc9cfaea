package meta

import (
	"encoding/binary"
	"slices"

	"blocktree"
	"blocktree/cluster/stripe"
)

// checkRuntime refuses a record that could not be stored or that claims another's store.
func checkRuntime(r blocktree.Runtime, others []blocktree.Runtime) (Result, bool) {
	tooLong := func(s string) bool { return len(s) > blocktree.NameBytesMax }
	switch {
	case r.Path.Root().IsZero() || len(r.Path) > blocktree.PathBytesMax:
		return refuse(blocktree.Invalid, "a process record needs a path"), false
	case len(r.Endpoints) > EndpointsMax || len(r.Services) > ServicesMax || slices.ContainsFunc(r.Endpoints, tooLong) ||
		slices.ContainsFunc(r.Services, tooLong):
		return refuse(blocktree.TooLarge, "too many or too long endpoints or services"), false
	}
	hosts := 0
	for _, o := range others {
		if o.Path == r.Path {
			continue
		}
		if o.Node != 0 {
			hosts++
		}
		if r.Node != 0 && o.Node == r.Node {
			return refuse(blocktree.Exists, "%s has store %v", o.Path.Short(), o.Node), false
		}
	}
	if r.Node != 0 && hosts >= HostsMax {
		return refuse(blocktree.TooLarge, "a cluster has at most %d hosts", HostsMax), false
	}
	return Result{}, true
}

func (s *state) setRuntime(r *blocktree.Runtime) {
	store(s, kindRuntime, []byte(r.Path), r, putRuntime)
	s.changes.Runtimes = true
}

func (s *state) putRuntime(r blocktree.Runtime) Result {
	if bad, ok := checkRuntime(r, s.runtimes()); !ok {
		return bad
	}
	if _, there := s.get(kindRuntime, []byte(r.Path)); !there {
		if s.counts.runtimes >= RuntimesMax {
			return refuse(blocktree.TooLarge, "a cluster has at most %d process records", RuntimesMax)
		}
		s.counts.runtimes++
	}
	s.setRuntime(&r)
	return Result{}
}

func (s *state) removeRuntime(o RemoveRuntime) Result {
	if _, there := s.get(kindRuntime, []byte(o.Path)); !there {
		return refuse(blocktree.NotFound, "no process record of %s", o.Path.Short())
	}
	if r := value(s, kindRuntime, []byte(o.Path), getRuntimePtr); r != nil {
		s.del(kindDraining, u64(uint64(r.Node)))
	}
	s.del(kindRuntime, []byte(o.Path))
	s.counts.runtimes--
	s.changes.Runtimes = true
	return Result{}
}

// startNode records a start; a changed incarnation marks the node in every file that names it. One that leaves may be refused for that.
func (s *state) startNode(o StartNode, leaves bool) Result {
	return s.startAs(o, leaves, o.Incarnation)
}

func (s *state) startAs(o StartNode, leaves bool, volatile blocktree.Incarnation) Result {
	old := s.start(o.Node)
	var counter uint64
	if old != nil {
		counter = old.Counter
	}
	if o.Node == 0 || o.Incarnation == (blocktree.Incarnation{}) || o.StartCounter <= o.ExpectCounter {
		return refuse(blocktree.Invalid, "a start needs a node, an incarnation, and a counter that grows")
	}
	if counter != o.ExpectCounter {
		r := refuse(blocktree.StaleMember, "start counter is %d, not %d", counter, o.ExpectCounter)
		r.Start = old
		return r
	}
	generation := s.superblock().Generation
	if leaves {
		for _, i := range s.hosted(o.Node) {
			f := blocktree.FileID{Generation: generation, Inode: i}
			if l := s.layout(f); l != nil && !l.CanSpare(o.Node, nil) {
				return refuse(blocktree.Unavailable, "too few other members of file %v are in sync", f)
			}
		}
	}
	v := &NodeStart{Node: o.Node, Incarnation: o.Incarnation, Counter: o.StartCounter}
	store(s, kindStart, u64(uint64(o.Node)), v, putStart)
	s.setVolatile(o.Node, o.Incarnation, volatile)
	s.changes.Starts = append(s.changes.Starts, *v)
	for _, i := range s.toMark(o.Node) {
		l := s.layout(blocktree.FileID{Generation: generation, Inode: i})
		if l == nil {
			continue
		}
		if n := s.marked(l, o.Node); n != l {
			s.setLayout(n)
		}
	}
	return Result{Start: v}
}

func (s *state) openSession(o OpenSession) Result {
	if r, ok := s.believed(o.Path, o.Principal); !ok {
		return r
	}
	if x := s.session(o.Session); x != nil {
		if x.Principal != o.Principal || x.Path != o.Path {
			return refuse(blocktree.Exists, "the session is another's")
		}
		return s.renewSession(RenewSession{Session: o.Session})
	}
	if o.Session == (SessionID{}) {
		return refuse(blocktree.Invalid, "a session needs an id")
	}
	if s.counts.sessions >= SessionsMax {
		return refuse(blocktree.Unavailable, "%d sessions are open", s.counts.sessions)
	}
	own := 0
	s.scan(kindOwned, o.Principal[:], nil, func(_, _ []byte) bool {
		own++
		return own < SessionsPerPrincipalMax
	})
	if own >= SessionsPerPrincipalMax {
		return refuse(blocktree.Unavailable, "the principal has %d sessions open", own)
	}
	x := &Session{ID: o.Session, Principal: o.Principal, Path: o.Path}
	s.setSession(x)
	s.noteRenewed(o.Session)
	s.noteCaller(o.Session)
	s.set(kindOwned, ownedRest(o.Principal, o.Session), nil)
	s.counts.sessions++
	return Result{Session: x}
}

func (s *state) renewSession(o RenewSession) Result {
	x := s.session(o.Session)
	if x == nil {
		return refuse(blocktree.NotFound, "the session is closed or expired")
	}
	if r, ok := s.believed(x.Path, x.Principal); !ok { // it expires as if nobody had renewed it: its holder answers reads until then
		return r
	}
	x.Renewals++
	s.setSession(x)
	s.noteRenewed(o.Session)
	s.noteCaller(o.Session)
	r := Result{Session: x}
	r.Firm, r.Claimed = s.firm(o.Session)
	return r
}

// noteRenewed notes when the opening or renewal that is applied was drawn, if that is the newest yet.
func (s *state) noteRenewed(id SessionID) {
	if drawn := s.id.drawn(); drawn > s.renewed(id) {
		s.set(kindRenewed, id[:], u64(drawn))
	}
}

// renewed is when the session's newest opening or renewal was drawn, on its client's clock.
func (s *state) renewed(id SessionID) uint64 {
	if b, ok := s.get(kindRenewed, id[:]); ok && len(b) == 8 {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// acquiredBy is the Acquire that took a lease.
func (s *state) acquiredBy(l *Lease) (id CommandID) {
	b, _ := s.get(kindHeld, heldRest(l.Session, l.File.Inode))
	copy(id[:], b)
	return id
}

// held returns the files whose leases a session has.
func (s *state) held(id SessionID) []blocktree.Inode {
	var files []blocktree.Inode
	s.scan(kindHeld, id[:], nil, func(rest, _ []byte) bool {
		files = append(files, inodeOf(rest))
		return true
	})
	return files
}

// closeSession forgets a session and releases its leases.
func (s *state) closeSession(id SessionID) {
	x := s.session(id)
	if x == nil {
		return
	}
	for _, i := range s.held(id) {
		if l := value(s, kindLease, inodeRest(i), getLease); l != nil {
			s.dropLease(l)
		}
	}
	s.dropKept(id)
	s.dropKeeps(id)
	s.del(kindSession, id[:])
	s.del(kindRenewed, id[:])
	s.del(kindClaimed, id[:])
	s.del(kindCaller, id[:])
	s.del(kindOwned, ownedRest(x.Principal, id))
	s.counts.sessions--
}

func (s *state) expireSession(o ExpireSession) Result {
	x := s.session(o.Session)
	switch {
	case x == nil:
		return refuse(blocktree.NotFound, "the session is closed or expired")
	case x.Renewals != o.Renewals:
		return refuse(blocktree.Busy, "the session was renewed")
	}
	s.closeSession(o.Session)
	return Result{}
}

// dropLease releases a lease, and with it the claim on it; the session's count is the caller's.
func (s *state) dropLease(l *Lease) {
	s.del(kindLease, inodeRest(l.File.Inode))
	s.del(kindHeld, heldRest(l.Session, l.File.Inode))
	s.del(kindClaim, inodeRest(l.File.Inode))
	s.del(kindShrink, inodeRest(l.File.Inode))
	s.changes.Leases = append(s.changes.Leases, Lease{File: l.File, Epoch: l.Epoch})
}

func (s *state) acquire(o Acquire) Result {
	x := s.session(o.Session)
	if x == nil {
		return refuse(blocktree.NotFound, "the session is closed or expired")
	}
	if r, ok := s.believed(x.Path, x.Principal); !ok {
		return r
	}
	l := s.layout(o.File)
	if l == nil {
		return refuse(blocktree.NotFound, "no file %v", o.File)
	}
	if r := s.notFor(o.Session, o.File); r.Kind != blocktree.Other {
		return r
	}
	held := s.lease(o.File)
	switch {
	case held != nil && held.Session != o.Session:
		if s.caller != nil {
			s.judgeLease(o.File.Inode) // its holder's grant may have ended
		}
		r := refuse(blocktree.Busy, "in use by %s", held.Holder.Short())
		r.Lease, r.Layout = held, l
		return r.hinted("a silent holder loses its lease %v after its last renewal", blocktree.LeaseTerm)
	case held != nil && s.acquiredBy(held) == s.id: // a retry that is not remembered any more
		return Result{Layout: l, Lease: held, Session: x}
	case held != nil && s.acquiredBy(held).drawn() > s.id.drawn(), s.id.drawn()+uint64(AcquireStaleAfter) < s.renewed(o.Session):
		// It was delayed. To do it now would fence a holder that is at work, or take a lease that nobody uses.
		r := refuse(blocktree.Busy, "asked for too long ago")
		r.Lease, r.Layout = held, l
		return r.hinted("ask again")
	case held == nil && x.Leases >= LeasesPerSessionMax:
		return refuse(blocktree.Unavailable, "the session holds %d leases", x.Leases)
	}
	if held == nil {
		x.Leases++
		s.setSession(x)
	}
	return s.grant(x, l, s.id)
}

// grant gives the lease of the file that l is of to a session under the next epoch; the session's count is the caller's. by is the
// session's command that asked for it. A claim was on an earlier epoch, and is gone.
func (s *state) grant(x *Session, l *stripe.Layout, by CommandID) Result {
	l = l.Acquire()
	s.setLayout(l)
	v := &Lease{File: l.File, Epoch: l.Epoch, Session: x.ID}
	store(s, kindLease, inodeRest(l.File.Inode), v, putLease)
	s.set(kindHeld, heldRest(x.ID, l.File.Inode), by[:])
	s.del(kindClaim, inodeRest(l.File.Inode))
	s.del(kindShrink, inodeRest(l.File.Inode))
	v.Holder = x.Path
	s.changes.Leases = append(s.changes.Leases, *v)
	return Result{Layout: l, Lease: v, Session: x}
}

func (s *state) release(o Release) Result {
	held := s.lease(o.File)
	if held == nil || held.Session != o.Session || held.Epoch != o.Epoch {
		r := refuse(blocktree.Fenced, "the lease is not held under epoch %d", o.Epoch)
		r.Lease = held
		return r
	}
	s.dropLease(held)
	if x := s.session(o.Session); x != nil {
		x.Leases--
		s.setSession(x)
	}
	return Result{}
}

func (s *state) changeView(o ChangeView) Result {
	l := s.layout(o.Change.File)
	if l == nil {
		return refuse(blocktree.NotFound, "no file %v", o.Change.File)
	}
	if r, ok := s.mayHave(&o.Change, l); !ok {
		r.Layout = l
		return r
	}
	next, err := l.Apply(o.Change, func(n blocktree.NodeID) blocktree.Incarnation { return s.incarnation(n, l.Durability) })
	if err != nil {
		return Result{Kind: blocktree.KindOf(err), Text: err.Error(), Layout: l}
	}
	if r, ok := s.putChanged(l, next); !ok {
		return r
	}
	return Result{Layout: next}
}

// putChanged stores what became of layout l, unless it is too large. A host that is new is behind the others.
func (s *state) putChanged(l, next *stripe.Layout) (Result, bool) {
	if len(next.Hosts) > HostsMax {
		r := refuse(blocktree.TooLarge, "a file has at most %d hosts", HostsMax).hinted("copy it to a new file")
		r.Layout = l
		return r, false
	}
	if n := len(next.Own)*(14+3*next.Code.Shards()) + len(next.Hosts)*33 + 128; n > LayoutBytesMax {
		r := refuse(blocktree.TooLarge, "too many regions with a view of their own").
			hinted("regions that are served by other nodes than those the file was made with are listed one by one; copy it to a new file")
		r.Layout = l
		return r, false
	}
	for _, h := range next.Hosts[min(len(l.Hosts), len(next.Hosts)):] {
		s.set(kindHosted, hostedRest(h, next.File.Inode), nil)
	}
	s.setLayout(next)
	return Result{}, true
}
