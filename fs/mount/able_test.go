package mount

import (
	"context"
	"maps"
	"slices"

	"blocktree"
	"blocktree/fs"
)

// able is a fake that can do what services of now can.
type able struct {
	*fake
	xattrs map[blocktree.FileID]map[string]string
	client int
	looks  int // how often links and attributes were asked for
}

func newAble() *able {
	a := &able{fake: newFake(), xattrs: map[blocktree.FileID]map[string]string{}}
	a.grows, a.hides = true, true
	return a
}

// fakeNow is what the fake's clock says.
const fakeNow = 1_700_000_000_000_000_001

func (a *able) SetTimes(_ context.Context, path blocktree.Path, modified int64) error {
	return a.change(func() error {
		f, err := a.find(path)
		if err != nil {
			return err
		}
		if f.info.Modified = modified; modified == fs.TimeNow {
			f.info.Modified = fakeNow
		}
		return nil
	})
}

func (a *able) Symlink(_ context.Context, path blocktree.Path, target string) error {
	return a.change(func() error {
		err := a.add(path, fs.Info{Link: true, Mode: 0o777, Length: uint64(len(target))})
		if err == nil {
			a.files[path].data = []byte(target)
		}
		return err
	})
}

// look is asked before anything is told.
func (a *able) look(path blocktree.Path) (*fakeFile, error) {
	a.looks++
	return a.find(path)
}

func (a *able) ReadLink(_ context.Context, path blocktree.Path) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f, err := a.look(path)
	if err != nil {
		return "", err
	}
	if !f.info.Link {
		return "", blocktree.E("fake", blocktree.Invalid, nil)
	}
	return string(f.data), nil
}

func (a *able) GetXattr(_ context.Context, path blocktree.Path, name string) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f, err := a.look(path)
	if err != nil {
		return nil, err
	}
	v, ok := a.xattrs[f.info.ID][name]
	if !ok {
		return nil, blocktree.E("fake", blocktree.NotFound, nil)
	}
	return []byte(v), nil
}

func (a *able) ListXattr(_ context.Context, path blocktree.Path) ([]string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f, err := a.look(path)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(a.xattrs[f.info.ID])), nil
}

func (a *able) SetXattr(_ context.Context, path blocktree.Path, name string, value []byte, how fs.SetHow) error {
	return a.change(func() error {
		f, err := a.look(path)
		if err != nil {
			return err
		}
		all := a.xattrs[f.info.ID]
		switch _, ok := all[name]; {
		case ok && how == fs.SetCreate:
			return blocktree.E("fake", blocktree.Exists, nil)
		case !ok && how == fs.SetReplace:
			return blocktree.E("fake", blocktree.NotFound, nil)
		case all == nil:
			all = map[string]string{}
			a.xattrs[f.info.ID] = all
		}
		all[name] = string(value)
		return nil
	})
}

func (a *able) RemoveXattr(_ context.Context, path blocktree.Path, name string) error {
	return a.change(func() error {
		f, err := a.look(path)
		if err != nil {
			return err
		}
		if _, ok := a.xattrs[f.info.ID][name]; !ok {
			return blocktree.E("fake", blocktree.NotFound, nil)
		}
		delete(a.xattrs[f.info.ID], name)
		return nil
	})
}

// identified is an able that knows files by their identity, too, those that it keeps as well.
type identified struct{ *able }

func (a identified) OfFile(path blocktree.Path, id blocktree.FileID) fs.OfFile {
	return identity{a.able, path, id}
}

// identity implements fs.OfFile.
type identity struct {
	*able
	path blocktree.Path
	id   blocktree.FileID
}

// by does something by a path at which the file is for as long as that takes.
func (f identity) by(do func(path blocktree.Path) error) error {
	f.mu.Lock()
	path := f.able.path(f.id)
	if w := f.leases[f.id]; path == "" && w != nil {
		path = testRoot.Join("kept")
		f.files[path] = w.file
		defer func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			delete(f.files, path)
		}()
	}
	f.mu.Unlock()
	if path == "" {
		return blocktree.E("fake", blocktree.NotFound, nil)
	}
	return do(path)
}

// path is where a file is, with the lock; nowhere: empty.
func (a *able) path(id blocktree.FileID) blocktree.Path {
	for p, f := range a.files {
		if f.info.ID == id {
			return p
		}
	}
	return ""
}

func (f identity) SetTimes(ctx context.Context, modified int64) error {
	return f.by(func(p blocktree.Path) error { return f.able.SetTimes(ctx, p, modified) })
}

func (f identity) GetXattr(ctx context.Context, name string) (v []byte, err error) {
	err = f.by(func(p blocktree.Path) (err error) { v, err = f.able.GetXattr(ctx, p, name); return err })
	return v, err
}

func (f identity) ListXattr(ctx context.Context) (names []string, err error) {
	err = f.by(func(p blocktree.Path) (err error) { names, err = f.able.ListXattr(ctx, p); return err })
	return names, err
}

func (f identity) SetXattr(ctx context.Context, name string, value []byte, how fs.SetHow) error {
	return f.by(func(p blocktree.Path) error { return f.able.SetXattr(ctx, p, name, value, how) })
}

func (f identity) RemoveXattr(ctx context.Context, name string) error {
	return f.by(func(p blocktree.Path) error { return f.able.RemoveXattr(ctx, p, name) })
}
