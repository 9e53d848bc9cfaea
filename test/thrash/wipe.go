package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// replaceWithin is how long a replacement is asked for: other faults may keep the cluster from one.
const replaceWithin = 20 * time.Second

// wipe ends a node and has the cluster replace its store; only when that is granted is the disk emptied. A cluster that
// cannot spare the store refuses: then the node goes on as it was.
func wipe(w *world, e event) (func(), bool) {
	n := w.nodes[e.node]
	if !n.busy.TryLock() {
		return nil, false
	}
	n.kill()
	back := func() {
		n.mustBegin()
		n.busy.Unlock()
	}
	if err := w.replace(n); err != nil {
		w.note("a replacement was refused")
		w.log("%s is not replaced: %v", n.name, err)
		return back, true
	}
	w.note("a disk was wiped")
	if err := n.disk.empty(); err != nil {
		w.violate("the disk of %s could not be emptied: %v", n.name, err)
	}
	return back, true
}

// replace asks the cluster until it agrees.
func (w *world) replace(n *node) error {
	deadline := time.Now().Add(replaceWithin)
	for {
		_, err := w.btnode("node", "replace", "/"+n.name)
		if err == nil || time.Now().After(deadline) || w.ctx.Err() != nil {
			return err
		}
		sleep(w.ctx, time.Second)
	}
}

// empty removes what a node keeps, durably. The node must be gone.
func (d *disk) empty() error {
	if err := os.RemoveAll(d.store()); err != nil {
		return err
	}
	dir, err := os.Open(d.mount())
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// btnode runs a command about the cluster on the writer's host and returns what it prints.
func (w *world) btnode(args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(w.ctx, healWithin)
	defer cancel()
	line := append([]string{filepath.Join(w.o.bin, "btnode")}, args...)
	line = w.writer.host.in(append(line, "--config", filepath.Join(w.dir, "p", "client.yaml"))...)
	out, err := exec.CommandContext(ctx, line[0], line[1:]...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return out, err
}

// scrub has every node compare all that it keeps with the others, and demands that nothing is wrong.
func (w *world) scrub() {
	out, err := w.btnode("scrub", "--json")
	if err != nil {
		w.violate("scrub: %v", err)
		return
	}
	var nodes []struct {
		Path   string
		Counts struct{ Sectors, BitRot, Lost, Misdirected, Mixed uint64 }
	}
	if err := json.Unmarshal(out, &nodes); err != nil {
		w.violate("scrub says what cannot be read: %v", err)
		return
	}
	sectors := uint64(0)
	for _, n := range nodes {
		sectors += n.Counts.Sectors
		if n.Counts.BitRot+n.Counts.Lost+n.Counts.Misdirected+n.Counts.Mixed > 0 {
			w.violate("scrub finds damage at %s: %+v", n.Path, n.Counts)
		}
	}
	w.say("scrub of %d sectors at %d nodes finds nothing", sectors, len(nodes))
}
