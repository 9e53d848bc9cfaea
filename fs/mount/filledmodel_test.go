package mount

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
)

// filledFile is a file of the model.
type filledFile struct {
	content []byte
	mode    uint32
	ino     uint64
	n       *node
	open    []*writing // its descriptors
}

// filledWorld is two directories of a mount, beside what programs may believe of them.
type filledWorld struct {
	t     *testing.T
	c     *filler
	rng   *rand.Rand
	dirs  [2]*node
	files map[string]*filledFile // by "d0/name"
	seed  uint64
	step  int
	what  string
	took  string
}

// H1, H2, H4 of 0086, and what POSIX says within a mount: any sequence of what programs do to the names of directories that the mount fills, to open and closed files, with services that die and others that ask in between.
func TestFilledAgainstModel(t *testing.T) {
	wholes := 0
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			w := &filledWorld{t: t, c: newFiller(), rng: rand.New(rand.NewPCG(seed, 86)), files: map[string]*filledFile{}, seed: seed}
			root := grow(w.c)
			root.tree.o.CloseLater = seed%4 != 3
			w.c.holds = true
			for i := range w.dirs {
				w.dirs[i] = mkdir(t, root, fmt.Sprintf("d%d", i))
			}
			for w.step = range 200 {
				w.does()
				w.took += w.c.took() + " "
				time.Sleep(time.Duration(w.rng.IntN(20)) * time.Millisecond)
				w.check()
			}
			for _, f := range w.files {
				for _, h := range f.open {
					closes(t, h, 0)
				}
				f.open = nil
			}
			root.tree.senders.Wait()
			w.what = "the end"
			w.others()
			w.check()
			root.tree.notices.Wait()
			wholes += strings.Count(w.took, "whole")
			if x := root.tree.fills; x.out != 0 || root.tree.kept.Load() != 0 || len(root.tree.later) != 0 || root.tree.unnamed.count.Load() != 0 || root.tree.unsaved.Load() != nil {
				w.bad("%d spares are out, %d bytes kept, %d places, %v", x.out, root.tree.kept.Load(), len(root.tree.later), root.tree.unsaved.Load())
			}
		})
	}
	if wholes < 300 {
		t.Errorf("%d files were made by one request", wholes)
	}
}

func (w *filledWorld) bad(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d step %d: after %s: %s", w.seed, w.step, w.what, fmt.Sprintf(format, args...))
}

func (w *filledWorld) is(e, want syscall.Errno) {
	w.t.Helper()
	if e != want {
		w.bad("%v, not %v", e, want)
	}
}

// one draws a name.
func (w *filledWorld) one() (key string, dir *node, name string) {
	i := w.rng.IntN(2)
	name = string(rune('a' + w.rng.IntN(4)))
	return fmt.Sprintf("d%d/%s", i, name), w.dirs[i], name
}

func (w *filledWorld) does() {
	key, dir, name := w.one()
	f := w.files[key]
	switch k := w.rng.IntN(24); {
	case k < 8 && f == nil:
		w.what = "making " + key
		w.make(key, dir, name)
	case k == 0:
		w.what = "making " + key + " once more"
		_, _, _, e := dir.Create(w.t.Context(), name, syscall.O_RDWR|syscall.O_EXCL, 0o644, &fuse.EntryOut{})
		w.is(e, syscall.EEXIST)
	case k == 8:
		w.what = "unlink " + key
		e := dir.Unlink(w.t.Context(), name)
		if f == nil {
			w.is(e, syscall.ENOENT)
			return
		}
		w.is(e, 0)
		w.gone(key)
		dir.RmChild(name)
	case k == 9:
		w.rename(key, dir, name)
	case k < 14 && f != nil:
		w.uses(key, f)
	case k == 14 && f != nil:
		w.opens(key, f)
	case k == 15:
		w.fails()
	case k == 16:
		w.what = "somebody else's question"
		if w.rng.IntN(4) == 0 {
			w.others()
		}
	case k == 17:
		w.what = "a while"
		time.Sleep(time.Duration(w.rng.IntN(300)) * time.Millisecond)
	case k == 18 && w.rng.IntN(4) == 0:
		w.what = "rmdir of " + key[:2]
		want := syscall.Errno(0)
		for other := range w.files {
			if other[:2] == key[:2] {
				want = syscall.ENOTEMPTY
			}
		}
		root := dir.Root().Operations().(*node)
		if w.is(root.Rmdir(w.t.Context(), key[:2]), want); want == 0 {
			root.RmChild(key[:2])
			w.dirs[key[1]-'0'] = mkdir(w.t, root, key[:2])
		}
	case k == 19:
		w.what = "fsync of a directory"
		w.is((&listing{node: dir}).Fsyncdir(w.t.Context(), 0), 0)
		w.durable(key[:3])
	case k == 18 || k == 20:
		w.what = "making " + key[:2] + " anew"
		w.renew(key)
	case f == nil:
		w.what = "making " + key
		w.make(key, dir, name)
	case k < 23:
		w.uses(key, f)
	}
}

// fails has the service die, or the next answers be lost.
func (w *filledWorld) fails() {
	w.what = "a failover"
	switch w.rng.IntN(8) {
	case 0, 1:
		w.c.kill(false)
	case 2, 3:
		w.what = "answers that are lost"
		w.c.mu.Lock()
		defer w.c.mu.Unlock()
		w.c.makesUnheard = []bool{w.rng.IntN(2) == 0}
		w.c.wholes, w.c.not = []error{blocktree.E("fake", blocktree.Undeliverable, nil)}, w.rng.IntN(2) == 0
	}
}

// renew has a directory be another, that was made just now.
func (w *filledWorld) renew(key string) {
	root := w.dirs[0].Root().Operations().(*node)
	dir := w.dirs[key[1]-'0']
	for other := range w.files {
		if other[:2] == key[:2] {
			w.is(dir.Unlink(w.t.Context(), other[3:]), 0)
			w.gone(other)
			dir.RmChild(other[3:])
		}
	}
	w.is(root.Rmdir(w.t.Context(), key[:2]), 0)
	root.RmChild(key[:2])
	w.dirs[key[1]-'0'] = mkdir(w.t, root, key[:2])
}

func (w *filledWorld) make(key string, dir *node, name string) {
	flags, mode := uint32(syscall.O_RDWR), uint32(0o644)
	switch w.rng.IntN(8) {
	case 0:
		flags |= syscall.O_SYNC
	case 1:
		mode = 0o400
	case 2:
		flags |= syscall.O_APPEND
	}
	looks(w.t, dir, name, syscall.ENOENT)
	n, h := create(w.t, dir, name, flags, mode)
	ino, _ := number(n.id)
	w.files[key] = &filledFile{mode: mode, n: n, open: []*writing{h}, ino: ino}
	if h.by = os.Getpid(); w.rng.IntN(3) > 0 {
		w.write(w.files[key], h)
	}
	if w.rng.IntN(3) > 0 {
		w.close(w.files[key])
	}
}

func (w *filledWorld) write(f *filledFile, h *writing) {
	p := bytes.Repeat([]byte{byte(1 + w.rng.IntN(255))}, 1+w.rng.IntN(3000))
	off := len(f.content)
	if !h.append && w.rng.IntN(4) == 0 {
		off = w.rng.IntN(4000)
	}
	w.what += fmt.Sprintf(", %d bytes at %d", len(p), off)
	writes(w.t, h, string(p), int64(off), 0)
	f.content = reach(f.content, off+len(p))
	copy(f.content[off:], p)
}

// close closes a descriptor.
func (w *filledWorld) close(f *filledFile) {
	if len(f.open) > 0 {
		closes(w.t, f.open[0], 0)
		f.open = f.open[1:]
	}
}

func (w *filledWorld) opens(key string, f *filledFile) {
	w.what = "an open of " + key
	h, _, e := f.n.Open(w.t.Context(), syscall.O_RDWR)
	w.is(e, 0)
	h.(*writing).by = os.Getpid()
	f.open = append(f.open, h.(*writing))
	if w.rng.IntN(2) == 0 {
		w.write(f, h.(*writing))
	}
}

// uses uses a file that is there.
func (w *filledWorld) uses(key string, f *filledFile) {
	t := w.t
	var h gofs.FileHandle
	if len(f.open) > 0 {
		h = f.open[w.rng.IntN(len(f.open))]
	}
	switch w.rng.IntN(8) {
	case 0:
		w.what = "chmod of " + key
		f.mode = []uint32{0o600, 0o640, 0o755, 0o444}[w.rng.IntN(4)]
		w.is(f.n.Setattr(t.Context(), h, &fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{Valid: fuse.FATTR_MODE, Mode: f.mode}}, &fuse.AttrOut{}), 0)
	case 1:
		n := w.rng.IntN(5000)
		w.what = fmt.Sprintf("a cut of %s at %d", key, n)
		w.is(f.n.Setattr(t.Context(), h, &fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{Valid: fuse.FATTR_SIZE, Size: uint64(n)}}, &fuse.AttrOut{}), 0)
		f.content = reach(f.content, n)[:n]
	case 2, 3:
		if h != nil {
			w.what = "fsync of " + key
			w.is(f.n.Fsync(closer(true), h, 0), 0)
			w.durable(key)
		}
	case 4, 5:
		w.what = "a write of " + key
		if h != nil {
			w.write(f, h.(*writing))
		}
	default:
		w.what = "a close of " + key
		w.close(f)
	}
}

func (w *filledWorld) rename(key string, dir *node, name string) {
	to, toDir, toName := w.one()
	w.what = "a rename of " + key + " to " + to
	if to == key {
		return
	}
	f := w.files[key]
	e := dir.Rename(w.t.Context(), name, toDir, toName, 0)
	if f == nil {
		w.is(e, syscall.ENOENT)
		return
	}
	w.is(e, 0)
	if w.files[to] != nil {
		w.gone(to)
	}
	w.files[to] = f
	delete(w.files, key)
	dir.MvChild(name, toDir.EmbeddedInode(), toName, true)
}

// gone forgets a file that has no name any more; who has it open closes it.
func (w *filledWorld) gone(key string) {
	for _, h := range w.files[key].open {
		_ = h.Flush(closer(true)) // of what a service of before had it may be an error
		h.Release(w.t.Context())
	}
	delete(w.files, key)
}

// durable demands that what was fsynced is at the service.
func (w *filledWorld) durable(prefix string) {
	for key, f := range w.files {
		if len(prefix) > 3 && key == prefix && w.c.content(key) != string(f.content) {
			w.bad("%s has %d bytes at the service, not %d", key, len(w.c.content(key)), len(f.content))
		}
		if len(prefix) == 3 && key[:3] == prefix && w.c.content(key) == "absent" {
			w.bad("%s is not there", key)
		}
	}
}

// others is somebody else who asks: what is closed is there then, and all of it.
func (w *filledWorld) others() {
	time.Sleep(fillTerm)
	w.c.forgets()
	for key, f := range w.files {
		if got := w.c.content(key); got == "absent" || len(f.open) == 0 && got != string(f.content) {
			w.bad("%s is seen by others with %d bytes, not %d", key, len(got), len(f.content))
		}
	}
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	if there := len(w.c.files) - 3; there != len(w.files) {
		w.bad("%d files are there, not %d", there, len(w.files))
	}
}

// check has programs look at something.
func (w *filledWorld) check() {
	t := w.t
	key, dir, name := w.one()
	f := w.files[key]
	switch w.rng.IntN(6) {
	case 0:
		var out fuse.EntryOut
		_, e := dir.Lookup(t.Context(), name, &out)
		if f == nil {
			w.is(e, syscall.ENOENT)
			return
		}
		w.is(e, 0)
		w.describes(key, f, &out.Attr)
	case 1, 2:
		if f != nil {
			var out fuse.AttrOut
			var h gofs.FileHandle
			if len(f.open) > 0 && w.rng.IntN(2) == 0 {
				h = f.open[0]
			}
			w.is(f.n.Getattr(t.Context(), h, &out), 0)
			w.describes(key, f, &out.Attr)
		}
	case 3:
		if f == nil {
			return
		}
		h, _, e := f.n.Open(t.Context(), syscall.O_RDONLY)
		w.is(e, 0)
		r, e := h.(gofs.FileReader).Read(t.Context(), make([]byte, 20_000), 0)
		w.is(e, 0)
		if got, _ := r.Bytes(nil); !bytes.Equal(got, f.content) {
			w.bad("%s reads as %d bytes that are not the %d", key, len(got), len(f.content))
		}
		w.is(h.(gofs.FileReleaser).Release(t.Context()), 0)
	case 4:
		w.lists(key[:2], dir)
	}
}

func (w *filledWorld) describes(key string, f *filledFile, attr *fuse.Attr) {
	if attr.Size != uint64(len(f.content)) || attr.Mode != syscall.S_IFREG|f.mode || attr.Ino != f.ino {
		w.bad("%s is told to be %d, of %d bytes, mode %o, not %d, %d, %o", key, attr.Ino, attr.Size, attr.Mode, f.ino, len(f.content), f.mode)
	}
}

func (w *filledWorld) lists(prefix string, dir *node) {
	seen := 0
	for l := (&listing{node: dir}); ; seen++ {
		e, ok, err := l.next(w.t.Context())
		if err != nil {
			w.bad("a listing: %v", err)
		}
		if !ok {
			break
		}
		f := w.files[prefix+"/"+e.Name]
		if f == nil || e.Info.ID != f.n.id {
			w.bad("%s is listed as %v", e.Name, e.Info.ID)
		}
	}
	there := 0
	for key := range w.files {
		if key[:2] == prefix {
			there++
		}
	}
	if seen != there {
		w.bad("%d files are listed, not %d", seen, there)
	}
}
