package fastrung

import (
	"testing"
	"testing/synctest"

	"blocktree"
	"blocktree/fs"
)

// TestRemoveFile: who made a file removes it, and no other that has its name by now, with a reader key and by a service, as far as the rights go (A2 of 0057).
func TestRemoveFile(t *testing.T) {
	synctest.Test(t, removesFiles)
}

func removesFiles(t *testing.T) {
	d, ctx := newFoundWorld(t, "root"), t.Context()
	one := blocktree.Code{Data: 1}
	admin, alice, bob := d.Client(), d.Finder(nil, "alice", 1001, 1001), d.Finder(nil, "bob", 1002, 1002)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	want := func(what string, err error, kind blocktree.Kind) {
		t.Helper()
		if blocktree.KindOf(err) != kind || err == nil {
			t.Errorf("%s: %v, want %v", what, err, kind)
		}
	}
	uid := uint32(1001)
	must(admin.MakeDir(ctx, d.Path("/alice"), 0o755, true))
	_, err := admin.SetOwner(ctx, d.Path("/alice"), &uid, &uid)
	must(err)
	path := d.Path("/alice/f")
	mine, err := alice.Make(ctx, path, fs.CreateOptions{SizeBytes: 1 << 20, Code: one})
	must(err)
	inode, err := admin.Stat(ctx, path)
	must(err)
	if inode.ID != mine {
		t.Fatalf("%v was made, and the service says %v", inode.ID, mine)
	}
	want("by a stranger", bob.RemoveFile(ctx, path, mine), blocktree.Permission)
	must(alice.Remove(ctx, path))
	theirs, err := alice.Make(ctx, path, fs.CreateOptions{SizeBytes: 1 << 20, Code: one})
	must(err)
	for name, c := range map[string]fs.Remover{"by a service": alice, "with a key": admin} {
		want(name, c.RemoveFile(ctx, path, mine), blocktree.NotFound)
		want(name+", of no file", c.RemoveFile(ctx, path, blocktree.FileID{}), blocktree.Invalid)
	}
	if inode, err := admin.Stat(ctx, path); err != nil || inode.ID != theirs {
		t.Fatalf("another's file is gone: %v", err)
	}
	must(alice.RemoveFile(ctx, path, theirs))
	_, err = admin.Stat(ctx, path)
	want("removed", err, blocktree.NotFound)
	theirs, err = alice.Make(ctx, path, fs.CreateOptions{SizeBytes: 1 << 20, Code: one})
	must(err)
	must(admin.RemoveFile(ctx, path, theirs))
}
