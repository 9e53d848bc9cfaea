package meta

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"blocktree"
)

// liesOfTaken are what somebody may make of what a founder is told.
func liesOfTaken() map[string]lieOfTaken {
	return map[string]lieOfTaken{
		"nothing":        {func(o TakeEntries) TakeEntries { return o }, false},
		"a file":         {without("/rack", "f"), true},
		"a directory":    {without("/rack", "sub"), true},
		"a file beneath": {without("/rack/sub", "g"), true},
		"another file": {func(o TakeEntries) TakeEntries {
			for i, x := range o.Entries {
				if x.Name == "f" {
					o.Entries[i].Inode.ID.Inode++
				}
			}
			return o
		}, true},
		"one too many": {func(o TakeEntries) TakeEntries {
			if o.Dir == path("/rack") {
				o.Entries = append(o.Entries, TakenEntry{Name: "zz", Inode: Inode{ID: fileID(6), Kind: KindFile}})
			}
			return o
		}, true},
		"a grant": {func(o TakeEntries) TakeEntries {
			for i := range o.Entries {
				o.Entries[i].Grants = nil
			}
			return o
		}, true},
		"a mode": {func(o TakeEntries) TakeEntries {
			for i, x := range o.Entries {
				if x.Inode.Kind == KindDir {
					o.Entries[i].Inode.Mode = 0o777
				}
			}
			return o
		}, true},
		"a record": {func(o TakeEntries) TakeEntries { o.Below = nil; return o }, true},
	}
}

type lieOfTaken struct {
	change func(o TakeEntries) TakeEntries
	bad    bool
}

// TestHandOverSum: W12. Of a directory with all sorts of entries the founder hands over what it was given, and no more and no less than that; whoever has left something out, or made something up, is found out
// before anything is dropped.
func TestHandOverSum(t *testing.T) {
	first := hostCaller(below(1))
	for name, lie := range liesOfTaken() {
		parent := racked(t)
		parent.must(PutGrant{fileID(2), grantTo(somebody(10, 10), RightWrite)})
		parent.must(PutBelow{with(below(9), func(r *blocktree.Runtime) { r.Path = path("/rack/sub/n") })})
		delegateTo(parent)
		child := childOf(t, parent)
		takeLying(t, parent, child, path("/rack"), lie.change)
		sum := child.view().entriesSum(RootInode, path("/rack"))
		want := blocktree.Other
		if lie.bad {
			want = blocktree.Corrupt
		}
		for _, try := range []bool{true, false} {
			r := parent.as(first, 2, HandOverSum{path("/rack"), 2, sum, try, false})
			if r.Kind != want || lie.bad && r.Hint == "" {
				t.Errorf("without %s, try %v: %v %q", name, try, r.Kind, r.Text)
			}
			i, _ := parent.view().stat(path("/rack"))
			if done := want == blocktree.Other && !try; i.Delegation.HandedOver != done {
				t.Errorf("without %s, try %v: handed over: %v", name, try, !done)
			}
		}
		if r := parent.as(first, 2, DropMoved{path("/rack"), 2}); (r.Kind == blocktree.Other) == lie.bad {
			t.Errorf("without %s: dropped: %v", name, r.Kind)
		}
		if !lie.bad {
			parent.mustAs(first, HandOverSum{path("/rack"), 2, EntriesSum{}, false, false}) // said again, when what was there has gone
			continue
		}
		if name == "a file" || name == "a directory" || name == "a file beneath" { // what is missing is added
			takeAll(t, parent, child, path("/rack"), 1)
			parent.mustAs(first, HandOverSum{path("/rack"), 2, child.view().entriesSum(RootInode, path("/rack")), false, false})
		}
	}
}

// without leaves an entry out of a directory.
func without(dir, name string) func(TakeEntries) TakeEntries {
	return func(o TakeEntries) TakeEntries {
		if o.Dir == path(dir) {
			o.Entries = slices.DeleteFunc(o.Entries, func(x TakenEntry) bool { return x.Name == name })
		}
		return o
	}
}

// takeLying is takeAll by way of somebody who changes what is told.
func takeLying(t *testing.T, parent, child *machine, dir blocktree.Path, change func(TakeEntries) TakeEntries) {
	t.Helper()
	a := parent.view().judged(Query{Kind: QueryTake, Path: dir, Caller: hostCaller(below(1))})
	if err := a.Err("take"); err != nil || a.More {
		t.Fatal(err, a.More)
	}
	told := change(TakeEntries{dir, a.Taken, a.Runtimes})
	child.must(told)
	for _, x := range told.Entries {
		if x.Inode.Kind == KindDir && x.Inode.Delegation == nil {
			takeLying(t, parent, child, dir.Join(x.Name), change)
		}
	}
}

// TestHandOverSumOfMany: the sum does not depend on inodes, nor on how entries came, and tells what is in a directory from what is behind it.
func TestHandOverSumOfMany(t *testing.T) {
	sums := map[EntriesSum]string{}
	for _, names := range []string{"a/f b/f", "a/f b", "a b/f", "a/b/f", "a/b f", "a b f", "b/a/f", ""} {
		m := founded(t, 1)
		for _, n := range strings.Fields(names) {
			if strings.HasSuffix(n, "f") {
				f := file("/" + n)
				f.Parents = true
				m.must(f)
			} else {
				m.must(MakeDir{Path: path("/" + n), Parents: true, Mode: 0o755})
			}
		}
		sum := m.view().entriesSum(RootInode, rootDir)
		if other, same := sums[sum]; same {
			t.Errorf("%q and %q have one sum", names, other)
		}
		sums[sum] = names
	}
}

// TestAboveFits: W13. However many grants are on however many directories above, what a child is told of them fits in a command, and says of each level whom it belongs to; who was told nothing any more
// would go by rights that were taken away.
func TestAboveFits(t *testing.T) {
	m := founded(t, 3)
	p := ""
	for range 8 {
		p += "/d"
		r := m.must(MakeDir{Path: path(p), Mode: 0o700})
		for g := range GrantsMax {
			m.must(PutGrant{r.Inode.ID, Grant{Subject: Subject{Path: path("/" + strings.Repeat(strings.Repeat("n", 200)+"/", 9) + fmt.Sprint(g))}, Rights: RightRead}})
		}
	}
	m.must(MakeDir{Path: path(p + "/rack"), Mode: 0o755})
	few := m.must(MakeDir{Path: path(p + "/rack/in"), Mode: 0o755}).Inode.ID
	m.must(PutGrant{few, grantTo(somebody(10, 10), RightRead)})
	a, r := m.view().aboveOf(path(p + "/rack/in"))
	if r.Kind != blocktree.Other || len(a.Levels) != 11 {
		t.Fatal(r.Kind, len(a.Levels))
	}
	if _, err := EncodeCommand(nil, Command{ID: NewCommandID(), Op: SetAbove{*a}}); err != nil {
		t.Fatal(err)
	}
	told := 0
	for i, l := range a.Levels {
		if len(l.Grants) > 0 {
			told++
		}
		if i > 0 && i < 9 && l.Mode != 0o700 {
			t.Errorf("level %d: mode %o", i, l.Mode)
		}
	}
	if told < 4 || len(a.Levels[10].Grants) != 1 {
		t.Errorf("the grants of %d levels are told, and of the last %d", told, len(a.Levels[10].Grants))
	}
}
