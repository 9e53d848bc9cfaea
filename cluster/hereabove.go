package cluster

import (
	"context"
	"slices"
	"sync"
	"time"

	"blocktree"
)

// What a member has noted of itself in its own cluster's record, the record above is to say, too: docs/design/0056-tree-last.md.

// aboveNoteEvery is how often a member says above at most where it is, whoever has it believe that it has moved: each time may be a command in the cluster above.
const aboveNoteEvery = 10 * time.Second

// aboveNote is where a member was seen, as far as its record above is to say so.
type aboveNote struct {
	mu      sync.Mutex
	want    string // the newest
	told    string // the newest that is there
	running bool
}

// noteAbove has the record above name an address, and waits for the first try; it is tried until it is there.
func (s *Service) noteAbove(at string) {
	if given := s.given(); s.cfg.NoteAbove == nil || len(given) > 0 && given[0] == at { // it is where it was started
		return
	}
	n := &s.aboveNote
	n.mu.Lock()
	n.want = at
	begins := !n.running && n.told != at
	n.running = n.running || begins
	n.mu.Unlock()
	if !begins {
		return
	}
	first := make(chan struct{})
	s.requests.Go(func() { s.followAbove(first) })
	t := time.NewTimer(hereTimeout)
	defer t.Stop()
	select {
	case <-first:
	case <-t.C:
	case <-s.ctx.Done():
	}
}

// followAbove says above where the member is until it is there. It closes first after one try.
func (s *Service) followAbove(first chan struct{}) {
	n := &s.aboveNote
	for warned := false; ; {
		n.mu.Lock()
		at := n.want
		n.mu.Unlock()
		ctx, cancel := context.WithTimeout(s.ctx, aboveNoteEvery)
		err := s.cfg.NoteAbove(ctx, at, s.given())
		cancel()
		if first != nil {
			close(first)
			first = nil
		}
		if err != nil && !warned && s.ctx.Err() == nil {
			warned = true
			s.cfg.Logger.Info("the record above does not have this node's address yet; it is tried again", "address", at, "err", err)
		}
		if !sleepFor(s.ctx, aboveNoteEvery) { // also after one that is there, before the next
			return
		}
		n.mu.Lock()
		if err == nil {
			n.told = at
		}
		n.running = n.told != n.want
		ends := !n.running
		n.mu.Unlock()
		if ends {
			return
		}
	}
}

// seenAbove is what a record above says from now on of a member that was seen at an address, and was started with those given: nil, if it stays as it is. It is behind the others, as in the member's own cluster (docs/design/0043).
func seenAbove(record, given []string, at string) []string {
	if slices.Contains(record, at) || slices.ContainsFunc(record, named) {
		return nil
	}
	same := 0 // of those that it was started with some are of its own cluster alone
	for same < min(len(record), len(given)) && record[same] == given[same] {
		same++
	}
	next := withSeen(record, given[:same], at)
	if slices.Equal(next, record) {
		return nil
	}
	return next
}

// NoteAbove has the record that this cluster keeps of a sector host below it name an address at which that was seen, unless it does, or is not to; it reports whether it was changed. Kinds: those of meta.PutBelow.
func (c *Client) NoteAbove(ctx context.Context, path blocktree.Path, given []string, at string) (bool, error) {
	_, records, err := c.Below(ctx, path.Parent())
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(records, func(r blocktree.Runtime) bool { return r.Path == path })
	if i < 0 {
		return false, nil
	}
	r := records[i]
	if r.Endpoints = seenAbove(r.Endpoints, given, at); r.Endpoints == nil {
		return false, nil
	}
	if err := c.AddNode(ctx, r); err != nil {
		return false, err
	}
	return true, nil
}
