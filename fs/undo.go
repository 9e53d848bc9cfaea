package fs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"blocktree"
)

// How what was begun and cannot be finished goes again: docs/design/0057.

const (
	// undoTimeout bounds how long undoing waits for a file to be let go of: where a connection broke its lease goes within a term.
	undoTimeout = 30 * time.Second
	// undoPause lies between two tries to remove what somebody seems to have open.
	undoPause = 200 * time.Millisecond
)

// Remover removes a file by its identity. *Client is one.
type Remover interface {
	RemoveFile(ctx context.Context, path blocktree.Path, id blocktree.FileID) error
}

// Undone removes the file that was made at a path and could not be finished, for a reason, which it returns: with how to remove it, where that failed too. It removes no other file, whatever has the name; one of which a service
// does not say which it was, zero, stays. It goes on after ctx has ended, for half a minute.
func Undone(ctx context.Context, r Remover, path blocktree.Path, made blocktree.FileID, reason error) error {
	if reason == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	err := undo(ctx, r, path, made)
	if err == nil {
		return reason
	}
	return &blocktree.Error{Op: "undo", Path: path.Short(), Kind: blocktree.KindOf(reason), Err: fmt.Errorf("%w (the file was begun and could not be removed: %w)", reason, err), Hint: "look whether it is yours, and remove it: btnode rm"}
}

func undo(ctx context.Context, r Remover, path blocktree.Path, made blocktree.FileID) error {
	if made == (blocktree.FileID{}) {
		return blocktree.E("undo", blocktree.Unsupported, errors.New("the filesystem service is of a version before, which does not say what it made"))
	}
	for {
		err := r.RemoveFile(ctx, path, made)
		switch blocktree.KindOf(err) {
		case blocktree.NotFound:
			if NoService(err) {
				return err
			}
			return nil // it is gone, or is somebody's under another name
		case blocktree.Busy:
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(undoPause):
		}
	}
}
