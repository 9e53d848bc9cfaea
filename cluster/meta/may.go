package meta

import (
	"time"

	"blocktree"
)

// What a caller may do: the rules of docs/design/0024 and 0026. Everybody who judges asks here.

// may reports whether c has all of want on i at a time.
func (s *state) may(c *Caller, i *Inode, want Rights, now int64) bool {
	return s.rights(c, i, now)&want == want
}

// rights returns what c may do with i at a time.
func (s *state) rights(c *Caller, i *Inode, now int64) Rights {
	r, _ := s.rightsUntil(c, i, now)
	return r
}

// rightsUntil is rights, and when the first of the grants that were counted ends, 0 if none does.
func (s *state) rightsUntil(c *Caller, i *Inode, now int64) (r Rights, until int64) {
	if c == nil {
		return rightsAll, 0
	}
	if _, ok := s.believed(c.Path, c.Chain...); !ok {
		return 0, 0
	}
	if i = s.judgedBy(i); i == nil {
		return 0, 0
	}
	switch {
	case c.all():
		return rightsAll, 0
	case c.Anonymous():
		return s.anonymous(i), 0
	}
	r = byMode(c, i)
	count := func(grants []Grant) {
		for k := range grants {
			if g := &grants[k]; g.holds(now) && g.Subject.covers(c) {
				r |= g.Rights
				if g.Until != 0 && (until == 0 || g.Until < until) {
					until = g.Until
				}
			}
		}
	}
	s.upward(i.ID.Inode, func(n blocktree.Inode) bool {
		if a := s.granted(n); a != nil {
			count(a.grants)
		}
		return r != rightsAll
	})
	if up := s.above(); up != nil && r != rightsAll {
		for k := range up.Levels {
			count(up.Levels[k].Grants)
		}
	}
	return r, until
}

// judgedBy is the inode by which i is judged: of a companion the file that it is of (docs/design/0028), nil where that is not there.
func (s *state) judgedBy(i *Inode) *Inode {
	if i.Integrity != IntegrityCompanion {
		return i
	}
	f := s.inode(blocktree.FileID{Generation: i.ID.Generation, Inode: i.Companion})
	if f == nil || f.companion() != i.ID {
		return nil
	}
	return f
}

// byMode is what mode and owner give: the first class that fits is the one that counts.
func byMode(c *Caller, i *Inode) Rights {
	switch {
	case c.UID == i.UID:
		return byBits(i, i.Mode>>6) | RightAdmin
	case c.in(i.GID):
		return byBits(i, i.Mode>>3)
	}
	return byBits(i, i.Mode)
}

// OwnerRights are those that who has the user id of i's owner has on it, whatever else he was granted.
func (i *Inode) OwnerRights() Rights { return byMode(&Caller{UID: i.UID}, i) }

func byBits(i *Inode, bits uint32) (r Rights) {
	read, write := RightRead, RightWrite|RightLease
	if i.Kind == KindDir {
		read, write = RightList, RightWrite
	}
	if bits&4 != 0 {
		r |= read
	}
	if bits&2 != 0 {
		r |= write
	}
	return r
}

// anonymous is what others may read, if that is so all the way up; nothing where the way is not known, as of a file whose entry is another cluster's.
func (s *state) anonymous(i *Inode) Rights {
	open, top := i.Mode&4 != 0, i.ID.Inode
	s.upward(i.ID.Inode, func(n blocktree.Inode) bool {
		if n != i.ID.Inode {
			d := s.inode(blocktree.FileID{Generation: i.ID.Generation, Inode: n})
			open = open && d != nil && d.Mode&4 != 0 && d.Delegation == nil
		}
		top = n
		return open
	})
	if up := s.above(); up != nil {
		for k := range up.Levels {
			open = open && up.Levels[k].Mode&4 != 0
		}
	} else if sb := s.superblock(); sb == nil || sb.Child {
		return 0
	}
	if !open || top != RootInode {
		return 0
	}
	return byBits(i, 4)
}

// upward calls f with an inode and every directory above it, until f returns false.
func (s *state) upward(n blocktree.Inode, f func(blocktree.Inode) bool) {
	for range blocktree.PathDepthMax + 2 {
		if !f(n) || n == RootInode {
			return
		}
		up, ok := s.parent(n)
		if !ok {
			return
		}
		n = up
	}
}

// parent is the directory that an inode is in; false for the root directory, and where that is not noted yet.
func (s *state) parent(n blocktree.Inode) (blocktree.Inode, bool) {
	b, ok := s.get(kindParent, inodeRest(n))
	if !ok || len(b) != 8 {
		return 0, false
	}
	return inodeOf(b), true
}

// noteParents makes the parent index of a store that has none.
func (s *state) noteParents() {
	if s.counts.parents {
		return
	}
	s.counts.parents = true
	s.scan(kindEntry, nil, nil, func(rest, v []byte) bool {
		e, err := decodeEntryValue(v)
		s.check(err)
		if err == nil && len(rest) >= 8 && e.file.Generation == s.superblock().Generation {
			s.set(kindParent, inodeRest(e.file.Inode), append([]byte(nil), rest[:8]...))
		}
		return err == nil
	})
}

// granted is the record of an inode's grants, or nil.
func (s *state) granted(n blocktree.Inode) *grantsNote {
	return value(s, kindGranted, inodeRest(n), getGranted)
}

// denied is the refusal of somebody who lacks some of want on i. It says who took it away, to whom it was taken from.
func (s *state) denied(c *Caller, i *Inode, want Rights, now int64) Result {
	lacks := want &^ s.rights(c, i, now)
	r := refuse(blocktree.Permission, "%s has no right to %s", c, lacks)
	if l := s.takenBy(c, i); l.By != "" {
		r.Text += ": " + l.By.Short() + " has " + l.What + " at " + time.Unix(0, l.Time).UTC().Format(time.RFC3339)
	}
	return r.hinted("whoever has the right admin on it can give that: btnode grant PATH --to %s --rights %s", c, lacks)
}

// takenBy is the newest change of i's rights that may have taken one from c.
func (s *state) takenBy(c *Caller, i *Inode) (newest RightsChange) {
	if i = s.judgedBy(i); i == nil {
		return newest
	}
	s.upward(i.ID.Inode, func(n blocktree.Inode) bool {
		a := s.granted(n)
		if a == nil || a.last.By == "" || a.last.Time < newest.Time {
			return true
		}
		if a.last.Subject.covers(c) || a.last.Subject == (Subject{}) && n == i.ID.Inode {
			newest = a.last
		}
		return true
	})
	if up := s.above(); up != nil {
		for k := range up.Levels {
			if l := &up.Levels[k].Last; l.By != "" && l.Time >= newest.Time && l.Subject.covers(c) {
				newest = *l
			}
		}
	}
	return newest
}

// isHost reports whether c is a sector host of the cluster: at the path of its record, as credentials of the same key for another path are anybody's to
// issue who issues there, whatever was revoked here.
func (s *state) isHost(c *Caller) (host bool) {
	if c == nil || c.Anonymous() {
		return c == nil
	}
	each(s, kindRuntime, getRuntimePtr, func(r *blocktree.Runtime) {
		host = host || r.Principal == c.Principal && r.Path == c.Path && IsSectorHost(*r)
	})
	if host {
		_, host = s.believed(c.Path, c.Chain...)
	}
	return host
}

// mayHold reports whether c may hold a file: it has the rights for that, or is a sector host, which settles and copies up.
func (s *state) mayHold(c *Caller, i *Inode, now int64) bool {
	return s.may(c, i, RightsHold, now) || s.isHost(c)
}

// nameable reports whether c may be told what there is of i: it has some right on it, or may list its directory.
func (s *state) nameable(c *Caller, i *Inode, now int64) bool {
	if s.rights(c, i, now) != 0 {
		return true
	}
	if i = s.judgedBy(i); i == nil {
		return false
	}
	up, ok := s.parent(i.ID.Inode)
	if !ok {
		return false
	}
	dir := s.inode(blocktree.FileID{Generation: i.ID.Generation, Inode: up})
	return dir != nil && s.may(c, dir, RightList, now)
}
