package main

import (
	"os"
	"path/filepath"
)

// disk is where a node keeps its store.
type disk struct {
	dir string
}

func newDisk(w *world, n *node) *disk { return &disk{dir: filepath.Join(w.dir, n.name)} }

// store is the directory for the configuration. The node makes it.
func (d *disk) store() string { return filepath.Join(d.dir, "store") }

func (d *disk) attach() error { return os.MkdirAll(d.dir, 0o700) }

func (d *disk) detach() error { return nil }
