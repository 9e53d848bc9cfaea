package stripe

import (
	"blocktree"
	"fmt"
	"os"
	"strconv"
	"testing"
)

func TestDbg(t *testing.T) {
	seed, _ := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	if seed == 0 {
		t.Skip()
	}
	code, _ := blocktree.ParseCode(os.Getenv("CODE"))
	w := newWorld(code, seed, os.Getenv("MUT"))
	fmt.Println(w.run(1500))
	if j := w.h.job; j != nil {
		fmt.Printf("job %+v\n", *j)
		for c := range j.copies {
			fmt.Printf("copy %+v read %+v\n", *c, c.read)
		}
	}
	fmt.Printf("change %d confirm %d want %d gen %d held %d retry %d\n", w.h.changeID, w.h.confirmID, w.h.confirmWant, w.h.confirmGen, len(w.h.held), len(w.h.retry))
	for _, p := range w.h.order {
		fmt.Printf("peer %d up %v learned %d timedout %v gone %v\n", p.node, p.up, p.learned, p.timedOut, p.gone)
		for c := p.head; c != nil; c = c.next {
			fmt.Printf("   %+v slow %v since %v retry %v\n", *c.msg, c.slow, c.since, c.retry)
		}
	}
	fmt.Println(w.now, w.h.Stats())
	for _, n := range w.nodes {
		f := n.m.files[w.truth.File]
		fmt.Printf("node %d epoch %d seq %d fenced %d rec %v layoutseq %d parked %d\n", n.id, f.epoch, f.seq, f.fenced, f.recovering, f.layout.Seq, len(f.parked))
		for _, i := range sortedRegions(f.regions) {
			r := f.regions[i]
			fmt.Printf("  %d wm %v pend %d abort %v dec %d reset %d/%d\n", i, r.watermark, len(r.pending), r.aborted, len(r.decided), r.resetEpoch, r.resetSeq)
		}
	}
}
func init() {}
func trc(w *world, f string, a ...any) {
	if os.Getenv("TRC") != "" {
		fmt.Printf(f+"\n", a...)
	}
}
func short(m *Message) string {
	s := fmt.Sprintf("k%d ans%v n%d r%d e%d v%d seq%d ver%v err%v want%d first%d+%d", m.Kind, m.Answer, m.Node, m.Region, m.Epoch, m.View, m.Seq, m.Version, m.Err, m.Want, m.First, m.Count)
	if m.Record != nil {
		s += fmt.Sprintf(" rec %d+%d kind%d wm%v inst%v", m.Record.First, m.Record.Count, m.Record.Kind, m.Record.Watermark, m.Record.Installed)
	}
	for _, x := range m.Extents {
		s += fmt.Sprintf(" [%d+%d %v k%d p%v]", x.First, x.Count, x.Version, x.Kind, x.Pending)
	}
	for _, x := range m.Regions {
		s += fmt.Sprintf(" {%d wm%v p%d}", x.Region, x.Watermark, len(x.Pending))
	}
	for _, x := range m.Repairs {
		s += fmt.Sprintf(" R{%d fl%v w%v}", x.Region, x.Floor, x.Winners)
	}
	return s
}
