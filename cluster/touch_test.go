package cluster

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
)

// TestForgetWrites: T3 of 0058. A note that is on its way has ended before somebody says another time, or that is not said; what is not noted then is forgotten, unless that is taken back.
func TestForgetWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &Handle{}
		h.touch.busy.Store(true) // as while a note is on its way
		h.touch.at.Store(7)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := h.ForgetWrites(short); blocktree.KindOf(err) != blocktree.Unavailable || h.touch.at.Load() != 7 {
			t.Errorf("beside a note: %v", err)
		}
		done := make(chan func(), 1)
		go func() {
			again, err := h.ForgetWrites(t.Context())
			if err != nil {
				t.Error(err)
			}
			done <- again
		}()
		time.Sleep(time.Second)
		if len(done) != 0 {
			t.Error("a note on its way was not waited for")
		}
		h.touch.busy.Store(false)
		again := <-done
		if h.touch.at.Load() != 0 || h.touch.busy.Load() {
			t.Error("something is noted yet")
		}
		if again(); h.touch.at.Load() != 7 {
			t.Error("it was not taken back")
		}
		h.touch.at.Store(9) // what is written after that is newer
		if again(); h.touch.at.Load() != 9 {
			t.Error("a newer write is lost")
		}
	})
}
