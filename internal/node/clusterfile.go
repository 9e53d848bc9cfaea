package node

import (
	"encoding/binary"
	"hash/crc32"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/internal/vfs"
	"blocktree/internal/wire"
)

// clusterFile says, in the store directory of a node of a delegated directory's cluster, which cluster that is and who is in it, so that the node starts while everybody else is away
// (docs/design/0033). It is durable before there is a store, and follows the process records from then on. Without a store it means nothing.
const (
	clusterFile   = "cluster"
	clusterFormat = 1
	// clusterBytesMax bounds the file: as many hosts as a cluster may have.
	clusterBytesMax = 4 << 20
)

// clusterOf is the content of clusterFile.
type clusterOf struct {
	directory  blocktree.Path
	generation blocktree.Generation
	founder    bool // this node's store began the cluster
	members    []blocktree.Runtime
}

func (c *clusterOf) encode() []byte {
	var e wire.Encoder
	e.U8(clusterFormat)
	e.String(string(c.directory))
	e.U64(uint64(c.generation))
	e.Bool(c.founder)
	e.U16(uint16(len(c.members)))
	for _, m := range c.members {
		e.String(string(m.Path))
		e.Raw(m.Principal[:])
		e.U64(uint64(m.Node))
		for _, list := range [][]string{m.Endpoints, m.Services} {
			e.U16(uint16(len(list)))
			for _, s := range list {
				e.String(s)
			}
		}
	}
	return binary.BigEndian.AppendUint32(e.Buf, crc32.Checksum(e.Buf, crc32.MakeTable(crc32.Castagnoli)))
}

func decodeCluster(b []byte) (c clusterOf, err error) {
	d := wire.NewDecoder(b)
	d.Format(clusterFormat)
	c = clusterOf{directory: blocktree.Path(d.String(blocktree.PathBytesMax)), generation: blocktree.Generation(d.U64()), founder: d.Bool()}
	n := int(d.U16())
	if n > meta.HostsMax {
		d.Fail(blocktree.E("decode", blocktree.Invalid, nil))
	}
	for ; n > 0 && d.Err() == nil; n-- {
		m := blocktree.Runtime{Path: blocktree.Path(d.String(blocktree.PathBytesMax))}
		copy(m.Principal[:], d.Raw(len(m.Principal)))
		m.Node = blocktree.NodeID(d.U64())
		m.Endpoints, m.Services = decodeStrings(d, meta.EndpointsMax), decodeStrings(d, meta.ServicesMax)
		c.members = append(c.members, m)
	}
	sum := d.U32()
	if err := d.Finish(); err != nil {
		return clusterOf{}, err
	}
	if sum != crc32.Checksum(b[:len(b)-4], crc32.MakeTable(crc32.Castagnoli)) {
		return clusterOf{}, blocktree.E("checksum", blocktree.Corrupt, nil)
	}
	return c, nil
}

func decodeStrings(d *wire.Decoder, max int) (list []string) {
	n := int(d.U16())
	if n > max {
		d.Fail(blocktree.E("decode", blocktree.Invalid, nil))
	}
	for ; n > 0 && d.Err() == nil; n-- {
		list = append(list, d.String(blocktree.NameBytesMax))
	}
	return list
}

// loadCluster reads the file; false if there is none.
func loadCluster(disk vfs.FS, dir string) (clusterOf, bool, error) {
	b, err := readFile(disk, dir+"/"+clusterFile, clusterBytesMax)
	if blocktree.KindOf(err) == blocktree.NotFound {
		return clusterOf{}, false, nil
	}
	var c clusterOf
	if err == nil {
		c, err = decodeCluster(b)
	}
	if err != nil {
		return c, false, &blocktree.Error{Op: "node: cluster", Path: clusterFile, Kind: blocktree.Corrupt, Err: err,
			Hint: "restore the file, or replace the node (btnode node replace) and start it on an empty directory"}
	}
	return c, true, nil
}

// readFile reads a file of bounded size.
func readFile(disk vfs.FS, name string, max uint64) ([]byte, error) {
	f, err := disk.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read from
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if uint64(size) > max {
		return nil, blocktree.E("read", blocktree.TooLarge, nil)
	}
	b := make([]byte, size)
	if size > 0 {
		_, err = f.ReadAt(b, 0)
	}
	return b, err
}

// save makes the file, durably.
func (c *clusterOf) save(disk vfs.FS, dir string) error {
	return replaceFile(disk, dir, clusterFile, c.encode())
}

// replaceFile makes a file durably, in place of what was there.
func replaceFile(disk vfs.FS, dir, name string, content []byte) error {
	temporary := dir + "/" + name + ".new"
	f, err := disk.Create(temporary)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(content, 0); err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = disk.Rename(temporary, dir+"/"+name)
	}
	if err == nil {
		err = disk.SyncDir(dir)
	}
	return err
}
