package files

import (
	"io"
	iofs "io/fs"

	"blocktree"
	"blocktree/fs"
)

// listing is how far a directory was read by ReadDir of a File.
type listing struct {
	after   string
	entries []iofs.DirEntry // that were told of, and not returned
	ended   bool
}

// ReadDir implements io/fs.ReadDirFile: the next n entries, all that are left where n is not above 0.
func (f *File) ReadDir(n int) (all []iofs.DirEntry, err error) {
	f.posMu.Lock()
	defer f.posMu.Unlock()
	f.mu.RLock()
	defer f.mu.RUnlock()
	if err := f.usable("readdir"); err != nil {
		return nil, err
	}
	if !f.info.Dir {
		return nil, refused("readdir", f.name, blocktree.Invalid, "it is a file", "name a directory")
	}
	l := &f.list
	for n <= 0 || len(all) < n {
		if len(l.entries) == 0 {
			if l.ended {
				break
			}
			if err := f.next(); err != nil {
				return all, failed("readdir", f.name, err)
			}
			continue
		}
		take := len(l.entries)
		if n > 0 {
			take = min(take, n-len(all))
		}
		all, l.entries = append(all, l.entries[:take]...), l.entries[take:]
	}
	if n > 0 && len(all) == 0 {
		return nil, io.EOF
	}
	return all, nil
}

// next asks for the next entries.
func (f *File) next() error {
	l := &f.list
	entries, more, err := f.tree.door.ReadDirAfter(f.ctx, f.path, l.after, 0)
	if err != nil {
		return err
	}
	for _, e := range entries {
		l.entries, l.after = append(l.entries, entry(e)), e.Name
	}
	l.ended = !more
	return nil
}

func entry(e fs.Entry) iofs.DirEntry { return iofs.FileInfoToDirEntry(fileInfo{e.Name, e.Info}) }
