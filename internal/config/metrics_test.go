package config

import (
	"path/filepath"
	"strings"
	"testing"

	"blocktree"
)

// TestMetrics: what may be written, and where that is; the same in both files.
func TestMetrics(t *testing.T) {
	for _, x := range []struct {
		listen, insecure string
		want             string // the address, or a part of the error
		kind             blocktree.Kind
	}{
		{"off", "false", "", blocktree.Other},
		{"''", "false", "", blocktree.Other},
		{"9741", "false", "127.0.0.1:9741", blocktree.Other},
		{"':9741'", "false", "127.0.0.1:9741", blocktree.Other},
		{"localhost:9741", "false", "localhost:9741", blocktree.Other},
		{"'[::1]:9741'", "false", "[::1]:9741", blocktree.Other},
		{"unix:m.sock", "false", "unix:DIR/m.sock", blocktree.Other},
		{"unix:/run/m.sock", "false", "unix:/run/m.sock", blocktree.Other},
		{"0.0.0.0:9741", "true", "0.0.0.0:9741", blocktree.Other},
		{"0.0.0.0:9741", "false", "reachable from other machines", blocktree.Invalid},
		{"example.com:9741", "false", "reachable from other machines", blocktree.Invalid},
		{"0", "false", "no port", blocktree.Invalid},
		{"70000", "false", "no port", blocktree.Invalid},
		{"here", "false", "not host:port", blocktree.Invalid},
		{"tcp:127.0.0.1:9741", "false", "not host:port", blocktree.Invalid},
		{"'unix:'", "false", "0 bytes", blocktree.Invalid},
		{"unix:/" + strings.Repeat("x", 107), "false", "108 bytes", blocktree.Invalid},
	} {
		for _, file := range []string{"btnode.yaml", "btnbd.yaml"} {
			text := strings.Replace(example(t, file), "metrics:\n  listen: off\n  insecure: false", "metrics:\n  listen: "+x.listen+"\n  insecure: "+x.insecure, 1)
			name := write(t, text)
			var m Metrics
			var err error
			if file == "btnode.yaml" {
				var c *Node
				if c, err = LoadNode(Source{File: name}); err == nil {
					m = c.Metrics
				}
			} else {
				var c *NBD
				if c, err = LoadNBD(Source{File: name}); err == nil {
					m = c.Metrics
				}
			}
			if x.kind == blocktree.Other {
				if want := strings.ReplaceAll(x.want, "DIR", filepath.Dir(name)); err != nil || m.Listen != want {
					t.Errorf("%s, %s: %q, %v, want %q", file, x.listen, m.Listen, err, want)
				}
			} else if blocktree.KindOf(err) != x.kind || !strings.Contains(err.Error(), x.want) || !strings.Contains(err.Error(), "metrics.listen") || blocktree.HintOf(err) == "" {
				t.Errorf("%s, %s: %v (hint %q), want %q", file, x.listen, err, blocktree.HintOf(err), x.want)
			}
		}
	}
}

// TestMetricsByEnvironment: a variable is enough.
func TestMetricsByEnvironment(t *testing.T) {
	t.Setenv("BT_METRICS_LISTEN", "9999")
	c, err := LoadNode(Source{File: examples + "/btnode.yaml"})
	if err != nil || c.Metrics.Listen != "127.0.0.1:9999" {
		t.Errorf("%+v, %v", c, err)
	}
}
