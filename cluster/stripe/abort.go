package stripe

import (
	"math/bits"

	"blocktree"
)

// noSpace begins to undo a write that a member had no space for (rule 9, decision 7). A joining member without space is
// sent away instead: it has nothing that counts.
func (w *hwrite) noSpace(slot int) {
	h := w.r.h
	bit := uint32(1) << slot
	if w.finished || w.r.sync&bit == 0 || h.mut == mutDropNoSpace {
		if w.r.isHeir(slot) {
			h.noRoom(w.r.members[slot], w.r.index)
		} else {
			w.r.members[slot].gone = true
			h.considerRemoval()
		}
		if c := w.slot(slot).cur; c != nil && c.gone { // asked again, should it have to stay for another region
			h.putBack(c)
		}
		return
	}
	if w.abort != nil {
		w.abort.refused |= bit
		return
	}
	w.beginAbort(slot, 0)
	if h.mut == mutAbortLoose {
		w.abort.final = true
		w.sendAborts(w.r.mask)
		return
	}
	w.sendAbort(slot, false)
}

// allNoSpace goes on to undo a write that several members had no space for: of each it is to be known whether it holds it after all.
func (w *hwrite) allNoSpace(refused uint32) {
	for ; refused != 0; refused &= refused - 1 {
		w.noSpace(bits.TrailingZeros32(refused))
	}
}

func (w *hwrite) beginAbort(slot int, acked uint32) {
	if w.abort == nil {
		w.abort = &abort{refuser: slot}
	}
	w.abort.refused |= 1 << slot
	w.abort.acked |= acked
}

// finalAbort goes on to all members: one of them refuses the version durably, so nobody can have read it.
func (w *hwrite) finalAbort(bit uint32) {
	w.abort.final, w.abort.refuser = true, bits.TrailingZeros32(bit)
	w.sendAborts(w.r.mask &^ w.abort.acked)
	w.abortDone()
}

func (w *hwrite) sendAborts(to uint32) {
	for to &^= w.r.unready; to != 0; to &= to - 1 {
		w.sendAbort(bits.TrailingZeros32(to), true)
	}
}

func (w *hwrite) sendAbort(slot int, final bool) {
	r, h := w.r, w.r.h
	s := w.slot(slot)
	if s.cur != nil {
		if !s.cur.gone && s.cur.msg.Kind == KindAbort && s.cur.msg.Last == final {
			return
		}
		h.drop(s.cur)
	}
	p := r.members[slot]
	s.cur = &call{peer: p, owner: w, slot: slot, msg: &Message{
		Kind: KindAbort, Node: p.node, File: h.layout.File, Region: r.index, Epoch: h.epoch, View: r.view.ID,
		Incarnation: h.layout.Incarnations[p.node], Watermark: r.told(), Version: w.version, Last: final,
	}}
	h.post(s.cur)
}

func (w *hwrite) abortAnswer(c *call, a *Message, bit uint32) {
	h := w.r.h
	switch {
	case a.Err != blocktree.Other:
		h.failedAnswer(c, a)
	case w.abort == nil:
	case a.Held && !w.abort.final: // it had stored it after all
		w.stored(c.slot)
		refused := w.abort.refused &^ bit & w.r.mask &^ w.answered
		w.abort = nil
		if refused != 0 {
			w.allNoSpace(refused)
			return
		}
		w.tryFinish()
		w.r.advance()
	default:
		w.abort.acked |= bit
		w.answered &^= bit
		if !w.abort.final {
			w.finalAbort(bit)
			return
		}
		w.abortDone()
	}
}

// abortDone ends the write once every member refuses it durably.
func (w *hwrite) abortDone() {
	if w.abort == nil || w.finished || !w.abort.final || w.abort.acked&w.r.mask != w.r.mask {
		return
	}
	w.finish(blocktree.NoSpace)
	w.r.advance()
}

// strike forgets what members that left the view were asked and have answered.
func (w *hwrite) strike(left uint32) {
	w.answered &^= left
	w.sent &^= left
	w.eachCall(func(i int, c *call) {
		if left>>i&1 != 0 {
			w.r.h.drop(c)
		}
	})
	if w.abort != nil {
		w.abort.acked &^= left
		w.abort.refused &^= left
	}
}

// membersLeft judges an abort anew after members left the view, once that is struck from all writes; gone says that the refuser is one of
// them. If one that remains refuses durably, it goes on. If not, all that remain may hold the version and a reader of the new view may
// have returned it: then they are asked to prepare it again, and what they say under the new view counts.
func (w *hwrite) membersLeft(gone bool) {
	r, h := w.r, w.r.h
	switch {
	case w.abort == nil || w.finished:
	case w.abort.final && w.abort.acked&r.sync != 0: // a joiner's refusal means nothing to readers
		w.abort.refuser = bits.TrailingZeros32(w.abort.acked & r.sync)
		w.abortDone()
	case w.abort.final:
		w.abort = nil
		w.eachCall(func(i int, c *call) {
			if !c.gone && c.msg.Kind == KindAbort {
				h.drop(c)
				w.answered &^= 1 << i
			}
		})
		w.sendAll()
	case gone:
		refused := w.abort.refused & r.mask
		w.abort = nil
		w.allNoSpace(refused)
	}
}
