package main

import (
	"context"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/fs"
)

// info describes what is at a path: as the metadata say it to these credentials, or a filesystem service to nobody in particular.
func (d *door) info(ctx context.Context, path blocktree.Path) (fs.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	if d.anonymous {
		return d.service.Stat(ctx, path)
	}
	inode, err := d.cluster.Stat(ctx, path)
	if err != nil {
		return fs.Info{}, err
	}
	return fs.InfoOf(inode), nil
}

// each implements listed: some entries at a time.
func (d *door) each(ctx context.Context, dir blocktree.Path, do func(fs.Entry) error) error {
	for after, more := "", true; more; {
		var entries []fs.Entry
		var err error
		if entries, more, err = d.page(ctx, dir, after); err != nil {
			return err
		}
		for _, e := range entries {
			if err := do(e); err != nil {
				return err
			}
			after = e.Name
		}
		more = more && len(entries) > 0
	}
	return nil
}

// page returns the next entries of a directory, and whether there are more.
func (d *door) page(ctx context.Context, dir blocktree.Path, after string) (entries []fs.Entry, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	if d.anonymous {
		return d.service.ReadDirAfter(ctx, dir, after, 0)
	}
	var list []meta.DirEntry
	if list, more, err = d.cluster.ListAfter(ctx, dir, after, blocktree.ListEntriesMax); err != nil {
		return nil, false, err
	}
	for i := range list {
		entries = append(entries, fs.Entry{Name: list[i].Name, Info: fs.InfoOf(&list[i].Inode)})
	}
	return entries, more, nil
}
