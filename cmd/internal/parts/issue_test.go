package parts

import (
	"strings"
	"testing"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
)

// TestDomainOfThree: the root issues to a rack, the rack to a node, without the root key; and whatever is issued is valid at once and ends with what is
// above it.
func TestDomainOfThree(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	key := func() cred.Key {
		k, err := cred.GenerateKey()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	root, rackKey, nodeKey := key(), key(), key()
	byRoot, err := NewIssuer(root, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	rackChain, cut, err := byRoot.Issue(Request{Subject: rackKey.Public(), Path: "/rack1", Services: []string{"sector"}, Valid: 10 * time.Hour}, now)
	if err != nil || cut {
		t.Fatal(cut, err)
	}
	rack, err := NewIssuer(rackKey, rackChain, now)
	if err != nil {
		t.Fatal(err)
	}
	chain, cut, err := rack.Issue(Request{Subject: nodeKey.Public(), Path: "/rack1/a", Services: []string{"sector"}, Valid: 20 * time.Hour}, now.Add(time.Hour))
	if err != nil || !cut {
		t.Fatal(cut, err)
	}
	for _, at := range []time.Duration{time.Hour - 5*time.Minute, time.Hour, 10 * time.Hour} {
		id, err := cred.Verify(chain, root.Principal(), now.Add(at))
		if err != nil || id.Path.Short() != "/rack1/a" || len(id.Chain) != 2 || !id.NotAfter.Equal(now.Add(10*time.Hour)) {
			t.Errorf("%v later: %+v, %v", at, id, err)
		}
	}
	for name, x := range map[string]struct {
		request Request
		word    string
	}{
		"beside":  {Request{Subject: nodeKey.Public(), Path: "/rack2", Valid: time.Hour}, "speaks for"},
		"above":   {Request{Subject: nodeKey.Public(), Path: "/", Valid: time.Hour}, "speaks for"},
		"service": {Request{Subject: nodeKey.Public(), Path: "/rack1/a", Services: []string{"fs"}, Valid: time.Hour}, "service fs"},
		"no time": {Request{Subject: nodeKey.Public(), Path: "/rack1/a"}, "valid for"},
		"ages":    {Request{Subject: nodeKey.Public(), Path: "/rack1/a", Valid: IssueMax + 1}, "valid for"},
	} {
		if _, _, err := rack.Issue(x.request, now); err == nil || !strings.Contains(err.Error(), x.word) || blocktree.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewIssuer(nodeKey, rackChain, now); blocktree.KindOf(err) != blocktree.Unauthenticated {
		t.Errorf("another's credentials: %v", err)
	}
	if _, err := NewIssuer(rackKey, rackChain, now.Add(11*time.Hour)); blocktree.KindOf(err) != blocktree.Unauthenticated {
		t.Errorf("credentials that have ended: %v", err)
	}
}
