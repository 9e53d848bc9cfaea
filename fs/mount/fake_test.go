package mount

import (
	"context"
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

var (
	testKey, _ = cred.GenerateKey() // it does not fail
	testRoot   = blocktree.RootPath(testKey.Principal())
)

// fake is a Source in memory.
type fake struct {
	mu      sync.Mutex
	files   map[blocktree.Path]*fakeFile
	down    error // what everything fails with
	pages   int   // entries in a page
	opens   int
	closed  int
	during  func() // what happens in a Stat, without the lock
	unheard bool   // what is open does not hear of another length
}

// fakeFile is a file or directory; its content is replaced, never changed.
type fakeFile struct {
	info fs.Info
	data []byte
}

func newFake() *fake {
	c := &fake{files: map[blocktree.Path]*fakeFile{}, pages: 3}
	c.files[testRoot] = &fakeFile{info: fs.Info{ID: blocktree.FileID{Generation: 1, Inode: 2}, Dir: true, Mode: 0o755}}
	return c
}

// put adds a file, or gives one that is there, by its inode, other content.
func (c *fake) put(name string, inode blocktree.Inode, data string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files[testRoot+blocktree.Path("/"+name)] = &fakeFile{data: []byte(data), info: fs.Info{ID: blocktree.FileID{Generation: 1, Inode: inode}, Mode: 0o644, Length: uint64(len(data)), SizeBytes: 1 << 20}}
}

func (c *fake) mkdir(name string, inode blocktree.Inode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files[testRoot+blocktree.Path("/"+name)] = &fakeFile{info: fs.Info{ID: blocktree.FileID{Generation: 1, Inode: inode}, Dir: true, Mode: 0o755}}
}

func (c *fake) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = err
}

func (c *fake) find(path blocktree.Path) (*fakeFile, error) {
	if c.down != nil {
		return nil, c.down
	}
	if f, ok := c.files[path]; ok {
		return f, nil
	}
	return nil, blocktree.E("fake", blocktree.NotFound, nil)
}

func (c *fake) Stat(_ context.Context, path blocktree.Path) (fs.Info, error) {
	if c.during != nil {
		c.during()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f, err := c.find(path)
	if err != nil {
		return fs.Info{}, err
	}
	return f.info, nil
}

func (c *fake) ReadDirAfter(_ context.Context, path blocktree.Path, after string, _ int) (page []fs.Entry, more bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.find(path); err != nil {
		return nil, false, err
	}
	for p, f := range c.files {
		if name, ok := strings.CutPrefix(string(p), string(path)+"/"); ok && name > after && !strings.Contains(name, "/") {
			page = append(page, fs.Entry{Name: name, Info: f.info})
		}
	}
	slices.SortFunc(page, func(a, b fs.Entry) int { return strings.Compare(a.Name, b.Name) })
	if more = len(page) > c.pages; more {
		page = page[:c.pages]
	}
	return page, more, nil
}

func (c *fake) Open(_ context.Context, path blocktree.Path, _ fs.OpenOptions) (fs.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, err := c.find(path)
	if err != nil {
		return nil, err
	}
	c.opens++
	return &opened{fake: c, path: path, info: f.info}, nil
}

// opened is an actor, until its service is gone.
type opened struct {
	fs.File
	fake *fake
	path blocktree.Path
	info fs.Info
	gone error // with the fake's lock
}

func (f *opened) Info() fs.Info { return f.info }

func (f *opened) ReadAt(_ context.Context, p []byte, off uint64) (int, error) {
	f.fake.mu.Lock()
	defer f.fake.mu.Unlock()
	if f.gone == nil {
		f.gone = f.fake.down
	}
	if f.gone != nil {
		return 0, f.gone
	}
	data := f.fake.files[f.path].data
	if f.fake.unheard {
		data = data[:min(uint64(len(data)), f.info.Length)]
	}
	if off > uint64(len(data)) {
		return 0, blocktree.E("fake", blocktree.OutOfRange, nil)
	}
	if n := copy(p, data[off:]); n < len(p) {
		return n, io.EOF
	}
	return len(p), nil
}

func (f *opened) Close() error {
	f.fake.mu.Lock()
	defer f.fake.mu.Unlock()
	f.fake.closed++
	return nil
}
