package cluster

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/internal/vfs"
)

// mayGo has the node leave its views if a walk found that it misses writes and enough others stay. It reports whether it leaves: then
// the service is about to end, and ctx with it.
func (s *scrubber) mayGo(ctx context.Context, w *scrubWalk) bool {
	s.mu.Lock()
	owed, leaving := w.owed, s.state.leaving
	recent := time.Since(time.Unix(s.state.leftAt, 0)) < scrubLeaveEvery
	s.mu.Unlock()
	if owed == 0 || leaving {
		return false
	}
	if recent || !s.enoughStay() {
		s.logger.Error("this node misses writes, but cannot be copied up now: too few others are in sync, or it just was", "sectors", owed)
		return false
	}
	s.mu.Lock()
	before := s.state.leftAt
	s.state.leftAt, s.state.leaving = time.Now().Unix(), true
	s.mu.Unlock()
	s.save()
	s.logger.Warn("this node misses writes: it starts anew to be copied up", "sectors", owed)
	if err := s.leave(); err != nil {
		s.logger.Error("it cannot", "err", err) // others leave at the same time
		s.mu.Lock()
		s.state.leftAt, s.state.leaving = before, false
		s.mu.Unlock()
		return false
	}
	<-ctx.Done()
	return true
}

// enoughStay reports whether every region that this node is in sync in can do without it (I12). Others may be about to leave, too:
// Raft decides who may (startAnew), but does not know who serves.
func (s *scrubber) enoughStay() bool {
	enough := true
	err := s.group.EachLayout(0, func(l *stripe.Layout) bool {
		enough = l.CanSpare(s.node, s.peers.isHeard)
		return enough
	})
	return err == nil && enough
}

// settle counts the writes that were missing as repaired once the node was copied up.
func (s *scrubber) settle() {
	s.mu.Lock()
	leaving := s.state.leaving
	s.mu.Unlock()
	if !leaving || !s.wholeAgain() {
		return
	}
	s.mu.Lock()
	s.state.leaving = false
	for _, w := range []*scrubWalk{&s.state.asked, &s.state.ground} {
		w.counts.Repaired += w.owed
		s.state.total.Repaired += w.owed
		w.owed = 0
	}
	s.mu.Unlock()
	s.logger.Info("copied up anew")
	s.save()
}

// wholeAgain reports whether the node is in sync wherever it is a member.
func (s *scrubber) wholeAgain() bool {
	whole := true
	err := s.group.EachLayout(0, func(l *stripe.Layout) bool {
		for r := range l.Regions() {
			v := l.View(r)
			if i, ok := v.Shard(s.node); ok && (v.Members[i].State != stripe.InSync || l.Marked[s.node]) {
				whole = false
			}
		}
		return whole
	})
	return err == nil && whole
}

// errAnew is in the error of a service that is to be opened again.
var errAnew = errors.New("the node's writes are to be copied up")

// startAnew has Raft mark this node in every view, and ends the service: whoever runs it opens it again (Anew).
//
// Order: 1. the token of the start is made durable, with the incarnation of now. 2. Raft takes or refuses it, with an incarnation that no
// disk has. 3. The service ends. A crash before 2 is a start like any other; after it the next start finds another incarnation
// in Raft than in its mark, and takes a new one.
func (s *Service) startAnew() error {
	mark, err := loadStart(s.cfg.FS, s.cfg.StoreDir)
	if err != nil {
		return err
	}
	known, err := s.knownStart()
	if err != nil {
		return err
	}
	mark.next = s.nextToken(mark, known)
	if err := s.saveMark(mark); err != nil {
		return err
	}
	r, err := s.client.propose(s.ctx, meta.LeaveViews{StartNode: meta.StartNode{Node: s.cfg.Node, Incarnation: randomIncarnation(),
		StartCounter: mark.next, ExpectCounter: known.Counter}})
	if err == nil && r.Kind != blocktree.Other {
		return r.Err("leave")
	}
	if err != nil { // it may have been done, or be done yet
		s.cfg.Logger.Warn("whether the node left its views is not known", "err", err)
	}
	s.fail(&blocktree.Error{Op: "scrub", Kind: blocktree.Unavailable, Err: errAnew, Hint: "start the node again: it is copied up anew"})
	return nil
}

// Anew reports whether an error of Fatal asks for no more than to close the service and to open it again.
func (s *Service) Anew(err error) bool { return errors.Is(err, errAnew) }

// Broken returns an error after which the process must exit that Fatal has not given; nil if there is none.
func (s *Service) Broken() error {
	select {
	case err := <-s.fatal:
		return err
	case err := <-s.member.fatal:
		return err
	case err := <-s.member.store.Fatal():
		return err
	case err := <-s.group.Fatal():
		return err
	default:
		return nil
	}
}

// ScrubNext has the node whose sectors are in dir, and which must be stopped, check all that it has after its next start, at once.
func ScrubNext(disk vfs.FS, dir string) error {
	var s scrubState
	s.load(disk, dir)
	s.asked = scrubWalk{id: rand.Uint64() | 1, active: true, began: time.Now().Unix()}
	return replaceFile(disk, dir, scrubFile, s.encode(), true)
}
