package meta

import (
	"testing"

	"blocktree"
)

// TestRouteQuestions: what is answered to queries out of the state of a parent and of its child: sector hosts of a cluster's own directory alone, the largest part of the tree that an answer holds for,
// who may be an uplink, and whether others may read all the way.
func TestRouteQuestions(t *testing.T) {
	before := racked(t).view()
	if got := before.registered(path("/rack"), blocktree.ServiceSector); len(got) != 0 {
		t.Errorf("a directory that has no cluster yet has the sector hosts %v", got)
	}
	parent, child := family(t)
	up, down := parent.view(), child.view()
	if n := len(up.registered(rootDir, blocktree.ServiceSector)); n != 3 {
		t.Errorf("%d sector hosts of the root directory", n)
	}
	if n := len(up.registered(path("/rack"), blocktree.ServiceSector)); n != 0 {
		t.Errorf("the parent answers for %d sector hosts of its child", n)
	}
	if got := down.registered(path("/rack"), blocktree.ServiceSector); len(got) != 1 || got[0].Path != below(1).Path {
		t.Errorf("sector hosts of the child: %v", got)
	}
	for _, x := range []struct {
		s           *state
		scope, want blocktree.Scope
	}{
		{up, path("/vm/none/at/all"), path("/vm")}, {up, path("/rack/sub"), path("/rack")}, {up, rootDir, ""},
		{down, path("/rack/sub"), path("/rack")}, {down, path("/vm"), ""},
	} {
		if got, ok := x.s.plain(x.scope); got != x.want || ok != (x.want != "") {
			t.Errorf("%s: plain from %q on, want %q", x.scope.Short(), got, x.want)
		}
	}
	stranger := below(1)
	stranger.Principal = host(9).Principal
	for who, want := range map[*blocktree.Runtime][2]bool{{Path: below(2).Path, Principal: below(2).Principal}: {true, true}, &stranger: {true, false}, {Path: path("/vm/node1")}: {false, false}} {
		if known, is := up.isChild(*who); known != want[0] || is != want[1] {
			t.Errorf("%s: %v %v", who.Path.Short(), known, is)
		}
	}
	open := func(s *state, p string) bool {
		i := s.deepest(path(p))
		return i != nil && s.openUp(i)
	}
	if !open(up, "/rack") || !open(up, "/vm/none") || !open(down, "/rack/sub") {
		t.Error("what everybody may read is closed")
	}
	parent.must(SetAttr{File: up.deepest(path("/vm")).ID, Mask: AttrMode, Mode: 0o750})
	if s := parent.view(); open(s, "/vm") || open(s, "/vm/h") || open(s, "/vm/none") || !open(s, "/rack") {
		t.Error("a closed directory is open, or more than that is closed")
	}
}
