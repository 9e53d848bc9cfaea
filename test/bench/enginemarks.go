package main

import (
	"fmt"
	"slices"
	"strings"
)

// mark is one that has to be met: a ratio, of every round by itself.
type mark struct {
	what, mark string
	limit      float64
	atMost     bool
	rounds     []readings
	of         func(readings) float64
}

// marks of the subset. A ratio of rates is at least its limit, one of latencies at most.
func (b *bench) engineMarks() []mark {
	var list []mark
	rate := func(what string, limit float64, server, other, workload string, rounds []readings) {
		list = append(list, mark{what: what + ", " + workload, mark: fmt.Sprintf("≥ %.1f × %s", limit, other), limit: limit, rounds: rounds,
			of: func(r readings) float64 {
				return r[key{server, workload}].perSecond / r[key{other, workload}].perSecond
			}})
	}
	for _, w := range []string{randRead1, randWrite1, randRead32, randWrite32} {
		rate(ours, 1, ours, nbdkit, w, b.engineReadings)
	}
	for _, w := range []string{seqRead, seqWrite} {
		rate(ours, 0.9, ours, nbdkit, w, b.engineReadings)
	}
	for _, w := range []string{randRead1, randRead32} {
		rate("cached", 0.6, cached, nbdkit, w, b.cachedReadings)
	}
	for _, w := range []string{randRead32, randWrite32} {
		rate("line, flush", 0.8, flushing, bareNamed, w, b.engineReadings)
	}
	for _, w := range []string{randRead1, randWrite1} {
		list = append(list, mark{what: "line, flush, " + w + ", latency", mark: "≤ 2 × " + bareNamed + " + nbdkit", limit: 1, atMost: true, rounds: b.engineReadings,
			of: func(r readings) float64 {
				return r[key{flushing, w}].latency / (2*r[key{bareNamed, w}].latency + r[key{nbdkit, w}].latency)
			}})
	}
	for _, w := range []string{seqRead, seqWrite} {
		rate("line, flush", 0.7, flushing, bareNamed, w, b.engineReadings)
	}
	list = append(list, mark{what: "line, ack, " + randWrite1 + ", latency", mark: "≤ " + syncsNamed + " + 500 µs", limit: 1, atMost: true, rounds: b.engineReadings,
		of: func(r readings) float64 {
			return r[key{blocktree, randWrite1}].latency / (r[key{syncsNamed, ""}].latency + 500)
		}})
	list = append(list, mark{what: "line, ack, " + randWrite32, mark: "≥ 8000 /s", limit: 1, rounds: b.engineReadings,
		of: func(r readings) float64 { return r[key{blocktree, randWrite32}].perSecond / 8000 }})
	return list
}

// ratios of all rounds.
func (m *mark) ratios() []float64 {
	var list []float64
	for _, r := range m.rounds {
		list = append(list, m.of(r))
	}
	return list
}

// met says whether the median of the rounds is within the limit.
func (m *mark) met() bool {
	r := median(m.ratios())
	return len(m.rounds) > 0 && (m.atMost && r <= m.limit || !m.atMost && r >= m.limit)
}

// unmet names the marks that are not met.
func (b *bench) unmet() (names []string) {
	for _, m := range b.engineMarks() {
		if !m.met() {
			names = append(names, m.what)
		}
	}
	return names
}

// engineReport writes the part of the page about the engine and the line.
func (b *bench) engineReport(p *strings.Builder) {
	fmt.Fprintf(p, "\n## Marks of the engine and of the whole line\n\nRatios of rates, or of mean latencies, each within one round; median (least to most) of %d rounds. \"%s\" answers from the Go heap what\n"+
		"nbdkit answers from its own; \"cached\" are reads of %d MiB that btnbd has in its cache; \"flush\" and \"ack\" are the whole line, cache off, in these durabilities.\n\n"+
		"| what | mark | is | met |\n|---|---|---|---|\n", len(b.engineReadings), ours, cachedMiB)
	for _, m := range b.engineMarks() {
		fmt.Fprintf(p, "| %s | %s | %s | %s |\n", m.what, m.mark, spreadRatio(m.ratios(), m.atMost), met(m.met()))
	}
	p.WriteString("\n| workload | server | requests/s | mean µs | µs of CPU per request: client | server(s) | rate / nbdkit | rate / bare |\n|---|---|---|---|---|---|---|---|\n")
	for _, w := range comparedWorkloads() {
		for _, name := range []string{nbdkit, ours, blocktree, flushing, bareNamed} {
			engineRow(p, w.name, name, b.engineReadings)
		}
	}
	for _, w := range cachedWorkloads() {
		for _, name := range []string{nbdkit, cached} {
			engineRow(p, w.name+", cached", name, b.cachedReadings, w.name)
		}
	}
	p.WriteString("\n### Where the time goes\n\nCPU profiles of one more run of each, in microseconds per request, as below.\n\nOur engine over memory:\n")
	profileTables(p, []string{"memory"}, b.engineProfiles)
	p.WriteString("\nReads from the cache:\n")
	profileTables(p, []string{"btnbd"}, b.cachedProfiles)
	p.WriteString("\nThe whole line, flush:\n")
	profileTables(p, []string{"btnbd", "nodes"}, b.lineProfiles)
}

// engineRow writes what one server did with a workload, which is called otherwise in the readings if named is given.
func engineRow(p *strings.Builder, title, server string, rounds []readings, named ...string) {
	workload := title
	if len(named) > 0 {
		workload = named[0]
	}
	var rates, latencies, client, servers, kit, bare []float64
	for _, r := range rounds {
		s := r[key{server, workload}]
		rates, latencies = append(rates, s.perSecond), append(latencies, s.latency)
		client, servers = append(client, s.cpu["fio"]), append(servers, s.serverCPU())
		kit = append(kit, s.perSecond/r[key{nbdkit, workload}].perSecond)
		if other := r[key{bareNamed, workload}].perSecond; other > 0 {
			bare = append(bare, s.perSecond/other)
		}
	}
	fmt.Fprintf(p, "| %s | %s | %s | %s | %.1f | %.1f | %s | %s |\n", title, server, spread(rates, ""), spread(latencies, ""),
		median(client), median(servers), spreadRatio(kit, false), spreadRatio(bare, false))
}

// serverCPU is all but the client's.
func (s sample) serverCPU() float64 {
	sum := 0.0
	for name, us := range s.cpu {
		if name != "fio" {
			sum += us
		}
	}
	return sum
}

// spreadRatio prints a median with its least and most.
func spreadRatio(list []float64, atMost bool) string {
	if len(list) == 0 {
		return "–"
	}
	unit := "×"
	if atMost {
		unit = "× the limit"
	}
	return fmt.Sprintf("%.2f (%.2f to %.2f) %s", median(list), slices.Min(list), slices.Max(list), unit)
}
