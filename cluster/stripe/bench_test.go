package stripe

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"blocktree"
)

// benchNet is a Holder and its members in memory, without codecs and disks: what a write costs the machines alone.
type benchNet struct {
	b       testing.TB
	h       *Holder
	members []*Member
	handed  []uint64
	done    int
	payload []byte
	seals   []byte
	refs    []Ref
}

func newBenchNet(b testing.TB) *benchNet {
	l := &Layout{
		File: blocktree.FileID{Generation: 1, Inode: 7}, Code: blocktree.Code{Data: 2, Parity: 1}, SectorBytes: 4096, RegionSectors: 1 << 18,
		Sectors: 1 << 18, Seq: 1, BaseID: 1, Incarnations: map[blocktree.NodeID]blocktree.Incarnation{},
	}
	n := &benchNet{b: b, handed: make([]uint64, 3), payload: make([]byte, 2048), seals: make([]byte, SealBytes), refs: make([]Ref, 64)}
	for i := range 3 {
		id := blocktree.NodeID(i + 1)
		l.Hosts = append(l.Hosts, id)
		l.Incarnations[id] = incarnation(id, 1)
		n.members = append(n.members, NewMember(id, incarnation(id, 1)))
	}
	l = l.Acquire()
	n.h = NewHolder(HolderConfig{Layout: l}, 0)
	for i, m := range n.members {
		m.Learn(l)
		n.h.NodeUp(blocktree.NodeID(i+1), incarnation(blocktree.NodeID(i+1), 1))
	}
	n.h.Renewed(1 << 60)
	n.run()
	if !n.h.Recovered() {
		b.Fatal("not recovered")
	}
	return n
}

// run carries messages until there are none.
func (n *benchNet) run() {
	for {
		rd := n.h.Ready()
		n.done += len(rd.Done)
		for _, d := range rd.Done {
			if d.Err != blocktree.Other {
				n.b.Fatal(d.Err)
			}
		}
		if len(rd.Messages) == 0 {
			return
		}
		for _, m := range rd.Messages {
			n.members[m.Node-1].Step(m)
		}
		for i, m := range n.members {
			mr := m.Ready()
			if k := len(mr.Records); k > 0 {
				m.Located(n.refs[:k], nil)
				n.handed[i] += uint64(k)
				m.Durable(n.handed[i])
			}
			for j := range mr.Reads {
				t := &mr.Reads[j]
				q := t.Request
				x := []Extent{{First: q.First, Count: uint32(q.Count), Version: blocktree.Version{Epoch: 1, Sequence: 1}, Kind: Data}}
				if q.Want == WantShards {
					n.h.Step(t.Answer(q.Node, x, n.payload, n.seals, 0, 0))
				} else {
					n.h.Step(t.Answer(q.Node, x, nil, nil, 0, 0))
				}
			}
			for _, a := range mr.Answers {
				n.h.Step(a)
			}
			for _, a := range m.Ready().Answers {
				n.h.Step(a)
			}
		}
	}
}

// cpuTime is what this process has used, garbage collection included; on a machine with other work it says more than
// the clock.
func cpuTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func report(b *testing.B, since time.Duration, n int, what string) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/"+what)
	b.ReportMetric(float64(cpuTime()-since)/float64(n), "cpu-ns/"+what)
	b.ReportMetric(0, "ns/op")
}

// BenchmarkWrite is a 4 KiB write, 32 at a time, through a Holder and three Members.
func BenchmarkWrite(b *testing.B) {
	n := newBenchNet(b)
	shards := [][]byte{n.payload, n.payload, n.payload}
	b.ReportAllocs()
	cpu := cpuTime()
	for i := 0; b.Loop(); {
		for range 32 {
			v := n.h.Begin(0)
			n.h.Write(uint64(i), &Write{
				Kind: RecordData, First: blocktree.SectorIndex(i*7919) % (1 << 18), Count: 1, Version: v, ShardBytes: 2048, Seals: n.seals, Shards: shards,
			})
			i++
		}
		n.run()
		if n.done != i {
			b.Fatalf("%d of %d writes done", n.done, i)
		}
	}
	report(b, cpu, n.done, "write")
}

// BenchmarkRead is a 4 KiB read, 32 at a time.
func BenchmarkRead(b *testing.B) {
	n := newBenchNet(b)
	v := n.h.Begin(0) // what members answer with has been written
	n.h.Write(0, &Write{Kind: RecordData, Count: 1, Version: v, ShardBytes: 2048, Seals: n.seals, Shards: [][]byte{n.payload, n.payload, n.payload}})
	n.run()
	n.done = 0
	b.ReportAllocs()
	cpu := cpuTime()
	for i := 0; b.Loop(); {
		for range 32 {
			n.h.Read(uint64(i), 0, blocktree.SectorIndex(i*7919)%(1<<18), 1)
			i++
		}
		n.run()
		if n.done != i {
			b.Fatalf("%d of %d reads done", n.done, i)
		}
	}
	report(b, cpu, n.done, "read")
}

// BenchmarkMessageCodec is one prepare to wire form and back.
func BenchmarkMessageCodec(b *testing.B) {
	m := &Message{
		Kind: KindPrepare, ID: 7, Record: &Record{Kind: RecordData, Count: 1, ShardBytes: 2048, Payload: make([]byte, 2048), Seals: make([]byte, SealBytes)},
	}
	_, body := joined(m)
	b.ReportAllocs()
	for b.Loop() {
		h, _ := EncodeMessage(m)
		if _, err := DecodeMessage(h, body); err != nil {
			b.Fatal(err)
		}
	}
}
