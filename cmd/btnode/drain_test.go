package main

import (
	"strings"
	"testing"

	"blocktree"
	"blocktree/cluster"
	"blocktree/crypto/cred"
)

// TestDrainStands: a drain is over when the node has no places left, whatever else is wrong with the cluster; while some are left, what may
// keep them is named.
func TestDrainStands(t *testing.T) {
	key, err := cred.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	path := blocktree.RootPath(key.Principal()).Join("node2")
	file := func(path string, inSync int) cluster.FileStatus {
		return cluster.FileStatus{Path: path, Code: "2+1", InSync: inSync}
	}
	node := func(d *cluster.DrainStatus) []cluster.NodeStatus {
		return []cluster.NodeStatus{{Path: "/node1"}, {Path: "/node2", Drain: d}}
	}
	for _, x := range []struct {
		name  string
		s     cluster.Status
		left  int // places; -1: not known
		waits []string
		ended bool
	}{
		{"it goes on", cluster.Status{Health: cluster.HealthOK, Nodes: node(&cluster.DrainStatus{Places: 3}), Files: []cluster.FileStatus{file("/a", 3)}}, 3, nil, false},
		{"done", cluster.Status{Health: cluster.HealthOK, Nodes: node(&cluster.DrainStatus{})}, 0, nil, false},
		{"done beside a file that is unavailable", cluster.Status{Health: cluster.HealthUnavailable, Nodes: node(&cluster.DrainStatus{}),
			Files: []cluster.FileStatus{file("/a", 1)}}, 0, nil, false},
		{"a file is unavailable", cluster.Status{Health: cluster.HealthUnavailable, Nodes: node(&cluster.DrainStatus{Places: 3}),
			Files: []cluster.FileStatus{file("/a", 3), file("/b", 1)}}, 3, []string{"/b: unavailable", "cannot move"}, false},
		{"two files are unavailable", cluster.Status{Health: cluster.HealthUnavailable, Nodes: node(&cluster.DrainStatus{Places: 3}),
			Files: []cluster.FileStatus{file("/a", 0), file("/b", 1), file("/c", 2)}}, 3, []string{"/a and 1 other file: unavailable"}, false},
		{"no majority", cluster.Status{Health: cluster.HealthUnavailable, FilesUnknown: true, Nodes: node(nil)}, -1, []string{"a majority of the nodes"}, false},
		{"ended", cluster.Status{Health: cluster.HealthOK, Nodes: node(nil)}, -1, nil, true},
		{"ended beside a file that is unavailable", cluster.Status{Health: cluster.HealthUnavailable, Nodes: node(nil),
			Files: []cluster.FileStatus{file("/a", 1)}}, -1, nil, true},
		{"removed", cluster.Status{Health: cluster.HealthDegraded, Nodes: node(nil)[:1]}, -1, nil, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			d, waits, err := drainStands(&x.s, path)
			left := -1
			if d != nil {
				left = d.Places
			}
			if left != x.left || (err != nil) != x.ended || err != nil && (blocktree.KindOf(err) != blocktree.Canceled || blocktree.HintOf(err) == "") {
				t.Errorf("%d places left, %v", left, err)
			}
			if (waits != "") != (len(x.waits) > 0) {
				t.Errorf("it waits: %q", waits)
			}
			for _, part := range x.waits {
				if !strings.Contains(waits, part) {
					t.Errorf("%q does not say %q", waits, part)
				}
			}
		})
	}
}
