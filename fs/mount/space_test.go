package mount

import (
	"context"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"blocktree"
	"blocktree/fs"
)

// spacious is a fake that says what room there is.
type spacious struct {
	*fake
	dirs  []blocktree.Path
	tells error
}

func (s *spacious) Space(_ context.Context, dir blocktree.Path, code blocktree.Code) (fs.Space, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirs = append(s.dirs, dir)
	return fs.Space{FreeBytes: uint64(code.Data) << 30, TotalBytes: 5 << 30}, s.tells
}

// asked are the directories that it was asked for since it was asked last.
func (s *spacious) asked() (dirs []blocktree.Path) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dirs, s.dirs = s.dirs, nil
	return dirs
}

// TestMountedSpace: programs are told of the room that there is for files of the mount's code, in the directory that something is in.
func TestMountedSpace(t *testing.T) {
	c := &spacious{fake: newFake()}
	c.mkdir("d", 3)
	c.put("d/f", 4, "text")
	_, dir := mountedAs(t, c, Options{Code: blocktree.Code{Data: 2, Parity: 1}})
	for _, name := range []string{"/d/f", "/d"} {
		var st unix.Statfs_t
		if err := unix.Statfs(dir+name, &st); err != nil || st.Bfree != 2<<30/4096 || st.Bavail != st.Bfree || st.Blocks != 5<<30/4096 || st.Namelen != blocktree.NameBytesMax || st.Frsize != 4096 {
			t.Errorf("%s: %+v, %v", name, st, err)
		}
	}
	for _, at := range c.asked() {
		if at != testRoot.Join("d") {
			t.Errorf("asked for %s", at)
		}
	}
	f, err := os.Open(dir + "/d/f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Remove(dir + "/d/f"); err != nil {
		t.Fatal(err)
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil || st.Bfree != 2<<30/4096 || st.Blocks == 0 {
		t.Errorf("of a file that has no name any more: %+v, %v", st, err)
	}
	if got := c.asked(); !slices.Equal(got, []blocktree.Path{testRoot}) {
		t.Errorf("of a file that has no name any more %v are asked for", got)
	}
	c.mu.Lock()
	c.tells = blocktree.E("fake", blocktree.Unsupported, os.ErrInvalid)
	c.mu.Unlock()
	if err := unix.Statfs(dir, &st); err != nil || st.Blocks != 0 {
		t.Errorf("nobody tells: %+v, %v", st, err)
	}
}
