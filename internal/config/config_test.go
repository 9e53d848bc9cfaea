package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"blocktree"
)

const examples = "../../configs"

func example(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(examples, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "f.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestExamples(t *testing.T) {
	node, err := LoadNode(Source{File: examples + "/btnode.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	if node.Listen != "0.0.0.0:7001" || node.Store.ID.String() != "5d0c64c7a1b98f13" || len(node.Runtimes()) != 3 ||
		node.RuntimePath().Short() != "/node1" || node.Store.Dir != "/var/lib/blocktree/store" || node.Identity.Key != filepath.Join(examples, "node.key") {
		t.Errorf("btnode.yaml: %+v", node)
	}
	nbd, err := LoadNBD(Source{File: examples + "/btnbd.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	if len(nbd.Exports) != 2 || nbd.Exports[0].Create.Code.String() != "2+1" || nbd.Exports[0].Create.Size != 100<<30 ||
		!nbd.Exports[1].ReadOnly || nbd.CacheBytes() != 64<<20 || nbd.ReadAheadBytes() != 4<<20 || nbd.Listen.String() != "unix:/run/btnbd/nbd.sock" ||
		!nbd.Exports[0].Create.Encrypted() || nbd.Exports[0].Create.Sector() != 4096 || nbd.Exports[0].Create.Flushes() ||
		nbd.StateDir != StateDirDefault {
		t.Errorf("btnbd.yaml: %+v", nbd)
	}
	for _, name := range []string{"btnode.yaml", "btnbd.yaml", "client.yaml"} {
		c, err := LoadClient(Source{File: filepath.Join(examples, name)})
		if err != nil {
			t.Errorf("%s as a client's: %v", name, err)
			continue
		}
		if c.Directory() != blocktree.RootPath(c.Root()) || len(c.Cluster.Members) != 3 {
			t.Errorf("%s: %+v", name, c)
		}
	}
	entries, err := os.ReadDir(examples)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		switch e.Name() {
		case "btnode.yaml", "btnbd.yaml", "client.yaml", "btnode.service", "btnbd.service", "btnbd.socket", "btnbd-attach@.service":
		case "prometheus-alerts.yaml": // internal/metrics/metricstest
		default:
			t.Errorf("configs/%s is read by no test", e.Name())
		}
	}
}

// TestFilesystem: who is a filesystem service, and with which key; and that an anonymous client needs no identity, which it then has not.
func TestFilesystem(t *testing.T) {
	text := strings.Replace(example(t, "btnode.yaml"), "transport: auto", "transport: auto\nfilesystem: {readerKey: r.key, anonymous: true}", 1)
	text = strings.Replace(text, "endpoints: [192.0.2.2:7001]", "endpoints: [192.0.2.2:7001]\n      services: [filesystem]", 1)
	file := write(t, text)
	c, err := LoadNode(Source{File: file})
	if err != nil {
		t.Fatal(err)
	}
	if c.Filesystem.ReaderKey != filepath.Join(filepath.Dir(file), "r.key") || !c.Filesystem.Anonymous || !c.Filesystem.KeepsNames() {
		t.Errorf("%+v", c.Filesystem)
	}
	if rs := c.Filesystems(); len(rs) != 1 || rs[0].Path.Short() != "/node2" || len(rs[0].Services) != 1 || rs[0].Services[0] != blocktree.ServiceFilesystem {
		t.Errorf("%+v", rs)
	}
	if rs := c.Runtimes(); len(rs) != 3 || len(rs[1].Services) != 1 || rs[1].Services[0] != blocktree.ServiceSector {
		t.Errorf("sector hosts must prove more than that: %+v", rs)
	}
	client := example(t, "client.yaml")
	for _, line := range []string{"path: /client\n", "  key: client.key\n", "  credentials: client.cred\n"} {
		if !strings.Contains(client, line) {
			t.Fatalf("client.yaml has no %q", line)
		}
		client = strings.Replace(client, line, "", 1)
	}
	client = strings.Replace(client, "identity:\n", "", 1)
	if _, err := LoadClient(Source{File: write(t, client)}); blocktree.KindOf(err) != blocktree.Invalid {
		t.Errorf("without an identity: %v", err)
	}
	for _, text := range []string{client, example(t, "client.yaml")} {
		a, err := LoadAnonymous(Source{File: write(t, text)})
		if err != nil || a.Identity != (Identity{}) || a.Path != "" || len(a.Cluster.Members) != 3 {
			t.Errorf("%+v, %v", a, err)
		}
	}
	for _, x := range [][3]string{
		{"readerKey: r.key, anonymous", "anonymous", "filesystem.readerKey is missing"},
		{"readerKey: r.key, anonymous: true", "keepNames: true", "filesystem.readerKey is missing"},
		{"readerKey: r.key", "readerkey: r.key", `unknown key "filesystem.readerkey"`},
		{"\n      services: [filesystem]", "\n      services: [files]", `there is no service "files"`},
	} {
		_, err := LoadNode(Source{File: write(t, strings.Replace(text, x[0], x[1], 1))})
		if blocktree.KindOf(err) != blocktree.Invalid || !strings.Contains(err.Error(), x[2]) || blocktree.HintOf(err) == "" {
			t.Errorf("%s: %v", x[1], err)
		}
	}
	if c, err := LoadNode(Source{File: write(t, strings.Replace(text, "anonymous: true", "keepNames: false", 1))}); err != nil || c.Filesystem.KeepsNames() {
		t.Errorf("keepNames: false is %+v, %v", c, err)
	}
	withKey := strings.Replace(example(t, "client.yaml"), "transport: auto", "transport: auto\nreaderKey: r.key", 1)
	if c, err := LoadClient(Source{File: write(t, withKey)}); err != nil || filepath.Base(c.ReaderKey) != "r.key" || !filepath.IsAbs(c.ReaderKey) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		file, old, new string
		kind           blocktree.Kind
		text, hint     string
	}{
		{"btnode.yaml", "listen:", "lisen:", blocktree.Invalid, `line 34: unknown key "lisen"`, "did you mean listen?"},
		{"btnode.yaml", "  level: info", "  colour: red", blocktree.Invalid, `unknown key "log.colour"`, "known here: level"},
		{"btnbd.yaml", "    readOnly: true", "    readonly: true", blocktree.Invalid, `unknown key "exports[1].readonly"`, "readOnly"},
		{"btnode.yaml", "version: 1", "version: 2", blocktree.NewerFormat, "version 2, this software reads 1", "install"},
		{"btnode.yaml", "version: 1", "version: one", blocktree.Invalid, "not a version", "version: 1"},
		{"btnode.yaml", "version: 1", "", blocktree.Invalid, "no version", "version: 1"},
		{"btnode.yaml", "path: /node1\n\n", "path: /node9\n\n", blocktree.Invalid, "/node9 is not among", "add"},
		{"btnode.yaml", "path: /node1\n\n", "path: node1\n\n", blocktree.Invalid, "slash", "absolute"},
		{"btnode.yaml", "path: /node1\n\n", "\n", blocktree.Invalid, "path is missing", "/node1"},
		{"btnode.yaml", "0.0.0.0:7001", "0.0.0.0", blocktree.Invalid, "not host:port", "host:port"},
		{"btnode.yaml", "0.0.0.0:7001", "0.0.0.0:0", blocktree.Invalid, "no port", "host:port"},
		{"btnode.yaml", "0.0.0.0:7001", "0.0.0.0:70000", blocktree.Invalid, "no port", "host:port"},
		{"btnode.yaml", "transport: auto", "transport: pigeon", blocktree.Invalid, "pigeon", "quic"},
		{"btnode.yaml", "level: info", "level: loud", blocktree.Invalid, "loud", "debug"},
		{"btnode.yaml", "  id: 5d0c64c7a1b98f13", "  id: 5d0c64c7a1b98f14", blocktree.Invalid, "but cluster.members says", "same id"},
		{"btnode.yaml", "  id: 5d0c64c7a1b98f13", "  id: 0", blocktree.Invalid, "16 hexadecimal", "hexadecimal"},
		{"btnode.yaml", "store: 91ae40d6b7c3522e", "store: c8327bd80f45e69a", blocktree.Invalid, "also that of", "its own"},
		{"btnode.yaml", "192.0.2.2:7001", "192.0.2.1:7001", blocktree.Invalid, "also that of", "its own"},
		{"btnode.yaml", "- path: /node2", "- path: /rack/node2", blocktree.Invalid, "not directly in /", "directly"},
		{"btnode.yaml", "  key: node.key", "", blocktree.Invalid, "identity.key is missing", "secret key"},
		{"btnode.yaml", "root: eb", "root: xb", blocktree.Invalid, "not the id of a principal", "letter e"},
		{"btnode.yaml", "root: e", "Root: e", blocktree.Invalid, "unknown key \"domain.Root\"", "root?"},
		{"btnode.yaml", "transport: auto", "transport: [auto]", blocktree.Invalid, "transport is one value", "one value"},
		{"btnode.yaml", "transport: auto", "transport: &a auto", blocktree.Invalid, "anchors", "write"},
		{"btnode.yaml", "transport: auto", "transport: auto\ntransport: tcp", blocktree.Invalid, "", ""},
		{"btnode.yaml", "transport: auto", "transport: auto\n---\nversion: 1", blocktree.Invalid, "second document", "one"},
		{"btnode.yaml", "  directory: /", "  directory: ''", blocktree.Invalid, "cluster.directory is missing", "/"},
		{"btnbd.yaml", "size: 100GiB", "size: 12parsecs", blocktree.Invalid, "12parsecs", "1GiB"},
		{"btnbd.yaml", "size: 100GiB", "size: 0", blocktree.Invalid, "zero", "1GiB"},
		{"btnbd.yaml", "size: 100GiB", "size: -1G", blocktree.Invalid, "negative", "1GiB"},
		{"btnbd.yaml", "size: 100GiB", "size: 4097", blocktree.Invalid, "not a multiple", "4096"},
		{"btnbd.yaml", "size: 100GiB", "size: 65T", blocktree.TooLarge, "at most", "smaller"},
		{"btnbd.yaml", "code: 2+1", "code: 0+1", blocktree.Invalid, "outside", "16+4"},
		{"btnbd.yaml", "code: 2+1", "code: 200+100", blocktree.Invalid, "outside", "16+4"},
		{"btnbd.yaml", "code: 2+1", "code: 3+1", blocktree.Invalid, "needs 4 nodes", "3 shards"},
		{"btnbd.yaml", "sectorSize: 4KiB", "sectorSize: 3000", blocktree.Invalid, "power of two", "power"},
		{"btnbd.yaml", "encryption: on", "encryption: rot13", blocktree.Invalid, "rot13", "none"},
		{"btnbd.yaml", "durability: ack", "durability: sometimes", blocktree.Invalid, `"sometimes" is neither`, "flush"},
		{"btnbd.yaml", "cache: 64MiB", "cache: much", blocktree.Invalid, "much", "1GiB"},
		{"btnbd.yaml", "insecure: false", "insecure: maybe", blocktree.Invalid, "maybe", "true or false"},
		{"btnbd.yaml", "- path: /images/debian", "- path: /vm/disk0", blocktree.Invalid, "exported twice", "one"},
		{"btnbd.yaml", "unix:/run/btnbd/nbd.sock", "tcp:0.0.0.0:10809", blocktree.Invalid, "reachable from other machines", "--insecure"},
		{"btnbd.yaml", "unix:/run/btnbd/nbd.sock", "carrier-pigeon", blocktree.Invalid, "not an address", "unix:PATH"},
		{"btnbd.yaml", "unix:/run/btnbd/nbd.sock", "unix:/" + strings.Repeat("x", 107), blocktree.Invalid, "108 bytes", "shorter"},
		{"btnbd.yaml", "readerKey: reader.key", "", blocktree.Invalid, "readerKey is missing", "secret key"},
	} {
		text := example(t, tc.file)
		if !strings.Contains(text, tc.old) {
			t.Errorf("%s has no %q", tc.file, tc.old)
			continue
		}
		source := Source{File: write(t, strings.Replace(text, tc.old, tc.new, 1))}
		var err error
		if tc.file == "btnode.yaml" {
			_, err = LoadNode(source)
		} else {
			_, err = LoadNBD(source)
		}
		if blocktree.KindOf(err) != tc.kind || !strings.Contains(err.Error(), tc.text) || !strings.Contains(blocktree.HintOf(err), tc.hint) {
			t.Errorf("%q → %q: kind %v: %v (hint %q)\nwant %v, %q, hint %q", tc.old, tc.new, blocktree.KindOf(err), err,
				blocktree.HintOf(err), tc.kind, tc.text, tc.hint)
		}
	}
}

func TestFileErrors(t *testing.T) {
	for _, tc := range []struct {
		file string
		kind blocktree.Kind
	}{
		{filepath.Join(t.TempDir(), "absent.yaml"), blocktree.NotFound},
		{t.TempDir(), blocktree.IO},
		{write(t, ""), blocktree.Invalid},
		{write(t, "# nothing\n"), blocktree.Invalid},
		{write(t, "- a\n- b\n"), blocktree.Invalid},
		{write(t, "version: 1\n  broken: [\n"), blocktree.Invalid},
		{write(t, "version: 1\n#"+strings.Repeat("x", fileBytesMax)), blocktree.TooLarge},
	} {
		if _, err := LoadNode(Source{File: tc.file}); blocktree.KindOf(err) != tc.kind {
			t.Errorf("%s: %v, want %v", tc.file, err, tc.kind)
		}
	}
}

func TestLayers(t *testing.T) {
	file := write(t, strings.Replace(example(t, "btnbd.yaml"), "unix:/run/btnbd/nbd.sock", "unix:s.sock", 1))
	c, err := LoadNBD(Source{File: file})
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen.String() != "unix:"+filepath.Join(filepath.Dir(file), "s.sock") || c.ReaderKey != filepath.Join(filepath.Dir(file), "reader.key") {
		t.Errorf("names of the file are not relative to it: %q, %q", c.Listen, c.ReaderKey)
	}
	t.Setenv("BT_LOG_LEVEL", "warn")
	t.Setenv("BT_READER_KEY", "other.key")
	t.Setenv("BT_READERS", "a,b")
	t.Setenv("BT_CACHE", "off")
	flags := pflag.NewFlagSet("x", pflag.ContinueOnError)
	flags.String("log-level", "", "")
	flags.String("listen", "", "")
	flags.String("cache", "", "")
	bound := map[string]*pflag.Flag{"log.level": flags.Lookup("log-level"), "listen": flags.Lookup("listen"), "cache": flags.Lookup("cache")}
	if _, err := LoadNBD(Source{File: examples + "/btnbd.yaml", Flags: bound}); err != nil {
		t.Errorf("flags that were not given: %v", err)
	}
	c, err = LoadNBD(Source{File: file, Flags: bound})
	if err != nil {
		t.Fatal(err)
	}
	if c.Log.Level != "warn" || c.ReaderKey != "other.key" || len(c.Readers) != 2 || c.CacheBytes() != 0 || c.ReadAheadBytes() != 0 || len(c.Exports) != 2 {
		t.Errorf("environment: %+v", c)
	}
	if err := flags.Parse([]string{"--log-level=debug", "--listen=tcp:127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	c, err = LoadNBD(Source{File: file, Flags: bound})
	if err != nil {
		t.Fatal(err)
	}
	if c.Log.Level != "debug" || c.Listen.String() != "tcp:127.0.0.1:1" {
		t.Errorf("flags: %+v", c)
	}
	t.Setenv("BT_CACHE", "lots")
	if _, err := LoadNBD(Source{File: file}); blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
		t.Errorf("a senseless variable: %v", err)
	}
}

func TestStoreIDStaysText(t *testing.T) {
	for _, id := range []string{"0012345670123456", "12345678901234e5", "0x12345678901234", "1234567890123456"} {
		text := strings.ReplaceAll(example(t, "btnode.yaml"), "5d0c64c7a1b98f13", id)
		c, err := LoadNode(Source{File: write(t, text)})
		if strings.HasPrefix(id, "0x") {
			if blocktree.KindOf(err) != blocktree.Invalid {
				t.Errorf("store id %s: %v", id, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("store id %s: %v", id, err)
			continue
		}
		if c.Store.ID.String() != id || c.Cluster.Members[0].Store.String() != id {
			t.Errorf("store id %s became %s", id, c.Store.ID)
		}
	}
}

func TestCheckListen(t *testing.T) {
	for _, tc := range []struct {
		listen   string
		insecure bool
		ok       bool
	}{
		{"unix:/a", false, true}, {"unix:", false, false}, {"tcp:127.0.0.1:1", false, true}, {"tcp:[::1]:1", false, true},
		{"tcp:localhost:1", false, true}, {"tcp:0.0.0.0:1", false, false}, {"tcp:0.0.0.0:1", true, true}, {"tcp::1", false, false},
		{"tcp::1", true, true}, {"tcp:example.org:1", false, false}, {"tcp:192.0.2.1:1", false, false}, {"tcp:127.0.0.1", false, false},
		{"tcp:127.0.0.1:0", false, false}, {"udp:127.0.0.1:1", false, false}, {"", false, false},
	} {
		err := CheckListen(tc.listen, tc.insecure)
		if (err == nil) != tc.ok {
			t.Errorf("CheckListen(%q, %v): %v", tc.listen, tc.insecure, err)
		}
		if err != nil && (blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "") {
			t.Errorf("CheckListen(%q): %v has kind %v, hint %q", tc.listen, err, blocktree.KindOf(err), blocktree.HintOf(err))
		}
	}
}

func TestEnvNames(t *testing.T) {
	for key, want := range map[string]string{"log.level": "BT_LOG_LEVEL", "readerKey": "BT_READER_KEY", "listen": "BT_LISTEN", "tls.clientCA": "BT_TLS_CLIENT_CA"} {
		if got := envName(key); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
}

func TestMarshalReadsBack(t *testing.T) {
	nbd, err := LoadNBD(Source{File: examples + "/btnbd.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	text, err := Marshal("made by a test\nof two lines", nbd)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadNBD(Source{File: write(t, string(text))})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if again.Exports[0].Create.Size != nbd.Exports[0].Create.Size || again.Runtimes()[2].Node != nbd.Runtimes()[2].Node ||
		again.Root() != nbd.Root() || again.Cache != nbd.Cache || again.ReadAhead != nbd.ReadAhead {
		t.Errorf("read back %+v", again)
	}
	node, err := LoadNode(Source{File: examples + "/btnode.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	if text, err = Marshal("x", node); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadNode(Source{File: write(t, string(text))}); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
}

// TestSpace: how much a store may take comes from the file or the environment, is written as it is read, and left out where it was.
func TestSpace(t *testing.T) {
	text := strings.Replace(example(t, "btnode.yaml"), "  # space: 150%", "  space: 150%", 1)
	file := write(t, text)
	load := func(file string, want Percent) *Node {
		t.Helper()
		c, err := LoadNode(Source{File: file})
		if err != nil {
			t.Fatal(err)
		}
		if c.Store.Space != want {
			t.Errorf("space %d, want %d", c.Store.Space, want)
		}
		return c
	}
	c := load(file, 150)
	again, err := Marshal("x", c)
	if err != nil {
		t.Fatal(err)
	}
	load(write(t, string(again)), 150)
	if again, err = Marshal("x", load(examples+"/btnode.yaml", 0)); err != nil || strings.Contains(string(again), "space") {
		t.Errorf("%v; what was not given is written:\n%s", err, again)
	}
	for _, bad := range []string{"129%", "301%", "150", "much%"} {
		_, err := LoadNode(Source{File: write(t, strings.Replace(text, "space: 150%", "space: "+bad, 1))})
		if blocktree.KindOf(err) != blocktree.Invalid || !strings.Contains(err.Error(), bad) || !strings.Contains(blocktree.HintOf(err), "from 130 to 300") {
			t.Errorf("%s: %v; %s", bad, err, blocktree.HintOf(err))
		}
	}
	t.Setenv("BT_STORE_SPACE", "200%")
	load(file, 200)
}

func FuzzConfig(f *testing.F) {
	for _, name := range []string{"btnode.yaml", "btnbd.yaml", "client.yaml"} {
		f.Add([]byte(example(f, name)))
	}
	f.Add([]byte("version: 1\nexports: [{path: /a, create: {size: 1G}}]"))
	f.Add([]byte("version: 1\na: &a [*a]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c := new(NBD)
		if err := decode(text, "/d", nil, c); err != nil {
			checkRefusal(t, err)
			return
		}
		if err := c.validate(); err != nil {
			checkRefusal(t, err)
			return
		}
		printed, err := Marshal("fuzz", c)
		if err != nil {
			t.Fatalf("valid, cannot be printed: %v", err)
		}
		again := new(NBD)
		if err := decode(printed, "/d", nil, again); err != nil {
			t.Fatalf("printed, cannot be read: %v\n%s", err, printed)
		}
		if err := again.validate(); err != nil {
			t.Fatalf("printed, is not valid: %v\n%s", err, printed)
		}
	})
}

func checkRefusal(t *testing.T, err error) {
	switch blocktree.KindOf(err) {
	case blocktree.Invalid, blocktree.NewerFormat, blocktree.TooLarge, blocktree.Unsupported:
	default:
		t.Fatalf("kind %v: %v", blocktree.KindOf(err), err)
	}
}

// TestParents: a client's parents may be anywhere but in its cluster, a node's are above it.
func TestParents(t *testing.T) {
	entry := func(path, principal, endpoints string) string {
		return "  parents:\n    - path: " + path + "\n      principal: " + principal + "\n      endpoints: [" + endpoints + "]\n"
	}
	const principal = "ewq6ayfsrinn6xtgrqysjsvgl3jd3shzbp2gkaqhu6k5ybgc3zjda"
	good := entry("/up/n1", principal, "192.0.2.9:1")
	for name, tc := range map[string]struct {
		parents    string
		client, ok bool // ok of a node
	}{
		"another cluster": {good, true, false}, "below": {entry("/x/y/n1", principal, "192.0.2.9:1"), true, false},
		"a member":  {entry("/node9", principal, "192.0.2.9:1"), false, false},
		"no path":   {entry(`""`, principal, "192.0.2.9:1"), false, false},
		"nobody":    {strings.Replace(good, "principal: "+principal, "services: []", 1), false, false},
		"no place":  {entry("/up/n1", principal, ""), false, false},
		"bad place": {entry("/up/n1", principal, "nowhere"), false, false},
		"many":      {strings.Repeat(good, parentsMax+1), false, false},
	} {
		text := func(file string) string {
			whole, err := os.ReadFile("../../configs/" + file)
			if err != nil {
				t.Fatal(err)
			}
			parents := tc.parents
			if n := strings.Count(parents, "  parents:\n"); n > 1 { // one list
				parents = "  parents:\n" + strings.ReplaceAll(parents, "  parents:\n", "")
			}
			return strings.Replace(string(whole), "\n  directory: /\n", "\n  directory: /\n"+parents, 1)
		}
		c, err := LoadClient(Source{File: write(t, text("client.yaml"))})
		if (err == nil) != tc.client {
			t.Errorf("%s: a client: %v", name, err)
		}
		if err != nil && blocktree.HintOf(err) == "" {
			t.Errorf("%s: %v has no hint", name, err)
		}
		if err == nil && (len(c.Parents()) != 1 || c.Parents()[0].Endpoints[0] != "192.0.2.9:1" || c.Parents()[0].Principal.String() != principal) {
			t.Errorf("%s: %v", name, c.Parents())
		}
		if _, err = LoadNode(Source{File: write(t, text("btnode.yaml"))}); (err == nil) != tc.ok {
			t.Errorf("%s: a node of the root's cluster: %v", name, err)
		}
	}
	node, err := os.ReadFile("../../configs/btnode.yaml")
	if err != nil {
		t.Fatal(err)
	}
	below := strings.NewReplacer("\npath: /node1\n", "\npath: /up/lab/node1\n", "path: /node", "path: /up/lab/node", "\n  directory: /\n", "\n  directory: /up/lab\n"+good).Replace(string(node))
	if _, err := LoadNode(Source{File: write(t, below)}); err != nil {
		t.Errorf("a node below: %v", err)
	}
}
