package config

import (
	"strings"
	"testing"

	"blocktree"
)

// TestSeedsInsteadOfMembers: a node of a directory below the root, and a client, may name nodes of the root directory instead of members; a node of the root directory may not.
func TestSeedsInsteadOfMembers(t *testing.T) {
	base := `version: 1
path: /rack1/a
domain:
  root: ebxlt6ry7dyzu3mgyjbmxclsqdo43qr7pmopw4lxlgosjg2zfdreq
  seeds:
    - path: /node1
      principal: ewq6ayfsrinn6xtgrqysjsvgl3jd3shzbp2gkaqhu6k5ybgc3zjda
      store: 5d0c64c7a1b98f13
      endpoints: [192.0.2.1:7001]
identity:
  key: node.key
  credentials: node.cred
cluster:
  directory: /rack1
`
	node := base + "listen: 0.0.0.0:7001\nstore:\n  dir: store\n  id: 00c0ffee00c0ffee\n"
	n, err := LoadNode(Source{File: write(t, node)})
	if err != nil {
		t.Fatal(err)
	}
	if seeds := n.Seeds(); len(seeds) != 1 || seeds[0].Node == 0 || seeds[0].Path.Short() != "/node1" || len(n.Runtimes()) != 0 {
		t.Errorf("%+v", seeds)
	}
	if _, err := LoadClient(Source{File: write(t, base)}); err != nil {
		t.Error(err)
	}
	for what, x := range map[string][2]string{
		"neither":                  {"  seeds:", "  seeds: []\nnone:"},
		"in the root directory":    {"directory: /rack1", "directory: /"},
		"not in its directory":     {"path: /rack1/a", "path: /rack2/a"},
		"seed below the root":      {"path: /node1", "path: /rack9/node1"},
		"seed without an endpoint": {"endpoints: [192.0.2.1:7001]", "endpoints: []"},
	} {
		if !strings.Contains(node, x[0]) {
			t.Fatalf("%s: no %q", what, x[0])
		}
		if _, err := LoadNode(Source{File: write(t, strings.Replace(node, x[0], x[1], 1))}); blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
			t.Errorf("%s: %v", what, err)
		}
	}
}
