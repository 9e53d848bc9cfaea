package files

import (
	"io/fs"

	"blocktree"
	"blocktree/internal/cli"
)

// failure is an error with a kind, which errors.Is compares with the errors of io/fs.
type failure struct{ error }

// Unwrap returns the error that has kind and hint.
func (f failure) Unwrap() error { return f.error }

// Is reports whether target is the error of io/fs that the kind stands for.
func (f failure) Is(target error) bool {
	switch blocktree.KindOf(f.error) {
	case blocktree.NotFound:
		return target == fs.ErrNotExist
	case blocktree.Exists:
		return target == fs.ErrExist
	case blocktree.Permission, blocktree.Unauthenticated, blocktree.ReadOnly:
		return target == fs.ErrPermission
	case blocktree.Closed, blocktree.Undeliverable:
		return target == fs.ErrClosed
	case blocktree.Invalid, blocktree.OutOfRange:
		return target == fs.ErrInvalid
	}
	return false
}

// failed gives an error the name it is about; nil stays nil.
func failed(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: failure{cli.WithHint(err, cli.Hint(err))}} // what comes from a service has a kind and no hint
}

// refused is the error of a call that makes no sense.
func refused(op, name string, kind blocktree.Kind, why, hint string) error {
	return failed(op, name, &blocktree.Error{Op: "files", Kind: kind, Err: text(why), Hint: hint})
}

type text string

func (t text) Error() string { return string(t) }
