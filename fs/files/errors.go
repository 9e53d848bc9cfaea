package files

import (
	iofs "io/fs"

	"blocktree"
	"blocktree/fs"
	"blocktree/internal/cli"
)

// failure is an error with a kind, which errors.Is compares with the errors of io/fs.
type failure struct{ error }

// Unwrap returns the error that has kind and hint.
func (f failure) Unwrap() error { return f.error }

// Is reports whether target is the error of io/fs that the kind stands for. That no service was found says nothing of the path: who makes what is not there must not take it for that.
func (f failure) Is(target error) bool {
	switch blocktree.KindOf(f.error) {
	case blocktree.NotFound:
		return target == iofs.ErrNotExist && !fs.NoService(f.error)
	case blocktree.Exists:
		return target == iofs.ErrExist
	case blocktree.Permission, blocktree.Unauthenticated, blocktree.ReadOnly:
		return target == iofs.ErrPermission
	case blocktree.Closed, blocktree.Undeliverable:
		return target == iofs.ErrClosed
	case blocktree.Invalid, blocktree.OutOfRange:
		return target == iofs.ErrInvalid
	}
	return false
}

// failed gives an error the name it is about; nil stays nil, and what has that name already stays as it is.
func failed(op, name string, err error) error {
	if pe, ok := err.(*iofs.PathError); err == nil || ok && pe.Path == name {
		return err
	}
	return &iofs.PathError{Op: op, Path: name, Err: failure{cli.WithHint(err, cli.Hint(err))}} // what comes from a service has a kind and no hint
}

// refused is the error of a call that makes no sense.
func refused(op, name string, kind blocktree.Kind, why, hint string) error {
	return failed(op, name, &blocktree.Error{Op: "files", Kind: kind, Err: text(why), Hint: hint})
}

type text string

func (t text) Error() string { return string(t) }
