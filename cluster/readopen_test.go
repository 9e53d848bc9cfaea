package cluster

import (
	"context"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
)

// counts returns how often the bed was asked for a layout, and for sectors.
func (b *lossBed) counts() (asked, reads int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked, b.reads
}

// TestReaderReadsBeside: D1 and D2 of 0078. A read is asked of the members while the cluster is asked for the layout, and is told nobody before that is answered; what was read under another layout than
// the answer's is read again.
func TestReaderReadsBeside(t *testing.T) {
	b := newLossBed(t)
	r, err := b.client.OpenReader("/f", &b.inode)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Read(0, 0, 1).Wait(t.Context()); err != nil { // nothing is known before
		t.Fatal(err)
	}
	same := b.layout
	next := *b.layout
	next.LossEpoch = 7 // which no member minds: it is another one to who compares
	for _, says := range []*stripe.Layout{same, &next} {
		hold := make(chan func(), 1)
		b.mu.Lock()
		b.hold = hold
		b.mu.Unlock()
		_, before := b.counts()
		read := r.Read(0, 0, 1)
		answer := <-hold
		awaitThat(t, "the machine waits for the layout", func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			x := r.reads[read.op.id]
			return x != nil && x.found != nil
		})
		select {
		case <-read.op.ended:
			t.Error("it is told before the cluster has said that the layout is the newest")
		default:
		}
		b.mu.Lock()
		b.hold, b.says = nil, says
		b.mu.Unlock()
		answer()
		if _, err := read.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := 1
		if says != same {
			want = 2
		}
		if _, n := b.counts(); n-before != want {
			t.Errorf("the members were asked %d times, not %d", n-before, want)
		}
	}
}

// TestReaderAskedMeanwhile: an answer tells nothing of a read that was asked for when its question was under way, however long that has been done: the next one does.
func TestReaderAskedMeanwhile(t *testing.T) {
	b := newLossBed(t)
	r, err := b.client.OpenReader("/f", &b.inode)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Read(0, 0, 1).Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	hold := make(chan func(), 1)
	b.mu.Lock()
	b.hold = hold
	b.mu.Unlock()
	first := r.Read(0, 0, 1)
	answer := <-hold
	second := r.Read(0, 0, 1) // which its question is not for
	awaitThat(t, "both wait for the layout", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, q := range []*Read{first, second} {
			if x := r.reads[q.op.id]; x == nil || x.found == nil {
				return false
			}
		}
		return true
	})
	answer()
	if _, err := first.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case answer = <-hold:
	case <-second.op.ended:
		t.Fatal("it is told by the answer to a question of before it was asked for")
	}
	next := *b.layout
	next.LossEpoch = 7
	_, before := b.counts()
	b.mu.Lock()
	b.hold, b.says = nil, &next
	b.mu.Unlock()
	answer()
	if _, err := second.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, n := b.counts(); n != before+1 {
		t.Errorf("the members were asked %d times more: it is not read anew under the layout of now", n-before)
	}
}

// TestReaderOfALostFile: what was read beside is not told where the cluster says that writes were lost.
func TestReaderOfALostFile(t *testing.T) {
	b := newLossBed(t)
	r, err := b.client.OpenReader("/f", &b.inode)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Read(0, 0, 1).Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	lost := *b.layout
	lost.Loss++
	b.say(&lost)
	if _, err := r.Read(0, 0, 1).Wait(t.Context()); blocktree.KindOf(err) != blocktree.Lost {
		t.Errorf("after a loss: %v", err)
	}
}

// TestReaderOpenedForARequest: D3 of 0078. Of a file that is opened for a read the layout is asked for once, beside what it is; any other read asks anew.
func TestReaderOpenedForARequest(t *testing.T) {
	b := newLossBed(t)
	ctx := Within(t.Context())
	_, asked, err := b.client.StatToRead(ctx, b.inode.ID, meta.RightRead)
	if err != nil {
		t.Fatal(err)
	}
	defer asked.Drop()
	r, durability, err := b.client.OpenReaderUnder(ctx, "/f", &b.inode, asked)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n, err := r.LossNumber(ctx); err != nil || n != 3 || durability != stripe.DurabilityFlush {
		t.Errorf("loss number %d, durability %v, %v", n, durability, err)
	}
	for _, x := range []struct {
		what string
		ctx  context.Context
		want int // questions since it was opened
	}{{"the read that it is opened for", ctx, 1}, {"and another piece of it", ctx, 1}, {"a later one", Within(t.Context()), 2}, {"one of nobody knows what", t.Context(), 3}, {"the first, again", ctx, 4}} {
		wait, cancel := context.WithTimeout(x.ctx, time.Minute)
		if _, err := r.ReadIn(wait, 0, 0, 1).Wait(wait); err != nil {
			t.Errorf("%s: %v", x.what, err)
		}
		cancel()
		if n, _ := b.counts(); n != x.want {
			t.Errorf("%s: the cluster was asked %d times, not %d", x.what, n, x.want)
		}
	}
}

// TestStatToReadOfBefore: Q2 of 0082. A cluster of a version before is asked what the file is, and for its layout, each by itself, also while one of its nodes is away.
func TestStatToReadOfBefore(t *testing.T) {
	b := newLossBed(t)
	b.before = true
	for n := range 2 {
		if n > 0 {
			b.client.peers.all[memberNode+1] = new(peer)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		was, _ := b.counts()
		inode, asked, err := b.client.StatToRead(ctx, b.inode.ID, meta.RightRead)
		if err != nil || inode.ID != b.inode.ID {
			t.Fatalf("%d away: %+v, %v", n, inode, err)
		}
		l, err := asked.of(ctx, b.client, inode)
		asked.Drop()
		if n, _ := b.counts(); err != nil || l.Loss != b.layout.Loss || n-was != 3 {
			t.Errorf("%+v by %d questions, %v", l, n-was, err)
		}
	}
}
