package blockdev

import (
	"sync/atomic"

	"blocktree"
)

// over is why a device answers nothing but errors any more, if it does: it is refused from the start, or its file has said Lost, once and for
// all. What is cached of it and what the file would still say are of before a loss, or of after it; who has the device open must not be shown both.
type over struct {
	refused error
	loss    atomic.Pointer[blocktree.Error]
	tell    func(error)
}

func (o *over) init(options Options) { o.refused, o.tell = options.Refuse, options.Lost }

// why is the error of every request, nil while they are served.
func (o *over) why() error {
	if o.refused != nil {
		return o.refused
	}
	return o.lost()
}

// lost is what the file said when it first said Lost, or nil.
func (o *over) lost() error {
	if loss := o.loss.Load(); loss != nil {
		return loss
	}
	return nil
}

// note ends the device. The first loss counts.
func (o *over) note(loss *blocktree.Error) {
	if o.loss.CompareAndSwap(nil, loss) && o.tell != nil {
		o.tell(loss)
	}
}
