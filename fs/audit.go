package fs

import (
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
)

// refusalsPerSecond bounds the lines of the log about refusals: whoever is refused may ask as often as it likes.
const refusalsPerSecond = 20

// refusals bounds the lines, and counts those that are left out.
type refusals struct {
	rate   bucket
	silent atomic.Uint64
}

// refused logs that a caller was refused.
func (s *Service) refused(what string, caller cred.Identity, path blocktree.Path, err error) {
	if !s.refusals.rate.take(1, refusalsPerSecond, time.Now()) {
		s.refusals.silent.Add(1)
		return
	}
	s.cfg.Logger.Warn("refused", "what", what, "caller", caller.Principal.String(), "at", caller.Path.Short(), "path", path.Short(), "why", err,
		"notLogged", s.refusals.silent.Swap(0))
}
