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
		const small = oldBytes / 2
		ctx := b.T.Context()
		asker := b.Client()
		ask := func(o *old) error {
			_, _, err := file.Resize(ctx, asker, b.Path(o.short), cluster.ResizeOptions{Bytes: func(uint64) (uint64, error) { return small, nil }, Shrink: true, Live: true}, file.OpenOptions{Reader: b.Reader})
			return err
		}
		for _, step := range steps {
			o := olds[dashed(step)+"/f"]
			m, asked := newMoving(b, b.Client()), chan error(nil)
			m.Step = func(what string) error {
				if what == step && asked == nil {
					asked = b.goes(func() error { return ask(o) })
					time.Sleep(5 * time.Second) // it takes as long as to hear of that
				}
				return nil
			}
			if err := m.run(b, "/rack1/"+dashed(step)); err != nil || len(m.moved) != 1 {
				t.Fatalf("%s: %v, moved %v, left %v", step, err, m.moved, m.left)
			}
			if err := <-asked; err != nil {
				t.Errorf("%s: made smaller: %v (%s)", step, err, blocktree.HintOf(err))
			}
			for s := range o.wrote {
				if s >= small/sectorBytes {
					delete(o.wrote, s)
				}
			}
			f := opened(b.Simulated, b.client, o.short)
			if info := f.Info(); info.SizeBytes != small || info.ID.Generation == 1 {
				t.Errorf("%s: %d bytes, of generation %d", step, info.SizeBytes, info.ID.Generation)
			}
			for _, s := range []blocktree.SectorIndex{0, 1, 300, 301} {
				if k, err := read(ctx, b.T, f, s); k != o.wrote[s] || err != nil {
					t.Errorf("%s: sector %d holds %d, %v", step, s, k, err)
				}
			}
			closed(b.Simulated, f)
			if moves, err := m.Unfinished(ctx, b.Path("/rack1")); err != nil || len(moves) > 0 {
				t.Errorf("%s: left: %+v, %v", step, moves, err)
			}
		}

		broken := olds["broken/f"]
		m := newMoving(b, b.Client())
		m.Step = func(what string) error { return map[bool]error{true: errEnded}[what == "attributes"] }
		if err := m.run(b, "/rack1/broken"); !errors.Is(err, errEnded) {
			t.Fatal(err)
		}
		began := time.Now()
		if err := ask(broken); blocktree.KindOf(err) != blocktree.Busy || !strings.Contains(blocktree.HintOf(err), "migrate") || time.Since(began) > 4*leaseTerm {
			t.Errorf("a move was broken off: %v (%s) after %v", err, blocktree.HintOf(err), time.Since(began))
		}
		broken.check(b.Simulated, b.client)

		o := olds["held/f"]
		f := opened(b.Simulated, b.client, o.short)
		s := f.(blocktree.Shrinker)
		m = newMoving(b, b.Client())
		stop := s.FollowShrink(func(ctx context.Context, bytes uint64) error {
			if err := m.run(b, "/rack1/held"); err != nil || len(m.left) != 1 {
				t.Errorf("moved while it is made smaller: %v, %v", err, m.moved)
			}
			return s.Shrink(ctx, bytes)
		})
		if err := ask(o); err != nil {
			t.Error(err)
		}
		stop()
		closed(b.Simulated, f)
		if err := m.run(b, "/rack1/held"); err != nil || len(m.moved) != 1 {
			t.Errorf("%v, moved %v", err, m.moved)
		}
	})
}

// dashed is the name of a directory for a step.
func dashed(step string) string { return strings.ReplaceAll(step, " ", "-") }

// goes does something beside, and says what came of it.
func (b *bed) goes(do func() error) chan error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	return done
}
