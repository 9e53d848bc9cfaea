package meta

import "blocktree"

// unkeyed answers QueryUnkeyed: the nearest directory, at a path or above, that has an access record, or of which the caller is not told whether it has one. It is where to look; none is empty, and above the cluster's own directory that is another's to say.
func (s *state) unkeyed(q *Query) (blocktree.Path, Result) {
	sb := s.superblock()
	if sb == nil {
		return "", refuse(blocktree.Unavailable, "the cluster is not founded yet")
	}
	if _, r := s.stat(q.Path); r.Redirect != nil {
		return "", r
	}
	for p := q.Path; p.Within(sb.Dir); p = p.Parent() {
		i, r := s.stat(p)
		switch {
		case r.Kind == blocktree.NotFound || r.Kind == blocktree.Invalid:
		case r.Kind != blocktree.Other:
			return p, Result{}
		case i.Kind != KindDir:
		case len(i.Access) > 0 || s.rights(q.Caller, i, q.Time)&rightsRecord(i) == 0:
			return p, Result{}
		}
		if p == sb.Dir {
			break
		}
	}
	if sb.Dir == blocktree.RootPath(sb.Dir.Root()) {
		return "", Result{}
	}
	return sb.Dir.Parent(), Result{}
}
