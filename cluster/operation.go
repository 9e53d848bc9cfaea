package cluster

import (
	"context"

	"blocktree"
	"blocktree/cluster/stripe"
)

// operation is something asked of the machine that has not ended.
type operation struct {
	id    uint64        // what the machine knows it by; 0 of one that failed before it began
	ended chan struct{} // nil where then is set
	then  func()        // called once at the end, without locks; it must not block
	err   error
	read  *stripe.ReadResult
}

// end tells whoever waits, or is to be called.
func (o *operation) end() {
	if o.then != nil {
		o.then()
		return
	}
	close(o.ended)
}

func (o *operation) wait(ctx context.Context) error {
	select {
	case <-o.ended:
		return o.err
	default:
	}
	select {
	case <-o.ended:
		return o.err
	case <-ctx.Done():
		return blocktree.E("wait", contextKind(ctx), ctx.Err())
	}
}

func contextKind(ctx context.Context) blocktree.Kind {
	if ctx.Err() == context.DeadlineExceeded {
		return blocktree.Timeout
	}
	return blocktree.Canceled
}

// endedOperation is one that failed before it began.
func endedOperation(err error) *operation {
	o := &operation{ended: make(chan struct{}), err: err}
	close(o.ended)
	return o
}
