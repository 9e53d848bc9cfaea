package sim

import (
	"blocktree"
	"blocktree/cluster/stripe"
)

// What a take-over goes by. A member that is asked twice answers twice, and one that lies may say something else each time: the holder takes the answer to the
// question that it asked last, once, and what it decides is judged by that one.

// fenced is what a client's holder has taken from one member as its answer to the fence.
type fenced struct {
	id     uint64 // of the question that it asked last
	taken  bool
	states []stripe.RegionState
}

// asksFence notes a question: what was taken before, if anything, does not count.
func (c *client) asksFence(m *stripe.Message) {
	if m.Kind == stripe.KindFence && len(c.w.liars.nodes) > 0 {
		f := fenced{id: m.ID}
		if old := c.fences[c.w.nodeOf(m.Node)]; old != nil && m.Region > 0 { // another page
			f.states = old.states
		}
		c.fences[c.w.nodeOf(m.Node)] = &f
	}
}

// takesFence notes an answer that the holder is about to take. Should it ask again in place of that, asksFence hears of it before anything is judged.
func (c *client) takesFence(m *stripe.Message) {
	f := c.fences[c.w.nodeOf(m.Node)]
	if f == nil || f.id != m.ID || f.taken || m.Kind != stripe.KindFence || m.Err != blocktree.Other || m.Epoch != c.epoch || c.w.meta.fileOf(m.File) != c.file {
		return
	}
	f.taken, f.states = true, append(f.states, m.Regions...)
}

// refusesFences takes back what the holder has found to be nonsense: it asks again, or goes on without that member.
func (c *client) refusesFences(xs []stripe.Suspect) {
	for _, x := range xs {
		if f := c.fences[c.w.nodeOf(x.Node)]; f != nil && x.Kind == stripe.SuspectNonsense && x.Count == 0 { // those of reads say of which sectors
			f.taken, f.states = false, nil
		}
	}
}

// told is what a holder has taken from a node of a write: that it holds it, that it knows that it is acknowledged or was kept, and whether there was an answer.
func (c *client) told(n *node, x *write) (holds, knows, asked bool) {
	f := c.fences[n.idx]
	if f == nil || !f.taken {
		return false, false, false
	}
	for _, s := range f.states {
		if s.Region != x.region {
			continue
		}
		if !s.Watermark.Less(x.version) {
			holds, knows = true, true
		}
		for _, p := range s.Pending {
			if p.Version == x.version && p.Digest == digestOf(x) {
				holds, knows = true, knows || !p.Pending
			}
		}
	}
	return holds, knows, true
}
