package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
)

// roster knows which runtimes are the sector hosts of the cluster and which store each has, as far as this node has heard: by the
// configuration, then by the process records. It can be behind. A host that has got another store since may lead the group that
// this node has to learn it from, so a known host is believed which store it speaks for, unless that is another host's.
type roster struct {
	mu     sync.RWMutex
	stores map[blocktree.Principal]blocktree.NodeID
	paths  map[blocktree.Principal]blocktree.Path
	said   map[blocktree.Principal]said // at most one for each host
}

// said is the store that a host spoke for, and the connection it did it on.
type said struct {
	node blocktree.NodeID
	conn *bttp.Conn
}

func newRoster(hosts []blocktree.Runtime) *roster {
	r := &roster{}
	r.set(hosts)
	return r
}

// set replaces what is known.
func (r *roster) set(hosts []blocktree.Runtime) {
	stores, paths := make(map[blocktree.Principal]blocktree.NodeID, len(hosts)), make(map[blocktree.Principal]blocktree.Path, len(hosts))
	for _, h := range hosts {
		stores[h.Principal], paths[h.Principal] = h.Node, h.Path
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stores, r.paths, r.said = stores, paths, map[blocktree.Principal]said{}
}

// node is the store of a host; false for who is none.
func (r *roster) node(p blocktree.Principal) (blocktree.NodeID, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	n, ok := r.stores[p]
	return n, ok
}

// refuses says why a runtime is not believed that has the key of a host and is at another path than the host. Whoever issues anywhere can issue
// that to a key which was stolen, and a revocation at and below the host's path does not mean it.
func (r *roster) refuses(id cred.Identity) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if at, ok := r.paths[id.Principal]; ok && at != id.Path {
		return &blocktree.Error{Op: "credentials", Path: id.Path.Short(), Kind: blocktree.Unauthenticated, Err: errors.New("the key is that of the sector host " + at.Short()),
			Hint: "make a key of its own for every runtime"}
	}
	return nil
}

// speaker is the store that a host's message speaks for: the one in the header, or that of the records where it has none.
func (r *roster) speaker(req *bttp.Request) (blocktree.NodeID, bool) {
	p := req.Conn.Peer().Principal
	known, ok := r.node(p)
	if !ok || len(req.Header) != 8 {
		return known, ok
	}
	claimed := blocktree.NodeID(binary.BigEndian.Uint64(req.Header))
	if claimed == known {
		return known, true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for other, n := range r.stores {
		if n == claimed && other != p {
			return 0, false
		}
	}
	r.said[p] = said{claimed, req.Conn}
	return claimed, true
}

// heard is the connection on which a store spoke that the records do not have, nil if there is none.
func (r *roster) heard(n blocktree.NodeID) *bttp.Conn {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, s := range r.said {
		if s.node == n {
			return s.conn
		}
	}
	return nil
}

// applied is meta.Config.OnApply.
func (s *Service) applied(c meta.Changes) {
	s.holders.applied(c)
	s.passes.applied(c)
	s.learner.applied(c)
	s.noticed.applied(c)
	if len(c.Revoked) > 0 { // before anybody is answered
		s.revoke(c.Revoked)
	}
	if c.Runtimes || c.Reset {
		signal(s.records)
	}
}

// followRecords goes by the process records from the moment when this node's state is as new as its start.
func (s *Service) followRecords() {
	for {
		s.readRecords(true)
		select {
		case <-s.ctx.Done():
			return
		case <-s.records:
		}
	}
}

// readRecords goes by the process records as they are applied here. Once they are those of after this node's start, a
// node whose record is gone or has another store must end, once the group counts on it no more.
func (s *Service) readRecords(started bool) {
	if started {
		_ = s.readRevoked() // it fails where the next does
	}
	runtimes, err := s.group.Runtimes()
	hosts := sectorHosts(runtimes)
	if err != nil || len(hosts) == 0 {
		return
	}
	s.roster.set(hosts)
	s.endpoint.SetRefused(s.refuses)
	s.peers.adopt(hosts)
	if started && s.cfg.Hosts != nil {
		s.cfg.Hosts(hosts)
	}
	if !started {
		return
	}
	i := slices.IndexFunc(hosts, func(r blocktree.Runtime) bool { return r.Path == s.cfg.Path })
	if i >= 0 && hosts[i].Node == s.cfg.Node || !s.awaitLeave() {
		return
	}
	switch {
	case i < 0:
		s.fail(&blocktree.Error{Op: "cluster", Path: s.cfg.Path.Short(), Kind: blocktree.Invalid,
			Err: errors.New("this node was removed from the cluster"), Hint: "its store is of no use any more"})
	default:
		s.fail(&blocktree.Error{Op: "cluster", Path: s.cfg.Path.Short(), Kind: blocktree.Invalid,
			Err: fmt.Errorf("store %v was replaced by %v", s.cfg.Node, hosts[i].Node), Hint: replacedHint})
	}
}

// leaveWait bounds how long a node that was replaced or removed stays for the sake of the group.
const leaveWait = 10 * time.Second

// awaitLeave waits until this node is no voter of the group any more: to be taken out of it may need its own vote, as in a group of
// two, or in one of four of which another is down, and without it the group would have lost its majority for ever. It returns false
// if the service is closed meanwhile.
func (s *Service) awaitLeave() bool {
	for until := time.Now().Add(leaveWait); time.Now().Before(until); {
		if !slices.ContainsFunc(s.group.Status().Members, func(m meta.MemberStatus) bool { return m.Node == s.cfg.Node && !m.Learner }) {
			break
		}
		select {
		case <-s.ctx.Done():
			return false
		case <-time.After(votersInterval / 5):
		}
	}
	return s.ctx.Err() == nil
}

// replacedHint is for a node that runs with a store that was replaced.
const replacedHint = "move its store directory away and start the node on an empty one: it gets its new store from the cluster"

func sectorHosts(runtimes []blocktree.Runtime) []blocktree.Runtime {
	return slices.DeleteFunc(slices.Clone(runtimes), func(r blocktree.Runtime) bool { return !meta.IsSectorHost(r) })
}
