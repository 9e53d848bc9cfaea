package fs

import (
	"context"
	"math"

	"blocktree"
)

// Kind says what a path names.
type Kind uint8

// The kinds.
const (
	KindFile Kind = iota + 1
	KindDir
	KindLink // a symbolic link
)

// Attributes are what there is to know of a file, directory or symbolic link beside its content. Times are nanoseconds since 1970.
type Attributes struct {
	ID       blocktree.FileID
	Kind     Kind
	Mode     uint32 // permission bits
	UID, GID uint32
	Links    uint32 // names that it has: 1
	// Length is where reading a file as bytes ends; of a symbolic link the length of its target, of a directory 0.
	Length uint64
	// AllocatedBytes are those of the sectors that the length of a file takes. Holes are not taken off: nobody counts them.
	AllocatedBytes uint64
	Modified       int64 // when the content last changed, or what SetTimes said
	Changed        int64 // when anything last changed, by the cluster's clocks
}

// AttributesOf are what a description says.
func AttributesOf(i *Info) Attributes {
	a := Attributes{ID: i.ID, Kind: i.Kind(), Mode: i.Mode, UID: i.UID, GID: i.GID, Links: 1, Length: i.Length, Modified: i.Modified, Changed: i.Changed}
	if a.Kind == KindFile && i.SectorBytes > 0 {
		sector := uint64(i.SectorBytes)
		a.AllocatedBytes = (i.Length + sector - 1) / sector * sector
	}
	return a
}

// Attributes describes what a path names; a symbolic link itself. Kinds: NotFound, Permission, Unavailable.
func (c *Client) Attributes(ctx context.Context, path blocktree.Path) (Attributes, error) {
	i, err := c.Stat(ctx, path)
	if err != nil {
		return Attributes{}, err
	}
	return AttributesOf(&i), nil
}

// TimeNow, said to SetTimes, is the time at which it is done.
const TimeNow int64 = math.MinInt64

// SetTimes sets when something was last modified, as its owner says, or TimeNow, which who may write may say, too. Writes that were made through this service and are not noted yet are not noted
// later. Kinds: NotFound, Permission, Unavailable, Unsupported (a service of a version before).
func (c *Client) SetTimes(ctx context.Context, path blocktree.Path, modified int64) error {
	return ofFile{c, path, blocktree.FileID{}}.SetTimes(ctx, modified)
}

// OfFile is what can be set and asked of one file or directory, whatever its name is by now, or if it has none any more as it was removed while it was open. Kinds are those of the methods of Client with these names; NotFound: it is gone; NewerFormat: a service of a version before, which did nothing.
type OfFile interface {
	SetTimes(ctx context.Context, modified int64) error
	GetXattr(ctx context.Context, name string) ([]byte, error)
	SetXattr(ctx context.Context, name string, value []byte, how SetHow) error
	ListXattr(ctx context.Context) ([]string, error)
	RemoveXattr(ctx context.Context, name string) error
}

// OfFile returns that of a file that is, or was, at a path; it asks nobody.
func (c *Client) OfFile(path blocktree.Path, id blocktree.FileID) OfFile { return ofFile{c, path, id} }

// ofFile implements OfFile; with a zero id it is about what has the path.
type ofFile struct {
	c    *Client
	path blocktree.Path
	id   blocktree.FileID
}

// SetTimes implements OfFile.
func (f ofFile) SetTimes(ctx context.Context, modified int64) error {
	_, err := f.c.attrOnce(ctx, codeSetTimes, &attrRequest{path: f.path, file: f.id, time: modified})
	return failed("set the time of", f.path, err)
}
