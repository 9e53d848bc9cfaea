package fs

import (
	"context"
	"errors"
	"fmt"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
)

// tryEnter takes a token of each, or of none.
func tryEnter(tokens ...chan struct{}) bool {
	for i, t := range tokens {
		select {
		case t <- struct{}{}:
		default:
			leave(tokens[:i]...)
			return false
		}
	}
	return true
}

func leave(tokens ...chan struct{}) {
	for _, t := range tokens {
		<-t
	}
}

// servePath works on a request about a path in a goroutine of its own. An error says that it does not.
func (s *Service) servePath(o *owner, code uint16, r pathRequest, req *bttp.Request) error {
	tokens := []chan struct{}{o.paths, s.paths}
	if o.anonymous {
		tokens = append(tokens, s.guestPaths)
	}
	if !tryEnter(tokens...) {
		return busy("too many requests at a time")
	}
	err := s.task(func() {
		ctx, cancel := context.WithTimeout(s.ctx, pathTimeout)
		defer cancel()
		reply, err := s.doPath(ctx, o, code, &r)
		leave(tokens...) // before the answer, upon which a client that has as many requests as it may sends the next one
		if err == nil {
			req.Reply(nil, reply)
			return
		}
		s.refused(nameOf(code), o, r.path, err)
		req.Fail(hide(o.caller(), err))
	})
	if err != nil {
		leave(tokens...)
	}
	return err
}

// nameOf is a code in words.
func nameOf(code uint16) string {
	if code == codeSpace {
		return "space"
	}
	if !known(code) {
		return fmt.Sprintf("code %d", code)
	}
	return [...]string{
		"stat", "list", "open", "read", "write", "flush", "close", "create", "mkdir", "remove", "resize", "length", "rename", "sum", "punch",
		"remove", "truncate", "allocate", "append", "stat", "truncate", "lock",
		"set times", "symlink", "read link", "get attribute", "set attribute", "list attributes", "remove attribute",
		"watch", "watch", "create", "close", "close", "fill", "create", "mkdir",
	}[code-codeStat]
}

// doPath does what is asked of a path, in the caller's name, and tells who watches.
func (s *Service) doPath(ctx context.Context, o *owner, code uint16, r *pathRequest) ([]byte, error) {
	reply, err := s.doAsked(ctx, o, code, r)
	if err == nil {
		s.watches.told(code, r)
	}
	return reply, err
}

func (s *Service) doAsked(ctx context.Context, o *owner, code uint16, r *pathRequest) ([]byte, error) {
	if code == codeFill {
		return s.fill(ctx, o, r)
	}
	if err := s.kept.yields(ctx, o, code, r); err != nil {
		return nil, err
	}
	if changes(code) {
		return s.doChange(ctx, o, code, r)
	}
	if err := s.kept.settled(ctx, code, r); err != nil {
		return nil, err
	}
	switch code {
	case codeWatch:
		return s.openWatch(ctx, o, r)
	case codeStat:
		return s.stat(ctx, o, r.path)
	case codeList:
		return s.list(ctx, o.caller(), r)
	case codeSpace:
		if _, err := s.look(ctx, o.caller(), r.path, 0); err != nil {
			return nil, err
		}
		x, err := s.cluster.Space(ctx, o.caller(), r.path, r.code)
		return x.Encode(), err
	case codeOpen:
		return s.openFile(ctx, o, r)
	case codeResize:
		return nil, s.resize(ctx, o.caller(), r)
	case codeLength:
		return nil, s.setLength(ctx, o.caller(), r)
	case codeTruncate:
		return nil, s.truncate(ctx, o, r)
	}
	return s.doAttribute(ctx, o, code, &r.attr)
}

// changes reports whether a request of a code adds a name, or takes it from what has it.
func changes(code uint16) bool {
	switch code {
	case codeCreate, codeMakeOpen, codeMakeWhole, codeMkdir, codeMkdirFill, codeSymlink, codeRemove, codeRemoveFile, codeRename:
		return true
	}
	return false
}

// doChange is doAsked of such a request.
func (s *Service) doChange(ctx context.Context, o *owner, code uint16, r *pathRequest) (reply []byte, err error) {
	caller := o.caller()
	switch code {
	case codeMakeOpen:
		return s.makeOpen(ctx, o, r)
	case codeMakeWhole:
		return s.makeWhole(ctx, o, r)
	case codeMkdir:
		_, err = s.makeDir(ctx, o, r)
	case codeMkdirFill:
		return s.mkdirFill(ctx, o, r)
	case codeRemove:
		err = s.kept.change(ctx, o, r.path, "", func(ctx context.Context) error { return s.remove(ctx, caller, r.path) })
	case codeRemoveFile:
		err = s.kept.change(ctx, o, r.path, "", func(ctx context.Context) error { return s.removeFile(ctx, caller, r.path, r.file) })
	case codeRename:
		err = s.kept.change(ctx, o, r.path, r.to, func(ctx context.Context) error { return s.rename(ctx, caller, r.path, r.to, r.flags&flagKeep != 0) })
	case codeSymlink:
		err = s.kept.change(ctx, o, "", r.path, func(ctx context.Context) error { return s.symlink(ctx, caller, &r.attr) })
	case codeCreate:
		err = s.kept.change(ctx, o, "", r.path, func(ctx context.Context) error {
			made, err := s.cluster.Create(ctx, caller, r.path, r.makes())
			reply = encodeMade(made)
			return err
		})
	}
	return reply, err
}

// stat describes what a path names.
func (s *Service) stat(ctx context.Context, o *owner, path blocktree.Path) ([]byte, error) {
	if s.kept.absent(ctx, o, path) {
		return nil, nothing(path)
	}
	if info := s.kept.describes(o, path); info != nil {
		return encodeInfo(info), nil
	}
	asked := s.asks()
	found, err := s.look(ctx, o.caller(), path, 0)
	if err != nil {
		return nil, err
	}
	s.kept.heard(o, path, &found, asked)
	info := InfoOf(found.Inode)
	s.sharing.seen(&info)
	return encodeInfo(&info), nil
}

// look asks what a path names, and refuses a caller without the rights that are wanted. Whether it may be told at all the cluster says.
func (s *Service) look(ctx context.Context, caller cred.Identity, path blocktree.Path, want Rights) (Found, error) {
	found, err := s.cluster.Look(ctx, caller, path)
	return enough(found, err, caller, path, want)
}

// lookFile is look for a file that was at a path.
func (s *Service) lookFile(ctx context.Context, caller cred.Identity, id blocktree.FileID, path blocktree.Path, want Rights) (Found, error) {
	found, err := s.cluster.LookFile(ctx, caller, id)
	return enough(found, err, caller, path, want)
}

// enough refuses what was found to a caller without the rights that are wanted.
func enough(found Found, err error, caller cred.Identity, path blocktree.Path, want Rights) (Found, error) {
	if err != nil {
		return Found{}, err
	}
	if !found.Rights.Has(want) {
		return Found{}, &blocktree.Error{Op: "fs", Path: path.Short(), Kind: blocktree.Permission, Err: fmt.Errorf("%s may not", name(caller))}
	}
	return found, nil
}

// name is a caller for people.
func name(caller cred.Identity) string {
	if caller.Anonymous() {
		return "an anonymous caller"
	}
	return caller.Path.Short()
}

// hide makes what an anonymous caller is told the same for what is not there and for what is not for everybody.
func hide(caller cred.Identity, err error) error {
	if !caller.Anonymous() {
		return err
	}
	switch blocktree.KindOf(err) {
	case blocktree.NotFound, blocktree.Permission, blocktree.Invalid, blocktree.Unauthenticated:
		return &blocktree.Error{Op: "fs", Kind: blocktree.Permission, Err: errors.New("nothing there that everybody may use")}
	}
	return err
}

// list answers with the next entries of a directory.
func (s *Service) list(ctx context.Context, caller cred.Identity, r *pathRequest) ([]byte, error) {
	found, err := s.look(ctx, caller, r.path, List)
	if err != nil {
		return nil, err
	}
	if found.Inode.Kind == 0 || !InfoOf(found.Inode).Dir {
		return nil, &blocktree.Error{Op: "list", Path: r.path.Short(), Kind: blocktree.Invalid, Err: errors.New("it is a file")}
	}
	limit := int(min(r.limit, blocktree.ListEntriesMax))
	if limit == 0 {
		limit = blocktree.ListEntriesMax
	}
	lines, more, err := s.cluster.List(ctx, caller, r.path, r.after, limit)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, 0, len(lines))
	for i := range lines {
		entries = append(entries, Entry{Name: lines[i].Name, Info: InfoOf(&lines[i].Inode)})
		s.sharing.seen(&entries[i].Info)
	}
	return encodeEntries(entries, more), nil
}

// open opens the sectors of the file that was judged: another one of that name is NotFound.
func (s *Service) open(ctx context.Context, caller cred.Identity, path blocktree.Path, id blocktree.FileID, o OpenOptions) (blocktree.File, error) {
	f, err := s.cluster.Open(ctx, caller, path, o)
	if err == nil && f.Info().ID != id {
		_ = f.Close() // nothing was done with it
		return nil, &blocktree.Error{Op: "open", Path: path.Short(), Kind: blocktree.NotFound, Err: errors.New("the file was removed")}
	}
	return f, err
}
