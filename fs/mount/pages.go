package mount

import (
	"context"
	"math"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// paged tells what the kernel writes of pages that are dirty by mapping from what programs write: those have a place, also in a file that is open to append.
type paged struct{ fuse.RawFileSystem }

// pagesPid is who writes pages. No process has that number.
const pagesPid = math.MaxUint32

// Write implements fuse.RawFileSystem.
func (p paged) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	mark(in)
	return p.RawFileSystem.Write(cancel, in, data)
}

// Writev implements fuse.RawFileSystem.
func (p paged) Writev(cancel <-chan struct{}, in *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	mark(in)
	return p.RawFileSystem.Writev(cancel, in, data)
}

func mark(in *fuse.WriteIn) {
	if in.WriteFlags&fuse.WRITE_CACHE != 0 {
		in.Pid = pagesPid
	}
}

// ofPages reports whether a write is of pages.
func ofPages(ctx context.Context) bool {
	c, ok := fuse.FromContext(ctx)
	return ok && c.Pid == pagesPid
}
