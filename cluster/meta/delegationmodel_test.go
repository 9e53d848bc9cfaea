package meta

import (
	"fmt"
	"testing"

	"blocktree"

	"pgregory.net/rapid"
)

// treeWorld is a root cluster that keeps /rack, two nodes that found the cluster of it, each as docs/design/0033 says and both whenever they like, and somebody who makes and removes what is in it. Beside them a map of what there is.
type treeWorld struct {
	t       *testing.T
	parent  *machine
	founder [2]*aFounder
	gone    []*aFounder                 // whose directory was taken back from them; they go on all the same
	there   map[string]blocktree.FileID // by path: what was made and not removed; of directories the zero FileID, as theirs change
	numbers map[blocktree.NodeID]blocktree.Generation
	last    blocktree.Generation // the greatest number that was given
	mover   aMover
	stores  int
	done    map[string]int
}

// aFounder is how far one is.
type aFounder struct {
	host  blocktree.Runtime
	child *machine // nil: it has none
	step  int
	todo  []blocktree.Path // directories to be taken over
	after string           // in the first of these
	lied  bool             // it was told too little by a node of the parent
}

func (f *aFounder) as() *Caller { return hostCaller(f.host) }

// newTreeWorld has some entries from before.
func newTreeWorld(t *testing.T, done map[string]int) *treeWorld {
	w := &treeWorld{t: t, parent: racked(t), done: done, numbers: map[blocktree.NodeID]blocktree.Generation{}, last: 1,
		there: map[string]blocktree.FileID{"/rack/sub": {}, "/rack/f": fileID(3), "/rack/sub/g": fileID(4)}}
	for i := range w.founder {
		w.founder[i] = &aFounder{host: below(i + 1)}
	}
	w.parent.mustAs(admin(), OpenSession{Session: session(1), Principal: admin().Principal, Path: admin().Path})
	return w
}

func (w *treeWorld) close() {
	for _, m := range w.clusters() {
		m.close()
	}
}

// next does the next step of a founder; lies has whoever tells it leave an entry out. What is refused is tried again.
func (w *treeWorld) next(f *aFounder, lies bool) error {
	const dir = "/rack"
	gen := w.numbers[f.host.Node]
	var r Result
	switch f.step {
	case 0:
		if r = w.parent.as(f.as(), 2, AssignGeneration{path(dir), f.host.Node}); r.Kind == 0 {
			if err := w.assigned(f.host.Node, r.Generation); err != nil {
				return err
			}
		}
	case 1:
		r = w.parent.as(f.as(), 2, Delegate{path(dir), gen, f.host.Node})
	case 2:
		r = w.begin(f, gen)
	case 3:
		r = w.take(f, lies)
	case 4, 6:
		o := HandOverSum{path(dir), gen, f.child.view().entriesSum(RootInode, path(dir)), f.step == 4, f.step == 6}
		if r = w.parent.as(f.as(), 2, o); r.Kind == blocktree.Corrupt { // another node of the parent is asked
			if !f.lied {
				return fmt.Errorf("nobody has lied: %s", r.Text)
			}
			f.lied, f.step, f.todo = false, 3, []blocktree.Path{path(dir)}
			w.done["told again"]++
			return nil
		}
	case 5:
		r = f.child.do(EndTaking{})
	case 7:
		if r = w.parent.as(f.as(), 2, DropMoved{path(dir), gen}); r.Kind == 0 {
			if a := w.parent.view().judged(Query{Kind: QueryTake, Path: path(dir), Limit: 1, Caller: f.as()}); a.Kind != 0 || len(a.Taken) > 0 {
				return a.Err("take")
			}
		}
	case 8:
		r = f.child.do(EndTaking{Answer: true})
	default:
		return nil
	}
	w.done[fmt.Sprintf("step %d", f.step)]++
	if r.Kind == blocktree.Other && (f.step != 3 || len(f.todo) == 0) {
		f.step++
	}
	return nil
}

// assigned checks a number: a retry has the same, and others are later ones.
func (w *treeWorld) assigned(n blocktree.NodeID, g blocktree.Generation) error {
	if old, again := w.numbers[n]; again {
		if old != g {
			return fmt.Errorf("store %v has %d, and had %d", n, g, old)
		}
		return nil
	}
	if g <= w.last {
		return fmt.Errorf("store %v has %d, after %d", n, g, w.last)
	}
	w.numbers[n], w.last = g, g
	return nil
}

// begin makes the founder's store.
func (w *treeWorld) begin(f *aFounder, gen blocktree.Generation) Result {
	a := w.parent.view().judged(Query{Kind: QueryAbove, Path: path("/rack"), Caller: f.as()})
	if a.Above == nil {
		return Result{Kind: a.Kind}
	}
	if f.child != nil {
		f.child.close()
	}
	f.child = newMachine(w.t)
	f.child.must(FoundChild{Found{Dir: path("/rack"), Generation: gen, Runtimes: []blocktree.Runtime{f.host}, Mode: 0o755}})
	a.Above.Number = w.parent.index
	f.todo, f.after, f.lied = []blocktree.Path{path("/rack")}, "", false
	f.child.must(OpenSession{Session: session(1), Principal: admin().Principal, Path: admin().Path})
	f.child.must(StartNode{f.host.Node, incarnation(1), 1, 0})
	return f.child.do(SetAbove{*a.Above})
}

// take takes one page over.
func (w *treeWorld) take(f *aFounder, lies bool) Result {
	if len(f.todo) == 0 { // it did not hear that it had everything
		f.todo, f.after = []blocktree.Path{path("/rack")}, ""
	}
	dir := f.todo[0]
	a := w.parent.view().judged(Query{Kind: QueryTake, Path: dir, After: f.after, Limit: 1, Caller: f.as()})
	if a.Kind != blocktree.Other {
		return Result{Kind: a.Kind}
	}
	told := a.Taken
	if lies && len(told) > 0 {
		told, f.lied = nil, true
	}
	r := f.child.do(TakeEntries{dir, told, a.Runtimes})
	for _, x := range told {
		if x.Inode.Kind == KindDir {
			f.todo = append(f.todo, dir.Join(x.Name))
		}
	}
	if len(a.Taken) > 0 {
		f.after = a.Taken[len(a.Taken)-1].Name
	}
	if !a.More {
		f.todo, f.after = f.todo[1:], ""
	}
	return r
}

// wipe has a founder begin anew that has not handed over: as a store that finds its directory empty does.
func (w *treeWorld) wipe(f *aFounder) {
	i, r := w.parent.view().stat(path("/rack"))
	if f.child == nil || r.Kind != 0 || i.Delegation == nil || i.Delegation.HandedOver || i.Delegation.Founder != f.host.Node {
		return
	}
	w.done["wiped"]++
	f.child.close()
	f.child, f.step = nil, 2
}

// takeBack has the directory taken back from whoever has it, where that can be: both founders have stores with other ids from then on, and those of before go on.
func (w *treeWorld) takeBack(as *Caller) error {
	i, r := w.parent.view().stat(path("/rack"))
	if r.Kind != 0 || i.Delegation == nil {
		return nil
	}
	o := TakeBack{path("/rack"), i.Delegation.Generation, true}
	possible := w.parent.as(w.founder[0].as(), 2, o)
	o.Try = false
	switch r = w.parent.as(as, 2, o); {
	case !as.all() && r.Kind != blocktree.Permission:
		return fmt.Errorf("taken back by a founder: %v", r.Kind)
	case !as.all():
		return nil
	case r.Kind != possible.Kind:
		return fmt.Errorf("taken back: %v, and before %v", r.Kind, possible.Kind)
	case r.Kind != blocktree.Other:
		w.done["not taken back"]++
		return nil
	}
	w.done[fmt.Sprintf("taken back, handed over %v", i.Delegation.HandedOver)]++
	for n, f := range w.founder {
		w.stores++
		next := &aFounder{host: with(f.host, func(r *blocktree.Runtime) { r.Node = blocktree.NodeID(1000 + w.stores) })}
		if r := w.parent.do(PutBelow{f.host}); r.Kind != blocktree.Exists || r.Hint == "" {
			return fmt.Errorf("a store is used again: %v", r.Kind)
		}
		w.parent.must(PutBelow{next.host})
		if f.child != nil {
			w.gone = append(w.gone, f)
		}
		w.founder[n] = next
	}
	return nil
}

// clusters are all that may answer.
func (w *treeWorld) clusters() (all []*machine) {
	all = []*machine{w.parent}
	for _, f := range append(w.founder[:], w.gone...) {
		if f.child != nil {
			all = append(all, f.child)
		}
	}
	return all
}

// change makes or removes something, by whoever says that it has it done.
func (w *treeWorld) change(short string, kind int) error {
	for _, m := range w.clusters() {
		id, there := w.there[short]
		var r Result
		switch kind {
		case 0:
			if r = m.as(admin(), 2, file(short)); r.Kind == 0 {
				w.there[short] = r.Inode.ID
			}
		case 1:
			if r = m.as(admin(), 2, MakeDir{Path: path(short), Mode: 0o755}); r.Kind == 0 {
				w.there[short] = blocktree.FileID{}
			}
		default:
			if r = m.as(admin(), 2, Remove{Path: path(short)}); r.Kind == 0 {
				if delete(w.there, short); !there {
					return fmt.Errorf("%s was removed, and was not there", short)
				}
			} else if r.Redirect != nil && r.Redirect.File == id && there && id == fileID(4) { // a moved file: at home, then its entry
				if home := w.parent.as(admin(), 2, RemoveMoved{id}); home.Kind == 0 {
					m.mustAs(admin(), DropEntry{path(short), id})
					delete(w.there, short)
					w.done["removed a moved file"]++
				}
			}
		}
		if r.Kind == 0 {
			w.done[fmt.Sprintf("change %d of %d", kind, m.view().superblock().Generation)]++
			return nil
		}
	}
	return nil
}

// disturb says what nobody may say there and then: it is refused, or nothing comes of it, as check sees.
func (w *treeWorld) disturb(rt *rapid.T) {
	f := rapid.SampledFrom(w.founder[:]).Draw(rt, "who")
	gen := rapid.SampledFrom([]blocktree.Generation{1, 2, 3}).Draw(rt, "generation")
	ops := []Op{DropMoved{path("/rack"), gen}, HandOver{path("/rack"), gen}, HandOverSum{path("/rack"), gen, EntriesSum{}, false, false}, Delegate{path("/rack"), gen, f.host.Node}, AssignGeneration{path("/rack"), f.host.Node},
		RemoveBelow{f.host.Path}}
	at := rapid.IntRange(0, len(ops)).Draw(rt, "op")
	switch o := Op(nil); {
	case at == len(ops):
		if f.child != nil && f.step < 5 { // what a founder says itself after that is its own affair
			if r := f.child.do(EndTaking{Answer: true}); r.Kind == blocktree.Other {
				rt.Fatalf("it answers, and has not taken everything over")
			}
		}
		return
	default:
		if o = ops[at]; at == 1 && f.step < 6 && w.numbers[f.host.Node] == gen { // as a version before: by the founder, who has them all by then
			return
		}
		if at == 5 {
			return
		}
		if r := w.parent.as(f.as(), 2, o); r.Kind == 0 && at == 4 {
			if err := w.assigned(f.host.Node, r.Generation); err != nil {
				rt.Fatal(err)
			}
		}
	}
}

// check: what is there is answered for by one cluster or by none that could say otherwise; nobody says of what is there that it is not; nobody has what is not.
func (w *treeWorld) check() error {
	for _, short := range []string{"/rack/a", "/rack/sub", "/rack/sub/a", "/rack/sub/g", "/rack/f"} {
		want, there := w.there[short]
		keepers := 0
		for _, m := range w.clusters() {
			gen := m.view().superblock().Generation
			a := m.view().judged(Query{Kind: QueryStat, Path: path(short), Caller: admin()})
			id, has := blocktree.FileID{}, false
			switch {
			case a.Kind == blocktree.Other:
				id, has = a.Inode.ID, true
			case a.Redirect != nil && a.Redirect.File != blocktree.FileID{}:
				id, has = a.Redirect.File, true
				if home := w.parent.view().inode(id); home == nil {
					return fmt.Errorf("%s is %v by generation %d, and that is lost", short, id, gen)
				}
			case a.Kind == blocktree.NotFound && there:
				return fmt.Errorf("%s is gone by generation %d: %s", short, gen, a.Text)
			}
			if !has {
				continue
			}
			if keepers++; !there || want != (blocktree.FileID{}) && id != want {
				return fmt.Errorf("%s is %v by generation %d, and should be %v (%v)", short, id, gen, want, there)
			}
		}
		if keepers > 1 {
			return fmt.Errorf("%s is kept by %d clusters", short, keepers)
		}
	}
	for _, m := range w.clusters() {
		if err := m.view().err; err != nil {
			return err
		}
	}
	return nil
}

// move does the next step of giving /rack/f to the cluster that answers for it (docs/design/0041).
func (w *treeWorld) move(f *aFounder) {
	if f.step < 9 || w.there["/rack/f"] != oldF && w.mover.step < 6 {
		return
	}
	m, s := &w.mover, session(1)
	var r Result
	switch m.step {
	case 0:
		if r = f.child.as(admin(), 2, moveF(0)); r.Kind == 0 {
			m.to = r.Inode.ID
		}
	case 1:
		if r = f.child.as(admin(), 2, Acquire{s, m.to}); r.Kind == 0 {
			m.copyEpoch = r.Lease.Epoch
		}
	case 2:
		r = w.parent.as(admin(), 2, Stay{oldF, m.to, m.copyEpoch - 1})
	case 3:
		if r = w.parent.as(admin(), 2, Acquire{s, oldF}); r.Kind == 0 {
			m.ofEpoch = r.Lease.Epoch
		}
	case 4:
		r = w.parent.as(admin(), 2, Depart{s, oldF, m.ofEpoch, m.to, m.copyEpoch})
	case 5:
		if r = f.child.as(admin(), 2, Adopt{Session: s, File: m.to, Epoch: m.copyEpoch, From: oldF, Path: path("/rack/f"), Mode: 0o640}); r.Kind == 0 {
			w.there["/rack/f"] = m.to
		}
	case 6:
		w.parent.as(admin(), 2, Release{s, oldF, m.ofEpoch})
		f.child.as(admin(), 2, Release{s, m.to, m.copyEpoch})
		r = w.parent.as(admin(), 2, RemoveLeft{oldF, m.to})
	case 7:
		if r = f.child.as(admin(), 2, EndMove{m.to}); r.Kind == 0 {
			w.done["migrated"]++
		}
	default:
		return
	}
	if r.Kind == 0 {
		m.step++
	}
}

// finish lets whoever founds the cluster do so, and the file go over: nothing that was done before keeps them from it.
func (w *treeWorld) finish() error {
	f := w.founder[0]
	if i, _ := w.parent.view().stat(path("/rack")); i != nil && i.Delegation != nil && i.Delegation.Founder == w.founder[1].host.Node {
		f = w.founder[1]
	}
	for n := 0; n < 100 && (f.step != 9 || w.mover.step != 8); n++ {
		err := w.next(f, false)
		if err == nil {
			w.move(f)
			err = w.check()
		}
		if err != nil {
			return err
		}
	}
	if f.step != 9 || w.mover.step != 8 {
		return fmt.Errorf("the founder is at step %d, and who moves the file at %d", f.step, w.mover.step)
	}
	return nil
}

// TestDelegationModel: D2, D3, D4, W12, G1. Two found the cluster of a directory, in any order, each step as often as they like, one of them wiped and told too little, while others change what is in it and say what is not theirs to say; then
// one file goes over. Each path is kept by one cluster at most, and by none that says it is not there; nothing is lost; numbers grow.
func TestDelegationModel(t *testing.T) {
	done := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		w := newTreeWorld(t, done)
		defer w.close()
		for range rapid.IntRange(30, 120).Draw(rt, "steps") {
			what := rapid.IntRange(0, 19).Draw(rt, "what")
			f := w.founder[0]
			if rapid.IntRange(0, 4).Draw(rt, "founder") == 0 {
				f = w.founder[1]
			}
			if len(w.gone) > 0 && rapid.IntRange(0, 4).Draw(rt, "gone") == 0 {
				f = rapid.SampledFrom(w.gone).Draw(rt, "who is gone")
			}
			var err error
			switch {
			case what < 11:
				err = w.next(f, rapid.IntRange(0, 9).Draw(rt, "lies") == 0)
			case what < 14:
				err = w.change(rapid.SampledFrom([]string{"/rack/a", "/rack/sub/a", "/rack/sub/g"}).Draw(rt, "path"), rapid.IntRange(0, 2).Draw(rt, "kind"))
			case what == 14:
				w.wipe(f)
			case what == 15:
				f.step -= min(f.step, 1) // it did not hear the answer
				f.step = max(f.step, w.least(f))
			case what == 16:
				w.move(f)
			case what == 17:
				err = w.takeBack(rapid.SampledFrom([]*Caller{admin(), f.as()}).Draw(rt, "by"))
			default:
				w.disturb(rt)
			}
			if err == nil {
				err = w.check()
			}
			if err != nil {
				rt.Fatal(err)
			}
		}
		if err := w.finish(); err != nil {
			rt.Fatal(err)
		}
	})
	// None of these is rare. That a directory is taken back after it was handed over is: TestTakeBack shows it.
	for _, what := range []string{"step 8", "wiped", "told again", "migrated", "change 0 of 2", "removed a moved file", "taken back, handed over false", "not taken back"} {
		if done[what] == 0 {
			t.Errorf("no %s: %v", what, done)
		}
	}
}

// least is the step that a founder does not go behind: what its own store has, it knows.
func (w *treeWorld) least(f *aFounder) int {
	switch {
	case f.child == nil:
		return 0
	case f.child.view().superblock().Taking == TakingNothing:
		return 9
	case f.child.view().superblock().Taking == TakingAnswers:
		return 6
	}
	return 3
}
