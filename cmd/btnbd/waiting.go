package main

import (
	"context"
	"fmt"
	"time"
)

// waitTold is how long the exports may take to open before the log says what they wait for, and says it again.
const waitTold = 8 * time.Second

// answering is how many nodes of the cluster serve, of how many. It does not block.
type answering func() (nodes, of int)

// tellWaiting says what the exports that are not open yet wait for, until ctx ends: a start that waits a minute and a half for a cluster
// without a majority should not look as if it hung.
func (s *server) tellWaiting(ctx context.Context, began time.Time) {
	t := time.NewTicker(waitTold)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		left := (startTimeout - time.Since(began)).Round(time.Second)
		why, hint := "the cluster", "see btnode status"
		if s.answering != nil {
			nodes, of := s.answering()
			if need := of/2 + 1; nodes < need {
				why = fmt.Sprintf("%d of %d nodes serve, and opening a file takes %d", nodes, of, need)
				hint = "start the other nodes: one serves as soon as a majority runs; or see what is between them and this machine"
			} else {
				why = fmt.Sprintf("%d of %d nodes serve; a file's lease, or members that have what it needs", nodes, of)
				hint = "see btnode status for what the files lack"
			}
		}
		s.log.Warn("waiting to open the exports", "open", s.opened.Load(), "of", len(s.cfg.Exports), "for", why, "givesUpIn", left, "hint", hint)
	}
}
