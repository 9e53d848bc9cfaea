package fastrung

import (
	"bytes"
	"io"
	"testing"
	"testing/synctest"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/cluster/stripe"
	"blocktree/crypto/keys"
	"blocktree/fs"
	"blocktree/internal/file"
)

// TestMovingEnd: E1 to E3 of 0059 over a real cluster, for each kind of file: it is written behind its end and its size, cut, made longer, and appended to, by who opens it here; others see each end when it was flushed, and what was cut never again, by either door.
func TestMovingEnd(t *testing.T) {
	for name, o := range map[string]file.CreateOptions{"sector": {}, "flush": {Durability: stripe.DurabilityFlush}, "tree": {Tree: true}} {
		synctest.Test(t, func(t *testing.T) { movesEnd(t, name, o) })
	}
}

// endFile is a file whose end moves, and what it is to be.
type endFile struct {
	*testing.T
	w    *foundWorld
	path blocktree.Path
	key  fs.Local
	is   []byte
}

func (m *endFile) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatalf("%s: %v", m.path.Short(), err)
	}
}

// ends checks where others see it end.
func (m *endFile) ends(want int) {
	m.Helper()
	inode, err := m.w.Client().Stat(m.Context(), m.path)
	if m.must(err); inode.Length() != uint64(want) {
		m.Errorf("%s: others see %d bytes, want %d", m.path.Short(), inode.Length(), want)
	}
}

func (m *endFile) reads(f fs.File) {
	m.Helper()
	got := make([]byte, len(m.is)+9)
	if n, err := f.ReadAt(m.Context(), got, 0); err != io.EOF || !bytes.Equal(got[:n], m.is) {
		m.Errorf("%s: %d bytes of %d, or other ones, %v", m.path.Short(), n, len(m.is), err)
	}
}

func movesEnd(t *testing.T, name string, o file.CreateOptions) {
	w := newFoundWorld(t, "root")
	m := &endFile{T: t, w: w, path: w.Path("/" + name), key: fs.Local{Reader: w.Reader, Believe: func(blocktree.Path) {}}}
	ctx, client := t.Context(), w.Client()
	o.SizeBytes, o.Code, o.Readers = 4096, blocktree.Code{Data: 1}, []keys.PublicKey{w.Reader.Public()}
	m.must(file.Create(ctx, client, m.path, o))
	opened, err := fs.OpenLocal(ctx, client, m.path, m.key, fs.OpenOptions{Write: true})
	m.must(err)
	f := opened.(interface {
		fs.File
		fs.Truncater
		fs.Allocater
		fs.Appender
	})
	text := bytes.Repeat([]byte("moves "), 2000)
	m.must(f.WriteAt(ctx, text, 10_000))
	m.is = append(make([]byte, 10_000), text...)
	m.reads(f)
	m.ends(4096)
	m.must(f.Flush(ctx))
	m.ends(len(m.is))
	m.must(f.Truncate(ctx, 10_007))
	m.is = m.is[:10_007:10_007]
	m.ends(len(m.is))
	m.must(f.Truncate(ctx, 200_000))
	m.is = append(m.is, make([]byte, 200_000-len(m.is))...)
	m.ends(len(m.is))
	off, err := f.Append(ctx, text)
	if m.must(err); off != 200_000 {
		t.Errorf("%s: appended at %d", name, off)
	}
	m.is = append(m.is, text...)
	m.reads(f)
	m.must(f.Truncate(ctx, 50))
	m.must(f.Allocate(ctx, 1<<20, 1))
	m.is = append(m.is[:50:50], make([]byte, 1<<20+1-50)...)
	m.must(f.Close())
	m.ends(len(m.is))
	m.byOthers()
}

// byOthers looks at it as a reader does, and as a block device.
func (m *endFile) byOthers() {
	ctx, client := m.Context(), m.w.Client()
	seen, err := fs.OpenLocal(ctx, client, m.path, m.key, fs.OpenOptions{})
	m.must(err)
	m.reads(seen)
	m.must(seen.Close())
	raw, err := file.Open(ctx, client, m.path, file.OpenOptions{Reader: m.w.Reader})
	m.must(err)
	device, err := blockdev.Open(raw, blockdev.Options{})
	m.must(err)
	got := make([]byte, 4096)
	if m.must(device.ReadAt(ctx, got, 8192)); !bytes.Equal(got, make([]byte, 4096)) {
		m.Errorf("%s: a device has what was cut", m.path.Short())
	}
	m.must(device.Close())
}

// TestResizeBesideWriters: who makes a file smaller by its path, by the service that others write it by, is told Busy, and takes nothing from them.
func TestResizeBesideWriters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFoundWorld(t, "root")
		ctx, alice := t.Context(), uint32(1000)
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		dir := w.Path("/home")
		must(w.Client().MakeDir(ctx, dir, 0o755, false))
		_, err := w.Client().SetOwner(ctx, dir, &alice, &alice)
		must(err)
		owner, p := w.Finder(nil, "alice", alice, alice), dir.Join("f")
		must(owner.Create(ctx, p, fs.CreateOptions{SizeBytes: 1 << 20, Code: blocktree.Code{Data: 1}, Mode: 0o640}))
		f, err := owner.Open(ctx, p, fs.OpenOptions{Write: true})
		must(err)
		must(f.WriteAt(ctx, []byte("one"), 8192))
		if err := owner.Resize(ctx, p, 4096); blocktree.KindOf(err) != blocktree.Busy {
			t.Errorf("made smaller: %v", err)
		}
		must(f.WriteAt(ctx, []byte("two"), 8192))
		must(f.Flush(ctx))
		must(f.Close())
		must(owner.Resize(ctx, p, 4096))
	})
}
