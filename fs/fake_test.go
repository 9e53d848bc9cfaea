package fs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"blocktree"
	"blocktree/blockdev/memfile"
	"blocktree/cluster/meta"
	"blocktree/crypto/cred"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	testKey, _ = cred.GenerateKey() // it does not fail
	testRoot   = blocktree.RootPath(testKey.Principal())
	nobody     = cred.Identity{}
)

// somebody is a caller with credentials.
func somebody(n string) cred.Identity {
	return cred.Identity{Principal: blocktree.PrincipalOf([]byte(n)), Path: testRoot.Join(n), UID: 1000, NotAfter: time.Now().Add(time.Hour)}
}

// fake is a Cluster in memory: who may do what is what a test says, by caller.
type fake struct {
	number atomic.Uint64
	opened atomic.Int64 // files whose sectors are open
	looks  atomic.Int64

	mu     sync.Mutex
	nodes  map[blocktree.Path]*fakeNode
	down   error // what every question fails with
	lastID uint64
}

type fakeNode struct {
	inode  meta.Inode
	rights map[blocktree.Principal]Rights
	mem    *memfile.File
	loss   atomic.Uint64
	held   bool
	zeros  bool                                          // it writes them as any data
	ends   bool                                          // its end moves
	ending func(was, bytes uint64) error                 // what comes of moving it, nil: it is moved
	shrink func(ctx context.Context, bytes uint64) error // who follows
	uncut  bool                                          // no file gets smaller
	hook   func(context.Context, memfile.Call) error
	epochs bool // it is held under epochs, by one session, which has it anew under the next
	epoch  blocktree.Epoch
	wrote  blocktree.Epoch // under which it was written last
	forgot int             // how often its writes were forgotten, less how often that was taken back
}

func newFake() *fake { return &fake{nodes: map[blocktree.Path]*fakeNode{}} }

const testSectors = 600

// file adds a file that callers may use.
func (c *fake) file(name string, rights Rights, callers ...cred.Identity) blocktree.Path {
	path := testRoot.Join(name)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastID++
	n := &fakeNode{rights: map[blocktree.Principal]Rights{}, inode: meta.Inode{ID: blocktree.FileID{Generation: 1, Inode: blocktree.Inode(c.lastID)}, Kind: meta.KindFile,
		Mode: 0o640, SizeBytes: testSectors * 512, SectorBytes: 512, Code: blocktree.Code{Data: 2, Parity: 1}, Suite: 1}}
	n.mem = memfile.New(memfile.Options{Info: blocktree.FileInfo{ID: n.inode.ID, Path: path, SizeBytes: n.inode.SizeBytes, SectorBytes: 512, Code: n.inode.Code},
		Hook: func(ctx context.Context, call memfile.Call) error {
			c.mu.Lock()
			hook := n.hook
			c.mu.Unlock()
			if hook != nil {
				return hook(ctx, call)
			}
			return nil
		}})
	for _, caller := range callers {
		n.rights[caller.Principal] = rights
	}
	c.nodes[path] = n
	return path
}

// dir adds a directory, likewise.
func (c *fake) dir(path blocktree.Path, callers ...cred.Identity) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastID++
	n := &fakeNode{rights: map[blocktree.Principal]Rights{}, inode: meta.Inode{ID: blocktree.FileID{Generation: 1, Inode: blocktree.Inode(c.lastID)}, Kind: meta.KindDir, Mode: 0o755}}
	for _, caller := range callers {
		n.rights[caller.Principal] = List
	}
	c.nodes[path] = n
}

// set changes something of a file.
func (c *fake) set(path blocktree.Path, change func(*fakeNode)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c.nodes[path])
}

// revoke takes all rights of a caller, and says so by the number, or not.
func (c *fake) revoke(path blocktree.Path, caller cred.Identity, loud bool) {
	c.set(path, func(n *fakeNode) { delete(n.rights, caller.Principal) })
	if loud {
		c.number.Add(1)
	}
}

func (c *fake) Space(context.Context, cred.Identity, blocktree.Path, blocktree.Code) (Space, error) {
	return Space{}, blocktree.E("fake", blocktree.Unsupported, nil)
}

func (c *fake) Look(_ context.Context, caller cred.Identity, path blocktree.Path) (Found, error) {
	c.looks.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down != nil {
		return Found{}, c.down
	}
	n := c.nodes[path]
	if n == nil {
		return Found{}, blocktree.E("fake", blocktree.NotFound, nil)
	}
	inode, rights := n.inode, n.rights[caller.Principal]
	if rights == 0 {
		return Found{}, blocktree.E("fake", blocktree.Permission, nil)
	}
	return Found{Inode: &inode, Rights: rights}, nil
}

func (c *fake) LookFile(ctx context.Context, caller cred.Identity, id blocktree.FileID) (Found, error) {
	c.mu.Lock()
	at := blocktree.Path("")
	for p, n := range c.nodes {
		if n.inode.ID == id {
			at = p
		}
	}
	c.mu.Unlock()
	return c.Look(ctx, caller, at)
}

func (c *fake) RightsNumber() uint64 { return c.number.Load() }

func (c *fake) List(_ context.Context, _ cred.Identity, path blocktree.Path, after string, limit int) (entries []meta.DirEntry, more bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p, n := range c.nodes {
		if p.Parent() == path && p != path && p.Base() > after {
			entries = append(entries, meta.DirEntry{Name: p.Base(), Inode: n.inode})
		}
	}
	slices.SortFunc(entries, func(a, b meta.DirEntry) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	if len(entries) > limit {
		entries, more = entries[:limit], true
	}
	return entries, more, nil
}

// made are changes that were asked for: the fake only says who asked.
var errChanged = errors.New("done in the name of ")

func (c *fake) Create(_ context.Context, caller cred.Identity, path blocktree.Path, o CreateOptions) (blocktree.FileID, error) {
	if o.SizeBytes == fakeMakes {
		return blocktree.FileID{Generation: 1, Inode: fakeMakes}, nil
	}
	return blocktree.FileID{}, c.change("create", caller, path)
}

// fakeMakes is the size of a file that the fake makes, and its inode.
const fakeMakes = 1024

func (c *fake) MakeDir(_ context.Context, caller cred.Identity, path blocktree.Path, _ uint32) error {
	return c.change("mkdir", caller, path)
}

func (c *fake) Remove(_ context.Context, caller cred.Identity, path blocktree.Path) error {
	return c.change("remove", caller, path)
}

func (c *fake) RemoveFile(_ context.Context, caller cred.Identity, path blocktree.Path, id blocktree.FileID) error {
	return c.change(fmt.Sprintf("remove %d of", id.Inode), caller, path)
}

func (c *fake) Rename(_ context.Context, caller cred.Identity, from, to blocktree.Path, keep bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.nodes[from]; n != nil && (c.nodes[to] == nil || !keep) {
		c.nodes[to] = n
		delete(c.nodes, from)
		return nil
	}
	return c.change("rename", caller, from)
}

func (c *fake) Resize(_ context.Context, caller cred.Identity, path blocktree.Path, _ uint64) error {
	return c.change("resize", caller, path)
}

func (c *fake) SetLength(_ context.Context, caller cred.Identity, path blocktree.Path, bytes uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.nodes[path]; n != nil {
		n.inode.HasLength, n.inode.LengthBytes = true, bytes
		return nil
	}
	return c.change("length", caller, path)
}

func (c *fake) change(what string, caller cred.Identity, path blocktree.Path) error {
	return blocktree.E(what+" "+path.Short()+" as "+caller.Path.Short(), blocktree.Exists, nil)
}

func (c *fake) Open(_ context.Context, _ cred.Identity, path blocktree.Path, o OpenOptions) (blocktree.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.nodes[path]
	if o.File != (blocktree.FileID{}) {
		n = nil
		for _, x := range c.nodes {
			if x.inode.ID == o.File {
				n = x
			}
		}
	}
	if n == nil {
		return nil, blocktree.E("fake", blocktree.NotFound, nil)
	}
	if o.Write {
		if n.held && !n.epochs {
			return nil, blocktree.E("fake", blocktree.Busy, nil)
		}
		n.held = true
	}
	c.opened.Add(1)
	f := &fakeFile{File: n.mem, c: c, n: n, write: o.Write}
	if n.epochs && o.Write {
		n.epoch++
		return &heldFile{&endingFile{f}, n.epoch, n.wrote}, nil
	}
	if n.ends {
		return &endingFile{f}, nil
	}
	return f, nil
}

// fakeFile is one opening of a file in memory.
type fakeFile struct {
	*memfile.File
	c     *fake
	n     *fakeNode
	write bool
	once  sync.Once
}

func (f *fakeFile) LossNumber(context.Context) (uint64, error) { return f.n.loss.Load(), nil }

func (f *fakeFile) WritesZeros() bool { return f.n.zeros }

func (f *fakeFile) ForgetWrites(context.Context) (again func(), err error) {
	forgets := func(n int) {
		f.c.mu.Lock()
		defer f.c.mu.Unlock()
		f.n.forgot += n
	}
	forgets(1)
	return func() { forgets(-1) }, nil
}

func (f *fakeFile) Close() error {
	f.once.Do(func() {
		f.c.opened.Add(-1)
		f.c.mu.Lock()
		defer f.c.mu.Unlock()
		if f.write {
			f.n.held = false
		}
	})
	return nil
}

// newTestService makes a service over a fake, which is closed when the test ends.
func newTestService(t testing.TB, c *fake, change func(*Config)) *Service {
	t.Helper()
	config := Config{Cluster: c, Anonymous: true, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&config)
	}
	s := New(config)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// ownerFor is the owner of a connection of a caller.
func ownerFor(s *Service, caller cred.Identity) *owner {
	return newOwner(s, func() cred.Identity { return caller }, "192.0.2.1:1")
}

// open opens a file for an owner, as a request does.
func open(t testing.TB, s *Service, o *owner, path blocktree.Path, flags uint8) *openFile {
	t.Helper()
	b, err := s.openFile(t.Context(), o, &pathRequest{path: path, flags: flags})
	if err != nil {
		t.Fatal(err)
	}
	handle, _, err := decodeOpened(b)
	if err != nil {
		t.Fatal(err)
	}
	return o.find(handle).open
}

// ask sends a message and waits for what comes of it.
func (a *openFile) ask(m message) ([]byte, error) {
	type result struct {
		bytes []byte
		err   error
	}
	done := make(chan result, 1)
	m.done = func(b []byte, err error) { done <- result{b, err} }
	if err := a.box.put(&m); err != nil {
		return nil, err
	}
	r := <-done
	return r.bytes, r.err
}

func wantKind(t *testing.T, what string, err error, want blocktree.Kind) {
	t.Helper()
	if blocktree.KindOf(err) != want || err == nil && want != blocktree.Other {
		t.Errorf("%s: %v, want kind %v", what, err, want)
	}
}

// localOver is a file that is opened here.
func localOver(t *testing.T, f blocktree.File, info Info) *local {
	t.Helper()
	l, err := newLocal(t.Context(), f, info)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// endingFile is one whose end moves. Its size is that of the inode, and grows up to that of the memory.
type endingFile struct{ *fakeFile }

func (f *endingFile) SizeBytes() uint64 {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	return f.n.inode.SizeBytes
}

func (f *endingFile) Hear(context.Context) error { return nil }

func (f *endingFile) Grow(_ context.Context, bytes uint64) error {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	bytes = (bytes + 511) / 512 * 512
	if bytes > f.n.mem.Info().SizeBytes {
		return blocktree.E("fake", blocktree.NoSpace, nil)
	}
	f.n.inode.SizeBytes = max(f.n.inode.SizeBytes, bytes)
	return nil
}

func (f *endingFile) SetEnd(_ context.Context, was, bytes uint64) (uint64, error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	i := &f.n.inode
	if f.n.ending != nil {
		if err := f.n.ending(was, bytes); err != nil {
			return 0, err
		}
	}
	switch {
	case bytes > i.SizeBytes:
		return 0, blocktree.E("fake", blocktree.Invalid, nil)
	case i.Length() != was:
		return i.Length(), blocktree.E("fake", blocktree.StaleView, nil)
	}
	i.HasLength, i.LengthBytes = true, bytes
	return bytes, nil
}

// FollowShrink notes who follows.
func (f *endingFile) FollowShrink(do func(ctx context.Context, bytes uint64) error) (stop func()) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	f.n.shrink = do
	return func() {
		f.c.mu.Lock()
		defer f.c.mu.Unlock()
		f.n.shrink = nil
	}
}

// Shrink makes what is cut zeros, and fails then if the node says so.
func (f *endingFile) Shrink(ctx context.Context, bytes uint64) error {
	size := f.SizeBytes()
	if err := f.ZeroSectors(ctx, blocktree.SectorIndex(bytes/512), (size-bytes)/512); err != nil {
		return err
	}
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if f.n.uncut {
		return blocktree.E("fake", blocktree.Unavailable, nil)
	}
	i := &f.n.inode
	i.SizeBytes, i.LengthBytes = bytes, min(i.LengthBytes, bytes)
	return nil
}

func (f *endingFile) End(context.Context) (uint64, bool, error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	return f.n.inode.Length(), f.n.inode.HasLength, nil
}

// moving adds a file whose end moves: at first it is empty, of one sector, and has room for testSectors.
func (c *fake) moving(name string, callers ...cred.Identity) blocktree.Path {
	path := c.file(name, Read|Write|Lease, callers...)
	c.set(path, func(n *fakeNode) {
		n.ends = true
		n.inode.SizeBytes, n.inode.HasLength = 512, true
	})
	return path
}

func (c *fake) SetTimes(_ context.Context, caller cred.Identity, path blocktree.Path, _ blocktree.FileID, modified int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.nodes[path]; n != nil && (n.rights[caller.Principal].Has(Admin) || modified == TimeNow) {
		n.inode.Modified = modified
		return nil
	}
	return c.change("times", caller, path)
}

func (c *fake) Symlink(_ context.Context, caller cred.Identity, path blocktree.Path, target string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nodes[path] != nil {
		return c.change("symlink", caller, path)
	}
	c.lastID++
	c.nodes[path] = &fakeNode{rights: map[blocktree.Principal]Rights{caller.Principal: Read}, inode: meta.Inode{ID: blocktree.FileID{Generation: 1, Inode: blocktree.Inode(c.lastID)}, Kind: meta.KindLink, Mode: 0o700, Target: target}}
	return nil
}

func (c *fake) SetXattr(_ context.Context, caller cred.Identity, path blocktree.Path, _ blocktree.FileID, name string, value []byte, how SetHow) error {
	if how == SetCreate {
		return c.change("attribute "+name, caller, path)
	}
	c.set(path, func(n *fakeNode) { n.inode.Xattrs = append(n.inode.Xattrs, meta.Xattr{Name: name, Value: value}) })
	return nil
}

func (c *fake) RemoveXattr(_ context.Context, caller cred.Identity, path blocktree.Path, _ blocktree.FileID, name string) error {
	return c.change("removal of "+name, caller, path)
}

func (c *fake) Xattrs(ctx context.Context, caller cred.Identity, path blocktree.Path, _ blocktree.FileID, name string) ([]meta.Xattr, error) {
	found, err := c.Look(ctx, caller, path)
	if err != nil {
		return nil, err
	}
	for _, x := range found.Inode.Xattrs {
		if x.Name == name {
			return []meta.Xattr{x}, nil
		}
	}
	if name != "" {
		return nil, blocktree.E("fake", blocktree.NotFound, nil)
	}
	return found.Inode.Xattrs, nil
}
