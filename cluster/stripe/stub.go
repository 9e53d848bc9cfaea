package stripe

import (
	"time"

	"blocktree"
)

type Member struct{}

func NewMember(node blocktree.NodeID, inc blocktree.Incarnation) *Member { return &Member{} }
func RestoreMember(node blocktree.NodeID, inc blocktree.Incarnation, snapshot []byte) (*Member, error) {
	return nil, nil
}
func (m *Member) SetMutant(name string)             {}
func (m *Member) Step(msg *Message)                 {}
func (m *Member) Learn(l *Layout)                   {}
func (m *Member) Forget(file blocktree.FileID)      {}
func (m *Member) CaughtUp(file blocktree.FileID)    {}
func (m *Member) Ready() MemberReady                { return MemberReady{} }
func (m *Member) Located(refs []Ref, noSpace []int) {}
func (m *Member) Durable(n uint64)                  {}
func (m *Member) Apply(rec *Record, ref Ref)        {}
func (m *Member) Snapshot() []byte                  { return nil }
func (t *ReadTask) Answer(committed []Extent, payload, seals []byte, next blocktree.SectorIndex, err blocktree.Kind) *Message {
	return nil
}

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

func EncodeMessage(m *Message) (header []byte, body [][]byte) { return nil, nil }
func DecodeMessage(header, body []byte) (*Message, error)     { return nil, nil }
func EncodeLayout(l *Layout) []byte                           { return nil }
func DecodeLayout(b []byte) (*Layout, error)                  { return nil, nil }

// Mutants lists names, each with a one-line meaning after a colon.
func Mutants() []string { return nil }
