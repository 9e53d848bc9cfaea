package cluster

import (
	"context"
	"slices"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
	"blocktree/internal/wire"
)

// healInterval is how often the leader looks for files that lost members and that nobody holds.
const healInterval = 2 * time.Second

// healJoinDelay is joinDelay for a file that nobody holds: no write waits for who joins it. Of a node that fails it doubles, as ever.
const healJoinDelay = 4 * tickInterval

// healPatience is how long a file may make no progress before another one gets its turn.
const healPatience = 30 * time.Second

// heal settles what a holder left behind and copies up what is out of sync in files without a holder: the leader takes the
// lease as any holder would, which decides what was in flight and brings the members back, and lets go. A client that wants
// the file asks it to yield. What a holder left behind where the leader has no place is settled by a node that has. Small files are healed several
// at a time (healer).
func (s *Service) heal() {
	h := newHealer()
	ticker := time.NewTicker(healInterval)
	defer ticker.Stop()
	for last := s.cfg.Clock.Boot(); ; {
		select {
		case <-s.ctx.Done():
			return
		case <-ticker.C:
			if draining, err := s.group.Draining(); err == nil {
				s.client.setDraining(draining)
			}
			now := s.cfg.Clock.Boot()
			h.noteLoad(s.member.servedClients(&h.served), now-last)
			last = now
			s.look(h, now)
		case w := <-h.ended:
			h.end(w)
			s.noticed.add(w.file) // it may not be whole yet
			if h.cutOff() {
				h.look(s.eachWound)
			}
		}
		for w, ok := h.next(); ok; w, ok = h.next() {
			if !s.isWounded(w.file) {
				h.end(w)
				continue
			}
			s.wg.Go(func() {
				s.healFile(w.file)
				h.ended <- w
			})
		}
	}
}

// look looks for files to be healed: at all of them where that is due, else at those of which something has changed.
func (s *Service) look(h *healer, now time.Duration) {
	o, _ := s.lookOut()
	files, all := s.noticed.take()
	if !all && h.pauses(now, &o) {
		h.look(s.eachNoticed(files))
		return
	}
	h.look(s.eachWound)
	h.looked(s.cfg.Clock.Boot(), now, o)
}

// outlook is what it depends on beside a file's layout whether it is to be healed by this node.
type outlook struct {
	leader                  blocktree.NodeID
	gone, draining, serving []blocktree.NodeID
}

func (o *outlook) equal(b *outlook) bool {
	return o.leader == b.leader && slices.Equal(o.gone, b.gone) && slices.Equal(o.draining, b.draining) && slices.Equal(o.serving, b.serving)
}

// lookOut returns it, and whether a leader is known: else nothing can be healed.
func (s *Service) lookOut() (o outlook, ok bool) {
	o.leader, ok = s.group.Leader()
	o.gone, o.draining = s.peers.silentFor(s.client.cfg.SpareAfter), s.client.knownDraining()
	o.serving = slices.DeleteFunc(s.peers.nodes(), func(n blocktree.NodeID) bool { return !s.peers.isServing(n) })
	return o, ok
}

// eachWound gives f the files after one (zero: all) that nobody holds and that a holder could make whole, or readable, ascending by inode, until f
// returns false.
func (s *Service) eachWound(after blocktree.FileID, f func(wound) bool) {
	o, ok := s.lookOut()
	if !ok {
		return
	}
	_ = s.group.EachLayout(after.Inode, func(l *stripe.Layout) bool {
		return s.tellWound(l, &o, f) && s.ctx.Err() == nil
	})
}

// tellWound gives f a file if it is to be healed now; false if f says no.
func (s *Service) tellWound(l *stripe.Layout, o *outlook, f func(wound) bool) bool {
	return !s.wounded(l, o) || s.isHeld(l.File) || f(wound{l.File, l.Sectors * uint64(l.SectorBytes)})
}

// eachNoticed is eachWound for some files, ascending by inode.
func (s *Service) eachNoticed(files []blocktree.FileID) func(blocktree.FileID, func(wound) bool) {
	return func(after blocktree.FileID, f func(wound) bool) {
		o, ok := s.lookOut()
		for _, file := range files {
			if !ok || s.ctx.Err() != nil {
				return
			}
			if file.Inode <= after.Inode {
				continue
			}
			l, err := s.group.Layout(file)
			if err == nil && l != nil && !s.tellWound(l, &o, func(w wound) bool {
				s.noticed.add(file) // there may be no room for it now
				return f(w)
			}) {
				return
			}
		}
	}
}

// isWounded reports whether eachWound would give a file now.
func (s *Service) isWounded(f blocktree.FileID) bool {
	o, ok := s.lookOut()
	l, err := s.group.Layout(f)
	return ok && err == nil && l != nil && s.wounded(l, &o) && !s.isHeld(f)
}

// wounded reports whether a holder could make a file whole, or readable, and it is on this node to be that. One that is lossy has members that are
// marked, and is neither before somebody takes what is left of it.
func (s *Service) wounded(l *stripe.Layout, o *outlook) bool {
	leads := o.leader == s.cfg.Node
	return leads && (s.curable(l) || len(o.gone) > 0 && s.spareWanted(l, o.gone) || s.moveWanted(l, o.draining)) ||
		s.stuck(l) && (leads || s.speaksFor(l, o.leader))
}

// isHeld reports whether somebody has the lease of a file.
func (s *Service) isHeld(f blocktree.FileID) bool {
	lease, err := s.group.Lease(f)
	return err == nil && lease != nil && lease.Session != (meta.SessionID{})
}

// curable reports whether some member that is not in sync serves now, and no member in sync is away or marked without
// being noticed.
func (s *Service) curable(l *stripe.Layout) bool {
	if len(l.BaseOut)+len(l.Own)+len(l.Marked) == 0 {
		return false
	}
	for r := range l.Regions() {
		for _, m := range l.View(r).Members {
			if (m.State != stripe.InSync || l.Marked[m.Node]) && s.peers.isServing(m.Node) {
				return true
			}
		}
	}
	return false
}

// spareWanted reports whether a node that is away for good has a place that another could have, in a region that a holder could
// do something about.
func (s *Service) spareWanted(l *stripe.Layout, gone []blocktree.NodeID) bool {
	for r := range l.Regions() {
		v := l.View(r)
		serving, lost := 0, false
		for _, m := range v.Members {
			lost = lost || slices.Contains(gone, m.Node)
			if m.State == stripe.InSync && !l.Marked[m.Node] && s.peers.isServing(m.Node) {
				serving++
			}
		}
		if lost && serving >= l.Code.Data && slices.ContainsFunc(s.peers.nodes(), func(n blocktree.NodeID) bool {
			_, there := v.Shard(n)
			return !there && s.peers.isServing(n)
		}) {
			return true
		}
	}
	return false
}

// moveWanted reports whether a place of a member in sync that drains could be another node's. While a holder works on that, its layout says so
// as well: nobody else will, as the heir goes with its epoch.
func (s *Service) moveWanted(l *stripe.Layout, draining []blocktree.NodeID) bool {
	if len(draining) == 0 || !slices.ContainsFunc(draining, func(n blocktree.NodeID) bool { return slices.Contains(l.Hosts, n) }) {
		return false
	}
	for r := range l.Regions() {
		v := l.View(r)
		if slices.ContainsFunc(v.Members, func(m stripe.ViewMember) bool {
			return m.State == stripe.InSync && !l.Marked[m.Node] && slices.Contains(draining, m.Node)
		}) && slices.ContainsFunc(s.peers.nodes(), func(n blocktree.NodeID) bool {
			_, there := v.Shard(n)
			return !there && !slices.Contains(draining, n) && s.peers.isServing(n)
		}) {
			return true
		}
	}
	return false
}

// stuck reports whether nobody can read some of a file for want of a holder, though enough members serve: its last one died
// within its take-over, or with writes in flight that readers could judge only if all members in sync answered. It goes by
// what this node's own member knows.
func (s *Service) stuck(l *stripe.Layout) bool {
	s.member.mu.Lock()
	recovering, pending := s.member.machine.Unsettled(l)
	s.member.mu.Unlock()
	if !recovering && !pending {
		return false
	}
	away := false
	for r := range l.Regions() {
		serving := 0
		for _, m := range l.View(r).Members {
			if m.State != stripe.InSync {
				continue
			}
			if l.Marked[m.Node] || !s.peers.isServing(m.Node) {
				away = true
				continue
			}
			serving++
		}
		if serving < l.Code.Data {
			return false // a take-over would not end
		}
	}
	return recovering || away
}

// speaksFor reports whether it is on this node to judge a file that is stuck: it is the first that serves of those in sync in
// a region that the leader is not in sync in.
func (s *Service) speaksFor(l *stripe.Layout, leader blocktree.NodeID) bool {
	for r := range l.Regions() {
		v := l.View(r)
		if i, ok := v.Shard(leader); ok && v.Members[i].State == stripe.InSync {
			continue
		}
		for _, m := range v.Members {
			if m.State != stripe.InSync || l.Marked[m.Node] || m.Node != s.cfg.Node && !s.peers.isServing(m.Node) {
				continue
			}
			if m.Node == s.cfg.Node {
				return true
			}
			break
		}
	}
	return false
}

// healFile holds one file until its members are in sync, or it is asked for.
func (s *Service) healFile(f blocktree.FileID) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	s.mu.Lock()
	s.healing[f] = cancel
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.healing, f)
		s.mu.Unlock()
	}()
	inode, err := s.group.StatID(f)
	if err != nil {
		return
	}
	path := s.cfg.Directory.Join("file " + f.String())
	h, err := s.client.open(ctx, path, inode, OpenOptions{joinDelay: healJoinDelay})
	if err != nil {
		return // somebody has it after all: then it is theirs to heal
	}
	s.cfg.Logger.Info("copying up", "file", f.String())
	progress, since := uint64(0), time.Now()
	wanted := func() bool {
		l := h.layout()
		return s.spareWanted(l, s.peers.silentFor(s.client.cfg.SpareAfter)) || s.moveWanted(l, s.client.knownDraining())
	}
	for ctx.Err() == nil && (!h.healed(s.peers) || wanted()) && time.Since(since) < healPatience {
		if st := h.Stats(); st.Installed+st.Promoted+st.Placed+st.ComparedSectors != progress {
			progress, since = st.Installed+st.Promoted+st.Placed+st.ComparedSectors, time.Now()
		}
		select {
		case <-ctx.Done():
		case <-time.After(tickInterval):
		}
	}
	if err := h.Close(); err != nil && ctx.Err() == nil {
		s.cfg.Logger.Warn("copying up ended badly", "file", f.String(), "err", err)
	}
}

func (h *Handle) layout() *stripe.Layout {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.holder.Layout()
}

// healed reports whether every member that can be reached is in sync, or the handle has ended.
func (h *Handle) healed(p *peers) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return true
	}
	if !h.holder.Recovered() {
		return false
	}
	l := h.holder.Layout()
	for r := range l.Regions() {
		for _, m := range l.View(r).Members {
			if (m.State != stripe.InSync || l.Marked[m.Node]) && p.conn(m.Node) != nil {
				return false
			}
		}
	}
	return true
}

// yield lets go of a file that is held only to heal it.
func (s *Service) yield(req *bttp.Request) {
	d := wire.NewDecoder(req.Header)
	f := d.File()
	if err := d.Finish(); err != nil {
		req.Fail(err)
		return
	}
	who := req.Conn.Peer()
	if err := s.letGo(who, f); err != nil {
		if blocktree.KindOf(err) == blocktree.Permission {
			s.audit.refused(asker{who, req.Conn.RemoteAddr()}, "have a copy-up wait", f, err)
		}
		req.Fail(err)
		return
	}
	req.Reply(nil)
}

// letGo is yield for somebody who may hold the file; whoever may not would keep it from being whole again for ever. What is not applied here yet is by
// when it asks again.
func (s *Service) letGo(who cred.Identity, f blocktree.FileID) error {
	if _, node := s.roster.node(who.Principal); !node {
		j, err := s.group.Judge(callerOf(who), f, meta.RightsHold, s.cfg.Clock.Now().UnixNano())
		if err != nil {
			return err
		}
		if j.Refusal != nil {
			return j.Refusal
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel := s.healing[f]; cancel != nil {
		cancel()
	}
	return nil
}
