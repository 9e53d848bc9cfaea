package meta

import (
	"encoding/binary"
	"slices"

	"blocktree"
	"blocktree/cluster/stripe"
)

// replaceHost does it for every file, or for none: every layout is made before one is stored.
func (s *state) replaceHost(o ReplaceHost) Result {
	r := value(s, kindRuntime, []byte(o.Path), getRuntimePtr)
	switch {
	case r == nil || r.Node == 0:
		return refuse(blocktree.NotFound, "no sector host at %s", o.Path.Short())
	case r.Node == o.New:
		return Result{}
	case r.Node != o.Old:
		return refuse(blocktree.Invalid, "%s has store %v, not %v", o.Path.Short(), r.Node, o.Old)
	case s.draining(o.Old):
		return refuse(blocktree.Busy, "store %v is being drained", o.Old).
			hinted("if its disk is lost, other nodes take over what it had, and it can be removed; to keep the node, say btnode node drain --cancel first")
	case o.New == 0 || s.start(o.New) != nil || s.hosts(o.New):
		return refuse(blocktree.Invalid, "store %v is not new: a store id is never used again", o.New)
	}
	next := *r
	next.Node = o.New
	if bad, ok := checkRuntime(next, s.runtimes()); !ok {
		return bad
	}
	var layouts []*stripe.Layout
	for _, i := range s.hosted(o.Old) {
		l := s.layout(blocktree.FileID{Generation: s.superblock().Generation, Inode: i})
		if l == nil || !slices.Contains(l.Hosts, o.Old) {
			continue
		}
		n, err := l.Replace(o.Old, o.New)
		if err != nil {
			return refuse(blocktree.KindOf(err), "file %v: %v", l.File, err).
				hinted("wait until its other members are in sync (see btnode status), or remove the file if what it had there is lost")
		}
		layouts = append(layouts, n)
	}
	for _, l := range layouts {
		s.del(kindHosted, hostedRest(o.Old, l.File.Inode))
		s.set(kindHosted, hostedRest(o.New, l.File.Inode), nil)
		s.setLayout(l)
	}
	s.setRuntime(&next)
	return Result{}
}

// retireHost removes the record of a host that has no place anywhere.
func (s *state) retireHost(o RetireHost) Result {
	r := value(s, kindRuntime, []byte(o.Path), getRuntimePtr)
	switch {
	case r == nil || r.Node == 0:
		return refuse(blocktree.NotFound, "no sector host at %s", o.Path.Short())
	case r.Node != o.Node:
		return refuse(blocktree.Invalid, "%s has store %v, not %v", o.Path.Short(), r.Node, o.Node)
	}
	for _, i := range s.hosted(o.Node) {
		l := s.layout(blocktree.FileID{Generation: s.superblock().Generation, Inode: i})
		if l != nil && l.HasPlace(o.Node) {
			return refuse(blocktree.Busy, "it has places in file %v", l.File).
				hinted("drain the node first (btnode node drain); while it is down, spares take its places over one by one; if there are no spares, replace the node instead")
		}
	}
	return s.removeRuntime(RemoveRuntime{Path: o.Path})
}

// drainHost notes that a store is to lose its places, if there are nodes for them.
func (s *state) drainHost(o DrainHost) Result {
	r := value(s, kindRuntime, []byte(o.Path), getRuntimePtr)
	switch {
	case r == nil || r.Node == 0:
		return refuse(blocktree.NotFound, "no sector host at %s", o.Path.Short())
	case r.Node != o.Node:
		return refuse(blocktree.Invalid, "%s has store %v, not %v", o.Path.Short(), r.Node, o.Node)
	case o.Cancel:
		s.del(kindDraining, u64(uint64(o.Node)))
		s.changes.Runtimes = true
		return Result{}
	}
	others := 0
	for _, x := range s.runtimes() {
		if IsSectorHost(x) && x.Node != o.Node && !s.draining(x.Node) && s.start(x.Node) != nil {
			others++
		}
	}
	for _, i := range s.hosted(o.Node) {
		l := s.layout(blocktree.FileID{Generation: s.superblock().Generation, Inode: i})
		if l != nil && l.Code.Shards() > others && l.HasPlace(o.Node) {
			return refuse(blocktree.Unavailable, "file %v has code %v and needs %d nodes, without this one there are %d", l.File, l.Code, l.Code.Shards(), others).
				hinted("add %d more and start them, or remove the file; a node that drains does not count", l.Code.Shards()-others)
		}
	}
	s.set(kindDraining, u64(uint64(o.Node)), nil)
	s.changes.Runtimes = true
	return Result{}
}

// draining reports whether a store is to lose its places.
func (s *state) draining(n blocktree.NodeID) bool {
	_, yes := s.get(kindDraining, u64(uint64(n)))
	return yes
}

// allDraining lists the stores that are to lose their places, ascending.
func (s *state) allDraining() (nodes []blocktree.NodeID) {
	s.scan(kindDraining, nil, nil, func(rest, _ []byte) bool {
		nodes = append(nodes, blocktree.NodeID(binary.BigEndian.Uint64(rest)))
		return true
	})
	return nodes
}

// mayHave says whether a change of view gives places to those only that may have them.
func (s *state) mayHave(c *stripe.Change, l *stripe.Layout) (Result, bool) {
	if c.Kind == stripe.ChangePromote && len(c.Nodes) == 1 && c.Region < l.Regions() && l.View(c.Region).Heir == c.Nodes[0] && s.draining(c.Nodes[0]) {
		return refuse(blocktree.Invalid, "store %v is being drained itself", c.Nodes[0]), false
	}
	if len(c.Nodes) != 2 || c.Kind != stripe.ChangePlace && c.Kind != stripe.ChangeMove {
		return Result{}, true
	}
	switch from, to := c.Nodes[0], c.Nodes[1]; {
	case !s.sectorHost(to):
		return refuse(blocktree.Invalid, "store %v is not a sector host of this cluster", to), false
	case s.draining(to):
		return refuse(blocktree.Invalid, "store %v is being drained", to), false
	case c.Kind == stripe.ChangeMove && !s.draining(from):
		return refuse(blocktree.Invalid, "store %v is not being drained", from), false
	}
	return Result{}, true
}

// hosted lists the files that name a store among their hosts.
func (s *state) hosted(n blocktree.NodeID) (files []blocktree.Inode) {
	s.scan(kindHosted, u64(uint64(n)), nil, func(rest, _ []byte) bool {
		files = append(files, inodeOf(rest))
		return true
	})
	return files
}

// sectorHost reports whether a process record names store n as a sector host's.
func (s *state) sectorHost(n blocktree.NodeID) bool {
	return slices.ContainsFunc(s.runtimes(), func(r blocktree.Runtime) bool { return IsSectorHost(r) && r.Node == n })
}

// hosts reports whether any file names a store among its hosts.
func (s *state) hosts(n blocktree.NodeID) (any bool) {
	s.scan(kindHosted, u64(uint64(n)), nil, func(_, _ []byte) bool {
		any = true
		return false
	})
	return any
}

// startsOfHosts is the newest start of every store that has a process record. Starts of stores that were replaced are kept, as no
// id is used again, but nobody asks for them, and in time they would be more than an answer has room for.
func (s *state) startsOfHosts() []NodeStart {
	named := map[blocktree.NodeID]bool{}
	for _, r := range s.runtimes() {
		named[r.Node] = true
	}
	return slices.DeleteFunc(s.starts(), func(n NodeStart) bool { return !named[n.Node] })
}
