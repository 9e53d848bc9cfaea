package cluster

import (
	"context"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
)

// What is opened to read asks for the file's layout once, beside the question what the file is (docs/design/0078).

// request is something that somebody asked for, and that is worked on.
type request struct{ _ byte } // each has an address of its own

// requestKey finds the request in a context.
type requestKey struct{}

// Within returns a context of a request that was asked for before: whatever is asked of a cluster in that context is asked after it.
func Within(ctx context.Context) context.Context {
	return context.WithValue(ctx, requestKey{}, new(request))
}

func requestOf(ctx context.Context) *request {
	r, _ := ctx.Value(requestKey{}).(*request)
	return r
}

// LayoutAsk is the question for a file's layout while it is asked.
type LayoutAsk struct {
	cancel context.CancelFunc
	ended  chan struct{} // closed when there is an answer
	layout *stripe.Layout
	err    error
}

// AskLayout asks for the layout of a file, while other things are asked. Drop has to follow.
func (c *Client) AskLayout(ctx context.Context, f blocktree.FileID) *LayoutAsk {
	ctx, cancel := context.WithCancel(ctx)
	a := &LayoutAsk{cancel: cancel, ended: make(chan struct{})}
	go func() { // ends when Drop does
		defer close(a.ended)
		var answer meta.Answer
		answer, a.err = c.query(ctx, meta.Query{Kind: meta.QueryLayout, File: f})
		a.layout = answer.Layout
	}()
	return a
}

// StatToRead is StatFileFor of a file that is to be read, and asks for its layout, by one question where the cluster knows such a one. Drop of what it returns, nil after an error, has to follow.
func (c *Client) StatToRead(ctx context.Context, f blocktree.FileID, want meta.Rights) (*meta.Inode, *LayoutAsk, error) {
	a, err := c.query(ctx, meta.Query{Kind: meta.QueryToRead, File: f, Want: want})
	switch k := blocktree.KindOf(err); {
	case err == nil:
		if err = checkAllowed(&a); err == nil {
			return a.Inode, answeredLayout(a.Layout), nil
		}
	case k == blocktree.Invalid || k == blocktree.Unsupported: // of a version before
		asked := c.AskLayout(ctx, f)
		inode, err := c.StatFileFor(ctx, f, want)
		if err != nil {
			asked.Drop()
			return nil, nil, err
		}
		return inode, asked, nil
	}
	return nil, nil, &blocktree.Error{Op: "cluster.StatToRead", Path: f.String(), Err: err}
}

// answeredLayout is a question that was answered.
func answeredLayout(l *stripe.Layout) *LayoutAsk {
	a := &LayoutAsk{cancel: func() {}, ended: make(chan struct{}), layout: l}
	close(a.ended)
	return a
}

// Drop ends the question, and waits until it has ended. Of nil it does nothing.
func (a *LayoutAsk) Drop() {
	if a != nil {
		a.cancel()
		<-a.ended
	}
}

// of is the layout if it is that of what inode describes. Of nil, and where there is no such answer, it is asked for now.
func (a *LayoutAsk) of(ctx context.Context, c *Client, inode *meta.Inode) (*stripe.Layout, error) {
	if a != nil {
		<-a.ended // as a query of this context
		if a.err == nil && fits(a.layout, inode) {
			return a.layout, nil
		}
	}
	return c.layout(ctx, inode)
}

// OpenReaderUnder is OpenReader that goes by the layout that asked is answered with, or by one that it asks for itself where asked is nil, and returns the file's durability. Kinds: NotFound, Unavailable, Permission.
func (c *Client) OpenReaderUnder(ctx context.Context, path blocktree.Path, inode *meta.Inode, asked *LayoutAsk) (*Reader, stripe.Durability, error) {
	l, err := asked.of(ctx, c, inode)
	if err != nil {
		return nil, 0, err
	}
	r, err := c.OpenReader(path, inode)
	if err != nil {
		return nil, 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil { // nobody has it yet
		r.opening.judge(l)
		r.last, r.request = l, requestOf(ctx)
	}
	return r, l.Durability, nil
}
