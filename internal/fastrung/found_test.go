package fastrung

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/crypto/cred"
	"blocktree/crypto/keys"
	"blocktree/fs"
	"blocktree/internal/bttp"
	"blocktree/internal/file"
	"blocktree/internal/node"
	"blocktree/internal/testenv"
	"blocktree/route"
)

// foundCases is what comes of reading a file in the root's cluster, in a child's that was made before the child was (the root's keeps it), in the child's and in a grandchild's, where nodes of these are a filesystem service; "named":
// of a child alone, which the configuration names. r: read, w: written, too, by the directory that is behind; -: permission denied; none: no service is found that reaches it. The grandchild and the child are clusters of
// their own, and the files are user 1000's, mode 640; what is below them is read by all, mode 644.
const foundCases = `
service    who        /f           /rack1/old   /rack1/f     /rack1/lab/f /rack1/lab/open
root       owner      rw /         rw /         rw /         rw /         r /
root       other      -            -            -            -            r /
root       anonymous  -            -            -            -            r /
child      owner      none         none         rw /rack1    rw /rack1    r /rack1
child      other      none         none         -            -            r /rack1
child      anonymous  none         none         none         none         none
grandchild owner      none         none         none         rw /rack1/lab r /rack1/lab
grandchild other      none         none         none         -            r /rack1/lab
root+child owner      rw /         rw /         rw /rack1    rw /rack1    r /rack1
root+child anonymous  -            -            -            -            r /rack1
named      anonymous  none         none         -            -            r /rack1
`

// foundFiles are the columns.
var foundFiles = []string{"/f", "/rack1/old", "/rack1/f", "/rack1/lab/f", "/rack1/lab/open"}

// TestFoundCases: F1.
func TestFoundCases(t *testing.T) {
	got := "\nservice    who        /f           /rack1/old   /rack1/f     /rack1/lab/f /rack1/lab/open\n"
	for _, services := range []struct {
		where string
		who   []string
	}{{"root", []string{"owner", "other", "anonymous"}}, {"child", []string{"owner", "other", "anonymous"}}, {"grandchild", []string{"owner", "other"}}, {"root+child", []string{"owner", "anonymous"}},
		{"named", []string{"anonymous"}}} {
		synctest.Test(t, func(t *testing.T) {
			w := newFoundWorld(t, services.where)
			for _, who := range services.who {
				got += w.line(services.where, who)
			}
		})
	}
	if got != foundCases {
		t.Errorf("got%s\nwant%s", got, foundCases)
	}
}

// foundWorld is a cluster of one node in each of three directories, one below the other.
type foundWorld struct {
	*testenv.Simulated
	child *testenv.Simulated
}

// newFoundWorld makes the files, and has those nodes be filesystem services.
func newFoundWorld(t *testing.T, where string) *foundWorld {
	root := testenv.NewSimulated(t, 1, 1)
	root.Transport = bttp.TCP
	service := func(d *testenv.Simulated, is bool) {
		if is {
			d.Filesystems = map[int]*node.Filesystem{0: {Reader: root.Reader, Anonymous: true}}
		}
	}
	service(root, strings.HasPrefix(where, "root"))
	root.StartAll()
	admin, one := root.Client(), blocktree.Code{Data: 1}
	w := &foundWorld{root, nil}
	alice := uint32(1000)
	make := func(short string, mode uint32) {
		t.Helper()
		root.Create(admin, short, 1<<20, one)
		if _, err := admin.SetMode(t.Context(), root.Path(short), mode); err != nil {
			t.Fatal(err)
		}
		if _, err := admin.SetOwner(t.Context(), root.Path(short), &alice, &alice); err != nil {
			t.Fatal(err)
		}
	}
	below := func(short string, is bool) *testenv.Simulated {
		t.Helper()
		d := root.Below(short, 1)
		service(d, is)
		addAll(root, admin, d)
		d.StartAll()
		answers(root, admin, short)
		return d
	}
	make("/f", 0o640)
	make("/rack1/old", 0o640)
	if _, err := admin.SetMode(t.Context(), root.Path("/rack1"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.child = below("/rack1", where == "child" || where == "root+child" || where == "named")
	make("/rack1/f", 0o640)
	if err := admin.MakeDir(t.Context(), root.Path("/rack1/lab"), 0o755, false); err != nil {
		t.Fatal(err)
	}
	below("/rack1/lab", where == "grandchild")
	make("/rack1/lab/f", 0o640)
	make("/rack1/lab/open", 0o644)
	return w
}

// line is one of the table.
func (w *foundWorld) line(where, who string) string {
	w.T.Helper()
	var named blocktree.Resolver
	if where == "named" {
		r := w.child.Members[0]
		r.Services = []string{blocktree.ServiceFilesystem}
		table, err := route.NewTable([]blocktree.Runtime{r})
		if err != nil {
			w.T.Fatal(err)
		}
		named = table
	}
	name, uid := who, uint32(1000)
	switch who {
	case "other":
		uid = 1001
	case "anonymous":
		name = ""
	}
	c := w.Finder(named, name, uid, uid)
	cells := []any{where, who}
	for _, short := range foundFiles {
		cells = append(cells, w.try(c, short, name != "" && !strings.HasSuffix(short, "open")))
	}
	return strings.TrimRight(fmt.Sprintf("%-10s %-10s %-12s %-12s %-12s %-12s %s", cells...), " ") + "\n"
}

// try reads a file, and writes it.
func (w *foundWorld) try(c *fs.Client, short string, write bool) string {
	w.T.Helper()
	ctx := w.T.Context()
	f, err := c.Open(ctx, w.Path(short), fs.OpenOptions{Write: write})
	if err == nil {
		defer f.Close()
		_, err = f.ReadAt(ctx, make([]byte, 10), 0)
	}
	what := "r "
	if err == nil && write {
		if err = f.WriteAt(ctx, []byte("dear"), 5); err == nil {
			err = f.Flush(ctx)
		}
		what = "rw "
	}
	switch kind := blocktree.KindOf(err); {
	case err == nil:
		return what + fs.ServiceOf(f).Parent().Short()
	case fs.NoService(err), kind == blocktree.Unsupported:
		return "none"
	case kind == blocktree.Permission:
		return "-"
	}
	w.T.Errorf("%s: %v", short, err)
	return "?"
}

// TestSpeaksFromAbove: F3. A child takes the word of a filesystem service of user id 0 above it, for what is judged by rights; nobody else's, and nothing else.
func TestSpeaksFromAbove(t *testing.T) {
	withChild(t, func(b *bed, child *testenv.Simulated) {
		ctx := b.T.Context()
		for _, short := range []string{"/rack1", "/rack1/sub"} { // whoever asks for himself may look
			if _, err := b.client.SetMode(ctx, b.Path(short), 0o755); err != nil {
				b.T.Fatal(err)
			}
		}
		time.Sleep(3 * time.Second) // aboveInterval, and what it takes
		stranger := cluster.OnBehalf(ctx, cred.Identity{Path: b.Path("/stranger"), UID: 77, GID: 77, Principal: blocktree.PrincipalOf([]byte("x"))})
		root := cluster.OnBehalf(ctx, cred.Identity{Path: b.Path("/anybody"), Principal: blocktree.PrincipalOf([]byte("y"))})
		sector, both := []string{blocktree.ServiceSector}, []string{blocktree.ServiceSector, blocktree.ServiceFilesystem}
		for _, x := range []struct {
			what     string
			path     string
			user     testenv.User
			services []string
			believed bool
		}{
			{"a service above", "/door", testenv.User{}, both, true},
			{"a service in the directory", "/rack1/door", testenv.User{}, both, true},
			{"a service aside", "/other/door", testenv.User{}, both, false},
			{"a service below", "/rack1/sub/door", testenv.User{}, both, false},
			{"of another user", "/door1", testenv.User{UID: 5}, both, false},
			{"no filesystem service", "/door2", testenv.User{}, sector, false},
			{"no sector host", "/door3", testenv.User{}, []string{blocktree.ServiceFilesystem}, false},
		} {
			c := b.Speaker(b.Path(x.path), x.user, x.services...)
			if _, err := c.Stat(ctx, b.Path("/rack1/sub")); err != nil { // it knows the way
				b.T.Fatalf("%s: %v", x.what, err)
			}
			_, _, err := c.Allowed(stranger, b.Path("/rack1/sub"))
			if (err == nil) != x.believed || err != nil && blocktree.KindOf(err) != blocktree.Permission {
				b.T.Errorf("%s asks for somebody: %v", x.what, err)
			}
			if err := c.MakeDir(stranger, b.Path("/rack1/made"), 0o755, false); blocktree.KindOf(err) != blocktree.Permission { // the stranger may not, user id 0 may
				b.T.Errorf("%s makes a directory for somebody: %v", x.what, err)
			}
			if err := c.MakeDir(root, b.Path("/rack1/of"+x.path), 0o755, true); (err == nil) != x.believed {
				b.T.Errorf("%s makes a directory for user id 0: %v", x.what, err)
			}
			if x.believed {
				made, err := c.Stat(ctx, b.Path("/rack1/of"+x.path))
				if err != nil {
					b.T.Fatal(err)
				}
				rename := meta.Rename{From: b.Path("/rack1/of" + x.path), To: b.Path("/rack1/of" + x.path + "2"), File: made.ID}
				if err := c.Rename(stranger, rename); blocktree.KindOf(err) != blocktree.Permission {
					b.T.Errorf("%s renames for somebody: %v", x.what, err)
				}
				if err := c.Rename(root, rename); err != nil {
					b.T.Errorf("%s renames for user id 0: %v", x.what, err)
				}
			}
			if _, err := c.Grant(root, b.Path("/rack1/sub"), meta.Grant{Subject: meta.Subject{Path: b.Path("/anybody")}, Rights: meta.RightRead}); blocktree.KindOf(err) != blocktree.Permission {
				b.T.Errorf("%s grants for user id 0: %v", x.what, err)
			}
		}
	})
}

// TestFoundRenames: F1. A service above renames in a child's cluster, in its caller's name: who may there by rights does, with the record of the file, which opens by its new name; nobody else does, and nothing crosses clusters.
func TestFoundRenames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFoundWorld(t, "root")
		ctx, admin, alice := t.Context(), w.Client(), uint32(1000)
		for _, short := range []string{"/rack1/hers", "/rack1/hers/in"} {
			if err := admin.MakeDir(ctx, w.Path(short), 0o755, false); err != nil {
				t.Fatal(err)
			}
			if _, err := admin.SetOwner(ctx, w.Path(short), &alice, &alice); err != nil {
				t.Fatal(err)
			}
		}
		owner, other := w.Finder(nil, "owner", alice, alice), w.Finder(nil, "other", 1001, 1001)
		if err := owner.Create(ctx, w.Path("/rack1/hers/f"), fs.CreateOptions{SizeBytes: 1 << 20, Code: blocktree.Code{Data: 1}}); err != nil {
			t.Fatal(err)
		}
		for _, x := range []struct {
			name     string
			c        *fs.Client
			from, to string
			want     blocktree.Kind
		}{
			{"by somebody else", other, "/rack1/hers/f", "/rack1/hers/g", blocktree.Permission},
			{"by nobody in particular", w.Finder(nil, "", 0, 0), "/rack1/hers/f", "/rack1/hers/g", blocktree.Permission},
			{"into a directory that is another's", owner, "/rack1/hers/f", "/rack1/g", blocktree.Permission},
			{"to another cluster", owner, "/rack1/hers/f", "/g", blocktree.CrossDevice},
			{"by its owner", owner, "/rack1/hers/f", "/rack1/hers/in/g", 0},
		} {
			if err := x.c.Rename(ctx, w.Path(x.from), w.Path(x.to), true); blocktree.KindOf(err) != x.want || err == nil && x.want != 0 {
				t.Errorf("%s: %v, want %v", x.name, err, x.want)
			}
		}
		if got := w.try(owner, "/rack1/hers/in/g", true); got != "rw /" {
			t.Errorf("by its new name: %s", got)
		}
	})
}

// TestFoundHolds: F1. What whoever holds a file says to its cluster beside the lease, a service above says, too: that it has heard of a newer access record, and of a file of integrity tree its records.
func TestFoundHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFoundWorld(t, "root")
		ctx, admin, alice := t.Context(), w.Client(), uint32(1000)
		owner := w.Finder(nil, "owner", alice, alice)
		if err := file.Create(ctx, admin, w.Path("/rack1/tree"), file.CreateOptions{SizeBytes: 1 << 20, Code: blocktree.Code{Data: 1}, Readers: []keys.PublicKey{w.Reader.Public()}, Tree: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := admin.SetOwner(ctx, w.Path("/rack1/tree"), &alice, &alice); err != nil {
			t.Fatal(err)
		}
		for _, short := range []string{"/rack1/tree", "/rack1/f"} {
			if _, err := (&file.Admin{Client: admin, Reader: w.Reader}).Rekey(ctx, w.Path(short)); err != nil {
				t.Fatalf("%s: %v", short, err)
			}
			for range 2 {
				if got := w.try(owner, short, true); got != "rw /" {
					t.Errorf("%s: %s", short, got)
				}
				time.Sleep(10 * time.Second)
			}
		}
	})
}
