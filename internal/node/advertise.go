package node

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"net"
	"net/netip"
	"slices"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/internal/bttp"
	"blocktree/internal/vfs"
	"blocktree/internal/wire"
	"blocktree/route"
)

// advertisedFile says, in a store directory, at which addresses the node was found by its configuration when its process record had those, so that a node whose configuration has others since knows that it has moved, and
// that it is its own record that is old (docs/design/0012).
const (
	advertisedFile     = "advertised"
	advertisedFormat   = 1
	advertisedBytesMax = meta.EndpointsMax*(blocktree.NameBytesMax+8) + 16
)

// tellAgain is the pause before a node tells its new addresses once more, and tellTimeout bounds one try.
const (
	tellAgain   = 5 * time.Second
	tellTimeout = 10 * time.Second
)

func encodeAdvertised(endpoints []string) []byte {
	var e wire.Encoder
	e.U8(advertisedFormat)
	e.U16(uint16(len(endpoints)))
	for _, s := range endpoints {
		e.String(s)
	}
	return binary.BigEndian.AppendUint32(e.Buf, crc32.Checksum(e.Buf, crc32.MakeTable(crc32.Castagnoli)))
}

func decodeAdvertised(b []byte) ([]string, error) {
	d := wire.NewDecoder(b)
	d.Format(advertisedFormat)
	endpoints := decodeStrings(d, meta.EndpointsMax)
	sum := d.U32()
	if err := d.Finish(); err != nil {
		return nil, err
	}
	if sum != crc32.Checksum(b[:len(b)-4], crc32.MakeTable(crc32.Castagnoli)) {
		return nil, blocktree.E("checksum", blocktree.Corrupt, nil)
	}
	return endpoints, nil
}

// addresses are those at which the configuration has the node found: of its own line among the members, else the one that it listens at. None are known where that is every
// address of its machine: a record that said so would have whoever reads it dial himself.
func (c *Config) addresses() []string {
	if c.known == nil {
		for _, m := range c.Members {
			if m.Path == c.Path {
				return m.Endpoints
			}
		}
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if at, parsed := netip.ParseAddr(host); err != nil || host == "" || parsed == nil && at.Unmap().IsUnspecified() {
		return nil
	}
	return []string{c.Listen}
}

// advertise has the node's own process record follow its configuration, for as long as that takes. A record that has other addresses than those of before, which somebody gave it, stays.
func (n *Node) advertise() {
	c, name := &n.given, n.given.StoreDir+"/"+advertisedFile
	now := c.addresses()
	if len(now) == 0 { // the record stays, and its siblings say where it is seen
		return
	}
	b, err := vfs.ReadSmall(c.FS, name, advertisedBytesMax)
	var was []string
	if err == nil {
		was, err = decodeAdvertised(b)
	}
	if err != nil && blocktree.KindOf(err) != blocktree.NotFound { // which is the first start, or that of a version before
		c.Logger.Warn("which addresses the node had is not known; if they are others now say btnode node add again", "err", err)
	}
	told := false
	for was != nil && !slices.Equal(was, now) {
		ctx, cancel := context.WithTimeout(n.ctx, tellTimeout)
		err = n.tell(ctx, was, now)
		cancel()
		if err == nil {
			break
		}
		if !told {
			told = true
			c.Logger.Warn("the node's new addresses are not in its process record yet; it is tried again", "addresses", now, "err", err)
		}
		select {
		case <-n.ctx.Done():
			return
		case <-time.After(tellAgain):
		}
	}
	if !slices.Equal(was, now) || was == nil {
		if err := vfs.Replace(c.FS, name, encodeAdvertised(now)); err != nil { // the next start says it again
			c.Logger.Warn("the node's addresses were not written down", "err", err)
		}
	}
}

// tell gives the node's record new addresses, where it has those of before.
func (n *Node) tell(ctx context.Context, was, now []string) error {
	c := n.given
	c.Credentials = n.credentials()
	client, err := c.dialRecords(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	var records []blocktree.Runtime
	if c.known != nil {
		_, records, err = client.Below(ctx, c.Directory)
	} else {
		records, err = client.Hosts(ctx)
	}
	if err != nil {
		return err
	}
	i := slices.IndexFunc(records, func(r blocktree.Runtime) bool { return r.Path == c.Path })
	if i < 0 {
		return nil
	}
	r := records[i]
	endpoints, ok := moved(r.Endpoints, was, now)
	switch {
	case !ok:
		c.Logger.Info("the node's process record has other addresses than its configuration had, and stays", "addresses", now)
		return nil
	case slices.Equal(r.Endpoints, endpoints):
		return nil
	}
	r.Endpoints = endpoints
	if err = client.AddNode(ctx, r); err == nil {
		c.Logger.Info("the node's process record has its new addresses", "addresses", now, "before", was)
	}
	return err
}

// noteAbove has the node's record in the cluster above name an address at which a sibling sees it (docs/design/0056).
func (n *Node) noteAbove(ctx context.Context, at string, given []string) error {
	c := n.given
	c.Credentials = n.credentials()
	client, err := c.dialSeeds(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	noted, err := client.NoteAbove(ctx, c.Path, given, at)
	if noted {
		c.Logger.Info("the record above has the node's new address", "address", at)
	}
	return err
}

// moved is what a record has from now on that begins with the addresses of before, or with those of now; of any other it says no. What stands behind them the node was seen at (docs/design/0043), and stays there.
func moved(has, was, now []string) (endpoints []string, ok bool) {
	named := func(a string) bool { _, err := netip.ParseAddrPort(a); return err != nil } // which somebody gave it
	if !begins(has, was) || slices.ContainsFunc(has[len(was):], named) {
		return has, begins(has, now)
	}
	endpoints = slices.Clone(now)
	for _, a := range has[len(was):] {
		if !slices.Contains(endpoints, a) && len(endpoints) < meta.EndpointsMax {
			endpoints = append(endpoints, a)
		}
	}
	return endpoints, true
}

// begins reports whether a record has these addresses first.
func begins(has, first []string) bool {
	return len(first) > 0 && len(has) >= len(first) && slices.Equal(has[:len(first)], first)
}

// dialRecords makes a client of the cluster that keeps the node's process record: of a delegated directory the one above, from which the node's own takes it over.
func (c *Config) dialRecords(ctx context.Context) (*cluster.Client, error) {
	if c.known != nil {
		return c.dialSeeds(ctx)
	}
	table, err := route.NewTable(c.Members)
	if err != nil {
		return nil, err
	}
	return cluster.Dial(ctx, cluster.ClientConfig{Path: c.Path, Root: c.Root, Key: c.Key, Credentials: c.Credentials, Transport: bttp.Transport(c.Transport), Network: c.Network, Loopback: c.loopback, Resolver: table, Routes: c.routes,
		Scope: c.Directory, Logger: c.Logger, Clock: c.Clock})
}
