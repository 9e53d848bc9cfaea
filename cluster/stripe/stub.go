package stripe

import (
	"time"

	"blocktree"
)

type Holder struct{}

func NewHolder(cfg HolderConfig, now time.Duration) *Holder               { return &Holder{} }
func (h *Holder) Tick(now time.Duration)                                  {}
func (h *Holder) Renewed(until time.Duration)                             {}
func (h *Holder) NodeUp(node blocktree.NodeID, inc blocktree.Incarnation) {}
func (h *Holder) NodeDown(node blocktree.NodeID)                          {}
func (h *Holder) Step(answer *Message)                                    {}
func (h *Holder) MetaDone(id uint64, l *Layout, err blocktree.Kind)       {}
func (h *Holder) Begin(r blocktree.RegionIndex) blocktree.Version         { return blocktree.Version{} }
func (h *Holder) Cancel(r blocktree.RegionIndex, v blocktree.Version)     {}
func (h *Holder) Write(op uint64, w *Write)                               {}
func (h *Holder) Read(op uint64, r blocktree.RegionIndex, first blocktree.SectorIndex, count uint32) {
}
func (h *Holder) ReadAll(op uint64, r blocktree.RegionIndex, first blocktree.SectorIndex, count uint32) {
}
func (h *Holder) Repair(op uint64, r blocktree.RegionIndex, first blocktree.SectorIndex, count uint32, v blocktree.Version, shard blocktree.ShardIndex) {
}
func (h *Holder) Flush(op uint64)    {}
func (h *Holder) Recovered() bool    { return false }
func (h *Holder) Fenced() bool       { return false }
func (h *Holder) Layout() *Layout    { return nil }
func (h *Holder) Stats() HolderStats { return HolderStats{} }
func (h *Holder) Ready() HolderReady { return HolderReady{} }

type ReaderConfig struct {
	MemberTimeout, StallTimeout time.Duration
	Mutant                      string
}
type Reader struct{}

func NewReader(cfg ReaderConfig, now time.Duration) *Reader               { return &Reader{} }
func (r *Reader) Tick(now time.Duration)                                  {}
func (r *Reader) NodeUp(node blocktree.NodeID, inc blocktree.Incarnation) {}
func (r *Reader) NodeDown(node blocktree.NodeID)                          {}
func (r *Reader) Step(answer *Message)                                    {}
func (r *Reader) Read(op uint64, l *Layout, region blocktree.RegionIndex, first blocktree.SectorIndex, count uint32) {
}
func (r *Reader) Ready() HolderReady { return HolderReady{} }
