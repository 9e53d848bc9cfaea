package node_test

import (
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/crypto/keys"
	"blocktree/fs"
	"blocktree/internal/file"
	"blocktree/internal/node"
	"blocktree/internal/testenv"
)

// TestDoorRemembersRecords: the service goes by no access record that makes somebody else the owner of a file that it has opened, as btnbd does not; what was removed and made anew it opens.
func TestDoorRemembersRecords(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 1)
	d.Filesystems = map[int]*node.Filesystem{0: {Reader: d.Reader}}
	d.StartAll()
	ctx, path, admin := patience(t), d.Path("/f"), d.Door("first", 0, 0)
	create := fs.CreateOptions{SizeBytes: 1 << 20, Code: blocktree.Code{Data: 1}}
	d.Await("a cluster that is founded", func() bool { return admin.Create(ctx, path, create) == nil })
	open := func() error {
		f, err := admin.Open(ctx, path, fs.OpenOptions{Write: true})
		if err == nil {
			err = f.Close()
		}
		return err
	}
	if err := open(); err != nil {
		t.Fatal(err)
	}
	own := d.Client()
	mallory, at := d.ClientAs(testenv.User{UID: 1000})
	if _, err := own.Grant(ctx, path, meta.Grant{Subject: meta.Subject{Path: at}, Rights: meta.RightAdmin | meta.RightRead}); err != nil {
		t.Fatal(err)
	}
	forgeOwner(t, mallory, path)
	if err := open(); blocktree.KindOf(err) != blocktree.Permission {
		t.Errorf("opened by a record that names another owner: %v", err)
	}
	if err := admin.Remove(ctx, path); err != nil {
		t.Fatal(err)
	}
	if err := admin.Create(ctx, path, create); err != nil {
		t.Fatal(err)
	}
	if err := open(); err != nil {
		t.Errorf("made anew: %v", err)
	}
}

// TestDoorResizesByRecords: making a file of integrity tree smaller opens it and makes a record of it, under the key that its access record has: that is no other than the one that the service goes by, as for any opening.
func TestDoorResizesByRecords(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 1)
	d.Filesystems = map[int]*node.Filesystem{0: {Reader: d.Reader}}
	d.StartAll()
	ctx, path, admin, own := patience(t), d.Path("/f"), d.Door("first", 0, 0), d.Client()
	d.Await("a cluster that is founded", func() bool {
		return file.Create(ctx, own, path, file.CreateOptions{SizeBytes: 1 << 20, Code: blocktree.Code{Data: 1}, Readers: []keys.PublicKey{d.Reader.Public()}, Tree: true}) == nil
	})
	if f, err := admin.Open(ctx, path, fs.OpenOptions{Write: true}); err != nil {
		t.Fatal(err)
	} else if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := admin.Resize(ctx, path, 1<<19); err != nil {
		t.Fatal(err)
	}
	mallory, at := d.ClientAs(testenv.User{UID: 1000})
	if _, err := own.Grant(ctx, path, meta.Grant{Subject: meta.Subject{Path: at}, Rights: meta.RightAdmin | meta.RightRead}); err != nil {
		t.Fatal(err)
	}
	forgeOwner(t, mallory, path)
	if err := admin.Resize(ctx, path, 1<<18); blocktree.KindOf(err) != blocktree.Permission {
		t.Errorf("resized by a record that names another owner: %v", err)
	}
}

// forgeOwner has a client put an access record that makes its user the owner.
func forgeOwner(t *testing.T, c *cluster.Client, path blocktree.Path) {
	t.Helper()
	inode, err := c.Stat(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	a, err := keys.DecodeAccess(inode.Access)
	if err != nil {
		t.Fatal(err)
	}
	key, chain, _ := c.Credentials()
	forged := a.WithOwner(1000)
	forged.Sign(time.Now(), chain.Encode(), key.Sign)
	if err := c.SetAccess(t.Context(), inode.ID, forged.Append(nil)); err != nil {
		t.Fatal(err)
	}
}
