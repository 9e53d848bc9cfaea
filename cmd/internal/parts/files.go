package parts

import (
	"context"
	"fmt"

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

// Readers returns the keys that new files are wrapped to: those of the configuration and own, where given, without
// duplicates. It fails with Invalid.
func Readers(b *config.Base, own *keys.ReaderKey) ([]keys.PublicKey, error) {
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
	return list, nil
}

// CreateFile makes a file as create says, wrapped to readers. It fails with Invalid, Exists, Unavailable and the kinds
// of file.Create; nothing is made then.
func CreateFile(ctx context.Context, client *cluster.Client, path blocktree.Path, create *config.Create, readers []keys.PublicKey) error {
	if create.Encrypted() && len(readers) == 0 {
		return cli.Invalid("list public keys under readers in the configuration, or make it with encryption none",
			"%s: nobody could read an encrypted file without readers", path.Short())
	}
	if !create.Encrypted() {
		readers = nil
	}
	durability := stripe.DurabilityAck
	if create.Flushes() {
		durability = stripe.DurabilityFlush
	}
	return file.Create(ctx, client, path, file.CreateOptions{SizeBytes: uint64(create.Size), SectorBytes: create.Sector(),
		Code: create.Code.Code, Plain: !create.Encrypted(), Readers: readers, Durability: durability, Tree: create.Tree()})
}

// OpenExport opens the file of an export, making it first where it is absent and may be made. A file that
// somebody else holds is waited for, or taken, as o says. What was seen of files of integrity tree is in roots.
func OpenExport(ctx context.Context, client *cluster.Client, c *config.NBD, e *config.Export, key *keys.ReaderKey, roots file.Roots, o cluster.OpenOptions) (blocktree.File, error) {
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
			readers, rerr := Readers(&c.Base, key)
			if rerr != nil {
				return nil, rerr
			}
			err = CreateFile(ctx, client, path, e.Create, readers)
			if blocktree.KindOf(err) == blocktree.Exists {
				err = nil // somebody else was faster
			}
		}
		if err != nil {
			return nil, err
		}
	}
	f, err := file.Open(ctx, client, path, file.OpenOptions{ReadOnly: e.ReadOnly, Reader: key, Plain: !e.Encrypted(), OpenOptions: o, Roots: roots, Root: root})
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
