package fs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/blockdev/memfile"
	"blocktree/cluster"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
	"blocktree/internal/dispatch"
	"blocktree/route"
)

// bed is a service that listens, over a fake.
type bed struct {
	t        *testing.T
	root     cred.Key
	fake     *fake
	service  *Service
	endpoint *bttp.Endpoint
	runtime  blocktree.Runtime
}

func (b *bed) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// identity issues credentials of user id 1000 at a name.
func (b *bed) identity(name string, services ...string) (cred.Key, cred.Credentials) {
	b.t.Helper()
	key, err := cred.GenerateKey()
	b.must(err)
	chain, err := cred.Issue(b.root, nil, b.root.Principal(), cred.Grant{Subject: key.Public(), Path: blocktree.RootPath(b.root.Principal()).Join(name), UID: 1000,
		Services: services, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)})
	b.must(err)
	return key, chain
}

func newBed(t *testing.T, change func(*Config)) *bed {
	t.Helper()
	b := &bed{t: t, root: testKey, fake: newFake()}
	b.service = newTestService(t, b.fake, change)
	b.listen(b.identity("node", blocktree.ServiceFilesystem))
	return b
}

// listen has the service served by who has the credentials.
func (b *bed) listen(key cred.Key, chain cred.Credentials) {
	b.t.Helper()
	id, err := cred.Verify(chain, b.root.Principal(), time.Now())
	b.must(err)
	b.endpoint, err = bttp.Listen(b.t.Context(), bttp.Config{Key: key, Credentials: chain, Root: b.root.Principal(), Addrs: []string{"127.0.0.1:0"}, Transport: bttp.TCP,
		Handler: b.service, Admit: b.service.Admit, Log: slog.New(slog.DiscardHandler)})
	b.must(err)
	endpoint := b.endpoint
	b.t.Cleanup(func() { _ = endpoint.Close() })
	b.runtime = blocktree.Runtime{Path: id.Path, Principal: key.Principal(), Endpoints: b.endpoint.Addrs(), Services: []string{blocktree.ServiceFilesystem}}
}

// dial connects somebody by name; "" is nobody in particular. It returns who that is.
func (b *bed) dial(name string) (*Client, cred.Identity) {
	b.t.Helper()
	table, err := route.NewTable([]blocktree.Runtime{b.runtime})
	b.must(err)
	c := ClientConfig{Root: b.root.Principal(), Transport: bttp.TCP, Resolver: table, Logger: slog.New(slog.DiscardHandler)}
	var who cred.Identity
	if name != "" {
		c.Key, c.Credentials = b.identity(name)
		who, err = cred.Verify(c.Credentials, c.Root, time.Now())
		b.must(err)
	}
	client, err := Dial(c)
	b.must(err)
	b.t.Cleanup(func() { _ = client.Close() })
	return client, who
}

// A file by way of the service, and one that is opened here, do what bytes do.
func TestFilesAsBytes(t *testing.T) {
	b := newBed(t, nil)
	ann, who := b.dial("ann")
	path := b.fake.file("f", Read|Write|Lease, who)
	far, err := ann.Open(t.Context(), path, OpenOptions{Write: true})
	b.must(err)
	mem := memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: testSectors * 512, SectorBytes: 512}})
	for name, f := range map[string]File{"remote": far, "local": localOver(t, mem, Info{})} {
		model := make([]byte, testSectors*512)
		r := newRandom(2)
		for i := range 300 {
			off := r.IntN(len(model))
			p := make([]byte, min(r.IntN(100_000), len(model)-off))
			if i%2 == 0 {
				for j := range p {
					p[j] = byte(r.IntN(256))
				}
				copy(model[off:], p)
				b.must(f.WriteAt(t.Context(), p, uint64(off)))
				continue
			}
			if n, err := f.ReadAt(t.Context(), p, uint64(off)); err != nil || n != len(p) || !bytes.Equal(p, model[off:off+n]) {
				t.Fatalf("%s: %d bytes at %d: %d, %v", name, len(p), off, n, err)
			}
		}
		whole := make([]byte, len(model)+1<<20)
		if n, err := f.ReadAt(t.Context(), whole, 0); n != len(model) || err != io.EOF || !bytes.Equal(whole[:n], model) {
			t.Errorf("%s: the whole file: %d, %v", name, n, err)
		}
		_, err := f.ReadAt(t.Context(), whole[:1], uint64(len(model)+1))
		wantKind(t, name+" behind the end", err, blocktree.OutOfRange)
		wantKind(t, name+" over the end", f.WriteAt(t.Context(), whole[:2], uint64(len(model)-1)), blocktree.OutOfRange)
		b.must(f.Flush(t.Context()))
		b.must(f.Close())
	}
	_, err = far.ReadAt(t.Context(), make([]byte, 1), 0)
	wantKind(t, "after the end", err, blocktree.Undeliverable)
	wantKind(t, "close twice", far.Close(), blocktree.Undeliverable)
}

func TestPaths(t *testing.T) {
	b := newBed(t, nil)
	ann, who := b.dial("ann")
	b.fake.dir(testRoot, who)
	var names []string
	for i := range blocktree.ListEntriesMax + 10 {
		names = append(names, fmt.Sprintf("f%04d", i))
		b.fake.file(names[i], Read, who)
	}
	entries, err := ann.ReadDir(t.Context(), testRoot)
	b.must(err)
	if len(entries) != len(names) {
		t.Fatalf("%d entries of %d", len(entries), len(names))
	}
	for i, e := range entries {
		if e.Name != names[i] || e.Info.SizeBytes != testSectors*512 {
			t.Fatalf("entry %d: %+v", i, e)
		}
	}
	some, more, err := ann.ReadDirAfter(t.Context(), testRoot, names[5], 3)
	if err != nil || !more || len(some) != 3 || some[0].Name != names[6] {
		t.Errorf("%v, %t, %v", some, more, err)
	}
	info, err := ann.Stat(t.Context(), testRoot.Join(names[0]))
	if err != nil || info.Dir || info.Code.Data != 2 {
		t.Errorf("%+v, %v", info, err)
	}
	_, err = ann.Stat(t.Context(), testRoot.Join("absent"))
	wantKind(t, "stat", err, blocktree.NotFound)
	_, err = ann.ReadDir(t.Context(), testRoot.Join(names[0]))
	wantKind(t, "list a file without list", err, blocktree.Permission)
	_, err = ann.Open(t.Context(), testRoot, OpenOptions{})
	wantKind(t, "open a directory", err, blocktree.Permission)
	bob, _ := b.dial("bob")
	_, err = bob.Stat(t.Context(), testRoot.Join(names[0]))
	wantKind(t, "without any right", err, blocktree.Permission)
	wantKind(t, "resize without write", bob.Resize(t.Context(), testRoot.Join(names[0]), 512), blocktree.Permission)
	for what, err := range map[string]error{ // the fake refuses, and says in whose name
		"create":         ann.Create(t.Context(), testRoot.Join("x"), CreateOptions{SizeBytes: 512}),
		"mkdir":          ann.Mkdir(t.Context(), testRoot.Join("x"), 0o755),
		"remove":         ann.Remove(t.Context(), testRoot.Join("x")),
		"remove a file":  ann.RemoveFile(t.Context(), testRoot.Join("x"), blocktree.FileID{Inode: 7}),
		"rename":         ann.Rename(t.Context(), testRoot.Join("x"), testRoot.Join("y"), true),
		"remove nothing": ann.Remove(t.Context(), testRoot.Join("y")),
	} {
		if blocktree.KindOf(err) != blocktree.Exists || !strings.Contains(err.Error(), "as /ann") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// The end of the connection is the end of its files: somebody else can write then. Nothing is kept of it.
func TestConnectionIsTheOwner(t *testing.T) {
	b := newBed(t, nil)
	ann, who := b.dial("ann")
	bob, other := b.dial("bob")
	path := b.fake.file("f", Read|Write|Lease, who, other)
	f, err := ann.Open(t.Context(), path, OpenOptions{Write: true})
	b.must(err)
	elsewhere := newTestService(t, b.fake, nil)
	opens := func() error {
		o := ownerFor(elsewhere, who)
		_, err := elsewhere.openFile(t.Context(), o, &pathRequest{path: path, flags: flagWrite})
		o.end()
		return err
	}
	wantKind(t, "a writer at another service", opens(), blocktree.Busy)
	stolen := &remote{client: bob, actor: mustActor(t, bob, path), path: path, handle: f.(*remote).handle}
	_, err = stolen.ReadAt(t.Context(), make([]byte, 1), 0)
	wantKind(t, "another's handle", err, blocktree.Undeliverable)
	b.must(ann.Close())
	for err = opens(); err != nil; err = opens() {
		if blocktree.KindOf(err) != blocktree.Busy {
			t.Fatal(err)
		}
	}
}

func mustConn(t *testing.T, c *Client) *bttp.Conn {
	t.Helper()
	_, runtimes, err := c.Nearest(t.Context(), testRoot)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := c.endpoint.Dial(t.Context(), runtimes[0])
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// mustActor is an actor of the client's own connection to the service.
func mustActor(t *testing.T, c *Client, path blocktree.Path) *dispatch.Actor {
	t.Helper()
	answer, err := c.dispatch(t.Context(), path.Parent(), dispatch.Message{Code: codeStat, Body: (&pathRequest{path: path}).encode()})
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Release()
	return answer.Actor()
}

// Who gives up an open does not leave the file open.
func TestOpenGivenUp(t *testing.T) {
	b := newBed(t, nil)
	ann, who := b.dial("ann")
	path := b.fake.file("f", Read|Write|Lease, who)
	ctx, cancel := context.WithCancel(t.Context())
	slow := &slowCluster{fake: b.fake, asked: make(chan struct{}), gate: make(chan struct{})}
	b.service.cluster = slow
	given := make(chan error, 1)
	go func() {
		_, err := ann.Open(ctx, path, OpenOptions{Write: true})
		given <- err
	}()
	<-slow.asked
	cancel()
	wantKind(t, "open", <-given, blocktree.Canceled)
	close(slow.gate)
	for b.service.OpenFiles() != 0 || b.fake.looks.Load() == 0 || b.fake.opened.Load() != 0 {
		time.Sleep(time.Millisecond)
	}
}

// slowCluster looks when it is told to.
type slowCluster struct {
	*fake
	asked, gate chan struct{}
}

func (c *slowCluster) Look(ctx context.Context, caller cred.Identity, path blocktree.Path) (Found, error) {
	close(c.asked)
	<-c.gate
	return c.fake.Look(ctx, caller, path)
}

// Nobody in particular may look, list and read; whatever else there is is refused before it is even decoded, as is everything where the
// service does not admit such callers.
func TestAnonymousCodes(t *testing.T) {
	b := newBed(t, nil)
	client, _ := b.dial("")
	conn := mustConn(t, client)
	garbage := []byte("not a request")
	for code := cluster.CodesOfOthers - 3; code < cluster.CodesOfOthers+32; code++ {
		want := blocktree.Permission
		if forAnybody(code) {
			want = blocktree.Invalid // it was looked at
		}
		_, err := conn.CallWait(t.Context(), code, garbage, garbage)
		if k := blocktree.KindOf(err); k != want && !(want == blocktree.Invalid && k == blocktree.NewerFormat) {
			t.Errorf("code %d: %v", code, err)
		}
	}
	path := b.fake.file("f", Read|Write|Lease|List|Admin, nobody)
	b.fake.dir(testRoot, nobody)
	_, err := client.Stat(t.Context(), path)
	b.must(err)
	_, err = client.ReadDir(t.Context(), testRoot)
	b.must(err)
	f, err := client.Open(t.Context(), path, OpenOptions{})
	b.must(err)
	_, err = f.ReadAt(t.Context(), make([]byte, 10), 0)
	b.must(err)
	wantKind(t, "write", f.WriteAt(t.Context(), []byte("x"), 0), blocktree.Permission)
	_, err = client.Open(t.Context(), path, OpenOptions{Write: true})
	wantKind(t, "open to write", err, blocktree.Permission)
	hidden := b.fake.file("g", Read, somebody("ann"))
	for what, path := range map[string]blocktree.Path{"hidden": hidden, "absent": testRoot.Join("absent")} {
		_, err := client.Stat(t.Context(), path)
		wantKind(t, what, err, blocktree.Permission)
		if !strings.Contains(err.Error(), "nothing there that everybody may use") {
			t.Errorf("%s: %v", what, err)
		}
	}
	b.must(f.Close())

	shut := newBed(t, func(c *Config) { c.Anonymous = false })
	client, _ = shut.dial("")
	_, err = client.Stat(t.Context(), path)
	wantKind(t, "not admitted", err, blocktree.Unauthenticated)
}

// calm waits until anonymous callers may ask again.
func (b *bed) calm() { time.Sleep(time.Second) }

// Anonymous callers who ask more than they may are told so, at once, and others do not notice.
func TestAnonymousBounds(t *testing.T) {
	b := newBed(t, nil)
	client, _ := b.dial("")
	ann, who := b.dial("ann")
	path := b.fake.file("f", Read|Write|Lease, nobody, who)
	mine, err := ann.Open(t.Context(), path, OpenOptions{Write: true})
	b.must(err)
	conn := mustConn(t, client)
	stat := (&pathRequest{path: path}).encode()

	served, refused := 0, 0 // at most a second's worth at once, and what the time that it takes allows
	begun := time.Now()
	for range 20 * blocktree.FSAnonymousRequestsPerSecondConnection {
		_, err := conn.CallWait(t.Context(), codeStat, nil, stat)
		switch blocktree.KindOf(err) {
		case blocktree.Other:
			served++
		case blocktree.Unavailable:
			refused++
		default:
			t.Fatal(err)
		}
	}
	if most := 1 + int((1+time.Since(begun).Seconds())*blocktree.FSAnonymousRequestsPerSecondConnection); served > most || served+refused != 20*blocktree.FSAnonymousRequestsPerSecondConnection {
		t.Errorf("%d were served, %d refused; at most %d in that time", served, refused, most)
	}
	b.must(mine.WriteAt(t.Context(), []byte("unharmed"), 0))

	b.calm()
	for i := range blocktree.FSOpenFilesAnonymousMax + 1 {
		_, err := conn.CallWait(t.Context(), codeOpen, nil, stat)
		if (err != nil) != (i == blocktree.FSOpenFilesAnonymousMax) {
			t.Errorf("open %d: %v", i, err)
		}
	}
}

// Bytes in flight are bounded, those of anonymous callers more so, and come back.
func TestBytesInFlight(t *testing.T) {
	c := newFake()
	s := newTestService(t, c, nil)
	owners := func(who cred.Identity) (os []*owner) { // none of which reaches its own bound before the common one is
		for range blocktree.FSInFlightBytesMax >> 20 {
			os = append(os, ownerFor(s, who))
		}
		return os
	}
	guest, ann := owners(nobody), owners(somebody("ann"))
	taken := func(os []*owner) (n int) {
		for s.hold(os[n], 1<<20) == nil {
			n++
		}
		return n
	}
	if n := taken(guest); n != blocktree.FSAnonymousBytesMax>>20 {
		t.Errorf("anonymous callers hold %d MiB", n)
	}
	n := taken(ann)
	if n != (blocktree.FSInFlightBytesMax-blocktree.FSAnonymousBytesMax)>>20 {
		t.Errorf("others hold %d MiB", n)
	}
	for i := range n {
		s.letGo(ann[i], 1<<20)
	}
	for i := range blocktree.FSAnonymousBytesMax >> 20 {
		s.letGo(guest[i], 1<<20)
	}
	for _, o := range append(guest, ann...) {
		if o.bytes.Load() != 0 {
			t.Error("bytes of a connection are still counted")
		}
	}
	if s.bytes.Load() != 0 || s.guests.Load() != 0 {
		t.Error("bytes are still counted")
	}
}

// What anonymous callers read in a second is bounded, all of them together; others read on.
func TestBytesPerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestService(t, newFake(), nil)
		reads := func(o *owner) (n int) {
			for range 100 {
				if s.hold(o, 1<<20) == nil {
					s.letGo(o, 1<<20)
					n++
				}
			}
			return n
		}
		for second := range 3 {
			got := reads(ownerFor(s, nobody)) + reads(ownerFor(s, nobody))
			if got != blocktree.FSAnonymousBytesPerSecond>>20 {
				t.Errorf("second %d: %d MiB", second, got)
			}
			if got := reads(ownerFor(s, somebody("ann"))); got != 100 {
				t.Errorf("second %d: others read %d MiB of 100", second, got)
			}
			time.Sleep(time.Second)
		}
	})
}

// What is in flight over the network is counted until it is answered, and no longer.
func TestBytesComeBack(t *testing.T) {
	b := newBed(t, nil)
	ann, who := b.dial("ann")
	path := b.fake.file("f", Read|Write|Lease, who)
	f, err := ann.Open(t.Context(), path, OpenOptions{Write: true})
	b.must(err)
	for range 5 * blocktree.FSInFlightBytesMax / 4 / (2 * testSectors * 512) {
		b.must(f.WriteAt(t.Context(), make([]byte, testSectors*512), 0))
		_, err := f.ReadAt(t.Context(), make([]byte, testSectors*512), 0)
		b.must(err)
	}
	_, err = f.ReadAt(t.Context(), make([]byte, 1), 1<<40)
	wantKind(t, "behind the end", err, blocktree.OutOfRange)
	b.must(f.Close())
	for b.service.bytes.Load() != 0 {
		time.Sleep(time.Millisecond)
	}
}

// A service that stops closes what is open.
func TestServiceStops(t *testing.T) {
	b := newBed(t, nil)
	ann, who := b.dial("ann")
	path := b.fake.file("f", Read|Write|Lease, who)
	f, err := ann.Open(t.Context(), path, OpenOptions{Write: true})
	b.must(err)
	b.must(b.service.Close())
	if b.fake.opened.Load() != 0 || b.service.OpenFiles() != 0 {
		t.Error("something is open")
	}
	_, err = f.ReadAt(t.Context(), make([]byte, 1), 0)
	wantKind(t, "read", err, blocktree.Undeliverable)
	_, err = ann.Stat(t.Context(), path)
	wantKind(t, "stat", err, blocktree.Closed)
}

// A file ends at the length that it was given: for reads, for writes, and for who has it open, as soon as it is judged anew.
func TestLengthIsTheEnd(t *testing.T) {
	b := newBed(t, nil)
	ann, who := b.dial("ann")
	path := b.fake.file("f", Read|Write|Lease, who)
	ctx := t.Context()
	b.must(ann.SetLength(ctx, path, 1000))
	f, err := ann.Open(ctx, path, OpenOptions{Write: true})
	b.must(err)
	defer f.Close()
	if i := f.Info(); i.Length != 1000 || i.SizeBytes != testSectors*512 {
		t.Errorf("%+v", i)
	}
	buf := make([]byte, 4096)
	reads := func(want int) {
		t.Helper()
		if n, err := f.ReadAt(ctx, buf, 0); n != want || err != io.EOF {
			t.Errorf("%d bytes, %v, want %d", n, err, want)
		}
	}
	reads(1000)
	_, err = f.ReadAt(ctx, buf, 1001)
	wantKind(t, "a read behind the end", err, blocktree.OutOfRange)
	wantKind(t, "a write over the end", f.WriteAt(ctx, buf[:20], 990), blocktree.OutOfRange)
	b.must(f.WriteAt(ctx, buf[:10], 990))
	b.must(ann.SetLength(ctx, path, 2000))
	b.fake.number.Add(1)
	b.must(f.WriteAt(ctx, buf[:1000], 1000))
	reads(2000)
	b.must(ann.SetLength(ctx, path, 0))
	b.fake.number.Add(1)
	reads(0)
}

// What is open stays open under another name: it is read, also when its sectors were let go of meanwhile, and written, and judged, as what it is; what has the old name by then is another file.
func TestRenameWhileOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, ann := newFake(), somebody("ann")
		s := newTestService(t, c, nil)
		o := ownerFor(s, ann)
		from, to := c.file("f", Read|Write|Lease, ann), testRoot.Join("g")
		reader, writer := open(t, s, o, from, 0), open(t, s, o, from, flagWrite)
		ask := func(what string, a *openFile, m message, want blocktree.Kind) {
			t.Helper()
			_, err := a.ask(m)
			wantKind(t, what, err, want)
		}
		ask("read before", reader, message{code: codeRead, count: 10}, 0)
		if _, err := s.doPath(t.Context(), o, codeRename, &pathRequest{path: from, to: to}); err != nil {
			t.Fatal(err)
		}
		c.file("f", Read|Write|Lease, somebody("bob")) // by its old name ann may nothing
		for range 3 {
			time.Sleep(blocktree.FSReadIdleMax + blocktree.FSJudgeEvery) // judged anew, and its sectors closed
			synctest.Wait()
			if n := c.opened.Load(); n != 1 {
				t.Fatalf("%d files have their sectors open", n)
			}
			ask("write", writer, message{code: codeWrite, data: []byte("new")}, 0)
			ask("flush", writer, message{code: codeFlush}, 0)
			if b, err := reader.ask(message{code: codeRead, count: 3}); err != nil || string(b) != "new" {
				t.Errorf("read %q, %v", b, err)
			}
		}
		c.revoke(to, ann, true)
		ask("read without a right", reader, message{code: codeRead, count: 3}, blocktree.Permission)
		ask("write without a right", writer, message{code: codeWrite, data: []byte("x")}, blocktree.Permission)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// endingCluster counts how often it is ended.
type endingCluster struct {
	*fake
	ended int
}

func (c *endingCluster) Close() { c.ended++ }

func TestCloseEndsTheCluster(t *testing.T) {
	c := &endingCluster{fake: newFake()}
	s := newTestService(t, c.fake, func(o *Config) { o.Cluster = c })
	if c.ended != 0 {
		t.Error("the cluster is ended before the service is")
	}
	if err := s.Close(); err != nil || c.ended != 1 {
		t.Errorf("the cluster was ended %d times (%v), want once", c.ended, err)
	}
}
