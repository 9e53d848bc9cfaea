package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"blocktree"
	"blocktree/internal/bttp"
	"blocktree/internal/wire"
)

// A Raft member whose disk was wiped or put back to an earlier day has forgotten votes and entries that it promised to
// keep: it could help to elect a leader that lacks what was committed. So before a node takes part in its group it asks the
// others which start of it they know, and refuses to run when that is later than what its own metadata directory
// remembers. Others that do not answer cannot say no: a whole cluster that starts at once is not held up.

// raftMarkDir is where the start mark that goes with the metadata lies: it is lost, or goes back in time, together with it.
func (s *Service) raftMarkDir() string { return s.cfg.MetaDir }

// knownPatience is how long a starting node waits for the others' word: for as long as it may take to reach one that is far away or
// busy. Those that are down mostly say so at once; where they cannot, their machines being off, a start takes that long.
const knownPatience = blocktree.HandshakeTimeout

// refuseStale asks every other node, and the mark beside the node's own sectors. Kind Invalid when the metadata is older than
// what one of them knows, Corrupt when its mark is damaged and so cannot say.
func (s *Service) refuseStale(ctx context.Context) error {
	if err := s.remembered.load(s); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, knownPatience)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	newest := max(s.mark.current, s.mark.next) // of the mark beside the sectors, which is written after the one here
	for _, r := range s.cfg.Members {
		if r.Node == s.cfg.Node {
			continue
		}
		wg.Go(func() {
			if token, err := s.askKnown(ctx, r); err == nil {
				mu.Lock()
				newest = max(newest, token)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return s.remembered.refuse(s, newest)
}

// remembered is what the mark beside the metadata says when the node starts.
type remembered struct {
	token  uint64 // of the newest start that it knows
	damage error  // it cannot say
}

func (m *remembered) load(s *Service) error {
	mark, err := loadStart(s.cfg.FS, s.raftMarkDir())
	if err != nil && blocktree.KindOf(err) != blocktree.Corrupt {
		return err
	}
	m.token, m.damage = max(mark.current, mark.next), err
	return nil
}

// refuse refuses metadata that does not know the start that somebody else knows. It is asked before the node takes part in its group, of those
// who answer then; and once more of what the group says, as nobody may have: a store that was wiped has voted by then perhaps, but takes no part
// from there on.
func (m *remembered) refuse(s *Service, newest uint64) error {
	switch {
	case newest <= m.token:
		return nil
	case m.damage != nil:
		return &blocktree.Error{Op: "cluster.OpenService", Path: s.cfg.MetaDir, Kind: blocktree.Corrupt, Err: m.damage,
			Hint: "the file \"" + startFile + "\" there is damaged, so nobody can tell whether the metadata is the newest; restore it from a " +
				"copy made since this node's last start"}
	default:
		return &blocktree.Error{Op: "cluster.OpenService", Path: s.cfg.MetaDir, Kind: blocktree.Invalid,
			Err: fmt.Errorf("the cluster knows a later start of store %v than this directory does: it was wiped, or is an old copy", s.cfg.Node),
			Hint: "put the newest directory back or, if it is lost, see btnode node replace; a store id is never used again with another disk, as that can lose " +
				"what the cluster has committed"}
	}
}

// askKnown asks one node for the token of the newest start of this one that it knows; zero if it knows none.
func (s *Service) askKnown(ctx context.Context, r blocktree.Runtime) (uint64, error) {
	conn, err := s.endpoint.Dial(ctx, r)
	if err != nil {
		return 0, err
	}
	var e wire.Encoder
	e.U64(uint64(s.cfg.Node))
	reply, err := conn.CallWait(ctx, codeKnown, e.Buf)
	if err != nil {
		return 0, err
	}
	defer reply.Release()
	d := wire.NewDecoder(reply.Header)
	token := d.U64()
	return token, d.Finish()
}

// refuseEarly is the handler of a node that has not opened its group: it knows nothing yet. (It must not look at the service,
// which is still being made.)
func refuseEarly(req *bttp.Request) {
	req.Fail(blocktree.E("cluster", blocktree.Unavailable, errors.New("the node is starting")))
	req.Release()
}

// serveKnown answers askKnown from what this node has applied.
func (s *Service) serveKnown(req *bttp.Request) {
	defer req.Release()
	from, ok := s.roster.speaker(req)
	if !ok {
		req.Fail(denied("only sector hosts of the cluster may ask"))
		return
	}
	var e wire.Encoder
	e.U64(s.appliedStart(from))
	req.Reply(e.Buf)
}

// appliedStart is the token of a store's newest start; zero if it never started. It is that of a replaced store, too.
func (s *Service) appliedStart(node blocktree.NodeID) uint64 {
	n, err := s.group.Start(node)
	if err != nil {
		return 0
	}
	return n.Counter
}
