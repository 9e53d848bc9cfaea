package sim

import (
	"testing"

	"blocktree"
	"blocktree/cluster/stripe"
)

// TestJudgedByWhatWasTaken: of a member that answers a fence twice, and differently, a decision is judged by the answer that the holder took: the first to the question
// that it asked last, of its epoch and file.
func TestJudgedByWhatWasTaken(t *testing.T) {
	w := newWorld(Options{Config: 1, Seed: 1, Liars: true})
	c, n, l := w.clients[0], w.nodes[2], w.meta.files[0].layout
	x := &write{value: 7, version: blocktree.Version{Epoch: 2, Sequence: 2}}
	c.epoch, c.fences = 3, map[int]*fenced{}
	ask := func(id uint64) {
		c.asksFence(&stripe.Message{Kind: stripe.KindFence, ID: id, Node: n.id, File: l.File, Epoch: 3})
	}
	answer := func(id uint64, epoch blocktree.Epoch, mark blocktree.Sequence) {
		c.takesFence(&stripe.Message{Kind: stripe.KindFence, Answer: true, ID: id, Node: n.id, File: l.File, Epoch: epoch, Last: true,
			Regions: []stripe.RegionState{{Watermark: blocktree.Version{Epoch: 2, Sequence: mark}}}})
	}
	expect := func(when string, holds, asked bool) {
		t.Helper()
		if h, knows, a := c.told(n, x); h != holds || knows != holds || a != asked {
			t.Errorf("%s: holds %v, knows %v, asked %v", when, h, knows, a)
		}
	}
	expect("not asked", false, false)
	ask(5)
	answer(5, 2, 40)
	answer(4, 3, 40)
	expect("another epoch, another question", false, false)
	answer(5, 3, 40)
	answer(5, 3, 1)
	expect("the first counts", true, true)
	c.refusesFences([]stripe.Suspect{{Node: n.id, Kind: stripe.SuspectNonsense, Count: 1}})
	expect("it lied to a read", true, true)
	c.refusesFences([]stripe.Suspect{{Node: n.id, Kind: stripe.SuspectNonsense}})
	expect("it was nonsense", false, false)
	ask(6)
	answer(5, 3, 40)
	expect("asked anew", false, false)
	answer(6, 3, 1)
	answer(6, 3, 40)
	expect("the answer to that", false, true)
}

// TestTornAgain: a torn sector counts as overwritten by a write that is acknowledged, and not any more once that is undone; what is acknowledged besides goes on to count.
func TestTornAgain(t *testing.T) {
	w := newWorld(Options{Config: 1, Seed: 1, Liars: true})
	version := func(seq blocktree.Sequence) blocktree.Version { return blocktree.Version{Epoch: 2, Sequence: seq} }
	for s := range blocktree.SectorIndex(3) {
		w.liars.torn[sectorKey{0, s}] = torn{version: version(1)}
	}
	wide, short := &write{version: version(2), first: 0, count: 2, state: acked}, &write{version: version(3), first: 1, count: 1, state: acked}
	w.writes, w.clock = []*write{wide, short}, 9
	w.mendTorn(wide)
	w.mendTorn(short)
	over := func(when string, want ...bool) {
		t.Helper()
		for s, x := range want {
			if got := w.liars.torn[sectorKey{0, blocktree.SectorIndex(s)}].over != 0; got != x {
				t.Errorf("%s: sector %d is overwritten: %v", when, s, got)
			}
		}
	}
	over("both are acknowledged", true, true, false)
	w.undo(wide)
	over("one is undone", false, true, false)
}

// TestWorldsThatWereBad lives worlds that broke once, by the machines' fault or their own. As others do, they change when a machine or the world does.
func TestWorldsThatWereBad(t *testing.T) {
	for _, x := range []struct {
		of   worlds
		seed uint64
	}{
		{worlds{flush: true, liars: true}, 9616},    // judged by an answer to a fence that nobody took
		{worlds{flush: true, liars: true}, 10927},   // two members that refused in turn kept the holder from reading
		{worlds{liars: true}, 43723},                // one that claimed, beside one that refused
		{worlds{liars: true}, 54037},                // one that claimed, beside one that had something newer in flight
		{worlds{liars: true}, 58224},                // a void version that was copied
		{worlds{liars: true}, 62284},                // and one that no honest member had ever got
		{worlds{flush: true, liars: true}, 3101134}, // void, kept by one alone, and lacked by who had only said so when asked for exactly that
		{worlds{liars: true}, 3201228},              // what had overwritten a torn sector was undone
		{worlds{liars: true}, 6003879},              // in flight at a member that had denied it, and read of one liar's word
		{worlds{liars: true}, 6002278},              // dropped for a liar's refusal, after it was read, and nobody was told
		{worlds{flush: true, liars: true}, 7004643}, // a watermark that a view change overtook, and was not told again
	} {
		o := optionsOf(t, x.seed, x.of, "")
		if r := Run(o); r.Failure != "" {
			t.Errorf("%s\n\t%s", r.Failure, reproduce(t, o))
		}
	}
}

// TestDroppedIsNotRead: a write that all members are told to drop, as one had no space for it that may lie, is neither demanded of reads nor of take-overs, though its caller never hears of that; unless it is
// acknowledged after all, when whoever had refused it has left.
func TestDroppedIsNotRead(t *testing.T) {
	w := newWorld(Options{Config: 1, Seed: 1, Liars: true})
	c, version := w.clients[0], blocktree.Version{Epoch: 2, Sequence: 1}
	x := &write{value: 7, version: version, count: 1, seen: true}
	w.writes, w.byVer[versionKey{0, 0, version}] = []*write{x}, x
	expect := func(when string, doomed bool) {
		t.Helper()
		if x.doomed != doomed || w.liars.undone[x.value] != doomed {
			t.Errorf("%s: it counts for nothing: %v, %v", when, x.doomed, w.liars.undone[x.value])
		}
	}
	c.noteAbort(&stripe.Message{Kind: stripe.KindAbort, Version: version})
	expect("one is asked whether it holds it", false)
	c.noteAbort(&stripe.Message{Kind: stripe.KindAbort, Version: version, Last: true})
	expect("it is to be dropped", true)
	w.keepDropped(x)
	expect("it is acknowledged", false)
	c.noteAbort(&stripe.Message{Kind: stripe.KindAbort, Version: version, Last: true})
	if w.abort(x); x.state != undone {
		t.Errorf("its caller hears of it: state %d", x.state)
	}
}
