package fs

import (
	"time"

	"blocktree"
)

// refused logs that an owner's caller was refused; no one else does, as the cluster leaves it to who asks on behalf of somebody. What is not a matter of
// rights is no refusal.
func (s *Service) refused(what string, o *owner, path blocktree.Path, err error) {
	switch blocktree.KindOf(err) {
	case blocktree.Permission, blocktree.Unauthenticated:
		s.audit.Refused(o.caller(), o.address, what, path.Short(), err)
	}
}

// keepAudit has what was held back said in time.
func (s *Service) keepAudit() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-t.C:
			s.audit.Flush()
		}
	}
}

// ownClock is the time of this process, counted from its begin.
type ownClock struct{ begun time.Time }

// Now implements blocktree.Clock.
func (ownClock) Now() time.Time { return time.Now() }

// Boot implements blocktree.Clock.
func (c ownClock) Boot() time.Duration { return time.Since(c.begun) }
