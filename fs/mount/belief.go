package mount

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"weak"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"blocktree"
)

// belief is what the kernel was told of a file: all that it may believe (docs/design/0082). There is one of each file, as long as any node of it is there.
type belief struct {
	length atomic.Uint64 // that was told last, or that an open said

	mu      sync.Mutex
	known   bool      // something was told since the kernel forgot
	attr    fuse.Attr // the first of that
	several bool      // there was other than that
	opened  uint64    // when an open last went by attr, by tree.questions; 0: none since the kernel forgot
	news    uint64    // likewise, when the kernel was last to forget, or was told of a change made here
	held    int       // how many have no open go by attr
	until   time.Time // likewise all, before this

	torn       bool           // the kernel was to forget what an open did not say, and may not have taken an answer since
	forgetting int            // how many are having it forget just now
	heard      map[uint32]int // while torn: how many answers each thread has had since the kernel forgot
	tells      int            // likewise, all of them
}

// tornTellsMax is how many answers the kernel is given after an open had it forget, at the most, before one of them has been taken for certain: one that it has not taken has a thread which still waits.
const tornTellsMax = 64

// beliefOf is that of a file. It is not the node's: where the kernel has a node of the file go-fuse drops those that are made of other looks at it, by whatever name.
func (t *tree) beliefOf(id blocktree.FileID) *belief {
	t.beliefsMu.Lock()
	defer t.beliefsMu.Unlock()
	if s := t.beliefs[id].Value(); s != nil {
		return s
	}
	s := new(belief)
	t.beliefs[id] = weak.Make(s)
	runtime.AddCleanup(s, t.forgotten, id)
	return s
}

// forgotten is for a file of which there is no node any more.
func (t *tree) forgotten(id blocktree.FileID) {
	t.beliefsMu.Lock()
	defer t.beliefsMu.Unlock()
	if t.beliefs[id].Value() == nil {
		delete(t.beliefs, id)
	}
}

// question is a question about a file whose answer the kernel is told.
type question struct {
	tree   *tree
	thread uint32 // that asks
	began  uint64
	holds  *belief
	lasts  time.Duration // for how long the kernel may go by what it is told
}

// asks is a question of whom ctx is of.
func (t *tree) asks(ctx context.Context) question {
	return question{tree: t, thread: threadOf(ctx), lasts: blocktree.MountCacheFor}
}

// threadOf is the thread that waits for an answer of the mount; 0: one of those that the mount does not see, as it is in a container and they are not.
func threadOf(ctx context.Context) uint32 {
	if c, ok := fuse.FromContext(ctx); ok {
		return c.Pid
	}
	return 0
}

// begin is to be said before anything is asked.
func (x *question) begin() { x.began = x.tree.questions.Add(1) }

// tell notes what the kernel is told next. It is false where that was asked before a file was opened that the kernel goes by other attributes of: it is to be asked anew.
func (x *question) tell(s *belief, attr *fuse.Attr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.began < s.opened && *attr != s.attr {
		if x.holds == nil {
			x.holds = s
			s.held++
		}
		return false
	}
	s.note(attr)
	x.lasts = s.lasts(x.thread)
	return true
}

// lasts is for how long the kernel may go by what a thread is told now; mu is held. While it takes an answer, which marks what it has as good and only then has the new length, others may see the length of before it forgot
// (docs/design/0082, 8). So after an open had it forget it goes by nothing, until it has taken one: whoever was told something since has asked for what he is told next after it forgot, and has taken that when he asks once more.
func (s *belief) lasts(thread uint32) time.Duration {
	if s.torn && s.forgetting > 0 { // whatever was told may have been asked for before
		return 0
	}
	if s.torn && (thread == 0 || s.heard[thread] < 2) && s.tells < tornTellsMax {
		s.heard[thread]++
		s.tells++
		return 0
	}
	s.torn, s.heard = false, nil
	return blocktree.MountCacheFor
}

// of is tell, of what a name was found to have.
func (x *question) of(i *gofs.Inode, out *fuse.EntryOut) bool {
	if c := i.Operations().(*node); c.belief != nil && !x.tell(c.belief, &out.Attr) {
		return false
	}
	out.SetAttrTimeout(x.lasts)
	return true
}

// isOld reports whether the kernel was to forget the attributes of a file, or was told of a change of them, since that was asked. Of what it asks for by itself it knows that; a page of a listing was asked for before it asks for the entries.
func (x *question) isOld(id blocktree.FileID) bool {
	s := x.tree.beliefOf(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	return x.began < s.news
}

// end is to be said when it was told, or not.
func (x *question) end() {
	if x.holds != nil {
		x.holds.release()
	}
}

// note adds to what was told; mu is held.
func (s *belief) note(attr *fuse.Attr) {
	s.length.Store(attr.Size)
	switch {
	case !s.known:
		s.known, s.attr = true, *attr
	case s.attr != *attr:
		s.several = true
	}
}

// unordered notes what the kernel is told of a node by an answer that it takes whatever it heard since it asked, as are those to what makes and changes something. h is a handle that it gives to who asked, and gets back after that; nil: there is none.
func unordered(i *gofs.Inode, attr *fuse.Attr, h *writing) {
	s := i.Operations().(*node).belief
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(attr)
	s.news = i.Operations().(*node).tree.questions.Add(1)
	if h != nil {
		s.held++
		h.holds = true
		return
	}
	s.until = time.Now().Add(2 * blocktree.MountCacheFor)
}

// goBy reports whether the kernel may go by what it was told, as that is what an open has said. What others are told from then on was asked after it, or is the same.
func (s *belief) goBy(t *tree, attr *fuse.Attr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held > 0 || s.several || s.known && s.attr != *attr || time.Now().Before(s.until) {
		return false
	}
	s.known, s.attr, s.opened = true, *attr, t.questions.Add(1)
	return true
}

// forget has the kernel forget the attributes, by notify. It takes nothing then that it asked for before; what was listed before that is not told (isOld). opened is what an open has said for which it forgets, and whose thread has its answer next; nil: it is for none.
func (s *belief) forget(t *tree, opened *fuse.Attr, thread uint32, notify func() syscall.Errno) {
	s.mu.Lock()
	s.torn = s.torn || opened != nil && (s.several || s.known && s.attr != *opened)
	s.known, s.several, s.opened, s.news = false, false, 0, t.questions.Add(1)
	s.held++ // it has not forgotten yet
	s.forgetting++
	s.mu.Unlock()
	e := notify()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetting--
	s.heard, s.tells = map[uint32]int{}, 0
	if opened != nil && s.torn {
		s.heard[thread] = 1
	}
	s.held--
	s.several = s.several || e != 0 // a kernel that cannot may have anything
}

func (s *belief) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held--
}
