package cluster

import (
	"context"
	"encoding/binary"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/internal/bttp"
	"blocktree/internal/simnet"
)

// TestLead: who is asked next goes by answers, and by who fails; a node that failed is not asked again for a while because others name it, and one that cannot be reached never.
func TestLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := []blocktree.NodeID{2, 5, 9}
		var l lead
		says := func(n blocktree.NodeID) {
			l.heard(binary.BigEndian.AppendUint64(nil, uint64(n)), func(n blocktree.NodeID) bool { return n != 7 })
		}
		asks := func(what string, want blocktree.NodeID) {
			t.Helper()
			if got := nodes[l.first(nodes)]; got != want {
				t.Errorf("%s: %d is asked, want %d", what, got, want)
			}
		}
		asks("nothing is known", 2)
		for _, x := range []struct {
			what string
			do   func()
			want blocktree.NodeID
		}{
			{"it leads", func() { says(9) }, 9},
			{"no header", func() { l.heard(nil, nil) }, 9},
			{"one of another version", func() { l.heard(make([]byte, 9), nil) }, 9},
			{"there is no connection to it", func() { says(7) }, 9},
			{"it failed", func() { l.failed(nodes, 9, true) }, 2},
			{"another failed, which is not asked", func() { l.failed(nodes, 9, false) }, 2},
			{"it is named again", func() { says(9) }, 2},
			{"the next fails, too", func() { l.failed(nodes, 2, true) }, 5},
			{"that is named again", func() { says(2) }, 5},
			{"a caller gave up", func() { l.failed(nodes, 5, false) }, 9},
			{"it is named after that", func() { says(5) }, 5},
			{"a while later", func() { time.Sleep(leaderShunFor + 1); says(9) }, 9},
		} {
			x.do()
			asks(x.what, x.want)
		}
		nodes = []blocktree.NodeID{2, 5}
		asks("it is no node any more", 2)
		l.failed(nodes, 2, true)
		asks("likewise, after a failure", 5)
		if len(l.shunned) != 1 {
			t.Errorf("%d are remembered", len(l.shunned))
		}
	})
}

// TestRefusesForNow: a node that refuses at once is not taken for one that does not answer: asked again because the next says that it leads, it is.
func TestRefusesForNow(t *testing.T) {
	b := newLeadBed(t)
	b.leader.Store(2)
	b.ask(t, "nothing is known", 1, 0, 0)
	b.refuses[2].Store(true)
	b.ask(t, "it has no leader", 0, 1, 1)
	b.refuses[2].Store(false)
	b.ask(t, "it has one", 0, 1, 0)
}

// leadBed is a client of three nodes that answer, and say who leads.
type leadBed struct {
	client  *Client
	leader  atomic.Uint64 // as all say
	asked   [4]atomic.Int64
	mute    [4]atomic.Bool
	refuses [4]atomic.Bool // for now
	before  [4]atomic.Bool // of a version before
}

func newLeadBed(t *testing.T) *leadBed {
	b := &leadBed{}
	all := map[blocktree.NodeID]*peer{}
	for n := blocktree.NodeID(1); n <= 3; n++ {
		bed := newDelayBedOn(t, simnet.New(uint64(n)), func(r *bttp.Request) {
			defer r.Release()
			b.asked[n].Add(1)
			if b.refuses[n].Load() {
				r.Fail(blocktree.E("a test", blocktree.Unavailable, nil))
			} else if b.before[n].Load() {
				r.Fail(blocktree.E("", blocktree.NewerFormat, nil))
			} else if !b.mute[n].Load() {
				r.Reply(binary.BigEndian.AppendUint64(nil, b.leader.Load()), meta.EncodeAnswer(nil, meta.Answer{Inode: &meta.Inode{ID: blocktree.FileID{Generation: 1, Inode: 9}, Kind: meta.KindDir}}))
			}
		})
		q := &peer{}
		q.conn.Store(bed.dial())
		all[n] = q
	}
	b.client = newClient(ClientConfig{Logger: slog.New(slog.DiscardHandler), Clock: stoppedClock{}}, nil, &peers{all: all})
	t.Cleanup(func() { b.client.cancel(); b.client.wg.Wait() })
	return b
}

// ask asks one thing, and demands that so many more were asked of each node.
func (b *leadBed) ask(t *testing.T, what string, want ...int64) {
	t.Helper()
	var before [4]int64
	for n := range before {
		before[n] = b.asked[n].Load()
	}
	if _, err := b.client.Stat(t.Context(), blocktree.RootPath(blocktree.Principal{1}).Join("f")); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	for i, w := range want {
		if got := b.asked[i+1].Load() - before[i+1]; got != w {
			t.Errorf("%s: node %d was asked %d times, want %d", what, i+1, got, w)
		}
	}
}

// TestAsksWhoLeads: a request goes to the node that the last answer said leads; to another while that is not reached.
func TestAsksWhoLeads(t *testing.T) {
	b := newLeadBed(t)
	b.leader.Store(3)
	b.ask(t, "nothing is known", 1, 0, 0)
	b.ask(t, "node 3 leads", 0, 0, 1)
	b.leader.Store(2)
	b.ask(t, "it leads no more", 0, 0, 1)
	b.ask(t, "node 2 leads", 0, 1, 0)
	conn := b.client.peers.all[2].conn.Swap(nil)
	b.ask(t, "it is not reached", 0, 0, 1)
	b.ask(t, "and named again", 0, 0, 1)
	b.client.peers.all[2].conn.Store(conn)
	b.ask(t, "it is reached again", 0, 0, 1)
	b.ask(t, "as before", 0, 1, 0)
}

// TestLiesAboutWhoLeads: a node that all name as the leader, and which does not answer, costs one try, and then no more for a while; nor does a node that is none.
func TestLiesAboutWhoLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // a busy machine takes longer than that to begin
		b := newLeadBed(t)
		b.leader.Store(2)
		b.client.lead.patience = 10 * time.Millisecond
		b.mute[2].Store(true)
		b.ask(t, "nothing is known", 1, 0, 0)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := b.client.Stat(ctx, blocktree.RootPath(blocktree.Principal{1}).Join("f")); blocktree.KindOf(err) != blocktree.Unavailable {
			t.Error(err)
		}
		b.ask(t, "the next", 0, 0, 1)
		b.ask(t, "named by that", 0, 0, 1)
		b.leader.Store(77)
		b.ask(t, "there is no such node", 0, 0, 1)
	})
}

// givenUp is a context that ends when somebody looks whether it has, and it is to.
type givenUp struct {
	context.Context
	ends func() bool
	end  context.CancelFunc
}

func (c givenUp) Err() error {
	if c.ends() {
		c.end()
	}
	return c.Context.Err()
}

// TestGivingUpTellsNoVersion: who gives up after one node of a version before has answered is not told that all are: nothing more would be found out of what another node may have done.
func TestGivingUpTellsNoVersion(t *testing.T) {
	b := newLeadBed(t)
	b.before[1].Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	gone := givenUp{ctx, func() bool { return b.asked[1].Load() > 0 }, cancel}
	if _, err := b.client.ask(gone, codePropose, nil); isOlder(err) || blocktree.KindOf(err) != blocktree.Unavailable || b.asked[1].Load() != 1 {
		t.Errorf("%v, after %d questions", err, b.asked[1].Load())
	}
	b.client.lead.failed(b.client.peers.nodes(), 3, false) // node 1 is next
	for n := range b.before {
		b.before[n].Store(true)
	}
	if _, err := b.client.ask(t.Context(), codePropose, nil); !isOlder(err) {
		t.Error(err)
	}
}
