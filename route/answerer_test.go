package route_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/route"
)

// ask puts a question to the cluster of a directory, as a member of the domain.
func ask(t *testing.T, w *world, dir string, q route.Query) (route.Answer, error) {
	t.Helper()
	frame, err := w.clusters[w.at(dir)].hosts[0].answerer.Serve(t.Context(), q.Encode(), route.Querier{Identity: w.caller("/client")})
	if err != nil {
		return route.Answer{}, err
	}
	a, _, err := route.Open(frame, w.key.Principal(), q, w.now())
	return a, err
}

func TestAnswers(t *testing.T) {
	w := newWorld(t, 2, "", "/a", "/a/b/c")
	w.service("/a/b", "fs1", "filesystem")
	w.service("", "fs0", "filesystem")
	for _, x := range []struct {
		of             string
		kind           route.QueryKind
		scope, service string
		want           string
	}{
		{"", route.InScope, "", "sector", "found /: /node0 /node1"},
		{"", route.InScope, "/x", "sector", "nobody"},
		{"", route.Closest, "/x/y", "filesystem", "found /: /fs0"},
		{"", route.Closest, "/x/y", "nothing", "nobody"},
		{"", route.Closest, "/a", "sector", "redirected /a"},
		{"", route.InScope, "/a/b/c/d", "sector", "redirected /a"}, // the first on the way, not the last
		{"/a", route.InScope, "/a/b/c", "sector", "redirected /a/b/c"},
		{"/a", route.Closest, "/a/b", "filesystem", "found /a/b: /a/b/fs1"},
		{"/a", route.Closest, "/a/b", "sector", "found /a: /a/node0 /a/node1"},
		{"/a", route.Closest, "/a/x", "filesystem", "redirected /"},
		{"/a", route.InScope, "/a/x", "filesystem", "nobody"},
		{"/a/b/c", route.Closest, "/a/b/c/d", "filesystem", "redirected /a"},
		{"/a/b/c", route.Closest, "/a/b", "filesystem", "redirected /a"}, // above it
		{"/a/b/c", route.InScope, "/z", "sector", "redirected /a"},       // beside it
	} {
		a, err := ask(t, w, x.of, question(x.kind, w.at(x.scope), x.service))
		got := fmt.Sprint(a.Outcome)
		switch {
		case err != nil:
			got = err.Error()
		case a.Outcome == route.Found:
			got += " " + a.In.Short() + ":"
			for _, r := range a.Runtimes {
				got += " " + r.Path.Short()
			}
		case a.Outcome == route.Redirected:
			got += " " + a.Redirect.Directory.Short()
		}
		if got != x.want {
			t.Errorf("the cluster of %q, %v %q %s: %s, want %s", x.of, x.kind, x.scope, x.service, got, x.want)
		}
		if ttl := map[bool]time.Duration{true: blocktree.RouteNegativeTTL, false: blocktree.RouteTTL}[a.Outcome == route.Nobody]; err == nil && a.TTL != ttl {
			t.Errorf("%v holds for %v", a.Outcome, a.TTL)
		}
	}
}

// broken is a namespace that cannot say, or lacks what it should have.
type broken struct {
	*cluster
	err    error
	parent *route.Redirect
}

func (b broken) Registered(ctx context.Context, dir blocktree.Scope, service string) ([]blocktree.Runtime, error) {
	return nil, b.err
}

func (b broken) Parent(context.Context) (route.Redirect, bool, error) {
	if b.parent == nil {
		return route.Redirect{}, false, nil
	}
	return *b.parent, true, nil
}

func TestAnswererWithoutAnAnswer(t *testing.T) {
	w := newWorld(t, 1, "", "/a")
	c := w.clusters[w.at("/a")]
	serve := func(ns route.Namespace, q route.Query) (error, route.AnswererStats) {
		a, err := route.NewAnswerer(route.AnswererConfig{Namespace: ns, Signer: func() route.Signer { return c.hosts[0].signer }})
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.Serve(t.Context(), q.Encode(), route.Querier{Identity: w.caller("/client")})
		return err, a.Stats()
	}
	lost := blocktree.E("read", blocktree.Unavailable, errors.New("no majority"))
	for _, x := range []struct {
		name string
		ns   route.Namespace
		q    route.Query
		kind blocktree.Kind
	}{
		{"no majority", broken{cluster: c, err: lost}, question(route.Closest, c.dir, "sector"), blocktree.Unavailable},
		{"no parent known", broken{cluster: c}, question(route.InScope, w.root, "sector"), blocktree.Unavailable},
		{"no address of the parent", broken{cluster: c, parent: &route.Redirect{Directory: w.root}}, question(route.InScope, w.root, "sector"), blocktree.Unavailable},
		{"another domain", c, question(route.Closest, root, "sector"), blocktree.NotFound},
	} {
		if err, stats := serve(x.ns, x.q); blocktree.KindOf(err) != x.kind || stats.Failed != 1 {
			t.Errorf("%s: %v, %+v", x.name, err, stats)
		}
	}
	if _, err := c.hosts[0].answerer.Serve(t.Context(), []byte{1, 2, 3}, route.Querier{}); blocktree.KindOf(err) != blocktree.Invalid || c.hosts[0].answerer.Stats().Malformed != 1 {
		t.Error(err)
	}
	if _, err := route.NewAnswerer(route.AnswererConfig{Namespace: c, TTL: 2 * blocktree.RouteTTLMax}); blocktree.KindOf(err) != blocktree.Invalid {
		t.Error(err)
	}
}

// One bad record, and more records than an answer has room for, spoil no answer.
func TestAnswerIsBounded(t *testing.T) {
	w := newWorld(t, 2, "")
	c := w.clusters[w.root]
	c.registered[w.root][0].Endpoints = nil
	a, err := ask(t, w, "", question(route.InScope, w.root, "sector"))
	if err != nil || len(a.Runtimes) != 1 || a.Partial {
		t.Errorf("%v, %+v", err, a)
	}
	for i := range 2 * blocktree.RouteRuntimesMax {
		r := c.hosts[1].runtime
		r.Path, r.Principal = w.root.Join(fmt.Sprintf("m%03d", i)), principal(fmt.Sprint(i))
		c.registered[w.root] = append(c.registered[w.root], r)
	}
	a, err = ask(t, w, "", question(route.InScope, w.root, "sector"))
	if err != nil || len(a.Runtimes) != blocktree.RouteRuntimesMax || !a.Partial {
		t.Errorf("%v, %d runtimes, partial %t", err, len(a.Runtimes), a.Partial)
	}
}

// A flood by one anonymous address, by many, or by one principal, leaves the others unharmed, and fills no table.
func TestFlood(t *testing.T) {
	w := newWorld(t, 1, "")
	now := w.begin
	w.now = func() time.Time { return now }
	a, err := route.NewAnswerer(route.AnswererConfig{Namespace: w.clusters[w.root], Signer: func() route.Signer { return w.clusters[w.root].hosts[0].signer },
		Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	q := question(route.InScope, w.root, "sector").Encode()
	try := func(id cred.Identity, addr string) blocktree.Kind {
		_, err := a.Serve(t.Context(), q, route.Querier{Identity: id, Address: netip.MustParseAddr(addr)})
		return blocktree.KindOf(err)
	}
	flood := func(n int, id cred.Identity, addr func(i int) string) (answered int) {
		for i := range n {
			if try(id, addr(i)) == blocktree.Other {
				answered++
			}
		}
		return answered
	}
	nobody, loud := cred.Identity{}, w.caller("/loud")
	// An IPv6 host has all of its /64.
	if n := flood(1000, nobody, func(i int) string { return fmt.Sprintf("2001:db8::%x", i+1) }); n != blocktree.RouteAnonymousBurst {
		t.Errorf("one network of anonymous callers is answered %d times", n)
	}
	if k := try(nobody, "192.0.2.1"); k != blocktree.Other {
		t.Errorf("an anonymous caller beside a flood: %v", k)
	}
	if n := flood(20000, nobody, func(i int) string { return fmt.Sprintf("10.1.%d.%d", i/200, i%200) }); n != blocktree.RouteAnonymousAllBurst-blocktree.RouteAnonymousBurst-1 {
		t.Errorf("all networks of anonymous callers are answered %d times", n)
	}
	if a.Queriers() > blocktree.RouteAnonymousAllBurst {
		t.Errorf("%d queriers are kept", a.Queriers())
	}
	if n := flood(1000, loud, func(int) string { return "10.0.0.1" }); n != blocktree.RouteQueriesBurst {
		t.Errorf("one principal is answered %d times", n)
	}
	if k := try(w.caller("/quiet"), "10.0.0.1"); k != blocktree.Other {
		t.Errorf("a member beside the floods, and behind the same address: %v", k)
	}
	if k := try(loud, "10.0.0.1"); k != blocktree.Busy {
		t.Error(k)
	}
	now = now.Add(time.Second)
	if n := flood(1000, loud, func(int) string { return "10.0.0.1" }); n != blocktree.RouteQueriesPerSecond {
		t.Errorf("%d more in a second", n)
	}
	if stats := a.Stats(); stats.Limited == 0 || stats.Found == 0 {
		t.Errorf("%+v", stats)
	}
}

// A full table makes room for new queriers as soon as old ones have been quiet.
func TestQueriersAreForgotten(t *testing.T) {
	w := newWorld(t, 1, "")
	now := w.begin
	a, _ := route.NewAnswerer(route.AnswererConfig{Namespace: w.clusters[w.root], Now: func() time.Time { return now }})
	admit := func(i int) bool {
		return a.Admit(route.Querier{Identity: cred.Identity{Principal: principal(fmt.Sprint(i))}})
	}
	for i := range blocktree.RouteQueriersMax {
		if !admit(i) {
			t.Fatal(i)
		}
	}
	if admit(-1) || a.Queriers() != blocktree.RouteQueriersMax {
		t.Error("more are kept than there is room for")
	}
	now = now.Add(time.Second)
	if !admit(-1) || a.Queriers() != 1 {
		t.Errorf("%d are kept after a quiet second", a.Queriers())
	}
}

// BenchmarkServe is what one answer costs the answerer, its signature included.
func BenchmarkServe(b *testing.B) {
	w := newWorld(b, 3, "", "/a")
	h := w.clusters[w.root].hosts[0]
	q := question(route.Closest, w.at("/a/x/y/disk0"), "sector").Encode()
	id := w.caller("/client")
	begin := processor(b)
	for i := 0; b.Loop(); i++ {
		id.Principal[1], id.Principal[2] = byte(i), byte(i>>8) // many ask, each seldom
		if _, err := h.answerer.Serve(b.Context(), q, route.Querier{Identity: id}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(processor(b)-begin)/float64(b.N), "cpu-ns/op")
}

// BenchmarkOpen is what it costs who asked.
func BenchmarkOpen(b *testing.B) {
	w := newWorld(b, 3, "", "/a")
	q := question(route.Closest, w.at("/a/x/y/disk0"), "sector")
	frame, err := w.clusters[w.root].hosts[0].answerer.Serve(b.Context(), q.Encode(), route.Querier{Identity: w.caller("/client")})
	if err != nil {
		b.Fatal(err)
	}
	begin := processor(b)
	for b.Loop() {
		if _, _, err := route.Open(frame, w.key.Principal(), q, w.now()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(processor(b)-begin)/float64(b.N), "cpu-ns/op")
}
