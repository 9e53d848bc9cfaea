package fs

import (
	"context"
	"errors"

	"blocktree"
	"blocktree/internal/bttp"
	"blocktree/internal/dispatch"
	"blocktree/internal/wire"
)

// EventKind says what happened to a name.
type EventKind uint8

// The kinds, append-only: they are on the wire.
const (
	EventMade    EventKind = iota + 1 // there is something of that name, where there was nothing or something else
	EventGone                         // there is nothing of that name any more
	EventChanged                      // what has the name is another as is described, or is written
)

// Event is what happened in a directory.
type Event struct {
	Name     string
	Kind     EventKind
	Overflow bool // anything may have happened: look at all again. It has no name and no kind
}

// formatEvents is the version byte of events.
const formatEvents = 1

// encodeEvents writes events, and the number of the last one.
func encodeEvents(last uint64, events []Event) []byte {
	var e wire.Encoder
	e.U8(formatEvents)
	e.U64(last)
	if len(events) == 1 && events[0].Overflow {
		e.Bool(true)
		return e.Buf
	}
	e.Bool(false)
	e.U32(uint32(len(events)))
	for _, x := range events {
		e.U8(uint8(x.Kind))
		e.String(x.Name)
	}
	return e.Buf
}

// decodeEvents reads what encodeEvents wrote.
func decodeEvents(b []byte) (last uint64, events []Event, err error) {
	d := wire.NewDecoder(b)
	d.Format(formatEvents)
	if last = d.U64(); d.Bool() {
		events = []Event{{Overflow: true}}
	} else {
		for n := d.Count(blocktree.FSWatchEventsMax); n > 0 && d.Err() == nil; n-- {
			x := Event{Kind: EventKind(d.U8()), Name: d.String(blocktree.NameBytesMax)}
			switch {
			case d.Err() != nil:
			case x.Kind == 0 || x.Kind > EventChanged:
				d.Fail(blocktree.E("decode", blocktree.NewerFormat, errors.New("a kind of event that this software does not know")))
			case blocktree.CheckName(x.Name) != nil:
				d.Fail(blocktree.E("decode", blocktree.Invalid, errors.New("an impossible name")))
			}
			events = append(events, x)
		}
	}
	if err := d.Finish(); err != nil {
		return 0, nil, &blocktree.Error{Op: "fs events", Err: err}
	}
	return last, events, nil
}

// Watch is a directory that is watched at a service. Its methods may be called by many goroutines at once; each event is told once.
type Watch struct {
	at    remote        // what names the watch, as it would an open file
	turn  chan struct{} // holds a token while somebody asks
	heard uint64        // whose turn it is looks at these
	ready []Event
}

// Watch has a service tell what happens in a directory from now on: at once which names come and go, and whose attributes or length change, by that service, a file that is open under the name by which it was opened, when it is flushed, cut, or closed by who writes it. Of what others do it knows names alone, within
// FSJudgeEvery, and tells Overflow; that may come after its own events, too, as nobody says whose change it was. The right to list is judged at each event. It ends with the connection, and when the directory is not at the path any more. Kinds: NotFound, Permission, Invalid (no directory), TooLarge (too many watches on
// this connection), Unavailable, Unsupported (a service of a version before).
func (c *Client) Watch(ctx context.Context, path blocktree.Path) (*Watch, error) {
	late := func(conn *bttp.Conn, reply bttp.Reply) { // nobody waits for it any more
		if handle, _, err := decodeOpened(reply.Body); err == nil {
			_ = conn.Send(codeClose, fileRequest{handle: handle}.encode()) // else it ends with the connection
		}
	}
	var w *Watch
	err := retry(ctx, func() error {
		answer, err := c.dispatch(ctx, path, dispatch.Message{Code: codeWatch, Body: (&pathRequest{path: path}).encode(), Late: late})
		if err != nil {
			return err
		}
		defer answer.Release()
		handle, info, err := decodeOpened(answer.Body)
		if err == nil {
			w = &Watch{at: remote{client: c, actor: answer.Actor(), path: path, handle: handle, info: info}, turn: make(chan struct{}, 1)}
		}
		return err
	})
	return w, failed("watch", path, err)
}

// Next returns the next event, and waits for one until ctx ends. Kinds: Permission, NotFound (the right, or the directory, is gone), Undeliverable (the watch has ended: begin another, and look at all again), Unavailable (ask again), Canceled.
func (w *Watch) Next(ctx context.Context) (Event, error) {
	select {
	case w.turn <- struct{}{}:
		defer func() { <-w.turn }()
	case <-ctx.Done():
		return Event{}, failed("watch", w.at.path, blocktree.E("fs", blocktree.Canceled, ctx.Err()))
	}
	for len(w.ready) == 0 {
		if ctx.Err() != nil {
			return Event{}, failed("watch", w.at.path, blocktree.E("fs", blocktree.Canceled, ctx.Err()))
		}
		var refused error
		m := dispatch.Message{Code: codeWatched, Header: fileRequest{handle: w.at.handle, off: w.heard}.encode()}
		err := w.at.again(ctx, m, func(body []byte) {
			var last uint64
			var events []Event
			if last, events, refused = decodeEvents(body); refused == nil {
				w.heard, w.ready = last, events
			}
		})
		if err == nil {
			err = refused
		}
		if err != nil {
			return Event{}, failed("watch", w.at.path, err)
		}
	}
	e := w.ready[0]
	w.ready = w.ready[1:]
	return e, nil
}

// Close ends the watch.
func (w *Watch) Close() error { return w.at.Close() }
