package node

import (
	"bytes"
	"slices"
	"testing"
)

// TestAdvertisedComesBack: what was written down is read, and nothing that is damaged.
func TestAdvertisedComesBack(t *testing.T) {
	want := []string{"10.0.0.1:7000", "node1.example.com:7000"}
	b := encodeAdvertised(want)
	if got, err := decodeAdvertised(b); err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 1
		if _, err := decodeAdvertised(c); err == nil {
			t.Errorf("byte %d changed, accepted", i)
		}
		if _, err := decodeAdvertised(b[:i]); err == nil {
			t.Errorf("%d bytes, accepted", i)
		}
	}
}

// TestMoved: addresses of before at the beginning of a record are replaced, what a node was seen at stays behind them, and what somebody gave it stays as it is.
func TestMoved(t *testing.T) {
	a, b, c, name := "10.0.0.1:7000", "10.0.0.2:7000", "10.0.0.3:7000", "node1.example.com:7000"
	for _, x := range []struct {
		what                string
		has, was, now, want []string // nil: it stays
	}{
		{"as it was", []string{a}, []string{a}, []string{b}, []string{b}},
		{"as it is", []string{b}, []string{a}, []string{b}, []string{b}},
		{"seen elsewhere", []string{a, c}, []string{a}, []string{b}, []string{b, c}},
		{"seen there already", []string{a, b}, []string{a}, []string{b}, []string{b}},
		{"done, and seen elsewhere", []string{b, c}, []string{a}, []string{b}, []string{b, c}},
		{"two before", []string{a, b, c}, []string{a, b}, []string{b}, []string{b, c}},
		{"one less", []string{a, b}, []string{a, b}, []string{a}, []string{a}},
		{"one more", []string{a}, []string{a}, []string{a, b}, []string{a, b}},
		{"one more, done", []string{a, b, c}, []string{a}, []string{a, b}, []string{a, b, c}},
		{"a name more, done", []string{a, name}, []string{a}, []string{a, name}, []string{a, name}},
		{"another one first", []string{c, a}, []string{a}, []string{b}, nil},
		{"a name behind", []string{a, name}, []string{a}, []string{b}, nil},
		{"none of before", []string{a}, nil, []string{b}, nil},
		{"nothing", nil, []string{a}, []string{b}, nil},
	} {
		if got, ok := moved(x.has, x.was, x.now); ok != (x.want != nil) || ok && !slices.Equal(got, x.want) {
			t.Errorf("%s: %q, %v", x.what, got, ok)
		}
	}
}

// TestAddresses: where a node listens everywhere, nothing is said of where it is found.
func TestAddresses(t *testing.T) {
	for listen, want := range map[string]int{"10.0.0.1:7001": 1, "host.example:7001": 1, "[2001:db8::1]:7001": 1, "0.0.0.0:7001": 0, "[::]:7001": 0, ":7001": 0, "[::ffff:0.0.0.0]:7001": 0} {
		c := Config{Listen: listen, known: &clusterOf{}}
		if got := c.addresses(); len(got) != want {
			t.Errorf("%s: %q", listen, got)
		}
	}
}
