package fastrung

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"blocktree/internal/testenv"
)

// TestBeginsWithMkdir makes directories in a cluster whose nodes start in that moment: whoever asks before it is founded waits for that.
func TestBeginsWithMkdir(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := testenv.NewSimulated(t, 3, 1)
		d.StartAll()
		c := d.Client()
		var wg sync.WaitGroup
		for i := range 400 { // one of them finds a leader that has not founded yet
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 5 * time.Millisecond)
				if err := c.MakeDir(t.Context(), d.Path(fmt.Sprintf("/d%d", i)), 0o755, false); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}
