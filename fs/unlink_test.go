package fs

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"blocktree"
	"blocktree/crypto/cred"
)

// keepingFake is a fake that keeps what has no name, at a path that nobody asks for.
type keepingFake struct {
	*fake
	gate   chan struct{} // a name is not taken before that is closed; nil: at once
	vague  error         // the answer to the next taking, which is done
	forgot []blocktree.FileID
	held   int // names that were taken
}

func (c *keepingFake) Unlink(_ context.Context, _ cred.Identity, path blocktree.Path, id blocktree.FileID) (func(), error) {
	if c.gate != nil {
		<-c.gate
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.nodes[path]
	if n == nil || n.inode.ID != id {
		return nil, blocktree.E("fake", blocktree.NotFound, nil)
	}
	delete(c.nodes, path)
	at := testRoot.Join(fmt.Sprint("kept", id.Inode))
	c.nodes[at] = n
	err := c.vague
	c.vague = nil
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.nodes, at)
		c.forgot = append(c.forgot, id)
	}, err
}

func (c *keepingFake) RenameOver(ctx context.Context, caller cred.Identity, from, to blocktree.Path, id blocktree.FileID) (func(), error) {
	forget, err := c.Unlink(ctx, caller, to, id)
	if err == nil {
		err = c.Rename(ctx, caller, from, to, false)
	}
	return forget, err
}

// RemoveFile removes it for good.
func (c *keepingFake) RemoveFile(_ context.Context, _ cred.Identity, path blocktree.Path, id blocktree.FileID) error {
	if c.gate != nil {
		<-c.gate
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.nodes[path]
	if n == nil || n.inode.ID != id {
		return blocktree.E("fake", blocktree.NotFound, nil)
	}
	delete(c.nodes, path)
	return nil
}

func newKeeping(t *testing.T) (*keepingFake, *Service) {
	c := &keepingFake{fake: newFake()}
	return c, newTestService(t, c.fake, func(x *Config) { x.Cluster = c })
}

// idOf is the file that a path names.
func (c *keepingFake) idOf(path blocktree.Path) blocktree.FileID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[path].inode.ID
}

// TestKept: U1 and U2 of 0066. What is open, to read or to write, goes on when its name is taken, by whichever request, and is forgotten once, with its last handle, whoever that is.
func TestKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ann, bob := somebody("ann"), somebody("bob")
		for name, take := range map[string]func(c *keepingFake, s *Service, path blocktree.Path) error{
			"remove": func(_ *keepingFake, s *Service, path blocktree.Path) error {
				return s.remove(t.Context(), ann, path)
			},
			"remove file": func(c *keepingFake, s *Service, path blocktree.Path) error {
				return s.removeFile(t.Context(), ann, path, c.idOf(path))
			},
			"rename": func(c *keepingFake, s *Service, path blocktree.Path) error {
				return s.rename(t.Context(), ann, c.file("other", Read, ann), path, false)
			},
		} {
			c, s := newKeeping(t)
			path := c.moving("f", ann, bob)
			id := c.idOf(path)
			w, r := open(t, s, ownerFor(s, ann), path, flagWrite), open(t, s, ownerFor(s, bob), path, 0)
			wantKind(t, name, take(c, s, path), blocktree.Other)
			for _, m := range []message{{code: codeAppend, data: []byte("written")}, {code: codeFlush}} {
				_, err := w.ask(m)
				wantKind(t, name+", then "+nameOf(m.code), err, blocktree.Other)
			}
			got, err := r.ask(message{code: codeRead, count: 10})
			if err != nil || string(got) != "written" {
				t.Errorf("%s: %q, %v", name, got, err)
			}
			_, err = w.ask(message{code: codeClose})
			wantKind(t, name+", then close", err, blocktree.Other)
			if len(c.forgot) != 0 {
				t.Errorf("%s: it is forgotten while it is open", name)
			}
			r.owner.end()
			synctest.Wait()
			if len(c.forgot) != 1 || c.forgot[0] != id || !s.sharing.idle() || len(s.sharing.names) != 0 {
				t.Errorf("%s: forgotten are %v", name, c.forgot)
			}
			_ = s.Close()
		}
	})
}

// TestUnlinkWithoutAnswer: U5 of 0066. A name whose taking nobody answered for may be taken, and the file is forgotten all the same.
func TestUnlinkWithoutAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKeeping(t)
		ann := somebody("ann")
		path := c.moving("f", ann)
		w := open(t, s, ownerFor(s, ann), path, flagWrite)
		c.vague = blocktree.E("fake", blocktree.Unavailable, nil)
		id := c.idOf(path)
		wantKind(t, "remove", s.removeFile(t.Context(), ann, path, id), blocktree.Unavailable)
		wantKind(t, "remove again", s.removeFile(t.Context(), ann, path, id), blocktree.NotFound)
		if !w.shared.nameless.Load() {
			t.Error("it is taken to have its name")
		}
		_, err := w.ask(message{code: codeAppend, data: []byte("written")})
		wantKind(t, "append", err, blocktree.Other)
		w.owner.end()
		synctest.Wait()
		if len(c.forgot) != 1 {
			t.Errorf("forgotten are %v", c.forgot)
		}
		_ = s.Close()
	})
}

// TestOpenBesideUnlink: U6 of 0066. Who opens a file while its name is taken waits for that: it has the file that is kept, as somebody had it open before, or none.
func TestOpenBesideUnlink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ann, bob := somebody("ann"), somebody("bob")
		for name, before := range map[string]bool{"open before": true, "open by nobody": false} {
			c, s := newKeeping(t)
			path := c.file("f", Read, ann, bob)
			id := c.idOf(path)
			if before {
				open(t, s, ownerFor(s, ann), path, 0)
			}
			c.gate = make(chan struct{})
			removed, opened := make(chan error, 1), make(chan error, 1)
			go func() { removed <- s.removeFile(t.Context(), ann, path, id) }()
			synctest.Wait()
			o := ownerFor(s, bob)
			go func() {
				_, err := s.openFile(t.Context(), o, &pathRequest{path: path})
				opened <- err
			}()
			synctest.Wait()
			if len(opened) != 0 {
				t.Errorf("%s: it was opened while its name was taken", name)
			}
			close(c.gate)
			wantKind(t, name+", remove", <-removed, blocktree.Other)
			want := blocktree.NotFound
			if before {
				want = blocktree.Other
			}
			wantKind(t, name+", open", <-opened, want)
			synctest.Wait()
			if n := s.OpenFiles(); before != (n == 2) || !before && n != 0 {
				t.Errorf("%s: %d are open", name, n)
			}
			_ = s.Close()
		}
	})
}

// TestFinishOfNameless: who finishes what has no name any more is refused, as a copy of his descriptor would not find it again; it is flushed, and goes on.
func TestFinishOfNameless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newKeeping(t)
		ann := somebody("ann")
		path := c.moving("f", ann)
		w := open(t, s, ownerFor(s, ann), path, flagWrite)
		wantKind(t, "remove", s.remove(t.Context(), ann, path), blocktree.Other)
		for _, m := range []struct {
			message
			want blocktree.Kind
		}{{message{code: codeAppend, data: []byte("written")}, blocktree.Other}, {message{code: codeFinish}, blocktree.Unsupported}, {message{code: codeFlush}, blocktree.Other}, {message{code: codeAppend, data: []byte(" on")}, blocktree.Other}} {
			_, err := w.ask(m.message)
			wantKind(t, nameOf(m.code), err, m.want)
		}
		got, err := w.ask(message{code: codeRead, count: 20})
		if err != nil || string(got) != "written on" || len(c.forgot) != 0 {
			t.Errorf("%q, %v, forgotten are %v", got, err, c.forgot)
		}
		_, err = w.ask(message{code: codeClose})
		wantKind(t, "close", err, blocktree.Other)
		synctest.Wait()
		if len(c.forgot) != 1 {
			t.Errorf("forgotten are %v", c.forgot)
		}
		_ = s.Close()
	})
}
