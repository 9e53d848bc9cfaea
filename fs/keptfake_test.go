package fs

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/blockdev/memfile"
	"blocktree/cluster/meta"
	"blocktree/crypto/cred"
)

// ownKey marks the context of what comes from the keeper.
type ownKey struct{}

// keptFake is a fake that lets a service keep the names of directories, and counts what it is asked.
type keptFake struct {
	*fake
	commands int                // with fake.mu
	refused  []blocktree.Path   // that were asked for without the keeper's word
	naming   func(*spare) error // what comes of a name, before it is done; after it where late says so
	late     bool
	unable   blocktree.Kind // what comes of MakeUnnamed
	slow     time.Duration  // how long TakeSpares takes
	older    bool           // it is of a version before
	lapses   bool           // the session is not certain any more when a spare was taken
	dirsKept map[blocktree.Path]*fakeDir
	spares   int
	gate     chan struct{}  // a change of an entry is not done before that is closed; nil: at once
	after    chan struct{}  // a directory that is made, or a rename, is answered when that is closed; nil: at once
	hangs    blocktree.Path // what is named in it gets no answer
	vague    error          // the answer to the next file or link that is made, which is
	left     []blocktree.Path
	atHand   int           // spares that can be taken at a time
	room     uint64        // that it has
	noRoom   error         // why it does not say so
	spaces   int           // how often it was asked for that
	broken   error         // what comes of writes
	stall    chan struct{} // writes wait until it is closed; nil: for nothing
	ticks    int64         // of the times that it gives
	noted    func(n *fakeNode, entry bool)
	lag      func()         // how long all that holds may hold takes; nil: no time
	vaguely  func() bool    // whether attributes are changed later than that is answered, as something of which nobody knows; nil: never
	yet      sync.WaitGroup // of these
	gates    map[string]chan struct{}
}

func newKept(t testing.TB) (*keptFake, *Service) {
	c := &keptFake{fake: newFake(), dirsKept: map[blocktree.Path]*fakeDir{}, atHand: 8, room: 1 << 40}
	c.dir(testRoot, somebody("ann"), somebody("bob"))
	c.nodes[testRoot].rights[somebody("ann").Principal] = List | Write
	return c, newTestService(t, c.fake, func(o *Config) { o.Cluster = c })
}

// names says what comes of a name.
func (c *keptFake) names(late bool, naming func(*spare) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.late, c.naming = late, naming
}

// fakeDir is a directory that is kept.
type fakeDir struct {
	c      *keptFake
	id     blocktree.FileID
	path   blocktree.Path
	wanted chan struct{}
	want   sync.Once
	left   chan struct{}
	leave  sync.Once
	lost   bool // with fake.mu
	below  bool // it is of another cluster; likewise
}

func (d *fakeDir) ID() blocktree.FileID    { return d.id }
func (d *fakeDir) Wanted() <-chan struct{} { return d.wanted }
func (d *fakeDir) Own(ctx context.Context) context.Context {
	return context.WithValue(ctx, ownKey{}, true)
}

func (d *fakeDir) Keeps() bool {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	return !d.lost
}

func (d *fakeDir) Counted() bool {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	return !d.below
}

func (d *fakeDir) Leave() {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	for path, x := range d.c.dirsKept { // it may have another path by now
		if x == d {
			delete(d.c.dirsKept, path)
		}
	}
	d.c.left = append(d.c.left, d.path)
	d.leave.Do(func() { close(d.left) })
}

func (c *keptFake) MakeDirKept(ctx context.Context, caller cred.Identity, path blocktree.Path, _ uint32) (keptDir, Found, error) {
	if c.older {
		return nil, Found{}, blocktree.E("fake", blocktree.Unsupported, nil)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.makeDir(ctx, caller, path); err != nil {
		return nil, Found{}, err
	}
	n := c.nodes[path]
	made := Found{&meta.Inode{}, n.rights[caller.Principal]}
	*made.Inode = n.inode
	d := &fakeDir{c: c, id: n.inode.ID, path: path, wanted: make(chan struct{}), left: make(chan struct{})}
	c.dirsKept[path] = d
	c.answers()
	return d, made, nil
}

// new is a node of a path, whose rights are the caller's alone, and everybody's who may use its directory.
func (c *keptFake) new(path blocktree.Path, kind meta.InodeKind, caller cred.Identity) *fakeNode {
	c.lastID++
	n := &fakeNode{ends: true, hook: c.breaks, rights: map[blocktree.Principal]Rights{caller.Principal: Read | Write | List | Lease | Admin},
		inode: meta.Inode{ID: blocktree.FileID{Generation: 1, Inode: blocktree.Inode(c.lastID)}, Kind: kind, Mode: 0o700}}
	if kind == meta.KindFile {
		n.inode.SizeBytes, n.inode.SectorBytes, n.inode.Code, n.inode.Suite, n.inode.HasLength = 4096, 512, blocktree.Code{Data: 2, Parity: 1}, 1, true
		n.mem = memfile.New(memfile.Options{Info: blocktree.FileInfo{ID: n.inode.ID, Path: path, SizeBytes: testSectors * 512, SectorBytes: 512, Code: n.inode.Code},
			Hook: func(ctx context.Context, call memfile.Call) error {
				c.mu.Lock()
				hook := n.hook
				c.mu.Unlock()
				if hook != nil {
					return hook(ctx, call)
				}
				return nil
			}})
	}
	return n
}

func (c *keptFake) MakeDir(ctx context.Context, caller cred.Identity, path blocktree.Path, _ uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.makeDir(ctx, caller, path)
}

func (c *keptFake) makeDir(ctx context.Context, caller cred.Identity, path blocktree.Path) error {
	if err := c.guard(ctx, path); err != nil {
		return err
	}
	if c.nodes[path] != nil {
		return blocktree.E("fake", blocktree.Exists, nil)
	}
	c.nodes[path] = c.new(path, meta.KindDir, caller)
	c.entered(path)
	c.notes(c.nodes[path], true)
	return nil
}

func (c *keptFake) CreateHeld(ctx context.Context, caller cred.Identity, path blocktree.Path, _ CreateOptions) (blocktree.File, *meta.Inode, error) {
	id, err := c.Create(ctx, caller, path, CreateOptions{})
	if err != nil {
		return nil, nil, err
	}
	f, err := c.Open(ctx, caller, path, OpenOptions{Write: true, File: id})
	return f, &meta.Inode{ID: id, Kind: meta.KindFile, Mode: 0o700, SizeBytes: 4096, SectorBytes: 512, HasLength: true, Suite: 1}, err
}

func (c *keptFake) Create(ctx context.Context, caller cred.Identity, path blocktree.Path, _ CreateOptions) (blocktree.FileID, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.guard(ctx, path); err != nil {
		return blocktree.FileID{}, err
	}
	if c.nodes[path] != nil {
		return blocktree.FileID{}, blocktree.E("fake", blocktree.Exists, nil)
	}
	if d := c.nodes[path.Parent()]; d == nil || !d.rights[caller.Principal].Has(Write) && path.Parent() != testRoot {
		return blocktree.FileID{}, blocktree.E("fake", blocktree.Permission, nil)
	}
	n := c.new(path, meta.KindFile, caller)
	c.nodes[path] = n
	c.entered(path)
	err := c.vague
	c.vague = nil
	return n.inode.ID, err
}

func (c *keptFake) Symlink(ctx context.Context, caller cred.Identity, path blocktree.Path, target string) error {
	c.mu.Lock()
	err := c.guard(ctx, path)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if err = c.fake.Symlink(ctx, caller, path, target); err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.entered(path)
	}
	return err
}

func (c *keptFake) Remove(ctx context.Context, _ cred.Identity, path blocktree.Path) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.guard(ctx, path); err != nil {
		return err
	}
	if c.nodes[path] == nil {
		return blocktree.E("fake", blocktree.NotFound, nil)
	}
	for p := range c.nodes {
		if p != path && p.Within(path) {
			return blocktree.E("fake", blocktree.Busy, nil) // it is not empty
		}
	}
	delete(c.nodes, path)
	c.entered(path)
	c.answers()
	return nil
}

func (c *keptFake) RemoveFile(ctx context.Context, caller cred.Identity, path blocktree.Path, id blocktree.FileID) error {
	c.mu.Lock()
	n := c.nodes[path]
	c.mu.Unlock()
	if n == nil || n.inode.ID != id {
		return blocktree.E("fake", blocktree.NotFound, nil)
	}
	return c.Remove(ctx, caller, path)
}

func (c *keptFake) Rename(ctx context.Context, _ cred.Identity, from, to blocktree.Path, keep bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.guard(ctx, from, to); err != nil {
		return err
	}
	switch {
	case c.nodes[from] == nil:
		return blocktree.E("fake", blocktree.NotFound, nil)
	case keep && c.nodes[to] != nil:
		return blocktree.E("fake", blocktree.Exists, nil)
	}
	moved := map[blocktree.Path]*fakeNode{}
	for p, n := range c.nodes {
		if p.Within(from) {
			moved[to+p[len(from):]] = n
			delete(c.nodes, p)
		}
	}
	for p, n := range moved {
		c.nodes[p] = n
		if d := c.dirsKept[from+p[len(to):]]; d != nil {
			delete(c.dirsKept, d.path)
			c.dirsKept[p] = d
		}
	}
	c.entered(from)
	c.entered(to)
	c.answers()
	return nil
}

// answers waits, with fake.mu, until what was done is to be answered.
func (c *keptFake) answers() {
	c.lags("done")
	if after := c.after; after != nil {
		c.mu.Unlock()
		<-after
		c.mu.Lock()
	}
}

// spare is a file without a name.
type spare struct {
	*endingFile
	at      *keptFake
	dir     *fakeDir
	path    blocktree.Path
	named   bool  // with fake.mu
	namedAt int64 // when, likewise
}

// NotKept implements namer.
func (c *keptFake) NotKept(_ context.Context, dir blocktree.Path, id blocktree.FileID) (keptDir, error) {
	if c.older {
		return nil, blocktree.E("fake", blocktree.Unsupported, nil)
	}
	return &fakeDir{c: c, id: id, path: dir, left: make(chan struct{})}, nil
}

// fakeAside is a spare that was taken.
type fakeAside struct {
	c    *keptFake
	n    *fakeNode
	over bool // with fake.mu
}

func (a *fakeAside) ID() blocktree.FileID { return a.n.inode.ID }

func (a *fakeAside) Leave() {
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	if !a.over {
		a.over = true
		a.c.spares--
	}
}

func (d *fakeDir) TakeSpares(_ context.Context, _ CreateOptions, n int, _ bool) (all []aside, err error) {
	c := d.c
	time.Sleep(c.slow)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unable != blocktree.Other {
		return nil, blocktree.E("fake", c.unable, nil)
	}
	for range min(n, c.atHand) {
		c.spares++
		all = append(all, &fakeAside{c: c, n: c.new(d.path.Join("spare"), meta.KindFile, cred.Identity{})})
	}
	return all, nil
}

func (d *fakeDir) KeptFor() time.Duration {
	if !d.Keeps() {
		return 0
	}
	return time.Hour
}

func (c *keptFake) Space(context.Context, cred.Identity, blocktree.Path, blocktree.Code) (Space, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spaces++
	if c.noRoom != nil {
		return Space{}, c.noRoom
	}
	if c.room == 0 {
		return Space{}, blocktree.E("fake", blocktree.Unsupported, nil)
	}
	return Space{FreeBytes: c.room, TotalBytes: c.room}, nil
}

func (d *fakeDir) MakeUnnamed(_ context.Context, caller cred.Identity, path blocktree.Path, o CreateOptions, spared aside) (unnamed, *meta.Inode, error) {
	c := d.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unable != blocktree.Other {
		return nil, nil, blocktree.E("fake", c.unable, nil)
	}
	n := c.new(path, meta.KindFile, caller)
	if a, ok := spared.(*fakeAside); ok {
		if a.over {
			return nil, nil, blocktree.E("fake", blocktree.Unsupported, nil)
		}
		a.over = true
		c.spares--
		a.n.rights = n.rights
		n = a.n
	}
	n.held = true
	c.spares++
	c.opened.Add(1)
	d.lost = d.lost || c.lapses
	inode := n.inode
	return &spare{endingFile: &endingFile{&fakeFile{File: n.mem, c: c.fake, n: n, write: true}}, at: c, dir: d, path: path}, &inode, nil
}

func (f *spare) Name(ctx context.Context, end uint64) error {
	f.at.mu.Lock()
	defer f.at.mu.Unlock()
	if f.path.Parent() == f.at.hangs {
		f.at.mu.Unlock()
		<-ctx.Done()
		f.at.mu.Lock()
		return blocktree.E("fake", blocktree.Unavailable, ctx.Err())
	}
	f.at.commands++
	f.at.lags("do")
	fails := func() error {
		if f.at.naming == nil {
			return nil
		}
		return f.at.naming(f)
	}
	if !f.at.late {
		if err := fails(); err != nil {
			return err
		}
	}
	n := f.at.nodes[f.path]
	if n != nil && n != f.n {
		return blocktree.E("fake", blocktree.Exists, nil)
	}
	if !f.named {
		f.named = true
		f.at.nodes[f.path] = f.n
		f.namedAt = f.at.entered(f.path)
		f.at.spares--
		f.at.answers()
	}
	f.n.inode.LengthBytes = end
	if f.at.late {
		return fails()
	}
	return nil
}

// NamedAt implements unnamed.
func (f *spare) NamedAt() int64 {
	f.at.mu.Lock()
	defer f.at.mu.Unlock()
	return f.namedAt
}

func (f *spare) CloseName(ctx context.Context, end uint64) error {
	err := f.Flush(ctx)
	if err == nil {
		err = f.Name(ctx, end)
	}
	_ = f.Close() // it cannot fail
	return err
}

func (f *spare) CloseEnd(ctx context.Context, was, bytes uint64) error {
	f.at.mu.Lock()
	f.at.commands++
	f.at.mu.Unlock()
	err := f.Flush(ctx)
	if err == nil {
		_, err = f.SetEnd(ctx, was, bytes)
	}
	_ = f.Close() // likewise
	return err
}

func (f *spare) Close() error {
	f.at.mu.Lock()
	if !f.named {
		f.named = true // never
		f.at.spares--
	}
	f.at.mu.Unlock()
	return f.endingFile.Close()
}

// length is where what a path names ends, -1 where there is nothing.
func (c *keptFake) length(path blocktree.Path) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.nodes[path]; n != nil {
		return int(n.inode.Length())
	}
	return -1
}

// keeping is how many directories, files without names and names the service keeps, directories the cluster has kept for it, and spares there are.
type keeping struct{ dirs, given, names, theirs, spares int }

func (c *keptFake) keeping(s *Service) keeping {
	s.kept.mu.Lock()
	defer s.kept.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	return keeping{len(s.kept.dirs), len(s.kept.given), s.kept.names, len(c.dirsKept), c.spares}
}

// keeps reports whether the cluster has a directory kept.
func (c *keptFake) keeps(dir blocktree.Path) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dirsKept[dir] != nil
}

// seen is where what a path names ends for who asks the service, -1 where there is nothing.
func seen(t testing.TB, s *Service, o *owner, path blocktree.Path) int {
	t.Helper()
	b, err := s.doPath(t.Context(), o, codeStat, &pathRequest{path: path})
	if blocktree.KindOf(err) == blocktree.NotFound {
		return -1
	}
	if err != nil {
		t.Fatal(err)
	}
	info, err := decodeInfo(b)
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Length)
}

// asked is how many commands and questions there were since it was asked last.
func (c *keptFake) asked() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := fmt.Sprintf("%d commands, %d questions", c.commands, c.looks.Swap(0))
	c.commands = 0
	return s
}

// does does a request about a path.
func does(t testing.TB, s *Service, o *owner, code uint16, r pathRequest) error {
	t.Helper()
	r.attr.path = r.path
	_, err := s.doPath(t.Context(), o, code, &r)
	return err
}

// same compares what the service remembers with what there is.
func (c *keptFake) same(t testing.TB, s *Service) {
	t.Helper()
	s.kept.mu.Lock()
	defer s.kept.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	names := 0
	for at, d := range s.kept.dirs {
		there := map[string]bool{}
		for p := range c.nodes {
			if p.Parent() == at && p != at {
				there[p.Base()] = true
			}
		}
		for path := range s.kept.given {
			if path.Parent() == at {
				there[path.Base()] = true
			}
		}
		names += len(d.names)
		for name := range d.names {
			if !there[name] {
				t.Errorf("%s is not in %s", name, at.Short())
			}
			delete(there, name)
		}
		if !d.leaving && len(there) > 0 {
			t.Errorf("%v are in %s, too", there, at.Short())
		}
		if len(d.busy) > 0 {
			t.Errorf("%v are claimed yet", d.busy)
		}
	}
	if names != s.kept.names {
		t.Errorf("%d names are counted, not %d", s.kept.names, names)
	}
	if len(c.refused) > 0 {
		t.Errorf("asked for without the keeper's word: %v", c.refused)
	}
}

// ended waits until nothing is kept, and nothing of the table is left.
func (c *keptFake) ended(t testing.TB, s *Service) {
	t.Helper()
	time.Sleep(max(blocktree.FSKeptIdleMax, blocktree.FSFillFor) + 2*blocktree.FSKeptSweepEvery)
	synctest.Wait()
	s.kept.mu.Lock()
	defer s.kept.mu.Unlock()
	if len(s.kept.dirs)+len(s.kept.given)+len(s.kept.byID)+s.kept.names > 0 || s.kept.sweeping || !s.kept.idle() {
		t.Errorf("kept yet: %d directories, %d files, %d names", len(s.kept.dirs), len(s.kept.given), s.kept.names)
	}
}

// below is a path of the test.
func below(short string) blocktree.Path {
	return blocktree.Path(strings.TrimSuffix(string(testRoot)+"/"+short, "/"))
}
