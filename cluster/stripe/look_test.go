package stripe

import (
	"testing"
	"time"

	"blocktree"
)

// TestLookEvery: a machine that does not look at everything with each Tick goes by the time of each all the same where it asks whether its
// lease holds (rule 6). What that makes late it sees when it looks.
func TestLookEvery(t *testing.T) {
	for _, x := range []struct {
		name  string
		until time.Duration
		ended bool
	}{{"lease", 700 * time.Millisecond, true}, {"over", 500 * time.Millisecond, false}} {
		d := newDesk(t, blocktree.Code{Data: 2, Parity: 1}, "")
		d.h.lookEvery = time.Second
		d.tick(time.Millisecond) // looks
		d.h.Renewed(x.until)
		d.h.Read(50, 0, 0, 1)
		d.take()
		d.tick(600 * time.Millisecond)
		for _, m := range d.sent {
			if m.Kind == KindRead {
				task := ReadTask{Request: m}
				d.h.Step(task.Answer(m.Node, []Extent{{Count: 1, Kind: Absent}}, nil, nil, 0, blocktree.Other))
			}
		}
		d.take()
		d.expect(50, x.ended, blocktree.Other)
	}

	d := newDesk(t, blocktree.Code{Data: 2, Parity: 1}, "") // members have 10 s to answer
	d.tick(time.Millisecond)
	d.h.lookEvery = time.Second
	d.tick(9500 * time.Millisecond)
	d.write()
	d.take()
	d.h.calls[d.sent[0].ID].since = 0
	d.metas = nil
	d.tick(999 * time.Millisecond)
	if d.take(); len(d.metas) != 0 {
		t.Fatalf("it looks before it is due: %+v", d.metas)
	}
	d.tick(time.Millisecond)
	if d.take(); len(d.metas) != 1 || d.metas[0].Change == nil || d.metas[0].Change.Kind != ChangeRemove {
		t.Fatalf("a member that is overdue is not seen: %+v", d.metas)
	}
}
