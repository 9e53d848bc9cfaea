package cluster

import (
	"context"
	"fmt"
	"sync"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/internal/bttp"
)

// holders knows, for this node, who may change a file's sectors: the principal whose session has the lease under the
// newest epoch. The machine goes by epochs alone, which anybody in the domain can look up; so every message that changes or
// promises something is checked here first against who sent it. Sector hosts of the cluster are believed, as
// healers; a gateway passes on connections in which the client itself has proven who it is.
type holders struct {
	group *meta.Group
	nodes *roster

	mu    sync.RWMutex
	known map[blocktree.FileID]holder
	drops uint64 // counts drop and reset, so that an answer of Raft that is older than one is not kept
}

// holder is who has a file's lease under an epoch; the zero Principal once it has been given up.
type holder struct {
	epoch     blocktree.Epoch
	principal blocktree.Principal
}

// verdict is what becomes of a message.
type verdict int

const (
	admitted verdict = iota
	denial           // the sender does not hold the file
	outdated         // the sender's epoch is over: it must learn that it is fenced
	unknown          // this node's Raft log may not have the epoch yet
)

// applied is part of meta.Config.OnApply: leases that were granted or given up are looked up anew.
func (h *holders) applied(c meta.Changes) {
	if len(c.Leases) == 0 && len(c.Removed) == 0 && !c.Reset {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drops++
	if c.Reset {
		clear(h.known)
	}
	for _, l := range c.Leases {
		delete(h.known, l.File)
	}
	for _, f := range c.Removed {
		delete(h.known, f)
	}
}

// judge says what becomes of a message from a peer. A read of somebody who is not the holder is admitted without its
// watermark, which would make the member commit. It reads Raft's local state at the first message of a lease.
func (h *holders) judge(from blocktree.Principal, msg *stripe.Message) verdict {
	if _, ok := h.nodes.node(from); ok {
		return admitted
	}
	return h.judgeOther(from, msg)
}

// judgeOther is judge of somebody who is no sector host.
func (h *holders) judgeOther(from blocktree.Principal, msg *stripe.Message) verdict {
	if msg.Kind == stripe.KindLearn {
		return admitted
	}
	h.mu.RLock()
	who, ok := h.known[msg.File]
	h.mu.RUnlock()
	if !ok {
		who, ok = h.lookup(msg.File)
	}
	v := denial
	switch {
	case !ok || who.epoch < msg.Epoch:
		v = unknown
	case who.epoch > msg.Epoch:
		v = outdated
	case who.principal == from:
		v = admitted
	}
	if msg.Kind == stripe.KindRead && v != admitted {
		msg.Watermark = blocktree.Version{}
		return admitted
	}
	return v
}

// mayChange reports whether from is the holder of a file as far as this node has heard, or a sector host.
func (h *holders) mayChange(from blocktree.Principal, f blocktree.FileID) bool {
	if _, ok := h.nodes.node(from); ok {
		return true
	}
	h.mu.RLock()
	who, ok := h.known[f]
	h.mu.RUnlock()
	if !ok {
		who, ok = h.lookup(f)
	}
	return ok && who.principal == from
}

// lookup asks the group's applied state who has the lease, and keeps the answer until the lease changes.
func (h *holders) lookup(f blocktree.FileID) (holder, bool) {
	h.mu.RLock()
	drops := h.drops
	h.mu.RUnlock()
	lease, err := h.group.Lease(f)
	if err != nil {
		return holder{}, false
	}
	who := holder{epoch: lease.Epoch}
	if s, err := h.group.Session(lease.Session); err == nil {
		who.principal = s.Principal
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.drops == drops {
		h.known[f] = who
	}
	return who, true
}

// syncsMax bounds the messages that wait for the node's Raft log to catch up before they can be judged.
const syncsMax = 256

// decodeRequest decodes a sector message that asks something. One that carries a body which its kind has no use for is refused:
// while it waits for Raft nobody counts that memory.
func decodeRequest(header, body []byte) (*stripe.Message, error) {
	msg, err := stripe.DecodeMessage(header, body)
	if err == nil && (msg.Answer || len(body) > 0 && !msg.Kind.Carries()) {
		return nil, blocktree.E("cluster", blocktree.Invalid, fmt.Errorf("kind %d is no request with a body of %d bytes", msg.Kind, len(body)))
	}
	return msg, err
}

// admit judges a sector message and passes it to the member, answers it, or does so once the node's Raft log is up to now.
func (s *Service) admit(req *bttp.Request) {
	msg, err := decodeRequest(req.Header, req.Body)
	if err != nil {
		req.Fail(err)
		req.Release()
		return
	}
	from := req.Conn.Peer().Principal
	if _, node := s.roster.node(from); node {
		s.member.serve(req, msg, true)
		return
	}
	v := s.holders.judgeOther(from, msg)
	allowed, refusal := s.allow(req.Conn, msg, false)
	if allowed && v != unknown || refusal != nil {
		s.settleVerdict(req, msg, v, refusal, true)
		return
	}
	if s.syncs.Add(1) > syncsMax || req.OneWay {
		s.syncs.Add(-1)
		req.Fail(blocktree.E("cluster", blocktree.Busy, nil))
		req.Release()
		return
	}
	s.requests.Go(func() {
		defer s.syncs.Add(-1)
		ctx, cancel := context.WithTimeout(s.ctx, metaTimeout)
		defer cancel()
		if err := s.group.Sync(ctx); err != nil {
			req.Fail(err)
			req.Release()
			return
		}
		v := s.holders.judgeOther(from, msg)
		if v == unknown {
			v = denial // an epoch that nobody was given
		}
		_, refusal := s.allow(req.Conn, msg, true)
		s.settleVerdict(req, msg, v, refusal, false)
	})
}

// settleVerdict ends what was judged. A refusal for want of a right comes first: who has none learns nothing else.
func (s *Service) settleVerdict(req *bttp.Request, msg *stripe.Message, v verdict, refusal error, inServe bool) {
	if refusal != nil {
		if blocktree.KindOf(refusal) == blocktree.Permission {
			what := "write sectors"
			if wanted(msg) == meta.RightRead {
				what = "read sectors"
			}
			s.audit.refused(asker{req.Conn.Peer(), req.Conn.RemoteAddr()}, what, msg.File, refusal)
		}
		req.Fail(refusal)
		req.Release()
		return
	}
	switch v {
	case admitted:
		s.member.serve(req, msg, inServe)
		return
	case outdated:
		header, body := stripe.EncodeMessage(&stripe.Message{Kind: msg.Kind, Answer: true, ID: msg.ID, Node: s.cfg.Node, File: msg.File,
			Region: msg.Region, Epoch: msg.Epoch, View: msg.View, Seq: msg.Seq, Version: msg.Version, Err: blocktree.Fenced})
		req.Reply(header, body...)
	default:
		req.Fail(denied("the sender does not hold the file"))
	}
	req.Release()
}
