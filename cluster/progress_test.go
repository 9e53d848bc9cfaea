package cluster

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/stripe"
)

// TestProgress: what an operator reads when a member is left out and comes back.
func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p := progress{log: slog.New(slog.NewTextHandler(&out, nil))}
	layout := func(third stripe.MemberState) *stripe.Layout {
		l := &stripe.Layout{File: memberFile, Code: blocktree.Code{Data: 2, Parity: 1}, SectorBytes: 4096, RegionSectors: 1 << 18, Sectors: 1 << 18,
			Hosts: []blocktree.NodeID{1, 2, 3}, Epoch: 1, Seq: 1, BaseID: 1}
		if third != stripe.InSync {
			v := l.View(0)
			v.Members = append([]stripe.ViewMember(nil), v.Members...)
			v.Members[2].State = third
			l.Own = map[blocktree.RegionIndex]stripe.View{0: v}
		}
		return l
	}
	want := func(parts ...string) {
		t.Helper()
		got := out.String()
		out.Reset()
		if len(parts) == 0 && got != "" {
			t.Errorf("told %q", got)
		}
		for _, x := range parts {
			if !strings.Contains(got, x) {
				t.Errorf("%q does not say %q", got, x)
			}
		}
	}
	var st stripe.HolderStats
	p.look(time.Second, st, layout(stripe.InSync))
	want()
	st.Removed++
	p.look(10*time.Second, st, layout(stripe.Out))
	want("level=WARN", "not in sync", "regions=1", "0000000000000002")
	p.look(11*time.Second, st, layout(stripe.Out))
	want()
	st.Joined, st.ComparedSectors, st.CopiedSectors, st.CopiedBytes = 1, 1000, 10, 20480
	p.look(12*time.Second, st, layout(stripe.Joining))
	want()
	st.ComparedSectors, st.CopiedSectors, st.CopiedBytes, st.LeftSectors = 2000, 20, 40960, 77
	p.look(22*time.Second, st, layout(stripe.Joining))
	want("copying up", "leftSectorsOfRegion=77", "copiedBytes=40960")
	st.Promoted++
	p.look(30*time.Second, st, layout(stripe.InSync))
	want("in sync again", "seconds=20", "comparedSectors=2000", "copiedSectors=20", "copiedBytes=40960")
	p.look(60*time.Second, st, layout(stripe.InSync))
	want()
}
