package sim

import (
	"fmt"
	"strings"

	"blocktree"
	"blocktree/cluster/stripe"
)

var _ = blocktree.Other

func kindName(k stripe.MessageKind) string {
	names := [...]string{"?", "PREPARE", "COMMIT", "ABORT", "FENCE", "REPAIR", "LEARN", "READ", "LIST", "RESET", "INSTALL", "DIGEST", "FORGET", "SYNC"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("KIND%d", k)
}

// describe prints what matters of a message on one line.
func describe(m *stripe.Message) string {
	var b strings.Builder
	b.WriteString(kindName(m.Kind))
	if m.Answer {
		b.WriteString(" answer")
		if m.Err != blocktree.Other {
			fmt.Fprintf(&b, " ERR %q", m.Err)
		}
	}
	fmt.Fprintf(&b, " id%d r%d e%d v%d s%d", m.ID, m.Region, m.Epoch, m.View, m.Seq)
	if !m.Watermark.IsZero() {
		fmt.Fprintf(&b, " mark %v", m.Watermark)
	}
	if !m.Version.IsZero() {
		fmt.Fprintf(&b, " version %v", m.Version)
	}
	if m.Count > 0 {
		fmt.Fprintf(&b, " run %d+%d want %d", m.First, m.Count, m.Want)
	}
	if r := m.Record; r != nil {
		fmt.Fprintf(&b, " record kind %d %d+%d %v shard %d", r.Kind, r.First, r.Count, r.Version, r.Shard)
	}
	for _, r := range m.Repairs {
		fmt.Fprintf(&b, " repair{r%d floor %v winners %v}", r.Region, r.Floor, r.Winners)
	}
	if m.Last {
		b.WriteString(" last")
	}
	if m.Held {
		b.WriteString(" held")
	}
	for _, r := range m.Regions {
		fmt.Fprintf(&b, " state{r%d mark %v%s}", r.Region, r.Watermark, describeExtents(r.Pending))
	}
	b.WriteString(describeExtents(m.Extents))
	return b.String()
}

func describeExtents(es []stripe.Extent) string {
	var b strings.Builder
	for _, e := range es {
		if e.Kind > stripe.Damaged {
			fmt.Fprintf(&b, " kind%d", e.Kind)
			continue
		}
		fmt.Fprintf(&b, " %s", [...]string{"absent", "zero", "data", "damaged"}[e.Kind])
		if e.Pending {
			b.WriteString("?")
		}
		fmt.Fprintf(&b, "[%d+%d %v]", e.First, e.Count, e.Version)
	}
	return b.String()
}

func describeLayout(l *stripe.Layout) string {
	var b strings.Builder
	fmt.Fprintf(&b, "file %v e%d s%d", l.File, l.Epoch, l.Seq)
	for r := blocktree.RegionIndex(0); r < l.Regions(); r++ {
		v := l.View(r)
		fmt.Fprintf(&b, " r%d:v%d", r, v.ID)
		for _, m := range v.Members {
			state := [...]string{"out", "in", "joining"}[m.State]
			if l.Marked[m.Node] {
				state += "!"
			}
			fmt.Fprintf(&b, " n%d=%s", m.Node-1, state)
		}
		if v.Heir != 0 {
			fmt.Fprintf(&b, " n%d=heir of n%d", v.Heir-1, v.Members[v.HeirPlace].Node-1)
		}
	}
	return b.String()
}

func describeResult(r *stripe.ReadResult) string {
	if r == nil {
		return ""
	}
	var b strings.Builder
	for _, p := range r.Pieces {
		fmt.Fprintf(&b, "{%d+%d %v kind %d, %d shards}", p.First, p.Count, p.Version, p.Kind, len(p.Shards))
	}
	return b.String()
}

func describeOp(o *op) string {
	switch {
	case o.flush:
		return fmt.Sprintf("flush %d", o.id)
	case o.write != nil:
		return fmt.Sprintf("write %d (%v) of value %d", o.id, o.write.version, o.write.value)
	}
	if o.zeros {
		return fmt.Sprintf("question %d for zeros of %d+%d", o.id, o.first, o.count)
	}
	return fmt.Sprintf("read %d of %d+%d", o.id, o.first, o.count)
}
