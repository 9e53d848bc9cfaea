package main

import (
	"bytes"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestShape(t *testing.T) {
	d, err := newDomain(shape{fan: []int{2, 3}, directories: 1}, 0)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for n := range d.clusters() * 2 {
		dir := d.directory(n)
		seen[dir.Short()] = true
		c, err := d.home(dir)
		if err != nil || !dir.Within(c.dir) || strings.Contains(strings.TrimPrefix(string(dir), string(c.dir)), "c") {
			t.Errorf("%s is kept by %s, %v", dir.Short(), c.dir.Short(), err)
		}
	}
	if d.clusters() != 9 || len(seen) != 18 || !seen["/c1/c2/d1"] || !seen["/"] {
		t.Errorf("%d clusters, directories %v", d.clusters(), seen)
	}
	big := deep(false)
	if n := big.clusters() * (big.directories + 1); big.clusters() < 100_000 || n < 1_000_000 {
		t.Errorf("%d directories in %d clusters", n, big.clusters())
	}
}

// What every run finds is the cluster that has the file (lookup fails otherwise), at a bounded cost; the same seed gives the same numbers.
func TestSmallDomain(t *testing.T) {
	runs, swept, err := measure(t.Context(), 4, true, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := measure(t.Context(), 4, true, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range runs {
		if !reflect.DeepEqual(o.windows, again[i].windows) {
			t.Errorf("%s: %+v, and again %+v", o.name, o.windows, again[i].windows)
		}
		sum := o.all()
		if o.founds > 0 && sum.founded == 0 {
			t.Errorf("%s: no directory that was known got a cluster of its own", o.name)
		}
		if warm := o.between(coldUpTo, o.lookups); warm.rate(warm.hits) < 0.3 {
			t.Errorf("%s: a process that comes back to its files asks for %d of %d", o.name, warm.lookups-warm.hits, warm.lookups)
		}
		if o.lives == 0 && o.founds == 0 && (sum.stale != 0 || sum.most > uint64(len(o.fan))+1) {
			t.Errorf("%s: %+v: a question goes down a level at a time, and nothing is out of date where nothing moves", o.name, sum)
		}
		if first := o.windows[0]; first.hits != 0 || first.root != first.lookups {
			t.Errorf("%s: %+v: the first question of all begins at the root", o.name, first)
		}
	}
	plain, covering, flat := runs[0].all(), runs[1].all(), runs[3].all()
	if covering.hits <= plain.hits || covering.asks >= plain.asks {
		t.Errorf("answers that say how far they hold save nothing: %+v, %+v", plain, covering)
	}
	if deep := runs[2].all(); flat.root < 4*deep.root {
		t.Errorf("the root of a flat tree has little to do: %+v, %+v", flat, deep)
	}
	if sum := swept.all(); sum.root > 10*uint64(swept.fan[0]+swept.directories+1) || sum.asks > 2*sum.lookups {
		t.Errorf("a sweep: %+v", sum)
	}
}

// Clusters that move are found again, the root's among them; lookup fails otherwise.
func TestChurn(t *testing.T) {
	s := deep(true)
	s.fan = []int{5, 3, 4}
	o, err := run(t.Context(), s, load{seed: 1, processes: 5, lookups: 300, pause: 10 * time.Second, near: 0.8, lives: 10 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if sum := o.all(); sum.stale == 0 || sum.most > 20 {
		t.Errorf("%+v", sum)
	}
}

func TestPageAndPlot(t *testing.T) {
	dir := t.TempDir()
	page := "before\n" + markBegin + "\nold\n" + markEnd + "\nafter\n"
	if err := os.WriteFile(filepath.Join(dir, "ROUTES.md"), []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := scale(t.Context(), dir, 4, true, &out); err != nil || !strings.Contains(out.String(), "| flat | anything | nothing |") {
		t.Errorf("%v\n%s", err, out.String())
	}
	got, err := fill(page, "new")
	if err != nil || got != "before\n"+markBegin+"\n\nnew\n"+markEnd+"\nafter\n" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := fill("nothing", "new"); err == nil {
		t.Error("a page without marks")
	}
	svg := plot([]chart{{title: "a < b", top: 1, lines: []line{{name: "l", points: [][2]float64{{1, 0}, {100, 2}}}}}})
	dec := xml.NewDecoder(strings.NewReader(svg))
	for {
		if _, err := dec.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("%v\n%s", err, svg)
		}
	}
	if !strings.Contains(svg, `points="60.0,250.0 620.0,40.0"`) {
		t.Errorf("a point beyond the top is drawn at it:\n%s", svg)
	}
}
