package meta

import (
	"slices"

	"blocktree"
)

// What queries by scope (package route) want to know of the state. All of it is as applied here: an answer is a hint, and may be a little old.

// Delegated returns the first delegated directory on the way to a scope at or below the cluster's own directory, the scope itself too; nil if there is none. Unavailable while the cluster
// takes its directory over, or is not founded.
func (g *Group) Delegated(scope blocktree.Scope) (to *Redirect, err error) {
	err = g.view("meta.Delegated", func(s *state) error {
		_, r := s.walkInto(scope)
		switch {
		case r.Redirect != nil:
			to = r.Redirect
		case s.superblock() == nil || r.Kind == blocktree.Unavailable:
			return blocktree.E("meta.Delegated", blocktree.Unavailable, textError("the cluster does not answer for its directory yet"))
		}
		return nil // that there is no such path is for others to say
	})
	return to, err
}

// Registered returns the process records of the runtimes directly in a directory, all of which are in no other cluster's: of one below the cluster's own they are no sector hosts, as those are a
// cluster of their own, or have not begun to be one.
func (g *Group) Registered(dir blocktree.Scope, service string) (out []blocktree.Runtime, err error) {
	err = g.view("meta.Registered", func(s *state) error {
		if s.superblock() == nil {
			return blocktree.E("meta.Registered", blocktree.Unavailable, textError("the cluster is not founded yet"))
		}
		out = s.registered(dir, service)
		return nil
	})
	return out, err
}

func (s *state) registered(dir blocktree.Scope, service string) (out []blocktree.Runtime) {
	list := s.runtimes()
	if dir != s.superblock().Dir {
		if list = s.below(dir); service == blocktree.ServiceSector {
			list = nil
		}
	}
	for _, r := range list {
		if r.Path.Parent() == dir && slices.Contains(r.Services, service) {
			out = append(out, r)
		}
	}
	return out
}

// IsChild reports whether somebody is a sector host by a process record below, and whether any is known of its directory.
func (g *Group) IsChild(who blocktree.Runtime) (known, is bool, err error) {
	err = g.view("meta.IsChild", func(s *state) error {
		known, is = s.isChild(who)
		return nil
	})
	return known, is, err
}

func (s *state) isChild(who blocktree.Runtime) (known, is bool) {
	for _, r := range s.below(who.Path.Parent()) {
		if IsSectorHost(r) {
			known = true
			is = is || r.Path == who.Path && r.Principal == who.Principal
		}
	}
	return known, is
}

// OthersRead reports whether others may read every directory from a scope, as far as it is there, to the root directory; a file counts as a directory does. A child that has not heard of what
// is above it says no.
func (g *Group) OthersRead(scope blocktree.Scope) (open bool, err error) {
	err = g.view("meta.OthersRead", func(s *state) error {
		i := s.deepest(scope)
		open = i != nil && s.openUp(i)
		return nil
	})
	return open, err
}

// HasRight reports whether a caller has any right on the deepest that there is of a scope.
func (g *Group) HasRight(c *Caller, scope blocktree.Scope, now int64) (has bool, err error) {
	err = g.view("meta.HasRight", func(s *state) error {
		i := s.deepest(scope)
		has = i != nil && s.rights(c, i, now) != 0
		return nil
	})
	return has, err
}

// deepest is the inode of as much of a scope as is kept here; nil where nothing is.
func (s *state) deepest(scope blocktree.Scope) *Inode {
	sb := s.superblock()
	if sb == nil {
		return nil
	}
	at, r := s.follow(sb, scope)
	switch {
	case at.via != "":
		return s.inode(at.viaFile)
	case r.Kind != blocktree.Other && at.dir == 0:
		return nil
	case len(at.missing) > 0 || r.Kind != blocktree.Other:
		return s.inode(blocktree.FileID{Generation: sb.Generation, Inode: at.dir})
	}
	return s.inode(at.found.file)
}

// openUp reports whether others may read i and every directory above it, a delegated one too: what it says is of the way there.
func (s *state) openUp(i *Inode) bool {
	open, top := i.Mode&4 != 0, i.ID.Inode
	s.upward(i.ID.Inode, func(n blocktree.Inode) bool {
		d := s.inode(blocktree.FileID{Generation: i.ID.Generation, Inode: n})
		open = open && d != nil && d.Mode&4 != 0
		top = n
		return open
	})
	up, sb := s.above(), s.superblock()
	if up != nil {
		for k := range up.Levels {
			open = open && up.Levels[k].Mode&4 != 0
		}
	}
	return open && top == RootInode && (up != nil || sb != nil && !sb.Child)
}

// Plain returns the highest directory from the cluster's own down to a scope under which no runtime has a record, in which case no directory there is delegated; false if there is none.
func (g *Group) Plain(scope blocktree.Scope) (plain blocktree.Scope, ok bool, err error) {
	err = g.view("meta.Plain", func(s *state) error {
		plain, ok = s.plain(scope)
		return nil
	})
	return plain, ok, err
}

func (s *state) plain(scope blocktree.Scope) (plain blocktree.Scope, ok bool) {
	sb := s.superblock()
	if sb == nil || !scope.Within(sb.Dir) {
		return "", false
	}
	records := s.allBelow()
	for d := scope; ; d = d.Parent() {
		for _, r := range records {
			if dir := r.Path.Parent(); dir != d && dir.Within(d) {
				return plain, ok
			}
		}
		if plain, ok = d, true; d == sb.Dir {
			return plain, ok
		}
	}
}
