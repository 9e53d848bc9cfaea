package cred

import (
	"slices"
	"strings"
	"testing"
	"time"

	"blocktree"
)

// TestChain: an identity names whoever vouches for it, but the root principal, and when what they say begins and ends.
func TestChain(t *testing.T) {
	rack, node := testKey(2), testKey(3)
	chain := mustIssue(t, testRoot, nil, grant(rack, at("rack1")))
	chain = mustIssue(t, rack, chain, grant(node, at("rack1", "a"), func(g *Grant) { g.NotBefore = testTime.Add(-time.Minute) }))
	id, err := Verify(chain, testRoot.Principal(), testTime)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(id.Chain, []blocktree.Principal{rack.Principal(), node.Principal()}) {
		t.Errorf("chain %v", id.Chain)
	}
	if !id.NotBefore.Equal(testTime.Add(-time.Minute)) || !id.NotAfter.Equal(testTime.Add(time.Hour)) {
		t.Errorf("from %v to %v", id.NotBefore, id.NotAfter)
	}
	if _, err := Verify(chain, testRoot.Principal(), testTime.Add(2*time.Hour)); blocktree.KindOf(err) != blocktree.Unauthenticated {
		t.Errorf("when it is over: %v", err)
	}
	if id, err := VerifyForm(chain, testRoot.Principal()); err != nil || id.Path != at("rack1", "a") {
		t.Errorf("at no time: %+v %v", id, err)
	}
	chain[1].UID++
	if _, err := VerifyForm(chain, testRoot.Principal()); err == nil {
		t.Error("a changed link passes")
	}
}

// TestReader: a link with a reader's key is of format 2 and says so to who verifies; one without is of format 1, byte for byte.
func TestReader(t *testing.T) {
	with := mustIssue(t, testRoot, nil, grant(testKey(2), at("a"), func(g *Grant) { g.Reader = "x25519-abc" }))
	without := mustIssue(t, testRoot, nil, grant(testKey(2), at("a")))
	if f := with.Encode()[3]; f != 2 {
		t.Errorf("format %d with a key", f)
	}
	if f := without.Encode()[3]; f != 1 {
		t.Errorf("format %d without", f)
	}
	decoded, err := Decode(with.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if id, err := Verify(decoded, testRoot.Principal(), testTime); err != nil || id.Reader != "x25519-abc" {
		t.Errorf("%q %v", id.Reader, err)
	}
	decoded[0].Reader = "x25519-abd"
	if _, err := Verify(decoded, testRoot.Principal(), testTime); err == nil {
		t.Error("the key is not signed")
	}
	for _, bad := range []string{"X", "a b", "a\n", strings.Repeat("a", ReaderBytesMax+1)} {
		if _, err := Issue(testRoot, nil, testRoot.Principal(), grant(testKey(2), at("a"), func(g *Grant) { g.Reader = bad })); err == nil {
			t.Errorf("%.10q passes", bad)
		}
	}
	newer := with.Encode()
	newer[3] = 3
	if _, err := Decode(newer); blocktree.KindOf(err) != blocktree.NewerFormat {
		t.Errorf("format 3: %v", err)
	}
}

func TestEndsSoon(t *testing.T) {
	for _, x := range []struct {
		life, left time.Duration
		soon       bool
	}{
		{90 * 24 * time.Hour, 8 * 24 * time.Hour, false},
		{90 * 24 * time.Hour, 6 * 24 * time.Hour, true},
		{24 * time.Hour, 3 * time.Hour, false},
		{24 * time.Hour, 2 * time.Hour, true},
		{24 * time.Hour, -time.Hour, true},
	} {
		i := Identity{Principal: testRoot.Principal(), NotBefore: testTime, NotAfter: testTime.Add(x.life)}
		if got := i.EndsSoon(i.NotAfter.Add(-x.left)); got != x.soon {
			t.Errorf("%v of %v left: %v", x.left, x.life, got)
		}
	}
	if (Identity{}).EndsSoon(testTime) {
		t.Error("nobody's end soon")
	}
}
