package meta

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"blocktree"

	"github.com/cockroachdb/pebble/v2"
)

// someone is the principal number i, ascending.
func someone(i int) (p blocktree.Principal) {
	p[0] = 'e'
	binary.BigEndian.PutUint32(p[1:], uint32(i+1))
	return p
}

func revoke(i int, now, until time.Duration) RevokePrincipal {
	return RevokePrincipal{Revocation: Revocation{Principal: someone(i), Scope: blocktree.RootPath(rootID), Time: int64(now), Until: int64(until)}}
}

// A revoked principal is refused from then on; a second word about it does not end it sooner.
func TestRevokePrincipal(t *testing.T) {
	m := founded(t, 1)
	m.must(revoke(1, 10, 100))
	if got := m.last.Revoked; len(got) != 1 || got[0].Principal != someone(1) || m.last.Empty() {
		t.Errorf("changes %+v", m.last)
	}
	m.must(revoke(1, 20, 50))
	m.must(revoke(1, 30, 200))
	want := Revocation{Principal: someone(1), Scope: blocktree.RootPath(rootID), Time: 10, Until: 200}
	if got, _, _ := m.view().revokedAfter("", 0); len(got) != 1 || got[0] != want {
		t.Errorf("%+v", got)
	}
	below := revoke(5, 10, 100)
	below.Scope = path("/rack1")
	m.must(below)
	for short, want := range map[string]bool{"/rack1": false, "/rack1/a": false, "/rack10": true, "/": true, "/rack2/a": true} {
		if _, ok := m.view().believed(blocktree.Path(strings.TrimSuffix(string(path(short)), "/")), someone(4), someone(5)); ok != want {
			t.Errorf("revoked at /rack1, believed at %s: %v", short, ok)
		}
		if below.Covers(blocktree.Path(strings.TrimSuffix(string(path(short)), "/")), []blocktree.Principal{someone(4), someone(5)}) == want {
			t.Errorf("Covers at %s differs", short)
		}
	}
	if r := m.do(RevokePrincipal{Revocation{Principal: rootID, Scope: blocktree.RootPath(rootID), Until: 9}}); r.Kind != blocktree.Invalid {
		t.Errorf("the root principal: %v", r.Kind)
	}
	for name, o := range map[string]RevokePrincipal{"nobody": {Revocation{Scope: blocktree.RootPath(rootID), Until: 9}}, "nowhere": {Revocation{Principal: someone(2), Until: 9}}, "over": revoke(2, 10, 10)} {
		if r := m.do(o); r.Kind != blocktree.Invalid {
			t.Errorf("%s: %v", name, r.Kind)
		}
	}
	if _, ok := m.view().believed(path("/a"), someone(2), someone(3)); !ok {
		t.Error("somebody else is revoked too")
	}
	if r, ok := m.view().believed(path("/a"), someone(2), someone(1)); ok || r.Kind != blocktree.Unauthenticated || r.Hint == "" {
		t.Errorf("any of a chain: %+v", r)
	}
}

// The session of a revoked principal is neither opened nor renewed, nor takes it leases; it holds what it holds until it expires.
func TestRevokedSession(t *testing.T) {
	m := founded(t, 1)
	m.must(file("/f"))
	m.must(file("/g"))
	m.must(OpenSession{session(1), someone(1), path("/a")})
	m.must(OpenSession{session(2), someone(2), path("/b")})
	m.must(Acquire{session(1), fileID(1)})
	m.must(revoke(1, 10, 100))
	for _, o := range []Op{RenewSession{session(1)}, OpenSession{session(1), someone(1), path("/a")}, OpenSession{session(3), someone(1), path("/a")},
		Acquire{session(1), fileID(2)}, ClaimLease{session(1), fileID(1), 1}} {
		if r := m.do(o); r.Kind != blocktree.Unauthenticated {
			t.Errorf("%T: %v", o, r.Kind)
		}
	}
	if r := m.do(Acquire{session(2), fileID(1)}); r.Kind != blocktree.Busy {
		t.Errorf("its lease is free before its term is over: %v", r.Kind)
	}
	m.must(RenewSession{session(2)})
	m.must(ExpireSession{session(1), 0})
	if r := m.must(Acquire{session(2), fileID(1)}); r.Lease.Epoch != 2 {
		t.Errorf("%+v", r.Lease)
	}
}

// They are bounded; those that ended long ago make room; and they are listed in pages.
func TestRevokedBounds(t *testing.T) {
	m := founded(t, 1)
	batch := m.db.NewIndexedBatch() // one command each takes long: every one looks at all
	filled := openState(batch, batch, spaceA)
	for i := range RevokedMax {
		until := 100 * 24 * time.Hour
		if i == 7 {
			until = time.Hour
		}
		o := revoke(i, 1, until)
		store(filled, kindRevoked, revokedRest(o.Principal, o.Scope), &o.Revocation, putRevocation)
	}
	if err := batch.Commit(pebble.NoSync); err != nil || filled.err != nil {
		t.Fatal(err, filled.err)
	}
	if r := m.do(revoke(RevokedMax, time.Hour+RevokedAfter, 200*24*time.Hour)); r.Kind != blocktree.NoSpace || r.Hint == "" {
		t.Fatalf("over the bound: %+v", r)
	}
	below := revoke(RevokedMax, time.Hour+RevokedAfter+1, 200*24*time.Hour)
	below.Scope = path("/rack1")
	if r := m.do(below); r.Kind != blocktree.NoSpace {
		t.Errorf("below the root directory, where the last quarter is not for: %v", r.Kind)
	}
	m.must(revoke(3, 2, 300*24*time.Hour)) // one of them
	m.must(revoke(RevokedMax, time.Hour+RevokedAfter+1, 200*24*time.Hour))
	s, seen, after := m.view(), 0, ""
	for {
		page, more, r := s.revokedAfter(after, 0)
		if r.Kind != blocktree.Other || len(page) == 0 || len(page) > RevokedPageMax {
			t.Fatalf("%d, %+v", len(page), r)
		}
		for _, x := range page {
			if x.Principal == someone(7) {
				t.Error("what has ended is kept")
			}
		}
		seen += len(page)
		if !more {
			break
		}
		after = strconv.Itoa(seen)
	}
	if seen != RevokedMax {
		t.Errorf("%d of %d", seen, RevokedMax)
	}
	if _, _, r := s.revokedAfter("x", 0); r.Kind != blocktree.Invalid {
		t.Error(r.Kind)
	}
}

// TestRevokedCaller: whoever has a revoked principal in its chain may nothing any more, user id 0 or not, also in a command that a node took before it had heard of it.
func TestRevokedCaller(t *testing.T) {
	m := granted(t, 0o777, 0o666)
	for _, uid := range []uint32{0, 9} {
		c := somebody(uid, uid)
		c.Chain = []blocktree.Principal{someone(40 + int(uid)), c.Principal}
		m.mustAs(c, MakeDir{Path: path(fmt.Sprintf("/d/of%d", uid)), Mode: 0o755})
		before := m.view().counts.rights
		m.must(revoke(40+int(uid), 10, 100))
		if got := m.view().counts.rights; got != before+1 {
			t.Errorf("rights number %d after %d", got, before)
		}
		for _, o := range []Op{MakeDir{Path: path("/d/again"), Mode: 0o755}, Remove{Path: path("/d/e/f")}, SetAttr{File: fileID(3), Mask: AttrModified},
			DrainHost{Path: path("/node1"), Node: 1}, PutGrant{fileID(3), grantTo(c, RightRead)}} {
			if r := m.as(c, 3, o); r.Kind != blocktree.Unauthenticated || r.Hint == "" {
				t.Errorf("user %d, %T: %v", uid, o, r.Kind)
			}
		}
		if r := m.view().rights(c, m.view().inode(fileID(3)), 3); r != 0 {
			t.Errorf("user %d may still %v", uid, r)
		}
	}
}
