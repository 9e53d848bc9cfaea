package meta

import (
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
