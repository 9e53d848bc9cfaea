package file

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/crypto/keys"
	"blocktree/crypto/seal"
	"blocktree/crypto/tree"
)

// Mover moves old files to the cluster of their directory (docs/design/0041). It needs credentials of user id 0, and, for files that are encrypted, a reader key that opens them.
type Mover struct {
	Client *cluster.Client
	Reader *keys.ReaderKey // nil: files that are not encrypted only
	Pins   Pins            // nil: none
	Roots  Roots           // of old files; nil: none
	// Patience bounds each question to a cluster, and each opening of a file. 0: only its context does.
	Patience time.Duration
	// Tell, unless nil, is told how far it is with a file, by one goroutine at a time. It must not block.
	Tell func(path blocktree.Path, m Moving)
	// Step, unless nil, is asked before each step, which an error ends as the end of the process would. For tests.
	Step func(what string) error

	child      *cluster.Client           // the cluster of the directory
	generation blocktree.Generation      // of that
	begun      map[blocktree.FileID]bool // old files of which there were copies
}

// Moving is how far a move is.
type Moving struct {
	Bytes     uint64 // that were looked at, of SizeBytes; of both passes, so of twice the file
	SizeBytes uint64
	Written   uint64 // that were not in the copy yet
	Verifying bool
	Begun     time.Time
}

// Moved is a file that has moved.
type Moved struct {
	Path     blocktree.Path
	From, To blocktree.FileID
	Moving
	Root tree.Root // of a file of integrity tree: what its newest record has
}

const (
	// moveTriesMax is how often a file is begun anew that is resized or given another key meanwhile.
	moveTriesMax = 3
	// findAtOnce are listed in one question.
	findAtOnce = 256
	// leftPause and leftPatience are for a lease that was given back and whose end its home has not heard of.
	leftPause    = 200 * time.Millisecond
	leftPatience = 2 * blocktree.LeaseTerm
)

// errChanged is why a copy is begun anew.
var errChanged = &blocktree.Error{Op: "move", Kind: blocktree.Busy, Err: errors.New("the file was resized, or got another key, while it was copied"), Hint: "migrate again"}

// errAsked is why a copy is given up: whoever asks is to have the old file, to make it smaller.
var errAsked = &blocktree.Error{Op: "move", Kind: blocktree.Busy, Err: errors.New("somebody asked that the file be made smaller while it was copied"), Hint: "migrate again"}

func (m *Mover) step(what string) error {
	if m.Step == nil {
		return nil
	}
	return m.Step(what)
}

// bound is a context for one question.
func (m *Mover) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if m.Patience == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, m.Patience)
}

// Join finds the cluster that keeps what is in a directory, and returns the directory which that is the cluster of. Invalid where that is the root directory: there is nothing older.
func (m *Mover) Join(ctx context.Context, dir blocktree.Path) (blocktree.Path, error) {
	ctx, cancel := m.bound(ctx)
	defer cancel()
	var err error
	if m.child, err = m.Client.ClusterOf(ctx, dir); err != nil {
		return "", err
	}
	scope := m.child.Scope()
	if scope == blocktree.RootPath(scope.Root()) {
		return scope, &blocktree.Error{Op: "migrate", Path: dir.Short(), Kind: blocktree.Invalid, Err: errors.New("the root directory's cluster keeps it, which has no older files"),
			Hint: "name a directory that has a cluster of its own, or one beneath it"}
	}
	d, _, err := m.Client.Below(ctx, scope)
	if err == nil && d == nil {
		err = &blocktree.Error{Op: "migrate", Path: scope.Short(), Kind: blocktree.Unavailable, Err: errors.New("the cluster above does not say that the directory has one of its own"), Hint: "ask again in a moment"}
	}
	if err != nil {
		return scope, err
	}
	m.generation = d.Generation
	return scope, nil
}

// Old is a file that the cluster of its directory does not keep.
type Old struct {
	Path  blocktree.Path
	Inode meta.Inode // ID alone where its home does not say more: it is gone there
}

// Find calls do with each old file at or below path, in the order of their names, and tell with each directory that has a cluster of its own, which is not gone into.
func (m *Mover) Find(ctx context.Context, path blocktree.Path, do func(Old) error, tell func(blocktree.Path) error) error {
	for after := ""; ; {
		entries, more, err := m.list(ctx, path, after)
		if err != nil {
			return err
		}
		for i := range entries {
			e := &entries[i]
			at := path.Join(e.Name)
			switch {
			case e.Inode.Kind == meta.KindFile && m.IsOld(e.Inode.ID):
				err = do(Old{at, e.Inode})
			case e.Inode.Kind == meta.KindDir && e.Inode.Delegation != nil:
				err = tell(at)
			case e.Inode.Kind == meta.KindDir:
				err = m.Find(ctx, at, do, tell)
			}
			if err != nil {
				return err
			}
			after = e.Name
		}
		if !more || len(entries) == 0 {
			return nil
		}
	}
}

func (m *Mover) list(ctx context.Context, path blocktree.Path, after string) ([]meta.DirEntry, bool, error) {
	ctx, cancel := m.bound(ctx)
	defer cancel()
	return m.child.ListAfter(ctx, path, after, findAtOnce)
}

// Unfinished are the moves at or below dir, in the cluster that was joined.
func (m *Mover) Unfinished(ctx context.Context, dir blocktree.Path) (ms []meta.Move, err error) {
	ctx, cancel := m.bound(ctx)
	defer cancel()
	all, err := m.child.Moves(ctx)
	m.begun = map[blocktree.FileID]bool{}
	for _, x := range all {
		m.begun[x.From] = true
		if x.Path.Within(dir) {
			ms = append(ms, x)
		}
	}
	return ms, err
}

// IsOld says whether a file is not of the cluster that was joined.
func (m *Mover) IsOld(f blocktree.FileID) bool { return f.Generation != m.generation }

// Finished is what became of a move that was begun before; nothing of both is one whose path leads to its old file still, which is moved by Move.
type Finished struct{ Moved, Dropped bool }

// Finish does what is left to do of a move that was begun before: of one that is adopted all; of another only where its path does not lead to its old file any more, and it is dropped.
func (m *Mover) Finish(ctx context.Context, x meta.Move) (done Finished, err error) {
	ctx, cancel := m.bound(ctx)
	defer cancel()
	if x.Adopted {
		err = m.end(ctx, x.From, x.To)
		return Finished{Moved: err == nil}, err
	}
	switch named, err := m.child.Names(ctx, x.Path); {
	case err == nil && named == x.From: // which may be gone from its home: then the copy goes with the entry
		return done, nil
	case err != nil && blocktree.KindOf(err) != blocktree.NotFound && blocktree.KindOf(err) != blocktree.Elsewhere && blocktree.KindOf(err) != blocktree.Invalid:
		return done, err
	}
	err = m.drop(ctx, x.From, x.To)
	return Finished{Dropped: err == nil}, err
}

// Move moves the file that path leads to, and from describes. Kinds beside those of Open: Busy (somebody has it open).
func (m *Mover) Move(ctx context.Context, path blocktree.Path, from *meta.Inode) (moved Moved, err error) {
	for range moveTriesMax {
		if from, err = m.stat(ctx, from.ID); err != nil {
			break
		}
		moved, err = m.try(ctx, path, from)
		if errors.Is(err, errAsked) {
			m.otherSize(ctx, from)
		} else if !errors.Is(err, errChanged) {
			break
		}
	}
	if err != nil {
		err = &blocktree.Error{Op: "move", Path: path.Short(), Err: err}
	}
	return moved, err
}

// otherSize returns when a file that was given up has another size, or whoever asked for that has had time enough.
func (m *Mover) otherSize(ctx context.Context, from *meta.Inode) {
	for begun := time.Now(); time.Since(begun) < leftPatience; {
		if now, err := m.stat(ctx, from.ID); err != nil || now.SizeBytes != from.SizeBytes {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(leftPause):
		}
	}
}

func (m *Mover) stat(ctx context.Context, f blocktree.FileID) (*meta.Inode, error) {
	ctx, cancel := m.bound(ctx)
	defer cancel()
	return m.Client.StatID(ctx, f)
}

// options say how both files are opened.
func (m *Mover) options(i *meta.Inode, wait time.Duration) OpenOptions {
	return OpenOptions{Reader: m.Reader, Plain: seal.Suite(i.Suite) == seal.None, Pins: m.Pins, Logger: m.Client.Logger(), OpenOptions: cluster.OpenOptions{Wait: wait, TouchEvery: -1}}
}

// try is Move of a file as it is described. The order is that of docs/design/0041.
func (m *Mover) try(ctx context.Context, path blocktree.Path, from *meta.Inode) (moved Moved, err error) {
	if seal.Suite(from.Suite) != seal.None && m.Reader == nil { // before anything is made
		return moved, &blocktree.Error{Kind: blocktree.Permission, Err: errors.New("the file is encrypted, and its sectors are bound to where they are"),
			Hint: "whoever reads it moves it: name the reader key with --reader-key, or readerKey in the configuration"}
	}
	to, err := m.begin(ctx, path, from)
	if err != nil {
		return moved, err
	}
	dst, err := m.open(ctx, path, to, "open copy", m.options(to, leftPatience))
	if err != nil {
		return moved, err
	}
	closeCopy := sync.OnceValue(dst.Close)
	defer func() { err = either(err, closeCopy()) }()
	if err = m.stay(ctx, from.ID, to.ID, dst.handle.Epoch()-1); err != nil { // if somebody died who had said that it is left
		return moved, err
	}
	wait := shrinkWait
	if m.begun[from.ID] { // by a run whose leases may not have run out
		wait = leftPatience
	}
	o := m.options(from, wait)
	o.Roots = m.Roots
	src, err := m.open(ctx, path, from, "open old", o)
	if err != nil {
		return moved, err
	}
	closeOld := sync.OnceValue(src.Close)
	defer func() { err = either(err, closeOld()) }()
	moved = Moved{Path: path, From: from.ID, To: to.ID, Moving: Moving{SizeBytes: from.SizeBytes, Begun: time.Now()}}
	if err = m.copy(ctx, path, from, src, dst, &moved); err != nil {
		return moved, err
	}
	if err = m.settle(ctx, path, from, src, dst); err != nil {
		return moved, err
	}
	if err = either(closeOld(), closeCopy()); err != nil {
		return moved, err
	}
	return moved, m.end(ctx, from.ID, to.ID)
}

// begin makes the copy, or finds the one that was begun. One that is another is dropped.
func (m *Mover) begin(ctx context.Context, path blocktree.Path, from *meta.Inode) (*meta.Inode, error) {
	ctx, cancel := m.bound(ctx)
	defer cancel()
	d, err := m.Client.Durability(ctx, from)
	if err != nil {
		return nil, err
	}
	o := meta.BeginMove{From: from.ID}
	o.CreateFile = meta.CreateFile{Path: path, SizeBytes: from.SizeBytes, SectorBytes: from.SectorBytes, Code: from.Code, Suite: from.Suite, KeyID: from.KeyID, Access: from.Access, Time: time.Now().UnixNano()}
	o.Durability = d.Durability
	if from.Integrity == meta.IntegrityTree {
		shape := tree.NewShape(from.SizeBytes / uint64(from.SectorBytes))
		o.TreeBytes = shape.Bytes()
	}
	if err := m.step("begin"); err != nil {
		return nil, err
	}
	to, err := m.child.BeginMove(ctx, o)
	if blocktree.KindOf(err) == blocktree.Exists && to != nil {
		if err = m.drop(ctx, from.ID, to.ID); err == nil {
			to, err = m.child.BeginMove(ctx, o)
		}
	}
	if blocktree.KindOf(err) == blocktree.Invalid {
		err = &blocktree.Error{Err: err, Hint: "the directory's cluster needs as many nodes as the file's code has shards: btnode node add"}
	}
	if err != nil {
		return nil, err
	}
	return m.child.StatID(ctx, to.ID) // with its access record
}

// drop drops a copy, and then has its old file stay: nobody adopts the copy any more.
func (m *Mover) drop(ctx context.Context, from, to blocktree.FileID) error {
	ctx, cancel := m.bound(ctx)
	defer cancel()
	err := m.step("drop")
	if err == nil {
		err = patiently(ctx, func() error { return m.child.DropCopy(ctx, to) })
	}
	if err == nil {
		err = m.Client.Stay(ctx, from, to, 1<<64-1)
	}
	if blocktree.KindOf(err) == blocktree.NotFound {
		return nil
	}
	return err
}

// patiently asks again for what is refused because of a lease, until that must have run out. What is not there is done.
func patiently(ctx context.Context, ask func() error) error {
	for begun := time.Now(); ; {
		err := ask()
		switch blocktree.KindOf(err) {
		case blocktree.NotFound:
			return nil
		case blocktree.Busy:
		default:
			return err
		}
		if time.Since(begun) > leftPatience {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(leftPause):
		}
	}
}

// end removes the old file of a copy that was adopted, and ends the move.
func (m *Mover) end(ctx context.Context, from, to blocktree.FileID) error {
	ctx, cancel := m.bound(ctx)
	defer cancel()
	err := m.step("remove")
	if err == nil {
		err = patiently(ctx, func() error { return m.Client.RemoveLeft(ctx, from, to) })
	}
	if err == nil {
		err = m.step("end")
	}
	if err == nil {
		err = m.child.EndMove(ctx, to)
	}
	return err
}

// stay has an old file stay that is left for a copy, whose lease was held under an epoch or before.
func (m *Mover) stay(ctx context.Context, from, to blocktree.FileID, epoch blocktree.Epoch) error {
	ctx, cancel := m.bound(ctx)
	defer cancel()
	err := m.step("stay")
	if err == nil {
		err = m.Client.Stay(ctx, from, to, epoch)
	}
	return err
}

// unchanged asks the old file's home for what there is of it, and refuses a copy of another size or key.
func (m *Mover) unchanged(ctx context.Context, from blocktree.FileID, dst *File) (*meta.Inode, *meta.Allowed, error) {
	ctx, cancel := m.bound(ctx)
	defer cancel()
	i, a, err := m.Client.AllowedFile(ctx, from)
	if err != nil {
		return nil, nil, err
	}
	if c := dst.handle.Inode(); i.SizeBytes != c.SizeBytes || i.Suite != c.Suite || i.KeyID != c.KeyID || !bytes.Equal(i.Access, c.Access) {
		return nil, nil, errChanged
	}
	return i, a, nil
}

// adopt has the path name the copy.
func (m *Mover) adopt(ctx context.Context, path blocktree.Path, from blocktree.FileID, dst *File) error {
	ctx, cancel := m.bound(ctx)
	defer cancel()
	i, a, err := m.unchanged(ctx, from, dst)
	if err == nil {
		err = m.step("adopt")
	}
	if err == nil {
		err = dst.handle.Adopt(ctx, path, i, a)
	}
	return err
}

func (m *Mover) open(ctx context.Context, path blocktree.Path, i *meta.Inode, step string, o OpenOptions) (*File, error) {
	if err := m.step(step); err != nil {
		return nil, err
	}
	ctx, cancel := m.bound(ctx)
	defer cancel()
	f, err := openInode(ctx, m.Client, path, i, o)
	if err != nil {
		return nil, err
	}
	return f.(*File), nil
}

// moveStep is a step of a move, which has a name for tests.
type moveStep struct {
	what string
	do   func() error
}

func (m *Mover) steps(steps ...moveStep) error {
	for _, s := range steps {
		err := m.step(s.what)
		if err == nil {
			err = s.do()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// copy copies, and compares. It is given up when somebody asks that the old file be made smaller (docs/design/0074).
func (m *Mover) copy(ctx context.Context, path blocktree.Path, from *meta.Inode, src, dst *File, moved *Moved) error {
	if _, _, err := m.unchanged(ctx, from.ID, dst); err != nil {
		return err
	}
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	stop := src.FollowShrink(func(context.Context, uint64) error {
		giveUp(errAsked)
		return errAsked
	})
	err := m.steps(
		moveStep{"copy", func() error { return m.pass(ctx, path, src, dst, &moved.Moving, fill) }},
		moveStep{"flush", func() error { return dst.Flush(ctx) }},
		moveStep{"fold", func() error {
			if dst.guard == nil {
				return nil
			}
			defer func() { moved.Root = dst.guard.state().root() }()
			return dst.guard.foldOnce(ctx, foldTimeout)
		}},
		moveStep{"verify", func() error {
			moved.Verifying = true
			return m.pass(ctx, path, src, dst, &moved.Moving, compare)
		}},
	)
	stop() // what is asked for from now on is asked for too late
	if errors.Is(context.Cause(ctx), errAsked) {
		return errAsked
	}
	return err
}

// settle leaves the old file, and has the copy adopted.
func (m *Mover) settle(ctx context.Context, path blocktree.Path, from *meta.Inode, src, dst *File) error {
	err := m.steps(
		moveStep{"depart", func() error {
			ctx, cancel := m.bound(ctx)
			defer cancel()
			return src.handle.Depart(ctx, dst.handle)
		}},
		moveStep{"attributes", func() error {
			ctx, cancel := m.bound(ctx)
			defer cancel()
			return src.handle.CarryXattrs(ctx, dst.handle)
		}},
	)
	if err != nil {
		return err
	}
	err = m.adopt(ctx, path, from.ID, dst)
	switch blocktree.KindOf(err) {
	case blocktree.NotFound, blocktree.Fenced, blocktree.Invalid, blocktree.Permission, blocktree.Busy:
		if err != nil { // it was not adopted, and will not be
			return either(err, m.stay(ctx, from.ID, dst.info.ID, dst.handle.Epoch()))
		}
	}
	return err
}
