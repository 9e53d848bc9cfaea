package mount

import (
	"context"
	"testing"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
	"blocktree/fs"
)

// fillTerm is for how long a fake lets fill.
const fillTerm = 250 * time.Millisecond

// filler is an able that lets the mount fill the directories that it made there.
type filler struct {
	identified
	filled map[blocktree.Path]bool // until its service dies, or somebody else asks for what is in it
	spares map[blocktree.FileID]bool
	told   blocktree.Inode
	few    int                    // how many spares there are; 0: as many as are asked for
	wholes []error                // what the next answers to MakeWhole are instead of what they should be: what is done is done all the same, unless nothing is to be
	not    bool                   // nothing is, of that of which the answer is missing
	whole  func()                 // what happens before one, without the lock
	makes  func(blocktree.FileID) // likewise, before MakeOpen, which asks for that identity
	behind time.Duration          // how much its clock is behind: what is written by it was not later
	// makesUnheard are the next with such a spare whose answers are lost, with the connection: whether the service has given the file its name.
	makesUnheard []bool
	older        bool          // the service is of a version before
	before       bool          // it is of one that makes with another identity what it does not have the spare of
	far          time.Duration // how long the answer to Fill is on its way
	fills        int
	olderDirs    bool   // likewise, but for MkdirFill alone
	asksOlder    int    // how often one of that version was asked for that
	untold       bool   // it says nothing of a directory that it made
	noTerm       bool   // nor lets fill it by that
	granted      func() // what happens before its answer, without the lock
}

func newFiller() *filler {
	a := newAble()
	a.epochs, a.keeps = true, true
	return &filler{identified: identified{a}, filled: map[blocktree.Path]bool{}, spares: map[blocktree.FileID]bool{}}
}

var _ fs.Filler = (*filler)(nil)

func (c *filler) Mkdir(ctx context.Context, path blocktree.Path, mode uint32) error {
	err := c.identified.Mkdir(ctx, path, mode)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.filled[path] = true
	}
	return err
}

// MkdirFill implements fs.DirFiller.
func (c *filler) MkdirFill(ctx context.Context, path blocktree.Path, mode uint32, _ fs.CreateOptions, spares int) (info fs.Info, got fs.Filling, err error) {
	c.mu.Lock()
	older := c.older || c.olderDirs
	if older {
		c.asksOlder++
	}
	c.mu.Unlock()
	if older {
		return info, got, blocktree.E("fake", blocktree.Unsupported, nil)
	}
	if err = c.Mkdir(ctx, path, mode); err != nil {
		return info, got, err
	}
	c.mu.Lock()
	if !c.untold {
		info = c.files[path].info
	}
	if !c.noTerm {
		got = c.grant(path, spares)
	}
	c.mu.Unlock()
	if c.granted != nil {
		c.granted()
	}
	return info, got, nil
}

var _ fs.DirFiller = (*filler)(nil)

// kill has the service die: the next knows of no spare, and lets fill nothing.
func (c *filler) kill(leases bool) {
	c.forgets()
	c.identified.kill(leases)
}

// forgets has nobody fill anything any more, as another service is asked, or another client has asked.
func (c *filler) forgets() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.filled)
	clear(c.spares)
}

// grant is what goes on in a directory; with the lock.
func (c *filler) grant(dir blocktree.Path, spares int) (got fs.Filling) {
	if !c.filled[dir] {
		return got
	}
	if c.few > 0 {
		spares = min(spares, c.few-len(c.spares))
	}
	for range spares {
		got.Spares = append(got.Spares, c.another())
	}
	got.Term, got.Dir = fillTerm, c.files[dir].info.ID
	return got
}

// another is a spare that is told; with the lock.
func (c *filler) another() blocktree.FileID {
	c.told++
	id := blocktree.FileID{Generation: 1, Inode: 100_000 + c.told}
	c.spares[id] = true
	return id
}

// Fill implements fs.Filler.
func (c *filler) Fill(_ context.Context, dir blocktree.Path, _ fs.CreateOptions, spares int) (got fs.Filling, err error) {
	defer time.Sleep(c.far)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = append(c.log, "fill")
	c.fills++
	if c.down != nil {
		return got, c.down
	}
	if got = c.grant(dir, spares); got.Term == 0 || c.older {
		return got, blocktree.E("fake", blocktree.Unsupported, nil)
	}
	return got, nil
}

// use has the next file have an identity, if that is a spare; with the lock.
func (c *filler) use(id blocktree.FileID) {
	if c.spares[id] {
		delete(c.spares, id)
		c.spare = id
	}
}

// MakeOpen takes a spare.
func (c *filler) MakeOpen(ctx context.Context, path blocktree.Path, o fs.CreateOptions) (fs.File, error) {
	if c.makes != nil {
		c.makes(o.Spare)
	}
	c.mu.Lock()
	own := c.spares[o.Spare]
	if !own && !c.before && o.Spare != (blocktree.FileID{}) && c.down == nil {
		defer c.mu.Unlock()
		c.log = append(c.log, "make")
		return nil, fs.ErrOtherSpare
	}
	c.use(o.Spare)
	c.mu.Unlock()
	f, err := c.identified.MakeOpen(ctx, path, o)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spare = blocktree.FileID{}
	if err != nil || len(c.makesUnheard) == 0 || !own {
		return f, err
	}
	named := c.makesUnheard[0]
	c.makesUnheard = c.makesUnheard[1:]
	for id, x := range c.leases {
		if x.path == path && x.epoch == 1 && x.hidden {
			if delete(c.leases, id); named {
				x.hidden, c.files[path] = false, x.file
			}
			x.gone = blocktree.E("fake", blocktree.Undeliverable, nil)
		}
	}
	return nil, blocktree.E("fake", blocktree.Undeliverable, nil)
}

// MakeWhole implements fs.Filler.
func (c *filler) MakeWhole(_ context.Context, path blocktree.Path, o fs.CreateOptions, w fs.Whole) (info fs.Info, got fs.Filling, err error) {
	if c.whole != nil {
		c.whole()
	}
	err = c.change(func() error {
		c.log = append(c.log, "whole")
		if c.older {
			return blocktree.E("fake", blocktree.Unsupported, nil)
		}
		if d := c.files[path.Parent()]; d != nil && o.Dir != d.info.ID {
			return blocktree.E("fake", blocktree.NotFound, nil)
		}
		if x := c.files[path]; !c.spares[w.Spare] && !c.before && c.files[path.Parent()] != nil {
			switch {
			case x == nil && c.few > 0 && len(c.spares) >= c.few:
				return blocktree.E("fake", blocktree.Unsupported, nil)
			case x == nil:
				got = c.grant(path.Parent(), 0)
				got.Spares = append(got.Spares, c.another())
				return fs.ErrOtherSpare
			case x.info.ID != w.Spare:
				return blocktree.E("fake", blocktree.Exists, nil)
			}
		}
		var answer error
		if len(c.wholes) > 0 {
			if answer, c.wholes = c.wholes[0], c.wholes[1:]; answer != nil && (c.not || !passing(answer)) {
				return answer
			}
		}
		if c.full > 0 && uint64(len(w.Content)) > c.full {
			return blocktree.E("fake", blocktree.NoSpace, nil)
		}
		c.use(w.Spare)
		defer func() { c.spare = blocktree.FileID{} }()
		n := uint64(len(w.Content))
		if x := c.files[path]; x != nil && x.info.ID == w.Spare { // it takes it for an earlier try, of which the answer was lost
			info = x.info
			return nil
		}
		wrote := min(w.Wrote, time.Now().Add(-c.behind).UnixNano())
		if wrote == 0 {
			wrote = time.Now().UnixNano()
		}
		if err := c.add(path, fs.Info{Mode: o.Mode, SizeBytes: max(n, o.SizeBytes), SectorBytes: o.SectorBytes, Encrypted: true, Modified: wrote, Changed: time.Now().UnixNano()}); err != nil {
			return err
		}
		x := c.files[path]
		x.epoch++
		if n > 0 {
			x.wrote = x.epoch
		}
		x.data, x.info.Length = append([]byte(nil), w.Content...), n
		info, got = x.info, c.grant(path.Parent(), 1)
		if answer != nil && c.between != nil {
			c.between()
		}
		return answer
	})
	return info, got, err
}

// newFilled is a service that lets fill, and a directory that was made in it, of which no term was asked for yet.
func newFilled(t *testing.T) (*filler, *node) {
	t.Helper()
	c := newFiller()
	root := grow(c)
	root.tree.o.CloseLater = true
	c.noTerm = true
	d := mkdir(t, root, "d")
	c.noTerm = false
	c.took()
	return c, d
}

// mkdir makes a directory as the kernel does.
func mkdir(t *testing.T, dir *node, name string) *node {
	t.Helper()
	i, e := dir.Mkdir(t.Context(), name, 0o755, &fuse.EntryOut{})
	if e != 0 {
		t.Fatalf("mkdir %s: %v", name, e)
	}
	dir.AddChild(name, i, true)
	i.AddChild("?", i.NewPersistentInode(t.Context(), &gofs.Inode{}, gofs.StableAttr{}), true) // the kernel knows it as long as it is there
	return i.Operations().(*node)
}
