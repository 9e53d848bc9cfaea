package fs

import (
	"context"
	"errors"
	"fmt"

	"blocktree"
)

// doAttribute does what is asked of the attributes of what a path names, in the caller's name.
func (s *Service) doAttribute(ctx context.Context, o *owner, code uint16, r *attrRequest) ([]byte, error) {
	switch code {
	case codeSetTimes:
		found, err := s.look(ctx, o.caller(), r.path, 0)
		if err != nil {
			return nil, err
		}
		if found.Rights&(Write|Admin) != 0 { // else it comes to nothing
			s.sharing.forget(found.Inode.ID)
		}
		return nil, s.cluster.SetTimes(ctx, o.caller(), r.path, r.time)
	case codeSymlink:
		if len(r.value) > blocktree.LinkBytesMax {
			return nil, &blocktree.Error{Op: "fs", Path: r.path.Short(), Kind: blocktree.TooLarge, Err: errors.New("the target is longer than a path"), Hint: fmt.Sprintf("at most %d bytes", blocktree.LinkBytesMax)}
		}
		return nil, s.cluster.Symlink(ctx, o.caller(), r.path, r.value)
	case codeReadLink:
		found, err := s.look(ctx, o.caller(), r.path, 0)
		if err != nil {
			return nil, err
		}
		if found.Inode.Target == "" {
			return nil, &blocktree.Error{Op: "fs", Path: r.path.Short(), Kind: blocktree.Invalid, Err: errors.New("it is no symbolic link"), Hint: "only those say another name"}
		}
		return encodeTarget(found.Inode.Target), nil
	case codeGetXattr:
		if r.name == "" {
			return nil, &blocktree.Error{Op: "fs", Path: r.path.Short(), Kind: blocktree.Invalid, Err: errors.New("no attribute is named")}
		}
		xs, err := s.cluster.Xattrs(ctx, o.caller(), r.path, r.name)
		if err != nil {
			return nil, err
		}
		if len(xs) != 1 || xs[0].Name != r.name {
			return nil, &blocktree.Error{Op: "fs", Path: r.path.Short(), Kind: blocktree.Corrupt, Err: errors.New("the cluster's answer makes no sense")}
		}
		return encodeXattr(xs[0].Value), nil
	case codeListXattr:
		xs, err := s.cluster.Xattrs(ctx, o.caller(), r.path, "")
		if err != nil {
			return nil, err
		}
		names := make([]string, 0, len(xs))
		for i := range xs {
			names = append(names, xs[i].Name)
		}
		return encodeXattrNames(names), nil
	case codeSetXattr:
		return nil, s.cluster.SetXattr(ctx, o.caller(), r.path, r.name, []byte(r.value), r.how)
	case codeRemoveXattr:
		return nil, s.cluster.RemoveXattr(ctx, o.caller(), r.path, r.name)
	}
	return nil, blocktree.E("fs", blocktree.Unsupported, nil)
}
