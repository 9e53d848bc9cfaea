package bareexchange

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"os"

	"github.com/quic-go/quic-go"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/internal/bttp"
)

// Echo is an echo process: it reads its identity from dir, prints where it listens as one JSON line to out, and serves
// until in ends. The goroutines of its connections end with the process.
func Echo(ctx context.Context, dir string, in io.Reader, out io.Writer) error {
	id, err := loadIdentity(dir)
	if err != nil {
		return err
	}
	config, err := cred.NewTLSConfig(cred.TLSOptions{Key: id.key, ALPN: []string{alpn}, Server: true})
	if err != nil {
		return err
	}
	lanes, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		return err
	}
	defer lanes.Close()
	datagrams, err := quic.ListenAddr("127.0.0.1:0", config, quicConfig())
	if err != nil {
		return err
	}
	defer datagrams.Close()
	payload := make([]byte, messageMax)
	endpoint, err := bttp.Listen(ctx, bttp.Config{Key: id.key, Credentials: id.chain, Root: id.root,
		Addrs: []string{"127.0.0.1:0"}, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Handler: bttp.HandlerFunc(func(r *bttp.Request) {
			n := binary.BigEndian.Uint32(r.Header)
			r.Release()
			r.Reply(nil, payload[:n])
		})})
	if err != nil {
		return err
	}
	defer endpoint.Close()
	go acceptTCP(lanes)
	go acceptQUIC(ctx, datagrams)
	me := endpoint.Identity()
	line, err := json.Marshal(addresses{TCP: lanes.Addr().String(), QUIC: datagrams.Addr().String(),
		Runtime: blocktree.Runtime{Path: me.Path, Principal: me.Principal, Endpoints: endpoint.Addrs()}})
	if err != nil {
		return err
	}
	if _, err := out.Write(append(line, '\n')); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	return err
}

// acceptTCP echoes on every connection.
func acceptTCP(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() { _ = echo(conn) }()
	}
}

// acceptQUIC echoes on every stream.
func acceptQUIC(ctx context.Context, l *quic.Listener) {
	for {
		conn, err := l.Accept(ctx)
		if err != nil {
			return
		}
		go func() {
			for {
				stream, err := conn.AcceptStream(ctx)
				if err != nil {
					return
				}
				go func() { _ = echo(stream) }()
			}
		}()
	}
}

// echo answers messages in order. Batched answers are written when it would wait for the next message.
func echo(conn io.ReadWriter) error {
	c := bareConn{in: bufio.NewReaderSize(conn, bufferBytes), out: bufio.NewWriterSize(conn, bufferBytes)}
	buf, payload := make([]byte, messageMax), make([]byte, messageMax)
	for {
		want, batched, err := receive(c.in, buf)
		if err != nil {
			return err
		}
		if err := c.send(payload[:want], 0, batched); err != nil {
			return err
		}
		if batched && c.in.Buffered() == 0 {
			if err := c.out.Flush(); err != nil {
				return err
			}
		}
	}
}
