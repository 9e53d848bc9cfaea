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

// logsAhead is the file system below that: whoever writes to a log file writes zeros ahead, so that what comes next lies in blocks that were written before. A sync behind a first write to a block makes metadata of the file durable, too, and flushes the disk
// twice (docs/design/0084-one-flush.md). Pebble gives the file of a log that it needs no more to the next one for that; but the first logs of a process have no such file, and may be all that there are for hours. Zeros are to Pebble where a log ends.
type logsAhead struct {
	vfs.FS
	memory bool // tests only: also of files in memory
}

const (
	// logAheadBytesMax is how far zeros are written ahead, at most. It is no more than what the log has, and at least a piece.
	logAheadBytesMax = 1 << 20
	logPieceBytes    = 64 << 10
)

func (l logsAhead) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.Create(name, c)
	return l.ahead(name, f, 0, err)
}

func (l logsAhead) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := l.FS.ReuseForWrite(from, to, c)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return l.ahead(to, f, info.Size(), nil)
}

// ahead is f, of which so many bytes have been written to; as it is unless it is a log on a disk.
func (l logsAhead) ahead(name string, f vfs.File, written int64, err error) (vfs.File, error) {
	if err != nil || !strings.HasSuffix(name, ".log") || f.Fd() == vfs.InvalidFd && !l.memory {
		return f, err
	}
	return &logAhead{File: f, zeroed: written}, nil
}

// Unwrap returns the file system below.
func (l logsAhead) Unwrap() vfs.FS { return l.FS }

// logAhead is a log that one goroutine of Pebble writes to, from its beginning on.
type logAhead struct {
	vfs.File
	end    int64 // of what Pebble has written
	zeroed int64 // all before it has been written to once
}

// Write implements vfs.File. Where there is no space for zeros there is none ahead.
func (f *logAhead) Write(p []byte) (n int, err error) {
	n, err = f.File.Write(p)
	f.end += int64(n)
	if err != nil || f.end <= f.zeroed {
		return n, err
	}
	f.zeroed = f.end
	to := f.end + min(max(f.end, logPieceBytes), logAheadBytesMax)
	for zeros := make([]byte, logPieceBytes); f.zeroed < to; {
		k, err := f.WriteAt(zeros[:min(to-f.zeroed, logPieceBytes)], f.zeroed)
		if f.zeroed += int64(k); noSpace(err) {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
	return n, nil
}
