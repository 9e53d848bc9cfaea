package cluster

import (
	"context"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
)

const (
	// keptPauseMin and keptPauseMax lie between two tries at what is refused because somebody else keeps the names of the directory.
	keptPauseMin, keptPauseMax = 50 * time.Millisecond, 200 * time.Millisecond
	// leavePauseMin and leavePauseMax lie between two tries to leave something that failed.
	leavePauseMin, leavePauseMax = 100 * time.Millisecond, 10 * time.Second
)

// errKept says why somebody has given up who waited for a directory that another session keeps. Its cluster has answered.
type errKept string

// Error implements error.
func (e errKept) Error() string { return string(e) }

// KeptDir is a directory whose names the session of a client keeps (docs/design/0079): no command of anybody else changes its entries until it is left, or the session ends. Any number of callers may use it at once.
type KeptDir struct {
	client  *Client
	session *session
	dir     blocktree.FileID
	wanted  chan struct{}
	told    bool // wanted is closed; under Client.mu, as is left
	left    bool
}

// keeperKey finds in a context the directory whose keeper asks for something.
type keeperKey struct{}

// MakeDirKept makes one directory, as meta.MakeDir says, and has the client's session keep its names from the first. The KeptDir is nil where it was made and is not kept: too many are. Kinds beside those of MakeDir: Unsupported, and nothing was done: who asks makes it by MakeDir (a cluster of a version before; another one than was thought, or one that has just begun; a session that has ended; Parents is set). Unavailable: it may have been made; then it is
// found out in the background, and left.
func (c *Client) MakeDirKept(ctx context.Context, o meta.MakeDir) (*meta.Inode, *KeptDir, error) {
	const op = "mkdir"
	wrong := func(err error) (*meta.Inode, *KeptDir, error) {
		return nil, nil, &blocktree.Error{Op: op, Path: o.Path.Short(), Err: err}
	}
	if o.Parents {
		return wrong(blocktree.E("", blocktree.Unsupported, nil))
	}
	at, leave, err := c.enterAt(ctx, o.Path)
	if err != nil {
		return wrong(err)
	}
	defer leave()
	s, err := at.theSession(ctx)
	if err != nil {
		return wrong(err)
	}
	turn := at.makes(s)
	defer at.made(s)
	r, err := at.makeUnder(ctx, s, meta.MakeDirKept{MakeDir: o, Session: s.id})
	if err != nil {
		return wrong(err)
	}
	if !r.Kept {
		return r.Inode, nil, nil
	}
	return r.Inode, at.noteKept(s, turn, r.Inode.ID), nil
}

// NotKept is a directory that the client does not keep, for who gives a spare a name in it. path is of what is in it. Kinds: Unsupported, Unavailable.
func (c *Client) NotKept(ctx context.Context, path blocktree.Path, dir blocktree.FileID) (*KeptDir, error) {
	at, leave, err := c.enterAt(ctx, path)
	if err != nil {
		return nil, blocktree.E("cluster", blocktree.Unsupported, err)
	}
	defer leave()
	s, err := at.theSession(ctx)
	if err != nil {
		return nil, err
	}
	k := &KeptDir{client: at, session: s, dir: dir, wanted: make(chan struct{}), left: true}
	k.tell() // nobody else has it yet
	return k, nil
}

// enterAt is the client of the cluster that most likely keeps what is at a path, of which the caller is a user until leave.
func (c *Client) enterAt(ctx context.Context, path blocktree.Path) (at *Client, leave func(), err error) {
	if c.tree == nil {
		return c, func() {}, nil
	}
	at = c.start(path, false, blocktree.FileID{})
	if at != c.tree.first {
		if err := c.tree.stays(ctx, at.cfg.Scope); err != nil {
			return nil, nil, err
		}
	}
	c.tree.enter(at)
	return at, func() { c.tree.leave(at) }, nil
}

// makeUnder has this cluster make something under a session; its inode is in the result. Kinds beside those of the op: Unsupported, and nothing was done (a cluster of a version before; another one keeps it, or this one has just begun; the session has ended). Of what has no answer it is found out in the background what came of it.
func (c *Client) makeUnder(ctx context.Context, s *session, op meta.Op) (meta.Result, error) {
	command := meta.Command{ID: meta.NewCommandID(), Op: op, Caller: behind(ctx, nil), Keeper: c.keeperIn(ctx)}
	r, err := c.proposeHere(ctx, command)
	switch {
	case err == nil && r.Kind == blocktree.Fenced: // it has ended without a word
		c.loseSession(s, r.Err("session"))
		fallthrough
	case isOlder(err), err == nil && (r.Redirect != nil || r.Kind == blocktree.Unavailable || r.Kind == blocktree.Busy):
		return r, blocktree.E("", blocktree.Unsupported, err)
	case err != nil && !isRefusal(err):
		c.settle(blocktree.FileID{}, command)
	case err == nil:
		err = r.Err("cluster")
	}
	if err == nil && r.Inode == nil {
		err = blocktree.E("cluster", blocktree.Corrupt, errNoSense)
	}
	if err == nil && c.tree != nil {
		c.tree.isHome(r.Inode.ID, c)
	}
	return r, err
}

// makes counts an answer that is on its way until made, and may say that a session keeps a directory. It returns which it is.
func (c *Client) makes(s *session) (turn uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.making++
	s.turn++
	return s.turn
}

func (c *Client) made(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.making--; s.making == 0 {
		s.gone = nil
	}
}

// noteKept notes that a session keeps a directory, as an answer says; turn is which.
func (c *Client) noteKept(s *session, turn uint64, dir blocktree.FileID) *KeptDir {
	k := &KeptDir{client: c, session: s, dir: dir, wanted: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != s || c.closed || s.gone[dir] || turn <= s.doubted {
		k.left = true
		k.tell()
		if !s.gone[dir] {
			c.leaveLocked(s.id, []blocktree.FileID{dir}, nil) // it was not, perhaps
		}
		return k
	}
	if s.kept == nil {
		s.kept = map[blocktree.FileID]*KeptDir{}
	}
	s.kept[dir] = k
	return k
}

// forgo notes that a directory was left of which nobody knew, as an answer that is on its way may say that it is kept. Where there are too many, none of those answers is believed. Client.mu is held.
func (s *session) forgo(dir blocktree.FileID) {
	switch {
	case s.making == 0:
	case len(s.gone) >= meta.KeptDirsPerSessionMax:
		s.doubted, s.gone = s.turn, nil
	case s.gone == nil:
		s.gone = map[blocktree.FileID]bool{}
		fallthrough
	default:
		s.gone[dir] = true
	}
}

// tell closes Wanted; Client.mu is held.
func (k *KeptDir) tell() {
	if !k.told {
		k.told = true
		close(k.wanted)
	}
}

// Dir is the directory's identity: its path may change.
func (k *KeptDir) Dir() blocktree.FileID { return k.dir }

// Client is the client of the cluster that keeps the directory: spares for it are taken there.
func (k *KeptDir) Client() *Client { return k.client }

// Own returns a context under which what is asked of the directory's cluster comes from its keeper, and so is let through. Others are kept out still.
func (k *KeptDir) Own(ctx context.Context) context.Context {
	return context.WithValue(ctx, keeperKey{}, k)
}

// Wanted is closed when somebody else wants a name in the directory, or to change the directory itself, when it was left, and when the session that keeps it has ended. Whoever keeps it then names what it gave away, and leaves it.
func (k *KeptDir) Wanted() <-chan struct{} { return k.wanted }

// Kept reports whether the names are the keeper's for certain at this moment: it was not left, and the session's term, margin taken off, has not run out. Only then what is remembered of the names is what the cluster has. It does not block.
func (k *KeptDir) Kept() bool { return k.KeptFor() > 0 }

// KeptFor is for how long Kept will be true, unless it is left; zero: it is not.
func (k *KeptDir) KeptFor() time.Duration {
	c := k.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.left || c.session != k.session || c.closed {
		return 0
	}
	return max(0, k.session.until-c.cfg.Clock.Boot())
}

// Leave gives the names back. It does not block: what is left at the same time is one command, which is asked for until it is done, or the session has ended, or the client is closed. Leaving twice does nothing.
func (k *KeptDir) Leave() {
	c := k.client
	c.mu.Lock()
	again := k.left
	k.left = true
	k.tell()
	delete(k.session.kept, k.dir)
	c.mu.Unlock()
	if !again {
		c.leave(k.session.id, []blocktree.FileID{k.dir}, nil)
	}
}

// keeperIn is the session from which a command comes that is asked for under ctx, as that of a keeper; zero: none of this client.
func (c *Client) keeperIn(ctx context.Context) meta.SessionID {
	if k, ok := ctx.Value(keeperKey{}).(*KeptDir); ok && k.client == c {
		return k.session.id
	}
	return meta.SessionID{}
}

// noteWanted tells the keepers of directories that others want them. One that nobody here knows of, as the answer to what made it never came, or is on its way, is left at once: nobody else would.
func (c *Client) noteWanted(dirs []blocktree.FileID) {
	if len(dirs) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.session
	if s == nil {
		return
	}
	var unknown []blocktree.FileID
	for _, dir := range dirs {
		if k := s.kept[dir]; k != nil {
			k.tell()
			continue
		}
		unknown = append(unknown, dir)
		s.forgo(dir)
	}
	c.leaveLocked(s.id, unknown, nil)
}

// endKept tells that a session which has ended keeps nothing any more; Client.mu is held.
func (s *session) endKept() {
	for _, k := range s.kept {
		k.tell()
	}
	s.kept = nil
	for _, p := range s.pools {
		p.free = nil
	}
}

// leaving is what a session gives back, and was not yet.
type leaving struct {
	dirs, spares []blocktree.FileID
	going        map[blocktree.FileID]bool // dirs, and those that are being asked for
}

// leave gives back directories, and spares that nobody uses. It does not block.
func (c *Client) leave(id meta.SessionID, dirs, spares []blocktree.FileID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaveLocked(id, dirs, spares)
}

// leaveLocked is leave; Client.mu is held.
func (c *Client) leaveLocked(id meta.SessionID, dirs, spares []blocktree.FileID) {
	if c.closed || c.session == nil || c.session.id != id || len(dirs)+len(spares) == 0 { // all goes with the session
		return
	}
	q := c.leaves[id]
	if q == nil {
		q = &leaving{going: map[blocktree.FileID]bool{}}
		if c.leaves == nil {
			c.leaves = map[meta.SessionID]*leaving{}
		}
		c.leaves[id] = q
		c.wg.Go(func() { c.leaveAll(id, q) })
	}
	for _, dir := range dirs { // answers tell of one until it is left
		if !q.going[dir] {
			q.going[dir] = true
			q.dirs = append(q.dirs, dir)
		}
	}
	q.spares = append(q.spares, spares...)
}

// leaveAll asks for what is to be left until there is nothing more.
func (c *Client) leaveAll(id meta.SessionID, q *leaving) {
	cut := func(files *[]blocktree.FileID) []blocktree.FileID {
		n := min(len(*files), meta.LeaveMax)
		now := (*files)[:n:n]
		*files = (*files)[n:]
		return now
	}
	for {
		c.mu.Lock()
		o := meta.Leave{Session: id, Dirs: cut(&q.dirs), Spares: cut(&q.spares)}
		if len(o.Dirs)+len(o.Spares) == 0 {
			delete(c.leaves, id)
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		for pause := leavePauseMin; ; pause = min(2*pause, leavePauseMax) {
			r, err := c.propose(c.ctx, o)
			if err == nil {
				err = r.Err("leave")
			}
			if err == nil || c.ctx.Err() != nil {
				break
			}
			c.cfg.Logger.Error("directories or spares are not given back yet", "directories", len(o.Dirs), "spares", len(o.Spares), "err", err)
			select {
			case <-c.ctx.Done():
				return
			case <-time.After(pause):
			}
		}
		c.mu.Lock()
		for _, dir := range o.Dirs {
			delete(q.going, dir)
		}
		c.mu.Unlock()
	}
}
