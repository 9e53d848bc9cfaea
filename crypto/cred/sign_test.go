package cred

import (
	"testing"
	"time"

	"blocktree"
)

func TestVerifySigned(t *testing.T) {
	root, other, key := testKey(1), testKey(2), testKey(3)
	at := time.Unix(1e9, 0)
	chain, err := Issue(root, nil, root.Principal(), Grant{Subject: key.Public(), Path: blocktree.RootPath(root.Principal()).Join("alice"), UID: 7,
		NotBefore: at, NotAfter: at.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("a test\x00of signing")
	for name, x := range map[string]struct {
		by   Key
		root blocktree.Principal
		text string
		at   time.Time
		good bool
	}{
		"good":           {key, root.Principal(), string(message), at, true},
		"another key":    {other, root.Principal(), string(message), at, false},
		"another domain": {key, other.Principal(), string(message), at, false},
		"another text":   {key, root.Principal(), "a test\x00of lying", at, false},
		"too early":      {key, root.Principal(), string(message), at.Add(-time.Second), false},
		"too late":       {key, root.Principal(), string(message), at.Add(2 * time.Hour), false},
	} {
		id, err := VerifySigned(chain.Encode(), x.root, message, x.by.Sign([]byte(x.text)), x.at)
		if (err == nil) != x.good || x.good && (id.UID != 7 || id.Principal != key.Principal()) || !x.good && blocktree.KindOf(err) != blocktree.Unauthenticated {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := VerifySigned(nil, root.Principal(), message, key.Sign(message), at); err == nil {
		t.Error("signed by nobody")
	}
	if _, err := VerifySigned(Credentials(nil).Encode(), root.Principal(), message, root.Sign(message), at); blocktree.KindOf(err) != blocktree.Unauthenticated {
		t.Errorf("without credentials: %v", err)
	}
}
