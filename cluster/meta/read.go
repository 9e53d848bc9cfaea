package meta

import (
	"context"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/internal/wire"

	"github.com/cockroachdb/pebble/v2"
)

// view runs f on the applied state as it is now. It returns f's error, or that of a failed read.
func (g *Group) view(op string, f func(*state) error) error {
	if err := g.gate.enter(); err != nil {
		return blocktree.E(op, blocktree.KindOf(err), err)
	}
	defer g.gate.leave()
	s, done, err := g.cache.view()
	if err != nil {
		return blocktree.E(op, blocktree.KindOf(err), err)
	}
	defer done()
	if err = f(s); err == nil {
		err = s.err
	}
	if err != nil {
		return &blocktree.Error{Op: op, Err: err, Kind: blocktree.KindOf(err)}
	}
	return nil
}

// closeSnapshot lets go of a snapshot. It blocks while Pebble writes its manifest, which on a full disk is until there is space.
func closeSnapshot(s *pebble.Snapshot) { _ = s.Close() } // it fails only when closed twice

// answer turns a query's refusal into an Answer.
func (a *Answer) refused(r Result) {
	a.Kind, a.Text, a.Hint, a.Redirect = r.Kind, r.Text, r.Hint, r.Redirect
}

// answer answers q from the state.
func (s *state) answer(q Query) Answer {
	var a Answer
	var r Result
	if r = s.queryElsewhere(&q); r.Kind != blocktree.Other {
		a.refused(r)
		return a
	}
	switch q.Kind {
	case QueryStat:
		a.Inode, r = s.stat(q.Path)
	case QueryStatID:
		if a.Inode = s.inode(q.File); a.Inode == nil {
			r = refuse(blocktree.NotFound, "no inode %v", q.File)
		}
	case QueryList:
		a.Entries, a.More, r = s.list(q.Path, q.After, q.Limit)
	case QueryLayout:
		if a.Layout = s.layout(q.File); a.Layout == nil {
			r = refuse(blocktree.NotFound, "no file %v", q.File)
		}
	case QueryLease:
		if a.Lease = s.lease(q.File); a.Lease == nil {
			r = refuse(blocktree.NotFound, "no lease of %v", q.File)
		}
	case QueryShrink:
		a.Inode, a.Lease, r = s.shrinkAsked(q.File)
	case QueryRuntimes:
		a.Runtimes = s.runtimes()
	case QueryStarts:
		a.Starts = s.startsOfHosts()
	case QueryDraining:
		a.Draining = s.allDraining()
	case QueryAllowed:
		a.Inode, a.Allowed, r = s.allowedOf(q)
	case QueryToRead:
		q.Path = "" // it is about the file
		if a.Inode, a.Allowed, r = s.allowedOf(q); a.Inode != nil {
			a.Layout = s.layout(q.File)
		}
	case QueryRevoked:
		a.Revoked, a.More, r = s.revokedAfter(q.After, q.Limit)
	default:
		r = s.answerDelegation(&q, &a)
	}
	a.refused(r)
	a.Kept = s.keptFrom(&q, r.Kind)
	return a
}

// answerDelegation answers what has to do with delegated directories.
func (s *state) answerDelegation(q *Query, a *Answer) (r Result) {
	switch q.Kind {
	case QueryBelow:
		if a.Inode, r = s.stat(q.Path); r.Kind == blocktree.Other {
			a.Runtimes = s.below(q.Path)
			a.Inode.Access = nil
		}
	case QueryAbove:
		a.Above, r = s.aboveOf(q.Path)
	case QueryGeneration:
		if g := s.generation(q.File.Generation); g != nil {
			a.Home = g.Dir
		} else if sb := s.superblock(); sb != nil && sb.Generation == q.File.Generation {
			a.Home = sb.Dir
		} else {
			r = refuse(blocktree.NotFound, "generation %d was given to nobody", q.File.Generation)
		}
	case QueryMoves:
		a.Moves = s.moves()
	case QueryChildren:
		a.Children, a.More = s.children(q.Path)
	case QueryKnown:
		a.Above, r = s.known()
	case QueryUnkeyed:
		a.Home, r = s.unkeyed(q)
	case QueryXattrs:
		a.Inode, a.Xattrs, r = s.xattrsOf(q)
	case QueryFiles:
		a.Entries, a.More, a.Files, r = s.files(q)
	case QueryTake:
		a.Taken, a.Runtimes, a.More, r = s.take(q)
	default:
		r = refuse(blocktree.Unsupported, "unknown query")
	}
	return r
}

// Answer answers q linearizably: from a state that has everything acknowledged before the call. QueryStatus is answered at
// once, from what this member knows. A refusal is in Answer.Kind; errors are those of Sync.
func (g *Group) Answer(ctx context.Context, q Query) (Answer, error) {
	if q.Kind == QueryStatus {
		if q.Caller != nil && q.Caller.Anonymous() {
			return Answer{Kind: blocktree.Permission, Text: "an anonymous caller may not ask for that"}, nil
		}
		st := g.Status()
		return Answer{Status: &st}, nil
	}
	if err := g.Sync(ctx); err != nil {
		return Answer{}, err
	}
	return g.local("meta.Answer", q)
}

// local answers q from what is applied here.
func (g *Group) local(op string, q Query) (a Answer, err error) {
	err = g.view(op, func(s *state) error {
		a = s.judged(q)
		return nil
	})
	return a, err
}

// asked is local with a refusal as an error.
func (g *Group) asked(op string, q Query) (Answer, error) {
	a, err := g.local(op, q)
	if err == nil {
		err = a.Err(op)
	}
	return a, err
}

// Stat returns the inode that a path names, as applied here: call Sync first for a linearizable answer, as for all
// queries below. NotFound, Invalid, Closed, IO.
func (g *Group) Stat(p blocktree.Path) (*Inode, error) {
	a, err := g.asked("meta.Stat", Query{Kind: QueryStat, Path: p})
	return a.Inode, err
}

// StatID returns the inode with an identity.
func (g *Group) StatID(f blocktree.FileID) (*Inode, error) {
	a, err := g.asked("meta.StatID", Query{Kind: QueryStatID, File: f})
	return a.Inode, err
}

// List returns up to limit entries of a directory after a name, ascending, and whether there are more. A limit of 0 is
// ListEntriesMax.
func (g *Group) List(dir blocktree.Path, from string, limit int) ([]DirEntry, bool, error) {
	a, err := g.asked("meta.List", Query{Kind: QueryList, Path: dir, After: from, Limit: limit})
	return a.Entries, a.More, err
}

// Layout returns a file's layout, the caller's to read and not to write.
func (g *Group) Layout(f blocktree.FileID) (*stripe.Layout, error) {
	a, err := g.asked("meta.Layout", Query{Kind: QueryLayout, File: f})
	return a.Layout, err
}

// Lease returns who holds a file; NotFound if nobody does.
func (g *Group) Lease(f blocktree.FileID) (*Lease, error) {
	a, err := g.asked("meta.Lease", Query{Kind: QueryLease, File: f})
	return a.Lease, err
}

// Runtimes returns the process records, ascending by path.
func (g *Group) Runtimes() ([]blocktree.Runtime, error) {
	a, err := g.asked("meta.Runtimes", Query{Kind: QueryRuntimes})
	return a.Runtimes, err
}

// Start returns the newest start of a store, of one that was replaced or removed too; NotFound if it never started.
func (g *Group) Start(node blocktree.NodeID) (*NodeStart, error) {
	var v *NodeStart
	err := g.view("meta.Start", func(s *state) error {
		if v = s.start(node); v == nil {
			return blocktree.E("meta.Start", blocktree.NotFound, nil)
		}
		return nil
	})
	return v, err
}

// Starts returns the newest start of every store that a process record names, ascending by node.
func (g *Group) Starts() ([]NodeStart, error) {
	a, err := g.asked("meta.Starts", Query{Kind: QueryStarts})
	return a.Starts, err
}

// Draining returns the stores that are to lose their places, ascending.
func (g *Group) Draining() ([]blocktree.NodeID, error) {
	a, err := g.asked("meta.Draining", Query{Kind: QueryDraining})
	return a.Draining, err
}

// Superblock returns what this cluster is; NotFound before it is founded.
func (g *Group) Superblock() (*Superblock, error) {
	var sb *Superblock
	err := g.view("meta.Superblock", func(s *state) error {
		if sb = s.superblock(); sb == nil {
			return blocktree.E("meta.Superblock", blocktree.NotFound, textError("the cluster is not founded yet"))
		}
		return nil
	})
	return sb, err
}

// Above returns what a child knows of what is above it; nil of a cluster that was told nothing, as the root cluster.
func (g *Group) Above() (a *Above, err error) {
	err = g.view("meta.Above", func(s *state) error {
		a = s.above()
		return nil
	})
	return a, err
}

// Session returns a session; NotFound if it is closed or expired.
func (g *Group) Session(id SessionID) (*Session, error) {
	var x *Session
	err := g.view("meta.Session", func(s *state) error {
		if x = s.session(id); x == nil {
			return blocktree.E("meta.Session", blocktree.NotFound, nil)
		}
		return nil
	})
	return x, err
}

// eachSession calls f with every session.
func (s *state) eachSession(f func(*Session)) {
	each(s, kindSession, func(d *wire.Decoder) *Session { return getSession(d) }, f)
}
