package cluster

import (
	"context"
	"log/slog"
	"time"

	"blocktree"
)

// spaceRetry is how often what finds no space on a full disk is tried again.
const spaceRetry = time.Second

// AwaitSpace calls try, again and again while that fails for want of space, and says once that the node waits for what. It returns what
// try returned last, when ctx ends too.
func AwaitSpace(ctx context.Context, log *slog.Logger, what string, try func() error) error {
	for told := false; ; told = true {
		err := try()
		if blocktree.KindOf(err) != blocktree.NoSpace {
			return err
		}
		if !told {
			log.Error("the disk is full: the node waits for "+what, "err", err, "hint", "free space on the disk; the node goes on by itself")
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(spaceRetry):
		}
	}
}
