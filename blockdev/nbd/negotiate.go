package nbd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"time"

	"blocktree"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// errEnded ends a connection without anything to report: the client left as it may.
var errEnded = errors.New("the client left")

// negotiation is a connection before it has chosen an export. It belongs to the connection's reader.
type negotiation struct {
	c        *conn
	w        *bufio.Writer
	noZeroes bool
	fixed    bool
	agreed   agreed
}

// negotiate brings the connection to an export; any error ends it. The whole of it is bounded in time.
func (c *conn) negotiate() error {
	c.decideBy = time.Now().Add(c.s.negotiationTimeout)
	c.deadlineNegotiation(c.decideBy)
	n := &negotiation{c: c, w: bufio.NewWriter(c.nc)}
	n.w.Write(appendHandshake(nil))
	if err := n.w.Flush(); err != nil {
		return err
	}
	var flags [4]byte
	if _, err := io.ReadFull(c.br, flags[:]); err != nil {
		return quietEOF(err)
	}
	c.move()
	chosen := binary.BigEndian.Uint32(flags[:])
	if chosen&^clientFlags != 0 {
		return blocktree.E("nbd: handshake", blocktree.Invalid, errors.New("unknown client flags"))
	}
	n.fixed, n.noZeroes = chosen&clientFixedNew != 0, chosen&clientNoZeroes != 0
	for range blocktree.NBDOptionsMax {
		done, err := n.option()
		if flushErr := n.w.Flush(); err == nil {
			err = flushErr
		}
		if err != nil {
			return err
		}
		if done {
			c.deadlineNegotiation(time.Time{})
			if c.secured != nil {
				c.secured.under.patience(true)
			}
			return nil
		}
	}
	return blocktree.E("nbd: negotiation", blocktree.TooLarge, errors.New("too many options"))
}

// option serves one option; done means that transmission begins.
func (n *negotiation) option() (done bool, err error) {
	var head [optionHeaderBytes]byte
	if _, err := io.ReadFull(n.c.br, head[:]); err != nil {
		return false, quietEOF(err)
	}
	h, err := decodeOption(head[:])
	if err != nil {
		return false, blocktree.E("nbd: option", blocktree.Invalid, err)
	}
	if h.Length > blocktree.NBDOptionBytesMax {
		if h.ID != optExportName {
			n.fail(h.ID, errTypeTooBig, "option too large")
		}
		return false, blocktree.E("nbd: option", blocktree.TooLarge, errors.New("the option is too large"))
	}
	data := make([]byte, h.Length)
	if _, err := io.ReadFull(n.c.br, data); err != nil {
		return false, err
	}
	n.c.move()
	if !n.fixed && h.ID != optExportName {
		return false, blocktree.E("nbd: option", blocktree.Invalid, errors.New("an option without fixed newstyle"))
	}
	switch {
	case h.ID == protocol.NEGOTIATION_ID_OPTION_ABORT:
		n.reply(h.ID, protocol.NEGOTIATION_TYPE_REPLY_ACK, nil)
		return false, errEnded
	case h.ID == optStartTLS:
		return false, n.startTLS(data)
	case n.c.needsTLS() && h.ID == optExportName: // which has no answer
		return false, blocktree.E("nbd: export name", blocktree.Unauthenticated, errors.New("TLS is required"))
	case n.c.needsTLS():
		n.fail(h.ID, errTypeTLSReqd, "this listener requires TLS: start it first")
	case h.ID == optExportName:
		return n.exportName(data)
	case n.c.s.stopping.Load():
		n.fail(h.ID, errTypeShutdown, "the server is stopping")
	case h.ID == protocol.NEGOTIATION_ID_OPTION_LIST:
		n.list(h.ID, data)
	case h.ID == protocol.NEGOTIATION_ID_OPTION_INFO, h.ID == protocol.NEGOTIATION_ID_OPTION_GO:
		return n.info(h.ID, data)
	case h.ID == optStructuredReply, h.ID == optExtendedHeaders:
		n.restyle(h.ID, data)
	case h.ID == optListMeta, h.ID == optSetMeta:
		n.metaContexts(h.ID, data)
	default:
		n.fail(h.ID, protocol.NEGOTIATION_TYPE_REPLY_ERR_UNSUPPORTED, "option not supported")
	}
	return false, nil
}

func (n *negotiation) list(option uint32, data []byte) {
	if len(data) != 0 {
		n.fail(option, errTypeInvalid, "LIST has no data")
		return
	}
	for _, e := range n.c.visible() {
		b := binary.BigEndian.AppendUint32(nil, uint32(len(e.Name)))
		b = append(b, e.Name...)
		n.reply(option, protocol.NEGOTIATION_TYPE_REPLY_SERVER, append(b, e.Description...))
	}
	n.reply(option, protocol.NEGOTIATION_TYPE_REPLY_ACK, nil)
}

// info serves INFO and GO, which answer the same but for the acknowledgement of GO, after which transmission begins.
func (n *negotiation) info(option uint32, data []byte) (done bool, err error) {
	q, err := decodeInfo(data)
	if err != nil {
		kind := errTypeInvalid
		if blocktree.KindOf(err) == blocktree.TooLarge {
			kind = errTypeTooBig
		}
		n.fail(option, kind, "malformed request")
		return false, nil
	}
	goes := option == protocol.NEGOTIATION_ID_OPTION_GO
	e, err := n.c.choose(q.name, goes)
	if err != nil {
		n.refuse(option, err)
		return false, nil
	}
	if goes {
		n.c.agreed = n.agreed.with(e)
	}
	b := binary.BigEndian.AppendUint16(nil, protocol.NEGOTIATION_TYPE_INFO_EXPORT)
	b = binary.BigEndian.AppendUint64(b, e.Size())
	n.reply(option, protocol.NEGOTIATION_TYPE_REPLY_INFO, binary.BigEndian.AppendUint16(b, n.agreed.flags(e)))
	b = binary.BigEndian.AppendUint16(nil, protocol.NEGOTIATION_TYPE_INFO_BLOCKSIZE)
	b = binary.BigEndian.AppendUint32(b, blockBytesMin)
	b = binary.BigEndian.AppendUint32(b, blockBytesPrefered)
	n.reply(option, protocol.NEGOTIATION_TYPE_REPLY_INFO, binary.BigEndian.AppendUint32(b, blocktree.NBDPayloadBytesMax))
	n.text(option, q, protocol.NEGOTIATION_TYPE_INFO_NAME, e.Name)
	if told := e.Told(); told != "" {
		n.text(option, q, infoDescription, told)
	}
	n.reply(option, protocol.NEGOTIATION_TYPE_REPLY_ACK, nil)
	return goes, nil
}

// text answers with a name or description, if the client asked for it.
func (n *negotiation) text(option uint32, q infoRequest, kind uint16, text string) {
	if slices.Contains(q.wants, kind) {
		b := binary.BigEndian.AppendUint16(nil, kind)
		n.reply(option, protocol.NEGOTIATION_TYPE_REPLY_INFO, append(b, text...))
	}
}

// exportName serves the oldest way to choose an export; it knows no reply but closing the connection.
func (n *negotiation) exportName(data []byte) (done bool, err error) {
	if len(data) > blocktree.PathBytesMax {
		return false, blocktree.E("nbd: export name", blocktree.TooLarge, nil)
	}
	if n.agreed.style == extended {
		return false, blocktree.E("nbd: export name", blocktree.Invalid, errors.New("extended headers are agreed"))
	}
	e, err := n.c.choose(string(data), true)
	if err != nil {
		return false, err
	}
	n.c.agreed = n.agreed.with(e)
	b := binary.BigEndian.AppendUint64(nil, e.Size())
	b = binary.BigEndian.AppendUint16(b, n.agreed.flags(e))
	if !n.noZeroes {
		b = append(b, make([]byte, exportNameZeroes)...)
	}
	n.w.Write(b) // an error stays in the writer until Flush
	return true, nil
}

func (n *negotiation) fail(option, kind uint32, text string) { n.reply(option, kind, []byte(text)) }

// reply appends one option reply to what the end of the option flushes, where an error shows.
func (n *negotiation) reply(option, kind uint32, data []byte) {
	n.w.Write(appendReplyHeader(nil, option, kind, len(data)))
	n.w.Write(data)
}

// quietEOF makes nothing of a client that leaves between two options.
func quietEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return errEnded
	}
	return err
}
