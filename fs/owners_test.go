package fs

import (
	"testing"
	"testing/synctest"

	"blocktree"
)

// TestKilledOwnersLeaveNothing: O1 of 0059. A hundred thousand owners that open a file, as a reader or as a writer, lock it, and are gone before they close it: nothing of them is left (nor a goroutine: the bubble would not end), and the next one gets all that they had.
func TestKilledOwnersLeaveNothing(t *testing.T) {
	rounds := 1000
	if testing.Short() { // as under the race detector
		rounds = 20
	}
	const each = 100
	in(t, func(t *testing.T, c *fake, s *Service, _ *owner, path blocktree.Path) {
		for round := range rounds {
			var owners []*owner
			for i := range each {
				o := ownerFor(s, somebody("ann"))
				owners = append(owners, o)
				f := open(t, s, o, path, uint8(i%3/2*flagWrite)) // one in three writes; they share its lease
				if err := <-f.asks(lockRequest{op: lockTake, off: uint64(i), bytes: 1, exclusive: f.write}); err != nil {
					t.Fatal(err)
				}
				if i == each-1 { // and somebody waits for what others have
					f.asks(lockRequest{op: lockWaits, off: 0, bytes: each})
				}
			}
			if s.OpenFiles() != each || c.opened.Load() == 0 {
				t.Fatalf("%d files are open, %d leases", s.OpenFiles(), c.opened.Load())
			}
			for _, o := range owners {
				o.end()
			}
			synctest.Wait()
			if n := s.OpenFiles(); n != 0 || c.opened.Load() != 0 || len(s.sharing.files) != 0 || s.bytes.Load() != 0 {
				t.Fatalf("round %d: %d files are open, %d leases, %d shared, %d bytes", round, n, c.opened.Load(), len(s.sharing.files), s.bytes.Load())
			}
		}
		next := open(t, newTestService(t, c, nil), ownerFor(s, somebody("ann")), path, flagWrite) // at another service: Busy where a lease was left
		wantKind(t, "the next one's lock", <-next.asks(lockRequest{op: lockTake, exclusive: true}), 0)
	})
}
