package meta

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"blocktree"
)

// admin has user id 0.
func admin() *Caller { return somebody(0, 0) }

// TestMovingStandsStill: what is said of a directory or symbolic link by its id, while its entry is on its way to a child, is refused and not done where nobody looks any more; of a file it is done.
func TestMovingStandsStill(t *testing.T) {
	parent := racked(t)
	stranger := somebody(10, 10)
	parent.must(PutGrant{fileID(2), grantTo(stranger, RightWrite)})
	link := parent.must(Symlink{Path: path("/rack/sub/l"), Target: "g"}).Inode.ID
	first := hostCaller(below(1))
	parent.mustAs(first, AssignGeneration{path("/rack"), below(1).Node})
	ofDir := []Op{
		SetAttr{File: fileID(2), Mask: AttrMode, Mode: 0o700},
		PutGrant{fileID(2), grantTo(somebody(11, 11), RightRead)},
		RemoveGrant{fileID(2), grantTo(stranger, 0).Subject},
		SetAccess{fileID(2), record(1)},
		SetTimes{File: fileID(2), Modified: 7}, SetXattr{File: fileID(2), Name: "user.x"},
		SetTimes{File: link, Modified: 7}, SetAttr{File: link, Mask: AttrOwner, UID: 7}, PutGrant{link, grantTo(stranger, RightRead)}, // the child would have another link, and no sum would do
	}
	parent.mustAs(first, Delegate{path("/rack"), 2, below(1).Node})
	child := childOf(t, parent)
	takeAll(t, parent, child, path("/rack"), 1)
	for _, o := range ofDir {
		for _, c := range []*Caller{nil, admin()} {
			if r := parent.as(c, 2, o); r.Kind != blocktree.Unavailable || r.Hint == "" {
				t.Errorf("%T of a directory that moves: %v, %q", o, r.Kind, r.Hint)
			}
		}
	}
	taken, _ := child.view().follow(child.view().superblock(), path("/rack/sub/l"))
	if r := child.as(admin(), 2, SetTimes{File: taken.found.file, Modified: 7}); taken.found.kind != KindLink || r.Kind != blocktree.Unavailable {
		t.Errorf("of a link, where it is taken over: %v", r.Kind)
	}
	parent.must(SetAttr{File: fileID(1), Mask: AttrMode, Mode: 0o750}) // that is the parent's for good
	parent.must(SetAttr{File: fileID(4), Mask: AttrMode, Mode: 0o600})
	parent.must(SetAttr{File: fileID(5), Mask: AttrMode, Mode: 0o700})
}

// TestFounderIsKept: until the founder has said that it has every entry, its record stands, and nobody else says that.
func TestFounderIsKept(t *testing.T) {
	parent := delegatedTo(t)
	if r := parent.as(hostCaller(below(2)), 2, HandOver{path("/rack"), 2}); r.Kind != blocktree.Permission {
		t.Errorf("another host hands over: %v", r.Kind)
	}
	if r := parent.as(admin(), 2, HandOver{path("/rack"), 2}); r.Kind != blocktree.Permission {
		t.Errorf("somebody hands over: %v", r.Kind)
	}
	other := below(1)
	other.Node = 77
	noHost := below(1)
	noHost.Services = nil
	for _, o := range []Op{RemoveBelow{below(1).Path}, PutBelow{other}, PutBelow{noHost}} {
		if r := parent.do(o); r.Kind != blocktree.Busy || r.Hint == "" {
			t.Errorf("%T of the founder: %v, %q", o, r.Kind, r.Hint)
		}
	}
	moved := below(1)
	moved.Endpoints = []string{"192.0.2.9:1"}
	parent.must(PutBelow{moved})
	parent.must(RemoveBelow{below(2).Path})
	parent.must(PutBelow{below(2)})
	parent.mustAs(hostCaller(below(1)), HandOver{path("/rack"), 2})
	parent.must(RemoveBelow{below(1).Path})
}

// TestTakenFits: whatever directories have of grants and records, what is told of them fits in a command.
func TestTakenFits(t *testing.T) {
	parent := racked(t)
	for d := range 16 {
		r := parent.must(MakeDir{Path: path(fmt.Sprintf("/rack/d%02d", d)), Mode: 0o755})
		for g := range GrantsMax {
			parent.must(PutGrant{r.Inode.ID, Grant{Subject: Subject{Path: path("/" + strings.Repeat(strings.Repeat("n", 200)+"/", 9) + fmt.Sprint(g))}, Rights: RightRead}})
		}
	}
	for h := range 200 {
		r := host(1000 + h)
		r.Path = path(fmt.Sprintf("/rack/d%02d/h%03d", h%4, h))
		r.Endpoints = slices.Repeat([]string{strings.Repeat("e", 200)}, EndpointsMax)
		parent.must(PutBelow{r})
	}
	parent.mustAs(hostCaller(below(1)), AssignGeneration{path("/rack"), below(1).Node})
	parent.mustAs(hostCaller(below(1)), Delegate{path("/rack"), 2, below(1).Node})
	s, dirs := parent.view(), 0
	var records []blocktree.Runtime
	for after, more := "", true; more; {
		var xs []TakenEntry
		var below []blocktree.Runtime
		var r Result
		if xs, below, more, r = s.take(&Query{Path: path("/rack"), After: after}); r.Kind != blocktree.Other || len(xs) == 0 {
			t.Fatal(r.Kind, len(xs))
		}
		if _, err := EncodeCommand(nil, Command{ID: NewCommandID(), Op: TakeEntries{path("/rack"), xs, below}}); err != nil {
			t.Fatal(err)
		}
		records = append(records, below...)
		after = xs[len(xs)-1].Name
		dirs += len(xs)
	}
	if dirs != 18 || len(records) != 200 {
		t.Errorf("%d entries, %d records", dirs, len(records))
	}
}

// TestSnapshotKeys: whatever may be in the state, a snapshot of it is read.
func TestSnapshotKeys(t *testing.T) {
	parent := racked(t)
	dir := rootDir
	for len(dir) < blocktree.PathBytesMax {
		dir = dir.Join(strings.Repeat("d", min(blocktree.NameBytesMax, blocktree.PathBytesMax-len(dir)-1)))
	}
	if len(dir) != blocktree.PathBytesMax {
		t.Fatal(len(dir))
	}
	parent.must(AssignGeneration{dir, 20})
	it, err := parent.db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		if it.Key()[0] != parent.view().space {
			continue
		}
		b := encodeEnvelope(&envelope{chunk: &snapshotChunk{id: 1, number: 1, pairs: []pair{{slices.Clone(it.Key()[1:]), nil}}}})
		if _, err := decodeEnvelope(b); err != nil {
			t.Errorf("a key of kind %q, of %d bytes: %v", it.Key()[1], len(it.Key()), err)
		}
	}
}

// TestMemberKeepsItsStore: who adds a member of the root cluster again does not take its store from it.
func TestMemberKeepsItsStore(t *testing.T) {
	m := founded(t, 3)
	r := host(2)
	store := r.Node
	r.Node = 77
	if x := m.do(PutBelow{r}); x.Kind != blocktree.Exists || x.Hint == "" {
		t.Errorf("another store: %v, %q", x.Kind, x.Hint)
	}
	r.Node, r.Endpoints = store, []string{"192.0.2.9:1"}
	m.must(PutBelow{r})
	for _, x := range m.view().runtimes() {
		if x.Path == r.Path && (x.Node != store || x.Endpoints[0] != r.Endpoints[0]) {
			t.Errorf("%+v", x)
		}
	}
}

// TestTakingStandsStill: what is said of a directory by the id that it has in a child which is taking over is refused, as it would be something else than what the parent has, and is said again by its path later.
func TestTakingStandsStill(t *testing.T) {
	parent := delegatedTo(t)
	child := childOf(t, parent)
	takeAll(t, parent, child, path("/rack"), 1)
	at, _ := child.view().follow(child.view().superblock(), path("/rack/sub"))
	sub := at.found.file
	ofDir := []Op{SetAttr{File: sub, Mask: AttrMode, Mode: 0o700}, PutGrant{sub, grantTo(somebody(11, 11), RightRead)}, SetAccess{sub, record(1)}}
	for _, o := range ofDir {
		if r := child.as(admin(), 2, o); r.Kind != blocktree.Unavailable || r.Hint == "" {
			t.Errorf("%T in a child that is taking over: %v, %q", o, r.Kind, r.Hint)
		}
	}
	parent.mustAs(hostCaller(below(1)), HandOverSum{path("/rack"), 2, child.view().entriesSum(RootInode, path("/rack")), false, true})
	child.must(EndTaking{})
	child.must(EndTaking{Answer: true})
	for _, o := range ofDir {
		child.mustAs(admin(), o)
	}
}
