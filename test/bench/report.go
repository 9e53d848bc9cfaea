package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// report writes the page.
func (b *bench) report() string {
	var p strings.Builder
	p.WriteString("# Benchmarks\n\nWritten by `make bench` (test/bench); do not edit. Everything here was measured in one run, side by side, so that\n" +
		"ratios hold even where the machine was busy. Later work is planned from the last two tables.\n\n")
	fmt.Fprintf(&p, "- %s; took %s; load average before: %s\n", b.began.UTC().Format("2006-01-02 15:04 UTC"),
		time.Since(b.began).Round(time.Second), b.load)
	for _, line := range machine(b.work) {
		fmt.Fprintf(&p, "- %s\n", line)
	}
	fmt.Fprintf(&p, "- %d round(s) of %s per line; median (least to most)\n", b.rounds, b.each)
	fmt.Fprintf(&p, "- Blocktree: three `btnode run` processes and `btnbd serve --cache off` on one machine, code 2+1, encrypted, TLS between all,\n"+
		"  file of %d MiB all written, workloads over %d MiB; a write is answered when it is durable on all three nodes (the others, and\n"+
		"  \"flush\", a file of that durability: when it is in memory, but for the line with a flush)\n", b.diskMiB, b.regionMiB)
	if b.onlyEngine {
		b.engineReport(&p)
		return p.String()
	}
	b.marks(&p)
	b.throughput(&p)
	b.bareTable(&p)
	b.floorTable(&p)
	b.cpuTable(&p)
	p.WriteString("\nThe same by layer, from CPU profiles of one more run of each: microseconds per request.\n")
	profileTables(&p, []string{"btnbd", "nodes"}, b.profiles)
	b.memoryTable(&p)
	b.engineReport(&p)
	return p.String()
}

// at returns the median rate and latency of a workload on a server.
func (b *bench) at(server, workload string) (perSecond, latency float64) {
	var rates, latencies []float64
	for _, s := range b.samples[key{server, workload}] {
		rates = append(rates, s.perSecond)
		latencies = append(latencies, s.latency)
	}
	return median(rates), median(latencies)
}

// bareRate is the median rate of the bare exchange on TCP.
func (b *bench) bareRate(shape string, depth int) float64 {
	return median(b.bare[bareKey{"bare", "tcp", shape, depth}])
}

// marks compares with the first marks of the issue that asked for them.
func (b *bench) marks(p *strings.Builder) {
	p.WriteString("\n## Marks\n\n| what | mark | is | limit | met |\n|---|---|---|---|---|\n")
	atLeast := func(what, mark string, is, limit float64, unit string) {
		fmt.Fprintf(p, "| %s | %s | %.0f %s (%.2f× the mark) | ≥ %.0f %s | %s |\n", what, mark, is, unit, is/limit, limit, unit, met(is >= limit))
	}
	atMost := func(what, mark string, is, limit float64, unit string) {
		fmt.Fprintf(p, "| %s | %s | %.0f %s (%.2f× the mark) | ≤ %.0f %s | %s |\n", what, mark, is, unit, is/limit, limit, unit, met(is <= limit))
	}
	sync := median(b.syncs)
	rate, _ := b.at(blocktree, randRead32)
	atLeast(randRead32, "0.5 × bare exchange", rate, 0.5*b.bareRate("read2KiB", 32), "/s")
	_, lat := b.at(blocktree, randRead1)
	_, kit := b.at(nbdkit, randRead1)
	atMost(randRead1, "3 × bare exchange + nbdkit", lat, 3*1e6/b.bareRate("read2KiB", 1)+kit, "µs")
	rate, _ = b.at(blocktree, randWrite32)
	atLeast(randWrite32, "0.35 × bare exchange", rate, 0.35*b.bareRate("write2KiB", 32), "/s")
	_, lat = b.at(blocktree, randWrite1)
	_, kit = b.at(nbdkit, randWrite1)
	atMost(randWrite1, "2 × (bare exchange + slowest of 3 fdatasyncs) + nbdkit", lat, 2*(1e6/b.bareRate("write2KiB", 1)+sync)+kit, "µs")
	rate, _ = b.at(blocktree, seqWrite)
	atLeast(seqWrite, "0.5 × bare exchange", rate, 0.5*b.bareRate("write512KiB", 8), "MiB/s")
	rate, _ = b.at(blocktree, seqRead)
	atLeast(seqRead, "0.5 × bare exchange", rate, 0.5*b.bareRate("read512KiB", 8), "MiB/s")
	if len(b.nodeRSS) > 0 {
		atMost(fmt.Sprintf("resident memory of a node with %d MiB of data", b.diskMiB/2), "150 MiB", slices.Max(b.nodeRSS), 150, "MiB")
	}
	atMost("resident memory of btnbd", fmt.Sprintf("its cache (%d MiB) + 150 MiB", cacheMiB), b.nbdRSS, cacheMiB+150, "MiB")
	fmt.Fprintf(p, "\nSlowest of three simultaneous fdatasyncs of 4 KiB each: %s. Latencies are means.\n", spread(b.syncs, "µs"))
}

func met(ok bool) string {
	if ok {
		return "yes"
	}
	return "**no**"
}

// throughput is the table of all workloads on all servers.
func (b *bench) throughput(p *strings.Builder) {
	p.WriteString("\n## Rates and latencies\n\n| workload | server | requests/s | MiB/s | mean µs | 99 % µs |\n|---|---|---|---|---|---|\n")
	for _, w := range workloads() {
		for _, s := range b.serversFor(w) {
			var rates, lat, p99 []float64
			for _, x := range b.samples[key{s.name, w.name}] {
				rates, lat, p99 = append(rates, x.perSecond), append(lat, x.latency), append(p99, x.p99)
			}
			mib := median(rates)
			if w.block == "4k" {
				mib /= 256
			}
			fmt.Fprintf(p, "| %s | %s | %s | %.0f | %s | %.0f |\n", w.name, s.name, spread(rates, ""), mib, spread(lat, ""), median(p99))
		}
	}
	fmt.Fprintf(p, "\nFilling Blocktree's file for the first time: %.0f MiB/s.\n", b.fillMiBs)
	b.durabilities(p)
}

// durabilities compares files of the two durabilities on the same nodes.
func (b *bench) durabilities(p *strings.Builder) {
	p.WriteString("\n## Durability ack and flush\n\nTwo files on the same nodes: a write is answered when it is durable on all three (ack), or when it is in their logs (flush).\n\n" +
		"| workload | ack, requests/s | flush, requests/s | flush / ack |\n|---|---|---|---|\n")
	for _, w := range workloads() {
		if !w.writes() {
			continue
		}
		ack, _ := b.at(blocktree, w.name)
		flush, _ := b.at(flushing, w.name)
		fmt.Fprintf(p, "| %s | %.0f | %.0f | %.2f |\n", w.name, ack, flush, flush/ack)
	}
}

func (b *bench) bareTable(p *strings.Builder) {
	p.WriteString("\n## Bare exchange\n\nA client and three echo processes, all awaited (internal/bttp/bareexchange). \"bare\" is the yardstick of the marks: one\n" +
		"write per message; \"batched\" puts all that is ready into one write, as the real thing does.\n\n" +
		"| shape | depth | carrier | kind | exchanges/s |\n|---|---|---|---|---|\n")
	keys := make([]bareKey, 0, len(b.bare))
	for k := range b.bare {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, c bareKey) int {
		return strings.Compare(fmt.Sprintf("%s %02d %s %s", a.shape, a.depth, c.carrier, a.over), fmt.Sprintf("%s %02d %s %s", c.shape, c.depth, a.carrier, c.over))
	})
	for _, k := range keys {
		fmt.Fprintf(p, "| %s | %d | %s | %s | %s |\n", k.shape, k.depth, k.carrier, k.over, spread(b.bare[k], ""))
	}
}

// cpuTable says where the time goes: CPU microseconds per request and process.
func (b *bench) cpuTable(p *strings.Builder) {
	p.WriteString("\n## Where the time goes\n\nMicroseconds of CPU per request, by process (from /proc, user and system; medians). With two cores, a request cannot be\n" +
		"faster than half of the sum.\n\n| workload | fio | btnbd | three nodes | sum | nbdkit | qemu-nbd |\n|---|---|---|---|---|---|---|\n")
	for _, w := range workloads() {
		of := func(server string, names ...string) float64 {
			var list []float64
			for _, s := range b.samples[key{server, w.name}] {
				sum := 0.0
				for _, n := range names {
					sum += s.cpu[n]
				}
				list = append(list, sum)
			}
			return median(list)
		}
		client, nbd, nodes := of(blocktree, "fio"), of(blocktree, "btnbd"), of(blocktree, "node1", "node2", "node3")
		fmt.Fprintf(p, "| %s | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f |\n", w.name, client, nbd, nodes, client+nbd+nodes,
			of(nbdkit, "nbdkit"), of(qemu, "qemu-nbd"))
	}
}

// profileTables say which layers and which work take the CPU time of which sides.
func profileTables(p *strings.Builder, sides []string, list []profiled) {
	if len(list) == 0 {
		return
	}
	p.WriteString("\nA sample counts for the package of Blocktree nearest to the innermost function, so that system calls and ciphers count for whoever\n" +
		"called them.\n")
	profileTable(p, sides, "layer", list, func(x profiled) map[string]map[string]float64 { return x.layers })
	p.WriteString("\nAnd by what the processor did:\n")
	profileTable(p, sides, "work", list, func(x profiled) map[string]map[string]float64 { return x.causes })
}

func profileTable(p *strings.Builder, sides []string, title string, list []profiled, of func(profiled) map[string]map[string]float64) {
	fmt.Fprintf(p, "\n| process | %s |", title)
	for _, x := range list {
		fmt.Fprintf(p, " %s |", x.workload)
	}
	p.WriteString("\n|---|---|" + strings.Repeat("---|", len(list)) + "\n")
	for _, side := range sides {
		weight := map[string]float64{}
		for _, x := range list {
			total := 0.0
			for _, us := range of(x)[side] {
				total += us
			}
			for name, us := range of(x)[side] {
				weight[name] = max(weight[name], us/total)
			}
		}
		names := slices.SortedFunc(maps.Keys(weight), func(a, c string) int { return cmp.Compare(weight[c], weight[a]) })
		for _, name := range names {
			if weight[name] < 0.01 {
				continue // under one percent everywhere
			}
			fmt.Fprintf(p, "| %s | %s |", side, name)
			for _, x := range list {
				fmt.Fprintf(p, " %.1f |", of(x)[side][name])
			}
			p.WriteString("\n")
		}
	}
}

func (b *bench) memoryTable(p *strings.Builder) {
	p.WriteString("\n## Memory\n\n| process | resident MiB |\n|---|---|\n")
	for i, m := range b.nodeRSS {
		fmt.Fprintf(p, "| node%d, keeping %d MiB of shards and what the workloads overwrote | %.0f |\n", i+1, b.diskMiB/2, m)
	}
	fmt.Fprintf(p, "| btnbd with a cache of %d MiB, after reading and writing | %.0f |\n", cacheMiB, b.nbdRSS)
}

// spread prints a median with its least and most.
func spread(list []float64, unit string) string {
	if len(list) == 0 {
		return "–"
	}
	if unit != "" {
		unit = " " + unit
	}
	if len(list) == 1 {
		return fmt.Sprintf("%.0f%s", list[0], unit)
	}
	return fmt.Sprintf("%.0f%s (%.0f to %.0f)", median(list), unit, slices.Min(list), slices.Max(list))
}
