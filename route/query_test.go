package route_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/route"
)

// answers returns a good answer of each kind, given by the cluster of /a, whose parent is that of the root directory.
func answers(w *world) map[string]route.Answer {
	a := w.clusters[w.at("/a")]
	base := func(kind route.QueryKind, scope string, o route.Outcome) route.Answer {
		return route.Answer{Query: question(kind, w.at(scope), "sector"), Directory: a.dir, Outcome: o, TTL: time.Minute, Given: time.UnixMilli(w.now().UnixMilli())}
	}
	found := base(route.InScope, "/a", route.Found)
	found.In, found.Runtimes = a.dir, a.redirect().Runtimes
	closest := base(route.Closest, "/a/x/y", route.Found)
	closest.In, closest.Runtimes, closest.Covers = a.dir, a.redirect().Runtimes, w.at("/a/x")
	down := base(route.Closest, "/a/b/c", route.Redirected)
	down.Redirect = w.clusters[w.at("/a/b")].redirect()
	up := base(route.Closest, "/a/x", route.Redirected)
	up.Redirect, up.Covers = w.clusters[w.root].redirect(), w.at("/a/x")
	away := base(route.InScope, "/other", route.Redirected)
	away.Redirect = w.clusters[w.root].redirect()
	return map[string]route.Answer{"found": found, "closest": closest, "nobody": base(route.InScope, "/a/x", route.Nobody), "down": down, "up": up, "away": away}
}

func TestSealAndOpen(t *testing.T) {
	w := newWorld(t, 2, "", "/a", "/a/b")
	for name, a := range answers(w) {
		frame, err := w.clusters[a.Directory].hosts[1].signer.Seal(a)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, id, err := route.Open(frame, w.key.Principal(), a.Query, w.now())
		if err != nil || !reflect.DeepEqual(got, a) || id.Path != w.at("/a/node1") {
			t.Errorf("%s: %+v by %s, %v; want %+v", name, got, id.Path, err, a)
		}
	}
}

// What no answerer may say is refused by its form, by who signs and by who reads.
func TestAnswerCheck(t *testing.T) {
	w := newWorld(t, 2, "", "/a", "/a/b", "/z")
	root := w.clusters[w.root].redirect()
	for _, x := range []struct {
		name, of string
		change   func(*route.Answer)
	}{
		{"no time", "found", func(a *route.Answer) { a.TTL = 0 }},
		{"for ever", "found", func(a *route.Answer) { a.TTL = blocktree.RouteTTLMax + time.Millisecond }},
		{"another domain", "found", func(a *route.Answer) { a.Directory = blocktree.RootPath(principal("other")) }},
		{"found above itself", "closest", func(a *route.Answer) { a.In, a.Runtimes, a.Covers = w.root, root.Runtimes, "" }},
		{"found elsewhere than asked", "found", func(a *route.Answer) { a.Query.Scope = w.at("/a/x") }},
		{"found below what was asked", "closest", func(a *route.Answer) { a.Query.Scope, a.In, a.Covers = w.at("/a"), w.at("/a/x"), "" }},
		{"found nobody", "found", func(a *route.Answer) { a.Runtimes = nil }},
		{"too many", "found", func(a *route.Answer) {
			a.Runtimes = nil
			for i := range blocktree.RouteRuntimesMax + 1 {
				r := at("", 1, "sector")
				r.Path = a.In.Join("n" + strings.Repeat("x", i+1))
				a.Runtimes = append(a.Runtimes, r)
			}
		}},
		{"runtimes elsewhere", "found", func(a *route.Answer) { a.Runtimes = root.Runtimes }},
		{"another service", "found", func(a *route.Answer) { a.Runtimes[0].Services = []string{"filesystem"} }},
		{"no endpoint", "found", func(a *route.Answer) { a.Runtimes[0].Endpoints = nil }},
		{"one twice", "found", func(a *route.Answer) { a.Runtimes[1] = a.Runtimes[0] }},
		{"covers what is above it", "closest", func(a *route.Answer) { a.Covers = w.root }},
		{"covers what was not asked", "closest", func(a *route.Answer) { a.Covers = w.at("/a/other") }},
		{"covers more than in scope can", "nobody", func(a *route.Answer) { a.Covers = w.at("/a/x") }},
		{"covers more than was found", "closest", func(a *route.Answer) {
			a.In, a.Covers = w.at("/a/x"), w.at("/a")
			for i := range a.Runtimes {
				a.Runtimes[i].Path = a.In.Join(a.Runtimes[i].Path.Base())
			}
		}},
		{"nobody where it does not speak", "nobody", func(a *route.Answer) { a.Query.Scope = w.at("/other") }},
		{"nobody above it", "nobody", func(a *route.Answer) { a.Query.Kind = route.Closest }},
		{"down, not on the way", "down", func(a *route.Answer) { a.Query.Scope = w.at("/a/x") }},
		{"down, covering more", "down", func(a *route.Answer) { a.Covers = w.at("/a/b/c") }},
		{"to itself", "down", func(a *route.Answer) { a.Redirect = w.clusters[w.at("/a")].redirect() }},
		{"aside", "away", func(a *route.Answer) { a.Redirect = w.clusters[w.at("/z")].redirect() }},
		{"up from where the scope is", "up", func(a *route.Answer) { a.Query.Kind, a.Covers = route.InScope, "" }},
		{"to nobody", "down", func(a *route.Answer) { a.Redirect.Runtimes = nil }},
		{"to other than sector hosts", "down", func(a *route.Answer) { a.Redirect.Runtimes[0].Services = nil }},
		{"unknown outcome", "nobody", func(a *route.Answer) { a.Outcome = 9 }},
		{"unknown query", "nobody", func(a *route.Answer) { a.Query.Kind = 9 }},
	} {
		a := answers(w)[x.of]
		x.change(&a)
		if _, err := w.clusters[w.at("/a")].hosts[0].signer.Seal(a); blocktree.KindOf(err) != blocktree.Invalid {
			t.Errorf("%s: %v", x.name, err)
		}
		// Who lies does not check: the reader must.
		frame := route.SealUnchecked(w.clusters[w.at("/a")].hosts[0].signer, a)
		if _, _, err := route.Open(frame, w.key.Principal(), a.Query, w.now()); err == nil {
			t.Errorf("%s: believed", x.name)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	w := newWorld(t, 1, "", "/a", "/a/b", "/z")
	other := newWorld(t, 1, "", "/a", "/a/b")
	a := answers(w)["found"]
	good := w.clusters[a.Directory].hosts[0].signer
	frame, err := good.Seal(a)
	if err != nil {
		t.Fatal(err)
	}
	by := func(s route.Signer) []byte { return route.SealUnchecked(s, a) }
	another := a.Query
	another.Nonce = route.NewNonce()
	bent := func(i int) []byte {
		b := bytes.Clone(frame)
		b[(i+len(b))%len(b)] ^= 1
		return b
	}
	for _, x := range []struct {
		name  string
		frame []byte
		q     route.Query
		now   time.Time
		kind  blocktree.Kind
	}{
		{"an earlier answer", frame, another, w.now(), blocktree.Invalid},
		{"a bent answer", bent(60), a.Query, w.now(), blocktree.Unauthenticated},
		{"a bent signature", bent(-1), a.Query, w.now(), blocktree.Unauthenticated},
		{"a longer frame", append(bytes.Clone(frame), 0), a.Query, w.now(), blocktree.Invalid},
		{"a newer format", append([]byte{2}, frame[1:]...), a.Query, w.now(), blocktree.NewerFormat},
		{"too long a frame", make([]byte, blocktree.RouteAnswerBytesMax+1), a.Query, w.now(), blocktree.TooLarge},
		{"of a cluster beside", by(w.clusters[w.at("/z")].hosts[0].signer), a.Query, w.now(), blocktree.Unauthenticated},
		{"of the child", by(w.clusters[w.at("/a/b")].hosts[0].signer), a.Query, w.now(), blocktree.Unauthenticated},
		{"of a client in the directory", by(w.identity(w.at("/a/client"), "filesystem")), a.Query, w.now(), blocktree.Unauthenticated},
		{"of another domain", by(other.clusters[other.at("/a")].hosts[0].signer), a.Query, w.now(), blocktree.Unauthenticated},
		{"of nobody", by(route.Signer{Key: good.Key}), a.Query, w.now(), blocktree.Unauthenticated},
		{"with the credentials of another", by(route.Signer{Key: w.clusters[w.root].hosts[0].signer.Key, Credentials: good.Credentials}), a.Query, w.now(), blocktree.Unauthenticated},
		{"when they have ended", frame, a.Query, w.now().Add(2000 * time.Hour), blocktree.Unauthenticated},
	} {
		if got, _, err := route.Open(x.frame, w.key.Principal(), x.q, x.now); blocktree.KindOf(err) != x.kind || err == nil {
			t.Errorf("%s: %v, %+v", x.name, err, got)
		}
	}
	if _, id, err := route.Open(frame, w.key.Principal(), a.Query, w.now()); err != nil || id.Principal != good.Key.Principal() {
		t.Error("the good one:", err)
	}
}

func TestSpeaksFor(t *testing.T) {
	w := newWorld(t, 1, "")
	for _, x := range []struct {
		id   cred.Identity
		want blocktree.Scope
	}{
		{w.caller("/node0", "sector"), w.root},
		{w.caller("/a/b/node0", "filesystem", "sector"), w.at("/a/b")},
		{w.caller("/client"), ""},
		{w.caller("/a/fs", "filesystem"), ""},
		{cred.Identity{}, ""},
	} {
		if got, ok := route.SpeaksFor(x.id); got != x.want || ok != (x.want != "") {
			t.Errorf("%s: %q, %t", x.id.Path, got, ok)
		}
	}
}

func TestQueryCheck(t *testing.T) {
	good := question(route.Closest, root, "sector")
	if got, err := route.DecodeQuery(good.Encode()); err != nil || got != good {
		t.Fatal(got, err)
	}
	for _, change := range []func(*route.Query){
		func(q *route.Query) { q.Kind = 0 },
		func(q *route.Query) { q.Kind = 3 },
		func(q *route.Query) { q.Scope = "/a" },
		func(q *route.Query) { q.Scope += "/" },
		func(q *route.Query) { q.Scope += "/../x" },
		func(q *route.Query) { q.Service = "" },
	} {
		q := good
		change(&q)
		if _, err := route.DecodeQuery(q.Encode()); blocktree.KindOf(err) != blocktree.Invalid {
			t.Errorf("%+v: %v", q, err)
		}
	}
	long := good
	long.Service = strings.Repeat("s", cred.ServiceBytesMax+1)
	if _, err := route.DecodeQuery(long.Encode()); blocktree.KindOf(err) != blocktree.TooLarge {
		t.Error(err)
	}
}

func FuzzDecodeQuery(f *testing.F) {
	f.Add(question(route.Closest, root+"/a", "sector").Encode())
	f.Fuzz(func(t *testing.T, in []byte) {
		if q, err := route.DecodeQuery(in); err == nil && !bytes.Equal(q.Encode(), in) {
			t.Fatalf("%x is read as %+v, which is %x", in, q, q.Encode())
		}
	})
}

func FuzzDecodeAnswer(f *testing.F) {
	w := newWorld(f, 2, "", "/a", "/a/b")
	for _, a := range answers(w) {
		f.Add(route.EncodeAnswer(a))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		a, err := route.DecodeAnswer(in)
		if err != nil {
			return
		}
		if !bytes.Equal(route.EncodeAnswer(a), in) {
			t.Fatalf("%x is read as %+v, which is %x", in, a, route.EncodeAnswer(a))
		}
	})
}

func FuzzOpen(f *testing.F) {
	w := newWorld(f, 1, "", "/a", "/a/b")
	a := answers(w)["down"]
	frame, err := w.clusters[a.Directory].hosts[0].signer.Seal(a)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(frame)
	f.Fuzz(func(t *testing.T, in []byte) {
		if _, _, err := route.Open(in, w.key.Principal(), a.Query, w.now()); err == nil && !bytes.Equal(in, frame) {
			t.Fatalf("believed %x", in)
		}
	})
}
