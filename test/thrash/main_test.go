package main

import (
	"bytes"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// The same seed makes the same plan, another one another, and over some seeds every kind that there is appears.
func TestPlanIsReproducible(t *testing.T) {
	o := options{nodes: 3, code: "2+1", lasts: 10 * time.Minute, seed: 1}
	a := makePlan(o)
	if !slices.Equal(a, makePlan(o)) {
		t.Fatal("the same seed made another plan")
	}
	o.seed = 2
	b := makePlan(o)
	if slices.Equal(a, b) {
		t.Fatal("another seed made the same plan")
	}
	seen := map[string]bool{}
	for _, e := range append(a, b...) {
		seen[e.kind] = true
		if e.node == e.other || e.node >= o.nodes || e.other >= o.nodes || e.other < -2 {
			t.Errorf("%v", e)
		}
	}
	for _, k := range o.chosen() {
		if !seen[k.name] {
			t.Errorf("no %s in two plans of ten minutes", k.name)
		}
	}
}

// A register's sector is recognised only if it is whole and its own.
func TestPattern(t *testing.T) {
	p := pattern(7, 99)
	if v, ok := value(7, p); v != 99 || !ok {
		t.Errorf("%d %v", v, ok)
	}
	if _, ok := value(8, p); ok {
		t.Error("another register's sector passed")
	}
	copy(p[2048:], pattern(7, 98)[2048:])
	if _, ok := value(7, p); ok {
		t.Error("a torn sector passed")
	}
	if v, ok := value(7, make([]byte, sectorBytes)); v != 0 || !ok {
		t.Error("zeros are not the initial value")
	}
}

// A sector of the mirror is what was acknowledged, or what is open; a later life of the server decides which.
func TestSectorAccepts(t *testing.T) {
	is := func(x byte) []byte { return bytes.Repeat([]byte{x}, sectorBytes) }
	s := sector{data: is(1), open: [][]byte{is(2), nil}, openLife: 3}
	for x, want := range map[byte]bool{0: true, 1: true, 2: true, 3: false} {
		if got := s.accept(is(x), 3); got != want {
			t.Errorf("%d: %v", x, got)
		}
	}
	if len(s.open) != 2 {
		t.Error("the same life decided")
	}
	if !s.accept(is(2), 4) || s.accept(is(1), 4) || s.accept(is(0), 4) || !s.accept(is(2), 4) {
		t.Error("a later life did not decide")
	}
}

// TestBounded: a program that says the same for ever ends.
func TestBounded(t *testing.T) {
	c, said := exec.Command("yes"), new(bounded)
	c.Stdout = said
	if err := c.Run(); err == nil || len(said.kept) == 0 || len(said.kept) > boundedBytesMax {
		t.Errorf("%v, %d bytes", err, len(said.kept))
	}
}
