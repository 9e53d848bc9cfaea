package mount

import (
	"sync"
	"sync/atomic"

	"blocktree"
	"blocktree/fs"
)

// identities say which files have another identity at the cluster than the one that the kernel was told of: those that were made anew (docs/design/0080). Two are always swapped, so no two files have one number.
type identities struct {
	count       atomic.Int64 // swaps; 0: every file has its own
	mu          sync.Mutex   // of who swaps
	known, real sync.Map     // FileID → FileID: that which is known here, by that of the cluster, and the other way
}

// identitiesMax bounds the swaps of a mount, which last as long as it does: files that were made anew, of each failover those that were just being made, and those whose spare was not to be had. Each takes some 600 bytes.
const identitiesMax = 1 << 14

func other(m *sync.Map, id blocktree.FileID) blocktree.FileID {
	if o, ok := m.Load(id); ok {
		return o.(blocktree.FileID)
	}
	return id
}

// here is the identity by which a file of the cluster is known here.
func (x *identities) here(id blocktree.FileID) blocktree.FileID {
	if x.count.Load() == 0 {
		return id
	}
	return other(&x.known, id)
}

// there is the identity at the cluster of a file that is known here.
func (x *identities) there(id blocktree.FileID) blocktree.FileID {
	if x.count.Load() == 0 {
		return id
	}
	return other(&x.real, id)
}

// swap has what is known here be another file of the cluster, and whatever was that be what this one was, unless it is so. False: there are too many.
func (x *identities) swap(here, there blocktree.FileID) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if other(&x.known, there) == here {
		return true
	}
	if x.count.Load() >= identitiesMax {
		return false
	}
	was, had := other(&x.real, here), other(&x.known, there)
	x.count.Add(1)
	for known, real := range map[blocktree.FileID]blocktree.FileID{here: there, had: was} {
		x.known.Store(real, known)
		x.real.Store(known, real)
	}
	return true
}

// infoOf describes an open file, as it is known here.
func (t *tree) infoOf(f fs.File) fs.Info { return t.seen(f.Info()) }

// seen is a description of the cluster's, as it is known here.
func (t *tree) seen(info fs.Info) fs.Info {
	info.ID = t.identities.here(info.ID)
	return info
}
