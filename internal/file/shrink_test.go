package file

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
)

// shrinking is a file of ten sectors, without a coordinator.
func shrinking() *File {
	return &File{info: blocktree.FileInfo{SizeBytes: 10 << 12, SectorBytes: 4096}}
}

// TestNothingBehindTheEnd: while a file is made smaller it ends at the new end. The size moves once writes that had begun have ended; one that had found itself inside before, and comes through after, is refused.
func TestNothingBehindTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := shrinking()
		open, err := f.gate.close(t.Context(), 8, 1)
		if err != nil {
			t.Fatal(err)
		}
		begun, _ := f.gate.enter(7, 1)
		late := make(chan error, 1)
		go func() { // it waits for the span, and was inside when it came
			_, err := f.pass(t.Context(), writeOp, 8, 1)
			late <- err
		}()
		asked, done := false, make(chan error, 1)
		go func() {
			done <- f.shrinkBy(t.Context(), 4<<12, func(context.Context, uint64) (bool, error) {
				asked = true
				open()
				if err := <-late; blocktree.KindOf(err) != blocktree.OutOfRange {
					t.Errorf("a write behind the end came through: %v", err)
				}
				return true, nil
			})
		}()
		time.Sleep(time.Minute)
		if asked || f.sectors() != 4 {
			t.Errorf("asked for %v beside a write, %d sectors", asked, f.sectors())
		}
		f.gate.leave(begun)
		if err := <-done; err != nil || !asked {
			t.Errorf("%v, asked %v", err, asked)
		}
	})
}

// TestResealBesideShrink: who re-seals is waited for as any write is, and writes nothing behind the end that was put: what was cut would be found again when the file grows. Its work ends where the file does that the
// members keep, as nothing may come of a smaller one, and the keys of before would be gone.
func TestResealBesideShrink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := shrinking()
		phase, open, err := f.keepOut(t.Context(), run{0, 8, 1})
		if err != nil {
			t.Fatal(err)
		}
		var asked atomic.Bool
		done := make(chan error, 1)
		go func() {
			done <- f.shrinkBy(t.Context(), 4<<12, func(context.Context, uint64) (bool, error) {
				asked.Store(true)
				if _, _, err := f.keepOut(t.Context(), run{0, 3, 2}); blocktree.KindOf(err) != blocktree.OutOfRange {
					t.Errorf("it would re-seal behind the end: %v", err)
				}
				phase, open, err := f.keepOut(t.Context(), run{0, 3, 1})
				if err != nil {
					return true, err
				}
				f.gate.leave(phase)
				open()
				if f.sectors() != 4 || f.kept() != 10 {
					t.Errorf("%d sectors, of which %d are to be re-sealed", f.sectors(), f.kept())
				}
				return true, nil
			})
		}()
		time.Sleep(time.Minute)
		if asked.Load() {
			t.Error("it was cut beside who re-seals what is cut")
		}
		f.gate.leave(phase)
		open()
		if err := <-done; err != nil || !asked.Load() {
			t.Error(err)
		}
		phase, err = f.gate.pass(t.Context(), 0, 10)
		if err != nil { // nobody is kept out any more
			t.Fatal(err)
		}
		f.gate.leave(phase)
	})
}

// TestEndOfShrinking: what is left of an attempt.
func TestEndOfShrinking(t *testing.T) {
	broken := errors.New("broken")
	for name, x := range map[string]struct {
		settled bool
		err     error
		size    uint64
	}{"done": {true, nil, 10}, "refused": {true, broken, 10}, "not known": {false, broken, 4}} {
		f := shrinking()
		err := f.shrinkBy(t.Context(), 4<<12, func(context.Context, uint64) (bool, error) {
			if f.sectors() != 4 {
				t.Errorf("%s: %d sectors meanwhile", name, f.sectors())
			}
			if err := f.shrinkBy(t.Context(), 2<<12, nil); blocktree.KindOf(err) != blocktree.Busy {
				t.Errorf("%s: two at a time: %v", name, err)
			}
			return x.settled, x.err
		})
		if !errors.Is(err, x.err) || f.sectors() != x.size {
			t.Errorf("%s: %v, %d sectors", name, err, f.sectors())
		}
	}
	f := shrinking()
	for _, bytes := range []uint64{0, 4097, 11 << 12} {
		if err := f.shrinkBy(t.Context(), bytes, nil); blocktree.KindOf(err) != blocktree.Invalid {
			t.Errorf("%d bytes: %v", bytes, err)
		}
	}
	if err := f.shrinkBy(t.Context(), 10<<12, nil); err != nil {
		t.Errorf("as large as it is: %v", err)
	}
	phase, _ := f.gate.enter(9, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := f.shrinkBy(ctx, 4<<12, nil); blocktree.KindOf(err) != blocktree.Canceled || f.sectors() != 10 {
		t.Errorf("given up before anything was asked: %v, %d sectors", err, f.sectors())
	}
	f.gate.leave(phase)
}
