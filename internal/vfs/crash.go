package vfs

import (
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"path"
	"slices"
	"sort"
	"sync"
	"syscall"
)

// SyncPoint is a moment at which something becomes durable.
type SyncPoint struct {
	Op    string // "Datasync", "Sync" or "SyncDir"
	Name  string // the file's name when it was opened, or the directory
	After bool   // false just before, true just after
}

// Crash is a file system in memory that knows what was synced. Clone gives what a power loss now would leave. Make one
// with NewCrash. OnSync and NoDirect may be set before first use.
type Crash struct {
	// OnSync, if not nil, is called before and after every sync, in the goroutine that syncs and under no lock, so
	// that it may Clone.
	OnSync func(SyncPoint)

	// NoDirect makes it one of the file systems without direct writes.
	NoDirect bool

	mu       sync.Mutex
	dirs     map[string]*crashDir
	locks    map[string]bool
	capacity int64 // bytes, 0 for no bound
	used     int64
}

var _ FS = (*Crash)(nil)

// crashDir is a directory: the names as the processes see them, as the disk has them, and the changes between.
type crashDir struct {
	now, durable map[string]*crashNode
	pending      []nameChange
}

// nameChange is one step of a directory: every name in set takes its node, or disappears where it is nil.
type nameChange struct{ set map[string]*crashNode }

// crashNode is a file's bytes, now and on the disk, and the changes between.
type crashNode struct {
	now, durable crashBytes
	pending      []crashOp
}

// crashBytes are size bytes: data, and zeros after it, which take no memory (a store makes its segments whole before it fills them).
type crashBytes struct {
	data []byte
	size int64
}

// crashOp is a write of data at off, or a change of length to size when data is nil.
type crashOp struct {
	off  int64
	data []byte
	size int64
}

// NewCrash returns an empty file system with the root directory "/" and ".".
func NewCrash() *Crash {
	return &Crash{dirs: map[string]*crashDir{}, locks: map[string]bool{}}
}

// SetCapacity bounds the bytes of all files together; growing beyond gives NoSpace. Zero is no bound.
func (c *Crash) SetCapacity(bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.capacity = bytes
}

// FreeBytes implements Spacer; without a capacity there is no end of space.
func (c *Crash) FreeBytes(string) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.capacity == 0 {
		return math.MaxInt64, nil
	}
	return max(c.capacity-c.used, 0), nil
}

// SizeBytes implements Sized; without a capacity there is no end of space.
func (c *Crash) SizeBytes(string) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.capacity == 0 {
		return math.MaxInt64, nil
	}
	return c.capacity, nil
}

// Used returns the bytes of all files that have a name or are open for growth.
func (c *Crash) Used() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used
}

// Clone returns the file system as power loss at this moment leaves it: all that was synced, and of the rest what seed
// decides. No lock is held in it. The same history and seed give the same clone.
func (c *Crash) Clone(seed uint64) *Crash {
	c.mu.Lock()
	defer c.mu.Unlock()
	rng := rand.New(rand.NewPCG(seed, 0x626c6f636b))
	out := NewCrash()
	out.capacity, out.NoDirect = c.capacity, c.NoDirect
	copies := map[*crashNode]*crashNode{}
	for _, dirName := range sortedKeys(c.dirs) {
		d := c.dirs[dirName]
		names := map[string]*crashNode{}
		for name, n := range d.durable {
			names[name] = n
		}
		mood := rng.IntN(3) // 0: no unsynced change survives, 1: those up to some point, 2: each by itself
		upTo := rng.IntN(len(d.pending) + 1)
		for i, change := range d.pending {
			if mood == 1 && i < upTo || mood == 2 && rng.IntN(2) == 0 {
				change.apply(names)
			}
		}
		nd := &crashDir{now: map[string]*crashNode{}, durable: map[string]*crashNode{}}
		for _, name := range sortedKeys(names) {
			n := names[name]
			if copies[n] == nil {
				data := n.afterCrash(rng)
				copies[n] = &crashNode{now: data, durable: data.clone()}
				out.used += data.size
			}
			nd.now[name], nd.durable[name] = copies[n], copies[n]
		}
		out.dirs[dirName] = nd
	}
	return out
}

// Kill returns the file system as the end of the process at this moment leaves it: nothing is lost, nothing more is durable,
// and no lock is held.
func (c *Crash) Kill() *Crash {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := NewCrash()
	out.capacity, out.used, out.NoDirect = c.capacity, c.used, c.NoDirect
	copies := map[*crashNode]*crashNode{}
	copyNames := func(names map[string]*crashNode) map[string]*crashNode {
		m := make(map[string]*crashNode, len(names))
		for name, n := range names {
			if n != nil && copies[n] == nil {
				copies[n] = &crashNode{n.now.clone(), n.durable.clone(), slices.Clone(n.pending)}
			}
			m[name] = copies[n]
		}
		return m
	}
	for dirName, d := range c.dirs {
		nd := &crashDir{now: copyNames(d.now), durable: copyNames(d.durable)}
		for _, ch := range d.pending {
			nd.pending = append(nd.pending, nameChange{copyNames(ch.set)})
		}
		out.dirs[dirName] = nd
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

func (ch nameChange) apply(names map[string]*crashNode) {
	for name, n := range ch.set {
		if n == nil {
			delete(names, name)
		} else {
			names[name] = n
		}
	}
}

// afterCrash returns the durable bytes with a choice of the pending operations on top. Changes of length are barriers:
// between two of them writes land in any order, kept, dropped or torn.
func (n *crashNode) afterCrash(rng *rand.Rand) crashBytes {
	data := n.durable.clone()
	mood := rng.IntN(4) // 0: nothing unsynced survives, 1: all of it, else each by itself
	for rest := n.pending; len(rest) > 0; {
		if rest[0].data == nil {
			if mood == 1 || mood > 1 && rng.IntN(2) == 0 {
				data.resize(rest[0].size)
			}
			rest = rest[1:]
			continue
		}
		end := slices.IndexFunc(rest, func(op crashOp) bool { return op.data == nil })
		if end < 0 {
			end = len(rest)
		}
		writes := rest[:end]
		rest = rest[end:]
		order := rng.Perm(len(writes))
		if mood == 1 {
			slices.Sort(order)
		}
		for _, i := range order {
			writes[i].afterCrash(&data, mood, rng)
		}
	}
	return data
}

func (op crashOp) afterCrash(data *crashBytes, mood int, rng *rand.Rand) {
	choice := rng.IntN(3)
	switch {
	case mood == 0 || mood > 1 && choice == 0:
		return
	case mood == 1 || choice == 1:
		data.writeAt(op.data, op.off)
		return
	}
	for from := op.off; from < op.off+int64(len(op.data)); {
		to := min((from/SectorBytes+1)*SectorBytes, op.off+int64(len(op.data)))
		if rng.IntN(2) == 0 {
			data.writeAt(op.data[from-op.off:to-op.off], from)
		}
		from = to
	}
}

func (b crashBytes) clone() crashBytes { return crashBytes{slices.Clone(b.data), b.size} }

func (b *crashBytes) resize(size int64) {
	if size < int64(len(b.data)) {
		b.data = b.data[:size:size]
	}
	b.size = size
}

func (b *crashBytes) writeAt(p []byte, off int64) {
	if end := off + int64(len(p)); end > int64(len(b.data)) {
		grown := slices.Grow(b.data, int(end)-len(b.data))
		clear(grown[len(b.data):end])
		b.data, b.size = grown[:end], max(b.size, end)
	}
	copy(b.data[off:], p)
}

func (b crashBytes) readAt(p []byte, off int64) (n int) {
	if off >= b.size {
		return 0
	}
	if n = int(min(int64(len(p)), b.size-off)); off < int64(len(b.data)) {
		clear(p[copy(p[:n], b.data[off:]):n])
	} else {
		clear(p[:n])
	}
	return n
}

func (c *Crash) sync(point SyncPoint, do func() error) error {
	if c.OnSync != nil {
		c.OnSync(point)
	}
	c.mu.Lock()
	err := do()
	c.mu.Unlock()
	if c.OnSync != nil && err == nil {
		point.After = true
		c.OnSync(point)
	}
	return err
}

// lookup finds a file; c.mu is held.
func (c *Crash) lookup(op, name string) (*crashDir, *crashNode, error) {
	name = path.Clean(name)
	d := c.dirs[path.Dir(name)]
	if d == nil {
		return nil, nil, wrap(op, name, fs.ErrNotExist)
	}
	n := d.now[path.Base(name)]
	if n == nil {
		return d, nil, wrap(op, name, fs.ErrNotExist)
	}
	return d, n, nil
}

func (d *crashDir) change(set map[string]*crashNode) {
	ch := nameChange{set}
	ch.apply(d.now)
	d.pending = append(d.pending, ch)
}

// Create implements FS.
func (c *Crash) Create(name string) (File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, n, err := c.lookup("Create", name)
	if d == nil {
		return nil, err
	}
	if n == nil {
		n = &crashNode{}
		d.change(map[string]*crashNode{path.Base(name): n})
	} else {
		c.setSize(n, 0)
	}
	return &crashFile{c: c, n: n, name: name}, nil
}

// Open implements FS.
func (c *Crash) Open(name string) (File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, n, err := c.lookup("Open", name)
	if err != nil {
		return nil, err
	}
	return &crashFile{c: c, n: n, name: name}, nil
}

// Rename implements FS.
func (c *Crash) Rename(from, to string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, n, err := c.lookup("Rename", from)
	if err != nil {
		return err
	}
	if path.Dir(path.Clean(from)) != path.Dir(path.Clean(to)) {
		return wrap("Rename", from, syscall.EXDEV)
	}
	if from, to := path.Base(from), path.Base(to); from != to {
		if old := d.now[to]; old != nil {
			c.used -= old.now.size
		}
		d.change(map[string]*crashNode{from: nil, to: n})
	}
	return nil
}

// Remove implements FS.
func (c *Crash) Remove(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, n, err := c.lookup("Remove", name)
	if err != nil {
		return err
	}
	c.used -= n.now.size
	d.change(map[string]*crashNode{path.Base(name): nil})
	return nil
}

// List implements FS.
func (c *Crash) List(dir string) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.dirs[path.Clean(dir)]
	if d == nil {
		return nil, wrap("List", dir, fs.ErrNotExist)
	}
	return sortedKeys(d.now), nil
}

// MkdirAll implements FS.
func (c *Crash) MkdirAll(dir string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for dir = path.Clean(dir); ; dir = path.Dir(dir) {
		if c.dirs[dir] == nil {
			c.dirs[dir] = &crashDir{now: map[string]*crashNode{}, durable: map[string]*crashNode{}}
		}
		if dir == path.Dir(dir) {
			return nil
		}
	}
}

// SyncDir implements FS.
func (c *Crash) SyncDir(dir string) error {
	return c.sync(SyncPoint{Op: "SyncDir", Name: dir}, func() error {
		d := c.dirs[path.Clean(dir)]
		if d == nil {
			return wrap("SyncDir", dir, fs.ErrNotExist)
		}
		for _, ch := range d.pending {
			ch.apply(d.durable)
		}
		d.pending = nil
		return nil
	})
}

// Lock implements FS.
func (c *Crash) Lock(name string) (io.Closer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name = path.Clean(name)
	if c.dirs[path.Dir(name)] == nil {
		return nil, wrap("Lock", name, fs.ErrNotExist)
	}
	if c.locks[name] {
		return nil, wrap("Lock", name, syscall.EWOULDBLOCK)
	}
	c.locks[name] = true
	return &crashLock{c: c, name: name}, nil
}

// Stat implements FS.
func (c *Crash) Stat(name string) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, n, err := c.lookup("Stat", name)
	if err != nil {
		return 0, err
	}
	return n.now.size, nil
}

type crashLock struct {
	c    *Crash
	name string
	once sync.Once
}

func (l *crashLock) Close() error {
	l.once.Do(func() {
		l.c.mu.Lock()
		defer l.c.mu.Unlock()
		delete(l.c.locks, l.name)
	})
	return nil
}
