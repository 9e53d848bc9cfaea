package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"blocktree"
	"blocktree/fs"
)

// How put, get and cp copy a tree. It is gone through depth first, one directory's page at a time; directories and symbolic links are made as they come, files by some goroutines, so that of small ones many
// are on their way. 1. A directory is made. 2. What is in it is copied. 3. When the last of that is done, or has failed, the directory is ended: it gets its own mode, and a local one is synced. So what is in memory
// goes by the depth of a tree and TreeFilesMax, never by how much there is in it.

// treeNode is what is copied.
type treeNode interface {
	// kind says what it is, or why it cannot be copied.
	kind() (fs.Kind, error)
	mode() uint32
	bytes() int64 // of a file, about
	target(ctx context.Context) (string, error)
	// open begins to go through a directory.
	open() (folder, error)
}

// folder is a directory that is gone through.
type folder interface {
	// each calls do with the name of each thing in the directory, and with it, or why it is not to be had, until do returns an error.
	each(ctx context.Context, do func(name string, n treeNode, err error) error) error
	// close is called when nothing is done with what is in it any more.
	close()
}

// place is where something is copied to: a name in a directory. Nothing that is there is replaced.
type place interface {
	// mkdir makes a directory there that its owner may write to, whatever its mode will be.
	mkdir(ctx context.Context, mode uint32) (filling, error)
	link(ctx context.Context, target string) error
}

// filling is a directory that is being filled.
type filling interface {
	at(name string) (place, error)
	// filled is called once, when nothing is made in it any more.
	filled(ctx context.Context) error
}

// treeCopy copies trees.
type treeCopy struct {
	ctx  context.Context
	file func(ctx context.Context, from treeNode, to place, p *progress) (copied, error) // copies a file, by several goroutines at once
	tell func(error)                                                                     // of one failure of several; not by several goroutines
	show *overall

	slots    chan struct{} // of pieceBytesMin each
	files    sync.WaitGroup
	mu       sync.Mutex
	done     copied
	failures int
}

func newTreeCopy(ctx context.Context, d *door, p *progress, file func(context.Context, treeNode, place, *progress) (copied, error)) *treeCopy {
	atOnce := blocktree.TreeFilesMax
	if d.anonymous {
		atOnce = blocktree.TreeFilesAnonymousMax
	}
	return &treeCopy{ctx: ctx, file: file, tell: d.complain, show: &overall{p: p}, slots: make(chan struct{}, atOnce)}
}

// all copies what is at and below a node. What failed below it was told, and counts as failures.
func (t *treeCopy) all(from treeNode, to place) error {
	err := t.copy(from, to, nil)
	t.files.Wait()
	if err == nil {
		err = t.stopped()
	}
	return err
}

// stopped is an error once whoever asked has given up: then nothing more is begun, and of what fails nothing is told.
func (t *treeCopy) stopped() error {
	if err := t.ctx.Err(); err != nil {
		return blocktree.E("copy", blocktree.Canceled, err)
	}
	return nil
}

// failed counts a failure, and tells of it.
func (t *treeCopy) failed(err error) {
	if err == nil || t.ctx.Err() != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures++
	t.show.clear()
	t.tell(err)
}

func (t *treeCopy) count(c copied) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done.add(c)
	t.show.counted(int64(t.done.Files))
}

// copy copies a node, in a directory that is being filled, nil: which is the first.
func (t *treeCopy) copy(from treeNode, to place, in *level) error {
	kind, err := from.kind()
	switch {
	case err != nil:
		return err
	case kind == fs.KindDir:
		return t.dir(from, to, in)
	case kind == fs.KindLink:
		target, err := from.target(t.ctx)
		if err == nil {
			err = to.link(t.ctx, target)
		}
		if err == nil {
			t.count(copied{Links: 1})
		}
		return err
	case in == nil:
		return t.one(from, to, copyBytes)
	}
	slots := int(max(1, min(int64(cap(t.slots)/2), (from.bytes()+pieceBytesMin-1)/pieceBytesMin)))
	for range slots {
		select {
		case t.slots <- struct{}{}:
		case <-t.ctx.Done(): // and no more is begun
			return t.stopped()
		}
	}
	in.left.Add(1)
	t.files.Go(func() {
		t.failed(t.one(from, to, slots*pieceBytesMin))
		for range slots {
			<-t.slots
		}
		t.leave(in)
	})
	return nil
}

// pieceBytesMin is what of a small file is copied at a time. Of a larger one it is up to copyBytes, for which fewer are copied at once: a service takes but so much of one connection.
const pieceBytesMin = blocktree.TreeBytesMax / blocktree.TreeFilesMax

// one copies a file, so many bytes at a time.
func (t *treeCopy) one(from treeNode, to place, piece int) error {
	c, err := t.file(t.ctx, from, to, &progress{of: t.show, piece: min(piece, copyBytes)})
	if err == nil {
		t.count(c)
	}
	return err
}

// level is a directory that is copied.
type level struct {
	from folder
	to   filling
	up   *level
	left atomic.Int32 // what is in it, or goes through it, and is not done
}

func (t *treeCopy) dir(from treeNode, to place, up *level) error {
	opened, err := from.open()
	if err != nil {
		return err
	}
	into, err := to.mkdir(t.ctx, from.mode())
	if err != nil {
		opened.close()
		return err
	}
	t.count(copied{Directories: 1})
	l := &level{from: opened, to: into, up: up}
	l.left.Add(1)
	if up != nil {
		up.left.Add(1)
	}
	defer t.leave(l)
	return opened.each(t.ctx, func(name string, n treeNode, err error) error {
		if e := t.stopped(); e != nil {
			return e
		}
		var at place
		if err == nil {
			at, err = into.at(name)
		}
		if err == nil {
			err = t.copy(n, at, l)
		}
		if e := t.stopped(); e != nil {
			return e
		}
		t.failed(err)
		return nil
	})
}

// leave ends a directory, and those above it, when nothing is left to be done in it.
func (t *treeCopy) leave(l *level) {
	for ; l != nil && l.left.Add(-1) == 0; l = l.up {
		t.failed(l.to.filled(t.ctx))
		l.from.close()
	}
}

// add adds what else was copied.
func (c *copied) add(o copied) {
	c.Files, c.Directories, c.Links, c.Bytes, c.Written = c.Files+o.Files, c.Directories+o.Directories, c.Links+o.Links, c.Bytes+o.Bytes, c.Written+o.Written
}

// overall is the progress of several files.
type overall struct {
	mu           sync.Mutex
	p            *progress
	files, bytes int64
}

func (o *overall) copied(more int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bytes += more
	if o.p.due() {
		fmt.Fprintf(o.p.w, "\r\x1b[K%s, %s copied, %s", counted(uint64(o.files), "file"), about(o.bytes), o.p.rate(o.bytes))
	}
}

// counted notes how many files are done.
func (o *overall) counted(files int64) {
	o.mu.Lock()
	o.files = files
	o.mu.Unlock()
	o.copied(0)
}

// clear takes the line away, for another one.
func (o *overall) clear() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.p.end()
}
