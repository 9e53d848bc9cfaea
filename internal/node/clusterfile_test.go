package node

import (
	"bytes"
	"reflect"
	"testing"

	"blocktree"
)

func someCluster() clusterOf {
	return clusterOf{directory: "/r/rack1", generation: 3, founder: true, members: []blocktree.Runtime{
		{Path: "/r/rack1/a", Principal: blocktree.PrincipalOf([]byte("a")), Node: 7, Endpoints: []string{"192.0.2.1:7001"}, Services: []string{blocktree.ServiceSector}},
		{Path: "/r/rack1/b", Principal: blocktree.PrincipalOf([]byte("b")), Node: 8, Endpoints: []string{"192.0.2.2:7001", "[::1]:1"}}}}
}

// TestClusterFile: what is written down of a cluster comes back, and one byte that is not as it was is noticed.
func TestClusterFile(t *testing.T) {
	in := someCluster()
	b := in.encode()
	if out, err := decodeCluster(b); err != nil || !reflect.DeepEqual(in, out) {
		t.Errorf("%+v, %v", out, err)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if out, err := decodeCluster(bad); err == nil {
			t.Errorf("byte %d changed: %+v", i, out)
		}
	}
}

func FuzzDecodeCluster(f *testing.F) {
	c := someCluster()
	f.Add(c.encode())
	f.Add((&clusterOf{}).encode())
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := decodeCluster(bytes.Clone(in))
		if err != nil {
			return
		}
		if out := c.encode(); !bytes.Equal(in, out) {
			t.Fatalf("%x came back as %x", in, out)
		}
	})
}
