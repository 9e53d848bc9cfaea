package cluster

import (
	"fmt"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/crypto/cred"
)

// stoppedClock never moves: no session expires.
type stoppedClock struct{}

func (stoppedClock) Now() time.Time      { return time.Unix(1, 0) }
func (stoppedClock) Boot() time.Duration { return time.Hour }

// unnamed is an operation that permit does not name, as one would be that was added without a thought of who may.
type unnamed struct{ meta.Op }

// proposer proposes and demands that it is done.
func proposer(t *testing.T, group *meta.Group) func(meta.Op) meta.Result {
	return func(op meta.Op) meta.Result {
		t.Helper()
		r, err := group.Propose(t.Context(), meta.Command{ID: meta.NewCommandID(), Op: op})
		if err == nil {
			err = r.Err("test")
		}
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

// permitsKeepers checks who keeps a directory, and who speaks as the keeper of one, where a session is holder's.
func permitsKeepers(t *testing.T, s *Service, session meta.SessionID, holder cred.Identity, others ...cred.Identity) {
	t.Helper()
	nobody := holder
	nobody.UID = 7
	if err := s.permit(t.Context(), nobody, meta.MakeDirKept{Session: session}); blocktree.KindOf(err) != blocktree.Unsupported {
		t.Errorf("a directory that is kept by any user: %v", err)
	}
	for _, from := range append(others, holder) { // as a keeper speaks who has the session, whatever it asks for; one that nobody knows keeps nothing
		for _, id := range []meta.SessionID{session, {9}} {
			command := meta.Command{Op: meta.MakeDir{}, Keeper: id}
			err := s.permitKeeper(t.Context(), from, &command)
			if id == session && (err == nil) != (from.Principal == holder.Principal) || id != session && err != nil || (command.Keeper == meta.SessionID{}) != (id != session) {
				t.Errorf("%s for session %v: %v, as %v", from.Path.Base(), id, err, command.Keeper)
			}
		}
	}
}

// TestPermit judges commands of a sector host, of the holder of a file, and of another runtime of the domain.
func TestPermit(t *testing.T) {
	root := blocktree.PrincipalOf([]byte("root"))
	who := func(name string) cred.Identity {
		return cred.Identity{Principal: blocktree.PrincipalOf([]byte(name)), Path: blocktree.RootPath(root).Join(name)}
	}
	host, holder, other := who("host"), who("holder"), who("other")
	runtime := blocktree.Runtime{Path: host.Path, Principal: host.Principal, Node: 1, Services: []string{blocktree.ServiceSector}}
	group, err := meta.Open(t.Context(), meta.Config{Dir: t.TempDir(), Node: 1, Founders: []blocktree.Runtime{runtime}, Send: func(blocktree.NodeID, []byte) {}, Clock: stoppedClock{}})
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	do := proposer(t, group)
	do(meta.Found{Dir: blocktree.RootPath(root), Generation: 1, Runtimes: []blocktree.Runtime{runtime}})
	do(meta.StartNode{Node: 1, Incarnation: blocktree.Incarnation{1}, StartCounter: 1})
	file := do(meta.CreateFile{Path: blocktree.RootPath(root).Join("f"), SizeBytes: 1 << 20, SectorBytes: 4096, Code: blocktree.Code{Data: 1}}).Inode.ID
	session := meta.NewSessionID()
	do(meta.OpenSession{Session: session, Principal: holder.Principal, Path: holder.Path})
	change := meta.ChangeView{Change: stripe.Change{File: file, Epoch: 1}}
	s := &Service{group: group, roster: newRoster([]blocktree.Runtime{{Principal: host.Principal, Node: 1}})}
	check := func(name string, op meta.Op, allowed ...cred.Identity) {
		t.Helper()
		for _, from := range []cred.Identity{host, holder, other} {
			want := false
			for _, a := range allowed {
				want = want || a.Principal == from.Principal
			}
			err := s.permit(t.Context(), from, op)
			if (err == nil) != want || err != nil && blocktree.KindOf(err) != blocktree.Permission {
				t.Errorf("%s by %s: %v", name, from.Path.Base(), err)
			}
		}
	}
	check("expiry", meta.ExpireSession{Session: session})
	check("end of a claim", meta.EndClaim{File: file, Session: session, Grant: true})
	check("found", meta.Found{}, host)
	check("process record", meta.PutRuntime{}, host)
	check("its removal", meta.RemoveRuntime{}, host)
	check("own start", meta.StartNode{Node: 1}, host)
	check("another's leave", meta.LeaveViews{StartNode: meta.StartNode{Node: 2}}) // and as little its start
	check("leave", meta.LeaveViews{StartNode: meta.StartNode{Node: 1}}, host)
	smaller := meta.Resize{File: file, Seq: 1, SizeBytes: 4096, Session: session, Epoch: 1}
	for _, op := range []meta.Op{smaller, meta.ResizeTree{Resize: smaller}, meta.AskShrink{File: file, Epoch: 1, SizeBytes: 4096, Session: session}, meta.AskShrinkTree{AskShrink: meta.AskShrink{File: file, Epoch: 1, SizeBytes: 4096, Session: session}}, meta.SetEnd{File: file, Session: session, Epoch: 1, Bytes: 1}} {
		check("what a holder says of its file", op, holder)
	}
	check("open", meta.OpenSession{Session: meta.NewSessionID(), Principal: other.Principal, Path: other.Path}, other)
	check("open at another's path", meta.OpenSession{Principal: other.Principal, Path: host.Path})
	check("renew", meta.RenewSession{Session: session}, holder)
	check("renew what nobody knows", meta.RenewSession{Session: meta.NewSessionID()}, host, holder, other)
	check("acquire", meta.Acquire{Session: session, File: file}, holder)
	check("claim", meta.ClaimLease{Session: session, File: file, Epoch: 1}, holder)
	check("close", meta.CloseSession{Session: session}, holder)
	permitsKeepers(t, s, session, holder, host, other)
	check("view of nobody's file", change)
	epoch := do(meta.Acquire{Session: session, File: file}).Lease.Epoch
	check("view", change, holder)
	for _, op := range []meta.Op{meta.MakeDirKept{Session: session}, meta.NoteAccess{Session: session, File: file, Heard: meta.Heard{Epoch: epoch}}, meta.Anchor{Session: session, File: file, Epoch: epoch, Number: 1, Record: []byte("record")}, meta.Release{Session: session, File: file, Epoch: epoch}, meta.ReleaseAt{Release: meta.Release{Session: session, File: file, Epoch: epoch}}, meta.ReleaseEnd{Release: meta.Release{Session: session, File: file, Epoch: epoch}}, meta.Touch{Session: session, File: file}} {
		check(fmt.Sprintf("%T", op), op, holder)
	}
	for _, op := range []meta.Op{meta.MakeDir{}, meta.CreateFile{}, meta.CreateFlushFile{}, meta.CreateTreeFile{}, meta.Remove{}, meta.SetAttr{}, meta.ReplaceHost{}, meta.RetireHost{},
		meta.PutGrant{}, meta.RemoveGrant{}, meta.SetAccess{}, meta.AskShrink{}, meta.AskShrinkTree{}, meta.Resize{File: file, Seq: 1, SizeBytes: 2 << 20}, meta.SetTimes{}, meta.Symlink{}, meta.SetXattr{}, meta.PutXattrs{}, meta.Want{}} {
		check("what is judged where it is applied", op, host, holder, other)
	}
	check("what permit does not know", unnamed{})
	check("a drain, which everybody may ask for", meta.DrainHost{}, host, holder, other)
	check("start with a volatile incarnation", meta.StartVolatile{StartNode: meta.StartNode{Node: 1}}, host)
	check("another's", meta.StartVolatile{StartNode: meta.StartNode{Node: 2}})
	do(meta.PutRuntime{Runtime: blocktree.Runtime{Path: other.Path, Principal: other.Principal, Node: 7, Services: []string{blocktree.ServiceSector}}})
	check("start of a store that the roster does not have yet", meta.StartNode{Node: 7}, other)
}

// TestPermitRevoke: user id 0, at and below its own path, at about the time that it is.
func TestPermitRevoke(t *testing.T) {
	root := blocktree.PrincipalOf([]byte("root"))
	at := blocktree.RootPath(root).Join("rack1")
	admin := cred.Identity{Principal: blocktree.PrincipalOf([]byte("admin")), Path: at}
	s := &Service{roster: newRoster(nil)}
	s.cfg.Clock = stoppedClock{}
	now := stoppedClock{}.Now().UnixNano()
	revocation := func(scope blocktree.Path, time int64) meta.RevokePrincipal {
		return meta.RevokePrincipal{Revocation: meta.Revocation{Principal: root, Scope: scope, Time: time, Until: time + 1}}
	}
	for name, x := range map[string]struct {
		from cred.Identity
		op   meta.RevokePrincipal
		kind blocktree.Kind
	}{
		"the admin":         {admin, revocation(at, now), blocktree.Other},
		"above it":          {admin, revocation(blocktree.RootPath(root), now), blocktree.Permission},
		"beside it":         {admin, revocation(blocktree.RootPath(root).Join("rack2"), now), blocktree.Permission},
		"another user":      {cred.Identity{Principal: admin.Principal, Path: at, UID: 1000}, revocation(at, now), blocktree.Permission},
		"nobody":            {cred.Identity{}, revocation("", now), blocktree.Permission},
		"long ago":          {admin, revocation(at, now-int64(revokeSkew)-1), blocktree.Invalid},
		"in the far future": {admin, revocation(at, now+int64(revokeSkew)+1), blocktree.Invalid},
	} {
		if err := s.permit(t.Context(), x.from, x.op); (err != nil) != (x.kind != blocktree.Other) || err != nil && blocktree.KindOf(err) != x.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPermitDelegate: a directory gets no cluster while that of one beneath is being founded, whose names would be nobody's else: they do not go with what is above them.
func TestPermitDelegate(t *testing.T) {
	root := blocktree.RootPath(blocktree.PrincipalOf([]byte("root")))
	runtime := func(name string, dir blocktree.Path, n blocktree.NodeID) blocktree.Runtime {
		return blocktree.Runtime{Path: dir.Join(name), Principal: blocktree.PrincipalOf([]byte(name)), Node: n, Endpoints: []string{"10.0.0.1:1"}, Services: []string{blocktree.ServiceSector}}
	}
	rack := root.Join("rack")
	sub := rack.Join("sub")
	first, above, beneath := runtime("first", root, 1), runtime("above", rack, 2), runtime("beneath", sub, 3)
	group, err := meta.Open(t.Context(), meta.Config{Dir: t.TempDir(), Node: 1, Founders: []blocktree.Runtime{first}, Send: func(blocktree.NodeID, []byte) {}, Clock: stoppedClock{}})
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
	do := proposer(t, group)
	do(meta.Found{Dir: root, Generation: 1, Runtimes: []blocktree.Runtime{first}})
	do(meta.MakeDir{Path: sub, Parents: true, Mode: 0o755})
	do(meta.PutBelow{Runtime: above})
	do(meta.PutBelow{Runtime: beneath})
	s := &Service{group: group, roster: newRoster([]blocktree.Runtime{first})}
	from := cred.Identity{Principal: above.Principal, Path: above.Path, Services: above.Services}
	outer := meta.Delegate{Dir: rack, Generation: do(meta.AssignGeneration{Dir: rack, Founder: above.Node}).Generation, Founder: above.Node}
	inner := meta.Delegate{Dir: sub, Generation: do(meta.AssignGeneration{Dir: sub, Founder: beneath.Node}).Generation, Founder: beneath.Node}
	if err := s.permit(t.Context(), from, outer); err != nil {
		t.Error(err)
	}
	do(inner)
	if err := s.permit(t.Context(), from, outer); blocktree.KindOf(err) != blocktree.Busy || blocktree.HintOf(err) == "" {
		t.Errorf("while the one beneath is founded: %v", err)
	}
	if err := s.permit(t.Context(), from, inner); err != nil { // said again
		t.Error(err)
	}
	do(meta.TakeBack{Dir: sub, Generation: inner.Generation})
	if err := s.permit(t.Context(), from, outer); err != nil {
		t.Errorf("taken back: %v", err)
	}
}
