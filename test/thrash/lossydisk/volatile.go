package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// blockBytes is remembered as a whole, tearBytes is what is old or new as a whole: a sector of a disk.
	blockBytes = 4096
	tearBytes  = 512

	// nameAge is when a change of names is safe by itself, as with the commit interval of ext4.
	nameAge = 5 * time.Second
)

// disk is what may be lost. Every operation holds op for reading while it changes something; cut holds it for writing.
type disk struct {
	data    string // the directory that is shown
	removed string // where removed files stay until that is safe

	failSync atomic.Bool
	slow     atomic.Int64 // nanoseconds

	keeps    bool         // nothing is remembered: a drive to measure with
	drive    sync.Mutex   // held by its fsync
	unsynced atomic.Bool  // something was written since the last fsync began
	flushes  atomic.Int64 // fsyncs of files
	idle     atomic.Int64 // of those, with nothing to write
	flushing atomic.Int64 // nanoseconds of the others

	op   sync.RWMutex
	dead bool // no power: everything is EIO

	mu    sync.Mutex
	files map[uint64]*file // open or dirty, by inode number below
	names []change
	spare int // numbers the files in removed
}

// file is one file below. Its lock also orders its writes.
type file struct {
	ino  uint64
	refs int // open handles; under disk.mu

	mu     sync.Mutex
	dirty  bool
	own    *os.File         // while dirty
	size   int64            // that is safe, while dirty
	blocks map[int64][]byte // what is safe of each block that was changed since
	failed bool             // an fsync has failed
}

// change is a change of names that is not safe yet.
type change struct {
	at    time.Time
	kind  changeKind
	path  string
	to    string // rename
	saved string // where what was removed or replaced is
}

type changeKind int

const (
	created changeKind = iota
	madeDir
	removedFile
	removedDir
	renamed
)

// newDisk prepares both directories. What is there is safe.
func newDisk(data, removed string) (*disk, error) {
	for _, dir := range []string{data, removed} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	return &disk{data: data, removed: removed, files: map[uint64]*file{}}, nil
}

// take returns the file of an inode, referenced; drop gives it back.
func (d *disk) take(ino uint64) *file {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[ino]
	if f == nil {
		f = &file{ino: ino}
		d.files[ino] = f
	}
	f.refs++
	return f
}

func (d *disk) drop(f *file) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.refs--; f.refs == 0 && !f.dirty {
		delete(d.files, f.ino)
	}
}

// touch remembers what is safe of the range before it is changed. f.mu is held; fd is any open handle of the file.
func (f *file) touch(fd *os.File, from, to int64) error {
	if !f.dirty {
		info, err := fd.Stat()
		if err != nil {
			return err
		}
		own, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd.Fd()), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		f.dirty, f.own, f.size, f.blocks = true, own, info.Size(), map[int64][]byte{}
	}
	for b := from / blockBytes; b*blockBytes < to; b++ {
		if _, ok := f.blocks[b]; ok {
			continue
		}
		old := make([]byte, blockBytes) // zeros beyond the end
		if n := min(f.size-b*blockBytes, blockBytes); n > 0 {
			if _, err := f.own.ReadAt(old[:n], b*blockBytes); err != nil {
				return err
			}
		}
		f.blocks[b] = old
	}
	return nil
}

// sync makes everything safe that was written. f.mu is held.
func (f *file) sync() {
	if !f.dirty || f.failed {
		return
	}
	f.own.Close() // nothing was written through it
	f.dirty, f.own, f.blocks = false, nil, nil
}

// restore makes of a dirty file what a loss of power may leave of it.
func (f *file) restore(r *rand.Rand) error {
	now, err := f.own.Stat()
	if err != nil {
		return err
	}
	mode := r.IntN(4)
	if f.failed {
		mode = 0
	}
	size := now.Size()
	if mode == 0 || mode > 1 && r.IntN(2) == 0 {
		size = f.size
	}
	blocks := make([]int64, 0, len(f.blocks))
	for b := range f.blocks {
		blocks = append(blocks, b)
	}
	slices.Sort(blocks)
	for _, b := range blocks {
		wholly := r.IntN(2) == 0
		for at := 0; at < blockBytes; at += tearBytes {
			old := mode == 0 || mode == 2 && wholly || mode == 3 && r.IntN(2) == 0
			if !old {
				continue
			}
			if _, err := f.own.WriteAt(f.blocks[b][at:at+tearBytes], b*blockBytes+int64(at)); err != nil {
				return err
			}
		}
	}
	return f.own.Truncate(size)
}

// cut is the loss of power.
func (d *disk) cut(seed uint64) (string, error) {
	d.op.Lock()
	defer d.op.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
	r := rand.New(rand.NewPCG(seed, 2))
	var inodes []uint64
	for ino, f := range d.files {
		if f.dirty {
			inodes = append(inodes, ino)
		}
	}
	slices.Sort(inodes)
	blocks := 0
	for _, ino := range inodes {
		f := d.files[ino]
		blocks += len(f.blocks)
		if err := f.restore(r); err != nil {
			return "", err
		}
		f.failed = false
		f.sync()
	}
	keep := 0
	if len(d.names) > 0 {
		keep = min(len(d.names), r.IntN(2*len(d.names)+1)) // all of them in half of all cases
	}
	lost := len(d.names) - keep
	for i := len(d.names) - 1; i >= keep; i-- {
		if err := d.names[i].takeBack(); err != nil {
			return "", err
		}
	}
	d.names = d.names[:keep]
	d.commit(keep)
	return fmt.Sprintf("cut: %d files had %d unsynced blocks, %d changes of names kept and %d lost", len(inodes), blocks, keep, lost), nil
}

// takeBack undoes a change; all later ones were undone before.
func (c *change) takeBack() error {
	switch c.kind {
	case created:
		return syscall.Unlink(c.path)
	case madeDir:
		return syscall.Rmdir(c.path)
	case removedFile:
		return syscall.Rename(c.saved, c.path)
	case removedDir:
		return syscall.Mkdir(c.path, 0o700)
	}
	if err := syscall.Rename(c.to, c.path); err != nil || c.saved == "" {
		return err
	}
	return syscall.Rename(c.saved, c.to)
}

// change makes a change of names and remembers it. old is a file that the change removes, "" if there is none.
func (d *disk) change(c change, old string, apply func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if old != "" {
		d.spare++
		c.saved = filepath.Join(d.removed, fmt.Sprint(d.spare))
		if err := syscall.Rename(old, c.saved); err != nil {
			return err
		}
	}
	if err := apply(); err != nil {
		if old != "" {
			return fmt.Errorf("%w, and back: %w", err, syscall.Rename(c.saved, old))
		}
		return err
	}
	c.at = time.Now()
	d.names = append(d.names, c)
	if d.keeps {
		d.commit(len(d.names))
	}
	return nil
}

// flush is an fsync of a drive that keeps what was written.
func (d *disk) flush() {
	d.drive.Lock()
	defer d.drive.Unlock()
	d.flushes.Add(1)
	if !d.unsynced.Swap(false) {
		d.idle.Add(1)
		return
	}
	began := time.Now()
	d.pause()
	d.flushing.Add(int64(time.Since(began)))
}

// pause takes as long as an fsync is to take longer. The runtime's timers may be late by a millisecond, the kernel's are not.
func (d *disk) pause() {
	var now unix.Timespec
	slow := d.slow.Load()
	if slow == 0 || unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return
	}
	until := unix.NsecToTimespec(now.Nano() + slow)
	for unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &until, nil) == unix.EINTR {
	}
}

// commit makes the first n changes safe. d.mu is held.
func (d *disk) commit(n int) {
	for _, c := range d.names[:n] {
		if c.saved != "" {
			_ = os.Remove(c.saved) // what stays behind is space only
		}
	}
	d.names = slices.Delete(d.names, 0, n)
}

// commitAll makes all names safe.
func (d *disk) commitAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.commit(len(d.names))
}

// age commits what is old enough, until stop is closed.
func (d *disk) age(stop <-chan struct{}) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
		}
		d.op.RLock()
		d.mu.Lock()
		n := 0
		for n < len(d.names) && time.Since(d.names[n].at) > nameAge {
			n++
		}
		d.commit(n)
		d.mu.Unlock()
		d.op.RUnlock()
	}
}
