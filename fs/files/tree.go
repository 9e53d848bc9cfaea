package files

import (
	"context"
	iofs "io/fs"
	"iter"
	"os"

	"blocktree"
	"blocktree/fs"
)

// Door is how a Tree reaches files. *fs.Client is one, by filesystem services. All methods may be called by many goroutines at once, and block until there is an answer or ctx ends; their kinds are those of fs.Client.
type Door interface {
	Stat(ctx context.Context, path blocktree.Path) (fs.Info, error)
	ReadDirAfter(ctx context.Context, path blocktree.Path, after string, limit int) (entries []fs.Entry, more bool, err error)
	Make(ctx context.Context, path blocktree.Path, o fs.CreateOptions) (blocktree.FileID, error)
	Mkdir(ctx context.Context, path blocktree.Path, mode uint32) error
	Remove(ctx context.Context, path blocktree.Path) error
	RemoveFile(ctx context.Context, path blocktree.Path, id blocktree.FileID) error
	Rename(ctx context.Context, from, to blocktree.Path, keep bool) error
	Resize(ctx context.Context, path blocktree.Path, bytes uint64) error
	SetLength(ctx context.Context, path blocktree.Path, bytes uint64) error
	Open(ctx context.Context, path blocktree.Path, o fs.OpenOptions) (fs.File, error)
	Close() error
}

var _ Door = (*fs.Client)(nil)

// Options say what new files of a Tree are like. Zero fields take the defaults.
type Options struct {
	Code        blocktree.Code // of new files; 2+1, or what a configuration with fewer than three members allows
	SectorBytes int            // of new files; blocktree.SectorBytesDefault
}

// Tree is the files of a domain. Names are paths, as commands take them: "/docs/letter", or with the root principal in front.
type Tree struct {
	door Door
	root blocktree.Principal
	o    Options
}

// New makes a Tree of a door, which it closes with itself.
func New(door Door, root blocktree.Principal, o Options) *Tree {
	if o.Code.Data == 0 {
		o.Code = blocktree.Code{Data: 2, Parity: 1}
	}
	if o.SectorBytes == 0 {
		o.SectorBytes = blocktree.SectorBytesDefault
	}
	return &Tree{door: door, root: root, o: o}
}

// Close ends all connections, and what was opened by them.
func (t *Tree) Close() error { return failed("close", "/", t.door.Close()) }

// path reads a name.
func (t *Tree) path(op, name string) (blocktree.Path, error) {
	path, err := blocktree.ParsePath(name, t.root)
	return path, failed(op, name, err)
}

// Open opens a file to read, or a directory to list. Kinds: NotFound, Permission, Unavailable.
func (t *Tree) Open(ctx context.Context, name string) (*File, error) {
	return t.OpenFile(ctx, name, os.O_RDONLY, 0)
}

// Create makes a file, or empties the one that is there, and opens it to read and write.
func (t *Tree) Create(ctx context.Context, name string) (*File, error) {
	return t.OpenFile(ctx, name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
}

// Mkdir makes a directory. Kinds: Exists, NotFound (the one above), Permission, Unavailable (then it may be there all the same).
func (t *Tree) Mkdir(ctx context.Context, name string, mode iofs.FileMode) error {
	path, err := t.path("mkdir", name)
	if err != nil {
		return err
	}
	if mode&^iofs.ModePerm != 0 {
		return refused("mkdir", name, blocktree.Invalid, "a mode with more than permission bits", "nine bits, for owner, group and others")
	}
	return failed("mkdir", name, t.door.Mkdir(ctx, path, uint32(mode)))
}

// MkdirAll makes a directory and those above it, as far as they are not there.
func (t *Tree) MkdirAll(ctx context.Context, name string, mode iofs.FileMode) error {
	path, err := t.path("mkdir", name)
	if err != nil {
		return err
	}
	if path == blocktree.RootPath(path.Root()) {
		return nil
	}
	info, err := t.door.Stat(ctx, path)
	switch {
	case err == nil && !info.Dir:
		return refused("mkdir", name, blocktree.Exists, "it is a file", "name another directory")
	case err == nil:
		return nil
	case blocktree.KindOf(err) != blocktree.NotFound:
		return failed("mkdir", name, err)
	}
	if err := t.MkdirAll(ctx, string(path.Parent()), mode); err != nil {
		return err
	}
	if err := t.Mkdir(ctx, name, mode); blocktree.KindOf(err) != blocktree.Exists { // somebody else did
		return err
	}
	return nil
}

// Remove removes a file that nobody writes, or an empty directory. Kinds: NotFound, Busy, Permission, Unavailable.
func (t *Tree) Remove(ctx context.Context, name string) error {
	path, err := t.path("remove", name)
	if err != nil {
		return err
	}
	return failed("remove", name, t.door.Remove(ctx, path))
}

// Rename has what is at from be at to, in the place of what is there, as os.Rename does. Kinds: NotFound, Busy, Permission, CrossDevice (copy it), TooLarge, Unavailable (then it may have happened).
func (t *Tree) Rename(ctx context.Context, from, to string) error {
	a, err := t.path("rename", from)
	if err != nil {
		return err
	}
	b, err := t.path("rename", to)
	if err != nil {
		return err
	}
	return failed("rename", from, t.door.Rename(ctx, a, b, false))
}

// Stat describes a file or directory. Kinds: NotFound, Permission, Unavailable.
func (t *Tree) Stat(ctx context.Context, name string) (iofs.FileInfo, error) {
	path, err := t.path("stat", name)
	if err != nil {
		return nil, err
	}
	info, err := t.door.Stat(ctx, path)
	if err != nil {
		return nil, failed("stat", name, err)
	}
	return fileInfo{nameOf(path), info}, nil
}

// ReadDir returns all entries of a directory, in the order of their names.
func (t *Tree) ReadDir(ctx context.Context, name string) (all []iofs.DirEntry, err error) {
	for e, err := range t.Entries(ctx, name) {
		if err != nil {
			return all, err
		}
		all = append(all, e)
	}
	return all, nil
}

// Entries goes through a directory in the order of names, some at a time: it holds no more than one answer has, however many there are. The last pair may be an error.
func (t *Tree) Entries(ctx context.Context, name string) iter.Seq2[iofs.DirEntry, error] {
	return func(yield func(iofs.DirEntry, error) bool) {
		path, err := t.path("readdir", name)
		for after, more := "", true; more && err == nil; {
			var entries []fs.Entry
			if entries, more, err = t.door.ReadDirAfter(ctx, path, after, 0); err != nil {
				err = failed("readdir", name, err)
				break
			}
			for _, e := range entries {
				if !yield(entry(e), nil) {
					return
				}
				after = e.Name
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

// ReadFile returns all bytes of a file.
func (t *Tree) ReadFile(ctx context.Context, name string) ([]byte, error) {
	path, err := t.path("open", name)
	if err != nil {
		return nil, err
	}
	f := &File{&opened{tree: t, path: path, name: name, read: true}, ctx}
	if err := f.open(ctx); err != nil {
		return nil, failed("open", name, err)
	}
	defer f.Close() // it was only read from
	return f.readAll()
}

// WriteFile makes a file of these bytes, or gives the one that is there these. When it returns they would survive the loss of power everywhere.
func (t *Tree) WriteFile(ctx context.Context, name string, data []byte, mode iofs.FileMode) error {
	f, err := t.OpenFile(ctx, name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// nameOf is the last name of a path, "/" of the root directory.
func nameOf(path blocktree.Path) string {
	if path == blocktree.RootPath(path.Root()) {
		return "/"
	}
	return path.Base()
}
