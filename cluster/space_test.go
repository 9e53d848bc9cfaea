package cluster

import (
	"log/slog"
	"testing"

	"blocktree"
	"blocktree/internal/vfs"
)

// TestSpaceReachesStore: how much space the store may take gets to it, as it refuses what is too little.
func TestSpaceReachesStore(t *testing.T) {
	s := &Service{cfg: ServiceConfig{FS: vfs.NewCrash(), StoreDir: "/n/sectors", Node: 7, Logger: slog.New(slog.DiscardHandler), SpacePercent: 1}}
	if err := s.openMember(); blocktree.KindOf(err) != blocktree.Invalid {
		t.Errorf("a store within 1 %%: %v", err)
	}
}
