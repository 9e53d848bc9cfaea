package meta

import (
	"testing"
	"time"

	"blocktree"
)

// claimRows are of claims.
func claimRows() []opRow {
	held := then(oneFile(), open(1), open(2), open(3), Acquire{session(1), fileID(2)})
	claim := ClaimLease{session(2), fileID(2), 1}
	claimed := then(held, claim)
	return []opRow{
		{"claim", held, claim, 0, ""},
		{"claim again", claimed, claim, 0, ""},
		{"claim another's claim", claimed, ClaimLease{session(3), fileID(2), 1}, blocktree.Busy, "/client2"},
		{"claim of a closed claimant", then(claimed, CloseSession{session(2)}), ClaimLease{session(3), fileID(2), 1}, 0, ""},
		{"claim what is free", then(held, Release{session(1), fileID(2), 1}), claim, blocktree.Fenced, ""},
		{"claim one's own", held, ClaimLease{session(1), fileID(2), 1}, blocktree.Fenced, ""},
		{"claim a later epoch", then(held, Acquire{session(1), fileID(2)}), claim, blocktree.Fenced, "epoch 1"},
		{"claim without session", held, ClaimLease{session(9), fileID(2), 1}, blocktree.NotFound, "session"},
		{"claim nothing", held, ClaimLease{session(2), fileID(9), 1}, blocktree.Fenced, ""},
		{"end no claim", held, EndClaim{fileID(2), 1, session(2), ^uint64(0), true}, blocktree.NotFound, ""},
		{"end another's claim", claimed, EndClaim{fileID(2), 1, session(3), ^uint64(0), true}, blocktree.NotFound, ""},
		{"end a claim of another epoch", claimed, EndClaim{fileID(2), 2, session(2), ^uint64(0), true}, blocktree.NotFound, ""},
		{"end an earlier claim", claimed, EndClaim{fileID(2), 1, session(2), 1, true}, blocktree.NotFound, ""},
		{"lapse of a repeated claim", claimed, EndClaim{fileID(2), 1, session(2), ^uint64(0), false}, blocktree.Busy, "repeated"},
		{"grant", claimed, EndClaim{fileID(2), 1, session(2), ^uint64(0), true}, 0, ""},
		{"grant to a closed session", then(claimed, CloseSession{session(2)}), EndClaim{fileID(2), 1, session(2), ^uint64(0), true}, blocktree.NotFound, ""},
		{"acquire what is claimed", claimed, Acquire{session(3), fileID(2)}, blocktree.Busy, "/client1"},
		{"release what is claimed", claimed, Release{session(1), fileID(2), 1}, 0, ""},
	}
}

// claimWorld is one member with two files of one holder; the clock stands still.
func claimWorld(t *testing.T, members int) *world {
	t.Helper()
	w := newWorld(t)
	w.frozen.Store(true)
	w.found(members)
	w.must(file("/f"))
	w.must(file("/g"))
	w.must(open(1))
	w.must(open(2))
	w.must(Acquire{session(1), fileID(1)})
	w.must(Acquire{session(1), fileID(2)})
	return w
}

// holds reports whether session i has file f under an epoch.
func (w *world) holds(i int, f blocktree.FileID, e blocktree.Epoch) bool {
	a, err := w.sync(w.leader()).Answer(w.t.Context(), Query{Kind: QueryLease, File: f})
	return err == nil && a.Lease != nil && a.Lease.Session == session(i) && a.Lease.Epoch == e
}

// repeat lets time pass in steps shorter than ClaimTerm, at each of which both renew and the claim is repeated.
func (w *world) repeat(total time.Duration, claim ClaimLease) {
	w.t.Helper()
	const step = 500 * time.Millisecond
	for ; total > 0; total -= step {
		w.clock.add(min(step, total))
		w.pass(5)
		w.must(RenewSession{session(1)})
		w.must(RenewSession{session(2)})
		if r := w.do(claim); r.Kind != blocktree.Other {
			w.t.Fatalf("%+v", r.Err("claim"))
		}
	}
}

// T1: a claimed lease is its claimant's a term after the claim, to the tick, though its holder renews; under the next epoch.
func TestClaimTakesATerm(t *testing.T) {
	w := claimWorld(t, 1)
	claim := ClaimLease{session(2), fileID(1), 1}
	if r := w.must(claim); r.HolderQuiet != 0 || r.Lease.Holder != path("/client1") || r.Lease.Claimant != path("/client2") {
		t.Fatalf("%+v", r)
	}
	w.clock.add(time.Second)
	if r := w.must(claim); r.HolderQuiet != time.Second {
		t.Fatalf("claimed for %v", r.HolderQuiet)
	}
	w.repeat(blocktree.LeaseTerm-time.Second-1, claim)
	w.pass(5)
	if !w.holds(1, fileID(1), 1) {
		t.Fatal("granted before a term had passed")
	}
	w.clock.add(1)
	w.pass(5)
	if !w.holds(1, fileID(1), 1) {
		t.Fatal("granted to one who does not ask any more")
	}
	w.must(claim)
	w.eventually("the grant", func() bool { return w.holds(2, fileID(1), 2) })
	if !w.holds(1, fileID(2), 1) {
		t.Fatal("the holder's other file went too")
	}
	if r := w.must(Acquire{session(2), fileID(1)}); r.Lease.Epoch != 3 { // how the claimant gets its layout
		t.Fatalf("%+v", r.Lease)
	}
	if r := w.do(Release{session(1), fileID(1), 1}); r.Kind != blocktree.Fenced {
		t.Fatal(r.Kind)
	}
}

// T1: a new leader counts from when it leads.
func TestClaimOutlivesLeader(t *testing.T) {
	w := claimWorld(t, 3)
	claim := ClaimLease{session(2), fileID(1), 1}
	w.must(claim)
	w.repeat(blocktree.LeaseTerm*4/5, claim)
	for _, id := range w.ids() {
		w.sync(id)
	}
	w.kill(w.leader())
	w.sync(w.leader())
	w.repeat(blocktree.LeaseTerm*4/5, claim)
	if !w.holds(1, fileID(1), 1) {
		t.Fatal("a new leader went on counting where the old one stopped")
	}
	w.clock.add(blocktree.LeaseTerm / 5)
	w.must(claim)
	w.eventually("the grant", func() bool { return w.holds(2, fileID(1), 2) })
}

// T2, T5: a claim that nobody repeats lapses within ClaimTerm; the lease is firm again, and another claim has a full term.
func TestClaimLapses(t *testing.T) {
	w := claimWorld(t, 1)
	claim := ClaimLease{session(2), fileID(1), 1}
	w.must(claim)
	if r := w.must(RenewSession{session(1)}); !r.Claimed || len(r.Firm) != 1 || r.Firm[0] != (FirmLease{fileID(2), 1}) {
		t.Fatalf("while it is claimed: %+v", r)
	}
	w.clock.add(blocktree.ClaimTerm)
	w.eventually("the lapse", func() bool {
		r := w.must(RenewSession{session(1)})
		return r.Claimed && len(r.Firm) == 2
	})
	w.must(RenewSession{session(2)})
	w.clock.add(blocktree.LeaseTerm - blocktree.ClaimTerm)
	w.must(claim)
	w.pass(5)
	if !w.holds(1, fileID(1), 1) {
		t.Fatal("the time of the claim that lapsed counted")
	}
}

// T2: no answer to a renewal confirms a lease that is claimed or was taken; before any claim it says that all are confirmed.
func TestClaimedIsNotFirm(t *testing.T) {
	m := founded(t, 3)
	for _, o := range then(oneFile(), open(1), open(2), Acquire{session(1), fileID(2)}) {
		m.must(o)
	}
	if r := m.must(RenewSession{session(1)}); r.Claimed || r.Firm != nil {
		t.Fatalf("before any claim: %+v", r)
	}
	m.must(ClaimLease{session(2), fileID(2), 1})
	for _, o := range []Op{RenewSession{session(1)}, open(1)} {
		if r := m.must(o); !r.Claimed || len(r.Firm) != 0 {
			t.Fatalf("%T while it is claimed: %+v", o, r)
		}
	}
	m.must(EndClaim{fileID(2), 1, session(2), ^uint64(0), true})
	if r := m.must(RenewSession{session(1)}); !r.Claimed || len(r.Firm) != 0 {
		t.Fatalf("after it was taken: %+v", r)
	}
	if r := m.must(RenewSession{session(2)}); r.Claimed {
		t.Fatalf("the claimant's: %+v", r)
	}
	if r := m.must(Acquire{session(2), fileID(2)}); r.Lease.Epoch != 3 || r.Session.Leases != 1 {
		t.Fatalf("%+v", r)
	}
	if x := m.view().session(session(1)); x.Leases != 0 {
		t.Fatalf("%+v", x)
	}
}

// T2: whatever else the session holds, or gets later, is confirmed.
func TestClaimSparesOthers(t *testing.T) {
	m := founded(t, 3)
	for _, o := range []Op{file("/f"), file("/g"), open(1), open(2), Acquire{session(1), fileID(1)}, Acquire{session(1), fileID(2)},
		ClaimLease{session(2), fileID(1), 1}} {
		m.must(o)
	}
	if r := m.must(RenewSession{session(1)}); len(r.Firm) != 1 || r.Firm[0] != (FirmLease{fileID(2), 1}) {
		t.Fatalf("%+v", r.Firm)
	}
	m.must(Acquire{session(1), fileID(1)}) // opened anew: the claim was on the lease before
	if r := m.must(RenewSession{session(1)}); len(r.Firm) != 2 || r.Firm[0] != (FirmLease{fileID(1), 2}) {
		t.Fatalf("%+v", r.Firm)
	}
	if r := m.do(EndClaim{fileID(1), 1, session(2), ^uint64(0), true}); r.Kind != blocktree.NotFound {
		t.Fatal(r.Kind)
	}
}

// A copy of a claim that comes ten seconds late claims nothing.
func TestLateClaim(t *testing.T) {
	m := founded(t, 3)
	late := NewCommandID()
	for _, o := range then(oneFile(), open(1), Acquire{session(1), fileID(2)}, open(2)) {
		m.must(o)
	}
	clear(late[:8])
	if r := m.command(Command{ID: late, Op: ClaimLease{session(2), fileID(2), 1}}); r.Kind != blocktree.Busy || r.Lease.Claimant != "" {
		t.Fatalf("%+v", r)
	}
}

// T2: a late copy of a session's opening does not bring it back without what was noted of its claims: else the next renewal would
// confirm to its client what another has by now.
func TestLateOpeningOpensNothing(t *testing.T) {
	m := founded(t, 3)
	m.must(file("/f"))
	opening := Command{ID: NewCommandID(), Op: open(1)}
	for range 2 { // again at once, as one does that heard no answer
		if r := m.command(opening); r.Kind != blocktree.Other || r.Session == nil || r.Session.ID != session(1) {
			t.Fatalf("%+v", r)
		}
	}
	for _, o := range []Op{open(2), Acquire{session(1), fileID(1)}, ClaimLease{session(2), fileID(1), 1},
		EndClaim{fileID(1), 1, session(2), ^uint64(0), true}} {
		m.must(o)
	}
	m.must(ExpireSession{session(1), m.view().session(session(1)).Renewals})
	m.command(opening)
	if r := m.do(RenewSession{session(1)}); r.Kind != blocktree.NotFound {
		t.Fatalf("%v: it says that all leases of the session are confirmed: %v", r.Kind, !r.Claimed)
	}
}

// What follows from a failed read is not looked at: the member stops with that error, not with a panic.
func TestClaimAfterFailedRead(t *testing.T) {
	m := founded(t, 1)
	s := m.view()
	s.check(blocktree.E("meta: read", blocktree.IO, nil))
	g := &Group{log: discard, claims: map[blocktree.FileID]*claimClock{}, cfg: Config{Clock: new(fakeClock)}}
	for _, o := range []Op{ClaimLease{session(2), fileID(1), 1}, EndClaim{fileID(1), 1, session(2), 1, true}} {
		data, err := EncodeCommand(nil, Command{ID: NewCommandID(), Op: o})
		if err != nil {
			t.Fatal(err)
		}
		g.noteClaim(s, data, &Result{})
	}
}
