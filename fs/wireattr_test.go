package fs

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"blocktree"
	"blocktree/cluster"
)

// TestAttrRequestsOutlast: what is asked about attributes, and answered, comes back; what nobody may ask is refused.
func TestAttrRequestsOutlast(t *testing.T) {
	path := testRoot.Join("a")
	for _, r := range []attrRequest{{path: path}, {path: path, name: "user.x", value: "v\x00w", how: SetReplace}, {path: path, value: strings.Repeat("t", blocktree.LinkBytesMax), time: TimeNow}, {path: path, time: -1}, {path: path, name: "user.x", file: blocktree.FileID{Generation: 3, Inode: 9}}} {
		if got, err := decodeAttr(r.encode()); err != nil || got != r {
			t.Errorf("%+v became %+v, %v", r, got, err)
		}
	}
	for name, r := range map[string]attrRequest{"a short path": {path: "/a"}, "not clean": {path: path + "/"}, "a long name": {path: path, name: strings.Repeat("n", blocktree.XattrNameBytesMax+1)},
		"a long value": {path: path, value: strings.Repeat("v", blocktree.XattrsBytesMax+1)}, "a way to set": {path: path, how: setEnd}} {
		if _, err := decodeAttr(r.encode()); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if v, err := decodeXattr(encodeXattr(nil)); err != nil || v == nil || len(v) != 0 {
		t.Errorf("an empty value: %v, %v", v, err)
	}
	if got, err := decodeXattrNames(encodeXattrNames([]string{"user.a", "user.b"})); err != nil || !slices.Equal(got, []string{"user.a", "user.b"}) {
		t.Errorf("%v, %v", got, err)
	}
	_, target := decodeTarget(encodeTarget(""))
	_, long := decodeTarget(encodeTarget(strings.Repeat("t", blocktree.LinkBytesMax+1)))
	_, order := decodeXattrNames(encodeXattrNames([]string{"user.b", "user.a"}))
	_, twice := decodeXattrNames(encodeXattrNames([]string{"user.a", "user.a"}))
	for what, err := range map[string]error{"a link to nothing": target, "a long link": long, "names out of order": order, "a name twice": twice} {
		if err == nil {
			t.Errorf("%s was taken", what)
		}
	}
}

// TestTimesOutlast: a description with a time of change, or of a symbolic link, comes back, in a format that versions before refuse; any other is written as ever.
func TestTimesOutlast(t *testing.T) {
	file := testInfo()
	later, both := file, file
	later.Changed, both.Changed, both.Length = 8, -8, 5
	link := Info{ID: file.ID, Link: true, Mode: 0o777, Modified: 3, Changed: 3, Length: 9}
	for _, i := range []Info{later, both, link, {Dir: true, Modified: 1, Changed: 2}} {
		b := encodeInfo(&i)
		if got, err := decodeInfo(b); err != nil || got != i || b[0] != formatTimes {
			t.Errorf("%+v became %+v, %v", i, got, err)
		}
	}
	for _, wrong := range []Info{{Link: true, Modified: 1, Changed: 1}, {Link: true, Dir: true, Length: 1}, {Link: true, Length: blocktree.LinkBytesMax + 1}} {
		if got, err := decodeInfo(encodeInfo(&wrong)); err == nil {
			t.Errorf("%+v was taken as %+v", wrong, got)
		}
	}
}

// FuzzAttributes: no bytes make a decoder of what is about attributes panic, and what it takes has one encoding.
func FuzzAttributes(f *testing.F) {
	r := attrRequest{path: testRoot.Join("a"), name: "user.x", value: "v", how: SetCreate, time: 7}
	i := testInfo()
	i.Changed = 9
	for _, b := range [][]byte{r.encode(), encodeTarget("../x"), encodeXattr([]byte("v")), encodeXattrNames([]string{"user.a", "user.b"}), encodeInfo(&i), encodeInfo(&Info{Link: true, Length: 3}), Space{FreeBytes: 3, TotalBytes: 4}.Encode(), Space{FreeBytes: 4, TotalBytes: 3}.Encode()} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		same := func(what string, err error, again func() []byte) {
			if err != nil {
				return
			}
			if got := again(); !bytes.Equal(got, b) {
				t.Errorf("%s: %x became %x", what, b, got)
			}
		}
		r, err := decodeAttr(b)
		same("request", err, r.encode)
		target, err := decodeTarget(b)
		same("target", err, func() []byte { return encodeTarget(target) })
		value, err := decodeXattr(b)
		same("value", err, func() []byte { return encodeXattr(value) })
		names, err := decodeXattrNames(b)
		same("names", err, func() []byte { return encodeXattrNames(names) })
		space, err := cluster.DecodeSpace(b)
		same("space", err, space.Encode)
		if err == nil && space.FreeBytes > space.TotalBytes {
			t.Errorf("%+v is possible", space)
		}
		info, err := decodeInfo(b)
		same("info", err, func() []byte { return encodeInfo(&info) })
	})
}
