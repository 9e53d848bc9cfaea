package config

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"blocktree"
)

const (
	socketLine = "listen: unix:/run/btnbd/nbd.sock\n"
	tlsSection = "tls: {certificate: server-cert.pem, key: server-key.pem, clientCA: /etc/ca.pem}\n"
	aPrincipal = "ewq6ayfsrinn6xtgrqysjsvgl3jd3shzbp2gkaqhu6k5ybgc3zjda"
	aPrint     = "sha256:AA:BB:cc:dd:ee:ff:00:11:22:33:44:55:66:77:88:99:AA:BB:cc:dd:ee:ff:00:11:22:33:44:55:66:77:88:99"
)

// variant is the example without what it says of listeners, TLS, control and on demand, and with other lines in that place; and with others below its
// first export.
func variant(t *testing.T, top, below string) string {
	t.Helper()
	var b strings.Builder
	skip := false
	for line := range strings.Lines(example(t, "btnbd.yaml")) {
		if line[0] != ' ' && line[0] != '#' && line[0] != '\n' {
			skip = false
			for _, key := range []string{"listen:", "tls:", "control:", "onDemand:"} {
				skip = skip || strings.HasPrefix(line, key)
			}
			if strings.HasPrefix(line, "listen:") {
				b.WriteString(top)
			}
		}
		if !skip {
			b.WriteString(line)
		}
		if strings.HasPrefix(line, "  - path: /vm/disk0") {
			b.WriteString(below)
		}
	}
	return b.String()
}

func TestListeners(t *testing.T) {
	for _, x := range []struct {
		top, want string // listeners, "(tls)" behind those that require it, and the control socket
	}{
		{socketLine, "unix:/run/btnbd/nbd.sock /run/btnbd/nbd.sock.control"},
		{"listen: plain+unix:s\n", "unix:DIR/s DIR/s.control"},
		{"listen: [unix:s, tcp:127.0.0.1:1]\ncontrol: off\n", "unix:DIR/s tcp:127.0.0.1:1 "},
		{"listen:\n  - tcp:127.0.0.1:1\n", "tcp:127.0.0.1:1 "},
		{"listen:\n  - tcp:127.0.0.1:1\ncontrol: c\n", "tcp:127.0.0.1:1 DIR/c"},
		{"listen: [plain+unix:s, tcp:0.0.0.0:1]\n" + tlsSection, "unix:DIR/s tcp:0.0.0.0:1(tls) DIR/s.control"},
		{"listen: [unix:s, tls+tcp:0.0.0.0:1]\n" + strings.Replace(tlsSection, "}", ", mode: off}", 1), "unix:DIR/s tcp:0.0.0.0:1(tls) DIR/s.control"},
		{"listen: tls+unix:s\n" + strings.Replace(tlsSection, "}", ", mode: off, clientCertificates: optional}", 1), "unix:DIR/s(tls) DIR/s.control"},
	} {
		file := write(t, variant(t, x.top, ""))
		n, err := LoadNBD(Source{File: file})
		if err != nil {
			t.Errorf("%s: %v", x.top, err)
			continue
		}
		got := ""
		for _, l := range n.Listeners() {
			got += l.Address
			if l.TLS {
				got += "(tls)"
			}
			got += " "
		}
		if got += n.ControlSocket(); strings.ReplaceAll(got, filepath.Dir(file), "DIR") != x.want {
			t.Errorf("%s: %s, want %s", x.top, got, x.want)
		}
		if n.TLS != (TLS{}) && (n.TLS.Key != filepath.Join(filepath.Dir(file), "server-key.pem") || n.TLS.ClientCA != "/etc/ca.pem") {
			t.Errorf("%+v", n.TLS)
		}
		if _, err := LoadClient(Source{File: file}); err != nil {
			t.Errorf("%s as a client's: %v", x.top, err)
		}
		text, err := Marshal("x", n)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := LoadNBD(Source{File: write(t, string(text))}); err != nil || fmt.Sprint(again.Listeners()) != fmt.Sprint(n.Listeners()) {
			t.Errorf("printed: %v\n%s", err, text)
		}
	}
	t.Setenv("BT_LISTEN", "unix:/x,y")
	n, err := LoadNBD(Source{File: write(t, variant(t, "listen: [unix:s, tcp:127.0.0.1:1]\n", ""))})
	if err != nil || len(n.Listen) != 1 || n.Listen[0] != "unix:/x,y" {
		t.Errorf("from the environment: %v, %v", n.Listen, err)
	}
}

func TestClientsAndOnDemand(t *testing.T) {
	top := "listen: tcp:0.0.0.0:1\n" + tlsSection + "onDemand:\n  below: /vm\n  clients: [{certificate: " + aPrincipal + "}]\n"
	n, err := LoadNBD(Source{File: write(t, variant(t, top, "    clients:\n      - certificate: "+aPrincipal+"\n        access: read\n      - certificate: "+aPrint+"\n"))})
	if err != nil {
		t.Fatal(err)
	}
	list := n.Exports[0].Clients
	if len(list) != 2 || list[0].Writes() || !list[1].Writes() || list[0].Certificate.String() != aPrincipal || list[1].Certificate.Fingerprint[1] != 0xbb {
		t.Errorf("%+v", list)
	}
	if o := n.OnDemand; o.Open != 64 || o.Linger.Duration != 30*time.Second || !o.Encrypted() || o.ReadOnly || !o.Clients[0].Writes() {
		t.Errorf("%+v", o)
	}
	text, err := Marshal("x", n)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := LoadNBD(Source{File: write(t, string(text))}); err != nil || again.Exports[0].Clients[1] != list[1] {
		t.Errorf("printed: %v\n%s", err, text)
	}
}

func TestNBDRefusals(t *testing.T) {
	secure := "listen: tcp:0.0.0.0:1\n" + tlsSection
	clients := func(list string) string { return "    clients: " + list + "\n" }
	for _, x := range []struct{ top, below, text, hint string }{
		{"listen: []\n", "", "listen is missing", "unix:PATH"},
		{"listen: ['']\n", "", "listen is missing", "unix:PATH"},
		{"listen: {a: b}\n", "", "listen is a list", ""},
		{"listen: [unix:/a, unix:/a]\n", "", "unix:/a is there twice", "one"},
		{"listen: [" + strings.Repeat("unix:/a, ", 17) + "]\n", "", "17 addresses", "fewer"},
		{"listen: tls+unix:/a\n", "", "tls is missing", "tls+"},
		{"listen: tls-unix:/a\n", "", "not an address", "unix:PATH"},
		{secure + "control: /" + strings.Repeat("x", 107) + "\n", "", "control: the name of the socket has 108 bytes", "shorter"},
		{"listen: plain+tcp:0.0.0.0:1\n" + tlsSection, "", "reachable from other machines", "--insecure"},
		{strings.Replace(secure, "}", ", clientCertificates: optional}", 1), "", "reachable from other machines", "--insecure"},
		{strings.Replace(secure, "clientCA: /etc/ca.pem", "clientCertificates: none", 1), "", "reachable from other machines", "--insecure"},
		{strings.Replace(secure, "}", ", mode: off}", 1), "", "reachable from other machines", "tls: section"},
		{strings.Replace(secure, "}", ", mode: maybe}", 1), "", `tls.mode: "maybe"`, "require or off"},
		{strings.Replace(secure, "}", ", clientCertificates: some}", 1), "", `tls.clientCertificates: "some"`, "optional"},
		{strings.Replace(secure, "}", ", clientCertificates: none}", 1), "", "tls.clientCA is given", "one"},
		{strings.Replace(secure, ", clientCA: /etc/ca.pem", "", 1), "", "tls.clientCA is missing", "none"},
		{strings.Replace(secure, "key: server-key.pem, ", "", 1), "", "tls.key is missing", "btnbd certificate"},
		{strings.Replace(secure, "certificate: server-cert.pem, ", "", 1), "", "tls.certificate is missing", "btnbd certificate"},
		{strings.Replace(secure, "}", ", colour: red}", 1), "", `unknown key "tls.colour"`, "known here"},
		{socketLine, clients("[{certificate: " + aPrincipal + "}]"), "nobody can prove", "tls: section"},
		{socketLine + "onDemand: {below: /vm, clients: [{certificate: " + aPrincipal + "}]}\n", "", "onDemand.clients: nobody can prove", "tls: section"},
		{secure, clients("[{access: read}]"), "exports[0].clients[0].certificate is missing", "sha256:"},
		{secure, clients("[{certificate: me}]"), `"me" is not the id of a principal`, "sha256:"},
		{secure, clients("[{certificate: 'sha256:aabb'}]"), "not the fingerprint", "openssl"},
		{secure, clients("[{certificate: 'sha256:" + strings.Repeat("00", 32) + "'}]"), "no certificate's", "openssl"},
		{secure, clients("[{certificate: " + aPrincipal + ", access: all}]"), `access: "all"`, "read or write"},
		{secure, clients("[{certificate: " + aPrincipal + "}, {certificate: " + aPrincipal + ", access: read}]"), "is there twice", "one"},
		{socketLine + "onDemand: {readOnly: true}\n", "", "below is missing", "/vm"},
		{socketLine + "onDemand: {below: vm}\n", "", "slash", "absolute"},
		{socketLine + "onDemand: {below: /vm, open: 9999}\n", "", "open: 9999", "at a time"},
		{socketLine + "onDemand: {below: /vm, open: -1}\n", "", "open: -1", "at a time"},
		{socketLine + "onDemand: {below: /vm, linger: 2h}\n", "", "linger: 2h", "30s"},
		{socketLine + "onDemand: {below: /vm, encryption: rot13}\n", "", "rot13", "none"},
	} {
		_, err := LoadNBD(Source{File: write(t, variant(t, x.top, x.below))})
		if err == nil || blocktree.KindOf(err) != blocktree.Invalid || !strings.Contains(err.Error(), x.text) || !strings.Contains(blocktree.HintOf(err), x.hint) {
			t.Errorf("%s%s: %v (hint %q)\nwant %q, hint %q", x.top, x.below, err, blocktree.HintOf(err), x.text, x.hint)
		}
	}
}

// TestReadAheadIsAPartOfTheCache: at most half of it, a sixteenth unless it is said, and nothing without one.
func TestReadAheadIsAPartOfTheCache(t *testing.T) {
	text := strings.Replace(strings.Replace(example(t, "btnbd.yaml"), "cache: 64MiB\n", "", 1), "readAhead: 4MiB\n", "", 1)
	for _, x := range []struct {
		keys string
		want int64
		text string // of the error
		hint string
	}{
		{"", 4 << 20, "", ""},
		{"cache: 1GiB\n", 16 << 20, "", ""},
		{"cache: 8MiB\n", 512 << 10, "", ""},
		{"cache: 8MiB\nreadAhead: 4MiB\n", 4 << 20, "", ""},
		{"readAhead: off\n", 0, "", ""},
		{"cache: off\n", 0, "", ""},
		{"cache: off\nreadAhead: 16MiB\n", 0, "", ""}, // --cache off beside a configuration that has it
		{"readAhead: 33MiB\n", 0, "more than half of the cache of 64MiB", "readAhead: off"},
		{"cache: 16MiB\nreadAhead: 16MiB\n", 0, "more than half of the cache of 16MiB", "cache larger"},
		{"readAhead: far\n", 0, "far", "1GiB"},
	} {
		n, err := LoadNBD(Source{File: write(t, text+x.keys)})
		switch {
		case x.text == "" && (err != nil || n.ReadAheadBytes() != x.want):
			t.Errorf("%q: %v, %+v", x.keys, err, n)
		case x.text != "" && (blocktree.KindOf(err) != blocktree.Invalid || !strings.Contains(err.Error(), x.text) || !strings.Contains(blocktree.HintOf(err), x.hint)):
			t.Errorf("%q: %v (%s)", x.keys, err, blocktree.HintOf(err))
		}
	}
}
