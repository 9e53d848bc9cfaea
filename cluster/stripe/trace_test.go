package stripe

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"blocktree"
)

// tracer runs a scripted world: everything is delivered in order unless a node's messages are held back.
type tracer struct {
	*world
	t    *testing.T
	out  strings.Builder
	hold map[blocktree.NodeID]bool // what is for it waits
	slow map[blocktree.NodeID]bool // its disk does not sync
	deaf map[blocktree.NodeID]bool // it does not learn from Raft by itself
}

var kindNames = map[MessageKind]string{
	KindPrepare: "prepare", KindCommit: "commit", KindAbort: "abort", KindFence: "fence", KindRepair: "repair", KindLearn: "learn",
	KindRead: "read", KindList: "list", KindReset: "reset", KindInstall: "install",
	KindDigest: "digest", KindForget: "forget",
}

func (t *tracer) line(f string, a ...any) { fmt.Fprintf(&t.out, f+"\n", a...) }

func (t *tracer) describe(e *envelope) string {
	m := e.msg
	var b strings.Builder
	who := "holder"
	if e.from == -1 {
		who = "reader"
	}
	if m.Answer {
		fmt.Fprintf(&b, "n%d -> %s: %s", m.Node, who, kindNames[m.Kind])
	} else {
		fmt.Fprintf(&b, "%s -> n%d: %s", who, m.Node, kindNames[m.Kind])
	}
	if m.Kind == KindRead && !m.Answer {
		fmt.Fprintf(&b, " %s %d+%d", []string{"", "shards", "versions", "exact"}[m.Want], m.First, m.Count)
	}
	if !m.Version.IsZero() {
		fmt.Fprintf(&b, " %v", m.Version)
	}
	if !m.Answer && (m.Kind == KindCommit || m.Kind == KindReset) {
		fmt.Fprintf(&b, " watermark %v", m.Watermark)
	}
	if m.Record != nil {
		fmt.Fprintf(&b, " [%d+%d] watermark %v", m.Record.First, m.Record.Count, m.Record.Watermark)
	}
	if !m.Answer && m.Kind.byView() {
		fmt.Fprintf(&b, " view %d", m.View)
	}
	for _, x := range m.Extents {
		fmt.Fprintf(&b, " %d+%d=%v", x.First, x.Count, x.Version)
		if x.Pending {
			b.WriteString("?")
		}
	}
	for _, s := range m.Regions {
		fmt.Fprintf(&b, " region %d watermark %v holds", s.Region, s.Watermark)
		for _, x := range s.Pending {
			fmt.Fprintf(&b, " %v", x.Version)
		}
	}
	for _, p := range m.Repairs {
		fmt.Fprintf(&b, " region %d floor %v winners %v", p.Region, p.Floor, p.Winners)
	}
	if m.Answer && m.Err != 0 {
		fmt.Fprintf(&b, " %v", m.Err)
	}
	if m.Held {
		b.WriteString(" held")
	}
	return b.String()
}

// settle delivers until nothing moves, and says so if nothing did.
func (t *tracer) settle(quiet bool) {
	t.move(quiet)
	if t.out.Len() == 0 {
		t.line("nothing")
	}
}

func (t *tracer) move(quiet bool) {
	for moved := true; moved; {
		moved = false
		t.route()
		for i := 0; i < len(t.net); i++ {
			e := t.net[i]
			if !e.msg.Answer && (t.hold[e.msg.Node] || !t.node(e.msg.Node).up) {
				continue
			}
			t.net = slices.Delete(t.net, i, i+1)
			if !quiet {
				t.line("%s", t.describe(e))
			}
			t.deliver(e)
			t.route()
			moved = true
			i--
		}
		for len(t.metas) > 0 {
			e := t.metas[0]
			if c := e.req.Change; c != nil {
				t.line("raft: %s %v region %d", []string{"", "remove", "join", "promote"}[c.Kind], c.Nodes, c.Region)
			} else {
				t.line("raft: confirm")
			}
			t.meta(0, false)
			moved = true
		}
		for _, n := range t.nodes {
			if !n.up {
				continue
			}
			if !t.slow[n.id] && n.synced < len(n.log) {
				n.sync(len(n.log))
				moved = true
			}
			if len(n.catchup) > 0 && !t.deaf[n.id] {
				t.line("n%d catches up", n.id)
				t.catchUp(n)
				moved = true
			}
		}
		moved = moved || len(t.net) > 0 && slices.ContainsFunc(t.net, func(e *envelope) bool { return e.msg.Answer })
	}
}

func (t *tracer) command(d *datadriven.TestData) string {
	t.out.Reset()
	node := func() *testNode {
		var n int
		d.ScanArgs(t.t, "n", &n)
		return t.nodes[n-1]
	}
	switch d.Cmd {
	case "down":
		n := node()
		n.crash()
		t.nodeDown(n)
	case "crash":
		node().crash()
	case "up":
		n := node()
		if !n.up {
			if err := n.restart(); err != nil {
				t.line("%v", err)
			}
		}
		t.nodeUp(n)
	case "hold":
		t.hold[node().id] = true
	case "lose":
		n := node()
		t.net = slices.DeleteFunc(t.net, func(e *envelope) bool { return !e.msg.Answer && e.msg.Node == n.id })
	case "release":
		t.hold[node().id] = false
	case "slow":
		t.slow[node().id] = true
	case "fast":
		t.slow[node().id] = false
	case "full":
		n := node()
		n.full = !n.full
	case "write", "read", "reader", "zero":
		t.operation(d)
	case "acquire":
		t.leaseTo = 0
		t.acquire()
	case "tick":
		var ms int
		d.ScanArgs(t.t, "ms", &ms)
		for range max(1, ms/50) {
			t.tick(time.Duration(min(ms, 50)) * time.Millisecond)
			t.move(d.HasArg("quiet"))
		}
	case "again": // the last request of a kind comes once more
		t.again(d)
	}
	t.settle(d.HasArg("quiet"))
	return t.out.String()
}

func (t *tracer) operation(d *datadriven.TestData) {
	var first, count int
	d.ScanArgs(t.t, "at", &first)
	count = 1
	if d.HasArg("count") {
		d.ScanArgs(t.t, "count", &count)
	}
	s := blocktree.SectorIndex(first)
	region := t.truth.RegionOf(s)
	t.nextOp++
	op := t.nextOp
	switch d.Cmd {
	case "read", "reader":
		t.ops[op] = &testOp{read: true, first: s, count: uint32(count), reader: d.Cmd == "reader", holder: t.hid}
		for i := range count {
			t.ops[op].floor = append(t.ops[op].floor, t.floor[s+blocktree.SectorIndex(i)])
		}
		if d.Cmd == "reader" {
			t.rd.Read(op, t.truth, region, s, uint32(count))
			t.runReader()
		} else {
			t.with(t.hid, func(h *Holder) { h.Read(op, region, s, uint32(count)) })
		}
	default:
		id, h := t.hid, t.h
		if d.HasArg("old") {
			id, h = t.hid-1, t.old
		}
		v := h.Begin(region)
		kind := RecordData
		if d.Cmd == "zero" {
			kind = RecordZero
			t.zeros[fmt.Sprint(v, region)] = true
		}
		for i := range count {
			x := s + blocktree.SectorIndex(i)
			t.issued[x] = append(t.issued[x], v)
		}
		t.ops[op] = &testOp{first: s, count: uint32(count), v: v, holder: id}
		t.with(id, func(h *Holder) { h.Write(op, t.codec.write(kind, region, s, uint32(count), v)) })
	}
}

func (t *tracer) again(d *datadriven.TestData) {
	var n int
	d.ScanArgs(t.t, "n", &n)
	if e := t.lastPrepare; e != nil {
		c := *e.msg
		c.Node = blocktree.NodeID(n)
		t.net = append(t.net, &envelope{&c, e.from})
	}
}

func TestTraces(t *testing.T) {
	datadriven.Walk(t, "testdata/trace", func(t *testing.T, path string) {
		var tr *tracer
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "cluster" {
				var text string
				d.ScanArgs(t, "code", &text)
				code, err := blocktree.ParseCode(text)
				if err != nil {
					t.Fatal(err)
				}
				w := newWorld(code, 1, "")
				w.drop, w.quiet, w.lease = 0, true, true
				tr = &tracer{world: w, hold: map[blocktree.NodeID]bool{}, slow: map[blocktree.NodeID]bool{}, deaf: map[blocktree.NodeID]bool{}}
				w.onDone = tr.outcome
				tr.tick(time.Millisecond)
				tr.settle(d.HasArg("quiet"))
				return tr.out.String()
			}
			tr.t = t
			out := tr.command(d)
			if len(tr.errs) > 0 {
				t.Fatalf("%v", tr.errs)
			}
			return out
		})
	})
}

// outcome prints how an operation ended.
func (t *tracer) outcome(op *testOp, d Done) {
	switch {
	case d.Err != 0:
		t.line("done %d: %v", d.Op, d.Err)
	case d.Read == nil:
		t.line("done %d: written %v", d.Op, op.v)
	default:
		for _, p := range d.Read.Pieces {
			var from []blocktree.ShardIndex
			for _, s := range p.Shards {
				from = append(from, s.Shard)
			}
			t.line("done %d: %d+%d is %v (%s) of shards %v", d.Op, p.First, p.Count, p.Version, []string{"absent", "zero", "data"}[p.Kind], from)
		}
	}
}
