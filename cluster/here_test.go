package cluster

import (
	"bytes"
	"strings"
	"testing"
)

// TestWithSeen: where a member was seen stands behind what somebody has written, of which nothing is lost, and the oldest such goes.
func TestWithSeen(t *testing.T) {
	list := strings.Fields
	for _, x := range []struct{ record, given, want string }{
		{"a", "a", "a x"},
		{"a 1 2 3", "a", "a 2 3 x"},
		{"a b c d", "a b c d", "a b c d x"},
		{"a b c d 1 2 3", "a b c d", "a b c d 2 3 x"},
		{"a 1 2 3", "b", "a 2 3 x"}, // the record is another's by now
		{"a 1 2 3", "", "a 2 3 x"},
		{"a", "a b", "a x"},
		{"1 2 3 4 5 6 7 8 9 10 11 12 13 14 15", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 x"},
		{"1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16", ""},
	} {
		if got := strings.Join(withSeen(list(x.record), list(x.given), "x"), " "); got != x.want {
			t.Errorf("%q, given %q: %q, want %q", x.record, x.given, got, x.want)
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

// TestSeenAbove: what was seen stands behind what somebody has written above, of which nothing is lost, also where the member was started with other addresses than those.
func TestSeenAbove(t *testing.T) {
	list := strings.Fields
	for _, x := range []struct{ record, given, want string }{
		{"1.1.1.1:1", "1.1.1.1:1", "1.1.1.1:1 9.9.9.9:9"},
		{"1.1.1.1:1 2.2.2.2:2", "1.1.1.1:1 2.2.2.2:2 3.3.3.3:3", "1.1.1.1:1 2.2.2.2:2 9.9.9.9:9"},
		{"1.1.1.1:1 2.2.2.2:2 3.3.3.3:3 4.4.4.4:4", "1.1.1.1:1", "1.1.1.1:1 3.3.3.3:3 4.4.4.4:4 9.9.9.9:9"},
		{"1.1.1.1:1 2.2.2.2:2 3.3.3.3:3 4.4.4.4:4", "1.1.1.1:1 2.2.2.2:2", "1.1.1.1:1 2.2.2.2:2 3.3.3.3:3 4.4.4.4:4 9.9.9.9:9"},
		{"1.1.1.1:1", "", "1.1.1.1:1 9.9.9.9:9"},
		{"1.1.1.1:1 9.9.9.9:9", "1.1.1.1:1", ""},
		{"node.example:1", "node.example:1", ""},
		{"1.1.1.1:1 node.example:1", "1.1.1.1:1", ""},
	} {
		if got := strings.Join(seenAbove(list(x.record), list(x.given), "9.9.9.9:9"), " "); got != x.want {
			t.Errorf("%q, given %q: %q, want %q", x.record, x.given, got, x.want)
		}
	}
}
