package files

import (
	"context"
	iofs "io/fs"
	"iter"
	"os"
	"time"

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
	SetTimes(ctx context.Context, path blocktree.Path, modified int64) error
	Symlink(ctx context.Context, path blocktree.Path, target string) error
	ReadLink(ctx context.Context, path blocktree.Path) (string, error)
	Open(ctx context.Context, path blocktree.Path, o fs.OpenOptions) (fs.File, error)
	Close() error
}

var _ Door = (*fs.Client)(nil)

// Options say what new files of a Tree are like. Zero fields take the defaults.
type Options struct {
	Code        blocktree.Code // of new files; 2+1, or what a configuration with fewer than three members allows
	SectorBytes int            // of new files; blocktree.SectorBytesDefault
}

// Tree is the files of a domain. Names are paths, as commands take them: "/docs/letter", or with the root principal in front. Symbolic links on the way are followed, as on a local disk; more than blocktree.SymlinksMax of them are syscall.ELOOP.
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

// Open opens a file to read, or a directory to list, where a symbolic link leads. Kinds: NotFound, Permission, Unavailable.
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
	return t.at(ctx, "mkdir", name, path, false, func(path blocktree.Path) error { return t.door.Mkdir(ctx, path, uint32(mode)) })
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
	there := func() error {
		info, err := t.Stat(ctx, name)
		if err == nil && !info.IsDir() {
			return refused("mkdir", name, blocktree.Exists, "it is a file", "name another directory")
		}
		return err
	}
	if err := there(); blocktree.KindOf(err) != blocktree.NotFound || fs.NoService(err) {
		return err
	}
	if err := t.MkdirAll(ctx, string(path.Parent()), mode); err != nil {
		return err
	}
	err = t.Mkdir(ctx, name, mode)
	if blocktree.KindOf(err) == blocktree.Exists && there() == nil { // somebody else did
		return nil
	}
	return err
}

// Remove removes a file that nobody writes, an empty directory, or a symbolic link. Kinds: NotFound, Busy, Permission, Unavailable.
func (t *Tree) Remove(ctx context.Context, name string) error {
	path, err := t.path("remove", name)
	if err != nil {
		return err
	}
	return t.at(ctx, "remove", name, path, false, func(path blocktree.Path) error { return t.door.Remove(ctx, path) })
}

// Rename has what is at from be at to, in the place of what is there, as os.Rename does; a symbolic link itself. Kinds: NotFound, Busy, Permission, CrossDevice (copy it), TooLarge, Unavailable (then it may have happened).
func (t *Tree) Rename(ctx context.Context, from, to string) error {
	a, err := t.path("rename", from)
	if err != nil {
		return err
	}
	b, err := t.path("rename", to)
	if err != nil {
		return err
	}
	return t.at(ctx, "rename", from, a, false, func(a blocktree.Path) error {
		return fs.Through(ctx, t.door, b, false, func(b blocktree.Path) error { return t.door.Rename(ctx, a, b, false) })
	})
}

// Stat describes a file or directory, where a symbolic link leads. Kinds: NotFound, Permission, Unavailable.
func (t *Tree) Stat(ctx context.Context, name string) (iofs.FileInfo, error) {
	return t.describe(ctx, name, true)
}

// SetModified sets when a file or directory was last modified: any time, which takes its owner, or with the zero time now, by the cluster's clock, which takes the right to write. With a reader key a File of it that was written and is not closed yet may say another time later. Kinds: NotFound, Permission, Unavailable, Unsupported (a service of a version before).
func (t *Tree) SetModified(ctx context.Context, name string, at time.Time) error {
	path, err := t.path("chtimes", name)
	if err != nil {
		return err
	}
	modified := fs.TimeNow
	if !at.IsZero() {
		if modified = at.UnixNano(); modified < 0 || !time.Unix(0, modified).Equal(at) {
			return refused("chtimes", name, blocktree.Invalid, "a time that is not kept", "from 1970 to 2262")
		}
	}
	return t.stated(ctx, "chtimes", name, path, func(path blocktree.Path, _ *fs.Info) error { return t.door.SetTimes(ctx, path, modified) })
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
			err = t.at(ctx, "readdir", name, path, after == "", func(at blocktree.Path) (err error) {
				path = at
				entries, more, err = t.door.ReadDirAfter(ctx, at, after, 0)
				return err
			})
			if err != nil {
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
	err = t.at(ctx, "open", name, path, true, func(path blocktree.Path) error {
		f.path = path
		return f.open(ctx)
	})
	if err != nil {
		return nil, err
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
