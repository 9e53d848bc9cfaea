package meta

import (
	"fmt"
	"testing"

	"blocktree"

	"pgregory.net/rapid"
)

// moveWorld is a parent and its child, two that move /rack/f, one that writes to it, and one that gives it, and the directories that it gets into, other names. What a file holds is a number.
type moveWorld struct {
	parent, child *machine
	at            string // where /rack/f is by now
	dir           string // where a directory of the child is by now
	holds         map[blocktree.FileID]int
	written       int
	movers        [2]aMover
	done          map[string]int
}

// aMover is how far one is, in the order of docs/design/0041; what it knows of the leases may be old.
type aMover struct {
	step               int
	to                 blocktree.FileID
	copyEpoch, ofEpoch blocktree.Epoch
	read               int
}

var oldF = fileID(3)

// id is which file the name leads to.
func (w *moveWorld) id(name string) blocktree.FileID {
	at, _ := w.child.view().follow(w.child.view().superblock(), path(name))
	return at.found.file
}

// move does the next step of one of them. What is refused has it begin again.
func (w *moveWorld) move(n int) {
	m, s := &w.movers[n], session(n+1)
	var r Result
	switch m.step {
	case 0:
		o := moveF(0)
		o.Path = path(w.at)
		if r = w.child.as(admin(), 2, o); r.Kind == 0 {
			m.to = r.Inode.ID
		}
	case 1:
		if r = w.child.as(admin(), 2, Acquire{s, m.to}); r.Kind == 0 {
			m.copyEpoch = r.Lease.Epoch
		}
	case 2:
		r = w.parent.as(admin(), 2, Stay{oldF, m.to, m.copyEpoch - 1})
	case 3:
		if r = w.parent.as(admin(), 2, Acquire{s, oldF}); r.Kind == 0 {
			m.ofEpoch = r.Lease.Epoch
		}
	case 4:
		m.read = w.holds[oldF]
	case 5: // nodes take nothing of who has no lease
		if r.Kind = blocktree.Fenced; w.child.view().heldBy(m.to, s, m.copyEpoch) {
			w.holds[m.to], r.Kind = m.read, 0
		}
	case 6:
		r = w.parent.as(admin(), 2, Depart{s, oldF, m.ofEpoch, m.to, m.copyEpoch})
	case 7:
		o := Adopt{Session: s, File: m.to, Epoch: m.copyEpoch, From: oldF, Path: path(w.at), Mode: 0o640}
		if r = w.child.as(admin(), 2, o); r.Kind != 0 {
			w.parent.as(admin(), 2, Stay{oldF, m.to, m.copyEpoch})
		}
	case 8:
		w.parent.as(admin(), 2, Release{s, oldF, m.ofEpoch})
		w.child.as(admin(), 2, Release{s, m.to, m.copyEpoch})
	case 9:
		if r = w.parent.as(admin(), 2, RemoveLeft{oldF, m.to}); r.Kind == blocktree.NotFound {
			r.Kind = 0
		}
	case 10:
		r = w.child.as(admin(), 2, EndMove{m.to})
	}
	w.done[fmt.Sprintf("step %d", m.step)]++
	if m.step++; r.Kind != 0 || m.step > 10 {
		w.end(n)
	}
}

// end has one of them begin again. Its leases may still be there.
func (w *moveWorld) end(n int) {
	w.movers[n] = aMover{}
	for _, x := range w.child.view().moves() {
		if x.Adopted { // which whoever begins finishes first
			w.movers[n] = aMover{step: 9, to: x.To}
		}
	}
}

// write writes to what the name leads to, if that may be held.
func (w *moveWorld) write() {
	f, m := w.id(w.at), w.child
	if f == oldF {
		m = w.parent
	}
	if r := m.as(admin(), 2, Acquire{session(3), f}); r.Kind == 0 {
		w.written++
		w.holds[f] = w.written
		w.done["write"]++
		m.mustAs(admin(), Release{session(3), f, r.Lease.Epoch})
	}
}

// rename gives the file, or the directory, one of a few names.
func (w *moveWorld) rename(file bool, name string) {
	from, to := &w.dir, "/rack/"+name
	if file {
		if from = &w.at; name == "in" {
			to = w.dir + "/in"
		}
	} else if name == "in" {
		return
	}
	o := Rename{From: path(*from), To: path(to), File: w.id(*from)}
	if r := w.child.as(admin(), 2, o); r.Kind != 0 {
		return
	}
	w.done["rename"]++
	if !file && w.at == w.dir+"/in" {
		w.at = to + "/in"
	}
	*from = to
}

// check looks at what must be so whatever was done.
func (w *moveWorld) check() error {
	if f := w.id(w.at); w.holds[f] != w.written {
		return fmt.Errorf("%s is file %v, which holds %d; %d was written last", w.at, f, w.holds[f], w.written)
	}
	for what, m := range map[string]*machine{"parent": w.parent, "child": w.child} {
		s := m.view()
		named, moving := map[blocktree.Inode]int{}, map[blocktree.Inode]bool{}
		var bad error
		s.scan(kindEntry, nil, nil, func(rest, v []byte) bool {
			if e, err := decodeEntryValue(v); err == nil && e.file.Generation == s.superblock().Generation {
				if up, ok := s.parent(e.file.Inode); !ok || up != inodeOf(rest[:8]) {
					bad = fmt.Errorf("%s: %v is in another directory than is noted", what, e.file)
				}
				named[e.file.Inode]++
			}
			return true
		})
		notes := uint32(0)
		for _, x := range s.moves() {
			notes++
			moving[x.To.Inode] = !x.Adopted
			if x.Adopted && x.Path != path(w.at) {
				return fmt.Errorf("%s was adopted, and is %s by now", x.Path.Short(), w.at)
			}
		}
		s.scan(kindLeft, nil, nil, func(_, _ []byte) bool { notes++; return true })
		inodes := uint64(0)
		s.scan(kindInode, nil, nil, func(rest, _ []byte) bool {
			n := inodeOf(rest)
			inodes++
			switch _, known := s.parent(n); {
			case n == RootInode || what == "parent" && named[n] == 0: // moved files
			case named[n] == 1 && moving[n] || named[n] == 0 && !moving[n] || named[n] > 1 || !known:
				bad = fmt.Errorf("%s: inode %d has %d entries, is a copy: %v, in a directory: %v", what, n, named[n], moving[n], known)
			}
			return true
		})
		if bad != nil {
			return bad
		}
		if s.counts.moves != notes || s.counts.inodes != inodes-1 {
			return fmt.Errorf("%s: %d notes, %d are counted; %d inodes, %d are counted", what, notes, s.counts.moves, inodes-1, s.counts.inodes)
		}
		if s.err != nil {
			return s.err
		}
	}
	return nil
}

// TestMoveModel: two move one file at a time, with terms that end whenever they like, beside one that writes to it and one that renames: its name leads to what was written last, each inode is named once, or is a copy, and what is noted of moves
// is all that there is.
func TestMoveModel(t *testing.T) {
	done := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		w := &moveWorld{at: "/rack/f", dir: "/rack/d", holds: map[blocktree.FileID]int{}, done: done}
		w.parent, w.child = mover(t)
		defer w.parent.close()
		defer w.child.close()
		for _, m := range []*machine{w.parent, w.child} {
			m.mustAs(admin(), OpenSession{Session: session(3), Principal: admin().Principal, Path: admin().Path})
		}
		w.child.mustAs(admin(), MakeDir{Path: path(w.dir), Mode: 0o755})
		for range rapid.IntRange(20, 120).Draw(rt, "steps") {
			what := rapid.IntRange(0, 19).Draw(rt, "what")
			n := what % 2
			switch {
			case what < 14:
				w.move(n)
			case what < 16:
				w.write()
			case what < 18:
				w.rename(n == 0, rapid.SampledFrom([]string{"a", "b", "c", "in"}).Draw(rt, "name"))
			case what == 18: // a term ends, and whoever had it does not know
				m := rapid.SampledFrom([]*machine{w.parent, w.child}).Draw(rt, "cluster")
				s := session(1 + rapid.IntRange(0, 1).Draw(rt, "whose"))
				m.must(CloseSession{s})
				m.mustAs(admin(), OpenSession{Session: s, Principal: admin().Principal, Path: admin().Path})
			default:
				w.end(rapid.IntRange(0, 1).Draw(rt, "ends"))
			}
			if err := w.check(); err != nil {
				rt.Fatal(err)
			}
		}
	})
	for _, what := range []string{"step 7", "step 10", "write", "rename"} {
		if done[what] == 0 {
			t.Errorf("no %s: %v", what, done)
		}
	}
}
