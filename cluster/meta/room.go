package meta

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"blocktree"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A disk that somebody else has filled must not end a node (docs/design/0007): Pebble takes a write that finds no space for the end of
// the store. So it never meets one. Room is kept beside the store, in files that have space and no content; a write that finds none
// takes one of these away and goes on, and when they are used up it waits. Others may be faster to take what was given up: it is a
// reserve, no promise. Made up again when there is space.
const (
	// RoomBytes is how much a node keeps: log and state of a group go on for hours in that, as Pebble uses the files of its log again.
	RoomBytes = 32 << 20

	roomFileBytes = 4 << 20 // one file of the room: what Pebble wants for a log file
	roomDir       = "room"
	// roomSpare is how much must be free besides before room is made up: the sectors need some, too.
	roomSpare  = 64 << 20
	roomRefill = 10 * time.Second
	roomRetry  = 250 * time.Millisecond
	// roomToldEvery is how often the log says that the metadata wait for space.
	roomToldEvery = 30 * time.Second
)

// room is the room of one store.
type room struct {
	fs   vfs.FS // below
	dir  string
	log  *slog.Logger
	fail *failure // of the store
	want int      // files
	stop chan struct{}
	done chan struct{}

	mu     sync.Mutex
	files  []string
	made   int // names that were given
	told   time.Time
	closed bool
}

// openRoom finds what room there is and makes up what is missing, as far as there is space. A full disk on which there is no room yet is
// no error.
func openRoom(cfg *Config, fail *failure) (*room, error) {
	r := &room{fs: cfg.FS, dir: cfg.FS.PathJoin(cfg.Dir, roomDir), log: cfg.Logger, fail: fail, want: int(cfg.RoomBytes / roomFileBytes),
		stop: make(chan struct{}), done: make(chan struct{})}
	err := cfg.FS.MkdirAll(r.dir, 0o700)
	var names []string
	if err == nil {
		names, err = cfg.FS.List(r.dir)
	}
	if err != nil && !noSpace(err) {
		return nil, &blocktree.Error{Op: "meta.Open", Path: r.dir, Kind: blocktree.KindOf(err), Err: err,
			Hint: "the node needs a directory that it may write to, on a disk with some space"}
	}
	for _, n := range names {
		if !strings.HasPrefix(n, roomDir) {
			continue
		}
		name := cfg.FS.PathJoin(r.dir, n)
		if err := r.allocated(name); err != nil {
			_ = r.fs.Remove(name) // best effort: it is looked at again at the next start
			continue
		}
		r.files = append(r.files, name)
	}
	r.makeUp()
	go r.keep()
	return r, nil
}

// close ends what waits for space: the store has failed. There may be no room.
func (r *room) close() {
	if r == nil {
		return
	}
	r.mu.Lock()
	if !r.closed {
		r.closed = true
		close(r.stop)
	}
	r.mu.Unlock()
	<-r.done
}

// keep makes up the room whenever there is space.
func (r *room) keep() {
	defer close(r.done)
	t := time.NewTicker(roomRefill)
	defer t.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-t.C:
			r.makeUp()
		}
	}
}

// makeUp makes what is missing while there is much more space than that.
func (r *room) makeUp() {
	for {
		r.mu.Lock()
		missing := r.want - len(r.files)
		r.mu.Unlock()
		if missing <= 0 {
			return
		}
		err := r.fs.MkdirAll(r.dir, 0o700)
		var use vfs.DiskUsage
		if err == nil {
			use, err = r.fs.GetDiskUsage(r.dir)
		}
		if err != nil || use.AvailBytes < roomSpare+uint64(missing)*roomFileBytes {
			return
		}
		r.mu.Lock()
		r.made++
		name := r.fs.PathJoin(r.dir, fmt.Sprintf("%s-%d-%d", roomDir, time.Now().UnixNano(), r.made))
		r.mu.Unlock()
		if err := r.makeFile(name); err != nil {
			if !noSpace(err) {
				r.log.Warn("no room is kept for metadata", "err", err)
			}
			_ = r.fs.Remove(name) // what there is of it
			return
		}
		r.mu.Lock()
		r.files = append(r.files, name)
		r.mu.Unlock()
	}
}

// allocated has a file that was found have its space: a crash may have left the name of one alone.
func (r *room) allocated(name string) error {
	f, err := r.fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	err = f.Preallocate(0, roomFileBytes)
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) {
		var info vfs.FileInfo
		if info, err = f.Stat(); err == nil && info.Size() < roomFileBytes {
			err = io.ErrUnexpectedEOF
		}
	}
	if err == nil {
		err = r.sync(f)
	}
	return errors.Join(err, f.Close())
}

// makeFile makes a file that has space. A file system that allocates nothing ahead is written to.
func (r *room) makeFile(name string) error {
	f, err := r.fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	err = f.Preallocate(0, roomFileBytes)
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) {
		zeros := make([]byte, 64<<10)
		err = nil
		for n := 0; n < roomFileBytes && err == nil; n += len(zeros) {
			_, err = f.Write(zeros)
		}
	}
	if err == nil {
		err = r.sync(f)
	}
	return errors.Join(err, f.Close())
}

// sync makes a file of the room durable. One that fails ends the store, though there is nothing in the file: a disk that fails one sync is not
// asked for another.
func (r *room) sync(f vfs.File) error {
	err := f.Sync()
	if err != nil && !noSpace(err) {
		r.fail.set(fmt.Errorf("sync of the room for metadata: %w", err))
	}
	return err
}

// more reports whether what failed with err should be tried again: there is more space, or there may be by now. It blocks while there
// is none. Once the room is closed the store has failed, and it does not return: given the error, Pebble would write its tables
// again and again, or unlock what it has not locked and end the process. What stands still here does so until that ends.
func (r *room) more(err error) bool {
	if !noSpace(err) {
		return false
	}
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		r.fail.set(err)
		select {}
	}
	if n := len(r.files); n > 0 {
		name := r.files[n-1]
		r.files = r.files[:n-1]
		r.mu.Unlock()
		r.log.Warn("the disk is full: metadata take from the room that is kept for them", "leftBytes", (n-1)*roomFileBytes)
		if r.fs.Remove(name) != nil {
			r.wait()
		}
		return true
	}
	if now := time.Now(); now.Sub(r.told) >= roomToldEvery {
		r.told = now
		r.log.Error("the disk is full: metadata wait for space", "dir", r.dir, "hint", "free space on the disk; the node goes on by itself")
	}
	r.mu.Unlock()
	r.wait()
	return true
}

// wait lets a moment pass, unless the room is closed.
func (r *room) wait() {
	select {
	case <-r.stop:
	case <-time.After(roomRetry):
	}
}

func noSpace(err error) bool { return vfs.IsNoSpaceError(err) || errors.Is(err, syscall.EDQUOT) }

// roomFS is the file system that Pebble is given. Whatever needs space and finds none is tried until it does. Syncs are not: what a
// failed one has lost, no second one brings back.
type roomFS struct {
	vfs.FS
	room *room
}

// again tries until there is space.
func again[T any](r *room, try func() (T, error)) (T, error) {
	for {
		v, err := try()
		if err == nil || !r.more(err) {
			return v, err
		}
	}
}

func (f roomFS) file(open func() (vfs.File, error)) (vfs.File, error) {
	x, err := again(f.room, open)
	if err != nil {
		return nil, err
	}
	return &roomFile{x, f.room}, nil
}

func (f roomFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.FS.Create(name, c) })
}

func (f roomFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.FS.OpenReadWrite(name, c, o...) })
}

func (f roomFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.FS.ReuseForWrite(from, to, c) })
}

func (f roomFS) MkdirAll(dir string, mode os.FileMode) error {
	_, err := again(f.room, func() (struct{}, error) { return struct{}{}, f.FS.MkdirAll(dir, mode) })
	return err
}

// Lock makes the lock's file, in a store that is new.
func (f roomFS) Lock(name string) (io.Closer, error) {
	return again(f.room, func() (io.Closer, error) { return f.FS.Lock(name) })
}

func (f roomFS) Link(from, to string) error {
	_, err := again(f.room, func() (struct{}, error) { return struct{}{}, f.FS.Link(from, to) })
	return err
}

func (f roomFS) Rename(from, to string) error {
	_, err := again(f.room, func() (struct{}, error) { return struct{}{}, f.FS.Rename(from, to) })
	return err
}

// Unwrap returns the file system below.
func (f roomFS) Unwrap() vfs.FS { return f.FS }

type roomFile struct {
	vfs.File
	room *room
}

func (f *roomFile) Write(p []byte) (n int, err error) {
	_, err = again(f.room, func() (struct{}, error) {
		k, err := f.File.Write(p[n:])
		n += k
		return struct{}{}, err
	})
	return n, err
}

func (f *roomFile) WriteAt(p []byte, off int64) (n int, err error) {
	_, err = again(f.room, func() (struct{}, error) {
		k, err := f.File.WriteAt(p[n:], off+int64(n))
		n += k
		return struct{}{}, err
	})
	return n, err
}
