package nbd

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"blocktree/blockdev"
)

// Traffic counts the requests that clients made and the server admitted.
type Traffic struct {
	Reads, ReadBytes   uint64
	Writes, WriteBytes uint64
	Others             uint64 // all else: FLUSH, TRIM, WRITE_ZEROES, CACHE, BLOCK_STATUS
}

func (t *Traffic) add(o Traffic) {
	t.Reads += o.Reads
	t.ReadBytes += o.ReadBytes
	t.Writes += o.Writes
	t.WriteBytes += o.WriteBytes
	t.Others += o.Others
}

// counters are the traffic of one connection. Only its reader counts.
type counters struct{ reads, readBytes, writes, writeBytes, others atomic.Uint64 }

func (n *counters) count(command uint16, bytes uint64) {
	switch command {
	case cmdRead:
		n.reads.Add(1)
		n.readBytes.Add(bytes)
	case cmdWrite:
		n.writes.Add(1)
		n.writeBytes.Add(bytes)
	default:
		n.others.Add(1)
	}
}

func (n *counters) load() Traffic {
	return Traffic{Reads: n.reads.Load(), ReadBytes: n.readBytes.Load(), Writes: n.writes.Load(), WriteBytes: n.writeBytes.Load(), Others: n.others.Load()}
}

// attachment is what the server keeps of a device that connections are attached to.
type attachment struct {
	conns int
	past  Traffic // of connections that have ended
}

// Client is a connection that is attached to an export.
type Client struct {
	Name     string // an address, or a process of this machine
	Who      Identity
	TLS      string // version and cipher suite; empty without
	ReadOnly bool
	Since    time.Time
	Traffic
}

// Use is an export with those who use it.
type Use struct {
	Export  blockdev.Export
	Clients []Client // the oldest first
	Traffic          // of those, and of those that were attached while others were
}

// Uses returns all exports in the order of their names, those on demand that are open among them.
func (s *Server) Uses() []Use {
	var list []Use
	at := map[*blockdev.Device]int{}
	add := func(e blockdev.Export) {
		at[e.Device] = len(list)
		list = append(list, Use{Export: e})
	}
	for _, e := range s.exports.List() {
		add(e)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if !c.attached {
			continue
		}
		i, ok := at[c.dev]
		if !ok { // on demand, or just removed
			add(c.export)
			i = at[c.dev]
		}
		u, traffic := &list[i], c.traffic.load()
		u.Clients = append(u.Clients, Client{Name: c.name, Who: c.who, TLS: c.secured.describe(), ReadOnly: c.export.ReadOnly, Since: c.began, Traffic: traffic})
		u.add(traffic)
	}
	if s.demand != nil {
		for _, e := range s.demand.List() {
			if _, ok := at[e.Device]; !ok {
				add(e)
			}
		}
	}
	for device, i := range at {
		if a, ok := s.attached[device]; ok {
			list[i].add(a.past)
		}
		slices.SortFunc(list[i].Clients, func(a, b Client) int { return a.Since.Compare(b.Since) })
	}
	slices.SortStableFunc(list, func(a, b Use) int { return cmp.Compare(a.Export.Name, b.Export.Name) })
	return list
}
