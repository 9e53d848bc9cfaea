package files

import (
	iofs "io/fs"
	"time"

	"blocktree/fs"
)

// fileInfo is an fs.Info as io/fs knows them.
type fileInfo struct {
	name string
	info fs.Info
}

func (i fileInfo) Name() string { return i.name }

// Size is the length in bytes, 0 of a directory.
func (i fileInfo) Size() int64        { return int64(i.info.Length) }
func (i fileInfo) ModTime() time.Time { return time.Unix(0, i.info.Modified) }
func (i fileInfo) IsDir() bool        { return i.info.Dir }

// Sys is the fs.Info.
func (i fileInfo) Sys() any { return i.info }

func (i fileInfo) Mode() iofs.FileMode {
	mode := iofs.FileMode(i.info.Mode) & iofs.ModePerm
	if i.info.Dir {
		mode |= iofs.ModeDir
	}
	if i.info.Link {
		mode |= iofs.ModeSymlink
	}
	return mode
}
