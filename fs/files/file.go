package files

import (
	"context"
	"errors"
	"io"
	iofs "io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/fs"
)

const (
	// closeTimeout bounds how long Close waits for the last flush and for what the cluster has to be told.
	closeTimeout = 30 * time.Second
	// pieceBytes is how much of a file is copied at a time.
	pieceBytes = blocktree.FSTransferBytesMax
)

// File is an open file or directory. What io's methods ask for ends with the context that it was opened with, or that With gave it.
type File struct {
	*opened
	ctx context.Context
}

var _ interface {
	io.ReadWriteSeeker
	io.ReaderAt
	io.WriterAt
	io.ReaderFrom
	io.WriterTo
	io.Closer
	iofs.ReadDirFile
} = (*File)(nil)

// opened is what all Files of one opening share.
type opened struct {
	tree   *Tree
	path   blocktree.Path
	name   string // as it was given
	base   string // the last name of that
	info   fs.Info
	read   bool
	write  bool
	add    bool          // every Write goes to the end
	end    atomic.Uint64 // where a file that is open for writing ends
	dirty  atomic.Bool   // something was written since it was last flushed
	moving atomic.Int32  // whether the end moves while it is open

	mu     sync.RWMutex // write locked while raw changes
	raw    fs.File      // nil of a directory, and of what is closed
	room   uint64       // how far the cluster lets it be written: the end that it was last told
	asked  uint64       // the end that the cluster was last asked to give it, which it may have where nobody answered
	sized  uint64       // likewise the size
	stuck  error        // why it cannot be used any more
	closed bool

	posMu sync.Mutex
	pos   uint64
	list  listing
}

// With returns the same open file, whose methods end with another context.
func (f *File) With(ctx context.Context) *File { return &File{f.opened, ctx} }

// Name is the name that it was opened by.
func (f *File) Name() string { return f.name }

// Stat describes the file as it was opened; of one that is open for writing the size is what it is now.
func (f *File) Stat() (iofs.FileInfo, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if err := f.usable("stat"); err != nil {
		return nil, err
	}
	info := f.info
	info.Length = f.size()
	return fileInfo{f.base, info}, nil
}

// size is where the file ends, as far as is known.
func (o *opened) size() uint64 {
	if o.write {
		return o.end.Load()
	}
	return o.info.Length
}

// usable fails once the file is closed, or cannot be used any more.
func (o *opened) usable(op string) error {
	if o.closed {
		return failed(op, o.name, blocktree.E("files", blocktree.Closed, nil))
	}
	return failed(op, o.name, o.stuck)
}

// may fails of what cannot be read, or written, as it was opened.
func (o *opened) may(op string, as bool) error {
	switch {
	case o.closed || o.stuck != nil:
		return o.usable(op)
	case o.info.Dir:
		return refused(op, o.name, blocktree.Invalid, "it is a directory", "list it with ReadDir")
	case !as:
		return refused(op, o.name, blocktree.Permission, "it was opened for something else", "open it with os.O_RDWR")
	}
	return nil
}

// ReadAt implements io.ReaderAt. Kinds: those of fs.File.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if err := f.may("read", f.read); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, refused("read", f.name, blocktree.Invalid, "a position before the file", "positions begin at 0")
	}
	if len(p) == 0 {
		return 0, nil
	}
	whole := p
	if f.write {
		end := f.end.Load()
		if uint64(off)+uint64(len(p)) > end { // others may have made it longer
			m, err := f.mover()
			if err != nil {
				return 0, failed("read", f.name, err)
			}
			if m != nil {
				end = 1 << 63
			}
		}
		if uint64(off) >= end {
			return 0, io.EOF
		}
		p = p[:min(uint64(len(p)), end-uint64(off))]
	}
	n, err := f.raw.ReadAt(f.ctx, p, uint64(off))
	switch {
	case blocktree.KindOf(err) == blocktree.OutOfRange:
		return 0, io.EOF
	case err != nil && !errors.Is(err, io.EOF):
		return n, failed("read", f.name, err)
	case n < len(whole):
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements io.WriterAt. What ends behind the end of the file makes it larger. Kinds: those of fs.File, NoSpace, TooLarge.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	if f.add {
		return 0, refused("write", f.name, blocktree.Invalid, "every write goes to the end", "open it without os.O_APPEND")
	}
	return f.writeAt(p, off)
}

func (f *File) writeAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, refused("write", f.name, blocktree.Invalid, "a position before the file", "positions begin at 0")
	}
	if len(p) == 0 {
		return 0, nil
	}
	end := uint64(off) + uint64(len(p))
	for {
		f.mu.RLock()
		if err := f.may("write", f.write); err != nil {
			f.mu.RUnlock()
			return 0, err
		}
		m, err := mover(nil), error(nil)
		if end > f.room {
			m, err = f.mover()
		}
		if end <= f.room || m != nil {
			defer f.mu.RUnlock()
			break
		}
		if err != nil {
			f.mu.RUnlock()
			return 0, failed("write", f.name, err)
		}
		f.mu.RUnlock()
		if err := f.grow(end); err != nil {
			return 0, failed("write", f.name, err)
		}
	}
	f.dirty.Store(true)
	if err := f.raw.WriteAt(f.ctx, p, uint64(off)); err != nil {
		return 0, failed("write", f.name, err)
	}
	f.reaches(end)
	return len(p), nil
}

// Read implements io.Reader.
func (f *File) Read(p []byte) (int, error) {
	f.posMu.Lock()
	defer f.posMu.Unlock()
	n, err := f.ReadAt(p, int64(f.pos))
	f.pos += uint64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil // the next one says it
	}
	return n, err
}

// Write implements io.Writer.
func (f *File) Write(p []byte) (int, error) {
	f.posMu.Lock()
	defer f.posMu.Unlock()
	if f.add {
		if n, done, err := f.writeEnd(p); done {
			return n, err
		}
		f.pos = f.end.Load()
	}
	n, err := f.writeAt(p, int64(f.pos))
	f.pos += uint64(n)
	return n, err
}

// Seek implements io.Seeker. The end of a file that is open to read is where it was when it was opened.
func (f *File) Seek(off int64, whence int) (int64, error) {
	f.posMu.Lock()
	defer f.posMu.Unlock()
	f.mu.RLock()
	defer f.mu.RUnlock()
	if err := f.may("seek", true); err != nil {
		return 0, err
	}
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		off += int64(f.pos)
	case io.SeekEnd:
		end, err := f.length(f.ctx)
		if err != nil {
			return 0, failed("seek", f.name, err)
		}
		off += int64(end)
	default:
		return 0, refused("seek", f.name, blocktree.Invalid, "no such whence", "io.SeekStart, io.SeekCurrent or io.SeekEnd")
	}
	if off < 0 {
		return 0, refused("seek", f.name, blocktree.Invalid, "a position before the file", "positions begin at 0")
	}
	f.pos = uint64(off)
	return off, nil
}

// ReadFrom implements io.ReaderFrom: in large pieces.
func (f *File) ReadFrom(r io.Reader) (done int64, err error) {
	buf := make([]byte, pieceBytes)
	for {
		n, err := 0, error(nil)
		for n < len(buf) && err == nil { // not io.ReadFull: its ErrUnexpectedEOF may be r's own, which says that bytes are missing
			var m int
			m, err = r.Read(buf[n:])
			n += m
		}
		m, werr := f.Write(buf[:n])
		done += int64(m)
		switch {
		case werr != nil:
			return done, werr
		case err == io.EOF:
			return done, nil
		case err != nil:
			return done, err
		}
	}
}

// WriteTo implements io.WriterTo: in large pieces.
func (f *File) WriteTo(w io.Writer) (done int64, err error) {
	buf := make([]byte, pieceBytes)
	for {
		n, err := f.Read(buf)
		m, werr := w.Write(buf[:n])
		done += int64(m)
		switch {
		case werr != nil:
			return done, werr
		case errors.Is(err, io.EOF):
			return done, nil
		case err != nil:
			return done, err
		}
	}
}

// readAll returns all bytes, from the first on.
func (f *File) readAll() (all []byte, err error) {
	if f.info.Dir {
		return nil, f.may("read", true)
	}
	all = make([]byte, 0, min(f.size(), pieceBytes)+1)
	for {
		if len(all) == cap(all) {
			all = append(all, make([]byte, min(max(len(all), 4096), pieceBytes))...)[:len(all)]
		}
		n, err := f.ReadAt(all[len(all):cap(all)], int64(len(all)))
		all = all[:len(all)+n]
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

// OpenFile opens a file with the flags of package os: one of O_RDONLY, O_WRONLY and O_RDWR, and any of O_CREATE, O_EXCL, O_TRUNC and O_APPEND. A new file gets the permission bits of mode, and the key of whoever
// makes it. Kinds: NotFound, Exists, Busy (somebody else writes it), Permission, Invalid, Unavailable.
func (t *Tree) OpenFile(ctx context.Context, name string, flags int, mode iofs.FileMode) (*File, error) {
	const access, known = os.O_RDONLY | os.O_WRONLY | os.O_RDWR, os.O_CREATE | os.O_EXCL | os.O_TRUNC | os.O_APPEND
	path, err := t.path("open", name)
	if err != nil {
		return nil, err
	}
	write := flags&access != os.O_RDONLY
	switch {
	case flags&^(access|known) != 0 || flags&access == access:
		return nil, refused("open", name, blocktree.Unsupported, "a flag that is not known here", "O_RDONLY, O_WRONLY or O_RDWR, and O_CREATE, O_EXCL, O_TRUNC, O_APPEND")
	case mode&^iofs.ModePerm != 0:
		return nil, refused("open", name, blocktree.Invalid, "a mode with more than permission bits", "nine bits, for owner, group and others")
	case !write && flags&(os.O_TRUNC|os.O_APPEND) != 0:
		return nil, refused("open", name, blocktree.Invalid, "what is open to read is not changed", "open it with os.O_RDWR")
	}
	var f *File
	given, must := path, flags&os.O_EXCL != 0
	err = t.at(ctx, "open", name, path, !must || flags&os.O_CREATE == 0, func(path blocktree.Path) (err error) {
		f = &File{&opened{tree: t, path: path, name: name, base: nameOf(given), read: flags&access != os.O_WRONLY, write: write, add: flags&os.O_APPEND != 0}, ctx}
		return f.begin(flags, uint32(mode))
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// begin makes the file where that is wanted, and opens it.
func (f *File) begin(flags int, mode uint32) (err error) {
	var made *blocktree.FileID
	must := flags&os.O_EXCL != 0
	if flags&os.O_CREATE != 0 {
		if made, err = f.tree.make(f.ctx, f.path, mode, must); err != nil {
			return err
		}
	}
	if made != nil && !f.write { // who only reads does not move its end
		w := &File{&opened{tree: f.tree, path: f.path, name: f.name, write: true}, f.ctx}
		if err := w.start(made, must, false); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
	}
	return f.start(made, must, flags&os.O_TRUNC != 0)
}

// start opens the file for the first time, and empties it where that is wanted, or where it is the one that was made just now: that has a sector, as no size is zero. What has the name of that by now, and is another one, is not
// touched; must says that it is not opened either. With an error nothing is open.
func (f *File) start(made *blocktree.FileID, must, empty bool) error {
	if err := f.first(f.ctx); err != nil {
		return failed("open", f.name, err)
	}
	fresh := made != nil && (*made == f.info.ID || *made == blocktree.FileID{}) // else another file has the name by now
	if made != nil && !fresh && must {
		_ = f.Close() // nothing was done with it
		return failed("open", f.name, f.another())
	}
	if !f.write || !fresh && !empty {
		return nil
	}
	err := f.Truncate(0)
	if err != nil {
		_ = f.Close() // the first error is the one to tell
		if fresh {
			err = failed("open", f.name, fs.Undone(f.ctx, f.tree.door, f.path, *made, err))
		}
	}
	return err
}

// make makes a file of one sector, unless it is there and need not be new: nil. It says which file it made; zero, where the service does not.
func (t *Tree) make(ctx context.Context, path blocktree.Path, mode uint32, must bool) (*blocktree.FileID, error) {
	if !must {
		if _, err := t.noLink(ctx, path); blocktree.KindOf(err) != blocktree.NotFound {
			return nil, err
		}
	}
	made, err := t.door.Make(ctx, path, fs.CreateOptions{SizeBytes: uint64(t.o.SectorBytes), SectorBytes: t.o.SectorBytes, Code: t.o.Code, Mode: mode})
	if blocktree.KindOf(err) == blocktree.Exists && !must {
		return nil, nil // somebody made it just now
	}
	if err != nil && made != (blocktree.FileID{}) {
		err = fs.Undone(ctx, t.door, path, made, err)
	}
	return &made, err
}
