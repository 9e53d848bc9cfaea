package fastrung

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/fs"
	"blocktree/internal/file"
	"blocktree/internal/vfs"
)

// TestAttributes: by way of real services, of this cluster and of one below, a file's times follow its writes, a second at most after a flush and at once with its close; who sets them has them; and links and attributes are there for who may see them, wherever they are kept.
func TestAttributes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFoundWorld(t, "root+child")
		ctx, alice := t.Context(), uint32(1000)
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		owner, other := w.Finder(nil, "alice", alice, alice), w.Finder(nil, "mallory", 1001, 1001)
		admin := w.Client()
		for _, dir := range []string{"/home", "/rack1/home"} {
			must(admin.MakeDir(ctx, w.Path(dir), 0o755, false))
			_, err := admin.SetOwner(ctx, w.Path(dir), &alice, &alice)
			must(err)
			p := w.Path(dir + "/f")
			must(owner.Create(ctx, p, fs.CreateOptions{SizeBytes: 1 << 20, Code: blocktree.Code{Data: 1}, Mode: 0o640}))
			stat := func() fs.Attributes {
				t.Helper()
				a, err := owner.Attributes(ctx, p)
				must(err)
				return a
			}
			between := func(what string, got int64, from, to time.Time) {
				t.Helper()
				if got < from.UnixNano() || got > to.UnixNano() {
					t.Errorf("%s: %s of %v, not of %v to %v", dir, what, time.Unix(0, got), from, to)
				}
			}
			if a := stat(); a.Kind != fs.KindFile || a.Links != 1 || a.AllocatedBytes != 1<<20 || a.UID != alice {
				t.Errorf("%+v", a)
			}
			time.Sleep(time.Minute)
			f, err := owner.Open(ctx, p, fs.OpenOptions{Write: true})
			must(err)
			begun := time.Now()
			must(f.WriteAt(ctx, []byte("one"), 0))
			must(f.Flush(ctx))
			written := time.Now()
			time.Sleep(100 * time.Millisecond)
			between("a flush", stat().Modified, begun, written)
			must(f.WriteAt(ctx, []byte("two"), 0)) // too soon after the last note, and nobody flushes
			time.Sleep(1500 * time.Millisecond)
			between("a write", stat().Modified, written, written.Add(time.Second))
			must(f.WriteAt(ctx, []byte("three"), 0))
			closing := time.Now()
			must(f.Close())
			between("a close", stat().Modified, written.Add(time.Second), closing)
			between("a close, changed", stat().Changed, closing, time.Now())
			timesThatAreSaid(t, owner, other, p)
			linksAndAttributes(t, w, owner, other, w.Path(dir))
			roomIsTold(t, w, owner, w.Path(dir))
		}
		deviceTimes(t, w)
	})
}

// roomIsTold: of the cluster that keeps what is in a directory, for files of a code, by which service ever.
func roomIsTold(t *testing.T, w *foundWorld, owner *fs.Client, dir blocktree.Path) {
	const bytes = 1 << 40 // of the root's disk; that of the child has twice as many
	w.Disk(0).(*vfs.Crash).SetCapacity(bytes)
	w.child.Disk(0).(*vfs.Crash).SetCapacity(2 * bytes)
	want := uint64(bytes)
	if dir.Within(w.Path("/rack1")) {
		want = 2 * bytes
	}
	x, err := owner.Space(t.Context(), dir, blocktree.Code{Data: 1})
	if err != nil || x.TotalBytes != want || x.FreeBytes >= want || x.FreeBytes < want-1<<30 {
		t.Errorf("%s: %+v, %v", dir, x, err)
	}
	if s, err := w.Client().Status(t.Context()); err != nil || len(s.Nodes) != 1 || s.Nodes[0].Space == nil || s.Nodes[0].Space.TotalBytes != bytes {
		t.Errorf("status: %+v, %v", s, err)
	}
	if x, err = owner.Space(t.Context(), dir, blocktree.Code{Data: 16, Parity: 4}); err != nil || x.FreeBytes != 0 {
		t.Errorf("%s: of a code that takes more nodes: %+v, %v", dir, x, err)
	}
}

// timesThatAreSaid: what the owner says is gone by, also after what it wrote before; a stranger says nothing.
func timesThatAreSaid(t *testing.T, owner, other *fs.Client, p blocktree.Path) {
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	f, err := owner.Open(ctx, p, fs.OpenOptions{Write: true})
	must(err)
	must(f.WriteAt(ctx, []byte("a copy"), 0))
	must(owner.SetTimes(ctx, p, 77))
	must(f.Close())
	if a, err := owner.Attributes(ctx, p); err != nil || a.Modified != 77 {
		t.Errorf("%s: its time is %d, not what its owner said: %v", p.Short(), a.Modified, err)
	}
	timesBesideNotes(t, owner, p)
	if err := other.SetTimes(ctx, p, fs.TimeNow); blocktree.KindOf(err) != blocktree.Permission {
		t.Errorf("a stranger sets a time: %v", err)
	}
	before := time.Now().UnixNano()
	must(owner.SetTimes(ctx, p, fs.TimeNow))
	if a, err := owner.Attributes(ctx, p); err != nil || a.Modified < before || a.Modified > time.Now().UnixNano() {
		t.Errorf("now: %v, %v", time.Unix(0, a.Modified), err)
	}
}

// timesBesideNotes: nor does what was written before say another time after, while its note is on its way, or where it made the file longer.
func timesBesideNotes(t *testing.T, owner *fs.Client, p blocktree.Path) {
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	is := func(what string, want int64) {
		t.Helper()
		if a, err := owner.Attributes(ctx, p); err != nil || a.Modified != want {
			t.Errorf("%s, %s: its time is %d, not the %d that its owner said: %v", p.Short(), what, a.Modified, want, err)
		}
	}
	f, err := owner.Open(ctx, p, fs.OpenOptions{Write: true})
	must(err)
	for n := range int64(5) {
		time.Sleep(2 * blocktree.TouchEvery)
		must(f.WriteAt(ctx, []byte("a copy"), 0))
		must(f.Flush(ctx)) // which begins a note
		must(owner.SetTimes(ctx, p, 80+n))
		time.Sleep(blocktree.TouchEvery)
		is("flushed before", 80+n)
	}
	info, err := f.(fs.Stater).Stat(ctx)
	must(err)
	must(f.WriteAt(ctx, []byte("a longer copy"), info.Length))
	must(owner.SetTimes(ctx, p, 90))
	must(f.Close())
	is("written at its end before", 90)
	must(owner.Truncate(ctx, p, info.Length)) // as it was
}

// deviceTimes: a block device's file is of when it was written to, at the latest once it is let go of.
func deviceTimes(t *testing.T, w *foundWorld) {
	ctx, admin := t.Context(), w.Client()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Minute)
	dev, err := file.Open(ctx, admin, w.Path("/f"), file.OpenOptions{Reader: w.Reader})
	must(err)
	d, err := blockdev.Open(dev, blockdev.Options{})
	must(err)
	begun := time.Now()
	must(d.WriteAt(ctx, []byte("by the device"), 0, false))
	must(d.Close())
	i, err := admin.Stat(ctx, w.Path("/f"))
	must(err)
	if i.Modified < begun.UnixNano() {
		t.Errorf("a device's file is of %v, written at %v", time.Unix(0, i.Modified), begun)
	}
}

// linksAndAttributes looks at symbolic links and extended attributes in a directory of alice's that all may list.
func linksAndAttributes(t *testing.T, w *foundWorld, owner, other *fs.Client, dir blocktree.Path) {
	ctx, l, p := t.Context(), dir.Join("l"), dir.Join("f")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	kind := func(what string, err error, want blocktree.Kind) {
		t.Helper()
		if blocktree.KindOf(err) != want {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	must(owner.Symlink(ctx, l, "f"))
	kind("a second link", owner.Symlink(ctx, l, "f"), blocktree.Exists)
	kind("a stranger's link", other.Symlink(ctx, dir.Join("m"), "f"), blocktree.Permission)
	kind("a long target", owner.Symlink(ctx, dir.Join("m"), strings.Repeat("x", blocktree.LinkBytesMax+1)), blocktree.TooLarge)
	for what, c := range map[string]*fs.Client{"its owner": owner, "who may list": other} {
		if target, err := c.ReadLink(ctx, l); err != nil || target != "f" {
			t.Errorf("read by %s: %q, %v", what, target, err)
		}
		if a, err := c.Attributes(ctx, l); err != nil || a.Kind != fs.KindLink || a.Mode != 0o777 || a.Length != 1 {
			t.Errorf("%s: %+v, %v", what, a, err)
		}
		if _, err := c.Open(ctx, l, fs.OpenOptions{}); blocktree.KindOf(err) == blocktree.Other {
			t.Errorf("%s opens a link", what)
		}
	}
	_, err := owner.ReadLink(ctx, p)
	kind("no link", err, blocktree.Invalid)
	entries, err := owner.ReadDir(ctx, dir)
	must(err)
	if len(entries) != 2 || entries[1].Name != "l" || !entries[1].Info.Link || entries[1].Info.Length != 1 {
		t.Errorf("%+v", entries)
	}
	must(owner.SetXattr(ctx, p, "user.a", []byte("1"), fs.SetCreate))
	kind("made twice", owner.SetXattr(ctx, p, "user.a", nil, fs.SetCreate), blocktree.Exists)
	kind("replaced before it is made", owner.SetXattr(ctx, p, "user.b", nil, fs.SetReplace), blocktree.NotFound)
	kind("another's", owner.SetXattr(ctx, p, "trusted.b", nil, fs.SetAny), blocktree.Invalid)
	kind("of a link", owner.SetXattr(ctx, l, "user.b", nil, fs.SetAny), blocktree.Invalid)
	kind("by a stranger", other.SetXattr(ctx, p, "user.b", nil, fs.SetAny), blocktree.Permission)
	must(owner.SetXattr(ctx, p, "user.b", nil, fs.SetAny))
	if names, err := owner.ListXattr(ctx, p); err != nil || !slices.Equal(names, []string{"user.a", "user.b"}) {
		t.Errorf("%v, %v", names, err)
	}
	if v, err := owner.GetXattr(ctx, p, "user.a"); err != nil || string(v) != "1" {
		t.Errorf("%q, %v", v, err)
	}
	_, err = other.GetXattr(ctx, p, "user.a")
	kind("read by a stranger", err, blocktree.Permission)
	_, err = w.Finder(nil, "", 0, 0).ListXattr(ctx, p)
	kind("listed by nobody in particular", err, blocktree.Permission)
	must(owner.RemoveXattr(ctx, p, "user.a"))
	_, err = owner.GetXattr(ctx, p, "user.a")
	kind("removed", err, blocktree.NotFound)
	must(owner.Remove(ctx, l))
}
