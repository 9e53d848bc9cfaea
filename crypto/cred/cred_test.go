package cred

import (
	"bytes"
	"crypto/ed25519"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"blocktree"
)

var testTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// testKey makes a key from a seed byte, so that failures look the same each time.
func testKey(seed byte) Key {
	return newKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize)))
}

// testRoot is the root principal's key.
var testRoot = testKey(1)

// at is a path below the test's root directory.
func at(names ...string) blocktree.Path {
	p := blocktree.RootPath(testRoot.Principal())
	for _, n := range names {
		p = p.Join(n)
	}
	return p
}

// grant is a plain grant for a key.
func grant(k Key, path blocktree.Path, change ...func(*Grant)) Grant {
	g := Grant{Subject: k.Public(), Path: path, UID: 1000, GID: 100, Groups: []uint32{200, 150}, Services: []string{"sector", "fs"},
		NotBefore: testTime.Add(-time.Hour), NotAfter: testTime.Add(time.Hour)}
	for _, f := range change {
		f(&g)
	}
	return g
}

func mustIssue(t testing.TB, issuer Key, chain Credentials, g Grant) Credentials {
	t.Helper()
	c, err := Issue(issuer, chain, testRoot.Principal(), g)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestVerifySaysWhatWasIssued(t *testing.T) {
	rack, node := testKey(2), testKey(3)
	chain := mustIssue(t, testRoot, nil, grant(rack, at("rack1"), func(g *Grant) { g.NotAfter = testTime.Add(30 * time.Minute) }))
	chain = mustIssue(t, rack, chain, grant(node, at("rack1", "a"), func(g *Grant) { g.Services = []string{"sector"}; g.Groups = []uint32{200} }))
	decoded, err := Decode(chain.Encode())
	if err != nil {
		t.Fatal(err)
	}
	id, err := Verify(decoded, testRoot.Principal(), testTime)
	if err != nil {
		t.Fatal(err)
	}
	if id.Principal != node.Principal() || id.Path != at("rack1", "a") || id.UID != 1000 || id.GID != 100 ||
		!slices.Equal(id.Groups, []uint32{200}) || !slices.Equal(id.Services, []string{"sector"}) ||
		!id.NotAfter.Equal(testTime.Add(30*time.Minute)) || id.Anonymous() || !id.Allows("sector") || id.Allows("fs") {
		t.Fatalf("got %+v", id)
	}
}

func TestIssueRefuses(t *testing.T) {
	rack, node := testKey(2), testKey(3)
	chain := mustIssue(t, testRoot, nil, grant(rack, at("rack1")))
	superuser := mustIssue(t, testRoot, nil, grant(rack, at("rack1"), func(g *Grant) { g.UID = 0 }))
	for _, x := range []struct {
		name   string
		issuer Key
		chain  Credentials
		grant  Grant
		want   blocktree.Kind // Other: no refusal
	}{
		{"below", rack, chain, grant(node, at("rack1", "a")), blocktree.Other},
		{"at its own path", rack, chain, grant(node, at("rack1")), blocktree.Other},
		{"root at the root", testRoot, nil, grant(node, at()), blocktree.Other},
		{"beside", rack, chain, grant(node, at("rack2", "a")), blocktree.Unauthenticated},
		{"beside with the same prefix", rack, chain, grant(node, at("rack10")), blocktree.Unauthenticated},
		{"above", rack, chain, grant(node, at()), blocktree.Unauthenticated},
		{"another domain", testRoot, nil, grant(node, blocktree.RootPath(node.Principal())), blocktree.Unauthenticated},
		{"path not clean", rack, chain, grant(node, at("rack1")+"/a/"), blocktree.Invalid},
		{"dot dot", rack, chain, grant(node, at("rack1", "..", "rack2")), blocktree.Invalid},
		{"not the last link's key", node, chain, grant(node, at("rack1", "a")), blocktree.Unauthenticated},
		{"not the root's key", rack, nil, grant(node, at("rack1", "a")), blocktree.Unauthenticated},
		{"more services", rack, chain, grant(node, at("rack1", "a"), func(g *Grant) { g.Services = []string{"sector", "admin"} }), blocktree.Unauthenticated},
		{"another user", rack, chain, grant(node, at("rack1", "a"), func(g *Grant) { g.UID = 1001 }), blocktree.Unauthenticated},
		{"superuser", rack, chain, grant(node, at("rack1", "a"), func(g *Grant) { g.UID = 0 }), blocktree.Unauthenticated},
		{"another group", rack, chain, grant(node, at("rack1", "a"), func(g *Grant) { g.Groups = []uint32{201} }), blocktree.Unauthenticated},
		{"another first group", rack, chain, grant(node, at("rack1", "a"), func(g *Grant) { g.GID = 201 }), blocktree.Unauthenticated},
		{"one of its groups as first", rack, chain, grant(node, at("rack1", "a"), func(g *Grant) { g.GID = 200 }), blocktree.Other},
		{"any user by a superuser", rack, superuser, grant(node, at("rack1", "a"), func(g *Grant) { g.UID = 7; g.GID = 8 }), blocktree.Other},
		{"services by a superuser", rack, superuser, grant(node, at("rack1", "a"), func(g *Grant) { g.Services = []string{"admin"} }), blocktree.Unauthenticated},
		{"ends before it begins", rack, chain, grant(node, at("rack1", "a"), func(g *Grant) { g.NotAfter = g.NotBefore.Add(-time.Second) }), blocktree.Invalid},
		{"empty service", rack, chain, grant(node, at("rack1", "a"), func(g *Grant) { g.Services = []string{""} }), blocktree.Invalid},
		{"no key", Key{}, chain, grant(node, at("rack1", "a")), blocktree.Invalid},
		{"no subject", rack, chain, grant(Key{}, at("rack1", "a")), blocktree.Invalid},
		{"too many groups", testRoot, nil, grant(node, at("a"), func(g *Grant) {
			for i := range uint32(GroupsMax + 1) {
				g.Groups = append(g.Groups, 1000+i)
			}
		}), blocktree.Invalid},
	} {
		t.Run(x.name, func(t *testing.T) {
			_, err := Issue(x.issuer, x.chain, testRoot.Principal(), x.grant)
			if (err == nil) != (x.want == blocktree.Other) || blocktree.KindOf(err) != x.want {
				t.Fatalf("got %v, want kind %v", err, x.want)
			}
		})
	}
}

// forge signs a link that Issue would refuse to make.
func forge(issuer Key, chain Credentials, g Grant) Credentials {
	link := g.certificate(issuer.Public())
	link.Signature = ed25519.Sign(issuer.private(), link.signed())
	return append(slices.Clone(chain), link)
}

func TestVerifyRefuses(t *testing.T) {
	rack, node, mallory := testKey(2), testKey(3), testKey(4)
	toRack := mustIssue(t, testRoot, nil, grant(rack, at("rack1")))
	good := mustIssue(t, rack, toRack, grant(node, at("rack1", "a")))
	change := func(f func(c Credentials)) Credentials {
		c := slices.Clone(good)
		f(c)
		return c
	}
	long := toRack
	for range blocktree.CredentialLinksMax {
		long = forge(rack, long, grant(rack, at("rack1")))
	}
	for _, x := range []struct {
		name  string
		chain Credentials
		root  Key
		now   time.Time
		want  blocktree.Kind // Other: no refusal
	}{
		{"good", good, testRoot, testTime, blocktree.Other},
		{"last second", good, testRoot, testTime.Add(time.Hour), blocktree.Other},
		{"none", nil, testRoot, testTime, blocktree.Unauthenticated},
		{"another root", good, mallory, testTime, blocktree.Unauthenticated},
		{"expired", good, testRoot, testTime.Add(time.Hour + time.Second), blocktree.Unauthenticated},
		{"not yet", good, testRoot, testTime.Add(-time.Hour - time.Second), blocktree.Unauthenticated},
		{"upper link expired", forge(rack, mustIssue(t, testRoot, nil, grant(rack, at("rack1"), func(g *Grant) { g.NotAfter = testTime.Add(-time.Second) })),
			grant(node, at("rack1", "a"))), testRoot, testTime, blocktree.Unauthenticated},
		{"first link missing", good[1:], testRoot, testTime, blocktree.Unauthenticated},
		{"order", Credentials{good[1], good[0]}, testRoot, testTime, blocktree.Unauthenticated},
		{"path changed", change(func(c Credentials) { c[1].Path = at("rack1", "b") }), testRoot, testTime, blocktree.Unauthenticated},
		{"times changed", change(func(c Credentials) { c[1].NotAfter += 1000 }), testRoot, testTime, blocktree.Unauthenticated},
		{"subject changed", change(func(c Credentials) { c[1].Subject = mallory.Public() }), testRoot, testTime, blocktree.Unauthenticated},
		{"signed by another", forge(mallory, toRack, grant(node, at("rack1", "a"))), testRoot, testTime, blocktree.Unauthenticated},
		{"beyond the end of time", forge(rack, toRack, grant(node, at("rack1", "a"), func(g *Grant) { g.NotAfter = time.Unix(1<<60, 0) })), testRoot, testTime, blocktree.Invalid},
		{"path beside", forge(rack, toRack, grant(node, at("rack2", "a"))), testRoot, testTime, blocktree.Unauthenticated},
		{"more services", forge(rack, toRack, grant(node, at("rack1", "a"), func(g *Grant) { g.Services = []string{"admin"} })), testRoot, testTime, blocktree.Unauthenticated},
		{"superuser", forge(rack, toRack, grant(node, at("rack1", "a"), func(g *Grant) { g.UID = 0 })), testRoot, testTime, blocktree.Unauthenticated},
		{"services out of order", change(func(c Credentials) { c[1].Services = []string{"sector", "fs"} }), testRoot, testTime, blocktree.Invalid},
		{"as long as may be", long[:blocktree.CredentialLinksMax], testRoot, testTime, blocktree.Other},
		{"too long", long, testRoot, testTime, blocktree.TooLarge},
	} {
		t.Run(x.name, func(t *testing.T) {
			id, err := Verify(x.chain, x.root.Principal(), x.now)
			if (err == nil) != (x.want == blocktree.Other) || blocktree.KindOf(err) != x.want {
				t.Fatalf("got %v, want kind %v", err, x.want)
			}
			if err != nil && !id.Anonymous() {
				t.Fatalf("an error and an identity: %+v", id)
			}
		})
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	keyFile, credFile := filepath.Join(dir, "key.pem"), filepath.Join(dir, "credentials.pem")
	k := testKey(9)
	chain := mustIssue(t, testRoot, nil, grant(k, at("a")))
	if err := k.Save(keyFile); err != nil {
		t.Fatal(err)
	}
	if err := chain.Save(credFile); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(keyFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	if got, err := LoadKey(keyFile); err != nil || got.Principal() != k.Principal() {
		t.Fatalf("%v, %v", got.Principal(), err)
	}
	if got, err := Load(credFile); err != nil || !bytes.Equal(got.Encode(), chain.Encode()) {
		t.Fatal("credentials came back changed", err)
	}
	if err := k.Save(keyFile); blocktree.KindOf(err) != blocktree.Exists {
		t.Fatalf("a key was overwritten: %v", err)
	}
	if _, err := LoadKey(filepath.Join(dir, "none")); blocktree.KindOf(err) != blocktree.NotFound {
		t.Fatal(err)
	}
	if _, err := Load(keyFile); blocktree.KindOf(err) != blocktree.Invalid {
		t.Fatalf("a key was taken for credentials: %v", err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660, 0o700 | 0o010} {
		if err := os.Chmod(keyFile, mode); err != nil {
			t.Fatal(err)
		}
		_, err := LoadKey(keyFile)
		if blocktree.KindOf(err) != blocktree.Permission || !strings.Contains(blocktree.HintOf(err), "chmod 600") {
			t.Fatalf("mode %o: %v, hint %q", mode, err, blocktree.HintOf(err))
		}
	}
	for _, text := range []string{"", "garbage", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", strings.Repeat("x", fileBytesMax+1)} {
		bad := filepath.Join(dir, "bad")
		if err := os.WriteFile(bad, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKey(bad); err == nil {
			t.Fatalf("a key was read from %.40q", text)
		}
	}
}

func FuzzDecode(f *testing.F) {
	rack := testKey(2)
	chain := mustIssue(f, testRoot, nil, grant(rack, at("rack1")))
	f.Add(chain.Encode())
	f.Add(mustIssue(f, rack, chain, grant(testKey(3), at("rack1", "a"))).Encode())
	f.Add(mustIssue(f, testRoot, nil, grant(rack, at("rack1"), func(g *Grant) { g.Reader = "x25519-abc" })).Encode())
	f.Add(Credentials{}.Encode())
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := Decode(in)
		if err != nil {
			return
		}
		if out := c.Encode(); !bytes.Equal(in, out) {
			t.Fatalf("encode(decode(%x)) = %x", in, out)
		}
		if id, err := Verify(c, testRoot.Principal(), testTime); err == nil && !id.Path.Within(at()) {
			t.Fatalf("an identity outside of the domain: %v", id.Path)
		}
	})
}
