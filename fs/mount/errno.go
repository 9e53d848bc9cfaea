package mount

import (
	"syscall"

	"blocktree"
	"blocktree/fs"
)

// errnos says what a program is told of each kind. What only says that an answer is missing, or wrong, is EIO.
func errnos() map[blocktree.Kind]syscall.Errno {
	return map[blocktree.Kind]syscall.Errno{
		blocktree.Other: syscall.EIO, blocktree.Invalid: syscall.EINVAL, blocktree.NotFound: syscall.ENOENT, blocktree.Exists: syscall.EEXIST,
		blocktree.Permission: syscall.EACCES, blocktree.Unauthenticated: syscall.EACCES, blocktree.Busy: syscall.EBUSY, blocktree.Unavailable: syscall.EIO,
		blocktree.ReadOnly: syscall.EROFS, blocktree.NoSpace: syscall.ENOSPC, blocktree.OutOfRange: syscall.EINVAL, blocktree.Fenced: syscall.EIO,
		blocktree.StaleView: syscall.EIO, blocktree.StaleMember: syscall.EIO, blocktree.Corrupt: syscall.EIO, blocktree.Timeout: syscall.EIO,
		blocktree.Canceled: syscall.EINTR, blocktree.Closed: syscall.EIO, blocktree.Undeliverable: syscall.EIO, blocktree.Unsupported: syscall.EOPNOTSUPP,
		blocktree.TooLarge: syscall.EFBIG, blocktree.NewerFormat: syscall.EIO, blocktree.IO: syscall.EIO, blocktree.Lost: syscall.EIO,
		blocktree.Recovering: syscall.EIO, blocktree.NotLeader: syscall.EIO, blocktree.Elsewhere: syscall.EIO, blocktree.CrossDevice: syscall.EXDEV,
	}
}

// errno translates an error. That no service was found says nothing of the path.
func errno(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	if fs.NoService(err) {
		return syscall.EIO
	}
	if e, ok := errnos()[blocktree.KindOf(err)]; ok {
		return e
	}
	return syscall.EIO
}

// ownerErrno translates an error of what only the owner may do: EPERM, not EACCES, for who is none.
func ownerErrno(err error) syscall.Errno {
	if e := errno(err); e != syscall.EACCES {
		return e
	}
	return syscall.EPERM
}

// passing reports whether an error may be gone when the same is asked again, of whoever is there then.
func passing(err error) bool {
	if err == nil {
		return false
	}
	if fs.NoService(err) {
		return true
	}
	switch blocktree.KindOf(err) {
	case blocktree.Unavailable, blocktree.Undeliverable, blocktree.Closed, blocktree.Timeout, blocktree.Recovering, blocktree.NotLeader, blocktree.StaleView:
		return true
	}
	return false
}
