package cluster

import (
	"sync"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/internal/bttp"
)

// lossBed is a client of one member of a file of durability flush, and what the cluster says of that file.
type lossBed struct {
	*memberBed
	client *Client
	inode  meta.Inode
	mu     sync.Mutex
	says   *stripe.Layout
	asked  int         // for layouts
	reads  int         // of sectors
	hold   chan func() // what answers a question, if not nil
	before bool        // it is of a version before
}

func newLossBed(t *testing.T) *lossBed {
	b := &lossBed{memberBed: newMemberBed(t)}
	b.layout.Durability = stripe.DurabilityFlush
	b.layout.Loss = 3
	b.takeOver()
	b.memberBed.settle()
	b.says = b.layout
	d := newDelayBed(t, func(r *bttp.Request) {
		switch r.Code {
		case codeStripe:
			msg, err := stripe.DecodeMessage(r.Header, r.Body)
			if err != nil {
				t.Error(err)
			}
			if msg.Kind == stripe.KindRead {
				b.mu.Lock()
				b.reads++
				b.mu.Unlock()
			}
			b.member.serve(r, msg, true)
			return
		case codeQuery:
			b.mu.Lock()
			defer b.mu.Unlock()
			b.asked++
			a := meta.Answer{Layout: b.says}
			switch q, err := meta.DecodeQuery(r.Body); {
			case err != nil:
				t.Error(err)
			case q.Kind == meta.QueryToRead && b.before:
				r.Fail(blocktree.E("decode", blocktree.Invalid, nil))
				r.Release()
				return
			case q.Kind == meta.QueryToRead:
				a.Inode, a.Allowed = &b.inode, &meta.Allowed{Rights: meta.RightRead}
			case q.Kind == meta.QueryAllowed:
				a = meta.Answer{Inode: &b.inode, Allowed: &meta.Allowed{Rights: meta.RightRead}}
			}
			answer := func() {
				if a.Layout != nil {
					a.Layout = b.says
				}
				r.Reply(nil, meta.EncodeAnswer(nil, a))
				r.Release()
			}
			if b.hold != nil {
				b.hold <- answer
				return
			}
			answer()
			return
		}
		r.Release()
	})
	b.client = d.handle.client
	b.client.cfg.Clock, b.client.ctx = &suspendedClock{started: time.Now()}, t.Context()
	p := &peer{serving: true, as: incarnations{memberInc, memberInc}}
	p.runtime.Node = memberNode
	p.conn.Store(d.dial())
	b.client.peers = &peers{all: map[blocktree.NodeID]*peer{memberNode: p}, watchers: map[watcher]bool{}}
	b.inode = meta.Inode{ID: memberFile, Kind: meta.KindFile, Code: b.layout.Code, SectorBytes: b.layout.SectorBytes, SizeBytes: 4096 << 18}
	return b
}

// say changes what the cluster says of the file.
func (b *lossBed) say(l *stripe.Layout) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.says = l
}

// TestLossEndsTheHandle: a holder of a file of durability flush that has turned lossy hears so from everything, and its lease vouches for nothing
// any more; that the node has another volatile incarnation, and not another disk, is what it noticed.
func TestLossEndsTheHandle(t *testing.T) {
	b := newLossBed(t)
	h, err := newHandle(b.client, "/f", b.inode, b.layout, b.client.cfg.Clock.Boot()+time.Hour, joinDelay, false)
	if err != nil {
		t.Fatal(err)
	}
	write := func() error {
		v, err := h.Begin(0)
		if err != nil {
			return err
		}
		return h.Write(h.NewRun(0, 0, 1, v)).Wait(t.Context())
	}
	if err := write(); err != nil {
		t.Fatal(err)
	}
	if err := h.Flush(t.Context()); err != nil || h.LossNumber() != 3 {
		t.Fatalf("loss number %d, %v", h.LossNumber(), err)
	}
	other := memberInc
	other[15] = 7
	b.say(b.layout.MarkBack(memberNode, other))
	h.nodeUp(memberNode, incarnations{memberInc, other})
	awaitThat(t, "nothing is lost", func() bool { return blocktree.KindOf(h.Flush(t.Context())) == blocktree.Lost })
	_, read := h.Read(0, 0, 1).Wait(t.Context())
	for what, err := range map[string]error{"a read": read, "a write": write(), "a flush": h.Flush(t.Context())} {
		if blocktree.KindOf(err) != blocktree.Lost || blocktree.HintOf(err) == "" {
			t.Errorf("%s ends with %v, hint %q", what, err, blocktree.HintOf(err))
		}
	}
	if _, holds := h.Lease(); holds {
		t.Error("its lease is good still")
	}
	if err := h.Close(); blocktree.KindOf(err) != blocktree.Lost {
		t.Errorf("it closes with %v", err)
	}
}

// TestHandleSyncsWhenClosed: what a handle wrote is durable when it lets go of the file, and its members know that nothing is open.
func TestHandleSyncsWhenClosed(t *testing.T) {
	b := newLossBed(t)
	h, err := newHandle(b.client, "/f", b.inode, b.layout, b.client.cfg.Clock.Boot()+time.Hour, joinDelay, false)
	if err != nil {
		t.Fatal(err)
	}
	v, err := h.Begin(0)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Write(h.NewRun(0, 0, 1, v)).Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	awaitThat(t, "the write is pending still", func() bool {
		b.member.mu.Lock()
		defer b.member.mu.Unlock()
		_, pending := b.member.machine.Unsettled(b.layout)
		return !pending
	})
	if st := h.Stats(); st.Syncs == 0 || st.AutoSyncs != 0 {
		t.Errorf("%+v", st)
	}
}

// TestReaderHearsOfALoss: a reader without a lease sees nothing of a file under another loss number than the first that it saw; one that is opened
// after it does.
func TestReaderHearsOfALoss(t *testing.T) {
	b := newLossBed(t)
	open := func() *Reader {
		r, err := b.client.OpenReader("/f", &b.inode)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		return r
	}
	read := func(r *Reader) blocktree.Kind {
		_, err := r.Read(0, 0, 1).Wait(t.Context())
		return blocktree.KindOf(err)
	}
	number := func(r *Reader) uint64 {
		n, err := r.LossNumber(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	reading, asking, fresh := open(), open(), open()
	if k, n := read(reading), number(asking); k != blocktree.Other || n != 3 || number(reading) != 3 {
		t.Fatalf("a read ends with %v, the loss number is %d", k, n)
	}
	before := *b.layout
	b.layout.Loss, b.layout.LossEpoch = 4, 0
	b.say(b.layout)
	for range 2 {
		if k := read(reading); k != blocktree.Lost {
			t.Errorf("the reader of before reads, after a loss: %v", k)
		}
	}
	if k := read(asking); k != blocktree.Lost {
		t.Errorf("one that asked for the number only: %v", k)
	}
	if k := read(fresh); k != blocktree.Other || number(fresh) != 4 {
		t.Errorf("a reader that had seen nothing reads: %v, number %d", k, number(fresh))
	}
	var o opening
	if o.judge(b.layout) != blocktree.Other || o.judge(&before) != blocktree.StaleView || o.judge(b.layout) != blocktree.Other {
		t.Error("an older layout that comes late is not told from a loss")
	}
}
