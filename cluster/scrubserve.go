package cluster

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"blocktree"
	"blocktree/internal/bttp"
	"blocktree/internal/wire"
)

// scrubRequest asks a node how its scrubs stand and, if it names one, to begin it.
type scrubRequest struct {
	id    uint64 // of the scrub to begin, drawn by who asks; 0: none
	files []blocktree.FileID
}

func (r *scrubRequest) encode() []byte {
	var e wire.Encoder
	e.U8(scrubFormat)
	e.U64(r.id)
	e.U32(uint32(len(r.files)))
	for _, f := range r.files {
		e.File(f)
	}
	return e.Buf
}

func decodeScrubRequest(b []byte) (r scrubRequest, err error) {
	d := wire.NewDecoder(b)
	d.Format(scrubFormat)
	r.id, r.files = d.U64(), decodeFiles(d)
	return r, d.Finish()
}

// ScrubReport is how the scrubs of one node stand.
type ScrubReport struct {
	Total    ScrubCounts    `json:"total"`  // since the node was made
	Walks    uint64         `json:"walks"`  // in the background, that came to their end
	Active   bool           `json:"active"` // one in the background is under way
	Asked    ScrubAsked     `json:"asked"`
	Findings []ScrubFinding `json:"findings"` // the last ones
}

// ScrubAsked is the last scrub that somebody asked for.
type ScrubAsked struct {
	ID     uint64      `json:"-"`
	Active bool        `json:"active"`
	Counts ScrubCounts `json:"counts"`
	Left   uint64      `json:"notRepairedYet"` // sectors that could not be repaired, nor be called beyond repair
	Done   uint64      `json:"doneSectors"`    // of the files' sectors, so many of
	Of     uint64      `json:"ofSectors"`
}

func (r *ScrubReport) encode() []byte {
	var e wire.Encoder
	e.U8(scrubFormat)
	encodeCounts(&e, &r.Total)
	e.U64(r.Walks)
	e.Bool(r.Active)
	e.U64(r.Asked.ID)
	e.Bool(r.Asked.Active)
	encodeCounts(&e, &r.Asked.Counts)
	e.U64(r.Asked.Left)
	e.U64(r.Asked.Done)
	e.U64(r.Asked.Of)
	encodeFindings(&e, r.Findings)
	return e.Buf
}

func decodeScrubReport(b []byte) (r ScrubReport, err error) {
	d := wire.NewDecoder(b)
	d.Format(scrubFormat)
	r.Total, r.Walks, r.Active = decodeCounts(d), d.U64(), d.Bool()
	r.Asked.ID, r.Asked.Active, r.Asked.Counts = d.U64(), d.Bool(), decodeCounts(d)
	r.Asked.Left, r.Asked.Done, r.Asked.Of = d.U64(), d.U64(), d.U64()
	r.Findings = decodeFindings(d)
	return r, d.Finish()
}

// begin begins the scrub that is asked for, unless it runs already: a request that was lost comes again. Busy while another does.
func (s *scrubber) begin(r scrubRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &s.state.asked
	if r.id == 0 || r.id == w.id {
		return nil
	}
	if w.active || w.owed > 0 {
		if !slices.Equal(w.files, r.files) {
			return &blocktree.Error{Op: "scrub", Kind: blocktree.Busy, Err: errors.New("the node scrubs other files now"),
				Hint: "wait until that is done; see btnode status --json"}
		}
		w.id = r.id // whoever asked for it may be gone
		return nil
	}
	*w = scrubWalk{id: r.id, active: true, began: time.Now().Unix(), files: r.files}
	s.done, s.of, s.counted = 0, 0, time.Time{}
	signal(s.wake)
	return nil
}

func (s *scrubber) report() *ScrubReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := &s.state.asked
	return &ScrubReport{Total: s.state.total, Walks: s.state.passes, Active: s.state.ground.active, Findings: slices.Clone(s.state.findings),
		Asked: ScrubAsked{ID: a.id, Active: a.active || a.owed > 0, Counts: a.counts, Left: a.left, Done: s.done, Of: s.of}}
}

// serveScrub answers whoever is in the domain; who begins one has user id 0.
func (s *Service) serveScrub(req *bttp.Request) {
	r, err := decodeScrubRequest(req.Body)
	if err == nil && !s.isServing() {
		err = blocktree.E("scrub", blocktree.Unavailable, errors.New("the node is starting"))
	}
	if who := req.Conn.Peer(); err == nil && r.id != 0 && (who.UID != 0 || who.Anonymous()) {
		err = &blocktree.Error{Op: "scrub", Kind: blocktree.Permission, Err: errors.New(who.Path.Short() + " has not user id 0"), Hint: "user id 0 has files scrubbed"}
		s.audit.refused(asker{who, req.Conn.RemoteAddr()}, "scrub", "", err)
	}
	if err == nil {
		err = s.scrubber.begin(r)
	}
	if err != nil {
		req.Fail(err)
		return
	}
	req.Reply(nil, s.scrubber.report().encode())
}

func (s *Service) isServing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.serving != (incarnations{})
}

// askScrub asks one node.
func (c *Client) askScrub(ctx context.Context, node blocktree.NodeID, r scrubRequest) (*ScrubReport, error) {
	conn := c.peers.conn(node)
	if conn == nil {
		return nil, blocktree.E("scrub", blocktree.Unavailable, errors.New("the node does not answer"))
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	reply, err := conn.CallWait(ctx, codeScrub, nil, r.encode())
	if err != nil {
		return nil, err
	}
	defer reply.Release()
	out, err := decodeScrubReport(append([]byte(nil), reply.Body...))
	return &out, err
}

const (
	// scrubPoll is how often nodes are asked how far they are.
	scrubPoll = 500 * time.Millisecond
	// scrubSilence is how long one may not answer: longer than a start of a node takes that is to be copied up.
	scrubSilence = 60 * time.Second
)

// NodeScrub is what became of a scrub at one node.
type NodeScrub struct {
	Path   blocktree.Path `json:"path"`
	Err    error          `json:"-"`
	Error  string         `json:"error,omitempty"`
	Report *ScrubReport   `json:"-"` // the newest; nil before the first
	ScrubAsked
}

// Scrub has every node of the cluster scrub some files, all of them if none are named, and returns when they are done. progress is
// called now and then with how far they are. A node that cannot be asked has its Err set.
func (c *Client) Scrub(ctx context.Context, files []blocktree.FileID, progress func([]NodeScrub)) ([]NodeScrub, error) {
	if len(files) > ScrubFilesMax {
		return nil, blocktree.E("scrub", blocktree.TooLarge, nil)
	}
	files = slices.Clone(files)
	slices.SortFunc(files, compareFiles)
	r := scrubRequest{id: rand.Uint64() | 1, files: slices.Compact(files)}
	c.awaitNodes(ctx)
	nodes := c.peers.nodes()
	out := make([]NodeScrub, len(nodes))
	heard := make([]time.Time, len(nodes))
	for i, n := range nodes {
		out[i].Path, out[i].Active, heard[i] = blocktree.Path(c.peers.runtime(n).Path.Short()), true, time.Now()
	}
	for {
		active := false
		for i, n := range nodes {
			if x := &out[i]; x.Active {
				x.take(c.askScrub(ctx, n, r))
				x.waits(&heard[i])
				active = active || x.Active
			}
		}
		if progress(out); !active {
			return out, nil
		}
		if !pause(ctx, scrubPoll) {
			return out, &blocktree.Error{Op: "scrub", Kind: blocktree.Canceled, Err: ctx.Err(), Hint: "the nodes go on by themselves; ask again to see how far they are"}
		}
	}
}

func (x *NodeScrub) take(r *ScrubReport, err error) {
	if x.Err = err; err == nil {
		x.Report, x.ScrubAsked = r, r.Asked
	}
}

// waits decides whether a node that did not answer is waited for.
func (x *NodeScrub) waits(heard *time.Time) {
	x.Error = ""
	if x.Err == nil {
		*heard = time.Now()
		return
	}
	patience := scrubSilence
	if x.Report == nil {
		patience = statusWait // it never answered
	}
	if k := blocktree.KindOf(x.Err); time.Since(*heard) > patience || k == blocktree.Busy || k == blocktree.Unsupported || k == blocktree.Permission {
		x.Active, x.Error = false, x.Err.Error()
	}
}
