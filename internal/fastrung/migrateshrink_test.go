package fastrung

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/file"
	"blocktree/internal/testenv"
)

// TestMigrateBesideAShrink: a file is to be made smaller while it is moved, at each step of that (K12 of 0074): it is, in the old place or the new one, or it is refused plainly; the move is done all the same, and nothing is left of it. One that is being made smaller is held, and stays.
func TestMigrateBesideAShrink(t *testing.T) {
	steps := []string{"open copy", "copy", "verify", "attributes", "end"}
	kinds := map[string]file.CreateOptions{"held/f": {}, "broken/f": {}}
	for i, s := range steps {
		kinds[dashed(s)+"/f"] = file.CreateOptions{Tree: i%2 == 1}
	}
	withOld(t, kinds, func(b *bed, child *testenv.Simulated, olds map[string]*old) {
		asker := b.Client()
		ask := func(o *old) error {
			_, _, err := file.Resize(b.T.Context(), asker, b.Path(o.short), cluster.ResizeOptions{Bytes: func(uint64) (uint64, error) { return smallBytes, nil }, Shrink: true, Live: true}, file.OpenOptions{Reader: b.Reader})
			return err
		}
		for _, step := range steps {
			b.asksWhileMoved(step, olds[dashed(step)+"/f"], ask)
		}
		b.asksAfterMoved(olds["broken/f"], ask)
		b.movesWhileAsked(olds["held/f"], ask)
	})
}

// smallBytes is the smaller size.
const smallBytes = oldBytes / 2

// asksWhileMoved asks at one step of a move.
func (b *bed) asksWhileMoved(step string, o *old, ask func(*old) error) {
	ctx, asked := b.T.Context(), chan error(nil)
	m, begun := newMoving(b, b.Client()), 0
	m.Step = func(what string) error {
		if what == "begin" {
			begun++
		}
		if what == step && asked == nil {
			asked = make(chan error, 1)
			go func() { asked <- ask(o) }()
			time.Sleep(5 * time.Second) // it takes as long as to hear of that
		}
		return nil
	}
	if err := m.run(b, "/rack1/"+dashed(step)); err != nil || len(m.moved) != 1 {
		b.T.Fatalf("%s: %v, moved %v, left %v", step, err, m.moved, m.left)
	}
	if copies := step == "copy" || step == "verify"; copies && begun != 2 { // it does not have to end first
		b.T.Errorf("%s: begun %d times", step, begun)
	}
	if err := <-asked; err != nil {
		b.T.Errorf("%s: made smaller: %v (%s)", step, err, blocktree.HintOf(err))
	}
	f := opened(b.Simulated, b.client, o.short)
	if info := f.Info(); info.SizeBytes != smallBytes || info.ID.Generation == 1 {
		b.T.Errorf("%s: %d bytes, of generation %d", step, info.SizeBytes, info.ID.Generation)
	}
	for _, s := range []blocktree.SectorIndex{0, 1, 300, 301} {
		if k, err := read(ctx, b.T, f, s); k != o.wrote[s] || err != nil {
			b.T.Errorf("%s: sector %d holds %d, %v", step, s, k, err)
		}
	}
	closed(b.Simulated, f)
	if moves, err := m.Unfinished(ctx, b.Path("/rack1")); err != nil || len(moves) > 0 {
		b.T.Errorf("%s: left: %+v, %v", step, moves, err)
	}
}

// asksAfterMoved asks when a move was broken off.
func (b *bed) asksAfterMoved(o *old, ask func(*old) error) {
	m := newMoving(b, b.Client())
	m.Step = func(what string) error { return map[bool]error{true: errEnded}[what == "attributes"] }
	if err := m.run(b, "/rack1/broken"); !errors.Is(err, errEnded) {
		b.T.Fatal(err)
	}
	began := time.Now()
	if err := ask(o); blocktree.KindOf(err) != blocktree.Busy || !strings.Contains(blocktree.HintOf(err), "migrate") || time.Since(began) > 4*leaseTerm {
		b.T.Errorf("a move was broken off: %v (%s) after %v", err, blocktree.HintOf(err), time.Since(began))
	}
	o.check(b.Simulated, b.client)
}

// movesWhileAsked moves a file while its holder makes it smaller.
func (b *bed) movesWhileAsked(o *old, ask func(*old) error) {
	f := opened(b.Simulated, b.client, o.short)
	s, m := f.(blocktree.Shrinker), newMoving(b, b.Client())
	stop := s.FollowShrink(func(ctx context.Context, bytes uint64) error {
		if err := m.run(b, "/rack1/held"); err != nil || len(m.left) != 1 {
			b.T.Errorf("moved while it is made smaller: %v, %v", err, m.moved)
		}
		return s.Shrink(ctx, bytes)
	})
	if err := ask(o); err != nil {
		b.T.Error(err)
	}
	stop()
	closed(b.Simulated, f)
	if err := m.run(b, "/rack1/held"); err != nil || len(m.moved) != 1 {
		b.T.Errorf("%v, moved %v", err, m.moved)
	}
}

// dashed is the name of a directory for a step.
func dashed(step string) string { return strings.ReplaceAll(step, " ", "-") }
