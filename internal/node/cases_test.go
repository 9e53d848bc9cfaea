package node_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/fs"
	"blocktree/internal/testenv"
)

// doorCases is who may do what through the filesystem service: s stat, r read, w write and flush, z resize; of a directory l list, c create, m mkdir,
// x remove. The last line is case 4, those before it are case 3. /shut is for user id 0 only; what others may read in it, they may by name, but for those
// without one. Who may list a directory may stat what is in it: the list says the same.
const doorCases = `
who             /pub    /pub/all  /pub/mine  /pub/team  /shut   /shut/all  /shut/granted
user 0          slcmx   srwz      srwz       srwz       slcmx   srwz       srwz
owner           slcmx   srwz      srwz       srwz       s       sr         -
group           sl      sr        s          srwz       s       sr         -
other           sl      sr        s          s          s       sr         -
granted read    sl      sr        s          s          s       sr         sr
anonymous       sl      sr        s          s          s       -          -
`

// doorWorld makes what the table is about.
func doorWorld(t *testing.T, d *testenv.Domain) {
	t.Helper()
	ctx := patience(t)
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	admin, door := d.Client(), d.Door("admin", 0, 0)
	alice, team, root := uint32(1000), uint32(100), uint32(0)
	make := func(path string, dir bool, mode uint32, owner *uint32) {
		t.Helper()
		if dir {
			must(nil, door.Mkdir(ctx, d.Path(path), mode))
		} else {
			must(nil, door.Create(ctx, d.Path(path), fs.CreateOptions{SizeBytes: 1 << 20, Mode: mode}))
		}
		must(admin.SetOwner(ctx, d.Path(path), owner, &team))
	}
	make("/pub", true, 0o755, &alice)
	make("/pub/all", false, 0o644, &alice)
	make("/pub/mine", false, 0o600, &alice)
	make("/pub/team", false, 0o660, &alice)
	make("/shut", true, 0o700, &root)
	make("/shut/all", false, 0o644, &root)
	make("/shut/granted", false, 0o600, &root)
	must(admin.Grant(ctx, d.Path("/shut/granted"), meta.Grant{Subject: meta.Subject{Path: d.Path("/dave")}, Rights: meta.RightRead}))
}

// verdict adds a letter for what was done; it fails the test for what failed for another reason than a refusal.
func verdict(t *testing.T, out *strings.Builder, letter string, what string, err error) {
	t.Helper()
	switch blocktree.KindOf(err) {
	case blocktree.Permission:
	case blocktree.Other:
		if err == nil {
			out.WriteString(letter)
			return
		}
		fallthrough
	default:
		t.Errorf("%s: %v", what, err)
	}
}

// try does everything with a path.
func try(ctx context.Context, t *testing.T, d *testenv.Domain, door, admin *fs.Client, who, short string, size uint64) string {
	t.Helper()
	path, out := d.Path(short), new(strings.Builder)
	say := func(letter, what string, err error) {
		t.Helper()
		verdict(t, out, letter, who+" "+what+" "+short, err)
	}
	_, err := door.Stat(ctx, path)
	say("s", "stat", err)
	if short == "/pub" || short == "/shut" {
		_, err = door.ReadDir(ctx, path)
		say("l", "list", err)
		say("c", "create", door.Create(ctx, path.Join("new"), fs.CreateOptions{SizeBytes: 4096}))
		say("m", "mkdir", door.Mkdir(ctx, path.Join("sub"), 0o755))
		_ = admin.Remove(ctx, path.Join("new")) // which may not be there
		_ = admin.Remove(ctx, path.Join("sub"))
		if err := admin.Create(ctx, path.Join("old"), fs.CreateOptions{SizeBytes: 4096, Mode: 0o666}); err != nil {
			t.Fatal(err)
		}
		say("x", "remove", door.Remove(ctx, path.Join("old")))
		_ = admin.Remove(ctx, path.Join("old"))
		return out.String()
	}
	f, err := door.Open(ctx, path, fs.OpenOptions{})
	if err == nil {
		_, err = f.ReadAt(ctx, make([]byte, 100), 5)
		_ = f.Close() // it was only read from
	}
	say("r", "read", err)
	if f, err = door.Open(ctx, path, fs.OpenOptions{Write: true}); err == nil {
		if err = f.WriteAt(ctx, []byte(who), 5); err == nil {
			err = f.Flush(ctx)
		}
		if e := f.Close(); err == nil {
			err = e
		}
	}
	say("w", "write", err)
	say("z", "resize", door.Resize(ctx, path, size))
	return out.String()
}

// TestDoorCases runs principals, operations and the two cases of the filesystem service against a live cluster.
func TestDoorCases(t *testing.T) {
	t.Parallel()
	d := withDoor(t)
	doorWorld(t, d)
	admin := d.Door("second-admin", 0, 0)
	paths := strings.Fields(strings.SplitN(doorCases, "\n", 3)[1])[1:]
	got := fmt.Sprintf("\n%-16s%-8s%-10s%-11s%-11s%-8s%-11s%s\n", "who", paths[0], paths[1], paths[2], paths[3], paths[4], paths[5], paths[6])
	for i, who := range []struct {
		label, name string
		door        *fs.Client
	}{
		{"user 0", "root", d.Door("root", 0, 0)},
		{"owner", "alice", d.Door("alice", 1000, 7)},
		{"group", "bob", d.Door("bob", 1001, 7, 100)},
		{"other", "carol", d.Door("carol", 1002, 7)},
		{"granted read", "dave", d.Door("dave", 1003, 7)},
		{"anonymous", "nobody", d.Door("", 0, 0)},
	} {
		var cells []any
		for _, path := range paths {
			cell := try(patience(t), t, d, who.door, admin, who.name, path, 1<<20+uint64(i+1)<<12)
			if cell == "" {
				cell = "-"
			}
			cells = append(cells, cell)
		}
		got += strings.TrimRight(fmt.Sprintf("%-16s%-8s%-10s%-11s%-11s%-8s%-11s%s", append([]any{who.label}, cells...)...), " ") + "\n"
	}
	if got != doorCases {
		t.Errorf("got%s\nwant%s", got, doorCases)
	}
	t.Log(got)
}

// Whoever's right goes is refused at once, with what it has open, and its lease is for others to take.
func TestRevokedAtTheDoor(t *testing.T) {
	t.Parallel()
	d := withDoor(t)
	doorWorld(t, d)
	ctx := patience(t)
	admin, dave, alice := d.Client(), d.Door("dave", 1003, 7), d.Door("alice", 1000, 7)
	reader, err := dave.Open(ctx, d.Path("/shut/granted"), fs.OpenOptions{})
	if err == nil {
		_, err = reader.ReadAt(ctx, make([]byte, 10), 0)
	}
	var writer fs.File
	if err == nil {
		writer, err = alice.Open(ctx, d.Path("/pub/mine"), fs.OpenOptions{Write: true})
	}
	if err == nil {
		err = writer.WriteAt(ctx, []byte("before"), 0)
	}
	if err == nil {
		_, err = admin.Revoke(ctx, d.Path("/shut/granted"), meta.Subject{Path: d.Path("/dave")})
	}
	for everywhere := false; err == nil && !everywhere; { // a node that is busy may not have said in time that it has applied it
		var applied cluster.Applied
		applied, err = admin.SetMode(ctx, d.Path("/pub/mine"), 0o400)
		everywhere = len(applied.Missing) == 0
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.ReadAt(ctx, make([]byte, 10), 0); blocktree.KindOf(err) != blocktree.Permission {
		t.Errorf("a revoked reader: %v", err)
	}
	if err := writer.WriteAt(ctx, []byte("after"), 0); blocktree.KindOf(err) != blocktree.Permission {
		t.Errorf("a revoked writer: %v", err)
	}
	if _, err := dave.Open(ctx, d.Path("/shut/granted"), fs.OpenOptions{}); blocktree.KindOf(err) != blocktree.Permission {
		t.Errorf("a revoked reader opens: %v", err)
	}
	root := d.Door("root", 0, 0)
	d.Await("the lease of the revoked writer given back", func() bool {
		f, err := root.Open(ctx, d.Path("/pub/mine"), fs.OpenOptions{Write: true})
		if err != nil {
			return false
		}
		got := make([]byte, 6)
		if _, err := f.ReadAt(ctx, got, 0); err != nil || string(got) != "before" {
			t.Errorf("%q, %v", got, err)
		}
		return f.Close() == nil
	})
}
