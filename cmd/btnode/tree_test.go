package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"blocktree"
	"blocktree/fs"
	"blocktree/internal/cli"
)

// forest is a tree as a cluster tells it, which may say anything.
type forest struct {
	*grove
	mu    sync.Mutex
	told  func(dir blocktree.Path) []fs.Entry // nil: what is there
	links map[blocktree.Path]string
	modes map[blocktree.Path]uint32
	did   []string
}

func newForest(t *testing.T, paths ...string) *forest {
	return &forest{grove: newGrove(t, paths...), links: map[blocktree.Path]string{}, modes: map[blocktree.Path]uint32{}}
}

func (f *forest) each(ctx context.Context, dir blocktree.Path, do func(fs.Entry) error) error {
	if f.told == nil {
		return f.grove.each(ctx, dir, func(e fs.Entry) error {
			_, e.Info.Link = f.links[dir.Join(e.Name)]
			e.Info.Mode = 0o755
			return do(e)
		})
	}
	for _, e := range f.told(dir) {
		if err := do(e); err != nil {
			return err
		}
	}
	return nil
}

func (f *forest) target(_ context.Context, path blocktree.Path) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.links[path], nil
}

func (f *forest) info(ctx context.Context, path blocktree.Path) (fs.Info, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, err := f.grove.info(ctx, path)
	i.Mode = f.modes[path]
	return i, err
}

// content is the path itself.
func (f *forest) content(_ context.Context, path blocktree.Path) (fs.File, error) {
	if f.busy[path.Short()] {
		return nil, blocktree.E("open", blocktree.Busy, nil)
	}
	return &memory{[]byte(path.Short())}, nil
}

func (f *forest) mkdir(_ context.Context, path blocktree.Path, mode uint32, parents bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.nodes[path]; ok && !parents {
		return blocktree.E("mkdir", blocktree.Exists, nil)
	}
	if _, ok := f.nodes[path.Parent()]; !ok {
		return blocktree.E("mkdir", blocktree.NotFound, nil)
	}
	f.nodes[path], f.modes[path] = true, mode
	f.did = append(f.did, "mkdir "+path.Short())
	return nil
}

func (f *forest) symlink(_ context.Context, path blocktree.Path, target string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.nodes[path]; ok {
		return blocktree.E("symlink", blocktree.Exists, nil)
	}
	f.nodes[path], f.links[path] = false, target
	f.did = append(f.did, "link "+path.Short()+" "+target)
	return nil
}

func (f *forest) setMode(_ context.Context, path blocktree.Path, _ blocktree.FileID, mode uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.modes[path] = mode
	f.did = append(f.did, "mode "+path.Short())
	return nil
}

// get copies the directory /t of the forest, and returns what was told of, without the directories before it.
func (f *forest) get(t *testing.T, local string, resume bool) (*treeCopy, []string) {
	t.Helper()
	to, err := localTarget(local, resume)
	if err != nil {
		t.Fatal(err)
	}
	defer to.in.close()
	var told []string
	d := &door{failed: func(err error) { told = append(told, err.Error()) }}
	c := newTreeCopy(t.Context(), d, &progress{}, func(ctx context.Context, from treeNode, to place, p *progress) (copied, error) {
		return d.getNode(ctx, from.(remoteNode), to.(localPlace), p)
	})
	if err := c.all(remoteNode{f, f.root.Join("t"), fs.Info{Dir: true, Mode: 0o755}}, to); err != nil {
		told = append(told, err.Error())
	}
	return c, told
}

// listing is what is in a local directory, and below.
func listing(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if rel, _ := filepath.Rel(dir, path); rel != "." {
			all = append(all, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// What a cluster says is in a directory leads nowhere else: not by names that are none, nor through symbolic links, of the tree or that were there.
func TestGetTreeStaysInside(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	if err := os.Mkdir(outside, 0o700); err != nil {
		t.Fatal(err)
	}
	f := newForest(t)
	root := f.root.Join("t")
	entry := func(name string, info fs.Info) fs.Entry {
		info.Mode = 0o7777
		return fs.Entry{Name: name, Info: info}
	}
	f.links[root.Join("link")], f.links[root.Join(".ok.partial")] = "../outside", "../outside/made"
	f.told = func(at blocktree.Path) []fs.Entry {
		if at != root {
			return []fs.Entry{entry("planted", fs.Info{})}
		}
		entries := []fs.Entry{entry("link", fs.Info{Link: true}), entry(".ok.partial", fs.Info{Link: true})}
		for _, n := range []string{"..", ".", "", "/", "../outside/a", "a/b", "/etc/put15", "a\x00b", "a\nb", strings.Repeat("a", 256), "link", "link/planted", "old"} {
			entries = append(entries, entry(n, fs.Info{}), entry(n, fs.Info{Dir: true}))
		}
		return append(entries, entry("kept", fs.Info{}), entry("ok", fs.Info{}), entry("sub", fs.Info{Dir: true}), entry("sub/direct", fs.Info{Dir: true}), entry("inner", fs.Info{Dir: true}))
	}
	for _, resume := range []bool{false, true} {
		local := filepath.Join(dir, "copy")
		if resume { // links that were there before
			local = filepath.Join(dir, "resumed")
			if err := errors.Join(os.Mkdir(local, 0o700), os.Symlink(outside, filepath.Join(local, "old")), os.Symlink("../outside/made", filepath.Join(local, ".kept.partial")), os.Symlink(".", filepath.Join(local, "inner"))); err != nil {
				t.Fatal(err)
			}
		}
		_, told := f.get(t, local, resume)
		if in := listing(t, outside); len(in) > 0 {
			t.Errorf("outside there is %q", in)
		}
		got := listing(t, local)
		for _, want := range []string{"link", "ok", "sub", "sub/planted"} {
			if !slices.Contains(got, want) {
				t.Errorf("%q has no %s", got, want)
			}
		}
		if slices.Contains(got, "sub/direct") || slices.Contains(got, "planted") || slices.Contains(got, "kept") == resume {
			t.Errorf("there is %q", got)
		}
		if len(told) < 2*11 {
			t.Errorf("told %q", told)
		}
		if info, err := os.Stat(filepath.Join(local, "ok")); err != nil || info.Mode() != info.Mode().Perm() {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
	if all, _ := os.ReadDir(dir); len(all) != 3 {
		t.Errorf("%v", all)
	}
}

// A directory that is in itself, as only a lie can have it, ends where paths do.
func TestGetTreeEnds(t *testing.T) {
	f := newForest(t)
	f.told = func(blocktree.Path) []fs.Entry { return []fs.Entry{{Name: "d", Info: fs.Info{Dir: true, Mode: 0o755}}} }
	c, told := f.get(t, filepath.Join(t.TempDir(), "copy"), false)
	if c.done.Directories != blocktree.PathDepthMax-1 || len(told) != 1 { // the root principal's name is one
		t.Errorf("%d directories, told %q", c.done.Directories, told)
	}
}

// Nothing that is there is replaced; what fails is told once, and all else is copied. With resume what is the same is passed over, and what is missing comes.
func TestGetTreeResumes(t *testing.T) {
	f := newForest(t, "/t/a", "/t/b/c", "/t/b/d", "/t/b/e", "/t/f", "/t/l")
	f.links[f.root.Join("t").Join("l")] = "a"
	f.busy["/t/b/d"] = true
	dir := filepath.Join(t.TempDir(), "copy")
	c, told := f.get(t, dir, false)
	if len(told) != 1 || c.failures != 1 || c.done != (copied{4, 2, 1, 6*3 + 4 - 2, 6*3 + 4 - 2}) {
		t.Fatalf("%+v, told %q", c.done, told)
	}
	if got := listing(t, dir); !slices.Equal(got, []string{"a", "b", "b/c", "b/e", "f", "l"}) {
		t.Errorf("%q", got)
	}
	if _, told := f.get(t, dir, false); len(told) != 1 || !strings.Contains(told[0], "exists") {
		t.Errorf("again: %q", told)
	}
	f.busy = nil
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "b/e"), []byte("/t/b/E"), 0o600), os.Remove(filepath.Join(dir, "l")), os.Symlink("b", filepath.Join(dir, "l")), os.Remove(filepath.Join(dir, "f"))); err != nil {
		t.Fatal(err)
	}
	c, told = f.get(t, dir, true)
	slices.Sort(told)
	if len(told) != 2 || !strings.Contains(told[0], "copy/b/e") || !strings.Contains(told[1], "copy/l") || c.done.Files != 4 || c.done.Links != 0 || c.done.Written != 6+4 {
		t.Errorf("%+v, told %q", c.done, told)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "b/e")); string(got) != "/t/b/E" || err != nil {
		t.Errorf("it was replaced: %q, %v", got, err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "b/d")); string(got) != "/t/b/d" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// A directory that its owner may not write to is filled before it is so, and with resume again.
func TestGetTreeReadOnly(t *testing.T) {
	f := newForest(t)
	f.told = func(at blocktree.Path) []fs.Entry {
		if at.Base() == "ro" {
			return []fs.Entry{{Name: "a", Info: fs.Info{Mode: 0o444}}, {Name: "b", Info: fs.Info{Mode: 0o444}}}
		}
		return []fs.Entry{{Name: "ro", Info: fs.Info{Dir: true, Mode: 0o555}}}
	}
	dir := filepath.Join(t.TempDir(), "copy")
	ro := filepath.Join(dir, "ro")
	t.Cleanup(func() { _ = os.Chmod(ro, 0o700) }) // so that it can be removed
	f.busy["/t/ro/b"] = true
	for _, resume := range []bool{false, true} {
		_, told := f.get(t, dir, resume)
		info, err := os.Stat(ro)
		if err != nil || info.Mode().Perm() != 0o555&^os.FileMode(umask()) || len(told) != len(f.busy) {
			t.Fatalf("resume %v: %v, %v, told %q", resume, info, err, told)
		}
		f.busy = nil
	}
	if got := listing(t, ro); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%q", got)
	}
}

// putTo copies a local directory to the path /t of the forest. What is in files counts as it is.
func (f *forest) putTo(t *testing.T, local string, resume bool) (*treeCopy, []string) {
	t.Helper()
	from, err := localTop(local)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	d := &door{failed: func(err error) { told = append(told, err.Error()) }}
	c := newTreeCopy(t.Context(), d, &progress{}, func(_ context.Context, from treeNode, to place, _ *progress) (copied, error) {
		file, err := from.(localNode).file()
		if err != nil {
			return copied{}, err
		}
		defer file.Close()
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.modes[to.(remotePlace).path.Parent()]&0o300 != 0o300 {
			return copied{}, blocktree.E("create", blocktree.Permission, nil)
		}
		f.did = append(f.did, "file "+to.(remotePlace).path.Short())
		return copied{Files: 1}, nil
	})
	if err := c.all(from, remotePlace{writableTree: f, path: f.root.Join("t"), top: true, resume: resume}); err != nil {
		told = append(told, err.Error())
	}
	return c, told
}

// Directories have their mode when all is in them, links are links, and what is neither that nor a file is told.
func TestPutTree(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.Mkdir(at("ro"), 0o755), os.WriteFile(at("ro/a"), nil, 0o444), os.Symlink("/etc/passwd", at("l")), unix.Mkfifo(at("pipe"), 0o600), os.WriteFile(at("new\nline"), nil, 0o600), os.Chmod(at("ro"), 0o555)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(at("ro"), 0o700) }) // so that it can be removed
	f := newForest(t)
	c, told := f.putTo(t, dir, false)
	slices.Sort(told)
	if len(told) != 2 || !strings.Contains(told[0], `new\nline`) || !strings.Contains(told[1], "named pipe") || c.failures != 2 || c.done.Files != 1 || c.done.Directories != 2 || c.done.Links != 1 {
		t.Errorf("%+v, told %q", c.done, told)
	}
	first, last := slices.Index(f.did, "file /t/ro/a"), slices.Index(f.did, "mode /t/ro")
	if first < 0 || last < first || f.modes[f.root.Join("t").Join("ro")] != 0o555 || f.links[f.root.Join("t").Join("l")] != "/etc/passwd" {
		t.Errorf("%q, modes %v, links %v", f.did, f.modes, f.links)
	}
	if _, told := f.putTo(t, dir, false); len(told) != 1 || !strings.Contains(told[0], "exists") {
		t.Errorf("again: %q", told)
	}
	if c, told := f.putTo(t, dir, true); len(told) != 2 || c.done.Links != 1 || c.done.Files != 1 {
		t.Errorf("resumed: %+v, %q", c.done, told)
	}
	f.links[f.root.Join("t").Join("l")] = "/etc/group"
	if _, told := f.putTo(t, dir, true); len(told) != 3 {
		t.Errorf("resumed over another link: %q", told)
	}
}

// What is another thing by the time that it is opened is not copied: neither what a link leads to, nor a file or directory that was put in the place.
func TestPutTreeNoticesChanges(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := errors.Join(os.Mkdir(secret, 0o700), os.WriteFile(filepath.Join(secret, "key"), []byte("x"), 0o600), os.WriteFile(filepath.Join(dir, "file"), nil, 0o600), os.Mkdir(filepath.Join(dir, "dir"), 0o700)); err != nil {
		t.Fatal(err)
	}
	top, err := localTop(dir)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := top.open()
	if err != nil {
		t.Fatal(err)
	}
	defer opened.close()
	nodes := map[string]localNode{}
	if err := opened.each(t.Context(), func(name string, n treeNode, err error) error {
		nodes[name] = n.(localNode)
		return err
	}); err != nil || len(nodes) != 2 {
		t.Fatal(nodes, err)
	}
	away := t.TempDir() // where what was there stays, so that nothing new is given its inode
	for name := range nodes {
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(away, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, make := range []func(name string) error{
		func(name string) error { return os.Symlink(filepath.Join(secret, "key"), name) },
		func(name string) error { return os.Symlink(secret, name) },
		func(name string) error { return os.Rename(secret, name) },
	} {
		for name, n := range nodes {
			at := filepath.Join(dir, name)
			if err := errors.Join(os.RemoveAll(at), make(at)); err != nil {
				t.Fatal(err)
			}
			if f, err := n.file(); err == nil {
				t.Errorf("%s: opened %s", name, f.Name())
			}
			if _, err := n.open(); err == nil {
				t.Errorf("%s: went into what is there", name)
			}
			if err := os.MkdirAll(secret, 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Small files are copied several at a time, but no more than TreeFilesMax; large ones fewer.
func TestTreeAtOnce(t *testing.T) {
	for bytes, want := range map[uint64]int{0: blocktree.TreeFilesMax, 4096: blocktree.TreeFilesMax, pieceBytesMin + 1: blocktree.TreeFilesMax / 2, 1 << 40: 2} {
		synctest.Test(t, func(t *testing.T) {
			f := newForest(t)
			f.told = func(blocktree.Path) (all []fs.Entry) {
				for i := range 3 * blocktree.TreeFilesMax {
					all = append(all, fs.Entry{Name: string(rune('A' + i)), Info: fs.Info{Length: bytes}})
				}
				return all
			}
			to, err := localTarget(filepath.Join(t.TempDir(), "copy"), false)
			if err != nil {
				t.Fatal(err)
			}
			defer to.in.close()
			begun, end := make(chan int), make(chan struct{})
			c := newTreeCopy(t.Context(), &door{}, &progress{}, func(_ context.Context, _ treeNode, _ place, p *progress) (copied, error) {
				begun <- p.piece
				<-end
				return copied{Files: 1}, nil
			})
			done := make(chan error)
			go func() { done <- c.all(remoteNode{f, f.root.Join("t"), fs.Info{Dir: true, Mode: 0o755}}, to) }()
			pieces := 0
			for range want { // waits for ever if there are fewer at a time, and the bubble says so
				pieces += <-begun
			}
			synctest.Wait()
			select {
			case <-begun:
				t.Errorf("of %d bytes: more than %d at once", bytes, want)
			default:
			}
			if pieces > blocktree.TreeBytesMax {
				t.Errorf("of %d bytes: %d on their way", bytes, pieces)
			}
			close(end)
			go func() {
				for range begun {
				}
			}()
			if err := <-done; err != nil || c.done.Files != 3*blocktree.TreeFilesMax {
				t.Errorf("%+v, %v", c.done, err)
			}
			close(begun)
		})
	}
}

// A copy that is given up begins nothing more, says so once, and tells of nothing that fails by it.
func TestTreeGivenUp(t *testing.T) {
	f := newForest(t, "/t/a", "/t/b", "/t/c/d")
	to, err := localTarget(filepath.Join(t.TempDir(), "copy"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer to.in.close()
	ctx, cancel := context.WithCancel(t.Context())
	d := &door{failed: func(err error) { t.Errorf("told %v", err) }}
	c := newTreeCopy(ctx, d, &progress{}, func(context.Context, treeNode, place, *progress) (copied, error) {
		cancel()
		return copied{}, ctx.Err()
	})
	if err := c.all(remoteNode{f, f.root.Join("t"), fs.Info{Dir: true, Mode: 0o755}}, to); blocktree.KindOf(err) != blocktree.Canceled || c.failures != 0 {
		t.Errorf("%v, %d failures", err, c.failures)
	}
}

// Where a copy goes does not depend on what is there: the path is its own, or with a slash that of the directory that it gets into.
func TestTreeTargets(t *testing.T) {
	root := newGrove(t).root
	for _, c := range [][3]string{{"photos", "/docs", "/docs"}, {"photos", "/docs/", "/docs/photos"}, {"a/photos/", "/", "/photos"}, {".", "/docs/", ""}, {"..", "/docs/", ""}, {"/", "/docs/", ""}, {".", "/docs", "/docs"}, {"...", "/docs/", "/docs/..."}, {"a\nb", "/docs/", ""}} {
		path, err := blocktree.ParsePath(c[1], root.Root())
		if err != nil {
			t.Fatal(err)
		}
		got, err := below(path, c[1], c[0])
		if (err == nil) != (c[2] != "") || err == nil && got.Short() != c[2] {
			t.Errorf("put %s %s: %q, %v", c[0], c[1], got, err)
		}
	}
	for _, c := range [][3]string{{"/docs/photos", "to", "to"}, {"/docs/photos", "to/", "to/photos"}, {"/docs/photos", ".", "photos"}, {"/docs/photos", "..", "../photos"}, {"/docs/photos", "a/..", "photos"}, {"/", "to/", ""}, {"/", "to", "to"}} {
		path, err := blocktree.ParsePath(c[0], root.Root())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := localBelow(c[1], path); got != c[2] || (err == nil) != (c[2] != "") {
			t.Errorf("get %s %s: %q, %v", c[0], c[1], got, err)
		}
	}
}

// A name may be as long as any: what is made beside it meanwhile has another.
func TestGetOfLongName(t *testing.T) {
	for _, resume := range []bool{false, true} {
		for _, n := range []int{blocktree.NameBytesMax - len(partialEnd) - 1, blocktree.NameBytesMax} {
			local := filepath.Join(t.TempDir(), strings.Repeat("a", n))
			to, err := localTarget(local, resume)
			if err != nil {
				t.Fatal(err)
			}
			_, err = (&door{}).fetch(t.Context(), newGrove(t).root, &memory{[]byte("text")}, to, 0o600, &progress{})
			if got, e := os.ReadFile(local); err != nil || e != nil || string(got) != "text" {
				t.Errorf("of %d bytes: %v, %q, %v", n, err, got, e)
			}
			if all := listing(t, filepath.Dir(local)); len(all) != 1 {
				t.Errorf("left: %q", all)
			}
			to.in.close()
		}
	}
}

// What was stopped before it was done failed, for whoever says put && rm.
func TestStoppedIsNotDone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range []error{ctx.Err(), blocktree.E("copy", blocktree.Canceled, ctx.Err()), &blocktree.Error{Op: "put", Err: ctx.Err()}} {
		c := &cobra.Command{Use: "put", SilenceErrors: true, SilenceUsage: true, RunE: func(c *cobra.Command, _ []string) error { return copied{}.printed(c, false, err) }}
		var told bytes.Buffer
		if code := cli.RunContext(ctx, c, nil, io.Discard, &told); code != cli.ExitFailure || !strings.Contains(told.String(), "stopped before it was done") {
			t.Errorf("%v: exit code %d, %s", err, code, told.String())
		}
	}
	if err := unfinished(nil); err != nil {
		t.Error(err)
	}
}
