package fs

import (
	"context"
	"errors"
	"slices"
	"sync"

	"blocktree"
	"blocktree/internal/dispatch"
)

// openFiles are the files that a client has open at services: who removes one, or replaces it, asks the service that has it open, which alone keeps it (docs/design/0066).
type openFiles struct {
	mu    sync.Mutex
	files map[blocktree.FileID][]*remote
}

func (t *openFiles) add(f *remote) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.files == nil {
		t.files = map[blocktree.FileID][]*remote{}
	}
	t.files[f.info.ID] = append(t.files[f.info.ID], f)
}

func (t *openFiles) drop(f *remote) {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := f.info.ID
	left := slices.DeleteFunc(t.files[id], func(x *remote) bool { return x == f })
	if len(left) == 0 { // also of what was never added: a watch
		delete(t.files, id)
		return
	}
	t.files[id] = left
}

// one is the newest opening of a file, nil where there is none.
func (t *openFiles) one(id blocktree.FileID) *remote {
	t.mu.Lock()
	defer t.mu.Unlock()
	if all := t.files[id]; len(all) > 0 {
		return all[len(all)-1]
	}
	return nil
}

// requestOf is request of the service at which the client has a file open; where it has not, or that is gone, of any.
func (c *Client) requestOf(ctx context.Context, id blocktree.FileID, dir blocktree.Scope, code uint16, body []byte) ([]byte, error) {
	f := c.open.one(id)
	if f == nil {
		return c.request(ctx, dir, code, body)
	}
	answer, err := c.dispatcher.Dispatch(ctx, dispatch.Address{Kind: dispatch.ToActor, Actor: f.actor}, dispatch.Message{Code: code, Body: body})
	u := (*dispatch.Undelivered)(nil)
	if errors.As(err, &u) && !u.Maybe || blocktree.KindOf(err) == blocktree.Unsupported {
		return c.request(ctx, dir, code, body)
	}
	if err != nil {
		return nil, undelivered(dir, err)
	}
	defer answer.Release()
	return append([]byte(nil), answer.Body...), nil
}

// RenameOver is Rename without keep, in the place of a file that this client may have open: then it is kept for it.
func (c *Client) RenameOver(ctx context.Context, from, to blocktree.Path, over blocktree.FileID) error {
	_, err := c.requestOf(ctx, over, from.Parent(), codeRename, encodeRename(&pathRequest{path: from, to: to}))
	return failed("rename", from, err)
}
