package testenv

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"blocktree"
	"blocktree/cluster/stripe"
)

// Liar makes of a node's answers to reads what a node would answer that lies (docs/design/0029). It remembers what it answered truthfully, as a liar would.
type Liar struct {
	file string // names the lie, for a node in a process of its own

	mu   sync.Mutex
	lie  string
	to   string // the last name of whoever is lied to; "": everybody
	kept map[keptKey]keptShard
	told uint64
}

type keptKey struct {
	file   blocktree.FileID
	sector blocktree.SectorIndex
}

// keptShard is a shard as it was once.
type keptShard struct {
	version        blocktree.Version
	payload, seals []byte
}

// Lies are the names of what a Liar can do. "old" ones need the sectors to have been read before they were overwritten.
func Lies() []string {
	return []string{"random bytes", "another sector's shard", "old shard, new header", "old shard, old header", "old version", "absent", "zeros", "zeros, newer",
		"version too high", "nonsense", "other leaf"}
}

// Set has the liar do one of Lies from now on, or tell the truth (""), to runtimes of a name or to everybody ("").
func (l *Liar) Set(lie, to string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lie, l.to, l.told = lie, to, 0
	if l.file != "" {
		_ = os.WriteFile(l.file, []byte(lie), 0o600) // the test fails if it cannot
	}
}

// Told is how many answers were lies since Set.
func (l *Liar) Told() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.told
}

// Lie changes an answer on its way out: cluster.ServiceConfig.Lie.
func (l *Liar) Lie(to blocktree.Path, a *stripe.Message) {
	if a.Kind != stripe.KindRead || a.Err != blocktree.Other || a.Want == stripe.WantZeros {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	lie := l.lie
	if l.file != "" {
		b, _ := os.ReadFile(l.file) // none: it tells the truth
		lie = string(b)
	}
	l.keep(a)
	if lie == "" || l.to != "" && !strings.HasSuffix(string(to), "/"+l.to) {
		return
	}
	l.told++
	a.Extents, a.Payload, a.Seals = slices.Clone(a.Extents), slices.Clone(a.Payload), slices.Clone(a.Seals)
	l.tell(lie, a)
}

// sectors calls f with the place of each sealed sector of an answer in its payload.
func sectors(a *stripe.Message, f func(x *stripe.Extent, s blocktree.SectorIndex, i, size int)) {
	n := len(a.Seals) / stripe.SealBytes
	if n == 0 {
		return
	}
	i := 0
	for j := range a.Extents {
		x := &a.Extents[j]
		if x.Kind != stripe.Data || x.Pending && a.Want != stripe.WantExact {
			continue
		}
		for k := range x.Count {
			f(x, x.First+blocktree.SectorIndex(k), i, len(a.Payload)/n)
			i++
		}
	}
}

// keep remembers the first shard of each sector that goes by.
func (l *Liar) keep(a *stripe.Message) {
	if l.kept == nil {
		l.kept = map[keptKey]keptShard{}
	}
	sectors(a, func(x *stripe.Extent, s blocktree.SectorIndex, i, size int) {
		if _, ok := l.kept[keptKey{a.File, s}]; !ok {
			l.kept[keptKey{a.File, s}] = keptShard{x.Version, slices.Clone(a.Payload[i*size : (i+1)*size]), slices.Clone(a.Seals[i*stripe.SealBytes : (i+1)*stripe.SealBytes])}
		}
	})
}

func (l *Liar) tell(lie string, a *stripe.Message) {
	whole := func(kind stripe.ExtentKind, v blocktree.Version) {
		a.Payload, a.Seals = nil, nil
		a.Extents = []stripe.Extent{{First: a.First, Count: uint32(a.Count), Version: v, Kind: kind}}
		if a.Want == stripe.WantExact && (kind == stripe.Absent || v != a.Version) {
			a.Extents = nil
		}
	}
	newest := blocktree.Version{}
	for _, x := range a.Extents {
		if newest.Less(x.Version) {
			newest = x.Version
		}
	}
	if a.Want == stripe.WantExact {
		newest = a.Version
	}
	higher := newest
	higher.Sequence += 1 << 20
	switch lie {
	case "absent":
		whole(stripe.Absent, blocktree.Version{})
	case "zeros":
		whole(stripe.Zero, newest)
	case "zeros, newer":
		whole(stripe.Zero, higher)
	case "version too high":
		for j := range a.Extents {
			if a.Extents[j].Kind == stripe.Data {
				a.Extents[j].Version = blocktree.Version{Epoch: a.Epoch, Sequence: a.Extents[j].Version.Sequence + 1<<20}
			}
		}
		if a.Want == stripe.WantExact {
			a.Extents, a.Payload, a.Seals = nil, nil, nil
		}
	case "nonsense":
		a.Payload = append(a.Payload, 1)
		a.Extents = append(a.Extents, stripe.Extent{First: a.First, Count: 1 << 20, Version: newest, Kind: stripe.Data})
	default:
		l.tellBytes(lie, a)
	}
}

// tellBytes lies about what is sealed.
func (l *Liar) tellBytes(lie string, a *stripe.Message) {
	switch lie {
	case "random bytes":
		for i := range a.Payload {
			a.Payload[i] ^= byte(37*i + 11)
		}
	case "another sector's shard": // of the sector before, or garbage if there is none
		sectors(a, func(_ *stripe.Extent, _ blocktree.SectorIndex, i, size int) {
			if i%2 == 1 {
				swap(a.Payload[(i-1)*size:i*size], a.Payload[i*size:(i+1)*size])
				swap(a.Seals[(i-1)*stripe.SealBytes:i*stripe.SealBytes], a.Seals[i*stripe.SealBytes:(i+1)*stripe.SealBytes])
			}
		})
		if len(a.Seals) == stripe.SealBytes {
			slices.Reverse(a.Payload)
		}
	case "old shard, new header", "old shard, old header":
		sectors(a, func(_ *stripe.Extent, s blocktree.SectorIndex, i, size int) {
			old := l.kept[keptKey{a.File, s}]
			copy(a.Payload[i*size:(i+1)*size], old.payload)
			if lie == "old shard, old header" {
				copy(a.Seals[i*stripe.SealBytes:], old.seals)
			}
		})
	case "old version": // what it acknowledged since it did not store
		for j := range a.Extents {
			x := &a.Extents[j]
			old, ok := l.kept[keptKey{a.File, x.First}]
			fits := x.Kind == stripe.Data || a.Want == stripe.WantVersions && x.Kind != stripe.Absent // with as many bytes
			if ok && fits && !x.Pending && a.Want != stripe.WantExact {
				x.Version, x.Kind = old.version, stripe.Data
			}
		}
		if a.Want == stripe.WantExact {
			a.Extents, a.Payload, a.Seals = nil, nil, nil
		} else {
			l.tell("old shard, old header", a)
		}
	case "other leaf":
		for i := range a.Seals {
			a.Seals[i] ^= 5
		}
	}
}

func swap(a, b []byte) {
	for i := range a {
		a[i], b[i] = b[i], a[i]
	}
}

// liarFile is where a process of its own finds what it is to lie.
func liarFile(storeDir string) string {
	return filepath.Join(filepath.Dir(storeDir), filepath.Base(storeDir)+".lie")
}
