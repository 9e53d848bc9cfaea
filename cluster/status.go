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
)

// Health sums a cluster up.
type Health string

// The healths.
const (
	HealthOK          Health = "ok"          // every node is up and every file fully in sync
	HealthDegraded    Health = "degraded"    // everything can be read and written, with less redundancy
	HealthUnavailable Health = "unavailable" // the cluster has no majority, or a file cannot be written or read
)

// Status is what a client can see of a cluster.
type Status struct {
	Health Health       `json:"health"`
	Nodes  []NodeStatus `json:"nodes"`
	// Files are those of the cluster, all of them up to statusFilesMax; of more, those that are not whole, up to as many again. Unlisted counts the others, nil if
	// there are none. FilesUnknown says that nobody could say how the files are: then there are none here.
	Files        []FileStatus   `json:"files"`
	Unlisted     *UnlistedFiles `json:"unlisted,omitempty"`
	FilesUnknown bool           `json:"filesUnknown,omitempty"`
	// Credentials are those of who asks; nil if they have ended.
	Credentials *CredentialsStatus `json:"credentials,omitempty"`
}

// UnlistedFiles is how many files there are beside those that a status lists. It does not know whether they are re-sealed.
type UnlistedFiles struct {
	Whole       uint64 `json:"whole"`
	Degraded    uint64 `json:"degraded"`    // can be read and written
	Unavailable uint64 `json:"unavailable"` // cannot be written, or not read
	Directories uint64 `json:"directories"` // whose files who asks may not list: of them nothing is known
}

// CredentialsStatus is until when somebody's credentials are valid.
type CredentialsStatus struct {
	Until   time.Time `json:"until"`
	EndSoon bool      `json:"endSoon"` // new ones are due
}

// credentialsStatus is nil for nobody.
func (c *Client) credentialsStatus(id cred.Identity) *CredentialsStatus {
	if id.Anonymous() {
		return nil
	}
	return &CredentialsStatus{id.NotAfter.UTC(), id.EndsSoon(c.cfg.Clock.Now())}
}

// NodeStatus is one sector host.
type NodeStatus struct {
	Path   blocktree.Path `json:"path"`
	State  string         `json:"state"` // "up" or "down"
	Leader bool           `json:"leader"`
	Way    bttp.Way       `json:"way,omitempty"`   // how the connection to it came about; of a node that is up
	Via    blocktree.Path `json:"via,omitempty"`   // the node that passes on what is said to it, as it cannot be reached directly
	Scrub  *ScrubReport   `json:"scrub,omitempty"` // of a node that is up
	Space  *Space         `json:"space,omitempty"` // on the disk of its store; of a node that is up, and knows
	Drain  *DrainStatus   `json:"drain,omitempty"` // of a node that is to lose its places
	// Credentials are those that the node has shown; of a node that is up.
	Credentials *CredentialsStatus `json:"credentials,omitempty"`
	// Suspects is what others say that the node did and should not have; the oldest first.
	Suspects []SuspectStatus `json:"suspects,omitempty"`
}

// FileStatus is one file. InSync and Tolerates are minima over its regions.
type FileStatus struct {
	Path      string `json:"path"`
	Size      uint64 `json:"size"`
	Length    uint64 `json:"length"` // where reading it as bytes ends
	Code      string `json:"code"`
	InSync    int    `json:"inSync"`    // members that hold every acknowledged sector and can be reached
	Tolerates int    `json:"tolerates"` // how many more of them may be lost
	Joining   int    `json:"joining"`   // members being copied up
	Moving    int    `json:"moving"`    // places that other nodes are copied up for
	// Durability is "ack" or "flush". LossNumber is how often writes that were acknowledged and not flushed may have been lost; Lossy says that
	// they may have been just now, and nobody has opened the file since.
	Durability string `json:"durability"`
	LossNumber uint64 `json:"lossNumber"`
	Lossy      bool   `json:"lossy"`
	// CopyUp is how far that is, as the file's holder said lately; nil if nobody did.
	CopyUp *CopyUpStatus `json:"copyUp,omitempty"`
	// Reseal is how far what an older key sealed is sealed anew, as the file's holder said last; nil if nobody said that there is anything.
	Reseal *ResealStatus `json:"reseal,omitempty"`
}

// ResealStatus is how far a file is re-sealed.
type ResealStatus struct {
	LeftBytes      uint64 `json:"leftBytes"` // of the file, to be looked at
	BytesPerSecond uint64 `json:"bytesPerSecond"`
	SecondsLeft    uint64 `json:"secondsLeft"` // 0: not known yet
}

func resealStatus(i *meta.Inode) *ResealStatus {
	if i.Heard == (meta.Heard{}) || i.Heard.Sectors == meta.AllResealed {
		return nil
	}
	all := i.SizeBytes / uint64(i.SectorBytes)
	s := &ResealStatus{LeftBytes: (all - min(all, i.Heard.Sectors)) * uint64(i.SectorBytes), BytesPerSecond: i.Heard.Rate}
	if s.BytesPerSecond > 0 {
		s.SecondsLeft = max(1, s.LeftBytes/s.BytesPerSecond)
	}
	return s
}

// statusWait is how long Status waits for nodes that have not answered yet; where fewer than a majority have, it may be longer
// (awaitNodes).
const statusWait = 2 * time.Second

// statusSilence is how long Status goes on asking when nobody answers any more: a cluster that is far away, or has much to tell, is not one
// that is gone.
const statusSilence = statusWait + askTimeout

// statusAsksMax bounds how many questions of one Status wait for their answers at the same time.
const statusAsksMax = 16

// statusFilesMax bounds how many files one Status lists for being there, and how many more for not being whole, but for what is asked for at the same time: who has
// more looks at numbers.
const statusFilesMax = 10000

// Status asks the cluster how it is. It does not fail when no majority answers: that is a status too. It blocks until everything is known,
// or nobody has answered for statusSilence.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	c.awaitNodes(ctx)
	s := &Status{Health: HealthOK, Nodes: []NodeStatus{}, Files: []FileStatus{}, Credentials: c.credentialsStatus(c.Identity())}
	ask, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(statusSilence, cancel)
	defer silence.Stop()
	w := &statusWalk{c: c, ctx: ask, heard: func() { silence.Reset(statusSilence) }}
	w.ask = w.query
	a, err := w.query(meta.Query{Kind: meta.QueryStatus})
	if err == nil && a.Status != nil && a.Status.Leader != 0 { // who the nodes are by now; without a majority, by the configuration
		before := c.peers.nodes()
		records, cancel := context.WithTimeout(ask, statusWait)
		if c.readRecords(records) == nil {
			w.heard()
			if !slices.Equal(before, c.peers.nodes()) { // else they have had their moment
				c.awaitNodes(records)
			}
		}
		cancel()
	}
	live := w.nodes(s)
	for i, n := range c.peers.nodes() {
		s.Nodes[i].Leader = err == nil && a.Status != nil && a.Status.Leader == n
	}
	spare := live - (len(s.Nodes)/2 + 1)
	if spare < 0 || err != nil {
		s.Health, s.FilesUnknown = HealthUnavailable, true
		return s, nil
	}
	if live < len(s.Nodes) {
		s.Health = HealthDegraded
	}
	if err := w.files(s, spare); err != nil {
		if ctx.Err() != nil || blocktree.KindOf(err) != blocktree.Unavailable {
			return nil, err
		}
		s.Health, s.FilesUnknown = HealthUnavailable, true // the majority went away on the way
	}
	return s, nil
}

// Answering returns how many nodes of the cluster serve, as far as the client has heard, of how many. It does not block.
func (c *Client) Answering() (serving, all int) {
	for _, n := range c.peers.nodes() {
		all++
		if c.peers.isServing(n) {
			serving++
		}
	}
	return serving, all
}

// awaitNodes gives every node a moment to answer: statusWait, or twice as long as a majority took if that is longer. Where no majority has
// answered by then and some nodes have not said no either, they may be far away, and get the time of a handshake.
func (c *Client) awaitNodes(ctx context.Context) {
	begun, limit := time.Now(), time.Duration(0)
	for ctx.Err() == nil {
		serving, all := c.Answering()
		waited := time.Since(begun)
		if serving > all/2 && limit == 0 {
			limit = min(max(2*waited, statusWait), blocktree.HandshakeTimeout)
		}
		switch {
		case serving == all, limit > 0 && waited >= limit, waited >= blocktree.HandshakeTimeout:
			return
		case limit == 0 && waited >= statusWait && !c.peers.undecided():
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// fileStatus sums up the views of a file.
func (c *Client) fileStatus(path blocktree.Path, inode *meta.Inode, l *stripe.Layout, spare int) FileStatus {
	d := durabilityOf(l)
	now := c.redundancy(l)
	return FileStatus{Path: path.Short(), Size: inode.SizeBytes, Length: inode.Length(), Code: inode.Code.String(), InSync: now.InSync, Joining: now.Joining, Moving: now.Moving,
		Tolerates:  max(0, min(now.InSync-inode.Code.Data, spare)),
		Durability: d.Durability.String(), LossNumber: d.LossNumber, Lossy: d.Lossy, Reseal: resealStatus(inode)}
}
