package fs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"blocktree"
)

// shownLinks is a directory of the machine as a tree of links; asked counts what it was asked.
type shownLinks struct {
	t      *testing.T
	dir    string
	asked  int
	hidden map[string]bool // short paths that nobody may be told of
}

func (l *shownLinks) local(path blocktree.Path) (string, error) {
	l.asked++
	name := filepath.Join(l.dir, path.Short())
	if dir := filepath.Dir(name); path.Short() != "/" {
		if real, err := filepath.EvalSymlinks(dir); err == nil && real != dir {
			l.t.Errorf("%s is asked for through a link", path.Short())
		}
	}
	if l.hidden[path.Short()] {
		return "", blocktree.E("test", blocktree.Permission, nil)
	}
	return name, nil
}

func (l *shownLinks) Stat(_ context.Context, path blocktree.Path) (Info, error) {
	name, err := l.local(path)
	if err != nil {
		return Info{}, err
	}
	i, err := os.Lstat(name)
	if err != nil {
		return Info{}, blocktree.E("test", blocktree.NotFound, err)
	}
	return Info{Dir: i.IsDir(), Link: i.Mode()&os.ModeSymlink != 0}, nil
}

func (l *shownLinks) ReadLink(_ context.Context, path blocktree.Path) (string, error) {
	name, err := l.local(path)
	if err != nil {
		return "", err
	}
	target, err := os.Readlink(name)
	if rest, ok := strings.CutPrefix(target, l.dir); ok {
		target = "/" + strings.TrimPrefix(rest, "/")
	}
	return target, err
}

// TestFollow: Y1 of 0076. By trees of files, directories and links that are made at random paths lead where the kernel has them lead, with the same errors.
func TestFollow(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 76))
		l := &shownLinks{t: t, dir: filepath.Join(dir, fmt.Sprint(seed))}
		name := func() string { return string(rune('a' + r.IntN(6))) }
		some := func(n int) []string {
			all := make([]string, 1+r.IntN(n))
			for i := range all {
				all[i] = name()
			}
			return all
		}
		fill(t, r, l.dir, l.dir, 0, some)
		for range 100 {
			names := some(5)
			path := testRoot + blocktree.Path("/"+strings.Join(names, "/"))
			want := ""
			real, err := filepath.EvalSymlinks(filepath.Join(l.dir, path.Short()))
			if _, e := os.Stat(filepath.Join(l.dir, path.Short())); e != nil { // the kernel's word, and its bound
				err = e
			}
			if err == nil {
				want = "/" + strings.TrimPrefix(strings.TrimPrefix(real, l.dir), "/")
			}
			to, got := Follow(t.Context(), l, path, true)
			if got == nil {
				if _, e := l.Stat(t.Context(), to); e != nil {
					got = e
				}
			}
			what := "leads"
			switch {
			case got == nil && err == nil && to.Short() == want:
			case errors.Is(err, syscall.ELOOP) && errors.Is(got, syscall.ELOOP):
				what = "loops"
			case errors.Is(err, syscall.ENOTDIR) && blocktree.KindOf(got) == blocktree.Invalid:
				what = "is no directory"
			case errors.Is(err, syscall.ENOENT) && blocktree.KindOf(got) == blocktree.NotFound:
				what = "is not there"
			default:
				t.Fatalf("seed %d: %s leads to %q, %v; to %q, %v as the kernel has it", seed, path.Short(), to.Short(), got, want, err)
			}
			counts[what]++
		}
	}
	for _, what := range []string{"leads", "loops", "is no directory", "is not there"} {
		if counts[what] == 0 {
			t.Errorf("no path %s: %v", what, counts)
		}
	}
}

// fill makes a directory of root at a depth, and what is in it. No link goes above root.
func fill(t *testing.T, r *rand.Rand, root, dir string, depth int, some func(int) []string) {
	t.Helper()
	err := os.Mkdir(dir, 0o700)
	for c := 'a'; c < 'g' && err == nil; c++ {
		at := filepath.Join(dir, string(c))
		switch target := some(3); r.IntN(5) {
		case 0:
			err = os.WriteFile(at, nil, 0o600)
		case 1:
			if depth < 3 {
				fill(t, r, root, at, depth+1, some)
			}
		case 2:
			err = os.Symlink(root+"/"+strings.Join(target, "/"), at)
		case 3:
			up := r.IntN(depth + 1)
			err = os.Symlink(strings.Repeat("../", up)+"./"+strings.Join(target, "//"), at)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestFollowEnds: Y1. Whatever links say, little is asked for, and nothing of another domain.
func TestFollowEnds(t *testing.T) {
	dir := t.TempDir()
	other := blocktree.PrincipalOf([]byte("another"))
	for name, target := range map[string]string{
		"self": "self", "a": "b", "b": "a", "grows": "grows/grows", "grows.abs": "/grows.abs/x/y", "other": "/" + other.String() + "/f", "long": strings.Repeat("x/", blocktree.PathDepthMax+1) + "x",
		"deep": strings.Repeat("dir/../", 31) + "deep", "up": "../../../dir", "own": "/" + testRoot.Root().String() + "/dir", "newline": "a\nb", "root": "/", "here": ".",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"self": blocktree.TooLarge, "a": blocktree.TooLarge, "grows": blocktree.TooLarge, "grows.abs": blocktree.TooLarge, "other": blocktree.Invalid, "long": blocktree.TooLarge, "deep": blocktree.TooLarge, "newline": blocktree.Invalid,
		"up": "/dir", "own": "/dir", "root": "/", "here": "/", "here/here/root/dir": "/dir", "dir/absent": "/dir/absent", "absent/x": blocktree.NotFound,
	} {
		l := &shownLinks{t: t, dir: dir}
		to, err := Follow(t.Context(), l, testRoot+blocktree.Path("/"+name), true)
		if kind, ok := want.(blocktree.Kind); ok && (blocktree.KindOf(err) != kind || to != "" || kind != blocktree.NotFound && blocktree.HintOf(err) == "") || !ok && (err != nil || to.Short() != want) {
			t.Errorf("%s leads to %q, %v, not %v", name, to.Short(), err, want)
		}
		if l.asked > (blocktree.SymlinksMax+1)*(blocktree.PathDepthMax+1) {
			t.Errorf("%s: asked %d times", name, l.asked)
		}
		if to, err := Follow(t.Context(), l, testRoot+blocktree.Path("/"+name), false); !strings.Contains(name, "/") && (err != nil || to.Short() != "/"+name) {
			t.Errorf("%s itself: %q, %v", name, to, err)
		}
	}
}

// TestFollowIsJudged: Y2.
func TestFollowIsJudged(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"private", "public"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/public", filepath.Join(dir, "private", "l")); err != nil {
		t.Fatal(err)
	}
	path := testRoot + "/private/l/f"
	l := &shownLinks{t: t, dir: dir}
	if to, err := Follow(t.Context(), l, path, true); err != nil || to.Short() != "/public/f" {
		t.Errorf("%s, %v", to, err)
	}
	l = &shownLinks{t: t, dir: dir, hidden: map[string]bool{"/private/l": true, "/private/l/f": true}}
	to, err := Follow(t.Context(), l, path, true)
	if err != nil || to != path {
		t.Errorf("who may not be told of the link is led to %s, %v", to.Short(), err)
	}
	refused := blocktree.E("test", blocktree.Permission, nil)
	asked := 0
	if err := Through(t.Context(), l, path, true, func(blocktree.Path) error { asked++; return refused }); err != refused || asked != 1 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}
