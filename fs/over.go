package fs

import (
	"context"
	"log/slog"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/crypto/cred"
	"blocktree/crypto/keys"
	"blocktree/internal/file"
)

// leaseWait is how long an open for writing waits for a file that somebody else holds: as long as a node takes to let go of one that it heals.
const leaseWait = 2 * time.Second

// Backing is what Over makes a Cluster of.
type Backing struct {
	Client  *cluster.Client  // of the service alone, under the identity of a sector host
	Reader  *keys.ReaderKey  // opens what the service serves
	Readers []keys.PublicKey // new files are wrapped to these, and to Reader
	Roots   file.Roots       // of files of integrity tree; nil: those are not opened
	Rights  func() uint64    // the rights number that is known here to be applied
	Logger  *slog.Logger     // of what holders say; nil: none
}

// over is a Cluster over a client of one.
type over struct {
	Backing
	pins    pins
	keyless file.Keyless
	keys    file.KeyPool
}

// Over makes a Cluster of a client. What it has seen of access records it remembers as long as it is used.
func Over(b Backing) Cluster { return &over{Backing: b} }

// Close implements closer.
func (c *over) Close() { c.keys.Close() }

// Look implements Cluster.
func (c *over) Look(ctx context.Context, caller cred.Identity, path blocktree.Path) (Found, error) {
	inode, access, err := c.Client.Allowed(cluster.OnBehalf(ctx, caller), path)
	if err != nil {
		return Found{}, err
	}
	return Found{Inode: inode, Rights: rightsOf(access.Rights)}, nil
}

// LookFile implements Cluster.
func (c *over) LookFile(ctx context.Context, caller cred.Identity, id blocktree.FileID) (Found, error) {
	inode, access, err := c.Client.AllowedFile(cluster.OnBehalf(ctx, caller), id)
	if err != nil {
		return Found{}, err
	}
	return Found{Inode: inode, Rights: rightsOf(access.Rights)}, nil
}

// rightsOf are the cluster's rights in this package's words.
func rightsOf(r meta.Rights) (out Rights) {
	for _, x := range []struct {
		theirs meta.Rights
		ours   Rights
	}{{meta.RightRead, Read}, {meta.RightWrite, Write}, {meta.RightList, List}, {meta.RightLease, Lease}, {meta.RightAdmin, Admin}} {
		if r&x.theirs != 0 {
			out |= x.ours
		}
	}
	return out
}

// RightsNumber implements Cluster.
func (c *over) RightsNumber() uint64 { return c.Rights() }

// List implements Cluster.
func (c *over) List(ctx context.Context, caller cred.Identity, path blocktree.Path, after string, limit int) ([]meta.DirEntry, bool, error) {
	return c.Client.ListAfter(cluster.OnBehalf(ctx, caller), path, after, limit)
}

// Create implements Cluster.
func (c *over) Create(ctx context.Context, caller cred.Identity, path blocktree.Path, o CreateOptions) (blocktree.FileID, error) {
	return file.Make(cluster.OnBehalf(ctx, caller), c.Client, path, c.making(o))
}

// MakeDir implements Cluster.
func (c *over) MakeDir(ctx context.Context, caller cred.Identity, path blocktree.Path, mode uint32) error {
	return c.Client.MakeDir(cluster.OnBehalf(ctx, caller), path, mode, false)
}

// Remove implements Cluster.
func (c *over) Remove(ctx context.Context, caller cred.Identity, path blocktree.Path) error {
	return c.Client.Remove(cluster.OnBehalf(ctx, caller), path)
}

// RemoveFile implements Cluster.
func (c *over) RemoveFile(ctx context.Context, caller cred.Identity, path blocktree.Path, id blocktree.FileID) error {
	return c.Client.RemoveFile(cluster.OnBehalf(ctx, caller), path, id)
}

// Rename implements Cluster.
func (c *over) Rename(ctx context.Context, caller cred.Identity, from, to blocktree.Path, keep bool) error {
	return file.Rename(cluster.OnBehalf(ctx, caller), c.Client, from, to, file.RenameOptions{Keep: keep, Reader: c.Reader, Roots: c.Roots, Pins: c.pins.opening()})
}

// Unlink implements unlinker.
func (c *over) Unlink(ctx context.Context, caller cred.Identity, path blocktree.Path, id blocktree.FileID) (forget func(), err error) {
	kept, err := c.Client.Unlink(cluster.OnBehalf(ctx, caller), path, id)
	if kept != nil {
		forget = kept.Forget
	}
	return forget, err
}

// RenameOver implements unlinker.
func (c *over) RenameOver(ctx context.Context, caller cred.Identity, from, to blocktree.Path, id blocktree.FileID) (forget func(), err error) {
	err = file.Rename(cluster.OnBehalf(ctx, caller), c.Client, from, to, file.RenameOptions{Reader: c.Reader, Roots: c.Roots, Pins: c.pins.opening(), Open: id, Kept: func(k *cluster.Kept) { forget = k.Forget }})
	return forget, err
}

// Resize implements Cluster.
func (c *over) Resize(ctx context.Context, caller cred.Identity, path blocktree.Path, bytes uint64) error {
	_, _, err := file.Resize(cluster.OnBehalf(ctx, caller), c.Client, path, cluster.ResizeOptions{Shrink: true, Bytes: func(uint64) (uint64, error) { return bytes, nil }},
		file.OpenOptions{Reader: c.Reader, Roots: c.Roots, NoTree: c.Roots == nil, Pins: c.pins.opening(), Logger: c.Logger})
	return err
}

// SetLength implements Cluster.
func (c *over) SetLength(ctx context.Context, caller cred.Identity, path blocktree.Path, bytes uint64) error {
	return c.Client.SetLength(cluster.OnBehalf(ctx, caller), path, bytes)
}

// SetTimes implements Cluster.
func (c *over) SetTimes(ctx context.Context, caller cred.Identity, path blocktree.Path, id blocktree.FileID, modified int64) error {
	return c.Client.SetTimes(cluster.OnBehalf(ctx, caller), path, id, modified == TimeNow, modified)
}

// Symlink implements Cluster.
func (c *over) Symlink(ctx context.Context, caller cred.Identity, path blocktree.Path, target string) error {
	return c.Client.Symlink(cluster.OnBehalf(ctx, caller), path, target)
}

// SetXattr implements Cluster.
func (c *over) SetXattr(ctx context.Context, caller cred.Identity, path blocktree.Path, id blocktree.FileID, name string, value []byte, how SetHow) error {
	return c.Client.SetXattr(cluster.OnBehalf(ctx, caller), path, id, name, value, [...]meta.XattrHow{SetAny: meta.XattrSet, SetCreate: meta.XattrCreate, SetReplace: meta.XattrReplace}[how])
}

// RemoveXattr implements Cluster.
func (c *over) RemoveXattr(ctx context.Context, caller cred.Identity, path blocktree.Path, id blocktree.FileID, name string) error {
	return c.Client.SetXattr(cluster.OnBehalf(ctx, caller), path, id, name, nil, meta.XattrRemove)
}

// Xattrs implements Cluster.
func (c *over) Xattrs(ctx context.Context, caller cred.Identity, path blocktree.Path, id blocktree.FileID, name string) ([]meta.Xattr, error) {
	return c.Client.Xattrs(cluster.OnBehalf(ctx, caller), path, id, name)
}

// Space implements Cluster.
func (c *over) Space(ctx context.Context, caller cred.Identity, dir blocktree.Path, code blocktree.Code) (Space, error) {
	if code == (blocktree.Code{}) {
		code = file.CodeDefault
	}
	of, err := c.Client.ClusterOf(cluster.OnBehalf(ctx, caller), dir)
	if err != nil {
		return Space{}, err
	}
	return of.Space(ctx, code)
}

// Open implements Cluster.
func (c *over) Open(ctx context.Context, caller cred.Identity, path blocktree.Path, o OpenOptions) (blocktree.File, error) {
	return file.Open(cluster.OnBehalf(ctx, caller), c.Client, path, file.OpenOptions{ReadOnly: !o.Write, Reader: c.Reader, Plain: o.Plain, Roots: c.Roots, NoTree: c.Roots == nil, Pins: c.pins.opening(), Logger: c.Logger, File: o.File,
		OpenOptions: cluster.OpenOptions{Wait: leaseWait, TouchEvery: blocktree.TouchEvery}})
}
