package cluster

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
)

// How many files are healed at a time (docs/design/0069-many-small-files.md).
const (
	// healFilesMax bounds the small files that are healed at a time: each waits for commands and syncs most of the time, and those of all go together.
	healFilesMax = 16
	// healSmallBytes is how long a small file may be. Larger ones are healed one at a time, beside small ones: neither waits for the other.
	healSmallBytes = 4 << 20
	// healBytesMax bounds the small files that are healed at a time by their length: that is as much as the copy-up of one large file has in flight.
	healBytesMax = 8 << 20
	// healBusy is from how many requests of clients per second on a node makes way for them: it heals a healYieldShare of both, one file at a time.
	healBusy       = 200
	healYieldShare = healFilesMax
	// healLookShare bounds the share of a processor that looks at all layouts take: of a million files one takes a second or two. Between those the files are
	// looked at of which something has changed, of which healNoticedMax are noted.
	healLookShare  = 20
	healNoticedMax = 1 << 14
	// healListMax bounds what a look at the layouts notes of files that are to be healed; the next begins after those.
	healListMax = 1024
)

// wound is a file that is to be healed; bytes is its length, whatever of that was written.
type wound struct {
	file  blocktree.FileID
	bytes uint64
}

// healer decides which files a node heals at a time. It is Service.heal's own.
type healer struct {
	lanes   [2]healLane // of small files, and of large ones
	running map[blocktree.FileID]bool
	ended   chan wound // has room for all that are healed
	served  uint64     // clients by the last noteLoad
	busy    bool
	sawAll  time.Duration // when the last look at all files ended
	took    time.Duration // and how long it took
	saw     outlook       // and what it went by
}

// healLane has files that are healed beside one another.
type healLane struct {
	filesMax int
	todo     []wound
	looks    bool             // the look that is under way fills todo
	after    blocktree.FileID // where the next look begins
	cut      bool             // the last one found more than todo has room for, or passed it over
	files    int              // that are healed now
	bytes    uint64           // likewise
}

func newHealer() *healer {
	h := &healer{lanes: [2]healLane{{filesMax: healFilesMax}, {filesMax: 1}}, running: map[blocktree.FileID]bool{}}
	h.ended = make(chan wound, healFilesMax+1)
	return h
}

// looked notes a look at all files, which began at a time. A lane that had something left looks once it has not, where something has changed that concerns all.
func (h *healer) looked(now, began time.Duration, o outlook) {
	if !h.saw.equal(&o) {
		for i := range h.lanes {
			l := &h.lanes[i]
			l.cut = l.cut || !l.looks
		}
	}
	h.sawAll, h.took, h.saw = now, now-began, o
}

// pauses reports whether the next look at all files is not due yet: nothing has changed that concerns them all, no lane has to look that was cut, and the last one was so long that
// the next has to wait.
func (h *healer) pauses(now time.Duration, o *outlook) bool {
	return !h.cutOff() && h.saw.equal(o) && now-h.sawAll < healLookShare*h.took
}

// noticed is files of which something has changed that a look for those to be healed goes by.
type noticed struct {
	mu    sync.Mutex
	files map[blocktree.FileID]bool
	all   bool // more than are noted
}

// applied is part of meta.Config.OnApply.
func (n *noticed) applied(c meta.Changes) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = n.all || c.Reset
	for _, l := range c.Layouts {
		n.addLocked(l.File)
	}
	for i := range c.Leases {
		if c.Leases[i].Session == (meta.SessionID{}) {
			n.addLocked(c.Leases[i].File)
		}
	}
}

func (n *noticed) add(f blocktree.FileID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addLocked(f)
}

func (n *noticed) addLocked(f blocktree.FileID) {
	if len(n.files) >= healNoticedMax {
		n.all = true
		return
	}
	if n.files == nil {
		n.files = map[blocktree.FileID]bool{}
	}
	n.files[f] = true
}

// take returns the files noted since the last time, ascending by inode, and whether there were more: then all are to be looked at.
func (n *noticed) take() (files []blocktree.FileID, all bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	files, all = slices.SortedFunc(maps.Keys(n.files), func(a, b blocktree.FileID) int { return cmp.Compare(a.Inode, b.Inode) }), n.all
	n.files, n.all = nil, false
	return files, all
}

func (h *healer) laneOf(w wound) *healLane {
	if w.bytes <= healSmallBytes {
		return &h.lanes[0]
	}
	return &h.lanes[1]
}

// noteLoad notes that so many requests of clients were served within a time.
func (h *healer) noteLoad(served uint64, within time.Duration) {
	h.busy = within > 0 && float64(served)/within.Seconds() >= healBusy
}

// look fills the lanes that have nothing left to begin with. each gives a function the files after one, ascending by inode, until that returns false.
func (h *healer) look(each func(after blocktree.FileID, f func(wound) bool)) {
	var from blocktree.FileID
	looking := 0
	for i := range h.lanes {
		l := &h.lanes[i]
		if l.looks = len(l.todo) == 0; !l.looks {
			continue
		}
		if looking++; looking == 1 || l.after.Inode < from.Inode {
			from = l.after
		}
		l.cut = false
	}
	if looking == 0 {
		return
	}
	each(from, func(w wound) bool {
		l := h.laneOf(w)
		switch {
		case !l.looks || l.cut || w.file.Inode <= l.after.Inode || h.running[w.file]:
		case len(l.todo) < healListMax:
			l.todo = append(l.todo, w)
		default:
			l.cut = true
			looking--
		}
		return looking > 0
	})
	for i := range h.lanes {
		if l := &h.lanes[i]; l.looks {
			if l.after = (blocktree.FileID{}); l.cut {
				l.after = l.todo[len(l.todo)-1].file
			}
		}
	}
}

// cutOff reports whether a lane has nothing left to begin with, and the last look saw more for it: then the next need not wait.
func (h *healer) cutOff() bool {
	for i := range h.lanes {
		if l := &h.lanes[i]; l.cut && len(l.todo) == 0 {
			return true
		}
	}
	return false
}

// next takes the next file that there is room for; end must follow. Files of a lane begin in their order: none is passed over for its length.
func (h *healer) next() (w wound, ok bool) {
	share := 1
	if h.busy {
		share = healYieldShare
	}
	for i := range h.lanes {
		l := &h.lanes[i]
		if len(l.todo) == 0 {
			continue
		}
		w = l.todo[0]
		if l.files > 0 && (l.files >= l.filesMax/share || l.bytes+w.bytes > healBytesMax/uint64(share)) {
			continue
		}
		l.todo = l.todo[1:]
		l.files++
		l.bytes += w.bytes
		h.running[w.file] = true
		return w, true
	}
	return wound{}, false
}

func (h *healer) end(w wound) {
	l := h.laneOf(w)
	l.files--
	l.bytes -= w.bytes
	delete(h.running, w.file)
}
