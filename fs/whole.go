package fs

import (
	"context"
	"errors"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/crypto/cred"
)

// Files that are made, written and closed by one request: docs/design/0086-filled-directories.md.

// whole is what a request to make a file carries beside that to make an empty one.
type whole struct {
	wrote   int64 // when it was written last; 0: now
	content []byte
}

// namer is an optional ability of a keeper.
type namer interface {
	// NotKept is a directory that is not kept, for MakeUnnamed in it. Unsupported: that cannot be.
	NotKept(ctx context.Context, caller cred.Identity, dir blocktree.Path) (keptDir, error)
}

// wholeHere is a file that somebody makes whole in a kept directory: others wait for it, who ask for it.
type wholeHere struct {
	by   *owner
	name string
	done chan struct{} // closed then
}

// begins notes that a file is being made whole; ends is called when it is.
func (t *kept) begins(o *owner, path blocktree.Path) (ends func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.dirs[path.Parent()]
	if d == nil || d.path == path {
		return func() {}
	}
	w := &wholeHere{o, path.Base(), make(chan struct{})}
	d.wholes[w] = struct{}{}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(d.wholes, w)
		close(w.done)
	}
}

// makeWhole makes a file, writes and closes it. Where the cluster makes files ahead that is one command, after which all of it is there, or nothing; else one after the other, and what could not be finished is removed again.
func (s *Service) makeWhole(ctx context.Context, o *owner, r *pathRequest) ([]byte, error) {
	defer s.kept.begins(o, r.path)()
	options, spare := r.makes(), s.kept.spareOf(o, r)
	if spare != nil {
		defer spare.Leave()
	}
	info, err := s.wholeKept(ctx, o, r, options, spare)
	if err == errNotWhole {
		info, err = s.wholeNotKept(ctx, o, r, options, spare)
	}
	if err == errNotWhole {
		info, err = s.wholeByParts(ctx, o, r)
	}
	if blocktree.KindOf(err) == blocktree.Exists && r.flags&flagSpare != 0 {
		info, err = s.madeBefore(ctx, o, r, err)
	}
	if err != nil {
		return nil, err
	}
	f := s.goesOn(ctx, o, r.path.Parent())
	return encodeMadeWhole(&info, &f), nil
}

// errNotWhole says that nothing was done, and that it is to be done otherwise.
var errNotWhole error = blocktree.E("fs", blocktree.Unsupported, errors.New("no file was made ahead for this"))

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
	if info, err = s.wholeIn(ctx, o, d, r, options, spare); err == errNotWhole { // there are no spares
		t.unsure(r.path)
	}
	return info, err
}

// wholeNotKept makes a file in any directory, by the same command, which finds out that the name is free.
func (s *Service) wholeNotKept(ctx context.Context, o *owner, r *pathRequest, options CreateOptions, spare aside) (info Info, err error) {
	n, ok := s.cluster.(namer)
	if !ok || s.cfg.KeepNoNames {
		return info, errNotWhole
	}
	err = s.kept.change(ctx, o, "", r.path, func(ctx context.Context) error {
		d, err := n.NotKept(ctx, o.caller(), r.path.Parent())
		if blocktree.KindOf(err) == blocktree.Unsupported {
			return errNotWhole
		}
		if err == nil {
			info, err = s.wholeIn(ctx, o, d, r, options, spare)
		}
		return err
	})
	return info, err
}

// wholeIn makes a file of a spare, of any if that is nil or gone, writes it, and gives it its name, where it ends, and its lease back by one command.
func (s *Service) wholeIn(ctx context.Context, o *owner, d keptDir, r *pathRequest, options CreateOptions, spare aside) (Info, error) {
	w := r.whole
	if uint64(len(w.content)) > options.SizeBytes { // it grows when it has its name
		return Info{}, errNotWhole
	}
	f, inode, err := d.MakeUnnamed(ctx, o.caller(), r.path, options, spare)
	if spare != nil && blocktree.KindOf(err) == blocktree.Unsupported {
		f, inode, err = d.MakeUnnamed(ctx, o.caller(), r.path, options, nil)
	}
	if blocktree.KindOf(err) == blocktree.Unsupported {
		return Info{}, errNotWhole
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
			return Info{}, lostService(err)
		}
	}
	wrote := w.wrote
	if wrote == 0 {
		wrote = time.Now().UnixNano()
	}
	if x, ok := f.(interface{ WroteAt(int64) }); ok {
		x.WroteAt(wrote)
	}
	if err := f.CloseName(ctx, uint64(len(w.content))); err != nil {
		return Info{}, lostService(err)
	}
	if x, ok := f.(interface{ Named() *meta.Inode }); ok { // as the cluster says
		inode = x.Named()
	}
	info := InfoOf(inode)
	info.Length = uint64(len(w.content))
	return info, nil
}

// lostService has an error that says that this service has lost its session say that it may be asked for again: by then there is another, or another service.
func lostService(err error) error {
	switch blocktree.KindOf(err) {
	case blocktree.Fenced, blocktree.Closed, blocktree.Lost:
		return &blocktree.Error{Op: "fs", Kind: blocktree.Unavailable, Err: err}
	}
	return err
}

// wholeByParts makes a file as any, writes and closes it.
func (s *Service) wholeByParts(ctx context.Context, o *owner, r *pathRequest) (info Info, err error) {
	ask := *r
	ask.flags &^= flagSpare | flagTell
	reply, err := s.makeOpen(ctx, o, &ask)
	if err != nil {
		return info, err
	}
	handle, info, err := decodeOpened(reply)
	if err != nil {
		return info, err
	}
	a := o.find(handle)
	if a == nil {
		return info, blocktree.E("fs", blocktree.Unavailable, errors.New("the connection has ended"))
	}
	if len(r.whole.content) > 0 {
		err = a.tell(ctx, &message{code: codeWrite, data: r.whole.content})
	}
	if err == nil && r.whole.wrote != 0 {
		err = s.setTimes(ctx, o.caller(), &attrRequest{path: r.path, file: info.ID, time: r.whole.wrote})
	}
	if err == nil {
		err = a.tell(ctx, &message{code: codeFinish})
	}
	if err != nil {
		a.cancel()
		return info, s.unmade(ctx, o, r.path, info.ID, err)
	}
	found, err := s.look(ctx, o.caller(), r.path, 0)
	if err == nil && found.Inode.ID == info.ID {
		return InfoOf(found.Inode), nil
	}
	info.Length = uint64(len(r.whole.content)) // it was there, and that is what counts
	return info, nil
}

// unmade removes what was made and could not be written, and returns why.
func (s *Service) unmade(ctx context.Context, o *owner, path blocktree.Path, made blocktree.FileID, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoneTimeout)
	defer cancel()
	caller := o.caller()
	_ = s.kept.change(ctx, o, path, "", func(ctx context.Context) error { return s.removeFile(ctx, caller, path, made) }) // else an empty file stays
	return why
}

// madeBefore is the file that an earlier try at the same has made, of which no answer came: it has the identity that it was to have, and ends where it was to end. Else it is refused as before.
func (s *Service) madeBefore(ctx context.Context, o *owner, r *pathRequest, why error) (Info, error) {
	found, err := s.look(ctx, o.caller(), r.path, 0)
	switch {
	case blocktree.KindOf(err) == blocktree.NotFound:
		return Info{}, why
	case err != nil:
		return Info{}, err
	case found.Inode.ID != r.file || found.Inode.Length() != uint64(len(r.whole.content)):
		return Info{}, why
	}
	return InfoOf(found.Inode), nil
}

// tell has an open file do something, and waits for that.
func (a *actor) tell(ctx context.Context, m *message) error {
	done := make(chan error, 1)
	m.done = func(_ []byte, err error) { done <- err }
	if err := a.box.put(m); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return blocktree.E("fs", blocktree.Unavailable, ctx.Err())
	}
}
