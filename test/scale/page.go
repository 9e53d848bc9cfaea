package main

import (
	"fmt"
	"strings"
	"time"

	"blocktree"
)

// The marks between which a page has what this program writes.
const (
	markBegin = "<!-- what `make scale` writes begins here -->"
	markEnd   = "<!-- and ends here -->"
)

// fill puts text between the marks of a page.
func fill(page, text string) (string, error) {
	before, rest, ok := strings.Cut(page, markBegin)
	_, after, okEnd := strings.Cut(rest, markEnd)
	if !ok || !okEnd {
		return "", fmt.Errorf("the page has no %q and %q", markBegin, markEnd)
	}
	return before + markBegin + "\n\n" + text + "\n" + markEnd + after, nil
}

// tables are what came of the runs, in Markdown.
func tables(runs []outcome, swept outcome) string {
	var b strings.Builder
	b.WriteString("| tree | what is asked for | what changes | hits, cold | warm | asked for each lookup, cold | warm | most for one | of the root, each 1,000 lookups, cold | warm | out of date, each 1,000 |\n")
	b.WriteString("|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, o := range runs {
		sum, cold, warm := o.all(), o.between(0, coldUpTo), o.between(coldUpTo, o.lookups)
		fmt.Fprintf(&b, "| %s | %s | %s | %.1f %% | %.1f %% | %.2f | %.2f | %d | %.0f | %.1f | %.1f |\n", o.name, near(o.load), changes(o.load), 100*cold.rate(cold.hits), 100*warm.rate(warm.hits),
			cold.rate(cold.asks), warm.rate(warm.asks), sum.most, 1000*cold.rate(cold.root), 1000*warm.rate(warm.root), 1000*sum.rate(sum.stale+sum.founded))
	}
	o := runs[0]
	fmt.Fprintf(&b, "\nOf each: %d processes with a cache of their own, that begin with nothing but seeds and look a file up %d times each, once in %v: one of %d files of its own, the n-th of them with a weight of n to the -%v, but %d %% of the time "+
		"one that is new to it. Cold are the first %d lookups of each, warm the others. %s, %d directories in %d clusters of %d hosts.\n",
		o.processes, o.lookups, o.pause, filesEach, ownSkew, freshPercent, coldUpTo, "By shape: "+shapes(runs), o.clusters()*(o.directories+1), o.clusters(), hostsEach)
	sum := swept.all()
	fmt.Fprintf(&b, "\nOne process that looks every one of the %d directories up once (%s): asks %.3f times for each, %d times the root, and then knows %d scopes in %d MiB, %d bytes for each directory.\n",
		sum.lookups, swept.name, sum.rate(sum.asks), sum.root, swept.cache.Scopes, swept.cache.Bytes>>20, uint64(swept.cache.Bytes)/max(sum.lookups, 1))
	return b.String()
}

// coldUpTo is how many lookups of a process are its first: a power of two.
const coldUpTo = 128

// between adds up the windows of the lookups behind the n-th, to the m-th.
func (o outcome) between(n, m int) window {
	out := o
	out.windows = nil
	for _, w := range o.windows {
		if w.upTo > n && w.upTo <= m {
			out.windows = append(out.windows, w)
		}
	}
	return out.all()
}

// changes says what does while it is asked.
func changes(l load) string {
	span := func(d time.Duration) string { return strings.TrimSuffix(strings.TrimSuffix(d.String(), "0s"), "0m") }
	switch {
	case l.lives > 0:
		return "each cluster moves, once in " + span(l.lives)
	case l.founds > 0:
		return "each directory of the last level gets a cluster of its own, within " + span(l.founds)
	}
	return "nothing"
}

func near(l load) string {
	if l.near == 0 {
		return "anything"
	}
	return fmt.Sprintf("%.0f %% below one place of the first level", 100*l.near)
}

// shapes says what the trees are, each once.
func shapes(runs []outcome) string {
	var out []string
	seen := map[string]bool{}
	for _, o := range runs {
		if seen[o.name] {
			continue
		}
		seen[o.name] = true
		var fan []string
		for _, f := range o.fan {
			fan = append(fan, fmt.Sprint(f))
		}
		out = append(out, fmt.Sprintf("%s has %s clusters below each of a level", o.name, strings.Join(fan, ", ")))
	}
	return strings.Join(out, "; ")
}

// charts are the plot's.
func charts(runs []outcome) []chart {
	hits := chart{title: "Answered by the cache", x: "lookups of a process so far", y: "", top: 1, percent: true}
	root := chart{title: "Questions to the root for each lookup", x: "lookups of a process so far", y: "", top: 1}
	for _, o := range runs {
		if o.lives != 0 || o.founds != 0 {
			continue
		}
		h, r := line{name: o.name + ", " + near(o.load)}, line{name: o.name + ", " + near(o.load)}
		for _, w := range o.windows {
			h.points = append(h.points, [2]float64{float64(w.upTo), w.rate(w.hits)})
			r.points = append(r.points, [2]float64{float64(w.upTo), w.rate(w.root)})
		}
		hits.lines, root.lines = append(hits.lines, h), append(root.lines, r)
	}
	root.title += fmt.Sprintf(" (time to live %v)", blocktree.RouteTTL)
	return []chart{hits, root}
}
