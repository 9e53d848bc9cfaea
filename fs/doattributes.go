package fs

import (
	"context"
	"errors"
	"fmt"

	"blocktree"
	"blocktree/crypto/cred"
)

// setTimes sets when something was last modified: what was written through this service until then does not say another time later.
func (s *Service) setTimes(ctx context.Context, caller cred.Identity, r *attrRequest) error {
	found, err := s.meant(ctx, caller, r)
	if err != nil {
		return err
	}
	defer s.sharing.askAnew(found.Inode.ID)
	say := func() error { return s.cluster.SetTimes(ctx, caller, r.path, r.file, r.time) }
	b := s.sharing.written(found.Inode.ID)
	if b == nil || !found.Rights.Has(Admin) && (r.time != TimeNow || !found.Rights.Has(Write)) { // then the cluster refuses it, and what was written is noted
		return say()
	}
	return b.do(ctx, func() error { return b.timed(ctx, say) })
}

// meant is the file that a request says, whatever its name is by now, or else what has the path.
func (s *Service) meant(ctx context.Context, caller cred.Identity, r *attrRequest) (Found, error) {
	if r.file != (blocktree.FileID{}) {
		return s.lookFile(ctx, caller, r.file, r.path, 0)
	}
	return s.look(ctx, caller, r.path, 0)
}

// symlink makes a symbolic link.
func (s *Service) symlink(ctx context.Context, caller cred.Identity, r *attrRequest) error {
	if len(r.value) > blocktree.LinkBytesMax {
		return &blocktree.Error{Op: "fs", Path: r.path.Short(), Kind: blocktree.TooLarge, Err: errors.New("the target is longer than a path"), Hint: fmt.Sprintf("at most %d bytes", blocktree.LinkBytesMax)}
	}
	return s.cluster.Symlink(ctx, caller, r.path, r.value)
}

// doAttribute does what is asked of the attributes of what a path names, in the caller's name.
func (s *Service) doAttribute(ctx context.Context, o *owner, code uint16, r *attrRequest) ([]byte, error) {
	switch code {
	case codeSetTimes:
		return nil, s.kept.alters(r, func() error { return s.setTimes(ctx, o.caller(), r) })
	case codeReadLink:
		found, err := s.look(ctx, o.caller(), r.path, 0)
		if err != nil {
			return nil, err
		}
		target, err := targetOf(found.Inode, r.path)
		if err != nil {
			return nil, err
		}
		return encodeTarget(target), nil
	case codeGetXattr:
		if r.name == "" {
			return nil, &blocktree.Error{Op: "fs", Path: r.path.Short(), Kind: blocktree.Invalid, Err: errors.New("no attribute is named")}
		}
		xs, err := s.cluster.Xattrs(ctx, o.caller(), r.path, r.file, r.name)
		if err != nil {
			return nil, err
		}
		if len(xs) != 1 || xs[0].Name != r.name {
			return nil, &blocktree.Error{Op: "fs", Path: r.path.Short(), Kind: blocktree.Corrupt, Err: errors.New("the cluster's answer makes no sense")}
		}
		return encodeXattr(xs[0].Value), nil
	case codeListXattr:
		xs, err := s.cluster.Xattrs(ctx, o.caller(), r.path, r.file, "")
		if err != nil {
			return nil, err
		}
		names := make([]string, 0, len(xs))
		for i := range xs {
			names = append(names, xs[i].Name)
		}
		return encodeXattrNames(names), nil
	case codeSetXattr:
		return nil, s.kept.alters(r, func() error {
			return s.cluster.SetXattr(ctx, o.caller(), r.path, r.file, r.name, []byte(r.value), r.how)
		})
	case codeRemoveXattr:
		return nil, s.kept.alters(r, func() error { return s.cluster.RemoveXattr(ctx, o.caller(), r.path, r.file, r.name) })
	}
	return nil, blocktree.E("fs", blocktree.Unsupported, nil)
}
