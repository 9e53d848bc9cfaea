package main

import (
	"log/slog"
	"sync"

	"blocktree"
	"blocktree/internal/file"
)

// roots keeps, in the state directory, the newest root that this server, or one before it, saw of each file of integrity tree (docs/design/0028).
type roots struct {
	state  *losses                   // whose directory it is
	kept   *file.KeptRoots           // in it
	accept func(blocktree.Path) bool // that the file of a path went back in time; nil: never
	log    *slog.Logger

	mu    sync.Mutex
	saved map[blocktree.Path]bool // of which this server has seen something itself: to those --accept-rollback does not apply, as it came before
}

func newRoots(state *losses, accept func(blocktree.Path) bool, log *slog.Logger) *roots {
	return &roots{state: state, kept: file.KeepRootsLocked(state.fs, state.dir), accept: accept, log: log, saved: map[blocktree.Path]bool{}}
}

// accepts reports whether what earlier servers saw of a path is not gone by; r.mu is held.
func (r *roots) accepts(p blocktree.Path) bool { return !r.saved[p] && r.accept != nil && r.accept(p) }

// Load implements file.Roots. Where this user may not look, no server of his has left anything.
func (r *roots) Load(p blocktree.Path) (*file.Seen, error) {
	s, err := r.kept.Load(p)
	switch blocktree.KindOf(err) {
	case blocktree.Permission:
		return nil, nil
	case blocktree.Other, blocktree.Corrupt:
	default:
		return nil, r.state.fail(err)
	}
	if s == nil && err == nil {
		return nil, nil
	}
	r.mu.Lock()
	accepted := r.accepts(p)
	r.mu.Unlock()
	if accepted {
		r.log.Warn("what was seen of the file before is not gone by: it may be older, or another one", "path", p.Short())
		return nil, nil
	}
	if err != nil {
		return nil, &blocktree.Error{Op: "state directory", Path: r.state.dir, Err: err,
			Hint: "nobody knows which root was seen; to go on with the one that is there, serve once with --accept-rollback=" + p.Short()}
	}
	return s, nil
}

// Save implements file.Roots. Of a path that is open twice, to write and to read, the newer one stays.
func (r *roots) Save(p blocktree.Path, s file.Seen) error {
	if err := r.state.open(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	save := r.kept.Save
	if r.accepts(p) {
		save = r.kept.Replace
	}
	if err := save(p, s); err != nil {
		return r.state.fail(err)
	}
	r.saved[p] = true
	return nil
}

// Forgotten implements file.Roots.
func (r *roots) Forgotten(p blocktree.Path) string {
	return "serve once with --accept-rollback=" + p.Short()
}
