package main

import (
	"errors"
	"log/slog"
	"sync"

	"blocktree"
	"blocktree/internal/file"
)

// roots keeps, in the state directory, the newest root that this server, or one before it, saw of each file of integrity tree (docs/design/0028).
type roots struct {
	state  *losses                   // whose directory it is
	accept func(blocktree.Path) bool // that the file of a path went back in time; nil: never
	log    *slog.Logger

	mu    sync.Mutex
	saved map[blocktree.Path]file.Seen // what this server has seen itself: to that --accept-rollback does not apply, as it came before
}

// Load implements file.Roots. Where this user may not look, no server of his has left anything.
func (r *roots) Load(p blocktree.Path) (*file.Seen, error) {
	text, err := r.state.read(r.state.file(p, "root"))
	switch blocktree.KindOf(err) {
	case blocktree.NotFound, blocktree.Permission:
		return nil, nil
	}
	if err != nil {
		return nil, r.state.fail(err)
	}
	r.mu.Lock()
	_, own := r.saved[p]
	accepted := !own && r.accept != nil && r.accept(p)
	r.mu.Unlock()
	if accepted {
		r.log.Warn("what was seen of the file before is not gone by: it may be older, or another one", "path", p.Short())
		return nil, nil
	}
	rec, err := decodeRootRecord(text)
	if err == nil && rec.path != p {
		err = blocktree.E("root record", blocktree.Corrupt, errors.New("it is that of another path"))
	}
	if err != nil {
		return nil, &blocktree.Error{Op: "state directory", Path: r.state.dir, Err: err,
			Hint: "nobody knows which root was seen; to go on with the one that is there, serve once with --accept-rollback=" + p.Short()}
	}
	return &rec.seen, nil
}

// Save implements file.Roots. Of a path that is open twice, to write and to read, the newer one stays.
func (r *roots) Save(p blocktree.Path, s file.Seen) error {
	if err := r.state.open(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if was, own := r.saved[p]; own && was.File == s.File && was.Root.Number >= s.Root.Number {
		return nil
	}
	if err := r.state.replace(r.state.file(p, "root"), rootRecord{p, s}.encode()); err != nil {
		return r.state.fail(err)
	}
	r.saved[p] = s
	return nil
}

// rootRecord is what is kept of one path.
type rootRecord struct {
	path blocktree.Path
	seen file.Seen
}

func (r rootRecord) encode() []byte { return file.EncodeSeen(r.path, r.seen) }

// decodeRootRecord reads what encode writes, to the byte. Kind Corrupt.
func decodeRootRecord(text []byte) (r rootRecord, err error) {
	r.path, r.seen, err = file.DecodeSeen(text)
	return r, err
}
