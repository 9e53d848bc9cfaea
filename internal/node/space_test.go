package node

import (
	"testing"

	"blocktree/internal/vfs"
)

// TestSpaceIsPassedOn: how much space the store may take gets to the node's service.
func TestSpaceIsPassedOn(t *testing.T) {
	c := Config{SpacePercent: 150, StoreDir: "/n", Boot: new(vfs.Boot)}
	if got := c.service(false).SpacePercent; got != 150 {
		t.Errorf("the service is given %d", got)
	}
}
