package parts

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"blocktree"
	"blocktree/crypto/keys"
	"blocktree/internal/cli"
	"blocktree/internal/config"
)

func prepare(t *testing.T, o Options) *Playground {
	t.Helper()
	p, err := Prepare(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func TestPlaygroundIsWhole(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "p")
	p := prepare(t, Options{Dir: dir, Nodes: 5, Code: cli.Code{Code: blocktree.Code{Data: 3, Parity: 2}}, Name: "test"})
	if !p.Created || len(p.Nodes) != 5 {
		t.Fatalf("%+v", p)
	}
	used := map[string]bool{}
	for _, file := range p.Nodes {
		c, err := config.LoadNode(config.Source{File: file})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Identity(&c.Base); err != nil {
			t.Error(err)
		}
		if used[c.Listen] || used[c.Store.ID.String()] {
			t.Errorf("%s: address or store used twice", file)
		}
		used[c.Listen], used[c.Store.ID.String()] = true, true
	}
	nbd, err := config.LoadNBD(config.Source{File: p.NBD})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Identity(&nbd.Base); err != nil {
		t.Error(err)
	}
	key, err := keys.LoadReaderKey(nbd.ReaderKey)
	if err != nil {
		t.Fatal(err)
	}
	readers, err := Readers(&nbd.Base, key)
	if err != nil || len(readers) != 1 || readers[0] != key.Public() {
		t.Errorf("readers: %v, %v", readers, err)
	}
	client, err := config.LoadClient(config.Source{File: p.Client})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Identity(&client.Base); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("%s was left", e.Name())
		}
	}
}

func TestOneProcessAtATime(t *testing.T) {
	dir := t.TempDir()
	first := prepare(t, Options{Dir: dir})
	if _, err := Prepare(Options{Dir: dir}); blocktree.KindOf(err) != blocktree.Busy || blocktree.HintOf(err) == "" {
		t.Errorf("a second one: %v", err)
	}
	first.Close()
	again := prepare(t, Options{Dir: dir})
	if again.Created || len(again.Nodes) != 3 {
		t.Errorf("again: %+v", again)
	}
}

// TestAtOnce: of several that begin together one makes it, and it is whole.
func TestAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "p")
	var wg sync.WaitGroup
	made := make(chan *Playground, 4)
	for range 4 {
		wg.Go(func() {
			p, err := Prepare(Options{Dir: dir})
			if err == nil {
				made <- p
			} else if blocktree.KindOf(err) != blocktree.Busy {
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	if len(made) != 1 {
		t.Fatalf("%d were made", len(made))
	}
	p := <-made
	defer p.Close()
	if _, err := config.LoadNBD(config.Source{File: p.NBD}); err != nil {
		t.Error(err)
	}
}

func TestNothingHalfMade(t *testing.T) {
	base := t.TempDir()
	long := filepath.Join(base, strings.Repeat("x", 120)) // the name of its socket is too long
	if _, err := Prepare(Options{Dir: long}); blocktree.KindOf(err) != blocktree.Invalid {
		t.Errorf("a long name: %v", err)
	}
	if _, err := os.Stat(long); err == nil {
		t.Error("a directory was left")
	}
	empty := filepath.Join(base, strings.Repeat("y", 120))
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Prepare(Options{Dir: empty}); blocktree.KindOf(err) != blocktree.Invalid {
		t.Errorf("a long name: %v", err)
	}
	if entries, err := os.ReadDir(empty); err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// TestAfterAKill: what a killed predecessor left unfinished is in nobody's way; anything else is.
func TestAfterAKill(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, workPrefix+"1", "node1"), 0o700); err != nil {
		t.Fatal(err)
	}
	prepare(t, Options{Dir: dir}).Close()
	if _, err := os.Stat(filepath.Join(dir, workPrefix+"1")); err == nil {
		t.Error("the unfinished one is still there")
	}
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "letter"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Prepare(Options{Dir: other}); blocktree.KindOf(err) != blocktree.Exists {
		t.Errorf("a directory in use: %v", err)
	}
}

func TestIdentityRefusals(t *testing.T) {
	p := prepare(t, Options{Dir: filepath.Join(t.TempDir(), "p")})
	load := func() *config.Node {
		c, err := config.LoadNode(config.Source{File: p.Nodes[0]})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	other := filepath.Join(p.Dir, "node2")
	for name, tc := range map[string]struct {
		change func(*config.Node)
		kind   blocktree.Kind
	}{
		"another key":         {func(c *config.Node) { c.Identity.Key = filepath.Join(other, "node.key") }, blocktree.Unauthenticated},
		"another chain":       {func(c *config.Node) { c.Identity.Credentials = filepath.Join(other, "node.cred") }, blocktree.Unauthenticated},
		"another path":        {func(c *config.Node) { c.Path = "/node2" }, blocktree.Unauthenticated},
		"no key":              {func(c *config.Node) { c.Identity.Key += "x" }, blocktree.NotFound},
		"no chain":            {func(c *config.Node) { c.Identity.Credentials += "x" }, blocktree.NotFound},
		"a chain for a key":   {func(c *config.Node) { c.Identity.Key = c.Identity.Credentials }, blocktree.Permission},
		"another root":        {func(c *config.Node) { c.Domain.Root.Principal = blocktree.PrincipalOf(make([]byte, 32)) }, blocktree.Unauthenticated},
		"nothing that is off": {func(*config.Node) {}, blocktree.Other},
	} {
		c := load()
		tc.change(c)
		_, _, err := Identity(&c.Base)
		if (err == nil) != (tc.kind == blocktree.Other) || blocktree.KindOf(err) != tc.kind {
			t.Errorf("%s: %v, want %v", name, err, tc.kind)
		}
	}
}

func TestFreePorts(t *testing.T) {
	addresses, err := freePorts(8)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, a := range addresses {
		if seen[a] {
			t.Errorf("%s twice", a)
		}
		seen[a] = true
		l, err := net.Listen("tcp", a)
		if err != nil {
			t.Errorf("%s is not free: %v", a, err)
			continue
		}
		l.Close()
	}
}

func TestReadersRefusal(t *testing.T) {
	if _, err := Readers(&config.Base{Readers: []string{"x25519-nonsense"}}, nil); blocktree.KindOf(err) != blocktree.Invalid {
		t.Errorf("%v", err)
	}
	for _, name := range []string{"btnbd.yaml", "client.yaml"} {
		c, err := config.LoadClient(config.Source{File: filepath.Join("../../../configs", name)})
		if err != nil {
			t.Fatal(err)
		}
		if list, err := Readers(&c.Base, nil); err != nil || len(list) != 1 {
			t.Errorf("configs/%s: %v, %v", name, list, err)
		}
	}
}
