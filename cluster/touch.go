package cluster

import (
	"context"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
)

// touch is what a handle has to say of when its file was written to (docs/design/0058): one command for all writes since the last.
type touch struct {
	every atomic.Int64 // how long lies between two notes at least; 0: TouchDeviceEvery, less: nothing is noted
	at    atomic.Int64 // of the last write that is not noted, nanoseconds since 1970; 0: there is none
	since atomic.Int64 // of the first of these, on Clock.Boot
	noted atomic.Int64 // when a note was begun last, likewise
	busy  atomic.Bool  // one is on its way
	off   atomic.Bool  // the cluster does not know of it
	due   atomic.Bool  // the file was flushed
}

// Wrote has the time of the file's last write noted, at the end of the handle at the latest.
func (h *Handle) Wrote() {
	if h.touch.every.Load() < 0 {
		return
	}
	if h.touch.at.Swap(h.client.cfg.Clock.Now().UnixNano()) == 0 {
		h.touch.since.Store(int64(h.client.cfg.Clock.Boot()))
	}
}

// WroteAt has the time of the file's last write be another one, in nanoseconds since 1970, if nothing is written from then on.
func (h *Handle) WroteAt(at int64) { h.touch.at.Store(at) }

// forgetPause lies between two looks whether a note has ended.
const forgetPause = 5 * time.Millisecond

// ForgetWrites has no note made of the writes until now, for somebody who says another time: one that is on its way would come after that, and is waited for. What it returns takes it back. Unavailable: ctx has ended before.
func (h *Handle) ForgetWrites(ctx context.Context) (again func(), err error) {
	for !h.touch.busy.CompareAndSwap(false, true) {
		select {
		case <-ctx.Done():
			return nil, blocktree.E("cluster", blocktree.Unavailable, ctx.Err())
		case <-time.After(forgetPause):
		}
	}
	at := h.touch.at.Swap(0)
	h.touch.busy.Store(false)
	return func() { h.touch.at.CompareAndSwap(0, at) }, nil
}

// NoteWrites has the last write noted at the next tick, if none was noted for as long as lies between two, nor is by then: the end of a file that moves says it, too. It does not wait for that.
func (h *Handle) NoteWrites() { h.touch.due.Store(true) }

// notedWith notes that the write of a time was said by another command.
func (h *Handle) notedWith(at int64) {
	if at != 0 && h.touch.at.CompareAndSwap(at, 0) {
		h.touch.noted.Store(int64(h.client.cfg.Clock.Boot()))
	}
}

// noteWrites begins to note the last write if enough time has passed since another time, on Clock.Boot.
func (h *Handle) noteWrites(since int64) {
	every := h.touch.every.Load()
	if every == 0 {
		every = int64(blocktree.TouchDeviceEvery)
	}
	now := int64(h.client.cfg.Clock.Boot())
	if h.touch.at.Load() == 0 || h.touch.off.Load() || since != 0 && now-since < every || !h.touch.busy.CompareAndSwap(false, true) {
		return
	}
	h.mu.Lock() // so that Close cannot be waiting for it yet
	defer h.mu.Unlock()
	if h.over {
		h.touch.busy.Store(false)
		return
	}
	h.touch.noted.Store(now)
	h.wg.Go(func() {
		defer h.touch.busy.Store(false)
		h.note()
	})
}

// note tells the group of the last write. What it was not told of is told with the next, or by a release.
func (h *Handle) note() {
	at := h.touch.at.Swap(0)
	if at == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(h.ctx, askTimeout)
	defer cancel()
	s, err := h.client.theSession(ctx)
	if err == nil {
		_, err = h.client.propose(ctx, meta.Touch{Session: s.id, File: h.inode.ID, Epoch: h.epoch, Time: at})
	}
	switch {
	case isOlder(err):
		h.touch.off.Store(true)
	case err != nil && !isRefusal(err):
		h.touch.at.CompareAndSwap(0, at)
	}
}

// isOlder reports whether the cluster does not know a command.
func isOlder(err error) bool {
	k := blocktree.KindOf(err)
	return err != nil && (k == blocktree.NewerFormat || k == blocktree.Unsupported)
}

// ending is the command that gives a lease back, with the last write where that is to be noted yet.
func (h *Handle) ending(s meta.SessionID) meta.Op {
	o := meta.Release{Session: s, File: h.inode.ID, Epoch: h.epoch}
	if at := h.touch.at.Swap(0); at != 0 && !h.touch.off.Load() {
		return meta.ReleaseAt{Release: o, Time: at}
	}
	return o
}

// tend begins a note that is due, also though nobody flushes.
func (h *Handle) tend() {
	flushed := h.touch.due.Swap(false)
	switch {
	case h.touch.at.Load() == 0:
	case flushed:
		h.noteWrites(h.touch.noted.Load())
	default:
		h.noteWrites(max(h.touch.since.Load(), h.touch.noted.Load()))
	}
}

// setTouch says how often writes are noted.
func (h *Handle) setTouch(every time.Duration) { h.touch.every.Store(int64(every)) }
