package nbd

import (
	"encoding/binary"
	"errors"
	"strings"

	"blocktree"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

const (
	// metaContext is the one metadata context that there is, and metaContextID its number on every connection.
	metaContext   = "base:allocation"
	metaContextID = uint32(1)
	metaWildcard  = "base:" // lists what begins so

	stateHole = uint32(1 << 0)
	stateZero = uint32(1 << 1)

	// contextPayloadBytes is the only length of a BLOCK_STATUS payload that can be right: a length and one context.
	contextPayloadBytes = 12
)

// metaQuery is the data of LIST_META_CONTEXT and SET_META_CONTEXT.
type metaQuery struct {
	name    string
	queries []string
}

// decodeMetaQuery reads that data: two strings' worth of lengths are checked before anything is kept.
func decodeMetaQuery(b []byte) (q metaQuery, err error) {
	bad := func(kind blocktree.Kind, why string) (metaQuery, error) {
		return metaQuery{}, blocktree.E("nbd: metadata query", kind, errors.New(why))
	}
	var kind blocktree.Kind
	if q.name, b, kind = cutString(b); kind != blocktree.Other {
		return bad(kind, "the export's name")
	}
	if len(b) < 4 {
		return bad(blocktree.Invalid, "no number of queries")
	}
	count := binary.BigEndian.Uint32(b)
	b = b[4:]
	if uint64(count)*4 > uint64(len(b)) {
		return bad(blocktree.Invalid, "more queries than bytes")
	}
	for range count {
		var query string
		if query, b, kind = cutString(b); kind != blocktree.Other {
			return bad(kind, "a query")
		}
		if !strings.Contains(query, ":") {
			return bad(blocktree.Invalid, "a query without a namespace")
		}
		q.queries = append(q.queries, query)
	}
	if len(b) > 0 {
		return bad(blocktree.Invalid, "something is left over")
	}
	return q, nil
}

// cutString takes a string with its 32-bit length from the front of b.
func cutString(b []byte) (s string, rest []byte, kind blocktree.Kind) {
	if len(b) < 4 {
		return "", nil, blocktree.Invalid
	}
	n := uint64(binary.BigEndian.Uint32(b))
	b = b[4:]
	switch {
	case n > blocktree.PathBytesMax:
		return "", nil, blocktree.TooLarge
	case n > uint64(len(b)):
		return "", nil, blocktree.Invalid
	}
	return string(b[:n]), b[n:], blocktree.Other
}

// encode is the inverse of decodeMetaQuery.
func (q metaQuery) encode() []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(q.name)))
	b = append(b, q.name...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(q.queries)))
	for _, query := range q.queries {
		b = binary.BigEndian.AppendUint32(b, uint32(len(query)))
		b = append(b, query...)
	}
	return b
}

// finds reports whether the queries ask for the one context. Without a query LIST asks for everything, SET for nothing.
func (q metaQuery) finds(option uint32) bool {
	if option == optListMeta && len(q.queries) == 0 {
		return true
	}
	for _, query := range q.queries {
		if query == metaContext || query == metaWildcard && option == optListMeta {
			return true
		}
	}
	return false
}

// metaContexts serves LIST_META_CONTEXT and SET_META_CONTEXT. SET replaces what was chosen before, also when it fails.
func (n *negotiation) metaContexts(option uint32, data []byte) {
	if option == optSetMeta {
		n.agreed.metaExport = ""
	}
	if n.agreed.style == compact {
		n.fail(option, errTypeInvalid, "structured replies come first")
		return
	}
	q, err := decodeMetaQuery(data)
	if err != nil {
		kind := errTypeInvalid
		if blocktree.KindOf(err) == blocktree.TooLarge {
			kind = errTypeTooBig
		}
		n.fail(option, kind, "malformed query")
		return
	}
	e, err := n.c.choose(q.name, false)
	if err != nil {
		n.refuse(option, err)
		return
	}
	if q.finds(option) {
		id := uint32(0) // which in a list means nothing
		if option == optSetMeta {
			id, n.agreed.metaExport = metaContextID, e.Name
		}
		n.reply(option, replyMetaContext, append(binary.BigEndian.AppendUint32(nil, id), metaContext...))
	}
	n.reply(option, protocol.NEGOTIATION_TYPE_REPLY_ACK, nil)
}

// choosesContext reports whether a BLOCK_STATUS has a payload that may be right.
func (c *conn) choosesContext(r *request) bool {
	return r.command == cmdBlockStatus && r.payload == contextPayloadBytes && c.agreed.metaExport != ""
}

// receiveContext reads that payload: the length of what the request is about, and the context.
func (c *conn) receiveContext(r *request) error {
	p := r.head[:contextPayloadBytes]
	if len(p) <= c.br.Buffered() {
		copy(p, c.peek(len(p)))
	} else if err := c.receivePayload(p); err != nil {
		return err
	}
	r.payload, r.length, r.context = 0, binary.BigEndian.Uint64(p), binary.BigEndian.Uint32(p[8:])
	return nil
}

// blockStatus asks the device and puts the answer into the buffer.
func (r *request) blockStatus() error {
	most := blocktree.NBDExtentsMax
	if r.flags&cmdFlagReqOne != 0 {
		most = 1
	}
	extents, err := r.c.dev.Extents(r.c.ctx, r.offset, r.length, most)
	if err == nil {
		r.sayStatus(extents)
	}
	return err
}
