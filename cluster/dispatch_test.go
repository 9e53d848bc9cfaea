package cluster

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"blocktree"
	"blocktree/internal/dispatch"
	"blocktree/route"
)

// nobodySeeds is a beginning that leads nowhere.
type nobodySeeds struct{}

func (nobodySeeds) Seeds(context.Context) ([]blocktree.Runtime, error) {
	return nil, blocktree.E("seeds", blocktree.Unavailable, errors.New("nobody"))
}

// newServices are services over a cache, and a runtime of the root directory with the service.
func newServices(t *testing.T) (*services, blocktree.Runtime) {
	root := blocktree.PrincipalOf([]byte("root"))
	at := blocktree.RootPath(root).Join("n")
	r, err := NewRoutes(RoutesConfig{Root: root, Seeds: nobodySeeds{}, Logger: slog.New(slog.DiscardHandler), Clock: wayClock{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return &services{routes: r, walls: map[blocktree.Scope]wall{}},
		blocktree.Runtime{Path: at, Principal: blocktree.PrincipalOf([]byte("n")), Endpoints: []string{"127.0.0.1:1"}, Services: []string{blocktree.ServiceFilesystem}}
}

// TestKnownTakesNoMemory: D7. What is in the cache of the process is found without memory, by the address of either kind, from above a wall, too; and no more once it has failed.
func TestKnownTakesNoMemory(t *testing.T) {
	s, r := newServices(t)
	top := r.Path.Parent()
	deep := top.Join("a").Join("b")
	if err := s.routes.cache.Learn(route.Closest, top, blocktree.ServiceFilesystem, true, top, []blocktree.Runtime{r}, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := s.routes.cache.Learn(route.InScope, top, blocktree.ServiceFilesystem, false, top, []blocktree.Runtime{r}, time.Minute); err != nil {
		t.Fatal(err)
	}
	s.setBeyond(deep.Join("wall"), top)
	addresses := []dispatch.Address{
		{Kind: dispatch.Rootward, Scope: deep, Service: blocktree.ServiceFilesystem},
		{Kind: dispatch.Rootward, Scope: deep.Join("wall"), Service: blocktree.ServiceFilesystem},
		{Kind: dispatch.InScope, Scope: top, Service: blocktree.ServiceFilesystem},
	}
	for _, a := range addresses {
		if n := testing.AllocsPerRun(100, func() {
			if f, ok := s.Known(a); !ok || !f.Asked || f.Runtimes[0].Path != r.Path {
				t.Fatalf("%v is not known", a)
			}
		}); n != 0 {
			t.Errorf("%v: %v allocations", a, n)
		}
	}
	if _, ok := s.Known(dispatch.Address{Kind: dispatch.InScope, Scope: deep, Service: blocktree.ServiceFilesystem}); ok {
		t.Error("what is closest is in scope")
	}
	s.Failed(addresses[2])
	if _, ok := s.Known(addresses[2]); ok {
		t.Error("what has failed is known")
	}
}

// TestNamedServices: those who are named by a configuration are used where nobody is found, and are not said to be found.
func TestNamedServices(t *testing.T) {
	s, r := newServices(t)
	a := dispatch.Address{Kind: dispatch.Rootward, Scope: r.Path.Parent().Join("a"), Service: blocktree.ServiceFilesystem}
	if _, err := s.Find(t.Context(), a); blocktree.KindOf(err) != blocktree.Unavailable {
		t.Errorf("nobody is named: %v", err)
	}
	table, err := route.NewTable([]blocktree.Runtime{r})
	if err != nil {
		t.Fatal(err)
	}
	s.named = table
	for _, routes := range []*Routes{s.routes, nil} {
		s.routes = routes
		for _, a := range []dispatch.Address{a, {Kind: dispatch.InScope, Scope: r.Path.Parent(), Service: blocktree.ServiceFilesystem}} {
			if f, err := s.Find(t.Context(), a); err != nil || f.Asked || len(f.Runtimes) != 1 {
				t.Errorf("%v: %+v, %v", a, f, err)
			}
		}
		if _, err := s.Find(t.Context(), dispatch.Address{Kind: dispatch.InScope, Scope: a.Scope, Service: blocktree.ServiceFilesystem}); err == nil {
			t.Error("in scope where nobody is")
		}
	}
}

// TestFoundSteps: A1 of 0057. What is found says how: by asking, from memory, from above a cluster that does not tell, or by what is named; an error says what was tried.
func TestFoundSteps(t *testing.T) {
	s, r := newServices(t)
	top := r.Path.Parent()
	deep := top.Join("a").Join("b")
	a := dispatch.Address{Kind: dispatch.Rootward, Scope: deep, Service: blocktree.ServiceFilesystem}
	says := func(what string, f dispatch.Found, texts ...string) {
		t.Helper()
		if len(f.Steps) != len(texts) {
			t.Errorf("%s: %q", what, f.Steps)
			return
		}
		for i, text := range texts {
			if !strings.Contains(f.Steps[i], text) {
				t.Errorf("%s: %q, want %q", what, f.Steps[i], text)
			}
		}
	}
	f, err := s.Find(t.Context(), a)
	if err == nil || len(f.Runtimes) > 0 {
		t.Fatalf("found nowhere: %+v", f)
	}
	says("nothing is known", f, "no seeds of the root directory")
	table, err := route.NewTable([]blocktree.Runtime{r})
	if err != nil {
		t.Fatal(err)
	}
	s.named = table
	f, err = s.Find(t.Context(), a)
	if err != nil || f.Asked {
		t.Fatal(err)
	}
	says("it is named", f, "no seeds", "the configuration names 1 runtimes in /")
	if err := s.routes.cache.Learn(route.Closest, top, blocktree.ServiceFilesystem, true, top, []blocktree.Runtime{r}, time.Minute); err != nil {
		t.Fatal(err)
	}
	if f, err = s.Find(t.Context(), a); err != nil || !f.Asked {
		t.Fatal(err)
	}
	says("it is known", f, "cached: 1 runtimes in /")
	s.setBeyond(deep, top)
	if f, err = s.Find(t.Context(), a); err != nil || len(f.Runtimes) != 1 {
		t.Fatal(err)
	}
	says("beyond who does not tell", f, "did not tell lately", "cached: 1 runtimes in /")
}
