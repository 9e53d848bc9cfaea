package fastrung

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/fs"
	"blocktree/internal/bttp"
	"blocktree/internal/node"
	"blocktree/internal/testenv"
)

// unlinkWorld is three nodes, each a filesystem service, and a directory of alice's.
type unlinkWorld struct {
	*testenv.Simulated
	admin *cluster.Client
	owner *fs.Client
}

// TestUnlinked: U1 to U3 of 0066, over a real cluster. What is removed, or replaced, while it is open is read and written on by those who have it open; the name is free; and the file is gone when the last handle is, its client, its service, or, with the service's session, all nodes at once. A block device stays.
func TestUnlinked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &unlinkWorld{Simulated: testenv.NewSimulated(t, 3, 1)}
		w.Transport, w.Filesystems = bttp.TCP, map[int]*node.Filesystem{}
		for i := range 3 {
			w.Filesystems[i] = &node.Filesystem{Reader: w.Reader}
		}
		w.StartAll()
		w.admin, w.owner = w.Client(), w.Finder(nil, "alice", 1000, 1000)
		alice := uint32(1000)
		w.must(w.admin.MakeDir(t.Context(), w.Path("/files"), 0o755, false))
		_, err := w.admin.SetOwner(t.Context(), w.Path("/files"), &alice, &alice)
		w.must(err)
		w.lastHandle("removed", func(p blocktree.Path) { w.must(w.owner.Remove(t.Context(), p)) })
		w.lastHandle("replaced", func(p blocktree.Path) {
			other := w.open(w.owner, "other")
			w.must(other.Close())
			w.must(w.owner.Rename(t.Context(), w.Path("/files/other"), p, false))
		})
		w.device()
		w.clientGone()
		w.serviceGone()
		w.allGone()
	})
}

func (w *unlinkWorld) must(err error) {
	w.T.Helper()
	if err != nil {
		w.T.Fatal(err)
	}
}

// open makes a file, and opens it for writing, with its name in it.
func (w *unlinkWorld) open(c *fs.Client, name string) fs.File {
	w.T.Helper()
	p := w.Path("/files/" + name)
	w.must(c.Create(w.T.Context(), p, fs.CreateOptions{SizeBytes: 1 << 20, Code: blocktree.Code{Data: 1, Parity: 1}, Mode: 0o640}))
	f, err := c.Open(w.T.Context(), p, fs.OpenOptions{Write: true})
	w.must(err)
	w.must(f.WriteAt(w.T.Context(), []byte(name), 0))
	return f
}

// has demands what a file begins with.
func (w *unlinkWorld) has(f fs.File, want string) {
	w.T.Helper()
	got := make([]byte, len(want))
	if _, err := f.ReadAt(w.T.Context(), got, 0); err != nil || string(got) != want {
		w.T.Errorf("%q, not %q: %v", got, want, err)
	}
}

// nameless demands that nothing has a name, and that its file is there.
func (w *unlinkWorld) nameless(name string, f fs.File) {
	w.T.Helper()
	if _, err := w.owner.Stat(w.T.Context(), w.Path("/files/"+name)); blocktree.KindOf(err) != blocktree.NotFound {
		w.T.Errorf("%s: its name: %v", name, err)
	}
	if _, err := w.admin.StatFile(w.T.Context(), f.Info().ID); err != nil {
		w.T.Errorf("%s is gone: %v", name, err)
	}
}

// freed waits until nothing is left of a file.
func (w *unlinkWorld) freed(name string, f fs.File) {
	w.T.Helper()
	w.Await(name+" to be freed", func() bool {
		_, err := w.admin.StatFile(w.T.Context(), f.Info().ID)
		return blocktree.KindOf(err) == blocktree.NotFound
	})
}

func (w *unlinkWorld) lastHandle(name string, take func(blocktree.Path)) {
	ctx, p := w.T.Context(), w.Path("/files/"+name)
	f := w.open(w.owner, name)
	w.must(f.Flush(ctx))
	r, err := w.owner.Open(ctx, p, fs.OpenOptions{})
	w.must(err)
	take(p)
	if i, err := w.owner.Stat(ctx, p); err == nil && i.ID == f.Info().ID {
		w.T.Errorf("%s: it has its name", name)
	}
	if name == "removed" {
		w.nameless(name, f)
		newer := w.open(w.owner, name)
		w.must(newer.Close())
	}
	w.byIdentity(p, f)
	w.must(f.WriteAt(ctx, []byte("written after"), 2<<20)) // it grows
	w.must(f.Flush(ctx))
	w.has(f, name)
	time.Sleep(3 * blocktree.FSJudgeEvery) // who has it open is judged anew
	got := make([]byte, 13)
	if _, err := r.ReadAt(ctx, got, 2<<20); err != nil || string(got) != "written after" {
		w.T.Errorf("%s: who reads it: %q, %v", name, got, err)
	}
	if i, err := f.(fs.Stater).Stat(ctx); err != nil || i.Length != 2<<20+13 {
		w.T.Errorf("%s: %+v, %v", name, i, err)
	}
	w.must(f.Close())
	w.has(r, name)
	w.must(r.Close())
	w.freed(name, f)
	now, err := w.owner.Open(ctx, p, fs.OpenOptions{})
	w.must(err)
	if now.Info().ID == f.Info().ID {
		w.T.Errorf("%s: its number is used again", name)
	}
	w.has(now, map[string]string{"removed": name, "replaced": "other"}[name])
	w.must(now.Close())
}

// byIdentity: U8 of 0066. What is set of a file by its identity reaches it, and not what has its name.
func (w *unlinkWorld) byIdentity(p blocktree.Path, f fs.File) {
	w.T.Helper()
	ctx, of := w.T.Context(), w.owner.OfFile(p, f.Info().ID)
	other, err := w.owner.Stat(ctx, p)
	w.must(err)
	w.must(of.SetTimes(ctx, 77))
	w.must(of.SetXattr(ctx, "user.a", []byte("x"), fs.SetCreate))
	if i, err := f.(fs.Stater).Stat(ctx); err != nil || i.Modified != 77 {
		w.T.Errorf("%s: its time is %d: %v", p.Short(), i.Modified, err)
	}
	if v, err := of.GetXattr(ctx, "user.a"); err != nil || string(v) != "x" {
		w.T.Errorf("%s: %q, %v", p.Short(), v, err)
	}
	if names, err := w.owner.ListXattr(ctx, p); err != nil || len(names) != 0 {
		w.T.Errorf("%s: the other file has %q: %v", p.Short(), names, err)
	}
	if now, err := w.owner.Stat(ctx, p); err != nil || now.Modified != other.Modified {
		w.T.Errorf("%s: the other file is of %d, not %d: %v", p.Short(), now.Modified, other.Modified, err)
	}
	stranger := w.Finder(nil, "mallory", 1001, 1001).OfFile(p, f.Info().ID)
	for what, err := range map[string]error{"time": stranger.SetTimes(ctx, 5), "attribute": stranger.RemoveXattr(ctx, "user.a")} {
		if blocktree.KindOf(err) != blocktree.Permission {
			w.T.Errorf("%s: a stranger sets its %s: %v", p.Short(), what, err)
		}
	}
	w.must(of.RemoveXattr(ctx, "user.a"))
}

// device: what is held by another session than the service's is Busy.
func (w *unlinkWorld) device() {
	w.must(w.open(w.owner, "device").Close())
	disk := w.Open(w.admin, "/files/device")
	err := w.owner.Remove(w.T.Context(), w.Path("/files/device"))
	if blocktree.KindOf(err) != blocktree.Busy || !strings.Contains(err.Error(), "in use by") {
		w.T.Errorf("a block device was removed: %v", err)
	}
	w.must(disk.WriteSectors(w.T.Context(), 0, make([]byte, 4096)))
	w.must(disk.Close())
}

func (w *unlinkWorld) clientGone() {
	c := w.Finder(nil, "alice", 1000, 1000)
	f := w.open(c, "client")
	w.must(c.Remove(w.T.Context(), w.Path("/files/client")))
	w.nameless("client", f)
	w.must(c.Close())
	w.freed("client", f)
}

// serviceGone: the node is killed by which the file is open.
func (w *unlinkWorld) serviceGone() {
	f, kept := w.open(w.owner, "service"), w.open(w.owner, "kept")
	w.must(kept.Flush(w.T.Context()))
	w.must(w.owner.Remove(w.T.Context(), w.Path("/files/service")))
	w.nameless("service", f)
	at := slices.IndexFunc(w.Members, func(r blocktree.Runtime) bool { return r.Path == fs.ServiceOf(f) })
	w.Kill(at)
	w.freed("service", f)
	w.On(w.NodeAddr(at))
	w.Start(at)
	w.Await("all to be up", w.AllStarted)
	w.kept()
}

// allGone: all nodes lose their power at once.
func (w *unlinkWorld) allGone() {
	f := w.open(w.owner, "all")
	w.must(w.owner.Remove(w.T.Context(), w.Path("/files/all")))
	w.nameless("all", f)
	w.PowerLoss(7, 0, 1, 2)
	for i := range 3 {
		w.On(w.NodeAddr(i))
	}
	w.StartAll()
	w.freed("all", f)
	w.kept()
}

// kept demands that a file which nobody removed is as it was.
func (w *unlinkWorld) kept() {
	w.T.Helper()
	var f fs.File
	w.Await("a service to answer", func() (ok bool) {
		var err error
		f, err = w.owner.Open(w.T.Context(), w.Path("/files/kept"), fs.OpenOptions{})
		return err == nil
	})
	w.has(f, "kept")
	w.must(f.Close())
}

// TestUnlinkedBeneath: a service of a directory above has the cluster beneath keep what it has open there; of a file that another cluster keeps than that which has its entry nothing is kept, and who writes it is in the way, as before.
func TestUnlinkedBeneath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFoundWorld(t, "root")
		w := &unlinkWorld{Simulated: d.Simulated, admin: d.Client(), owner: d.Finder(nil, "alice", 1000, 1000)}
		ctx, alice := t.Context(), uint32(1000)
		_, err := w.admin.SetOwner(ctx, w.Path("/rack1"), &alice, &alice)
		w.must(err)
		for name, want := range map[string]blocktree.Kind{"/rack1/f": blocktree.Other, "/rack1/old": blocktree.Busy} {
			f, err := w.owner.Open(ctx, w.Path(name), fs.OpenOptions{Write: true})
			w.must(err)
			if err = w.owner.Remove(ctx, w.Path(name)); blocktree.KindOf(err) != want {
				t.Errorf("%s: %v", name, err)
			}
			w.must(f.WriteAt(ctx, []byte(name), 0))
			w.must(f.Flush(ctx))
			w.has(f, name)
			w.must(f.Close())
			if want == blocktree.Other {
				w.freed(name, f)
			}
		}
	})
}
