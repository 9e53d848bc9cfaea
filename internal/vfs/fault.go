package vfs

import (
	"io"
	"math"
	"strings"
	"sync"
	"syscall"

	"blocktree"
)

// FaultOp names what a Fault may fail.
type FaultOp uint8

// The operations. Write stands for WriteAt, WritevAt and WriteDirectAt, Sync for Datasync and Sync.
const (
	FaultRead FaultOp = iota + 1
	FaultWrite
	FaultSync
	FaultSyncDir
	FaultCreate
	FaultAllocate
	FaultRename
	FaultRemove
	FaultTruncate
)

// Injection is one fault to come.
type Injection struct {
	Op    FaultOp
	Name  string // only files and directories whose name contains it; empty for all
	Skip  int    // so many matching operations succeed first
	Times int    // so many then fail; 0 is one, below 0 for ever
	Err   error  // what to return; nil with Flip or Short gives no error, otherwise EIO
	Short bool   // FaultWrite: write only the first half, then fail with Err (EIO if nil)
	Flip  int    // FaultRead and FaultWrite: invert this bit (1 is bit 0 of byte 0) of the bytes that pass, no error
	// Stall, for all but FaultRead and FaultWrite, holds the operation until it is closed; then it is done as if nothing had been.
	Stall <-chan struct{}
}

// Fault wraps a file system and injects faults into it. Make one with NewFault.
type Fault struct {
	FS
	mu       sync.Mutex
	rules    []*Injection
	injected int
}

// NewFault wraps under.
func NewFault(under FS) *Fault { return &Fault{FS: under} }

// Inject adds a fault to come. The first rule that matches an operation and is not used up decides it.
func (f *Fault) Inject(i Injection) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i.Times == 0 {
		i.Times = 1
	}
	f.rules = append(f.rules, &i)
}

// Clear forgets the faults to come.
func (f *Fault) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
}

// Injected returns how many faults were injected so far, so that a test can tell that its fault happened.
func (f *Fault) Injected() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.injected
}

// next decides one operation; nil lets it pass.
func (f *Fault) next(op FaultOp, name string) *Injection {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.rules {
		if r.Op != op || r.Times == 0 || !strings.Contains(name, r.Name) {
			continue
		}
		if r.Skip > 0 {
			r.Skip--
			continue
		}
		if r.Times > 0 {
			r.Times--
		}
		f.injected++
		out := *r
		return &out
	}
	return nil
}

func (i *Injection) err(op, name string) error {
	if i.Err == nil {
		return wrap(op, name, syscall.EIO)
	}
	if blocktree.KindOf(i.Err) != blocktree.Other {
		return i.Err
	}
	return wrap(op, name, i.Err)
}

func (f *Fault) simple(op FaultOp, opName, name string) error {
	i := f.next(op, name)
	switch {
	case i == nil:
		return nil
	case i.Stall != nil:
		<-i.Stall
		return nil
	case op == FaultSync || op == FaultSyncDir:
		return wrapSync(opName, name, i.err(opName, name))
	}
	return i.err(opName, name)
}

// Create implements FS.
func (f *Fault) Create(name string) (File, error) {
	if err := f.simple(FaultCreate, "Create", name); err != nil {
		return nil, err
	}
	return f.file(name)(f.FS.Create(name))
}

// Open implements FS.
func (f *Fault) Open(name string) (File, error) { return f.file(name)(f.FS.Open(name)) }

func (f *Fault) file(name string) func(File, error) (File, error) {
	return func(under File, err error) (File, error) {
		if err != nil {
			return nil, err
		}
		return &faultFile{File: under, f: f, name: name}, nil
	}
}

// Rename implements FS.
func (f *Fault) Rename(from, to string) error {
	if err := f.simple(FaultRename, "Rename", from); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

// Remove implements FS.
func (f *Fault) Remove(name string) error {
	if err := f.simple(FaultRemove, "Remove", name); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

// SyncDir implements FS.
func (f *Fault) SyncDir(dir string) error {
	if err := f.simple(FaultSyncDir, "SyncDir", dir); err != nil {
		return err
	}
	return f.FS.SyncDir(dir)
}

// FreeBytes implements Spacer, if what is under it does.
func (f *Fault) FreeBytes(dir string) (int64, error) {
	if under, ok := f.FS.(Spacer); ok {
		return under.FreeBytes(dir)
	}
	return math.MaxInt64, nil
}

// SizeBytes implements Sized, if what is under it does.
func (f *Fault) SizeBytes(dir string) (int64, error) {
	if under, ok := f.FS.(Sized); ok {
		return under.SizeBytes(dir)
	}
	return math.MaxInt64, nil
}

// Lock implements FS.
func (f *Fault) Lock(name string) (io.Closer, error) { return f.FS.Lock(name) }

type faultFile struct {
	File
	f    *Fault
	name string
}

func flip(p []byte, bit int) {
	if bit--; bit/8 < len(p) {
		p[bit/8] ^= 1 << (bit % 8)
	}
}

func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	i := f.f.next(FaultRead, f.name)
	if i != nil && i.Flip == 0 {
		return 0, i.err("ReadAt", f.name)
	}
	n, err := f.File.ReadAt(p, off)
	if i != nil {
		flip(p[:n], i.Flip)
	}
	return n, err
}

func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	return f.WritevAt([][]byte{p}, off)
}

func (f *faultFile) WritevAt(bufs [][]byte, off int64) (int, error) {
	if i := f.f.next(FaultWrite, f.name); i != nil {
		return f.failWrite(i, bufs, off)
	}
	return f.File.WritevAt(bufs, off)
}

// failWrite does what a fault says instead of a write.
func (f *faultFile) failWrite(i *Injection, bufs [][]byte, off int64) (int, error) {
	var all []byte
	for _, b := range bufs {
		all = append(all, b...)
	}
	switch {
	case i.Flip > 0:
		flip(all, i.Flip)
		return f.File.WriteAt(all, off)
	case i.Short:
		n, err := f.File.WriteAt(all[:len(all)/2], off)
		if err == nil {
			err = i.err("WriteAt", f.name)
		}
		return n, err
	}
	return 0, i.err("WriteAt", f.name)
}

// WriteDirectAt implements Direct, if what is under it does. What is to fail fails as any write does.
func (f *faultFile) WriteDirectAt(bufs [][]byte, off int64) (bool, error) {
	if err := checkDirect(f.name, bufs, off); err != nil {
		return false, err
	}
	if i := f.f.next(FaultWrite, f.name); i != nil {
		_, err := f.failWrite(i, bufs, off)
		return true, err
	}
	if under, can := f.File.(Direct); can {
		return under.WriteDirectAt(bufs, off)
	}
	_, err := f.File.WritevAt(bufs, off)
	return false, err
}

// EndDirect implements Direct, if what is under it does.
func (f *faultFile) EndDirect() {
	if under, can := f.File.(Direct); can {
		under.EndDirect()
	}
}

func (f *faultFile) Datasync() error {
	if err := f.f.simple(FaultSync, "Datasync", f.name); err != nil {
		return err
	}
	return f.File.Datasync()
}

func (f *faultFile) Sync() error {
	if err := f.f.simple(FaultSync, "Sync", f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *faultFile) Truncate(bytes int64) error {
	if err := f.f.simple(FaultTruncate, "Truncate", f.name); err != nil {
		return err
	}
	return f.File.Truncate(bytes)
}

func (f *faultFile) Allocate(bytes int64) error {
	if err := f.f.simple(FaultAllocate, "Allocate", f.name); err != nil {
		return err
	}
	return f.File.Allocate(bytes)
}
