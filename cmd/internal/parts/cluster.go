package parts

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"blocktree"
	"blocktree/cluster"
	"blocktree/crypto/cred"
	"blocktree/crypto/keys"
	"blocktree/fs"
	"blocktree/fs/connect"
	"blocktree/internal/cli"
	"blocktree/internal/config"
	"blocktree/internal/node"
)

// healthPause is how long AwaitUp waits between two questions.
const healthPause = 100 * time.Millisecond

// Identity is connect.Identity.
func Identity(b *config.Base) (cred.Key, cred.Credentials, error) { return connect.Identity(b) }

type textError string

func (t textError) Error() string { return string(t) }

// OpenNode starts the node that a configuration describes. Errors are those of Identity and of node.Open.
func OpenNode(ctx context.Context, c *config.Node, log *slog.Logger) (*node.Node, error) {
	key, chain, err := Identity(&c.Base)
	if err != nil {
		return nil, err
	}
	members := c.Runtimes()
	for _, m := range members {
		if m.Path == c.RuntimePath() && m.Principal != key.Principal() {
			return nil, &blocktree.Error{Op: "identity", Path: c.Identity.Key, Kind: blocktree.Unauthenticated,
				Err:  textError("cluster.members has another principal for " + m.Path.Short()),
				Hint: "use the key of this node, or correct its principal in the configuration of every member"}
		}
	}
	if err := probe(c); err != nil {
		return nil, err
	}
	door, err := filesystem(c)
	if err != nil {
		return nil, err
	}
	return node.Open(ctx, node.Config{Path: c.RuntimePath(), Root: c.Root(), Key: key, Credentials: chain, Listen: c.Listen,
		Transport: c.Transport, StoreDir: c.Store.Dir, StoreID: c.Store.ID.NodeID, Directory: c.Directory(), Members: members, Records: c.Founders(), Parents: c.Parents(),
		ScrubRate: c.Scrub.BytesPerSecond(), SpacePercent: int64(c.Store.Space), Logger: log, SpareAfter: c.Cluster.SpareAfter.Duration,
		Filesystem: door, Seeds: Seeder(&c.Base)})
}

// filesystem is what makes a node a filesystem service, nil where its configuration does not. Errors are those of keys.LoadReaderKey and of Readers.
func filesystem(c *config.Node) (*node.Filesystem, error) {
	if c.Filesystem.ReaderKey == "" {
		return nil, nil
	}
	key, err := keys.LoadReaderKey(c.Filesystem.ReaderKey)
	if err != nil {
		return nil, err
	}
	readers, err := Readers(&c.Base, key)
	return &node.Filesystem{Reader: key, Readers: readers, Anonymous: c.Filesystem.Anonymous, KeepNoNames: !c.Filesystem.KeepsNames()}, err
}

// probe refuses an address that somebody else listens on before a store is made for nothing. A store that is there
// already needs no such care: node.Open says the same a little later.
func probe(c *config.Node) error {
	if _, err := os.Stat(c.Store.Dir); err == nil {
		return nil
	}
	tcp, err := net.Listen("tcp", c.Listen)
	if err == nil {
		defer tcp.Close() // nobody was accepted
		var udp net.PacketConn
		if udp, err = net.ListenPacket("udp", c.Listen); err == nil {
			udp.Close() // nothing was received
		}
	}
	if errors.Is(err, unix.EADDRINUSE) {
		return &blocktree.Error{Op: "listen", Path: c.Listen, Kind: blocktree.Busy, Err: err,
			Hint: "stop the process that uses this port, or choose another address"}
	}
	return nil // node.Open has the words for everything else
}

// Dial is connect.Cluster.
func Dial(ctx context.Context, b *config.Base, log *slog.Logger) (*cluster.Client, error) {
	return connect.Cluster(ctx, b, log)
}

// DialFilesystem is connect.Filesystem.
func DialFilesystem(b *config.Base, client *cluster.Client, log *slog.Logger) (*fs.Client, error) {
	return connect.Filesystem(b, client, log)
}

// AwaitUp asks the cluster until every node is up and it works, or ctx ends: then it fails with Unavailable. It does not
// wait until every file is in sync.
func AwaitUp(ctx context.Context, b *config.Base) error {
	client, err := Dial(ctx, b, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		status, err := client.Status(ctx)
		if err == nil && allUp(status) {
			return nil
		}
		select {
		case <-ctx.Done():
			return &blocktree.Error{Op: "wait for the cluster", Kind: blocktree.Unavailable, Err: err,
				Hint: "the nodes' logs say what they wait for"}
		case <-time.After(healthPause):
		}
	}
}

func allUp(s *cluster.Status) bool {
	for _, n := range s.Nodes {
		if n.State != "up" {
			return false
		}
	}
	return s.Health != "unavailable" && len(s.Nodes) > 0
}

// QuietLogger is the logger of a command that a person waits for: warnings, unless the configuration asks for more
// detail than usual.
func QuietLogger(w io.Writer, b *config.Base) *slog.Logger {
	level := "error"
	if b.Log.Level == "debug" {
		level = "debug"
	}
	log, _ := cli.NewLogger(w, level) // both are levels
	return log
}
