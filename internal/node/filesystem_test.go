package node_test

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/crypto/keys"
	"blocktree/fs"
	"blocktree/internal/bttp"
	"blocktree/internal/file"
	"blocktree/internal/node"
	"blocktree/internal/testenv"
	"blocktree/internal/vfs"
)

// withDoor is a running cluster of three, the first two of which are filesystem services.
func withDoor(t *testing.T) *testenv.Domain {
	t.Helper()
	d := testenv.New(t, 3)
	door := &node.Filesystem{Reader: d.Reader, Anonymous: true}
	d.Filesystems = map[int]*node.Filesystem{0: door, 1: door}
	d.StartAll()
	admin := d.Door("first", 0, 0)
	d.Await("a cluster that is founded and whole", func() bool {
		_, err := admin.Stat(t.Context(), blocktree.RootPath(d.Root))
		return err == nil && d.AllStarted()
	})
	return d
}

// patience bounds a test of a live cluster, on a machine that has much else to do.
func patience(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// The same file through both doors: what was flushed through one is read through the other, and one at a time writes.
func TestOneFileTwoDoors(t *testing.T) {
	t.Parallel()
	d := withDoor(t)
	ctx := patience(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	busy := func(what string, err error) {
		t.Helper()
		if blocktree.KindOf(err) != blocktree.Busy {
			t.Errorf("%s: %v", what, err)
		}
	}
	door, blocks, path := d.Door("admin", 0, 0), d.Client(), d.Path("/docs/a")
	must(door.Create(ctx, path, fs.CreateOptions{SizeBytes: 1 << 20}))
	info, err := door.Stat(ctx, path)
	must(err)
	if info.SizeBytes != 1<<20 || !info.Encrypted || info.Dir {
		t.Errorf("%+v", info)
	}
	f, err := door.Open(ctx, path, fs.OpenOptions{Write: true})
	must(err)
	text := bytes.Repeat([]byte("through the door "), 1000)
	must(f.WriteAt(ctx, text, 777))
	must(f.Flush(ctx))
	got := make([]byte, len(text))
	other := d.Door("reader", 0, 0)
	r, err := other.Open(ctx, path, fs.OpenOptions{})
	must(err)
	if _, err := r.ReadAt(ctx, got, 777); err != nil || !bytes.Equal(got, text) {
		t.Errorf("another reader: %v", err)
	}
	local, err := fs.OpenLocal(ctx, blocks, path, fs.Local{Reader: d.Reader}, fs.OpenOptions{})
	must(err)
	if _, err := local.ReadAt(ctx, got, 777); err != nil || !bytes.Equal(got, text) {
		t.Errorf("with a key: %v", err)
	}
	must(local.Close())

	_, err = file.Open(ctx, blocks, path, file.OpenOptions{Reader: d.Reader})
	busy("a block device beside a writer", err)
	if w, err := other.Open(ctx, path, fs.OpenOptions{Write: true}); err != nil || fs.ServiceOf(w) != fs.ServiceOf(f) { // E4 of 0059: by the same service they share it
		busy("a second writer", err)
	} else {
		must(w.Close())
	}
	must(f.Close())
	device, err := file.Open(ctx, blocks, path, file.OpenOptions{Reader: d.Reader})
	must(err)
	_, err = door.Open(ctx, path, fs.OpenOptions{Write: true})
	busy("a writer beside a block device", err)
	sector := bytes.Repeat([]byte{7}, 4096)
	must(device.WriteSectors(ctx, 0, sector))
	must(device.Flush(ctx))
	if _, err := r.ReadAt(ctx, got[:4096], 0); err != nil || !bytes.Equal(got[:4096], sector) {
		t.Errorf("after the device flushed: %v", err)
	}
	must(device.Close())

	sizesAndNames(t, d, door)
}

// TestDoorServesTrees: the service keeps roots in the directory of its node's store, and refuses what is older than those; who opens a file of integrity tree by a key of his own and keeps none is refused, unless he
// wants to be told that what the cluster shows is believed.
func TestDoorServesTrees(t *testing.T) {
	t.Parallel()
	d := withDoor(t)
	ctx, path, blocks := patience(t), d.Path("/vault"), d.Client()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(file.Create(ctx, blocks, path, file.CreateOptions{SizeBytes: 1 << 20, Readers: []keys.PublicKey{d.Reader.Public()}, Tree: true}))
	door := d.Door("admin", 0, 0)
	text, got := bytes.Repeat([]byte("in the vault "), 1000), make([]byte, 13000)
	f, err := door.Open(ctx, path, fs.OpenOptions{Write: true})
	must(err)
	must(f.WriteAt(ctx, text, 777))
	must(f.Flush(ctx))
	must(f.Close())
	read := func() error {
		f, err := door.Open(ctx, path, fs.OpenOptions{})
		if err != nil {
			return err
		}
		defer f.Close() // only read from
		_, err = f.ReadAt(ctx, got, 777)
		return err
	}
	if must(read()); !bytes.Equal(got, text) {
		t.Error("other bytes")
	}
	must(door.Resize(ctx, path, 2<<20))
	mine, warned := file.KeepRoots(vfs.Disk{}, t.TempDir()), 0
	believe := func(blocktree.Path) { warned++ }
	for _, o := range []fs.OpenOptions{{}, {Write: true}} {
		if _, err := fs.OpenLocal(ctx, blocks, path, fs.Local{Reader: d.Reader}, o); blocktree.KindOf(err) != blocktree.Unsupported || blocktree.HintOf(err) == "" {
			t.Errorf("who keeps nothing: %v", err)
		}
		local, err := fs.OpenLocal(ctx, blocks, path, fs.Local{Reader: d.Reader, Roots: mine, Believe: believe}, o)
		must(err)
		must(local.Close())
	}
	if warned != 1 {
		t.Errorf("told %d times that what is shown is believed", warned)
	}
	seen, err := mine.Load(path)
	if err != nil || seen == nil || seen.Root.IsZero() {
		t.Fatalf("kept %+v, %v", seen, err)
	}
	seen.Root.Number += 9
	kept := 0
	for i := range 2 { // the services of the domain
		roots := file.KeepRoots(vfs.Disk{}, filepath.Join(d.NodeDir(i), "roots"))
		if was, err := roots.Load(path); err == nil && was != nil {
			kept++
		}
		must(roots.Save(path, *seen))
	}
	if kept == 0 {
		t.Error("no service keeps a root")
	}
	if err := read(); blocktree.KindOf(err) != blocktree.Corrupt || !strings.Contains(err.Error(), "rollback detected") {
		t.Errorf("of a file that is older than what was seen: %v", err)
	}
	must(mine.Save(path, *seen))
	for _, l := range []fs.Local{{Reader: d.Reader, Roots: mine}, {Reader: d.Reader, Root: seen.Root}} {
		if _, err := fs.OpenLocal(ctx, blocks, path, l, fs.OpenOptions{}); blocktree.KindOf(err) != blocktree.Corrupt || !strings.Contains(err.Error(), "rollback detected") {
			t.Errorf("with a key: %v", err)
		}
	}
}

// sizesAndNames goes on with a file: it grows, is listed, and goes.
func sizesAndNames(t *testing.T, d *testenv.Domain, door *fs.Client) {
	t.Helper()
	ctx, path := patience(t), d.Path("/docs/a")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(door.Resize(ctx, path, 2<<20))
	end := make([]byte, 100)
	if n, err := door.Open(ctx, path, fs.OpenOptions{}); err != nil {
		t.Error(err)
	} else if got, err := n.ReadAt(ctx, end, 2<<20-50); got != 50 || err != io.EOF {
		t.Errorf("at the new end: %d, %v", got, err)
	}
	entries, err := door.ReadDir(ctx, d.Path("/docs"))
	if err != nil || len(entries) != 1 || entries[0].Name != "a" || entries[0].Info.SizeBytes != 2<<20 {
		t.Errorf("%+v, %v", entries, err)
	}
	must(door.Mkdir(ctx, d.Path("/docs/sub"), 0o755))
	must(door.Remove(ctx, path))
	if _, err := door.Open(ctx, path, fs.OpenOptions{}); blocktree.KindOf(err) != blocktree.NotFound { // who had it open at the service that was asked goes on: 0066
		t.Errorf("a removed file was opened: %v", err)
	}
}

// What a filesystem service makes on somebody's behalf is theirs to rekey, too.
func TestDoorMakesForItsCaller(t *testing.T) {
	t.Parallel()
	d := withDoor(t)
	ctx := patience(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	admin, uid := d.Client(), uint32(1001)
	must(admin.MakeDir(ctx, d.Path("/docs"), 0o700, true))
	_, err := admin.SetOwner(ctx, d.Path("/docs"), &uid, &uid)
	must(err)
	must(d.Door("alice", uid, uid).Create(ctx, d.Path("/docs/mine"), fs.CreateOptions{SizeBytes: 1 << 20}))
	own, _ := d.ClientAs(testenv.User{UID: uid, GID: uid})
	r, err := (&file.Admin{Client: own, Reader: d.Reader}).Rekey(ctx, d.Path("/docs/mine"))
	if err != nil || r.Number != 2 {
		t.Errorf("%+v, %v", r, err)
	}
}

// A service that goes down takes its open files along, not others; another one does for who asks anew.
func TestDoorGoesDown(t *testing.T) {
	t.Parallel()
	d := withDoor(t)
	ctx := patience(t)
	door, path := d.Door("admin", 0, 0), d.Path("/a")
	if err := door.Create(ctx, path, fs.CreateOptions{SizeBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	f, err := door.Open(ctx, path, fs.OpenOptions{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.WriteAt(ctx, []byte("kept"), 3); err != nil {
		t.Fatal(err)
	}
	if err := f.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	d.Stop(0)
	_, err = f.ReadAt(ctx, make([]byte, 1), 0)
	if k := blocktree.KindOf(err); k != blocktree.Undeliverable && k != blocktree.Closed {
		t.Errorf("a file of a service that is gone: %v", err)
	}
	again, err := door.Open(ctx, path, fs.OpenOptions{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := again.ReadAt(ctx, got, 3); err != nil || string(got) != "kept" {
		t.Errorf("%q, %v", got, err)
	}
}

// routeCode is cluster's code of queries of routes.
const routeCode = 43

// A live node answers an anonymous caller under nine codes, and looks at his queries of routes, of which route.TestWhoMayAsk says who is told what; under all others, the sector service's too, it
// says no before it has looked at anything.
func TestAnonymousReachesNothingElse(t *testing.T) {
	t.Parallel()
	d := withDoor(t)
	ctx := patience(t)
	d.Client() // waits for nobody; the door's own client has begun
	e, err := bttp.New(bttp.Config{Root: d.Root, Transport: bttp.TCP, Log: d.Logger("nobody")})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	conn, err := e.Dial(ctx, d.Members[0])
	if err != nil {
		t.Fatal(err)
	}
	for code := uint16(0); code < cluster.CodesOfOthers+100; code++ {
		if code >= cluster.CodesOfOthers && code <= cluster.CodesOfOthers+3 || code == cluster.CodesOfOthers+6 || code == cluster.CodesOfOthers+13 ||
			code == cluster.CodesOfOthers+24 || code == cluster.CodesOfOthers+25 || code == cluster.CodesOfOthers+27 {
			continue // stat, list, open, read, close, sum, a link's target, attributes: fs.TestAnonymousCodes
		}
		want := blocktree.Permission
		if code == routeCode {
			want = blocktree.NewerFormat
		}
		_, err := conn.CallWait(ctx, code, []byte("garbage"), []byte("garbage"))
		if blocktree.KindOf(err) != want {
			t.Errorf("code %d: %v", code, err)
		}
		if err := conn.Send(code, []byte("garbage"), []byte("garbage")); err != nil {
			t.Fatal(err)
		}
	}
	// A node without the service lets nobody in.
	if _, err := e.Dial(ctx, d.Members[2]); blocktree.KindOf(err) != blocktree.Unauthenticated {
		t.Errorf("a node without the service: %v", err)
	}
}

// What the service is refused for somebody is one line of the log of all nodes, in the name of who asked, from where that asked.
func TestRefusalIsSaidOnce(t *testing.T) {
	t.Parallel()
	var log lines
	d := testenv.New(t, 1)
	d.Log = &log
	d.Filesystems = map[int]*node.Filesystem{0: {Reader: d.Reader}}
	d.StartAll()
	admin, mallory := d.Door("first", 0, 0), d.Door("mallory", 1000, 1000)
	ctx := patience(t)
	d.Await("a cluster that is founded", func() bool {
		return admin.Create(ctx, d.Path("/shut/f"), fs.CreateOptions{SizeBytes: 1 << 20, Code: blocktree.Code{Data: 1}}) == nil
	})
	for what, do := range map[string]func(p blocktree.Path) error{
		"open":   func(p blocktree.Path) error { _, err := mallory.Open(ctx, p, fs.OpenOptions{}); return err },
		"remove": func(p blocktree.Path) error { return mallory.Remove(ctx, p) },
		"create": func(p blocktree.Path) error {
			return mallory.Create(ctx, p.Parent().Join("x"), fs.CreateOptions{SizeBytes: 1 << 20})
		},
	} {
		before := strings.Count(log.String(), "msg=refused")
		if err := do(d.Path("/shut/f")); blocktree.KindOf(err) != blocktree.Permission {
			t.Errorf("%s: %v", what, err)
		}
		text := log.String()
		if n := strings.Count(text, "msg=refused") - before; n != 1 {
			t.Errorf("%s: %d lines", what, n)
		}
		if last := text[strings.LastIndex(text, "msg=refused"):]; !strings.Contains(last, "path=/mallory") || !strings.Contains(last, "what="+what) || !strings.Contains(last, "address=127.0.0.1:") {
			t.Errorf("%s: %s", what, last)
		}
	}
}

// lines is a log that is read while it is written.
type lines struct {
	mu sync.Mutex
	strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Builder.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Builder.String()
}

// Who is to be a filesystem service must be able to be one, from the start and when it is renewed; it hears what to do.
func TestDoorNeedsUserZero(t *testing.T) {
	t.Parallel()
	d := testenv.NewOf(t, 1, testenv.User{UID: 1000})
	d.Filesystems = map[int]*node.Filesystem{0: {Reader: d.Reader}}
	err := d.TryStart(0)
	if blocktree.KindOf(err) != blocktree.Invalid || !strings.Contains(blocktree.HintOf(err), "--uid 0") {
		t.Errorf("%v, hint %q", err, blocktree.HintOf(err))
	}
}
