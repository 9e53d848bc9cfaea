package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// diskAnswerWithin bounds every answer of lossydisk.
const diskAnswerWithin = 30 * time.Second

// disk is where a node keeps its store: an ext4 of its own in a file, and a lossydisk over it; or a plain directory.
type disk struct {
	w     *world
	dir   string
	plain bool

	loop string // the loop device
	busy sync.Mutex

	mu     sync.Mutex // of lossydisk
	lossy  *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
}

func newDisk(w *world, n *node) *disk {
	return &disk{w: w, dir: filepath.Join(w.dir, n.name), plain: w.o.plain}
}

// back is the ext4, mount what the node sees.
func (d *disk) back() string  { return filepath.Join(d.dir, "back") }
func (d *disk) mount() string { return filepath.Join(d.dir, "mnt") }

// store is the directory for the configuration. The node makes it.
func (d *disk) store() string { return filepath.Join(d.mount(), "store") }

// attach makes the disk and mounts it.
func (d *disk) attach() error {
	for _, dir := range []string{d.back(), d.mount()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if d.plain {
		return nil
	}
	image := filepath.Join(d.dir, "image")
	for _, line := range [][]string{
		{"truncate", "-s", d.w.o.diskSize, image},
		{"mkfs.ext4", "-q", "-F", "-m", "0", image},
	} {
		if err := tool("", line[0], line[1:]...); err != nil {
			return err
		}
	}
	out, err := exec.Command("losetup", "--find", "--show", image).Output()
	if err != nil {
		return fmt.Errorf("no loop device (-disks plain does without, and without the faults that need one): %w", err)
	}
	d.loop = strings.TrimSpace(string(out))
	if err := tool("", "mount", d.loop, d.back()); err != nil {
		return err
	}
	return d.power()
}

// power starts lossydisk.
func (d *disk) power() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := exec.Command(d.w.o.lossydisk, d.back(), d.mount())
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Stderr = d.w.journal
	var err error
	if d.stdin, err = c.StdinPipe(); err != nil {
		return err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	d.lossy, d.stdout = c, bufio.NewReader(out)
	if line, err := d.answer(); err != nil || line != "ready" {
		return fmt.Errorf("lossydisk (is /dev/fuse there? -disks plain does without): %q %w", line, err)
	}
	return nil
}

// answer reads a line of lossydisk, which is killed if none comes.
func (d *disk) answer() (string, error) {
	t := time.AfterFunc(diskAnswerWithin, func() { _ = d.lossy.Process.Kill() })
	defer t.Stop()
	line, err := d.stdout.ReadString('\n')
	return strings.TrimSpace(line), err
}

// command has lossydisk do something.
func (d *disk) command(format string, args ...any) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := fmt.Fprintf(d.stdin, format+"\n", args...); err != nil {
		return "", err
	}
	line, err := d.answer()
	if rest, ok := strings.CutPrefix(line, "ok "); ok {
		return rest, nil
	}
	return "", errors.Join(fmt.Errorf("lossydisk: %q", line), err)
}

// unplug ends lossydisk. Whoever uses the disk must be gone.
func (d *disk) unplug() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lossy == nil {
		return nil
	}
	_ = d.stdin.Close() // its end is what is waited for
	t := time.AfterFunc(diskAnswerWithin, func() { _ = d.lossy.Process.Kill() })
	defer t.Stop()
	err := d.lossy.Wait()
	d.lossy = nil
	if err != nil {
		err = errors.Join(fmt.Errorf("lossydisk: %w", err), ignoring(unix.Unmount(d.mount(), unix.MNT_DETACH), unix.EINVAL))
	}
	return err
}

// ignoring is err unless it is one that does not matter.
func ignoring(err, harmless error) error {
	if errors.Is(err, harmless) {
		return nil
	}
	return err
}

// detach takes back what attach did.
func (d *disk) detach() error {
	if d.plain {
		return nil
	}
	all := d.unplug()
	if d.loop != "" {
		all = errors.Join(all, ignoring(unix.Unmount(d.back(), 0), unix.EINVAL), tool("", "losetup", "-d", d.loop))
	}
	return all
}

// ballast is the file that fills the disk.
func (d *disk) ballast() string { return filepath.Join(d.back(), "ballast") }

// fill leaves about so many bytes free.
func (d *disk) fill(leave int64) error {
	f, err := os.OpenFile(d.ballast(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close() // what counts is allocated or not
	var size int64
	for step := int64(256 << 20); step >= 64<<10; {
		var st unix.Statfs_t
		if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
			return err
		}
		if int64(st.Bavail)*st.Bsize-step < leave || unix.Fallocate(int(f.Fd()), 0, size, step) != nil {
			step /= 2
			continue
		}
		size += step
	}
	return nil
}

// used is how much of the disk the node uses.
func (d *disk) used() int64 {
	var st unix.Statfs_t
	if unix.Statfs(d.back(), &st) != nil {
		return 0
	}
	return int64(st.Blocks-st.Bfree) * st.Bsize
}

// powerCut makes the disks of nodes lose what was not synced, at once, then ends the nodes. What was acknowledged before
// must be there when they come back.
func powerCut(w *world, nodes []*node, e event) {
	together(nodes, func(n *node) {
		n.mayEnd()
		lost, err := n.disk.command("cut %d", e.seed%1_000_000_007+uint64(len(n.name)))
		if err != nil {
			w.violate("%s: the power could not be cut: %v", n.name, err)
		}
		w.log("%s: %s", n.name, lost)
	})
	together(nodes, (*node).kill)
}

// powerOn brings them back.
func powerOn(w *world, nodes []*node) {
	together(nodes, func(n *node) {
		if err := errors.Join(n.disk.unplug(), n.disk.power()); err != nil {
			w.violate("%s: no power again: %v", n.name, err)
		}
		n.mustBegin()
	})
}

func powerCutOne(w *world, e event) (func(), bool) {
	n := w.nodes[e.node]
	if !n.busy.TryLock() {
		return nil, false
	}
	powerCut(w, []*node{n}, e)
	return func() {
		powerOn(w, []*node{n})
		n.busy.Unlock()
	}, true
}

// powerCutAll is the loss of power of all nodes; those that are dead have lost it already, so it takes them as well.
func powerCutAll(w *world, e event) (func(), bool) {
	nodes, release := w.takeAll()
	powerCut(w, nodes, e)
	return func() {
		powerOn(w, nodes)
		release()
	}, len(nodes) > 0
}

// failSync lets the next fsync of a node fail. The node must end by itself; then its disk loses power, as only what was synced
// before is trusted.
func failSync(w *world, e event) (func(), bool) {
	n := w.nodes[e.node]
	if !n.busy.TryLock() {
		return nil, false
	}
	p := n.mayEnd()
	if _, err := n.disk.command("failsync"); err != nil {
		w.violate("%s: %v", n.name, err)
	}
	return func() {
		defer n.busy.Unlock()
		ctx, cancel := context.WithTimeout(w.ctx, diskAnswerWithin)
		defer cancel()
		select {
		case <-p.done:
		case <-ctx.Done():
			w.violate("%s did not end within %v after an fsync failed: %s", n.name, diskAnswerWithin, tail(n.log))
		}
		powerCut(w, []*node{n}, e)
		powerOn(w, []*node{n})
	}, true
}

// slowDisk makes every fsync of a node slow.
func slowDisk(w *world, e event) (func(), bool) {
	d := w.nodes[e.node].disk
	if !d.busy.TryLock() {
		return nil, false
	}
	set := func(ms uint64) {
		if _, err := d.command("slow %d", ms); err != nil {
			w.log("no slow disk: %v", err) // its power is off
		}
	}
	set([]uint64{50, 500, 3000, 6000}[e.seed%4])
	return func() {
		set(0)
		d.busy.Unlock()
	}, true
}

// fullDisk fills the disk of a node but for a little.
func fullDisk(w *world, e event) (func(), bool) {
	d := w.nodes[e.node].disk
	if !d.busy.TryLock() {
		return nil, false
	}
	if err := d.fill(int64(e.seed % (4 << 20))); err != nil {
		w.violate("the disk could not be filled: %v", err)
	}
	return func() {
		if err := os.Remove(d.ballast()); err != nil {
			w.violate("the disk could not be emptied: %v", err)
		}
		d.busy.Unlock()
	}, true
}

// fullDisks fills all disks.
func fullDisks(w *world, e event) (func(), bool) {
	var undo []func()
	for i := range w.nodes {
		e.node = i
		if u, ok := fullDisk(w, e); ok {
			undo = append(undo, u)
		}
	}
	return func() {
		for _, u := range undo {
			u()
		}
	}, len(undo) > 0
}
