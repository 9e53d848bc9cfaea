package cluster

import (
	"sync"

	"blocktree/cluster/stripe"
	"blocktree/internal/bttp"
)

// rooms are what messages are encoded into whose body is short: bttp has copied both header and body when its calls return. Longer ones have memory of their own, as what they
// alias is sent later.
var rooms = sync.Pool{New: func() any { return new(stripe.Room) }}

// encoded gives send the wire form of a message.
func encoded(m *stripe.Message, send func(header []byte, body [][]byte) error) error {
	n := len(m.Payload) + len(m.Seals)
	if m.Record != nil {
		n += len(m.Record.Payload) + len(m.Record.Seals) + len(m.Record.Control)
	}
	if n > bttp.CopiedBytesMax || len(m.Extents) > shortListsMax || len(m.Regions)+len(m.Repairs) > 0 {
		header, body := stripe.EncodeMessage(m)
		return send(header, body)
	}
	r := rooms.Get().(*stripe.Room)
	header, body := r.Encode(m)
	err := send(header, body)
	r.Clear()
	rooms.Put(r)
	return err
}

// shortListsMax is how many extents travel in the header for sure.
const shortListsMax = 8
