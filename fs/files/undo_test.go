package files

import (
	"os"
	"strings"
	"testing"

	"blocktree"
	"blocktree/fs"
)

// another has somebody else's file be at a path, in the place of what is there.
func (m *memory) another(path blocktree.Path) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last++
	m.nodes[path] = &node{info: fs.Info{ID: blocktree.FileID{Generation: 1, Inode: blocktree.Inode(m.last)}, SizeBytes: 512, Length: 6, SectorBytes: 512}, bytes: append([]byte("theirs"), make([]byte, 506)...)}
}

// A2 of 0057: what could not be finished is removed, and nothing else that has its name by then.
func TestUndoSparesOthers(t *testing.T) {
	for _, swapped := range []bool{false, true} {
		m, tree := newMemory(t)
		path := m.root.Join("f")
		m.fail = func(op string) error {
			if op != "length" {
				return nil
			}
			if swapped {
				m.mu.Unlock() // at has it
				m.another(path)
				m.mu.Lock()
			}
			return kind(blocktree.Unsupported)
		}
		_, err := tree.OpenFile(t.Context(), "/f", os.O_RDWR|os.O_CREATE, 0o600)
		wantKind(t, "made without a length", err, blocktree.Unsupported, nil)
		m.fail = nil
		switch n := m.nodes[path]; {
		case !swapped && n != nil:
			t.Error("what could not be finished is there")
		case swapped && (n == nil || n.info.Length != 6):
			t.Error("another's file is gone")
		}
	}
}

// A2 of 0057: a service of the version before does not say what it made, and so nothing is removed; who reads the error knows of it.
func TestUndoBesideOldService(t *testing.T) {
	m, tree := newMemory(t)
	m.old = true
	m.fail = func(op string) error {
		if op == "length" {
			return kind(blocktree.Unsupported)
		}
		return nil
	}
	_, err := tree.OpenFile(t.Context(), "/f", os.O_RDWR|os.O_CREATE, 0o600)
	wantKind(t, "made without a length", err, blocktree.Unsupported, nil)
	if m.nodes[m.root.Join("f")] == nil {
		t.Error("something was removed by its name")
	}
	if err == nil || !strings.Contains(err.Error(), "could not be removed") {
		t.Errorf("nobody is told that it is there: %v", err)
	}
}

// A2 of 0057: who demands a new file gets the one that was made or none; who does not, and wants it empty, gets an empty one.
func TestFillsWhatItMade(t *testing.T) {
	for _, flags := range []int{os.O_EXCL, os.O_TRUNC} {
		m, tree := newMemory(t)
		path := m.root.Join("f")
		m.fail = func(op string) error {
			if op == "open" && m.opens == 0 {
				m.mu.Unlock()
				m.another(path)
				m.mu.Lock()
			}
			return nil
		}
		f, err := tree.OpenFile(t.Context(), "/f", os.O_RDWR|os.O_CREATE|flags, 0o600)
		if flags == os.O_EXCL {
			wantKind(t, "another's", err, blocktree.NotFound, nil)
			if m.open != 0 || m.nodes[path].info.Length != 6 {
				t.Error("another's file is open, or shorter")
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if info, err := f.Stat(); err != nil || info.Size() != 0 {
			t.Errorf("it is not empty: %d, %v", info.Size(), err)
		}
		_ = f.Close() // it is in memory
	}
}

// A2 of 0057: a new file, and no other that has its name by then, is made to end where it begins.
func TestShortensWhatItMade(t *testing.T) {
	for _, flags := range []int{os.O_RDWR, os.O_RDONLY} {
		for _, swapped := range []bool{false, true} {
			m, tree := newMemory(t)
			path, made := m.root.Join("f"), false
			m.fail = func(op string) error {
				if made && swapped && m.nodes[path].info.ID.Inode == 1 {
					m.mu.Unlock()
					m.another(path)
					m.mu.Lock()
				}
				made = made || op == "create"
				return nil
			}
			f, err := tree.OpenFile(t.Context(), "/f", flags|os.O_CREATE, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			want := int64(0)
			if swapped {
				want = 6
			}
			if info, err := f.Stat(); err != nil || info.Size() != want || m.nodes[path].info.Length != uint64(want) {
				t.Errorf("flags %d, swapped %t: %d bytes long, %v", flags, swapped, m.nodes[path].info.Length, err)
			}
			_ = f.Close() // it is in memory
			if m.open != 0 {
				t.Errorf("%d are open", m.open)
			}
		}
	}
}
