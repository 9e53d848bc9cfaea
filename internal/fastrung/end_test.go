package fastrung

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/cluster"
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

// TestResizeBesideWriters: who makes a file smaller by its path, by the service that others write it by, takes nothing from them: they have it smaller, and go on, behind its end too, which makes it larger again.
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
		if err := owner.Resize(ctx, p, 4097); blocktree.KindOf(err) != blocktree.Invalid {
			t.Errorf("odd: %v", err)
		}
		must(owner.Resize(ctx, p, 4096))
		if info, err := owner.Stat(ctx, p); err != nil || info.SizeBytes != 4096 || info.Length != 4096 {
			t.Errorf("%+v, %v", info, err)
		}
		got := make([]byte, 8195)
		if n, err := f.ReadAt(ctx, got, 0); n != 4096 || err != io.EOF {
			t.Errorf("%d bytes, %v", n, err)
		}
		must(f.WriteAt(ctx, []byte("two"), 8193))
		must(f.Flush(ctx))
		if n, err := f.ReadAt(ctx, got, 8190); n != 6 || err != io.EOF || string(got[:n]) != "\x00\x00\x00two" {
			t.Errorf("%q, %v", got[:n], err)
		}
		must(f.Close())
		must(owner.Resize(ctx, p, 4096))
	})
}

// TestShrinksAtAService: a file that is written through a filesystem service is made smaller by who asks for that as of a device's (K11 of 0074): its writers and readers there have it so at once, and go on. By another way it is Busy, and says what to do.
func TestShrinksAtAService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFoundWorld(t, "root")
		ctx := t.Context()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		alice, p := w.Finder(nil, "alice", 1000, 1000), w.Path("/f")
		f, err := alice.Open(ctx, p, fs.OpenOptions{Write: true, Tell: true})
		must(err)
		if held, _ := f.(fs.Epocher).Epochs(); held == 0 { // else nothing is different for who writes it alone
			t.Error("it is not told that it is alone")
		}
		seen, err := alice.Open(ctx, p, fs.OpenOptions{})
		must(err)
		must(f.WriteAt(ctx, bytes.Repeat([]byte{7}, 1<<20), 0))
		resize := func(bytes uint64, live bool) error {
			_, _, err := file.Resize(ctx, w.Client(), p, cluster.ResizeOptions{Bytes: func(uint64) (uint64, error) { return bytes, nil }, Shrink: true, Live: live}, file.OpenOptions{Reader: w.Reader})
			return err
		}
		if err := resize(8192, false); blocktree.KindOf(err) != blocktree.Busy || !strings.Contains(blocktree.HintOf(err), "--shrink") {
			t.Errorf("who does not ask: %v", err)
		}
		must(resize(8192, true))
		got := make([]byte, 1<<20)
		for _, x := range []fs.File{f, seen} {
			if n, err := x.ReadAt(ctx, got, 4096); n != 4096 || err != io.EOF {
				t.Errorf("%d bytes, %v", n, err)
			}
			if info, err := x.(fs.Stater).Stat(ctx); err != nil || info.SizeBytes != 8192 || info.Length != 8192 {
				t.Errorf("%+v, %v", info, err)
			}
		}
		must(f.WriteAt(ctx, []byte("on"), 8190))
		must(resize(1<<20, false))
		must(f.WriteAt(ctx, []byte("behind"), 20_000))
		must(f.Flush(ctx))
		if n, err := seen.ReadAt(ctx, got, 8190); n != 20_006-8190 || err != io.EOF || string(got[:2]) != "on" || string(got[n-6:n]) != "behind" || bytes.Contains(got[:n], []byte{7}) {
			t.Errorf("%d bytes, %v: %q", n, err, got[:2])
		}
		must(f.Close())
		if info, err := alice.Stat(ctx, p); err != nil || info.Length != 20_006 {
			t.Errorf("%+v, %v", info, err)
		}

		raw, err := file.Open(ctx, w.Client(), p, file.OpenOptions{Reader: w.Reader}) // by another, as a device
		must(err)
		if err := alice.Resize(ctx, p, 4096); blocktree.KindOf(err) != blocktree.Busy || !strings.Contains(blocktree.HintOf(err), "--shrink") {
			t.Errorf("made smaller beside a device: %v", err)
		}
		if err := alice.Truncate(ctx, p, 100); blocktree.KindOf(err) != blocktree.Busy || blocktree.HintOf(err) == "" {
			t.Errorf("truncated beside a device: %v", err)
		}
		must(raw.Close())
		must(alice.Truncate(ctx, p, 100))
	})
}
