package fs

import (
	"context"
	"errors"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/crypto/cred"
	"blocktree/crypto/keys"
	"blocktree/internal/bttp"
	"blocktree/internal/dispatch"
	"blocktree/internal/file"
)

// A file that is made, written and closed, in few requests and commands (docs/design/0067).

// holder is an optional ability of a Cluster.
type holder interface {
	// CreateHeld is Create of an empty file, and Open of it for writing. The file is nil where it was made and is to be opened. Unsupported: nothing was done, it is to be made, and opened, one after the other.
	CreateHeld(ctx context.Context, caller cred.Identity, path blocktree.Path, o CreateOptions) (blocktree.File, *meta.Inode, error)
}

var _ holder = (*over)(nil)

// CreateHeld implements holder.
func (c *over) CreateHeld(ctx context.Context, caller cred.Identity, path blocktree.Path, o CreateOptions) (blocktree.File, *meta.Inode, error) {
	ctx = cluster.OnBehalf(ctx, caller)
	f, inode, err := file.MakeHeld(ctx, c.Client, path, c.making(o), 0, file.OpenOptions{Reader: c.Reader, Plain: o.Plain, Pins: c.pins.opening(), Logger: c.Logger,
		OpenOptions: cluster.OpenOptions{TouchEvery: blocktree.TouchEvery}})
	if f == nil {
		return nil, inode, err
	}
	return f, inode, err
}

// making is what a new file is made of.
func (c *over) making(o CreateOptions) file.CreateOptions {
	readers := []keys.PublicKey{c.Reader.Public()}
	for _, r := range c.Readers {
		if r != c.Reader.Public() {
			readers = append(readers, r)
		}
	}
	return file.CreateOptions{SizeBytes: o.SizeBytes, SectorBytes: o.SectorBytes, Code: o.Code, Mode: o.Mode, Plain: o.Plain, Readers: readers, Durability: o.Durability, Pins: c.pins.opening(), Keyless: &c.keyless, Keys: &c.keys}
}

// requestToMake asks for a file.
func requestToMake(path blocktree.Path, o CreateOptions) *pathRequest {
	r := &pathRequest{path: path, sizeBytes: o.SizeBytes, sectorBytes: uint32(o.SectorBytes), code: o.Code, mode: o.Mode}
	if o.Plain {
		r.flags |= flagPlain
	}
	if o.Durability == stripe.DurabilityFlush {
		r.flags |= flagFlush
	}
	if r.file = o.Spare; o.Spare != (blocktree.FileID{}) {
		r.flags |= flagSpare
	}
	return r
}

// asKnown asks, and again without only, and then each of some flags, while a service of a version before, which has done nothing, does not know those.
func (r *pathRequest) asKnown(ask func() error, flags ...uint8) error {
	err := ask()
	if blocktree.KindOf(err) == blocktree.NewerFormat && r.only {
		r.only = false
		err = ask()
	}
	for _, flag := range flags {
		if blocktree.KindOf(err) != blocktree.NewerFormat || r.flags&flag == 0 {
			continue
		}
		r.flags &^= flag
		err = ask()
	}
	return err
}

// makes is what requestToMake was given.
func (r *pathRequest) makes() CreateOptions {
	o := CreateOptions{SizeBytes: r.sizeBytes, SectorBytes: int(r.sectorBytes), Code: r.code, Mode: r.mode, Plain: r.flags&flagPlain != 0}
	if r.flags&flagFlush != 0 {
		o.Durability = stripe.DurabilityFlush
	}
	if r.flags&flagSpare != 0 {
		o.Spare = r.file
	}
	return o
}

// makeOpen makes an empty file and opens it for writing for the owner, and answers with its handle.
func (s *Service) makeOpen(ctx context.Context, o *owner, r *pathRequest) ([]byte, error) {
	options := r.makes()
	if s.files.Load() >= blocktree.FSOpenFilesMax {
		return nil, busy("too many open files")
	}
	spare := s.kept.spareOf(o, r)
	if spare != nil {
		defer spare.Leave()
	}
	reply, done, err := []byte(nil), false, error(nil)
	if spare != nil || !r.only {
		reply, done, err = s.makeKept(ctx, o, r, options, spare)
	}
	if !done {
		err = s.meansDir(ctx, o, r)
	}
	if !done && err == nil && r.only {
		return nil, ErrOtherSpare
	}
	if !done && err == nil {
		err = s.kept.change(ctx, o, "", r.path, func(ctx context.Context) (err error) {
			reply, err = s.makeFile(ctx, o, r, options)
			return err
		})
	}
	return reply, err
}

// newOpening is what opens a file for the owner. The cluster is asked after it was made.
func newOpening(s *Service, o *owner, r *pathRequest, write bool) *openFile {
	a := &openFile{actor: actor{box: newMailbox()}, service: s, owner: o, path: r.path, write: write, tell: r.flags&flagTell != 0}
	a.open = a
	a.number, a.closings, a.judged = s.cluster.RightsNumber(), s.closings.Load(), time.Now()
	return a
}

// makeFile has the cluster make the file. What was made and cannot be opened is removed.
func (s *Service) makeFile(ctx context.Context, o *owner, r *pathRequest, options CreateOptions) ([]byte, error) {
	a := newOpening(s, o, r, true)
	name, done := s.sharing.name(r.path)
	defer done()
	taken, _ := s.sharing.takings(name)
	made, f, err := s.create(ctx, o.caller(), r.path, options, a)
	if err == nil && f == nil {
		return s.openMade(ctx, o, r, made)
	}
	if err != nil {
		if made != (blocktree.FileID{}) {
			err = s.undone(ctx, o.caller(), r.path, made, err)
		}
		return nil, err
	}
	if s.files.Add(1) > blocktree.FSOpenFilesMax {
		s.files.Add(-1)
		_ = f.Close() // nothing was written
		return nil, s.undone(ctx, o.caller(), r.path, made, busy("too many open files"))
	}
	a.shared = s.sharing.enter(a.info.ID)
	var info Info
	if err = s.stays(ctx, a, name, taken); err != nil {
		s.sharing.leave(a.shared)
		_ = f.Close() // nothing was written
	} else {
		a.made = f
		info, err = s.take(ctx, a, false)
	}
	if err != nil {
		s.files.Add(-1)
		return nil, s.undone(ctx, o.caller(), r.path, made, err)
	}
	return encodeUnder(a.handle, &info, a.under), nil
}

// create makes a file, and opens it, if that is done at once: then a has its description. With an error made is what is of no use, if there is something.
func (s *Service) create(ctx context.Context, caller cred.Identity, path blocktree.Path, o CreateOptions, a *openFile) (made blocktree.FileID, f blocktree.File, err error) {
	if h, ok := s.cluster.(holder); ok {
		var inode *meta.Inode
		f, inode, err = h.CreateHeld(ctx, caller, path, o)
		switch {
		case inode != nil:
			a.info = InfoOf(inode)
			return inode.ID, f, err
		case err == nil || blocktree.KindOf(err) != blocktree.Unsupported:
			return made, nil, err
		}
	}
	made, err = s.cluster.Create(ctx, caller, path, o)
	if err == nil {
		err = s.cluster.SetLength(ctx, caller, path, 0)
	}
	return made, nil, err
}

// openMade opens what was made just now.
func (s *Service) openMade(ctx context.Context, o *owner, r *pathRequest, made blocktree.FileID) ([]byte, error) {
	reply, err := s.openFile(ctx, o, &pathRequest{path: r.path, flags: flagWrite | r.flags&(flagPlain|flagTell)})
	if err != nil {
		err = s.undone(ctx, o.caller(), r.path, made, err)
	}
	return reply, err
}

// undone removes what was made and is of no use, and returns why.
func (s *Service) undone(ctx context.Context, caller cred.Identity, path blocktree.Path, made blocktree.FileID, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoneTimeout)
	defer cancel()
	if s.cluster.RemoveFile(ctx, caller, path, made) != nil { // an empty file stays
		s.kept.unsure(path)
	}
	return why
}

// undoneTimeout bounds how long the removal of what could not be opened may take.
const undoneTimeout = 5 * time.Second

// newMade makes the body of a file that was made empty, and opened, at once; g is not nil if it was without a name.
func newMade(f blocktree.File, g *given) *body {
	b := &body{file: f, turn: make(chan struct{}, 1)}
	if g != nil {
		g.body = b
		b.given.Store(g)
	}
	b.ender, _ = f.(blocktree.Ender)
	b.followShrink()
	return b // it ends at byte 0, which the cluster knows, and all behind that is zeros
}

// Finisher is an optional ability of a File.
type Finisher interface {
	// Finish is Flush and Close by one request. After Unsupported (a service of a version before, or a file without a name) the file is open yet; after another error it may be, and nobody knows what was flushed: that is lost unless another Flush or Finish says otherwise.
	Finish(ctx context.Context) error
}

// MakeOpener is an optional ability of who opens files.
type MakeOpener interface {
	// MakeOpen is Create of an empty file, of an optional size to have room for what will be written, and Open of it for writing, by one request. It is asked once: after Unavailable the file may be there all the same. Until a Flush, Finish or Close of it has returned nil it may be gone with the service, its name, too, and somebody else may have made it by another one: then those say so (docs/design/0079). Kinds: those of Create and Open; Unsupported (a service of a version before), ErrOtherSpare, and nothing was done.
	MakeOpen(ctx context.Context, path blocktree.Path, o CreateOptions) (File, error)
}

var (
	_ Finisher   = (*remote)(nil)
	_ MakeOpener = (*Client)(nil)
)

// Finish implements Finisher.
func (f *remote) Finish(ctx context.Context) error {
	err := f.once(ctx, dispatch.Message{Code: codeFinish, Header: fileRequest{handle: f.handle}.encode()}, nil)
	if err == nil {
		f.client.open.drop(f)
		f.actor.Release()
	}
	return failed("close", f.path, err)
}

// MakeOpen implements MakeOpener.
func (c *Client) MakeOpen(ctx context.Context, path blocktree.Path, o CreateOptions) (File, error) {
	r := requestToMake(path, o)
	if o.Tell {
		r.flags |= flagTell
	}
	if r.flags&flagSpare != 0 {
		r.dir, r.only = c.fillings.meant(path, o), true
	}
	var answer dispatch.Answer
	err := r.asKnown(func() (err error) {
		answer, err = c.dispatch(ctx, path.Parent(), dispatch.Message{Code: codeMakeOpen, Body: r.encode(), Late: closeLate})
		return err
	}, flagSpare, flagFlush, flagTell)
	if r.only && blocktree.KindOf(err) == blocktree.StaleView {
		err = ErrOtherSpare
	}
	if err != nil {
		return nil, failed("create", path, err)
	}
	defer answer.Release()
	handle, info, under, err := decodeUnder(answer.Body)
	if err == nil && (info.Dir || info.Link || info.ID == (blocktree.FileID{})) {
		err = blocktree.E("fs", blocktree.Invalid, errors.New("the service's answer makes no sense"))
	}
	if err != nil {
		return nil, failed("create", path, err)
	}
	f := &remote{client: c, actor: answer.Actor(), path: path, handle: handle, info: info, under: under}
	c.open.add(f)
	return f, nil
}

// closeLate closes what was opened for somebody who waits for it no more.
func closeLate(conn *bttp.Conn, reply bttp.Reply) {
	if handle, _, err := decodeOpened(reply.Body); err == nil {
		_ = conn.Send(codeClose, fileRequest{handle: handle}.encode()) // else it ends with the connection
	}
}
