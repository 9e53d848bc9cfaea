package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
	"blocktree/route"
)

// Standing connections between a cluster and those above and below it: docs/design/0034-firewalls.md.

const (
	// uplinkLook is how often a member looks who has the uplink, give or take half of it. uplinkTurn is how long each waits longer than the one before it, in the order of stores, until it
	// tries itself: more than what one may look later than another.
	uplinkLook = time.Second
	uplinkTurn = 2 * uplinkLook
	// uplinkMin and uplinkMax bound the pauses after a try that failed.
	uplinkMin = 250 * time.Millisecond
	uplinkMax = 8 * time.Second
	// uplinkDialTimeout bounds a try at one parent: by its own way, a dial-back and a relay, each begun askAfter later than the one before.
	uplinkDialTimeout = 3 * time.Second
)

// sibling is another member of the cluster.
type sibling struct {
	node    blocktree.NodeID
	runtime blocktree.Runtime
	conn    *bttp.Conn // that this runtime has dialled; nil: there is none
}

// uplinks are the standing connections of one member: to the parent cluster, if it is the one that has it, to the nearest cluster above that it can dial, and from clusters below.
type uplinks struct {
	self      blocktree.NodeID
	directory blocktree.Scope                               // of the cluster
	siblings  func() []sibling                              // without this one
	parents   func() []blocktree.Runtime                    // none: there is no cluster above, as far as is known. May block for a while
	failed    func()                                        // nobody could be reached of those; nil: nobody wants to know
	wanted    func(*bttp.Conn) bool                         // whether the cluster above is still that of a connection; nil: it is
	above     func(dir blocktree.Scope) []blocktree.Runtime // of clusters above a directory, which are asked for a way to a parent there
	ways      *ways                                         // how parents are reached
	admit     func(cred.Identity) error                     // says who is a child; nil: whoever may be
	logger    *slog.Logger

	up   atomic.Pointer[bttp.Conn] // nil: this is not the one
	line atomic.Pointer[bttp.Conn] // along which asks go up and come down: up, where this member has dialled that; never one that was asked for

	opens  func(word []byte, holder blocktree.Principal, challenge []byte) (cred.Identity, error) // reads a word of a runtime above (0049)
	claims map[blocktree.NodeID]*uplinkClaim                                                      // of siblings that have said that they have the uplink; of the one goroutine that looks

	mu       sync.Mutex
	below    map[blocktree.Scope][]*bttp.Conn // by the child's directory
	count    int
	doubt    lineDoubts
	words    map[blocktree.Principal]int // that siblings wait for, by sibling
	wordsAll int

	watched bttp.Keeper // with each connection that take has kept: that its end is watched
}

// run holds the uplink where this is the member to do it, until ctx ends.
func (u *uplinks) run(ctx context.Context) {
	var alone time.Time // since when nobody has it
	pause, tries := uplinkMin, 0
	for wait := uplinkLook; sleepFor(ctx, wait); { // siblings are heard from first
		wait = uplinkLook/2 + rand.N(uplinkLook)
		parents := u.parents()
		if len(parents) == 0 {
			continue
		}
		holder, _, rank := u.holder(ctx)
		if holder != 0 {
			alone = time.Time{}
			continue
		}
		if alone.IsZero() {
			alone = time.Now()
		}
		if left := time.Duration(rank)*uplinkTurn - time.Since(alone); left > 0 {
			wait = min(wait, left)
			continue
		}
		conn, line, err := u.connect(ctx, parents[tries%len(parents)])
		if tries++; err != nil {
			u.logger.Info("no uplink yet", "parent", parents[(tries-1)%len(parents)].Path.Short(), "err", err)
			if tries%len(parents) == 0 && u.failed != nil {
				u.failed()
			}
			wait = pause/2 + rand.N(pause/2)
			pause = min(2*pause, uplinkMax)
			continue
		}
		u.told(conn, line)
		begun := time.Now()
		u.hold(ctx, conn, line)
		alone = time.Time{}
		if time.Since(begun) >= lastedAfter { // else its end is a failure as any other
			pause, wait = uplinkMin, rand.N(uplinkMin)
		} else {
			wait, pause = pause/2+rand.N(pause/2), min(2*pause, uplinkMax)
		}
	}
}

// told says in the log what came about.
func (u *uplinks) told(up, line *bttp.Conn) {
	if up == line {
		u.logger.Info("uplink", "parent", up.Peer().Path.Short())
		return
	}
	u.logger.Info("uplink", "parent", up.Peer().Path.Short(), "way", string(up.Way()), "line", line.Peer().Path.Short())
}

// sleepFor waits for d; false when ctx ends before.
func sleepFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// holder asks all siblings at once. It returns the lowest that is believed to hold an uplink and the lowest that has proven it, 0 if none does, and how many come before this one.
func (u *uplinks) holder(ctx context.Context) (holder, sure blocktree.NodeID, rank int) {
	ctx, cancel := context.WithTimeout(ctx, uplinkLook)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	siblings := u.siblings()
	maps.DeleteFunc(u.claims, func(n blocktree.NodeID, _ *uplinkClaim) bool {
		return !slices.ContainsFunc(siblings, func(x sibling) bool { return x.node == n })
	})
	least := func(a, b blocktree.NodeID) blocktree.NodeID {
		if a == 0 {
			return b
		}
		return min(a, b)
	}
	for _, s := range siblings {
		if s.node < u.self {
			rank++
		}
		if s.conn == nil {
			continue
		}
		mu.Lock()
		challenge := u.newChallenge(s.node)
		mu.Unlock()
		wg.Go(func() {
			r, err := s.conn.CallWait(ctx, codeUplinkHeld, challenge)
			if err != nil {
				return
			}
			defer r.Release()
			mu.Lock()
			defer mu.Unlock()
			has, proven := u.believes(s, challenge, r.Header, r.Body)
			if has {
				holder = least(holder, s.node)
			}
			if proven {
				sure = least(sure, s.node)
			}
		})
	}
	wg.Wait()
	return holder, sure, rank
}

// connect makes the standing connection to a parent, by any way, and the line beside it.
func (u *uplinks) connect(ctx context.Context, parent blocktree.Runtime) (up, line *bttp.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, uplinkDialTimeout)
	defer cancel()
	if up, err = u.ways.dial(ctx, parent); err != nil {
		return nil, nil, err
	}
	if line, err = u.lineBeside(ctx, up, parent); err != nil {
		u.let(up)
		return nil, nil, err
	}
	return up, line, nil
}

// lineBeside names this member to a runtime above as the one by which its directory is reached: to the parent, where that was dialled, else to the first that
// was of those which can be, and takes it. Asks, and what is relayed for them, go by nothing else, since beside a connection that was asked for no other can be opened.
func (u *uplinks) lineBeside(ctx context.Context, up *bttp.Conn, parent blocktree.Runtime) (line *bttp.Conn, err error) {
	if !up.Asked() {
		return up, says(ctx, up, 1)
	}
	err = errNobodyToAsk
	for _, r := range u.above(parent.Path.Parent()) {
		r.Services = []string{blocktree.ServiceSector}
		conn, errOne := u.ways.own(ctx, r)
		if errOne == nil {
			errOne = says(ctx, conn, 1)
		}
		if errOne == nil {
			return conn, nil
		}
		err = errOne
	}
	return nil, blocktree.E("uplink", blocktree.Unavailable, fmt.Errorf("no runtime above takes this cluster's line: %w", err))
}

// says tells a runtime above that a connection is its cluster's uplink, or is it no more.
func says(ctx context.Context, conn *bttp.Conn, is byte) error {
	r, err := conn.CallWait(ctx, codeUplink, []byte{is})
	r.Release()
	return err
}

// let ends a connection that was asked for: nobody else knows it. Others may be of use for more than this.
func (u *uplinks) let(conn *bttp.Conn) {
	if conn.Asked() {
		_ = conn.Close()
	}
}

// hold keeps the uplink until it ends, or a lower member turns out to have one too. One that others pass on it leaves for a better way.
func (u *uplinks) hold(ctx context.Context, up, line *bttp.Conn) {
	u.line.Store(line)
	u.up.Store(up)
	defer func() {
		u.up.Store(nil)
		u.line.Store(nil)
		u.let(up)
	}()
	pause := betterMin
	for better := time.Now().Add(pause); ; {
		t := time.NewTimer(uplinkLook/2 + rand.N(uplinkLook))
		select {
		case <-up.Ended():
			t.Stop()
			u.logger.Warn("the uplink has ended", "parent", up.Peer().Path.Short(), "err", up.Err())
			return
		case <-line.Ended():
			t.Stop()
			u.logger.Warn("the line above has ended", "to", line.Peer().Path.Short(), "err", line.Err())
			return
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		if u.wanted != nil && !u.wanted(up) {
			u.logger.Info("the cluster above is another one now", "parent", up.Peer().Path.Short())
			_ = line.Send(codeUplink, []byte{0})
			return
		}
		if _, other, _ := u.holder(ctx); other != 0 && other < u.self { // to a mere claim nothing is left
			u.logger.Info("the uplink is left to a sibling", "store", other.String())
			_ = line.Send(codeUplink, []byte{0})
			return
		}
		if up.Way() == bttp.Relayed && !time.Now().Before(better) {
			up, line = u.improve(ctx, up, line)
			pause = min(2*pause, betterMax)
			better = time.Now().Add(pause)
		}
	}
}

// improve tries for a better way than a relay. What is being said on the old one has until the next look to be answered: it is asked again where it was not.
func (u *uplinks) improve(ctx context.Context, up, line *bttp.Conn) (*bttp.Conn, *bttp.Conn) {
	ctx, cancel := context.WithTimeout(ctx, betterTimeout)
	defer cancel()
	peer := up.Peer()
	parent, ok := u.parentOf(peer)
	if !ok {
		return up, line
	}
	better, err := u.ways.better(ctx, parent)
	if err != nil {
		return up, line
	}
	own, err := u.lineBeside(ctx, better, parent)
	if err != nil {
		u.let(better)
		return up, line
	}
	u.logger.Info("the parent is reached by a better way", "parent", peer.Path.Short(), "way", string(better.Way()))
	if own != line {
		_ = line.Send(codeUplink, []byte{0})
	}
	u.line.Store(own)
	u.up.Store(better)
	for until := time.Now().Add(uplinkLook); up.InFlight() > 0 && time.Now().Before(until); {
		if !sleepFor(ctx, idleLook) {
			break
		}
	}
	u.let(up)
	return better, own
}

// parentOf is what is known of a parent.
func (u *uplinks) parentOf(peer cred.Identity) (blocktree.Runtime, bool) {
	all := u.parents()
	i := slices.IndexFunc(all, func(r blocktree.Runtime) bool { return r.Principal == peer.Principal })
	if i < 0 {
		return blocktree.Runtime{}, false
	}
	return all[i], true
}

// take keeps a connection as the uplink of the cluster of its peer's directory. Kinds: Permission, Busy.
func (u *uplinks) take(conn *bttp.Conn) error {
	const op = "uplink"
	peer := conn.Peer()
	dir := peer.Path.Parent()
	if !peer.Allows(blocktree.ServiceSector) || dir == u.directory || !dir.Within(u.directory) {
		return &blocktree.Error{Op: op, Path: peer.Path.Short(), Kind: blocktree.Permission,
			Err: errors.New("who keeps no sectors of a directory below this cluster's has no uplink here")}
	}
	if u.admit != nil {
		if err := u.admit(peer); err != nil {
			return err
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if slices.Contains(u.below[dir], conn) {
		return nil
	}
	if i := slices.IndexFunc(u.below[dir], func(c *bttp.Conn) bool { return c.Peer().Principal == peer.Principal }); i >= 0 {
		// The newest of one member counts: none of them takes the places of the others.
		u.below[dir] = append(slices.Delete(u.below[dir], i, i+1), conn)
		return nil
	}
	if len(u.below[dir]) >= blocktree.DownlinksPerDirectoryMax || u.count >= blocktree.DownlinksMax {
		return blocktree.E(op, blocktree.Busy, errors.New("this runtime has enough uplinks of clusters below"))
	}
	u.below[dir] = append(u.below[dir], conn)
	u.count++
	return nil
}

// drop forgets what take has kept.
func (u *uplinks) drop(conn *bttp.Conn) {
	dir := conn.Peer().Path.Parent()
	u.mu.Lock()
	defer u.mu.Unlock()
	i := slices.Index(u.below[dir], conn)
	if i < 0 {
		return
	}
	u.count--
	if u.below[dir] = slices.Delete(u.below[dir], i, i+1); len(u.below[dir]) == 0 {
		delete(u.below, dir)
	}
}

// down returns the connections to the clusters below that a directory lies in, of the nearest one first, and of one the newest: whoever is nearest may have been let go, or lie.
func (u *uplinks) down(dir blocktree.Scope) (all []*bttp.Conn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for d := dir; d != u.directory && d.Within(u.directory); d = d.Parent() {
		for _, conn := range slices.Backward(u.below[d]) {
			all = append(all, conn)
		}
	}
	return all
}

// has reports whether a connection is a cluster's below.
func (u *uplinks) has(conn *bttp.Conn) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Contains(u.below[conn.Peer().Path.Parent()], conn)
}

// children are the directories below of which there is a connection, ascending.
func (u *uplinks) children() (dirs []blocktree.Scope) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for d := range u.below {
		dirs = append(dirs, d)
	}
	slices.SortFunc(dirs, cmp.Compare[blocktree.Scope])
	return dirs
}

// serveUplink takes the connection of a request for a child's uplink.
func (s *Service) serveUplink(req *bttp.Request) {
	if len(req.Header) != 1 || req.Header[0] > 1 {
		req.Fail(blocktree.E("uplink", blocktree.Invalid, nil))
		return
	}
	if req.Header[0] == 0 {
		s.uplinks.drop(req.Conn)
		req.Reply(nil)
		return
	}
	if err := s.uplinks.take(req.Conn); err != nil {
		if s.crossing.asks.line(s.cfg.Clock.Now()) {
			s.cfg.Logger.Info("uplink refused", "of", req.Conn.Peer().Path.Short(), "err", err)
		}
		req.Fail(err)
		return
	}
	conn := req.Conn
	conn.Keep(&s.uplinks.watched, func() any { // once for a connection, however often it says so
		s.cfg.Logger.Info("uplink of a cluster below", "directory", conn.Peer().Path.Parent().Short(), "member", conn.Peer().Path.Short())
		s.requests.Go(func() {
			select {
			case <-conn.Ended():
			case <-s.ctx.Done():
			}
			s.uplinks.drop(conn)
		})
		return nil
	})
	if conn.Err() != nil { // whoever watches may have been here already
		s.uplinks.drop(conn)
	}
	req.Reply(nil)
}

// Uplink is the standing connection to the parent cluster, nil where this member does not have it. It does not block.
func (s *Service) Uplink() *bttp.Conn { return s.uplinks.up.Load() }

// Line is the standing connection to the nearest cluster above that this member can dial: the uplink, where that is the parent. nil as there.
func (s *Service) Line() *bttp.Conn { return s.uplinks.line.Load() }

// Children are the directories below of whose clusters this member has the standing connection, ascending.
func (s *Service) Children() []blocktree.Scope { return s.uplinks.children() }

// newUplinks are those of a service.
func (s *Service) newUplinks() *uplinks {
	nobody := func() []blocktree.Runtime { return nil }
	u := &uplinks{self: s.cfg.Node, directory: s.cfg.Directory, siblings: s.siblings, parents: s.cfg.Parents, admit: s.cfg.AdmitChild, logger: s.cfg.Logger,
		below: map[blocktree.Scope][]*bttp.Conn{}, claims: map[blocktree.NodeID]*uplinkClaim{}, words: map[blocktree.Principal]int{}}
	u.opens = func(word []byte, holder blocktree.Principal, challenge []byte) (cred.Identity, error) {
		return openUplinkWord(word, s.cfg.Root, s.cfg.Directory, holder, challenge, s.cfg.Clock.Now())
	}
	if u.parents == nil {
		u.parents = nobody
	}
	u.above = func(blocktree.Scope) []blocktree.Runtime { return nil }
	u.ways = &ways{parents: func(dir blocktree.Scope) []blocktree.Runtime { return u.above(dir) }, own: s.endpoint.Dial, ask: askBy(s.endpoint), hard: map[blocktree.Principal]bool{}}
	return u
}

// followTree has uplinks go by the process records, where the cluster was founded by such, and by its configuration where it was not.
func (s *Service) followTree(u *uplinks) {
	if u.admit == nil {
		u.admit = s.admitChild
	}
	u.above = s.routes.above
	opens := u.opens
	u.opens = func(word []byte, holder blocktree.Principal, challenge []byte) (cred.Identity, error) {
		id, err := opens(word, holder, challenge)
		if err == nil {
			err = s.refuses(id)
		}
		return id, err
	}
	listed := u.parents
	u.parents = func() []blocktree.Runtime {
		if s.isChild() {
			return s.parentHosts()
		}
		return listed()
	}
	u.failed = func() {
		if s.isChild() {
			s.routes.finder.Failed(route.Closest, s.cfg.Directory.Parent(), blocktree.ServiceSector)
		}
	}
	u.wanted = func(conn *bttp.Conn) bool {
		a, err := s.group.Above()
		return err != nil || a == nil || !s.isChild() || a.Parent == conn.Peer().Path.Parent()
	}
}

// isChild reports whether the cluster was founded in a delegated directory: then the cluster above is found, and has records of this one.
func (s *Service) isChild() bool {
	sb, err := s.group.Superblock()
	return err == nil && sb.Child
}

// parentHosts are sector hosts of the cluster above, as routes find them: by what this one remembers, and where nobody is there any more from the root directory on.
func (s *Service) parentHosts() []blocktree.Runtime {
	ctx, cancel := context.WithTimeout(s.ctx, blocktree.RouteFindTimeout)
	defer cancel()
	_, hosts, err := s.routes.nearest(ctx, s.cfg.Directory.Parent(), false)
	if err != nil {
		s.cfg.Logger.Debug("the cluster above is not found", "directory", s.cfg.Directory.Short(), "err", err)
	}
	return hosts
}

// admitChild takes for a member of a cluster below who has a record there; of a directory that has none, as its nodes go by a list of members, whoever may keep its sectors.
func (s *Service) admitChild(id cred.Identity) error {
	known, is, err := s.group.IsChild(blocktree.Runtime{Path: id.Path, Principal: id.Principal})
	if err == nil && known && !is {
		err = &blocktree.Error{Op: "uplink", Path: id.Path.Short(), Kind: blocktree.Permission, Err: errors.New("it has no process record in its directory")}
	}
	return err
}

// siblings are the other members, as far as they are known.
func (s *Service) siblings() (all []sibling) {
	for _, n := range s.peers.nodes() {
		if n != s.cfg.Node {
			all = append(all, sibling{n, s.peers.runtime(n), s.peers.conn(n)})
		}
	}
	return all
}
