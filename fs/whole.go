package fs

import (
	"context"
	"errors"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
)

// Files that are made, written and closed by one request: docs/design/0086-filled-directories.md.

// whole is what a request to make a file carries beside that to make an empty one.
type whole struct {
	wrote   int64 // when it was written last; 0: now
	content []byte
}

// namer is an optional ability of a keeper.
type namer interface {
	// NotKept is a directory that is not kept, of a path and identity, for MakeUnnamed in it. Unsupported: that cannot be.
	NotKept(ctx context.Context, dir blocktree.Path, id blocktree.FileID) (keptDir, error)
}

// wholeHere is a file that somebody makes whole: others wait for it, who ask for it in a kept directory, and all who change its name.
type wholeHere struct {
	by    *owner
	path  blocktree.Path
	begun time.Time
	done  chan struct{} // closed when it is known what became of it
}

// begins notes that a file is being made whole; ends is called when it is.
func (t *kept) begins(o *owner, path blocktree.Path) (ends func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := &wholeHere{o, path, time.Now(), make(chan struct{})}
	t.wholes[w] = struct{}{}
	d := t.dirs[path.Parent()]
	if d != nil && d.path != path {
		d.wholes[w] = struct{}{}
	}
	t.counted()
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.wholes, w)
		if d != nil {
			delete(d.wholes, w)
		}
		t.counted()
		close(w.done)
	}
}

// makeWhole makes a file, writes and closes it by one command, after which all of it is there, or nothing. It goes on when nobody waits for it any more, as long as it is not known what became of it: its name is nobody else's meanwhile.
func (s *Service) makeWhole(ctx context.Context, o *owner, r *pathRequest) ([]byte, error) {
	type made struct {
		info  Info
		other *Filling
		err   error
	}
	var m made
	done, held := make(chan made, 1), int64(len(r.whole.content))
	if err := s.hold(o, held); err != nil {
		return nil, err
	}
	ends := s.kept.begins(o, r.path)
	err := s.task(func() {
		defer s.letGo(o, held)
		defer ends()
		ctx, cancel := context.WithTimeout(s.ctx, fileTimeout)
		defer cancel()
		info, other, err := s.wholeOf(ctx, o, r)
		if err == nil && other == nil {
			s.watches.tell(r.path, EventMade)
		}
		done <- made{info, other, err}
	})
	if err != nil {
		ends()
		s.letGo(o, held)
		return nil, err
	}
	select {
	case m = <-done:
	case <-ctx.Done():
		select {
		case m = <-done: // as the service stops
		default:
			return nil, blocktree.E("fs", blocktree.Unavailable, ctx.Err())
		}
	}
	if m.err != nil {
		return nil, m.err
	}
	if m.other != nil {
		return encodeUseOther(m.other), nil
	}
	f := s.goesOn(ctx, o, r.path.Parent())
	return encodeMadeWhole(&m.info, &f), nil
}

// wholeOf makes a whole file of the spare that a request names, if it is the owner's and is there yet. Else nothing is made, and other says so (useOther).
func (s *Service) wholeOf(ctx context.Context, o *owner, r *pathRequest) (info Info, other *Filling, err error) {
	options, spare := r.makes(), s.kept.spareOf(o, r)
	if spare != nil {
		defer spare.Leave()
	}
	if uint64(len(r.whole.content)) > options.SizeBytes { // it would have to grow, for which it needs its name
		return info, nil, errNotWhole
	}
	if err = errSpareGone; spare != nil {
		if info, err = s.wholeKept(ctx, o, r, options, spare); err == errNotWhole {
			info, err = s.wholeNotKept(ctx, o, r, options, spare)
		}
	}
	switch kind := blocktree.KindOf(err); {
	case err == errSpareGone || kind == blocktree.Fenced: // it is gone, with its session or its lease, and there is nothing of it, unless it was done before
		info, other, err = s.useOther(ctx, o, r, options)
	case kind == blocktree.Exists:
		info, err = s.madeBefore(ctx, o, r, err)
	}
	switch blocktree.KindOf(err) {
	case blocktree.Fenced, blocktree.Closed, blocktree.Lost: // another service has a session
		err = &blocktree.Error{Op: "fs", Path: r.path.Short(), Kind: blocktree.Unavailable, Err: err}
	}
	return info, other, err
}

// useOther is for a request whose spare is not to be had: what has its identity was made by an earlier try. Where there is nothing a spare is set aside for the owner, if he knows of that, by which he is to ask again: so he knows each identity under which there may be something before he asks for it (docs/design/0089).
func (s *Service) useOther(ctx context.Context, o *owner, r *pathRequest, options CreateOptions) (info Info, other *Filling, err error) {
	info, err = s.madeBefore(ctx, o, r, errSpareGone)
	if err != errSpareGone {
		return info, nil, err
	}
	n, ok := s.cluster.(namer)
	if !ok || s.cfg.KeepNoNames || !r.only {
		return info, nil, errNotWhole
	}
	dir := r.path.Parent()
	d, err := s.notKept(ctx, o, n, r)
	if err != nil {
		return info, nil, err
	}
	spares, err := s.kept.setAsideOf(ctx, o, d, options, 1, true, true)
	if len(spares) == 0 {
		switch blocktree.KindOf(err) {
		case blocktree.Unavailable, blocktree.Fenced, blocktree.Closed, blocktree.Lost: // there is no session just now: that is no reason to make it with an identity that he does not know
			return info, nil, err
		}
		return info, nil, errNotWhole
	}
	f := s.goesOn(ctx, o, dir)
	f.Spares = append(spares, f.Spares...)
	return info, &f, nil
}

var (
	// errNotWhole says that nothing was done, and that it is to be done otherwise.
	errNotWhole error = blocktree.E("fs", blocktree.Unsupported, errors.New("no file was made ahead for this"))
	// errSpareGone says that nothing was done, as the spare is gone, or not the owner's.
	errSpareGone error = blocktree.E("fs", blocktree.Unsupported, errors.New("the spare is not to be had"))
)

// wholeKept makes a file in a kept directory: nobody is asked. It goes by what that says of the name as any who makes one.
func (s *Service) wholeKept(ctx context.Context, o *owner, r *pathRequest, options CreateOptions, spare aside) (info Info, err error) {
	t, name := &s.kept, r.path.Base()
	if t.idle() || o.anonymous {
		return info, errNotWhole
	}
	t.mu.Lock()
	d := t.giving(o, r.path.Parent())
	t.mu.Unlock()
	if d == nil || d.path == r.path || !t.may(ctx, o, d, Write) {
		return info, errNotWhole
	}
	if err := r.meant(d.ID()); err != nil {
		return info, err
	}
	c, err := t.claim(ctx, false, r.path)
	if err != nil {
		return info, err
	}
	defer func() {
		c.release(func() {
			if err != errNotWhole {
				c.note("", r.path, err)
			}
		})
	}()
	if !t.may(ctx, o, d, Write) || !t.free(c, d, o, name) { // it may have waited for long
		return info, errNotWhole
	}
	return s.wholeIn(ctx, o, d, r, options, spare)
}

// wholeNotKept makes a file in any directory, by the same command, which finds out that the name is free.
func (s *Service) wholeNotKept(ctx context.Context, o *owner, r *pathRequest, options CreateOptions, spare aside) (info Info, err error) {
	n, ok := s.cluster.(namer)
	if !ok || s.cfg.KeepNoNames {
		return info, errNotWhole
	}
	err = s.kept.change(ctx, o, "", r.path, func(ctx context.Context) error {
		d, err := s.notKept(ctx, o, n, r)
		if err == errNotWhole {
			info, err = s.madeBefore(ctx, o, r, err)
			return err
		}
		if err == nil {
			info, err = s.wholeIn(ctx, o, d, r, options, spare)
		}
		return err
	})
	return info, err
}

// notKept is the directory that a request means, for somebody who may write there. errNotWhole: nobody writes bytes, and takes spares from others, for a name that is refused; where it is not he makes it as any.
func (s *Service) notKept(ctx context.Context, o *owner, n namer, r *pathRequest) (keptDir, error) {
	found, err := s.look(ctx, o.caller(), r.path.Parent(), 0)
	if err == nil {
		err = r.meant(found.Inode.ID)
	}
	if err != nil {
		return nil, err
	}
	if !found.Rights.Has(Write) {
		return nil, errNotWhole
	}
	d, err := n.NotKept(ctx, r.path.Parent(), found.Inode.ID)
	if blocktree.KindOf(err) == blocktree.Unsupported {
		err = errNotWhole
	}
	return d, err
}

// meant refuses a directory that is not the one that a request means.
func (r *pathRequest) meant(dir blocktree.FileID) error {
	if r.dir == (blocktree.FileID{}) || r.dir == dir {
		return nil
	}
	return &blocktree.Error{Op: "fs", Path: r.path.Parent().Short(), Kind: blocktree.NotFound, Err: errors.New("another directory has its place")}
}

// meansDir is meant of a directory that is not kept.
func (s *Service) meansDir(ctx context.Context, o *owner, r *pathRequest) error {
	if r.dir == (blocktree.FileID{}) {
		return nil
	}
	found, err := s.look(ctx, o.caller(), r.path.Parent(), 0)
	if err != nil {
		return err
	}
	return r.meant(found.Inode.ID)
}

// wholeIn makes a file of a spare, writes it, and gives it its name, where it ends, and its lease back by one command. errSpareGone: it is gone.
func (s *Service) wholeIn(ctx context.Context, o *owner, d keptDir, r *pathRequest, options CreateOptions, spare aside) (Info, error) {
	w := r.whole
	f, inode, err := d.MakeUnnamed(ctx, o.caller(), r.path, options, spare)
	if blocktree.KindOf(err) == blocktree.Unsupported {
		return Info{}, errSpareGone
	}
	if err != nil {
		return Info{}, err
	}
	if n := uint64(len(w.content)); n > 0 {
		sector := inode.SectorBytes
		sectors := make([]byte, (n+uint64(sector)-1)/uint64(sector)*uint64(sector))
		copy(sectors, w.content)
		if err := f.WriteSectors(ctx, 0, sectors); err != nil {
			_ = f.Close() // there is nothing of it
			return Info{}, err
		}
	}
	wrote := w.wrote
	if wrote == 0 {
		wrote = time.Now().UnixNano()
	}
	if x, ok := f.(interface{ WroteAt(int64) }); ok {
		x.WroteAt(wrote)
	}
	ended := func(int64, error) {}
	if here, ok := d.(*keptHere); ok { // else kept.change has noted it
		ended = s.kept.moves(here)
	}
	err = f.CloseName(ctx, uint64(len(w.content)))
	if ended(f.NamedAt(), err); err != nil {
		return Info{}, err
	}
	if x, ok := f.(interface{ Named() *meta.Inode }); ok { // as the cluster says
		inode = x.Named()
	}
	info := InfoOf(inode)
	info.Length = uint64(len(w.content))
	return info, nil
}

// madeBefore is the file that an earlier try at the same has made, of which no answer came: nothing else was ever asked with its identity. What is there else is Exists; where nothing is, it is refused as before.
func (s *Service) madeBefore(ctx context.Context, o *owner, r *pathRequest, why error) (Info, error) {
	found, err := s.look(ctx, o.caller(), r.path, 0)
	switch kind := blocktree.KindOf(err); {
	case err != nil && (kind == blocktree.NotFound || kind == blocktree.Permission): // what is his he may look at
		return Info{}, why
	case err != nil:
		return Info{}, err
	case r.flags&flagSpare == 0 || found.Inode.ID != r.file:
		return Info{}, &blocktree.Error{Op: "fs", Path: r.path.Short(), Kind: blocktree.Exists, Err: errors.New("it has another identity")}
	}
	return InfoOf(found.Inode), nil
}
