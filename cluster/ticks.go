package cluster

import (
	"time"

	"blocktree"
)

// goneTicks is how many ticks lie between two looks for nodes that are away for good.
const goneTicks = 10

// A machine that has been idle for restAfter ticks is told the time every restInterval, until it is not idle any more: it has nothing that would be late by that.
const (
	restAfter    = int(time.Second / tickInterval)
	restInterval = goneTicks * tickInterval
)

// tick tells the machine the time, also when nothing else happens.
func (h *Handle) tick() {
	t := time.NewTicker(tickInterval)
	defer t.Stop()
	idle, resting := 0, false // idle: ticks that found the machine so, in a row
	for i := 0; ; i++ {
		select {
		case <-h.ctx.Done():
			return
		case <-h.stir:
			idle, resting = 0, false
			t.Reset(tickInterval)
		case <-t.C:
			var gone []blocktree.NodeID
			if i%goneTicks == 0 || resting { // not under mu: watchers are told of nodes under the peers' lock
				gone = h.client.peers.silentFor(h.client.cfg.SpareAfter)
			}
			h.mu.Lock()
			for _, n := range gone {
				h.holder.NodeGone(n)
			}
			now := h.clock.read()
			if !h.over {
				h.holder.Tick(now)
				h.progress.look(now, h.holder.Stats(), h.holder.Layout())
			}
			report := h.meter.measure(now, h)
			if idle++; !h.holder.Idle() {
				idle = 0
			}
			rests := idle > restAfter
			h.resting = rests
			h.leave()
			switch {
			case rests && !resting:
				t.Reset(restInterval)
			case resting && !rests:
				t.Reset(tickInterval)
			}
			resting = rests
			h.tend()
			if report != nil {
				h.client.peers.broadcast(codeCopyUp, report)
			}
		}
	}
}
