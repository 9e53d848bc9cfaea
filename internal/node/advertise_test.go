package node

import (
	"bytes"
	"slices"
	"strings"
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

// TestFollow: a record follows the configuration if it has what that had, whatever the node has put behind it; any other stays.
func TestFollow(t *testing.T) {
	list := func(s string) []string { return strings.Split(s, " ") }
	for _, x := range []struct{ record, was, now, want string }{
		{"a", "a", "b", "b"},
		{"a b", "a b", "c", "c"},
		{"a x", "a", "b", "b x"},
		{"a b", "a", "b", "b"}, // a sibling was faster
		{"a b x", "a b", "b c", "b c x"},
		{"b", "a", "b", "b"},
		{"b x", "a", "b", "b x"},
		{"y", "a", "b", ""},
		{"y a", "a", "b", ""},
		{"a", "a b", "c", ""},
		{"a 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15", "a", "b c", "b c 1 2 3 4 5 6 7 8 9 10 11 12 13 14"},
	} {
		if got := strings.Join(follow(list(x.record), list(x.was), list(x.now)), " "); got != x.want {
			t.Errorf("%q, as %q became %q: %q, want %q", x.record, x.was, x.now, got, x.want)
		}
	}
}

func FuzzDecodeAdvertised(f *testing.F) {
	f.Add(encodeAdvertised([]string{"a:1", "b:2"}))
	f.Fuzz(func(t *testing.T, in []byte) {
		a, err := decodeAdvertised(in)
		if err == nil && !bytes.Equal(encodeAdvertised(a), in) {
			t.Fatalf("encode(decode(x)) is not x for %x", in)
		}
	})
}
