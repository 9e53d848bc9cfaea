package mount

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blocktree"
)

// mountedFiller mounts one, and makes a directory in it by the kernel.
func mountedFiller(t *testing.T, o Options) (c *filler, m *Mount, dir string) {
	t.Helper()
	c = newFiller()
	o.Fill = true
	m, root := mountedAs(t, c, o)
	dir = filepath.Join(root, "d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return c, m, dir
}

// syncs is an fsync of a directory, after which all that was closed in it is at the service.
func syncs(t *testing.T, dir string) {
	t.Helper()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		t.Error(err)
	}
}

// B1, H2, H3 of 0086, by the kernel: what programs do to files that were made just now.
func TestMountedFilled(t *testing.T) {
	c, _, dir := mountedFiller(t, Options{CloseLater: true})
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(at(name), []byte(content), 0o644); err != nil {
			t.Error(err)
		}
	}
	write("a", "first")
	reads(t, at("a"), "first")
	write("a", "again") // O_TRUNC
	reads(t, at("a"), "again")
	write("b", "other")
	if err := os.Rename(at("b"), at("a")); err != nil {
		t.Error(err)
	}
	reads(t, at("a"), "other")
	write("c", "closed")
	if err := os.Remove(at("c")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(at("c")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	write("c", "made anew")
	if f, err := os.OpenFile(at("c"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644); !errors.Is(err, os.ErrExist) {
		t.Errorf("%v, %v", f, err)
	}
	add, err := os.OpenFile(at("c"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = add.WriteString(", and more")
	_ = add.Close()
	reads(t, at("c"), "made anew, and more")
	write("run", "#!/bin/sh\necho $1\n")
	if err := os.Chmod(at("run"), 0o755); err != nil {
		t.Error(err)
	}
	if out, err := exec.Command("sh", "-c", at("run")+" runs").CombinedOutput(); err != nil || string(out) != "runs\n" { // by a process of its own: who serves it waits for what it executes itself
		t.Errorf("%v, %s", err, out)
	}
	if out, err := exec.Command("sh", "-c", "cd "+dir+" && (echo one; (echo two); echo three >&2) >shell 2>&1 && cat shell").CombinedOutput(); err != nil || string(out) != "one\ntwo\nthree\n" {
		t.Errorf("%v, %s", err, out)
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 4 {
		t.Errorf("%v, %v", all, err)
	}
	write("e", "durable")
	if syncs(t, dir); c.content("d/e") != "durable" {
		t.Errorf("it is %q", c.content("d/e"))
	}
	if err := syscall.Rmdir(dir); !errors.Is(err, syscall.ENOTEMPTY) {
		t.Error(err)
	}
}

// 0086, 5, by the kernel: cp -p, tar and others set the mode and time of what they write before they close it.
func TestMountedFilledTimes(t *testing.T) {
	c, _, dir := mountedFiller(t, Options{CloseLater: true})
	when := time.Unix(1_000_000, 5)
	name := filepath.Join(dir, "a")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteString("content")
	if err := unix.Futimes(int(f.Fd()), []unix.Timeval{{Sec: 1_000_000}, {Sec: 1_000_000}}); err != nil {
		t.Error(err)
	}
	_ = f.Chmod(0o640)
	ts := unix.NsecToTimespec(when.UnixNano())
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{ts, ts}, 0); err != nil {
		t.Error(err)
	}
	is := func(what string) {
		t.Helper()
		if st, err := os.Stat(name); err != nil || st.Mode() != 0o640 || !st.ModTime().Equal(when) || st.Size() != 7 {
			t.Errorf("%s: %v, %v", what, st, err)
		}
	}
	is("open")
	before, _ := f.Stat()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	is("closed")
	syncs(t, dir)
	info, err := c.Stat(t.Context(), testRoot.Join("d").Join("a"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode != 0o640 || info.Modified != when.UnixNano() {
		t.Errorf("the service has %+v", info)
	}
	if st, err := os.Stat(name); err != nil || !os.SameFile(st, before) {
		t.Errorf("it is another one: %v", err)
	}
}

// H2, H3, H4 of 0086, by the kernel: many directories at once, each file looked at, read or renamed when it is closed, while services die and answers are lost. What a close waits for is there when it returns.
func TestMountedFilledAtOnce(t *testing.T) {
	for _, later := range []bool{false, true} {
		t.Run(fmt.Sprintf("later=%v", later), func(t *testing.T) {
			c, m, dir := mountedFiller(t, Options{CloseLater: later})
			var all sync.WaitGroup
			for i := range 6 {
				all.Go(func() {
					rng := rand.New(rand.NewPCG(uint64(i), 86))
					d := filepath.Join(dir, fmt.Sprint(i))
					if err := os.Mkdir(d, 0o755); err != nil {
						t.Error(err)
						return
					}
					for j := range 60 {
						switch rng.IntN(40) {
						case 0:
							c.kill(false)
						case 1, 2, 3, 4:
							c.mu.Lock()
							c.makesUnheard = []bool{rng.IntN(2) == 0}
							c.wholes, c.not = []error{blocktree.E("fake", blocktree.Undeliverable, nil)}, rng.IntN(2) == 0
							c.mu.Unlock()
						}
						one(t, c, rng, d, j, later)
					}
				})
			}
			all.Wait()
			for i := range 6 {
				syncs(t, filepath.Join(dir, fmt.Sprint(i)))
				for j := range 60 {
					name := fmt.Sprintf("d/%d/%d", i, j)
					if got := c.content(name); got != contentOf(j) {
						t.Errorf("%s has %d bytes", name, len(got))
					}
				}
			}
			if err := m.Unsaved(); err != nil {
				t.Error(err)
			}
		})
	}
}

// contentOf is of a file of a number: some are more than is held.
func contentOf(j int) string {
	return string(bytes.Repeat([]byte{byte('a' + j%26)}, j*j*j%(2*blocktree.MountHeldBytesMax)))
}

// one makes a file, and looks at it.
func one(t *testing.T, c *filler, rng *rand.Rand, d string, j int, later bool) {
	name := filepath.Join(d, fmt.Sprint(j))
	made := name
	if j%4 == 0 {
		made += ".new"
	}
	f, err := os.OpenFile(made, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		t.Error(err)
		return
	}
	if _, err := f.WriteString(contentOf(j)); err != nil {
		t.Error(err)
	}
	if rng.IntN(5) == 0 {
		if err := f.Sync(); err != nil {
			t.Errorf("fsync: %v", err)
		}
	}
	was, _ := f.Stat()
	if rng.IntN(8) == 0 { // until it is being named
		time.Sleep(blocktree.MountUnnamedFor + time.Duration(rng.IntN(40))*time.Millisecond)
	}
	if err := f.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if at := "d/" + filepath.Base(d) + "/" + filepath.Base(made); !later && c.content(at) != contentOf(j) {
		t.Errorf("closed, %s is %d bytes", at, len(c.content(at)))
	}
	if made != name {
		if err := os.Rename(made, name); err != nil {
			t.Error(err)
		}
	}
	switch rng.IntN(4) {
	case 0:
		reads(t, name, contentOf(j))
	case 1:
		if st, err := os.Stat(name); err != nil || st.Size() != int64(len(contentOf(j))) || !os.SameFile(st, was) {
			t.Errorf("%v, %v", st, err)
		}
	case 2:
		names, err := os.ReadDir(d)
		if err != nil || len(names) != j+1 {
			t.Errorf("%d names, not %d, %v", len(names), j+1, err)
		}
	}
}

// 0086, 6, by the kernel: umount sends what is closed.
func TestMountedFilledUnmount(t *testing.T) {
	c, m, dir := mountedFiller(t, Options{CloseLater: true})
	for i := range 20 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte("content"), 0o644); err != nil {
			t.Error(err)
		}
	}
	if err := m.Unmount(); err != nil || m.Unsaved() != nil {
		t.Errorf("%v, %v", err, m.Unsaved())
	}
	for i := range 20 {
		if got := c.content("d/" + fmt.Sprint(i)); got != "content" {
			t.Errorf("%d is %q", i, got)
		}
	}
	if took := c.took(); strings.Count(took, "whole") < 15 {
		t.Errorf("it took %s", took)
	}
}
