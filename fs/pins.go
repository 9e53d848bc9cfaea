package fs

import (
	"sync"

	"blocktree"
	"blocktree/crypto/keys"
	"blocktree/internal/file"
)

// pins remember, while the service runs, the newest access record of each file and directory that was gone by: an older one is refused (docs/design/0030). They are of files, not of
// paths: callers remove files and make others of the same names, by other nodes too. Of those that were gone by longest ago some are forgotten where there are more than FSPinsMax.
type pins struct {
	mu     sync.Mutex
	seq    uint64 // of the newest
	recent map[blocktree.FileID]pinned
	old    map[blocktree.FileID]pinned
}

type pinned struct {
	pin keys.Pin
	seq uint64
}

// find returns a pin, and has it count as recent.
func (p *pins) find(id blocktree.FileID) (pinned, bool) {
	x, ok := p.recent[id]
	if !ok {
		if x, ok = p.old[id]; ok {
			p.put(id, x)
		}
	}
	return x, ok
}

func (p *pins) put(id blocktree.FileID, x pinned) {
	if len(p.recent) >= blocktree.FSPinsMax/2 {
		p.recent, p.old = nil, p.recent
	}
	if p.recent == nil {
		p.recent = map[blocktree.FileID]pinned{}
	}
	p.recent[id] = x
}

// opening returns the pins for one opening of a file. What others have pinned since it began does not count there: its own look at the record may be the older one.
func (p *pins) opening() file.FilePins {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &openingPins{all: p, upTo: p.seq, own: map[blocktree.FileID]keys.Pin{}}
}

// openingPins are what one opening goes by: of the file, and of the directories above.
type openingPins struct {
	all  *pins
	upTo uint64
	own  map[blocktree.FileID]keys.Pin // that it has pinned itself; guarded by all.mu
}

// Of implements file.FilePins.
func (o *openingPins) Of(id blocktree.FileID) file.Pins { return filePin{o, id} }

// Pin implements file.Pins: of no path anything is known.
func (o *openingPins) Pin(blocktree.Path) (keys.Pin, bool, error) { return keys.Pin{}, false, nil }

// SetPin implements file.Pins.
func (o *openingPins) SetPin(blocktree.Path, keys.Pin) error { return nil }

// Where implements file.Pins.
func (o *openingPins) Where(blocktree.Path) string {
	return "what the filesystem service remembers, by starting its node anew"
}

// filePin is the pin of one file or directory.
type filePin struct {
	*openingPins
	id blocktree.FileID
}

// Pin implements file.Pins.
func (f filePin) Pin(blocktree.Path) (keys.Pin, bool, error) {
	f.all.mu.Lock()
	defer f.all.mu.Unlock()
	own, mine := f.own[f.id]
	x, ok := f.all.find(f.id)
	if ok && x.seq <= f.upTo && (!mine || x.pin.Number > own.Number) {
		return x.pin, true, nil
	}
	return own, mine, nil
}

// SetPin implements file.Pins.
func (f filePin) SetPin(_ blocktree.Path, seen keys.Pin) error {
	f.all.mu.Lock()
	defer f.all.mu.Unlock()
	f.own[f.id] = seen
	if x, ok := f.all.find(f.id); ok && x.pin.Number >= seen.Number {
		return nil // somebody has seen a later one meanwhile
	}
	f.all.seq++
	f.all.put(f.id, pinned{seen, f.all.seq})
	return nil
}
