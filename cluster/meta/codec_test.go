package meta

import (
	"bytes"
	"reflect"
	"slices"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/internal/wire"

	pb "go.etcd.io/raft/v3/raftpb"
)

// allOps is one of each op with every field set.
func allOps() []Op {
	f := blocktree.FileID{Generation: 7, Inode: 8}
	return []Op{
		Found{path("/d"), 3, founders(2), 0o755, -5},
		MakeDir{path("/a"), true, 1, 2, 3, 4},
		CreateFile{path("/a/f"), true, []blocktree.NodeID{4, 5}, 1 << 40, 4096, blocktree.Code{Data: 2, Parity: 1}, 0o644, 2, 3, 1,
			[16]byte{9}, []byte("keys"), 6},
		Remove{Path: path("/a")},
		SetAttr{f, attrAll, 1, 2, 3, 4, 5, [16]byte{6}, []byte("keys")},
		PutRuntime{host(3)},
		RemoveRuntime{path("/r")},
		StartNode{1, incarnation(2), 3, 4},
		OpenSession{session(1), rootID, path("/c")},
		RenewSession{session(2)},
		CloseSession{session(3)},
		ExpireSession{session(4), 5},
		Acquire{session(5), f},
		Release{session(6), f, 7},
		ChangeView{stripe.Change{File: f, Epoch: 1, Seq: 2, Kind: stripe.ChangeJoin, Nodes: []blocktree.NodeID{3}, Region: 4, Incarnation: incarnation(5)}},
		ClaimLease{session(7), f, 8},
		EndClaim{f, 9, session(8), 10, true},
		ReplaceHost{Path: path("/a"), Old: 3, New: 4}, RetireHost{Path: path("/a"), Node: 5},
		LeaveViews{StartNode{1, incarnation(2), 3, 4}},
		DrainHost{Path: path("/a"), Node: 6, Cancel: true},
		CreateFlushFile{CreateFile{path("/a/f"), true, []blocktree.NodeID{4, 5}, 1 << 40, 4096, blocktree.Code{Data: 2, Parity: 1}, 0o644, 2, 3, 1,
			[16]byte{9}, []byte("keys"), 6}},
		StartVolatile{StartNode{1, incarnation(2), 3, 4}, incarnation(5)},
		Resize{f, 10, 1 << 30, session(9), 11, 12},
		PutGrant{f, Grant{Subject{Path: path("/a")}, RightRead | RightLease, 13}},
		RemoveGrant{f, Subject{Principal: rootID}},
		RevokePrincipal{Revocation{rootID, path("/a"), 1, 2}},
		SetAccess{f, []byte("keys")},
		NoteAccess{session(10), f, Heard{1, 2, 3, 4, 5}},
		CreateTreeFile{CreateFile{path("/a/f"), true, []blocktree.NodeID{4, 5}, 1 << 40, 4096, blocktree.Code{Data: 2, Parity: 1}, 0o644, 2, 3, 1,
			[16]byte{9}, []byte("keys"), 6}, stripe.DurabilityFlush, 7 << 12},
		Anchor{session(10), f, 11, 12, []byte("record")},
		ResizeTree{Resize{f, 10, 1 << 30, session(9), 11, 12}},
		SetLength{f, 1 << 40, 3},
		PutBelow{host(3)}, RemoveBelow{path("/a/b")}, AssignGeneration{path("/a"), 3}, Delegate{path("/a"), 4, 5}, HandOver{path("/a"), 6}, DropMoved{path("/a"), 7},
		RemoveMoved{f}, DropEntry{path("/a/b"), f}, FoundChild{Found{path("/d"), 3, founders(2), 0o755, -5}}, SetAbove{*someAbove()},
		TakeEntries{path("/a"), someTaken(), founders(2)}, EndTaking{true}, HandOverSum{path("/a"), 6, EntriesSum{7, [32]byte{8}}, true, false},
		BeginMove{CreateTreeFile{CreateFile{path("/a/f"), true, []blocktree.NodeID{4, 5}, 1 << 40, 4096, blocktree.Code{Data: 2, Parity: 1}, 0o644, 2, 3, 1,
			[16]byte{9}, []byte("keys"), 6}, stripe.DurabilityFlush, 7 << 12}, fileID(5)},
		DropCopy{f}, Depart{session(11), f, 12, fileID(6), 13}, Stay{f, fileID(7), 14},
		Adopt{session(12), f, 15, fileID(9), path("/a/f"), 0o644, 2, 3, 4, 5, true, 6, someAllowed().Grants, someAllowed().Last}, RemoveLeft{f, fileID(8)}, EndMove{f},
		Rename{path("/a/f"), path("/b/g"), f, fileID(9), []NextRecord{{f, []byte("keys")}, {fileID(3), []byte("more")}}},
		AskShrink{f, 10, 1 << 20, session(9), 7},
		TakeBack{path("/a"), 6, true},
		SetEnd{f, session(9), 10, 1 << 40, 7, 8},
		Touch{session(9), f, 10, -11}, ReleaseAt{Release{session(9), f, 10}, -11}, SetTimes{f, true, -12}, Symlink{path("/a/l"), "../f", 1, 2, 3}, SetXattr{f, "user.x", []byte("v"), XattrReplace},
		PutXattrs{f, someXattrs()},
		CreateHeld{CreateFile{path("/a/f"), false, nil, 1 << 16, 4096, blocktree.Code{Data: 2, Parity: 1}, 0o644, 2, 3, 1, [16]byte{9}, []byte("keys"), 6}, stripe.DurabilityFlush, session(9), 7},
		ReleaseEnd{Release{session(9), f, 10}, 1 << 40, 7, -11},
		Unlink{path("/a/f"), f, session(9)}, RenameOver{Rename{path("/a/f"), path("/b/g"), f, fileID(9), []NextRecord{{f, []byte("keys")}}}, session(9)}, Forget{session(9), f},
		AskShrinkTree{AskShrink{f, 10, 1 << 20, session(9), 7}},
		MakeDirKept{MakeDir{Path: path("/a/b"), Mode: 0o700, UID: 1, GID: 2, Time: -3}, session(9)}, Leave{session(9), []blocktree.FileID{f, fileID(2)}, []blocktree.FileID{fileID(3)}},
		MakeSpares{session(9), 1 << 16, 4096, blocktree.Code{Data: 2, Parity: 1}, stripe.DurabilityFlush, 8, 7},
		NameFile{session(9), f, 1, fileID(2), CreateFile{path("/a/f"), false, nil, 1 << 16, 4096, blocktree.Code{Data: 2, Parity: 1}, 0o644, 2, 3, 1, [16]byte{9}, []byte("keys"), 6}, KeyFound{path("/a"), [32]byte{8}}, 1 << 40, true, -11},
		Want{f},
	}
}

func someXattrs() []Xattr { return []Xattr{{"user.a", []byte("v")}, {"user.b", nil}} }

func someAbove() *Above {
	return &Above{Number: 1, Generation: 2, Parent: path("/a"), Runtimes: founders(2), Levels: []Level{{Mode: 0o755, UID: 3, GID: 4},
		{Mode: 0o700, Grants: []Grant{{Subject{Path: path("/a")}, RightList, 6}}, Last: RightsChange{path("/by"), 7, "revoked read", Subject{Path: path("/a")}}}}}
}

func someTaken() []TakenEntry {
	return []TakenEntry{{Name: "d", Inode: Inode{ID: fileID(3), Kind: KindDir, Mode: 0o700, Access: []byte("keys"), Delegation: &Delegation{5, 6, true}},
		Grants: []Grant{{Subject{Path: path("/a")}, RightList, 6}}, Last: RightsChange{path("/by"), 7, "x", Subject{}}}, {Name: "e", Inode: Inode{ID: fileID(5), Kind: KindDir, Changed: -3, Xattrs: someXattrs()}},
		{Name: "g", Inode: Inode{ID: fileID(6), Kind: KindLink, Changed: 4, Target: "e"}}, {Name: "f", Inode: Inode{ID: fileID(4), Kind: KindFile}}}
}

func someRedirect() *Redirect {
	return &Redirect{Dir: path("/a"), Generation: 3, Runtimes: founders(2)}
}

func someCaller() *Caller {
	return &Caller{Principal: rootID, Path: path("/c"), UID: 1, GID: 2, Groups: []uint32{3, 4}, Chain: []blocktree.Principal{rootID}}
}

func someAllowed() *Allowed {
	return &Allowed{Rights: RightRead, Number: 5, Grants: []Grant{{Subject{Path: path("/a")}, RightList, 6}, {Subject{Principal: rootID}, rightsAll, 0}},
		Last: RightsChange{path("/by"), 7, "revoked read", Subject{Path: path("/a")}}}
}

func someLayout() *stripe.Layout {
	l := &stripe.Layout{File: blocktree.FileID{Generation: 1, Inode: 9}, Code: blocktree.Code{Data: 2, Parity: 1}, SectorBytes: 4096,
		RegionSectors: 1 << 18, Sectors: 3 << 18, Hosts: []blocktree.NodeID{1, 2, 3, 4}, Epoch: 5, Seq: 6, BaseID: 4,
		Incarnations: map[blocktree.NodeID]blocktree.Incarnation{1: incarnation(1), 2: incarnation(2), 3: incarnation(3), 4: {}},
		Marked:       map[blocktree.NodeID]bool{2: true}, BaseOut: map[blocktree.NodeID]bool{3: true},
		Own: map[blocktree.RegionIndex]stripe.View{}}
	l.HashedAs = map[blocktree.NodeID]blocktree.NodeID{2: 77, 4: 0}
	for _, r := range []blocktree.RegionIndex{0, 2} {
		v := l.View(r)
		v.ID, v.Members[0].State = 6, stripe.Joining
		l.Own[r] = v
	}
	v := l.View(1)
	v.Heir, v.HeirPlace = l.Hosts[slices.IndexFunc(l.Hosts, func(n blocktree.NodeID) bool { _, ok := v.Shard(n); return !ok })], 1
	v.Members[1].State = stripe.InSync
	l.Own[1] = v
	return l
}

func someResult() Result {
	i := Inode{ID: blocktree.FileID{Generation: 1, Inode: 2}, Kind: KindFile, Mode: 3, UID: 4, GID: 5, Created: 6, Modified: -7,
		SizeBytes: 8, SectorBytes: 512, Code: blocktree.Code{Data: 1}, Suite: 1, KeyID: [16]byte{2}, Access: []byte("keys")}
	return Result{Kind: blocktree.Busy, Text: "t", Hint: "h", Index: 9, Leader: 10, Inode: &i, Layout: someLayout(),
		Session: &Session{session(1), rootID, path("/c"), 11, 12}, Start: &NodeStart{1, incarnation(1), 13},
		Lease: &Lease{i.ID, 14, session(2), path("/h"), path("/by")}, HolderQuiet: time.Second, Claimed: true,
		Firm: []FirmLease{{i.ID, 15}, {fileID(1), 16}}}
}

// claimResults have each part of what a result says of claims without the others.
func claimResults() []Result {
	free := Lease{File: fileID(1), Epoch: 1, Session: session(1)}
	claimed := free
	claimed.Claimant = path("/by")
	return []Result{{Kind: blocktree.Busy, Kept: true}, {Wanted: []blocktree.FileID{fileID(1), fileID(2)}}, {Generation: 3, Kept: true, HolderQuiet: time.Second, Wanted: []blocktree.FileID{fileID(1)}}, {Lease: &free}, {Lease: &claimed}, {Claimed: true}, {Lease: &free, Claimed: true, Firm: []FirmLease{{fileID(1), 1}}}}
}

func someAnswer() Answer {
	r := someResult()
	return Answer{Kind: blocktree.NotFound, Text: "t", Hint: "h", Inode: r.Inode,
		Entries: []DirEntry{{"a", Inode{ID: fileID(1), Kind: KindDir}}, {"b", Inode{ID: fileID(2), Kind: KindFile}}, {"c", Inode{ID: fileID(3), Kind: KindDir, Access: []byte("keys")}},
			{"d", Inode{ID: fileID(4), Kind: KindFile, Heard: Heard{1, 2, 3, 4, 5}}}}, More: true,
		Layout: r.Layout, Lease: r.Lease, Runtimes: founders(2), Starts: []NodeStart{*r.Start},
		Status: &Status{1, 2, 3, 4, 5, []MemberStatus{{1, true, false, 2}, {3, false, true, 4}}}}
}

func keptAnswer(wanted bool) Answer {
	return Answer{Kind: blocktree.NotFound, Text: "t", Kept: &KeptBy{fileID(1), session(2), wanted}}
}

func someFiles() *Files {
	return &Files{After: "x", Layouts: []*stripe.Layout{someResult().Layout}, Whole: 1, Degraded: 2, Unavailable: 3, Drains: []DrainSum{{4, 5, 6}}}
}

func someMessages() []*pb.Message {
	kind, entry := pb.MsgApp, pb.EntryNormal
	snap := pb.MsgSnap
	return []*pb.Message{
		{Type: &kind, To: new(uint64(1)), From: new(uint64(2)), Term: new(uint64(3)), LogTerm: new(uint64(4)), Index: new(uint64(5)),
			Commit: new(uint64(6)), Vote: new(uint64(7)), RejectHint: new(uint64(8)), Reject: new(true), Context: []byte("ctx"),
			Entries: []*pb.Entry{{Term: new(uint64(1)), Index: new(uint64(2)), Type: &entry, Data: []byte("d")}, {Type: &entry}}},
		{Type: &snap, Snapshot: &pb.Snapshot{Metadata: &pb.SnapshotMetadata{Index: new(uint64(1)), Term: new(uint64(2)),
			ConfState: &pb.ConfState{Voters: []uint64{1, 2}, Learners: []uint64{3}}}}},
	}
}

func someEnvelopes() []envelope {
	ms := someMessages()
	return []envelope{{raft: ms[0]}, {raft: ms[1]}, {ack: &snapshotAck{1, 2}},
		{chunk: &snapshotChunk{id: 1, number: 2, pairs: []pair{{[]byte("k"), []byte("v")}, {[]byte("l"), nil}}}},
		{chunk: &snapshotChunk{id: 1, number: 3, last: true, message: ms[1]}}}
}

func TestCommandsComeBack(t *testing.T) {
	ops, f := allOps(), fileID(1)
	if len(ops) != int(opEnd)-1 {
		t.Fatalf("%d ops of %d", len(ops), opEnd-1)
	}
	ops = append(ops, Remove{Path: path("/a"), File: f}, HandOverSum{path("/a"), 6, EntriesSum{7, [32]byte{8}}, false, true}, PutXattrs{File: f})
	for i, o := range ops {
		if i+1 < int(opEnd) && o.opcode() != opcode(i+1) {
			t.Errorf("%T has code %d: codes are append-only", o, o.opcode())
		}
		in := Command{ID: NewCommandID(), Op: o}
		b, err := EncodeCommand(nil, in)
		if err != nil {
			t.Fatal(err)
		}
		out, err := DecodeCommand(b)
		if err != nil || !reflect.DeepEqual(in, out) {
			t.Errorf("%T: %+v, %v", o, out, err)
		}
		in.Caller, in.Time = someCaller(), 14
		if b, err = EncodeCommand(nil, in); err != nil {
			t.Fatal(err)
		}
		if out, err = DecodeCommand(b); err != nil || !reflect.DeepEqual(in, out) {
			t.Errorf("%T with a caller: %+v, %v", o, out, err)
		}
		if code, _ := opOf(b); code != o.opcode() {
			t.Errorf("%T: opcode %d", o, code)
		}
	}
	if _, err := EncodeCommand(nil, Command{}); blocktree.KindOf(err) != blocktree.Invalid {
		t.Error(err)
	}
	if _, err := EncodeCommand(nil, Command{Op: CreateFile{Access: make([]byte, blocktree.RaftCommandMax)}}); blocktree.KindOf(err) != blocktree.TooLarge {
		t.Error(err)
	}
}

func TestValuesComeBack(t *testing.T) {
	r := someResult()
	if got, err := DecodeResult(EncodeResult(nil, r)); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, r := range claimResults() {
		if got, err := DecodeResult(EncodeResult(nil, r)); err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	a := someAnswer()
	for _, a := range []Answer{a, {Draining: []blocktree.NodeID{3, 4}}, {Lease: a.Lease, Draining: []blocktree.NodeID{3}}, {Inode: a.Inode, Allowed: someAllowed()}, {Inode: a.Inode, Allowed: someAllowed(), Layout: a.Layout},
		{Revoked: []Revocation{{rootID, blocktree.RootPath(rootID), 1, 2}}, More: true}, {Xattrs: someXattrs()}, {Files: someFiles(), More: true}, {Taken: someTaken(), More: true}, keptAnswer(false), keptAnswer(true), {Draining: []blocktree.NodeID{3}, Revoked: []Revocation{{rootID, path("/a"), 1, 2}}}} {
		if got, err := DecodeAnswer(EncodeAnswer(nil, a)); err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	for k := QueryStat; k < queryEnd; k++ {
		q := Query{Kind: k, Path: path("/a"), File: fileID(1), After: "x", Limit: 5}
		if k == QueryAllowed || k == QueryToRead {
			q.Limit, q.Want = 0, RightsHold
		}
		if k == QueryFiles {
			q.Serving, q.Tell = []blocktree.NodeID{3, 4}, TellHurt
		}
		if got, err := DecodeQuery(EncodeQuery(nil, q)); err != nil || !reflect.DeepEqual(got, q) {
			t.Errorf("%+v, %v", got, err)
		}
		q.Caller, q.Time = someCaller(), 6
		if got, err := DecodeQuery(EncodeQuery(nil, q)); err != nil || !reflect.DeepEqual(got, q) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	for i, v := range someEnvelopes() {
		b := encodeEnvelope(&v)
		got, err := decodeEnvelope(b)
		if err != nil || !bytes.Equal(encodeEnvelope(&got), b) {
			t.Errorf("envelope %d: %v", i, err)
		}
	}
	ap := appliedState{1, spaceB, 2, 3, &pb.ConfState{Voters: []uint64{4}, VotersOutgoing: []uint64{5}, LearnersNext: []uint64{6}, AutoLeave: new(true)}}
	if got, err := decodeApplied(encodeApplied(&ap)); err != nil || !reflect.DeepEqual(got, ap) {
		t.Errorf("%+v, %v", got, err)
	}
}

// A refusal survives the wire whatever its kind.
func TestEveryKindComesBack(t *testing.T) {
	for k := range blocktree.Kinds() {
		r := Result{Kind: blocktree.Kind(k), Text: "why"}
		got, err := DecodeResult(EncodeResult(nil, r))
		if err != nil || got.Kind != r.Kind {
			t.Errorf("kind %d: %+v, %v", k, got, err)
		}
		if e := got.Err("op"); (e == nil) != (k == 0) || e != nil && blocktree.KindOf(e) != r.Kind {
			t.Errorf("kind %d: %v", k, e)
		}
	}
}

// Decoders refuse what no encoder wrote: each row damages one byte or more of a good encoding.
func TestDecodersRefuse(t *testing.T) {
	good := EncodeResult(nil, Result{Layout: someLayout()})
	at := bytes.Index(good, incarnationBytes(1)) // the first host's incarnation; its id is the 8 bytes before
	for name, damage := range map[string]func([]byte){
		"host twice":      func(b []byte) { copy(b[at+17:], b[at-8:at]) },
		"unknown flag":    func(b []byte) { b[at+16] = 0x80 },
		"state of member": func(b []byte) { b[len(b)-4-8-1] = 9 },
	} {
		b := bytes.Clone(good)
		damage(b)
		if _, err := DecodeResult(b); blocktree.KindOf(err) != blocktree.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func incarnationBytes(i int) []byte {
	v := incarnation(i)
	return v[:]
}

// fuzz checks that decoding is total and that what is decoded encodes to the same bytes.
func fuzz[T any](f *testing.F, decode func([]byte) (T, error), encode func(T) []byte) {
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := decode(bytes.Clone(in))
		if err != nil {
			switch blocktree.KindOf(err) {
			case blocktree.Invalid, blocktree.TooLarge, blocktree.NewerFormat:
				return
			}
			t.Fatalf("kind of %v", err)
		}
		if out := encode(v); !bytes.Equal(out, in) {
			t.Fatalf("%x came back as %x", in, out)
		}
	})
}

func FuzzDecodeCommand(f *testing.F) {
	for _, o := range allOps() {
		b, _ := EncodeCommand(nil, Command{ID: CommandID{1}, Op: o})
		f.Add(b)
		b, _ = EncodeCommand(nil, Command{ID: CommandID{1}, Op: o, Caller: someCaller(), Time: 2})
		f.Add(b)
		b, _ = EncodeCommand(nil, Command{ID: CommandID{1}, Op: o, Caller: someCaller(), Time: 2, Keeper: session(3)})
		f.Add(b)
	}
	fuzz(f, DecodeCommand, func(c Command) []byte {
		b, err := EncodeCommand(nil, c)
		if err != nil {
			return []byte(err.Error())
		}
		return b
	})
}

func FuzzDecodeResult(f *testing.F) {
	f.Add(EncodeResult(nil, someResult()))
	f.Add(EncodeResult(nil, Result{}))
	for _, r := range claimResults() {
		f.Add(EncodeResult(nil, r))
	}
	f.Add(EncodeResult(nil, Result{Kind: blocktree.Elsewhere, Redirect: someRedirect()}))
	fuzz(f, DecodeResult, func(r Result) []byte { return EncodeResult(nil, r) })
}

func FuzzDecodeQuery(f *testing.F) {
	f.Add(EncodeQuery(nil, Query{Kind: QueryList, Path: path("/a"), After: "x", Limit: 3}))
	f.Add(EncodeQuery(nil, Query{Kind: QueryFiles, Path: path("/a"), After: "x", Serving: []blocktree.NodeID{1}, Tell: TellAll}))
	f.Add(EncodeQuery(nil, Query{Kind: QueryAllowed, Path: path("/a"), Caller: someCaller(), Time: 3}))
	fuzz(f, DecodeQuery, func(q Query) []byte { return EncodeQuery(nil, q) })
}

func FuzzDecodeAnswer(f *testing.F) {
	f.Add(EncodeAnswer(nil, someAnswer()))
	f.Add(EncodeAnswer(nil, Answer{Inode: someAnswer().Inode, Allowed: someAllowed()}))
	f.Add(EncodeAnswer(nil, Answer{Kind: blocktree.Elsewhere, Redirect: someRedirect()}))
	f.Add(EncodeAnswer(nil, Answer{Xattrs: someXattrs()}))
	f.Add(EncodeAnswer(nil, Answer{Files: someFiles()}))
	f.Add(EncodeAnswer(nil, keptAnswer(false)))
	f.Add(EncodeAnswer(nil, keptAnswer(true)))
	f.Add(EncodeAnswer(nil, Answer{Moves: someMoves(), Children: []blocktree.Path{path("/a"), path("/b/c")}}))
	f.Add(EncodeAnswer(nil, Answer{Above: someAbove(), Taken: someTaken(), Home: path("/a"), Runtimes: founders(1)}))
	fuzz(f, DecodeAnswer, func(a Answer) []byte { return EncodeAnswer(nil, a) })
}

func FuzzDecodeEnvelope(f *testing.F) {
	for _, v := range someEnvelopes() {
		f.Add(encodeEnvelope(&v))
	}
	fuzz(f, decodeEnvelope, func(v envelope) []byte { return encodeEnvelope(&v) })
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add(encodeEntry(someMessages()[0].Entries[0]))
	fuzz(f, decodeEntry, encodeEntry)
}

func FuzzDecodeHard(f *testing.F) {
	f.Add(encodeHard(&pb.HardState{Term: new(uint64(1)), Vote: new(uint64(2)), Commit: new(uint64(3))}))
	fuzz(f, decodeHard, encodeHard)
}

func FuzzDecodeTrunc(f *testing.F) {
	f.Add(encodeTrunc(1, 2))
	fuzz(f, func(b []byte) ([2]uint64, error) { i, t, err := decodeTrunc(b); return [2]uint64{i, t}, err },
		func(v [2]uint64) []byte { return encodeTrunc(v[0], v[1]) })
}

func FuzzDecodeApplied(f *testing.F) {
	f.Add(encodeApplied(&appliedState{1, spaceA, 2, 3, &pb.ConfState{Voters: []uint64{4}}}))
	fuzz(f, decodeApplied, func(a appliedState) []byte { return encodeApplied(&a) })
}

// addValues adds a seed of each value of the state: the first byte chooses which.
func addValues(f *testing.F) {
	r := someResult()
	for i, put := range []func(*wire.Encoder){
		func(e *wire.Encoder) { putInode(e, r.Inode) }, func(e *wire.Encoder) { putLayout(e, r.Layout) },
		func(e *wire.Encoder) { putSession(e, r.Session) }, func(e *wire.Encoder) { putLease(e, r.Lease) },
		func(e *wire.Encoder) { putStart(e, r.Start) }, func(e *wire.Encoder) { v := host(1); putRuntime(e, &v) },
		func(e *wire.Encoder) { putGranted(e, &grantsNote{someAllowed().Grants, someAllowed().Last}) }, func(e *wire.Encoder) { putCaller(e, someCaller()) },
		func(e *wire.Encoder) { putRevocation(e, &Revocation{rootID, path("/a"), 1, 2}) },
		func(e *wire.Encoder) { putMove(e, &someMoves()[0]) }, func(e *wire.Encoder) { putLeft(e, &left{fileID(1), fileID(2), 3}) },
		func(e *wire.Encoder) { putShrinkAsk(e, &shrinkAsk{1 << 20, true}) },
	} {
		e := wire.Encoder{Buf: []byte{byte(i)}}
		put(&e)
		f.Add(e.Buf)
	}
}

// FuzzDecodeValue is of the values of the state: the first byte chooses which.
func FuzzDecodeValue(f *testing.F) {
	addValues(f)
	fuzz(f, func(b []byte) (any, error) {
		d := wire.NewDecoder(b)
		var v any
		switch d.U8() {
		case 0:
			v = getInode(d)
		case 1:
			v = getLayout(d)
		case 2:
			v = getSession(d)
		case 3:
			v = getLease(d)
		case 4:
			v = getStart(d)
		case 5:
			v = getRuntimePtr(d)
		case 6:
			v = getGranted(d)
		case 7:
			v = getCaller(d)
		case 8:
			v = getRevocation(d)
		case 9:
			v = getMovePtr(d)
		case 10:
			v = getLeft(d)
		case 11:
			v = getShrinkAsk(d)
		default:
			bad(d, "no such value")
		}
		return v, d.Finish()
	}, encodeNumbered)
}

// encodeNumbered writes a value as FuzzDecodeValue reads it.
func encodeNumbered(v any) []byte {
	var e wire.Encoder
	switch v := v.(type) {
	case *Revocation:
		e.U8(8)
		putRevocation(&e, v)
	case *Move:
		e.U8(9)
		putMove(&e, v)
	case *left:
		e.U8(10)
		putLeft(&e, v)
	case *shrinkAsk:
		e.U8(11)
		putShrinkAsk(&e, v)
	case *Inode:
		e.U8(0)
		putInode(&e, v)
	case *stripe.Layout:
		e.U8(1)
		putLayout(&e, v)
	case *Session:
		e.U8(2)
		putSession(&e, v)
	case *Lease:
		e.U8(3)
		putLease(&e, v)
	case *NodeStart:
		e.U8(4)
		putStart(&e, v)
	case *blocktree.Runtime:
		e.U8(5)
		putRuntime(&e, v)
	case *grantsNote:
		e.U8(6)
		putGranted(&e, v)
	case *Caller:
		e.U8(7)
		putCaller(&e, v)
	}
	return e.Buf
}
