package cluster

import (
	"encoding/binary"
	"strconv"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/crypto/cred"
)

// revocation is that of principal number n below the root, until a time.
func revocation(n int, until time.Time) meta.Revocation {
	var p blocktree.Principal
	p[0] = 'e'
	binary.BigEndian.PutUint32(p[1:], uint32(n+1))
	return meta.Revocation{Principal: p, Scope: blocktree.RootPath(blocktree.Principal{1}), Time: 1, Until: until.UnixNano()}
}

// refused counts whom of many r refuses.
func (r *revoked) refused(first, count int) (n int) {
	for i := first; i < first+count; i++ {
		p := revocation(i, time.Time{}).Principal
		if r.refuses(cred.Identity{Principal: p, Path: blocktree.RootPath(blocktree.Principal{1}).Join("a"), Chain: []blocktree.Principal{p}}) != nil {
			n++
		}
	}
	return n
}

// A node forgets what the cluster forgets, and nothing else, however many revocations it sees in its life; a later end counts.
func TestRevokedIsBounded(t *testing.T) {
	var r revoked
	now := time.Unix(1e9, 0)
	long := now.Add(1000 * time.Hour)
	r.add([]meta.Revocation{revocation(0, now)}, now, false)
	if r.add([]meta.Revocation{revocation(0, long)}, now, false) {
		t.Error("a later end is news")
	}
	for i := 1; i < meta.RevokedMax; i++ {
		if !r.add([]meta.Revocation{revocation(i, now)}, now, false) {
			t.Fatal("no news")
		}
	}
	if n := r.refused(0, meta.RevokedMax); n != meta.RevokedMax {
		t.Fatalf("%d are refused", n)
	}
	now = now.Add(meta.RevokedAfter + time.Second)
	const more = 100
	for i := range more {
		r.add([]meta.Revocation{revocation(meta.RevokedMax+i, long)}, now, false)
	}
	if n := r.refused(0, 1) + r.refused(meta.RevokedMax, more); n != 1+more || r.count != n || len(r.by) != n {
		t.Errorf("%d are refused that have not ended, %d are kept, of %d", n, r.count, len(r.by))
	}
}

// The clock of this node may be behind that by which the cluster has forgotten.
func TestRevokedBehind(t *testing.T) {
	var r revoked
	now := time.Unix(1e9, 0)
	for i := range meta.RevokedMax {
		r.add([]meta.Revocation{revocation(i, now)}, now, false)
	}
	x := revocation(meta.RevokedMax, now.Add(1000*time.Hour))
	x.Time = now.Add(meta.RevokedAfter + time.Second).UnixNano()
	if r.add([]meta.Revocation{x}, now, false); r.count != 1 || r.refused(meta.RevokedMax, 1) != 1 {
		t.Errorf("%d are kept", r.count)
	}
}

// A client that is told other revocations each time keeps no more than a cluster has; what it is told last counts.
func TestRevokedOfLiars(t *testing.T) {
	var r revoked
	now := time.Unix(1e9, 0)
	list := func(first, count int) (all []meta.Revocation) {
		for i := range count {
			all = append(all, revocation(first+i, now.Add(time.Hour)))
		}
		return all
	}
	const few = 10
	r.add(list(0, few), now, true)
	r.add(nil, now, true)
	if n := r.refused(0, few); n != few {
		t.Errorf("told of none, %d are refused", n)
	}
	r.add(list(few, meta.RevokedMax), now, true)
	if r.count != meta.RevokedMax || len(r.by) != meta.RevokedMax {
		t.Errorf("%d are kept, of %d", r.count, len(r.by))
	}
	if !r.add(list(0, few), now, true) || r.refused(0, few) != few {
		t.Error("what was told last is not refused")
	}
}

// TestRevokedOfSeveral: who one cluster has revoked is refused, however many another tells of; and of clusters that were met long ago not all is kept.
func TestRevokedOfSeveral(t *testing.T) {
	root := blocktree.Principal{1}
	tr := lostTree(t, root, blocktree.RootPath(root))
	now := time.Unix(1e9, 0)
	tr.revokedOf(tr.first.cfg.Scope).add([]meta.Revocation{revocation(0, now.Add(time.Hour))}, now, true)
	var many []meta.Revocation
	for i := range meta.RevokedMax {
		many = append(many, revocation(1+i, now.Add(time.Hour)))
	}
	tr.revokedOf(blocktree.RootPath(root).Join("liar")).add(many, now, true)
	refused := func(n int) bool {
		p := revocation(n, now).Principal
		return tr.refuses(cred.Identity{Principal: p, Path: blocktree.RootPath(root).Join("a"), Chain: []blocktree.Principal{p}}) != nil
	}
	if !refused(0) || !refused(1) || !refused(meta.RevokedMax) || refused(meta.RevokedMax+1) {
		t.Error("what one cluster tells has another's forgotten")
	}
	for i := range 3 * treeClustersMax {
		tr.revokedOf(blocktree.RootPath(root).Join(strconv.Itoa(i)))
	}
	if len(tr.revoked) > treeClustersMax || !refused(0) {
		t.Errorf("%d sets are kept", len(tr.revoked))
	}
}
