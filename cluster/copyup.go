package cluster

import (
	"context"
	"slices"
	"sync"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/internal/bttp"
	"blocktree/internal/wire"
)

// How far a copy-up is, its holder alone knows, and that may be any process. So a holder tells every node once in
// copyUpInterval, and who asks for the status asks the nodes. It is a hint: nothing goes by it.

// copyUpInterval is how often a holder tells; what is older than copyUpStale is forgotten. copyUpsMax bounds what a node keeps: as
// many files are hardly ever copied up at once, and of others the status says less.
const (
	copyUpInterval = 2 * time.Second
	copyUpStale    = 5 * copyUpInterval
	copyUpsMax     = 256
	copyUpFormat   = 1
)

// copyUp is how far the copy-up of a file is.
type copyUp struct {
	file           blocktree.FileID
	leftSectors    uint64 // to be compared or copied, at most, all members together
	sectorsPerS    uint64 // that were compared or found unchanged
	bytesPerSecond uint64 // that were copied
}

// CopyUpStatus is how far a copy-up is. LeftBytes are of shards that may have to be copied: those found unchanged are not.
type CopyUpStatus struct {
	LeftBytes      uint64 `json:"leftBytes"`
	BytesPerSecond uint64 `json:"bytesPerSecond"`
	SecondsLeft    uint64 `json:"secondsLeft"` // 0: not known yet
}

func (u *copyUp) status(i *meta.Inode) *CopyUpStatus {
	s := &CopyUpStatus{LeftBytes: u.leftSectors * uint64(i.Code.ShardBytes(int(i.SectorBytes))), BytesPerSecond: u.bytesPerSecond}
	if u.sectorsPerS > 0 {
		s.SecondsLeft = max(1, u.leftSectors/u.sectorsPerS)
	}
	return s
}

func (u *copyUp) put(e *wire.Encoder) {
	e.File(u.file)
	e.U64(u.leftSectors)
	e.U64(u.sectorsPerS)
	e.U64(u.bytesPerSecond)
}

// getCopyUp reads what put wrote. More sectors than a file can have are refused, as others multiply by them.
func getCopyUp(d *wire.Decoder) copyUp {
	u := copyUp{file: d.File(), leftSectors: d.U64(), sectorsPerS: d.U64(), bytesPerSecond: d.U64()}
	if u.leftSectors > fileSectorsMax || u.sectorsPerS > fileSectorsMax || u.bytesPerSecond > 1<<62 {
		d.Fail(blocktree.E("decode copy-up", blocktree.OutOfRange, nil))
	}
	return u
}

func encodeCopyUps(us []copyUp) []byte {
	var e wire.Encoder
	e.U8(copyUpFormat)
	e.U32(uint32(len(us)))
	for i := range us {
		us[i].put(&e)
	}
	return e.Buf
}

func decodeCopyUps(b []byte) ([]copyUp, error) {
	d := wire.NewDecoder(b)
	d.Format(copyUpFormat)
	var us []copyUp
	for range d.Count(copyUpsMax) {
		us = append(us, getCopyUp(d))
		if d.Err() != nil {
			break
		}
	}
	return us, d.Finish()
}

// copyUpMeter measures the copy-up of one handle; its mutex is the handle's.
type copyUpMeter struct {
	at   time.Duration
	last stripe.HolderStats
}

// measure returns what is to be told, nil if it is not time or nothing is copied up.
func (m *copyUpMeter) measure(now time.Duration, h *Handle) []byte {
	if now-m.at < copyUpInterval || h.over {
		return nil
	}
	st, l := h.holder.Stats(), h.holder.Layout()
	was, seconds := m.last, (now - m.at).Seconds()
	m.at, m.last = now, st
	if len(l.BaseOut)+len(l.Own) == 0 || st.ComparedSectors+st.CopiedSectors == was.ComparedSectors+was.CopiedSectors {
		return nil
	}
	u := copyUp{file: l.File, leftSectors: st.LeftSectors}
	for r := range l.Regions() {
		_, count := l.Run(r)
		v := l.View(r)
		for _, x := range v.Members {
			if x.State == stripe.Out && h.client.peers.conn(x.Node) != nil ||
				x.State == stripe.InSync && v.Heir == 0 && slices.Contains(h.draining, x.Node) {
				u.leftSectors += count
			}
		}
	}
	u.sectorsPerS = uint64(float64(max(st.ComparedSectors-was.ComparedSectors, st.CopiedSectors-was.CopiedSectors)) / seconds)
	u.bytesPerSecond = uint64(float64(st.CopiedBytes-was.CopiedBytes) / seconds)
	return encodeCopyUps([]copyUp{u})
}

// copyUps is what a node was told of lately.
type copyUps struct {
	mu    sync.Mutex
	known map[blocktree.FileID]toldCopyUp
}

type toldCopyUp struct {
	copyUp
	at time.Time
}

// told keeps what the holder of a file says.
func (c *copyUps) told(req *bttp.Request, holds func(blocktree.Principal, blocktree.FileID) bool) {
	us, err := decodeCopyUps(req.Header)
	if err != nil || len(us) != 1 || !holds(req.Conn.Peer().Principal, us[0].file) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget()
	if _, there := c.known[us[0].file]; there || len(c.known) < copyUpsMax {
		c.known[us[0].file] = toldCopyUp{us[0], time.Now()}
	}
}

// forget drops what is old; mu is held.
func (c *copyUps) forget() {
	if c.known == nil {
		c.known = map[blocktree.FileID]toldCopyUp{}
	}
	for f, t := range c.known {
		if time.Since(t.at) > copyUpStale {
			delete(c.known, f)
		}
	}
}

func (c *copyUps) answer(req *bttp.Request) {
	c.mu.Lock()
	c.forget()
	us := make([]copyUp, 0, len(c.known))
	for _, t := range c.known {
		us = append(us, t.copyUp)
	}
	c.mu.Unlock()
	req.Reply(nil, encodeCopyUps(us))
}

// copyUpsWait bounds the question for what is copied up: the status is of use without.
const copyUpsWait = 500 * time.Millisecond

// copyUps asks every node what it was told of.
func (c *Client) copyUps(ctx context.Context) map[blocktree.FileID]copyUp {
	ctx, cancel := context.WithTimeout(ctx, copyUpsWait)
	defer cancel()
	all := map[blocktree.FileID]copyUp{}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, n := range c.peers.nodes() {
		conn := c.peers.conn(n)
		if conn == nil {
			continue
		}
		wg.Go(func() {
			r, err := conn.CallWait(ctx, codeCopyUps, nil)
			if err != nil {
				return
			}
			us, err := decodeCopyUps(r.Body)
			r.Release()
			mu.Lock()
			defer mu.Unlock()
			for i := range us {
				if err == nil {
					all[us[i].file] = us[i]
				}
			}
		})
	}
	wg.Wait()
	return all
}
