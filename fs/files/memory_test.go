package files

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/fs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a Door to files in memory, with a service's manners: what is open does not hear of another size or length.
type memory struct {
	mu      sync.Mutex
	root    blocktree.Path
	nodes   map[blocktree.Path]*node
	last    uint64
	open    int
	opens   int
	fail    func(op string) error // before anything is done
	entries int                   // of one answer
	old     bool                  // it is of a version before: it says of no file which it made
}

type node struct {
	info  fs.Info
	bytes []byte // of its size
	held  bool
	to    string // of a symbolic link
}

func newMemory(t testing.TB) (*memory, *Tree) {
	key, err := cred.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	m := &memory{root: blocktree.RootPath(key.Principal()), nodes: map[blocktree.Path]*node{}, entries: 3}
	m.nodes[m.root] = &node{info: fs.Info{Dir: true, Mode: 0o755}}
	return m, New(m, key.Principal(), Options{SectorBytes: 512})
}

func kind(k blocktree.Kind) error {
	return &blocktree.Error{Op: "memory", Kind: k, Hint: "a hint"}
}

// at begins an operation on what is there.
func (m *memory) at(ctx context.Context, op string, path blocktree.Path) (*node, error) {
	if ctx.Err() != nil {
		return nil, blocktree.E("memory", blocktree.Canceled, ctx.Err())
	}
	if m.fail != nil {
		if err := m.fail(op); err != nil {
			return nil, err
		}
	}
	for p := path; p != m.root; p = p.Parent() {
		if above := m.nodes[p.Parent()]; above != nil && !above.info.Dir {
			return nil, kind(blocktree.Invalid) // who follows no links says so
		}
	}
	n := m.nodes[path]
	if n == nil {
		return nil, kind(blocktree.NotFound)
	}
	return n, nil
}

func (m *memory) Symlink(ctx context.Context, path blocktree.Path, target string) error {
	_, err := m.add(ctx, "symlink", path, fs.Info{Link: true, Mode: 0o777, Length: uint64(len(target))})
	if err == nil {
		m.nodes[path].to = target
	}
	return err
}

func (m *memory) ReadLink(ctx context.Context, path blocktree.Path) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.at(ctx, "readlink", path)
	if err != nil {
		return "", err
	}
	if !n.info.Link {
		return "", kind(blocktree.Invalid)
	}
	return n.to, nil
}

func (m *memory) SetTimes(ctx context.Context, path blocktree.Path, modified int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.at(ctx, "times", path)
	if err == nil {
		n.info.Modified = modified
	}
	return err
}

func (m *memory) Stat(ctx context.Context, path blocktree.Path) (fs.Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.at(ctx, "stat", path)
	if err != nil {
		return fs.Info{}, err
	}
	return n.info, nil
}

func (m *memory) ReadDirAfter(ctx context.Context, path blocktree.Path, after string, _ int) (all []fs.Entry, more bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.at(ctx, "list", path)
	if err == nil && !n.info.Dir {
		err = kind(blocktree.Invalid)
	}
	if err != nil {
		return nil, false, err
	}
	for p, n := range m.nodes {
		if p != path && p.Parent() == path && p.Base() > after {
			all = append(all, fs.Entry{Name: p.Base(), Info: n.info})
		}
	}
	slices.SortFunc(all, func(a, b fs.Entry) int { return strings.Compare(a.Name, b.Name) })
	if len(all) > m.entries {
		all, more = all[:m.entries], true
	}
	return all, more, nil
}

func (m *memory) add(ctx context.Context, op string, path blocktree.Path, info fs.Info) (blocktree.FileID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.at(ctx, op, path); blocktree.KindOf(err) != blocktree.NotFound {
		if err == nil {
			err = kind(blocktree.Exists)
		}
		return blocktree.FileID{}, err
	}
	m.last++
	info.ID = blocktree.FileID{Generation: 1, Inode: blocktree.Inode(m.last)}
	m.nodes[path] = &node{info: info, bytes: make([]byte, info.SizeBytes)}
	if m.old {
		return blocktree.FileID{}, nil
	}
	return info.ID, nil
}

func (m *memory) Make(ctx context.Context, path blocktree.Path, o fs.CreateOptions) (blocktree.FileID, error) {
	return m.add(ctx, "create", path, fs.Info{Mode: o.Mode, SizeBytes: o.SizeBytes, Length: o.SizeBytes, SectorBytes: o.SectorBytes, Code: o.Code})
}

func (m *memory) Mkdir(ctx context.Context, path blocktree.Path, mode uint32) error {
	_, err := m.add(ctx, "mkdir", path, fs.Info{Mode: mode, Dir: true})
	return err
}

func (m *memory) Remove(ctx context.Context, path blocktree.Path) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.at(ctx, "remove", path)
	if err == nil && n.held {
		err = kind(blocktree.Busy)
	}
	if err == nil {
		delete(m.nodes, path)
	}
	return err
}

func (m *memory) RemoveFile(ctx context.Context, path blocktree.Path, id blocktree.FileID) error {
	if m.old {
		return kind(blocktree.Unsupported)
	}
	m.mu.Lock()
	n := m.nodes[path]
	m.mu.Unlock()
	if n == nil || n.info.ID != id {
		return kind(blocktree.NotFound)
	}
	return m.Remove(ctx, path)
}

func (m *memory) Rename(ctx context.Context, from, to blocktree.Path, _ bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.at(ctx, "rename", from)
	if err == nil {
		if _, e := m.at(ctx, "rename", to); blocktree.KindOf(e) != blocktree.NotFound {
			err = e
		}
	}
	if err == nil {
		delete(m.nodes, from)
		m.nodes[to] = n
	}
	return err
}

func (m *memory) Resize(ctx context.Context, path blocktree.Path, bytes uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.at(ctx, "resize", path)
	if err != nil {
		return err
	}
	if bytes%512 != 0 || bytes == 0 {
		return kind(blocktree.Invalid)
	}
	if bytes < n.info.SizeBytes && n.held {
		return kind(blocktree.Busy)
	}
	all := make([]byte, bytes)
	copy(all, n.bytes)
	if n.info.Length == n.info.SizeBytes {
		n.info.Length = bytes
	}
	n.bytes, n.info.SizeBytes, n.info.Length = all, bytes, min(n.info.Length, bytes)
	return nil
}

func (m *memory) SetLength(ctx context.Context, path blocktree.Path, bytes uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.at(ctx, "length", path)
	if err == nil && bytes > n.info.SizeBytes {
		err = kind(blocktree.Invalid)
	}
	if err == nil {
		n.info.Length = bytes
	}
	return err
}

func (m *memory) Open(ctx context.Context, path blocktree.Path, o fs.OpenOptions) (fs.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.at(ctx, "open", path)
	switch {
	case err != nil:
		return nil, err
	case n.info.Dir || n.info.Link:
		return nil, kind(blocktree.Invalid)
	case o.Write && n.held:
		return nil, kind(blocktree.Busy)
	}
	n.held = n.held || o.Write
	m.open++
	m.opens++
	return &openNode{m: m, n: n, info: n.info, size: len(n.bytes), write: o.Write}, nil
}

func (m *memory) Close() error { return nil }

// openNode is one opening.
type openNode struct {
	m     *memory
	n     *node
	info  fs.Info
	size  int
	write bool
}

func (f *openNode) Info() fs.Info { return f.info }

func (f *openNode) ReadAt(ctx context.Context, p []byte, off uint64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if ctx.Err() != nil {
		return 0, blocktree.E("memory", blocktree.Canceled, ctx.Err())
	}
	if off > f.info.Length {
		return 0, kind(blocktree.OutOfRange)
	}
	n := copy(p, f.n.bytes[off:f.info.Length])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *openNode) WriteAt(ctx context.Context, p []byte, off uint64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if ctx.Err() != nil {
		return blocktree.E("memory", blocktree.Canceled, ctx.Err())
	}
	if off+uint64(len(p)) > f.info.Length || !f.write {
		return kind(blocktree.OutOfRange)
	}
	copy(f.n.bytes[off:], p)
	return nil
}

func (f *openNode) Flush(ctx context.Context) error { return ctx.Err() }

func (f *openNode) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.m.open--
	if f.write {
		f.n.held = false
	}
	return nil
}

func wantKind(t *testing.T, what string, err error, want blocktree.Kind, is error) {
	t.Helper()
	if blocktree.KindOf(err) != want || err == nil || is != nil && !errors.Is(err, is) || blocktree.HintOf(err) == "" {
		t.Errorf("%s: %v, hint %q; want kind %v", what, err, blocktree.HintOf(err), want)
	}
}
