package cluster

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
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
	// uplinkLook is how often a member looks who has the uplink; and how long each waits longer than the one before it, in the order of stores, until it tries itself.
	uplinkLook = time.Second
	// uplinkMin and uplinkMax bound the pauses after a try that failed.
	uplinkMin = 250 * time.Millisecond
	uplinkMax = 8 * time.Second
	// uplinkDialTimeout bounds a try at one parent.
	uplinkDialTimeout = 3 * time.Second
)

// sibling is another member of the cluster.
type sibling struct {
	node    blocktree.NodeID
	runtime blocktree.Runtime
	conn    *bttp.Conn // that this runtime has dialled; nil: there is none
}

// uplinks are the standing connections of one member: to the parent cluster, if it is the one that has it, and from clusters below.
type uplinks struct {
	self      blocktree.NodeID
	directory blocktree.Scope            // of the cluster
	siblings  func() []sibling           // without this one
	parents   func() []blocktree.Runtime // none: there is no cluster above, as far as is known. May block for a while
	failed    func()                     // nobody could be reached of those; nil: nobody wants to know
	wanted    func(*bttp.Conn) bool      // whether the cluster above is still that of a connection; nil: it is
	dial      func(context.Context, blocktree.Runtime) (*bttp.Conn, error)
	admit     func(cred.Identity) error // says who is a child; nil: whoever may be
	logger    *slog.Logger

	up atomic.Pointer[bttp.Conn] // nil: this is not the one

	mu    sync.Mutex
	below map[blocktree.Scope][]*bttp.Conn // by the child's directory
	count int

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
		holder, rank := u.holder(ctx)
		if holder != 0 {
			alone = time.Time{}
			continue
		}
		if alone.IsZero() {
			alone = time.Now()
		}
		if left := time.Duration(rank)*uplinkLook - time.Since(alone); left > 0 {
			wait = min(wait, left)
			continue
		}
		conn, err := u.connect(ctx, parents[tries%len(parents)])
		if tries++; err != nil {
			u.logger.Info("no uplink yet", "parent", parents[(tries-1)%len(parents)].Path.Short(), "err", err)
			if tries%len(parents) == 0 && u.failed != nil {
				u.failed()
			}
			wait = pause/2 + rand.N(pause/2)
			pause = min(2*pause, uplinkMax)
			continue
		}
		u.logger.Info("uplink", "parent", conn.Peer().Path.Short())
		begun := time.Now()
		u.hold(ctx, conn)
		alone = time.Time{}
		if time.Since(begun) >= lastedAfter { // else its end is a failure as any other
			pause, wait = uplinkMin, rand.N(uplinkMin)
		} else {
			wait, pause = pause/2+rand.N(pause/2), min(2*pause, uplinkMax)
		}
	}
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

// holder asks all siblings at once. It returns the lowest that holds an uplink, 0 if none does, and how many come before this one.
func (u *uplinks) holder(ctx context.Context) (holder blocktree.NodeID, rank int) {
	ctx, cancel := context.WithTimeout(ctx, uplinkLook)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, s := range u.siblings() {
		if s.node < u.self {
			rank++
		}
		if s.conn == nil {
			continue
		}
		wg.Go(func() {
			r, err := s.conn.CallWait(ctx, codeUplinkHeld, nil)
			if err != nil {
				return
			}
			defer r.Release()
			mu.Lock()
			defer mu.Unlock()
			if len(r.Header) == 1 && r.Header[0] == 1 && (holder == 0 || s.node < holder) {
				holder = s.node
			}
		})
	}
	wg.Wait()
	return holder, rank
}

// connect makes the standing connection to a parent.
func (u *uplinks) connect(ctx context.Context, parent blocktree.Runtime) (*bttp.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, uplinkDialTimeout)
	defer cancel()
	conn, err := u.dial(ctx, parent)
	if err != nil {
		return nil, err
	}
	r, err := conn.CallWait(ctx, codeUplink, []byte{1})
	r.Release()
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// hold keeps the uplink until it ends, or a lower member turns out to have one too.
func (u *uplinks) hold(ctx context.Context, conn *bttp.Conn) {
	u.up.Store(conn)
	defer u.up.Store(nil)
	for {
		t := time.NewTimer(uplinkLook/2 + rand.N(uplinkLook))
		select {
		case <-conn.Ended():
			t.Stop()
			u.logger.Warn("the uplink has ended", "parent", conn.Peer().Path.Short(), "err", conn.Err())
			return
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		if u.wanted != nil && !u.wanted(conn) {
			u.logger.Info("the cluster above is another one now", "parent", conn.Peer().Path.Short())
			_ = conn.Send(codeUplink, []byte{0})
			return
		}
		if other, _ := u.holder(ctx); other != 0 && other < u.self {
			u.logger.Info("the uplink is left to a sibling", "store", other.String())
			_ = conn.Send(codeUplink, []byte{0}) // the connection may be of use for more than this
			return
		}
	}
}

// answerHeld tells a sibling whether this member holds the uplink.
func (u *uplinks) answerHeld(req *bttp.Request) {
	held := byte(0)
	if u.up.Load() != nil {
		held = 1
	}
	req.Reply([]byte{held})
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

// down returns the connections to the cluster below that is nearest to a directory, the newest first.
func (u *uplinks) down(dir blocktree.Scope) []*bttp.Conn {
	u.mu.Lock()
	defer u.mu.Unlock()
	for d := dir; d != u.directory && d.Within(u.directory); d = d.Parent() {
		if found := u.below[d]; len(found) > 0 {
			newest := slices.Clone(found)
			slices.Reverse(newest)
			return newest
		}
	}
	return nil
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

// Children are the directories below of whose clusters this member has the standing connection, ascending.
func (s *Service) Children() []blocktree.Scope { return s.uplinks.children() }

// newUplinks are those of a service.
func (s *Service) newUplinks() *uplinks {
	u := &uplinks{self: s.cfg.Node, directory: s.cfg.Directory, siblings: s.siblings, parents: s.cfg.Parents, dial: s.endpoint.Dial, admit: s.cfg.AdmitChild,
		logger: s.cfg.Logger, below: map[blocktree.Scope][]*bttp.Conn{}}
	if u.parents == nil {
		u.parents = func() []blocktree.Runtime { return nil }
	}
	return u
}

// followTree has uplinks go by the process records, where the cluster was founded by such, and by its configuration where it was not.
func (s *Service) followTree(u *uplinks) {
	if u.admit == nil {
		u.admit = s.admitChild
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
