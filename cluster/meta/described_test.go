package meta

import (
	"reflect"
	"testing"

	"blocktree"
)

// TestNamedAt: J3 of 0087. The answer to who names a file says when, which is the time of its directory from then on, also when it was asked for twice; and that to who makes a directory describes it as a query would.
func TestNamedAt(t *testing.T) {
	m, owner, k := keeping(t)
	if now := m.view().inode(k.ID); !reflect.DeepEqual(now, k) {
		t.Errorf("made: %+v, and it is %+v", k, now)
	}
	first := m.mustAs(somebody(0, 0), spares(7, 2)).Inode
	for i, at := range []int64{500, 400} { // clocks of nodes differ
		f := first.ID
		f.Inode += blocktree.Inode(i)
		command := Command{ID: NewCommandID(), Caller: owner, Time: at, Op: NameFile{Session: session(7), File: f, Epoch: 1, Dir: k.ID,
			CreateFile: with(coded("/d/k/"+string(rune('a'+i)), 2, 1), func(o *CreateFile) { o.Mode, o.Time = 0o640, 5 }), Wrote: 6, Release: true}}
		for range 2 {
			named := m.command(command).Inode
			if named == nil || named.Changed != at {
				t.Fatalf("%d: %+v", i, named)
			}
			if d := m.view().inode(k.ID); d.Modified != at || d.Changed != at {
				t.Errorf("%d: its directory is of %d, %d", i, d.Modified, d.Changed)
			}
			command.Time++ // the same command by way of another node
		}
	}
}

// TestOwnerRights: who owns something has these rights on it, whatever its mode and his user id are.
func TestOwnerRights(t *testing.T) {
	for _, uid := range []uint32{0, 7} {
		for _, kind := range []InodeKind{KindFile, KindDir} {
			m := granted(t, 0o777, 0o600)
			for mode := range uint32(0o1000) {
				i := &Inode{ID: fileID(2), Kind: kind, Mode: mode, UID: uid, GID: 70}
				if has, all := i.OwnerRights(), m.view().rights(somebody(uid, 70), i, 1); has&^all != 0 || uid != 0 && has != all {
					t.Fatalf("uid %d, mode %o: %v of %v", uid, mode, has, all)
				}
			}
			m.close()
		}
	}
}
