package files

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"blocktree"
	"blocktree/cluster"
	"blocktree/crypto/keys"
	"blocktree/fs"
	"blocktree/fs/connect"
	"blocktree/internal/config"
)

// Connect makes a Tree of a configuration file, that of any node, client or NBD server, as commands do with --config. Where that has a reader key (readerKey) files are sealed and opened here; else a filesystem service
// does. It connects to nobody where the configuration names the members of the cluster, else it waits until that is found, or ctx ends. log may be nil. Kinds: NotFound, Invalid, Permission, Unauthenticated, Unavailable.
func Connect(ctx context.Context, name string, log *slog.Logger) (*Tree, error) {
	cfg, err := config.LoadClient(config.Source{File: name})
	if err != nil {
		return nil, failed("connect", name, err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	t, err := connected(ctx, cfg, log)
	return t, failed("connect", name, err)
}

// ConnectAnonymous is Connect as nobody in particular: what everybody may read can be read then.
func ConnectAnonymous(_ context.Context, name string, log *slog.Logger) (*Tree, error) {
	cfg, err := config.LoadAnonymous(config.Source{File: name})
	if err != nil {
		return nil, failed("connect", name, err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	client, err := connect.Filesystem(&cfg.Base, nil, log)
	if err != nil {
		return nil, failed("connect", name, err)
	}
	return New(client, cfg.Root(), Options{}), nil
}

// connected connects with credentials.
func connected(ctx context.Context, cfg *config.Client, log *slog.Logger) (*Tree, error) {
	d := &keyed{}
	if cfg.ReaderKey != "" {
		var err error
		if d.reader, err = keys.LoadReaderKey(cfg.ReaderKey); err != nil {
			return nil, err
		}
	}
	var err error
	if d.cluster, err = connect.Cluster(ctx, &cfg.Base, log); err != nil {
		return nil, err
	}
	if d.Client, err = connect.Filesystem(&cfg.Base, d.cluster, log); err != nil {
		_ = d.cluster.Close() // it has no session
		return nil, err
	}
	o := Options{Code: codeFor(len(cfg.Cluster.Members))}
	if d.reader == nil {
		return New(services{d.Client, d.cluster}, cfg.Root(), o), nil
	}
	if d.readers, err = readersOf(&cfg.Base, d.reader); err != nil {
		_ = d.Close() // nothing was opened
		return nil, err
	}
	return New(d, cfg.Root(), o), nil
}

// readersOf are those that new files are wrapped to: those of the configuration, and its own key's.
func readersOf(b *config.Base, own *keys.ReaderKey) ([]keys.PublicKey, error) {
	all := []keys.PublicKey{own.Public()}
	for i, t := range b.Readers {
		k, err := keys.ParsePublicKey(t)
		if err != nil {
			return nil, fmt.Errorf("readers[%d]: %w", i, err)
		}
		if !slices.Contains(all, k) {
			all = append(all, k)
		}
	}
	return all, nil
}

// services is a client of filesystem services with the client of a cluster whose routes it goes by.
type services struct {
	*fs.Client
	cluster *cluster.Client
}

// Close implements Door.
func (s services) Close() error {
	err := s.Client.Close()
	if e := s.cluster.Close(); err == nil {
		err = e
	}
	return err
}

// codeFor is the code of new files in a cluster of so many members; of one that is to be found nobody knows how many.
func codeFor(members int) blocktree.Code {
	switch members {
	case 1:
		return blocktree.Code{Data: 1}
	case 2:
		return blocktree.Code{Data: 1, Parity: 1}
	}
	return blocktree.Code{Data: 2, Parity: 1}
}
