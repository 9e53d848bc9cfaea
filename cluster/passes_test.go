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

// movedClock is a clock that the test moves.
type movedClock struct{ at time.Duration }

func (c *movedClock) Now() time.Time      { return time.Unix(1000, 0).Add(c.at) }
func (c *movedClock) Boot() time.Duration { return time.Hour + c.at }

// passBed is a group of one node with a file of 7:70 and mode 0640, and passes that follow it.
type passBed struct {
	*passes
	holders *holders
	clock   *movedClock
	file    blocktree.FileID
	do      func(meta.Op) meta.Result
	who     cred.Identity
	conn    *connPasses
}

func newPassBed(t testing.TB) *passBed {
	root, node := blocktree.PrincipalOf([]byte("root")), blocktree.PrincipalOf([]byte("node"))
	dir := blocktree.RootPath(root)
	runtime := blocktree.Runtime{Path: dir.Join("node1"), Principal: node, Node: 1, Services: []string{blocktree.ServiceSector}}
	b := &passBed{clock: &movedClock{}, conn: newConnPasses().(*connPasses)}
	b.passes = &passes{clock: b.clock}
	b.holders, b.do = judgeBedWith(t, runtime, b.passes.applied)
	b.passes.group = b.holders.group
	b.do(meta.Found{Dir: dir, Generation: 1, Runtimes: []blocktree.Runtime{runtime}, Mode: 0o755})
	b.do(meta.StartNode{Node: 1, Incarnation: blocktree.Incarnation{1}, StartCounter: 1})
	b.file = b.do(meta.CreateFile{Path: dir.Join("f"), SizeBytes: 1 << 20, SectorBytes: 4096, Code: blocktree.Code{Data: 1}, Suite: 2, Mode: 0o640, UID: 7, GID: 70}).Inode.ID
	b.who = cred.Identity{Principal: blocktree.PrincipalOf([]byte("user")), Path: dir.Join("user"), UID: 8, GID: 8}
	b.tick()
	return b
}

// grant gives the bed's user rights until a time, 0: for ever.
func (b *passBed) grant(r meta.Rights, until int64) {
	b.do(meta.PutGrant{File: b.file, Grant: meta.Grant{Subject: meta.Subject{Principal: b.who.Principal}, Rights: r, Until: until}})
}

// TestPasses: a pass is made of what is applied, and is of use until it is old, any right has changed, or a grant ends.
func TestPasses(t *testing.T) {
	b := newPassBed(t)
	find := func(what string, want meta.Rights, ok, refused bool) {
		t.Helper()
		if got, refusal := b.find(b.conn, &b.who, b.file, want); got != ok || (refusal != nil) != refused {
			t.Errorf("%s: found %v, %v", what, got, refusal)
		}
	}
	judge := func(what string, want meta.Rights, final, ok, refused bool) {
		t.Helper()
		if got, refusal := b.make(b.conn, b.who, b.file, want, final); got != ok || (refusal != nil) != refused {
			t.Errorf("%s: judged %v, %v", what, got, refusal)
		}
	}
	find("at first", meta.RightRead, false, false)
	judge("without a grant", meta.RightRead, false, false, false)
	find("a refusal that may be old is not kept", meta.RightRead, false, false)
	judge("without a grant, for good", meta.RightRead, true, false, true)
	find("a refusal", meta.RightRead, false, true)
	b.grant(meta.RightRead, 0)
	find("after a change", meta.RightRead, false, false)
	judge("granted", meta.RightRead, false, true, false)
	find("granted", meta.RightRead, true, false)
	find("another right", meta.RightsHold, false, false)
	judge("another right", meta.RightsHold, true, false, true)
	find("what is refused beside what is not", meta.RightRead, true, false)
	b.clock.at += blocktree.PassTerm
	find("before the tick", meta.RightRead, true, false)
	b.tick()
	find("an old pass", meta.RightRead, false, false)
	judge("again", meta.RightRead, false, true, false)
	b.do(meta.RemoveGrant{File: b.file, Subject: meta.Subject{Principal: b.who.Principal}})
	find("revoked", meta.RightRead, false, false)
	judge("revoked", meta.RightRead, true, false, true)
	b.grant(meta.RightRead, b.clock.Now().Add(3*time.Second).UnixNano())
	judge("granted for a while", meta.RightRead, true, true, false)
	b.clock.at += 3*time.Second - 1
	b.tick()
	find("before the end of the grant", meta.RightRead, true, false)
	b.clock.at++
	b.tick()
	find("at the end of the grant", meta.RightRead, false, false)
	judge("at the end of the grant", meta.RightRead, true, false, true)
	b.grant(meta.RightRead, 0)
	judge("granted once more", meta.RightRead, true, true, false)
	for what, change := range map[string]func(){"user": func() { b.who.UID++ }, "group": func() { b.who.GID++ }, "groups": func() { b.who.Groups = []uint32{70} }} {
		change()
		find("credentials of another "+what, meta.RightRead, false, false)
		judge("credentials of another "+what, meta.RightRead, true, true, false)
		find("credentials of another "+what+", judged", meta.RightRead, true, false)
	}
	if ok, refusal := b.make(b.conn, b.who, blocktree.FileID{Generation: 1, Inode: 99}, meta.RightRead, true); !ok || refusal != nil {
		t.Errorf("of a file that is not there the member speaks: %v", refusal)
	}
}

// TestPassesAreBounded: as many files as one connection names, no more is kept than PassesPerConnectionMax.
func TestPassesAreBounded(t *testing.T) {
	b := newPassBed(t)
	for i := range blocktree.PassesPerConnectionMax {
		b.conn.of[blocktree.FileID{Generation: 9, Inode: blocktree.Inode(i)}] = pass{}
	}
	b.grant(meta.RightRead, 0)
	if ok, _ := b.make(b.conn, b.who, b.file, meta.RightRead, true); !ok || len(b.conn.of) != blocktree.PassesPerConnectionMax {
		t.Errorf("%v, %d passes", ok, len(b.conn.of))
	}
	if ok, _ := b.find(b.conn, &b.who, b.file, meta.RightRead); !ok {
		t.Error("the newest is not kept")
	}
}

// TestCutOff: without a leader for PassTerm a node knows that it may have missed a revocation.
func TestCutOff(t *testing.T) {
	b := newPassBed(t)
	if b.cutOff() {
		t.Error("it leads itself")
	}
	b.now.Store(b.led.Load() + int64(blocktree.PassTerm))
	if b.cutOff() {
		t.Error("within the term")
	}
	b.now.Add(1)
	if !b.cutOff() {
		t.Error("after the term")
	}
}

// TestWanted: whoever is no sector host needs more than read for all but reads.
func TestWanted(t *testing.T) {
	for kind := stripe.KindPrepare; kind <= stripe.KindSync; kind++ {
		want := meta.RightsHold
		if kind == stripe.KindRead || kind == stripe.KindLearn {
			want = meta.RightRead
		}
		if got := wanted(&stripe.Message{Kind: kind}); got != want {
			t.Errorf("kind %d: %v", kind, got)
		}
	}
}

// TestAdmitAllocatesNothing: a message under a pass costs no memory.
func TestAdmitAllocatesNothing(t *testing.T) {
	b := newPassBed(t)
	b.grant(meta.RightsHold, 0)
	if ok, _ := b.make(b.conn, b.who, b.file, meta.RightsHold, true); !ok {
		t.Fatal("no pass")
	}
	if n := testing.AllocsPerRun(1000, func() {
		if ok, _ := b.find(b.conn, &b.who, b.file, meta.RightsHold); !ok {
			t.Fatal("not found")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkAdmit is what judging a message costs: by the lease alone, as before there were rights, and by lease and pass.
func BenchmarkAdmit(b *testing.B) {
	bed := newPassBed(b)
	bed.grant(meta.RightsHold, 0)
	session := meta.NewSessionID()
	bed.do(meta.OpenSession{Session: session, Principal: bed.who.Principal, Path: bed.who.Path})
	msg := &stripe.Message{Kind: stripe.KindPrepare, File: bed.file, Epoch: bed.do(meta.Acquire{Session: session, File: bed.file}).Lease.Epoch}
	if ok, _ := bed.make(bed.conn, bed.who, bed.file, meta.RightsHold, true); !ok {
		b.Fatal("no pass")
	}
	b.Run("lease", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if bed.holders.judge(bed.who.Principal, msg) != admitted {
				b.Fatal("denied")
			}
		}
	})
	b.Run("leaseAndPass", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, node := bed.holders.nodes.node(bed.who.Principal)
			if node || bed.holders.judgeOther(bed.who.Principal, msg) != admitted || bed.cutOff() {
				b.Fatal("denied")
			}
			if ok, _ := bed.find(bed.conn, &bed.who, msg.File, wanted(msg)); !ok {
				b.Fatal("no pass")
			}
		}
	})
}

// TestSettledInTheCallersName: what is asked again in the background is asked on behalf of the same caller, not of the runtime that speaks for it.
func TestSettledInTheCallersName(t *testing.T) {
	ann := cred.Identity{Principal: blocktree.PrincipalOf([]byte("ann")), UID: 1000}
	c := acquisition(OnBehalf(t.Context(), ann), meta.SessionID{}, blocktree.FileID{})
	if c.Caller == nil || c.Caller.Principal != ann.Principal || c.Caller.UID != ann.UID {
		t.Errorf("on behalf of %v", c.Caller)
	}
	if c := acquisition(t.Context(), meta.SessionID{}, blocktree.FileID{}); c.Caller != nil {
		t.Errorf("its own, on behalf of %v", c.Caller)
	}
}

// TestRevokedIsJudgedAnew: a principal that is believed no more has had what was judged before.
func TestRevokedIsJudgedAnew(t *testing.T) {
	var p passes
	p.applied(meta.Changes{})
	if p.changes.Load() != 0 {
		t.Error("nothing was taken from anybody")
	}
	p.applied(meta.Changes{Revoked: []meta.Revocation{{}}})
	if p.changes.Load() != 1 {
		t.Error("what was judged is still gone by")
	}
}

// TestAuditIsBounded: so many lines a second for each principal, the rest counted, whoever else is written of.
func TestAuditIsBounded(t *testing.T) {
	clock := &movedClock{}
	a := &audit{clock: clock}
	key := func(i int) auditKey { return auditKey{blocktree.PrincipalOf([]byte(fmt.Sprint(i))), false} }
	written := 0
	for range 3 * blocktree.AuditPerSecond {
		if _, ok := a.admit(key(1)); ok {
			written++
		}
	}
	if written != blocktree.AuditPerSecond {
		t.Errorf("%d lines", written)
	}
	if _, ok := a.admit(key(2)); !ok {
		t.Error("another principal is not written of")
	}
	if _, ok := a.admit(auditKey{key(1).who, true}); !ok {
		t.Error("refusals hide a change")
	}
	clock.at += time.Second
	if held, ok := a.admit(key(1)); !ok || held != 2*blocktree.AuditPerSecond {
		t.Errorf("%d held back, %v", held, ok)
	}
	for i := range 2 * blocktree.AuditPrincipalsMax {
		a.admit(key(i))
	}
	if len(a.known) > blocktree.AuditPrincipalsMax+1 {
		t.Errorf("%d principals are kept", len(a.known))
	}
}
