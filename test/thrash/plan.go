package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// event is one fault of the plan.
type event struct {
	id    int
	at    time.Duration
	kind  string
	node  int // a node
	other int // another one; -1 is the writer, -2 the reader
	lasts time.Duration
	seed  uint64 // for what a fault chooses itself
}

func (e event) String() string {
	return fmt.Sprintf("%3d  at %6.1f s  for %4.1f s  %-12s node %d, other %d", e.id, e.at.Seconds(), e.lasts.Seconds(), e.kind, e.node+1, e.other+1)
}

// kind is a kind of fault. make applies it and returns what takes it back; ok is false if the target is busy with another.
type kind struct {
	name       string
	weight     int
	shortest   time.Duration
	longest    time.Duration
	crippling  bool // it takes one node away from the others
	needsLossy bool // it needs a disk of its own that can lose what is not synced
	make       func(w *world, e event) (undo func(), ok bool)
}

// kinds are all kinds of faults.
func kinds() []kind {
	const ms, s = time.Millisecond, time.Second
	return []kind{
		{name: "kill", weight: 6, longest: 15 * s, crippling: true, make: killNode},
		{name: "pause", weight: 5, shortest: 100 * ms, longest: 12 * s, crippling: true, make: pauseNode},
		{name: "restart", weight: 3, crippling: true, make: restartNode},
		{name: "killall", weight: 1, longest: 3 * s, make: killAll},
		{name: "isolate", weight: 4, shortest: 500 * ms, longest: 15 * s, crippling: true, make: cut(true, true, true)},
		{name: "deafen", weight: 2, shortest: 500 * ms, longest: 15 * s, crippling: true, make: cut(true, true, false)},
		{name: "mute", weight: 2, shortest: 500 * ms, longest: 15 * s, crippling: true, make: cut(true, false, true)},
		{name: "cut", weight: 4, shortest: 500 * ms, longest: 15 * s, make: cut(false, true, true)},
		{name: "cut1way", weight: 4, shortest: 500 * ms, longest: 15 * s, make: cut(false, true, false)},
		{name: "narrow", weight: 2, shortest: 2 * s, longest: 15 * s, make: narrow},
		{name: "serverkill", weight: 2, longest: 5 * s, make: killServer},
		{name: "serverpause", weight: 2, shortest: 100 * ms, longest: 9 * s, make: pauseServer},
		{name: "serverstop", weight: 1, make: restartServer},
		{name: "takeover", weight: 2, shortest: 2 * s, longest: 8 * s, make: takeOver},
		{name: "powercut", weight: 4, longest: 8 * s, crippling: true, needsLossy: true, make: powerCutOne},
		{name: "powercutall", weight: 2, longest: 4 * s, needsLossy: true, make: powerCutAll},
		{name: "failsync", weight: 2, longest: 2 * s, crippling: true, needsLossy: true, make: failSync},
		{name: "slowdisk", weight: 3, shortest: 2 * s, longest: 12 * s, crippling: true, needsLossy: true, make: slowDisk},
		{name: "fulldisk", weight: 2, shortest: 2 * s, longest: 10 * s, needsLossy: true, make: fullDisk},
		{name: "fulldisks", weight: 1, shortest: 2 * s, longest: 10 * s, needsLossy: true, make: fullDisks},
		{name: "wipe", weight: 1, longest: 8 * s, crippling: true, make: wipe},
	}
}

func kindNames() (names []string) {
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return names
}

func known(name string) bool { return slices.Contains(kindNames(), name) }

// chosen are the kinds that a run uses.
func (o *options) chosen() (list []kind) {
	named := len(o.kinds) == 0
	for _, k := range o.kinds {
		named = named || strings.HasPrefix(k, "-")
	}
	for _, k := range kinds() {
		if k.needsLossy && o.plain || slices.Contains(o.kinds, "-"+k.name) {
			continue
		}
		if named || slices.Contains(o.kinds, k.name) {
			list = append(list, k)
		}
	}
	return list
}

const (
	// gapMax is the longest pause between two faults, calmEvery and calmFor when there are none: the cluster heals then, so
	// that what follows meets a healthy one.
	gapMax    = 4 * time.Second
	calmEvery = 60 * time.Second
	calmFor   = 15 * time.Second
)

// makePlan decides all faults from the seed. Most of the time no more nodes are away than the cluster tolerates; now and
// then there are more.
func makePlan(o options) (plan []event) {
	r := rand.New(rand.NewPCG(o.seed, 1))
	list := o.chosen()
	total := 0
	for _, k := range list {
		total += k.weight
	}
	if total == 0 {
		return nil
	}
	away := 1
	_, _ = fmt.Sscanf(o.code, "%d+%d", new(int), &away) // a code that is none fails when files are made
	until := []time.Duration{}                          // when the crippled come back
	for at := 3 * time.Second; at < o.lasts; at += time.Duration(r.Int64N(int64(gapMax))) {
		if at%calmEvery > calmEvery-calmFor {
			continue
		}
		k := pick(r, list, total)
		e := event{id: len(plan) + 1, at: at, kind: k.name, node: r.IntN(o.nodes), lasts: k.shortest, seed: r.Uint64()}
		if k.longest > k.shortest {
			e.lasts += time.Duration(r.Int64N(int64(k.longest - k.shortest)))
		}
		e.other = r.IntN(o.nodes+1) - 2
		if e.other >= e.node {
			e.other++
		}
		until = slices.DeleteFunc(until, func(t time.Duration) bool { return t < at })
		if k.crippling {
			if len(until) >= away && r.IntN(3) > 0 {
				continue
			}
			until = append(until, at+e.lasts+5*time.Second)
		}
		plan = append(plan, e)
	}
	return plan
}

func pick(r *rand.Rand, list []kind, total int) kind {
	n := r.IntN(total)
	for _, k := range list {
		if n -= k.weight; n < 0 {
			return k
		}
	}
	return list[0] // weights are positive: never
}
