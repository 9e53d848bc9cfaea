package meta

import (
	"testing"

	"pgregory.net/rapid"
)

// Random commands against the model; sometimes one is repeated under its id, which must change nothing.
func TestModel(t *testing.T) { checkModel(t, func(*model, *machine) {}, drawOp) }

// checkModel compares a state with the model, after each of the commands that are drawn.
func checkModel(t *testing.T, begin func(*model, *machine), draw func(*rapid.T, *model) Op) {
	done, runs := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		m, s := newModel(3), founded(t, 3)
		defer s.close()
		begin(m, s)
		var last Command
		for step := range rapid.IntRange(20, 60).Draw(rt, "commands") {
			if last.Op != nil && rapid.IntRange(0, 9).Draw(rt, "again") == 0 {
				before := s.hash()
				s.command(last)
				if s.hash() != before {
					rt.Fatalf("%T done twice", last.Op)
				}
				continue
			}
			c := Command{ID: NewCommandID(), Op: draw(rt, m)}
			if rapid.Bool().Draw(rt, "as a keeper") {
				c.Keeper = session(rapid.IntRange(1, 3).Draw(rt, "keeper"))
			}
			m.asks = c.Keeper
			if m.now = 0; isTimed(c.Op) {
				m.now = 10 * int64(step+1)
				c.Caller, c.Time = somebody(0, 0), m.now
			}
			want, got := m.apply(c.Op), s.command(c)
			if got.Kind != want {
				rt.Fatalf("%T %+v: got %v, want %v", c.Op, c.Op, got.Err("apply"), want)
			}
			if err := m.compare(s.view()); err != nil {
				rt.Fatalf("after %T %+v: %v", c.Op, c.Op, err)
			}
			if last = (Command{}); got.Kind == 0 {
				done++
				if remembers(c.Op) {
					last = c
				}
			}
		}
	})
	if done < 5*runs {
		t.Fatalf("only %d commands were done in %d runs", done, runs)
	}
}
