package cluster

import (
	"testing"

	"blocktree/cluster/meta"
)

// TestResealStatus: a file is being re-sealed when its holder has said so, and only then; a place behind the end leaves nothing.
func TestResealStatus(t *testing.T) {
	const size = 1 << 20
	for _, x := range []struct {
		heard meta.Heard
		want  ResealStatus
		none  bool
	}{
		{none: true},
		{heard: meta.Heard{Number: 2, Sectors: meta.AllResealed}, none: true},
		{heard: meta.Heard{Number: 2}, want: ResealStatus{LeftBytes: size}},
		{heard: meta.Heard{Number: 2, Sectors: 128, Rate: size / 4}, want: ResealStatus{size / 2, size / 4, 2}},
		{heard: meta.Heard{Number: 2, Sectors: 1 << 40, Rate: 1}, want: ResealStatus{0, 1, 1}},
	} {
		got := resealStatus(&meta.Inode{Kind: meta.KindFile, SizeBytes: size, SectorBytes: 4096, Heard: x.heard})
		if (got == nil) != x.none || got != nil && *got != x.want {
			t.Errorf("%+v: %+v", x.heard, got)
		}
	}
}
