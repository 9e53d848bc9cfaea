package main

import (
	"context"
	"time"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/cluster"
	"blocktree/cmd/internal/parts"
	"blocktree/internal/config"
	"blocktree/internal/file"
)

const (
	// onDemandWait is how long an opening waits for the lease of a holder that is gone: a term and a little. A client has
	// ten seconds to wait for the answer.
	onDemandWait = blocktree.LeaseTerm + time.Second

	// onDemandPatience bounds an opening, which goes on when its client has given up: it may ask again.
	onDemandPatience = 30 * time.Second
)

// onDemand makes what opens exports for clients that ask for them by path; nil where the configuration has no such section.
func (s *server) onDemand(client *cluster.Client, how file.OpenOptions, o blockdev.Options) *blockdev.Demand {
	c := s.cfg
	if c.OnDemand.Below == "" {
		return nil
	}
	size := func(ctx context.Context, name string) (uint64, error) {
		path, err := c.Resolve(name)
		if err != nil {
			return 0, err
		}
		return parts.FileSize(ctx, client, path)
	}
	open := func(ctx context.Context, e *config.Export) (blocktree.File, error) {
		if _, err := size(ctx, e.Path); err != nil { // a directory is told as what it is to a client: no export
			return nil, err
		}
		how := how
		how.OpenOptions = cluster.OpenOptions{Wait: onDemandWait}
		return parts.OpenExport(ctx, client, c, e, how)
	}
	return blockdev.NewDemand(blockdev.DemandOptions{Name: exportNames(c), Stat: size, ReadOnly: c.OnDemand.ReadOnly, OpenMax: c.OnDemand.Open,
		Linger: c.OnDemand.Linger.Duration, Patience: onDemandPatience, Logger: s.log,
		Open: func(ctx context.Context, name string, readOnly bool) (*blockdev.Device, error) {
			e, err := s.exportOnDemand(name, readOnly)
			if err != nil {
				return nil, err
			}
			return s.openDevice(ctx, e, open, o)
		}})
}

// exportOnDemand is the export of a file that a client asks for.
func (s *server) exportOnDemand(name string, readOnly bool) (*config.Export, error) {
	path, err := s.cfg.Resolve(name)
	return &config.Export{Path: name, ReadOnly: readOnly, Encryption: s.cfg.OnDemand.Encryption, Root: s.knownRoots[path]}, err
}

// exportNames returns what brings a client's name to its one form: the path inside the domain, or that of the configured export of the same
// file. NotFound for what is not below the directory.
func exportNames(c *config.NBD) func(name string) (string, error) {
	configured := make(map[blocktree.Path]string, len(c.Exports))
	for _, e := range c.Exports {
		if p, err := c.Resolve(e.Path); err == nil { // it is valid
			configured[p] = e.Path
		}
	}
	below, _ := c.Resolve(c.OnDemand.Below) // validated
	return func(name string) (string, error) {
		if name == "" || name[0] != '/' {
			name = "/" + name
		}
		p, err := c.Resolve(name)
		if err == nil {
			if one, ok := configured[p]; ok {
				return one, nil
			}
			if p.Within(below) && p != below {
				return p.Short(), nil
			}
		}
		return "", &blocktree.Error{Op: "on demand", Path: name, Kind: blocktree.NotFound, Err: err}
	}
}
