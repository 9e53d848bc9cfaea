package parts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/crypto/keys"
	"blocktree/crypto/tree"
	"blocktree/internal/cli"
	"blocktree/internal/config"
	"blocktree/internal/file"
)

// Readers returns the keys that new files are wrapped to: those of the configuration, own, where given, and more, as ParseReader reads them, without
// duplicates. It fails with Invalid, and the kinds of ParseReader.
func Readers(b *config.Base, own *keys.ReaderKey, more ...string) ([]keys.PublicKey, error) {
	var list []keys.PublicKey
	seen := map[keys.PublicKey]bool{}
	add := func(k keys.PublicKey) {
		if !seen[k] {
			seen[k] = true
			list = append(list, k)
		}
	}
	if own != nil {
		add(own.Public())
	}
	for i, text := range b.Readers {
		k, err := keys.ParsePublicKey(text)
		if err != nil {
			return nil, fmt.Errorf("readers[%d]: %w", i, err)
		}
		add(k)
	}
	for _, text := range more {
		k, err := ParseReader(text)
		if err != nil {
			return nil, err
		}
		add(k)
	}
	return list, nil
}

// ParseReader reads a reader's public key, or that in a file: of a reader key, or a public key alone in its first line. It fails with Invalid, NotFound, IO, and the
// kinds of keys.LoadReaderKey.
func ParseReader(text string) (keys.PublicKey, error) {
	public, err := keys.ParsePublicKey(text)
	if err == nil || !strings.ContainsAny(text, "/.") && !exists(text) {
		return public, err
	}
	f, err := os.Open(text)
	if err != nil {
		return public, &blocktree.Error{Op: "reader", Path: text, Kind: fileKind(err), Err: err, Hint: "name a public key, or a file with one"}
	}
	defer f.Close() // only read from
	content, err := io.ReadAll(io.LimitReader(f, keys.ReaderKeyFileBytesMax))
	if err != nil {
		return public, &blocktree.Error{Op: "reader", Path: text, Kind: blocktree.IO, Err: err}
	}
	first, _, _ := strings.Cut(string(content), "\n")
	if public, err = keys.ParsePublicKey(strings.TrimSpace(first)); err == nil {
		return public, nil
	}
	key, err := keys.LoadReaderKey(text)
	if err != nil {
		return keys.PublicKey{}, err
	}
	return key.Public(), nil
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// fileKind is the kind of an error of package os.
func fileKind(err error) blocktree.Kind {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return blocktree.NotFound
	case errors.Is(err, fs.ErrPermission):
		return blocktree.Permission
	}
	return blocktree.IO
}

// Durability is that of a file which is made as create says.
func Durability(create *config.Create) stripe.Durability {
	if create.Flushes() {
		return stripe.DurabilityFlush
	}
	return stripe.DurabilityAck
}

// CreateFile makes a file as create says, wrapped to readers, and to those of the nearest directory above that has a key. It fails with Invalid, Exists,
// Unavailable and the kinds of file.Make; nothing is made then, but what is returned. Pins may be nil.
func CreateFile(ctx context.Context, client *cluster.Client, path blocktree.Path, create *config.Create, readers []keys.PublicKey, pins file.Pins) (blocktree.FileID, error) {
	return file.Make(ctx, client, path, CreateOptions(create, readers, pins))
}

// CreateOptions is what package file is told of a file that is made as create says, as for CreateFile.
func CreateOptions(create *config.Create, readers []keys.PublicKey, pins file.Pins) file.CreateOptions {
	if !create.Encrypted() {
		readers = nil
	}
	return file.CreateOptions{SizeBytes: uint64(create.Size), SectorBytes: create.Sector(),
		Code: create.Code.Code, Plain: !create.Encrypted(), Readers: readers, Durability: Durability(create), Pins: pins, Tree: create.Tree()}
}

// OpenExport opens the file of an export, making it first where it is absent and may be made. A file that
// somebody else holds is waited for, or taken, as o says; what was seen of files of integrity tree is in its Roots.
func OpenExport(ctx context.Context, client *cluster.Client, c *config.NBD, e *config.Export, o file.OpenOptions) (blocktree.File, error) {
	path, err := c.Resolve(e.Path)
	if err != nil {
		return nil, err
	}
	root, err := exportRoot(e)
	if err != nil {
		return nil, err
	}
	if e.Create != nil && !e.ReadOnly {
		_, err := client.Stat(ctx, path)
		if blocktree.KindOf(err) == blocktree.NotFound {
			readers, rerr := Readers(&c.Base, o.Reader)
			if rerr != nil {
				return nil, rerr
			}
			_, err = CreateFile(ctx, client, path, e.Create, readers, o.Pins)
			if blocktree.KindOf(err) == blocktree.Exists {
				err = nil // somebody else was faster
			}
		}
		if err != nil {
			return nil, err
		}
	}
	o.ReadOnly, o.Plain, o.Root = e.ReadOnly, !e.Encrypted(), root
	f, err := file.Open(ctx, client, path, o)
	if blocktree.KindOf(err) == blocktree.NotFound {
		err = cli.WithHint(err, "create it with `btnode file create`, or give the export a create: section")
	}
	return f, err
}

// exportRoot is the root that an export demands, if any.
func exportRoot(e *config.Export) (tree.Root, error) {
	if e.Root == "" {
		return tree.Root{}, nil
	}
	root, err := tree.ParseRoot(e.Root)
	if err != nil {
		return root, fmt.Errorf("export %s: root: %w", e.Path, err)
	}
	return root, nil
}

// FileSize returns the size of a file in bytes. NotFound where there is none, or a directory.
func FileSize(ctx context.Context, client *cluster.Client, path blocktree.Path) (uint64, error) {
	inode, err := client.Stat(ctx, path)
	if err == nil && inode.Kind != meta.KindFile {
		err = &blocktree.Error{Op: "stat", Path: path.Short(), Kind: blocktree.NotFound, Hint: "it is a directory"}
	}
	if err != nil {
		return 0, err
	}
	return inode.SizeBytes, nil
}
