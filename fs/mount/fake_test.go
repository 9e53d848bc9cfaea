package mount

import (
	"context"
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
	during  func()        // what happens in a Stat, without the lock
	late    func()        // what happens before a Stat is answered, once
	unheard bool          // what is open does not hear of another length
	grows   bool          // open files have Truncate and Append, and grow
	epochs  bool          // who writes a file alone is told under which epoch
	holds   bool          // what was written stays when the service is gone, but for where the file ends
	shared  bool          // others write what is opened, too
	keeps   bool          // files that are open are removed, and kept
	comes   func(*opened) // what happens before something is written again, with the lock
	full    uint64        // bytes that a file may have; 0: any number
	stuck   error         // what flushes fail with
	asks    int           // of changes of names and lengths
	midst   func()        // called while something is changed
	vague   error         // the answer to the next change, which is done
	between func()        // what happens after that, with the lock
	cut     bool          // the connection breaks before the next append is answered, and the service closes the file
	leases  map[blocktree.FileID]*opened
	anew    []bool // of each file that was opened for writing
	made    blocktree.Inode
	spare   blocktree.FileID // what the next that is made is
	now     int64            // the time that a flush notes, unless 0
	apart   bool             // it does not write and finish at once
	hides   bool             // what is made has no name until it is flushed or closed, and is gone with its service before that
	refuses error            // what a name comes to
	makes   func() error     // what happens before a file is made and opened, with the lock, and why it is not
	closing func()           // what happens in a Close, without the lock
	locked  map[blocktree.FileID][]fakeLock
	freed   chan struct{} // closed when a lock was given back
	log     []string      // what was asked for
}

// fakeFile is a file or directory; its content is replaced, never changed.
type fakeFile struct {
	info fs.Info
	data []byte

	epoch, wrote blocktree.Epoch // under which it was held last, and written
}

func newFake() *fake {
	c := &fake{locked: map[blocktree.FileID][]fakeLock{}, freed: make(chan struct{}), leases: map[blocktree.FileID]*opened{}, files: map[blocktree.Path]*fakeFile{}, pages: 3}
	c.files[testRoot] = &fakeFile{info: fs.Info{ID: blocktree.FileID{Generation: 1, Inode: 2}, Dir: true, Mode: 0o755}}
	return c
}

// put adds a file, or gives one that is there, by its inode, other content.
func (c *fake) put(name string, inode blocktree.Inode, data string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files[testRoot+blocktree.Path("/"+name)] = &fakeFile{data: []byte(data), info: fs.Info{ID: blocktree.FileID{Generation: 1, Inode: inode}, Mode: 0o644, Length: uint64(len(data)), SizeBytes: 1 << 20, SectorBytes: 4096}}
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
	c.log = append(c.log, "stat")
	f, err := c.find(path)
	if err != nil {
		return fs.Info{}, err
	}
	info := f.info
	if late := c.late; late != nil {
		c.late = nil
		c.mu.Unlock()
		late()
		c.mu.Lock()
	}
	return info, nil
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

func (c *fake) Open(_ context.Context, path blocktree.Path, o fs.OpenOptions) (fs.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = append(c.log, "open")
	f, err := c.find(path)
	if err != nil {
		return nil, err
	}
	if !o.Write {
		c.opens++
		r := &opened{fake: c, path: path, info: f.info, kept: f}
		if c.keeps {
			return &reading{r}, nil
		}
		return r, nil
	}
	if c.leases[f.info.ID] != nil {
		return nil, blocktree.E("fake", blocktree.Busy, nil)
	}
	c.anew = append(c.anew, o.Anew)
	c.opens++
	w := &opened{fake: c, path: path, info: f.info, file: f, written: append([]byte(nil), f.data...)}
	c.leases[f.info.ID] = w
	written := f.wrote
	f.epoch++
	w.epoch = f.epoch
	if c.epochs && o.Tell && c.grows && !c.shared {
		w.written = w.written[:min(uint64(len(w.written)), f.info.Length)]
		return &telling{&growing{w}, w.epoch, written}, nil
	}
	if c.grows {
		w.written = w.written[:min(uint64(len(w.written)), f.info.Length)]
		return &growing{w}, nil
	}
	return w, nil
}

// beside has somebody else, by the same service, write what one of this mount has open for writing: all of its content is another.
func (c *fake) beside(name, content string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.leases[c.files[testRoot+blocktree.Path("/"+name)].info.ID]
	w.written = []byte(content)
	w.keep()
}

// kill has what is open gone, and what was not flushed with it; leases stay, if they are to.
func (c *fake) kill(leases bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, w := range c.leases {
		w.gone = blocktree.E("fake", blocktree.Undeliverable, nil)
		w.hidden = false // and never will have a name
		if c.holds {
			data := append([]byte(nil), w.file.data...)
			copy(data, w.written)
			w.file.data = data
		}
		c.unlock(w)
		if !leases {
			delete(c.leases, id)
		}
	}
}

// change begins a change; the error is its answer, which may come though it is done.
func (c *fake) change(do func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asks++
	if c.midst != nil {
		c.midst()
	}
	if c.down != nil {
		return c.down
	}
	if err := do(); err != nil {
		return err
	}
	err := c.vague
	if c.vague = nil; err != nil && c.between != nil {
		c.between()
	}
	return err
}

func (c *fake) Create(_ context.Context, path blocktree.Path, o fs.CreateOptions) error {
	return c.change(func() error {
		c.log = append(c.log, "create")
		return c.add(path, fs.Info{Mode: o.Mode, SizeBytes: o.SizeBytes, Length: o.SizeBytes, SectorBytes: o.SectorBytes, Encrypted: true})
	})
}

func (c *fake) Mkdir(_ context.Context, path blocktree.Path, mode uint32) error {
	return c.change(func() error { return c.add(path, fs.Info{Mode: mode, Dir: true}) })
}

func (c *fake) add(path blocktree.Path, info fs.Info) error {
	if _, err := c.find(path.Parent()); err != nil {
		return err
	}
	if _, ok := c.files[path]; ok {
		return blocktree.E("fake", blocktree.Exists, nil)
	}
	c.made++
	info.ID = blocktree.FileID{Generation: 1, Inode: 1000 + c.made}
	if c.spare != (blocktree.FileID{}) {
		info.ID, c.spare = c.spare, blocktree.FileID{}
	}
	c.files[path] = &fakeFile{info: info, data: make([]byte, info.Length)}
	return nil
}

// free refuses what is held, or not empty.
func (c *fake) free(path blocktree.Path) error {
	f, err := c.find(path)
	if err != nil {
		return err
	}
	busy := c.leases[f.info.ID] != nil && !c.keeps
	for p := range c.files {
		busy = busy || f.info.Dir && strings.HasPrefix(string(p), string(path)+"/")
	}
	if busy {
		return blocktree.E("fake", blocktree.Busy, nil)
	}
	return nil
}

func (c *fake) Remove(_ context.Context, path blocktree.Path) error {
	return c.change(func() error {
		err := c.free(path)
		if err == nil {
			delete(c.files, path)
		}
		return err
	})
}

// RemoveFile implements fs.Remover.
func (c *fake) RemoveFile(_ context.Context, path blocktree.Path, id blocktree.FileID) error {
	return c.change(func() error {
		f, err := c.find(path)
		if err == nil && f.info.ID != id {
			err = blocktree.E("fake", blocktree.NotFound, nil)
		}
		if err == nil {
			err = c.free(path)
		}
		if err == nil {
			delete(c.files, path)
		}
		return err
	})
}

func (c *fake) Rename(_ context.Context, from, to blocktree.Path, keep bool) error {
	return c.change(func() error {
		f, err := c.find(from)
		if err != nil {
			return err
		}
		if _, there := c.files[to]; there {
			if keep {
				return blocktree.E("fake", blocktree.Exists, nil)
			}
			if err := c.free(to); err != nil {
				return err
			}
		}
		delete(c.files, from)
		c.files[to] = f
		for p, x := range c.files {
			if below, ok := strings.CutPrefix(string(p), string(from)+"/"); ok {
				delete(c.files, p)
				c.files[to.Join(below)] = x
			}
		}
		return nil
	})
}

func (c *fake) Resize(_ context.Context, path blocktree.Path, bytes uint64) error {
	return c.change(func() error {
		f, err := c.find(path)
		switch {
		case err != nil:
			return err
		case c.full > 0 && bytes > c.full:
			return blocktree.E("fake", blocktree.NoSpace, nil)
		}
		if f.info.Length == f.info.SizeBytes || f.info.Length > bytes {
			f.info.Length = bytes
		}
		f.info.SizeBytes = bytes
		f.fit()
		return nil
	})
}

// fit has the content reach over the whole size: what is behind the length stays.
func (f *fakeFile) fit() {
	if n := uint64(len(f.data)); n < f.info.SizeBytes {
		f.data = append(f.data[:n:n], make([]byte, f.info.SizeBytes-n)...)
	}
	f.data = f.data[:f.info.SizeBytes]
}

func (c *fake) SetLength(_ context.Context, path blocktree.Path, bytes uint64) error {
	return c.change(func() error {
		c.log = append(c.log, "length")
		f, err := c.find(path)
		if err != nil {
			return err
		}
		if bytes > f.info.SizeBytes {
			return blocktree.E("fake", blocktree.Invalid, nil)
		}
		f.info.Length = bytes
		f.fit()
		return nil
	})
}

func (c *fake) SetMode(_ context.Context, _ blocktree.Path, id blocktree.FileID, mode uint32) error {
	return c.change(func() error {
		for _, f := range c.files {
			if f.info.ID == id {
				f.info.Mode = mode
				return nil
			}
		}
		return blocktree.E("fake", blocktree.NotFound, nil)
	})
}

// content is what is flushed, up to the length that everybody is told.
func (c *fake) content(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, err := c.find(testRoot + blocktree.Path("/"+name))
	if err != nil {
		return "absent"
	}
	return string(f.data[:min(uint64(len(f.data)), f.info.Length)])
}
