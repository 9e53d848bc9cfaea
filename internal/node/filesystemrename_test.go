package node_test

import (
	"bytes"
	"testing"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/fs"
	"blocktree/internal/file"
	"blocktree/internal/testenv"
)

// TestDoorRenames: a filesystem service renames in its caller's name, judged by the caller's rights, and signs the records that the caller could sign; what has the file open through another service goes on.
func TestDoorRenames(t *testing.T) {
	t.Parallel()
	d := withDoor(t)
	ctx := patience(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	admin, alice, bob := d.Client(), uint32(1001), uint32(1002)
	for dir, mode := range map[string]uint32{"/alice": 0o700, "/open": 0o777} {
		must(admin.MakeDir(ctx, d.Path(dir), mode, true))
		_, err := admin.SetOwner(ctx, d.Path(dir), &alice, &alice)
		must(err)
	}
	door, other := d.Door("alice", alice, alice), d.Door("bob", bob, bob)
	must(door.Create(ctx, d.Path("/alice/a"), fs.CreateOptions{SizeBytes: 1 << 20}))
	must(door.Create(ctx, d.Path("/open/plain"), fs.CreateOptions{SizeBytes: 1 << 20, Plain: true}))
	f, err := door.Open(ctx, d.Path("/alice/a"), fs.OpenOptions{Write: true})
	must(err)
	must(f.WriteAt(ctx, []byte("before"), 0))
	for _, x := range []struct {
		name     string
		c        *fs.Client
		from, to string
		keep     bool
		want     blocktree.Kind
	}{
		{"by a stranger", other, "/alice/a", "/open/mine", false, blocktree.Permission},
		{"by nobody in particular", d.Door("", 0, 0), "/open/plain", "/open/q", false, blocktree.Permission},
		{"by its owner", door, "/alice/a", "/alice/b", false, 0},
		{"to another directory", door, "/alice/b", "/open/b", false, 0},
		{"by who may write the directory, of an encrypted file", other, "/open/b", "/open/c", false, blocktree.Permission},
		{"likewise, of one that is not", other, "/open/plain", "/open/plain2", false, 0},
		{"over a file", other, "/open/plain2", "/open/b", true, blocktree.Exists},
		{"a directory", door, "/alice", "/alice2", false, blocktree.Permission},
		{"into itself", d.Door("root", 0, 0), "/open", "/open/in", false, blocktree.Invalid},
		{"of nothing", door, "/open/no", "/open/b", false, blocktree.NotFound},
	} {
		if err := x.c.Rename(ctx, d.Path(x.from), d.Path(x.to), x.keep); blocktree.KindOf(err) != x.want || err == nil && x.want != 0 {
			t.Errorf("%s: %v, want %v", x.name, err, x.want)
		}
	}
	must(f.WriteAt(ctx, []byte("after"), 6))
	must(f.Flush(ctx))
	must(f.Close())
	r, err := other.Open(ctx, d.Path("/open/b"), fs.OpenOptions{})
	if blocktree.KindOf(err) != blocktree.Permission {
		t.Errorf("bob reads it: %v, %v", r, err)
	}
	r, err = door.Open(ctx, d.Path("/open/b"), fs.OpenOptions{})
	must(err)
	got := make([]byte, 11)
	if _, err := r.ReadAt(ctx, got, 0); err != nil || !bytes.Equal(got, []byte("beforeafter")) {
		t.Errorf("read %q, %v", got, err)
	}
	own, at := d.ClientAs(testenv.User{UID: alice, GID: alice})
	inode, err := own.Stat(ctx, d.Path("/open/b"))
	must(err)
	record, err := file.Describe(d.Path("/open/b"), inode, nil)
	if err != nil || record.Number != 3 || record.Owner != alice || inode.UID != alice {
		t.Errorf("the record of %s: %+v, %v", at.Short(), record, err)
	}
	takenByRename(t, d, admin, other)
}

// takenByRename: who loses his right by a rename has the file open no more, whatever its name is by then.
func takenByRename(t *testing.T, d *testenv.Domain, admin *cluster.Client, other *fs.Client) {
	t.Helper()
	ctx := patience(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(admin.MakeDir(ctx, d.Path("/closed"), 0o700, false))
	_, err := admin.Grant(ctx, d.Path("/open"), meta.Grant{Subject: meta.Subject{Path: blocktree.RootPath(d.Root).Join("bob")}, Rights: meta.RightRead})
	must(err)
	r, err := other.Open(ctx, d.Path("/open/b"), fs.OpenOptions{})
	must(err)
	got := make([]byte, 11)
	_, err = r.ReadAt(ctx, got, 0)
	must(err)
	must(file.Rename(ctx, admin, d.Path("/open/b"), d.Path("/closed/b"), file.RenameOptions{}))
	d.Await("the services to go by it", func() bool {
		_, err := r.ReadAt(ctx, got, 0)
		return blocktree.KindOf(err) == blocktree.Permission || blocktree.KindOf(err) == blocktree.Undeliverable
	})
}
