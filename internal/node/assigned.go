package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"slices"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/internal/bttp"
	"blocktree/internal/vfs"
	"blocktree/internal/wire"
	"blocktree/route"
)

// assignedFile says, in a store directory, that the store has another id than the one in the configuration: its node lost the disk
// of that one and was replaced (docs/design/0012).
const (
	assignedFile   = "assigned"
	assignedFormat = 1
)

// askAgain is the pause before others are asked once more which store the node has.
const askAgain = time.Second

// assigned is the content of assignedFile.
type assigned struct {
	path           blocktree.Path
	configured, id blocktree.NodeID
}

func (a *assigned) encode() []byte {
	var e wire.Encoder
	e.U8(assignedFormat)
	e.String(string(a.path))
	e.U64(uint64(a.configured))
	e.U64(uint64(a.id))
	return binary.BigEndian.AppendUint32(e.Buf, crc32.Checksum(e.Buf, crc32.MakeTable(crc32.Castagnoli)))
}

func decodeAssigned(b []byte) (assigned, error) {
	d := wire.NewDecoder(b)
	d.Format(assignedFormat)
	a := assigned{path: blocktree.Path(d.String(blocktree.PathBytesMax)), configured: blocktree.NodeID(d.U64()), id: blocktree.NodeID(d.U64())}
	sum := d.U32()
	if err := d.Finish(); err != nil {
		return assigned{}, err
	}
	if sum != crc32.Checksum(b[:len(b)-4], crc32.MakeTable(crc32.Castagnoli)) {
		return assigned{}, blocktree.E("checksum", blocktree.Corrupt, nil)
	}
	return a, nil
}

// loadAssigned reads the file; false if there is none.
func loadAssigned(disk vfs.FS, dir string) (assigned, bool, error) {
	f, err := disk.Open(dir + "/" + assignedFile)
	if blocktree.KindOf(err) == blocktree.NotFound {
		return assigned{}, false, nil
	}
	if err != nil {
		return assigned{}, false, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || size > blocktree.PathBytesMax+64 {
		return assigned{}, false, &blocktree.Error{Op: "node: assigned store", Path: assignedFile, Kind: blocktree.Corrupt, Err: err}
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && size > 0 {
		return assigned{}, false, err
	}
	a, err := decodeAssigned(b)
	if err != nil {
		err = &blocktree.Error{Op: "node: assigned store", Path: assignedFile, Kind: blocktree.Corrupt, Err: err,
			Hint: "restore the file, or replace the node (btnode node replace) and start it on an empty directory"}
	}
	return a, true, err
}

// save makes the file, durably.
func (a *assigned) save(disk vfs.FS, dir string) error {
	return replaceFile(disk, dir, assignedFile, a.encode())
}

// settle finds out which store the node has to be: the configured one, or the one that the cluster gave it instead. It reports
// whether the store joins a cluster that was founded without it.
func (c *Config) settle(ctx context.Context) (joins bool, err error) {
	if joins, err := c.recall(); joins || err != nil {
		return joins, err
	}
	sectors, metadata := c.dirs()
	made := !empty(c.FS, c.StoreDir)
	if made && !cluster.Unused(c.FS, sectors, metadata, c.StoreID) {
		return false, nil
	}
	hosts, voter := c.ask(ctx)
	if made && cluster.Discarded(c.FS, sectors) {
		if hosts, err = c.awaitNamed(ctx, hosts); err != nil {
			return false, err
		}
	}
	for _, h := range hosts {
		if h.Path != c.Path {
			continue
		}
		if h.Principal != c.Key.Principal() {
			return false, &blocktree.Error{Op: "node.Open", Path: c.Path.Short(), Kind: blocktree.Unauthenticated,
				Err: errors.New("the cluster knows another key for this path")}
		}
		if h.Node == c.StoreID && (voter || made) {
			return false, nil
		}
		a := assigned{c.Path, c.StoreID, h.Node}
		assign := func() error { return c.assign(ctx, &a) }
		if made { // when nobody had told it that it was replaced
			c.Logger.Info("a store that was never used is removed: the cluster gave this node another one", "path", c.Path.Short(), "store", c.StoreID.String())
			err = c.discard(sectors, metadata, assign)
		} else {
			err = assign()
		}
		if err != nil {
			return false, err
		}
		c.Members = hosts
		c.StoreID = h.Node
		c.Logger.Info("the cluster gave this node a new store", "path", c.Path.Short(), "configured", a.configured.String(), "store", a.id.String())
		return true, nil
	}
	if len(hosts) > 0 {
		return false, &blocktree.Error{Op: "node.Open", Path: c.Path.Short(), Kind: blocktree.Invalid,
			Err:  errors.New("the cluster has no node at this path: it was removed"),
			Hint: "a node that was removed stays away; see btnode status for the nodes that there are"}
	}
	return false, nil
}

// awaitNamed asks again and again until somebody says which store the node has instead of the configured one, which is given up: who says the latter has not
// heard of it yet. It begins with what was said already. Unavailable when ctx ends.
func (c *Config) awaitNamed(ctx context.Context, hosts []blocktree.Runtime) ([]blocktree.Runtime, error) {
	given := func(h blocktree.Runtime) bool { return h.Path == c.Path && h.Node == c.StoreID }
	for told := false; len(hosts) == 0 || slices.ContainsFunc(hosts, given); {
		if !told {
			c.Logger.Warn("the cluster gave this node another store; it waits for others to say which one", "path", c.Path.Short(), "store", c.StoreID.String())
			told = true
		}
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
			return nil, c.nowhere()
		}
		hosts, _ = c.ask(ctx)
	}
	return hosts, nil
}

// recall makes the node what its directory says that the cluster made it, and reports whether it says so.
func (c *Config) recall() (bool, error) {
	a, there, err := loadAssigned(c.FS, c.StoreDir)
	if err != nil || !there {
		return false, err
	}
	if a.path != c.Path || a.configured != c.StoreID {
		return false, &blocktree.Error{Op: "node.Open", Path: c.StoreDir, Kind: blocktree.Invalid,
			Err:  fmt.Errorf("the store %v in it is that of %s, configured as %v", a.id, a.path.Short(), a.configured),
			Hint: "put the disk of this node in, and leave store.id in its config as it was when the cluster was founded"}
	}
	if sectors, _ := c.dirs(); cluster.Discarded(c.FS, sectors) { // cut off at its last step
		if err := cluster.EndDiscard(c.FS, sectors); err != nil {
			return false, &blocktree.Error{Op: "node.Open", Path: c.StoreDir, Err: err}
		}
	}
	c.become(a.id)
	return true, nil
}

// nowhere is the error of a node whose configured store is given up, while nobody says which one it has instead.
func (c *Config) nowhere() error {
	return &blocktree.Error{Op: "node.Open", Path: c.Path.Short(), Kind: blocktree.Unavailable,
		Err:  fmt.Errorf("the cluster gave this node another store than %v, and nobody says which one", c.StoreID),
		Hint: "start the other nodes, then this one again; the old store is given up for good"}
}

// discard removes the configured store, which was never used, and calls assign, which writes down which one the node has instead.
func (c *Config) discard(sectors, metadata string, assign func() error) error {
	if err := cluster.Discard(c.FS, c.MetaFS, sectors, metadata, c.StoreID, assign); err != nil {
		return &blocktree.Error{Op: "node.Open", Path: c.StoreDir, Err: err}
	}
	return nil
}

// assign makes the file a, durably. On a full disk it waits: the cluster has given the node's places to the new store.
func (c *Config) assign(ctx context.Context, a *assigned) error {
	return cluster.AwaitSpace(ctx, c.Logger, "space for its new store", func() error {
		if err := c.makeDir(); err != nil {
			return err
		}
		return a.save(c.FS, c.StoreDir)
	})
}

// become makes id the node's own store, in the list of members too.
func (c *Config) become(id blocktree.NodeID) {
	members := append([]blocktree.Runtime(nil), c.Members...)
	for i := range members {
		if members[i].Node == c.StoreID {
			members[i].Node = id
		}
	}
	c.Members, c.StoreID = members, id
}

// empty reports whether there is no store in a directory. What cannot be looked into may be one.
func empty(disk vfs.FS, dir string) bool {
	for _, part := range []string{"sectors", "meta"} {
		if names, err := disk.List(filepath.Join(dir, part)); len(names) > 0 || err != nil && blocktree.KindOf(err) != blocktree.NotFound {
			return false
		}
	}
	return true
}

// ask returns the process records of the cluster's hosts, and whether the configured store is a voter of its group; nothing if nobody
// answers in time.
func (c *Config) ask(ctx context.Context) (hosts []blocktree.Runtime, voter bool) {
	var others []blocktree.Runtime
	for _, m := range c.Members {
		if m.Node != c.StoreID {
			others = append(others, m)
		}
	}
	table, err := route.NewTable(others)
	if err != nil || len(others) == 0 {
		return nil, false
	}
	client, err := cluster.Dial(ctx, cluster.ClientConfig{Path: c.Path, Root: c.Root, Key: c.Key, Credentials: c.Credentials,
		Transport: bttp.Transport(c.Transport), Network: c.Network, Loopback: c.loopback, Resolver: table, Routes: c.routes, Scope: c.Directory, Logger: c.Logger, Clock: c.Clock})
	if err != nil {
		return nil, false
	}
	defer client.Close()
	return client.Records(ctx, c.StoreID)
}
