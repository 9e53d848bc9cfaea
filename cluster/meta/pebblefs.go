package meta

import (
	"errors"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// markersLast is the file system that Pebble is given. Pebble makes a manifest, then the marker that names it, and syncs the
// directory once, after both: it trusts the file system to keep the names of one directory in their order. POSIX does not say
// so. Here the directory is synced before a marker is made, so that a crash never leaves a marker without what it names. A
// marker is made a few times in a store's life.
type markersLast struct{ vfs.FS }

func (m markersLast) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(m.PathBase(name), "marker.") {
		dir, err := m.OpenDir(m.PathDir(name))
		if err != nil {
			return nil, err
		}
		err = dir.Sync()
		if closed := dir.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return nil, err
		}
	}
	return m.FS.Create(name, c)
}

// Unwrap returns the file system below.
func (m markersLast) Unwrap() vfs.FS { return m.FS }

// logsWritten is the file system below that: a new log has its blocks, written with zeros, before Pebble writes to it. Pebble gives the file of a log that it needs no more to the next one, since a sync of blocks that were written before changes no metadata of
// the file, and flushes the disk once, not twice (docs/design/0084-one-flush.md). But the first logs of a process have no such file, and are all that there are for hours. Zeros are to Pebble where a log ends.
type logsWritten struct {
	vfs.FS
	bytes  int64
	memory bool // tests only: also of files in memory
}

// logZeroBytes is how much of a log is written: what a memory table takes.
const logZeroBytes = memTableBytes

func (l logsWritten) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.Create(name, c)
	if err != nil || !strings.HasSuffix(name, ".log") || f.Fd() == vfs.InvalidFd && !l.memory {
		return f, err
	}
	zeros := make([]byte, 64<<10)
	for at := int64(0); at < l.bytes && err == nil; at += int64(len(zeros)) {
		_, err = f.WriteAt(zeros, at)
	}
	if noSpace(err) { // then the log grows as it is written, if it can
		return f, nil
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Unwrap returns the file system below.
func (l logsWritten) Unwrap() vfs.FS { return l.FS }
