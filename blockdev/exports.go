package blockdev

import (
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"

	"blocktree"
)

// ExportsMax bounds the exports of one process: a list of them is sent to every client that asks.
const ExportsMax = 1024

// DescriptionBytesMax bounds what an export says about itself.
const DescriptionBytesMax = 1024

// Export is a device under a name that clients ask for.
type Export struct {
	Name        string // a path such as /vm/disk0; one leading slash makes no difference
	Description string // one line for people, may be empty
	Device      *Device
	ReadOnly    bool // writes are refused here, whatever the device allows

	SizeBytes uint64 // of one that is not open, and has no Device
}

// Size is the length in bytes.
func (e Export) Size() uint64 {
	if e.Device == nil {
		return e.SizeBytes
	}
	return e.Device.Size()
}

// Told is the description with a last word that names the file, whatever its path, file=DOMAIN/ID: who connects again, as `btnbd attach`
// does, can see that it is the same one. An export that is not open yet has no such word.
func (e Export) Told() string {
	if e.Device == nil || e.Device.Info().ID == (blocktree.FileID{}) {
		return e.Description
	}
	info := e.Device.Info()
	return strings.TrimSpace(fmt.Sprintf("%s file=%v/%v", e.Description, info.Path.Root(), info.ID))
}

// Exports is a set of exports that may change at any time. The zero value is empty and ready. It owns no device: who
// removes an export closes its device, and requests that still come get Closed.
type Exports struct {
	mu     sync.RWMutex
	byName map[string]Export // without a leading slash
}

// Add adds an export. It returns Exists if there is one of that name, Invalid for a name that no client could ask for,
// TooLarge over a bound.
func (x *Exports) Add(e Export) error {
	const op = "blockdev.Exports.Add"
	key := exportKey(e.Name)
	switch {
	case e.Device == nil:
		return blocktree.E(op, blocktree.Invalid, errors.New("an export without a device"))
	case key == "" || strings.ContainsAny(e.Name+e.Description, "\x00\n"):
		return blocktree.E(op, blocktree.Invalid, fmt.Errorf("%q cannot be the name of an export", e.Name))
	case len(e.Name) > blocktree.PathBytesMax || len(e.Description) > DescriptionBytesMax:
		return blocktree.E(op, blocktree.TooLarge, errors.New("the name or description is too long"))
	}
	e.ReadOnly = e.ReadOnly || e.Device.ReadOnly()
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := x.byName[key]; ok {
		return &blocktree.Error{Op: op, Path: e.Name, Kind: blocktree.Exists}
	}
	if len(x.byName) == ExportsMax {
		return blocktree.E(op, blocktree.TooLarge, fmt.Errorf("at most %d exports", ExportsMax))
	}
	if x.byName == nil {
		x.byName = make(map[string]Export)
	}
	x.byName[key] = e
	return nil
}

// Remove takes an export out and returns it, or NotFound. Clients that use it go on until its device is closed.
func (x *Exports) Remove(name string) (Export, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e, ok := x.byName[exportKey(name)]
	if !ok {
		return Export{}, &blocktree.Error{Op: "blockdev.Exports.Remove", Path: name, Kind: blocktree.NotFound}
	}
	delete(x.byName, exportKey(name))
	return e, nil
}

// Lookup returns the export that a client means by name: the empty name is the only export there is. Else NotFound.
func (x *Exports) Lookup(name string) (Export, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	key := exportKey(name)
	if e, ok := x.byName[key]; ok {
		return e, nil
	}
	if key == "" && len(x.byName) == 1 {
		for _, e := range x.byName {
			return e, nil
		}
	}
	return Export{}, &blocktree.Error{Op: "blockdev.Exports.Lookup", Path: name, Kind: blocktree.NotFound}
}

// List returns all exports in the order of their names.
func (x *Exports) List() []Export {
	x.mu.RLock()
	defer x.mu.RUnlock()
	all := make([]Export, 0, len(x.byName))
	for _, e := range x.byName {
		all = append(all, e)
	}
	sort.Slice(all, func(i, j int) bool { return exportKey(all[i].Name) < exportKey(all[j].Name) })
	return all
}

func exportKey(name string) string { return strings.TrimPrefix(name, "/") }
