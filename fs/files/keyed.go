package files

import (
	"context"

	"blocktree"
	"blocktree/cluster"
	"blocktree/crypto/keys"
	"blocktree/fs"
	"blocktree/internal/file"
)

// keyed is the Door of whoever has a reader key: what that opens is opened here, all else by filesystem services.
type keyed struct {
	*fs.Client
	cluster *cluster.Client
	reader  *keys.ReaderKey
	readers []keys.PublicKey // of new files
}

// Stat implements Door.
func (d *keyed) Stat(ctx context.Context, path blocktree.Path) (fs.Info, error) {
	inode, err := d.cluster.Stat(ctx, path)
	if err != nil {
		return fs.Info{}, err
	}
	return fs.InfoOf(inode), nil
}

// ReadDirAfter implements Door.
func (d *keyed) ReadDirAfter(ctx context.Context, path blocktree.Path, after string, limit int) ([]fs.Entry, bool, error) {
	if limit <= 0 {
		limit = blocktree.ListEntriesMax
	}
	list, more, err := d.cluster.ListAfter(ctx, path, after, limit)
	if err != nil {
		return nil, false, err
	}
	entries := make([]fs.Entry, len(list))
	for i := range list {
		entries[i] = fs.Entry{Name: list[i].Name, Info: fs.InfoOf(&list[i].Inode)}
	}
	return entries, more, nil
}

// Make implements Door.
func (d *keyed) Make(ctx context.Context, path blocktree.Path, o fs.CreateOptions) (blocktree.FileID, error) {
	return file.Make(ctx, d.cluster, path, file.CreateOptions{SizeBytes: o.SizeBytes, SectorBytes: o.SectorBytes, Code: o.Code, Mode: o.Mode, Plain: o.Plain, Readers: d.readers, Durability: o.Durability})
}

// Mkdir implements Door.
func (d *keyed) Mkdir(ctx context.Context, path blocktree.Path, mode uint32) error {
	return d.cluster.MakeDir(ctx, path, mode, false)
}

// Remove implements Door.
func (d *keyed) Remove(ctx context.Context, path blocktree.Path) error {
	return d.cluster.Remove(ctx, path)
}

// RemoveFile implements Door.
func (d *keyed) RemoveFile(ctx context.Context, path blocktree.Path, id blocktree.FileID) error {
	return d.cluster.RemoveFile(ctx, path, id)
}

// Rename implements Door.
func (d *keyed) Rename(ctx context.Context, from, to blocktree.Path, keep bool) error {
	return file.Rename(ctx, d.cluster, from, to, file.RenameOptions{Keep: keep, Reader: d.reader})
}

// Resize implements Door.
func (d *keyed) Resize(ctx context.Context, path blocktree.Path, bytes uint64) error {
	_, _, err := file.Resize(ctx, d.cluster, path, cluster.ResizeOptions{Shrink: true, Bytes: func(uint64) (uint64, error) { return bytes, nil }}, file.OpenOptions{Reader: d.reader, NoTree: true})
	return err
}

// SetLength implements Door.
func (d *keyed) SetLength(ctx context.Context, path blocktree.Path, bytes uint64) error {
	return d.cluster.SetLength(ctx, path, bytes)
}

// SetTimes implements Door.
func (d *keyed) SetTimes(ctx context.Context, path blocktree.Path, modified int64) error {
	return d.cluster.SetTimes(ctx, path, blocktree.FileID{}, modified == fs.TimeNow, modified)
}

// Symlink implements Door.
func (d *keyed) Symlink(ctx context.Context, path blocktree.Path, target string) error {
	return d.cluster.Symlink(ctx, path, target)
}

// ReadLink implements Door.
func (d *keyed) ReadLink(ctx context.Context, path blocktree.Path) (string, error) {
	return fs.TargetOf(ctx, d.cluster, path)
}

// Open implements Door.
func (d *keyed) Open(ctx context.Context, path blocktree.Path, o fs.OpenOptions) (fs.File, error) {
	f, err := fs.OpenLocal(ctx, d.cluster, path, fs.Local{Reader: d.reader}, o)
	switch blocktree.KindOf(err) {
	case blocktree.Permission, blocktree.Unsupported: // another key opens it, or it is of integrity tree, whose roots a service keeps
		byService, errService := d.Client.Open(ctx, path, o)
		if errService == nil || !fs.NoService(errService) {
			return byService, errService
		}
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Close implements Door.
func (d *keyed) Close() error { return services{d.Client, d.cluster}.Close() }
