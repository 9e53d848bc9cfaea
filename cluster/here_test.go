package cluster

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
)

// TestSeenStandsBehind: whatever siblings say of where they have reached a member, the addresses that somebody else has given it stay, in their order and before those.
func TestSeenStandsBehind(t *testing.T) {
	for n := 1; n <= hereEndpointsMax+2; n++ {
		var given []string
		for i := range n {
			given = append(given, fmt.Sprintf("10.0.0.%d:7000", i+1))
		}
		stay := given
		if n == hereEndpointsMax {
			stay = given[:n-1]
		}
		has, more := given, 0
		for i := range 100 {
			at := fmt.Sprintf("10.0.9.%d:7000", i)
			next, is := withSeen(has, at)
			if is != (n <= hereEndpointsMax) || is && (next[len(next)-1] != at || len(next) > hereEndpointsMax) {
				t.Fatalf("%d, and %s: %q, %v", n, at, next, is)
			}
			if has = next; !slices.Equal(has[:len(stay)], stay) {
				t.Fatalf("%d were given: %q", n, has)
			}
			if _, is = withSeen(has, at); is {
				more++
			}
		}
		if n <= hereEndpointsMax && more > 0 {
			t.Errorf("%d: what is there is added %d times again", n, more)
		}
	}
	for _, x := range [][2]string{{"10.0.0.1:7000", "node1.example.com:7000"}, {"node1.example.com:7000", "10.0.0.1:7000"}} {
		if got, is := withSeen(x[:1], x[1]); is || !slices.Equal(got, x[:1]) {
			t.Errorf("%q is added to: %q", x[0], got)
		}
	}
}

// TestNoteOfOneNetwork: a sibling has no address of a kind of network noted that it is not in itself.
func TestNoteOfOneNetwork(t *testing.T) {
	for _, x := range []struct {
		at, sibling string
		may         bool
	}{
		{"203.0.113.1:7000", "10.0.0.2:40000", true}, {"10.0.0.1:7000", "10.0.0.2:40000", true}, {"127.0.0.1:7000", "127.0.0.1:40000", true},
		{"10.0.0.1:22", "203.0.113.2:40000", false}, {"127.0.0.1:22", "203.0.113.2:40000", false}, {"127.0.0.1:22", "10.0.0.2:40000", false}, {"[fe80::1]:22", "10.0.0.2:40000", false},
		{"0.0.0.0:7000", "10.0.0.2:40000", false}, {"", "10.0.0.2:40000", false},
	} {
		if got := mayNote(x.at, x.sibling); got != x.may {
			t.Errorf("%q of %s: %v", x.at, x.sibling, got)
		}
	}
}

// FuzzDecodeHere: what a sibling says of where it is is read as it was written, or refused.
func FuzzDecodeHere(f *testing.F) {
	f.Add((&here{port: 7001, at: "192.0.2.1:7001"}).encode())
	f.Add((&here{port: 1}).encode())
	f.Add([]byte{1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHere(b)
		if err != nil {
			return
		}
		if h.port == 0 || len(h.at) > mirrorBytesMax {
			t.Fatalf("%+v", h)
		}
		if again := h.encode(); !bytes.Equal(again, b) {
			t.Fatalf("%x is read, and written as %x", b, again)
		}
	})
}
