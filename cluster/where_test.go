package cluster

import (
	"slices"
	"testing"

	"blocktree"
)

// A node that is recorded as a filesystem service, and is none by its credentials, is a sector host all the same: it need not prove more to be reached as one.
func TestReachedAsSectorHost(t *testing.T) {
	q := &peer{runtime: blocktree.Runtime{Services: []string{blocktree.ServiceSector, blocktree.ServiceFilesystem}}}
	if got := q.where().Services; !slices.Equal(got, []string{blocktree.ServiceSector}) {
		t.Errorf("it has to prove %q", got)
	}
}
