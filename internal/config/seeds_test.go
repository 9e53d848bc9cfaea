package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"blocktree"
)

const seed = `  seeds:
    - path: /node1
      principal: ewq6ayfsrinn6xtgrqysjsvgl3jd3shzbp2gkaqhu6k5ybgc3zjda
      store: 5d0c64c7a1b98f13
      endpoints: [192.0.2.1:7001]
`

func withDomain(t *testing.T, more string) Source {
	return Source{File: write(t, strings.Replace(example(t, "client.yaml"), "  name: example\n", "  name: example\n"+more, 1))}
}

func TestSeedsAndDNS(t *testing.T) {
	c, err := LoadClient(withDomain(t, seed))
	if err != nil || !reflect.DeepEqual(c.Seeds(), c.Runtimes()[:1]) || c.Domain.DNS != (DNS{}) {
		t.Errorf("%+v, %v", c, err)
	}
	for _, x := range []struct {
		more string
		want DNS
	}{
		{"", DNS{}},
		{"  dns:\n    name: example.net\n", DNS{Name: "example.net"}},
		{"  dns: {name: _x.Example-1.net., server: \"192.0.2.53:53\"}\n", DNS{Name: "_x.Example-1.net.", Server: "192.0.2.53:53"}},
	} {
		c, err := LoadClient(withDomain(t, x.more))
		if err != nil || c.Domain.DNS != x.want || len(c.Seeds()) != 0 {
			t.Errorf("%q: %+v, %v", x.more, c, err)
		}
	}
}

func TestSeedsAndDNSRefused(t *testing.T) {
	var many strings.Builder
	many.WriteString("  seeds:\n")
	for i := range blocktree.SeedsMax + 1 {
		fmt.Fprintf(&many, "    - {path: /n%d}\n", i)
	}
	for _, x := range []struct{ more, text, hint string }{
		{seed + "  dns: {name: example.net}\n", "in one way", "leave one"},
		{seed + seed[strings.Index(seed, "    -"):], "also that of", "its own"},
		{strings.Replace(seed, "/node1", "/rack/node1", 1), "not directly in /", "directly"},
		{strings.Replace(seed, "      endpoints: [192.0.2.1:7001]\n", "", 1), "domain.seeds[0].endpoints", "host:port"},
		{many.String(), "at most 32", "a few"},
		{"  dns: {server: \"192.0.2.53:53\"}\n", "domain.dns.name is missing", "SRV"},
		{"  dns: {name: example.net, server: 192.0.2.53}\n", "domain.dns.server", "host:port"},
		{"  dns: {name: example.net, sever: \"192.0.2.53:53\"}\n", "unknown key \"domain.dns.sever\"", "server?"},
		{"  dns: {name: \"example..net\"}\n", "not a name of DNS", "SRV"},
		{"  dns: {name: \"exa mple.net\"}\n", "not a name of DNS", "SRV"},
		{"  dns: {name: " + strings.Repeat("x", 64) + ".net}\n", "not a name of DNS", "SRV"},
		{"  dns: {name: " + strings.Repeat("x.", 119) + "net}\n", "at most 237", "SRV"},
	} {
		_, err := LoadClient(withDomain(t, x.more))
		if blocktree.KindOf(err) != blocktree.Invalid || !strings.Contains(err.Error(), x.text) || !strings.Contains(blocktree.HintOf(err), x.hint) {
			t.Errorf("%s: %v (hint %q)", x.more, err, blocktree.HintOf(err))
		}
	}
}
