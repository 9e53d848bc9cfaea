package nbd

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"blocktree/blockdev"
	"blocktree/blockdev/memfile"

	"blocktree"
)

// TestExtendedLengths: lengths of more than 32 bits, where there is that much.
func TestExtendedLengths(t *testing.T) {
	const bytes = 1 << 40
	b := newBed(t, setup{file: memfile.Options{Info: blocktree.FileInfo{SizeBytes: bytes}}})
	c := b.attachAs(extended)
	for _, x := range []struct {
		command        uint16
		offset, length uint64
		errno          uint32
	}{
		{cmdTrim, 4096, bytes - 4096, 0}, {cmdWriteZeroes, 1, bytes - 1, 0}, {cmdCache, 0, bytes, 0},
		{cmdRead, 0, 1 << 33, 75}, {cmdRead, 0, math.MaxUint64, 75}, {cmdRead, 1 << 63, 1 << 20, 22},
		{cmdTrim, 1, bytes, 22}, {cmdWriteZeroes, 1, bytes, 28}, {cmdCache, 1, bytes, 22}, {cmdBlockStatus, 1, bytes, 22},
		{cmdTrim, bytes, math.MaxUint64, 22}, {cmdWriteZeroes, 4096, math.MaxUint64 - 4095, 28}, {cmdBlockStatus, 4096, math.MaxUint64 - 4095, 22},
		{99, 0, math.MaxUint64, 22}, {cmdFlush, 0, 1 << 40, 22},
	} {
		if a := c.exchange(x.command, 0, x.offset, x.length, nil); a.errno != x.errno {
			t.Errorf("command %d, %d bytes at %d: error %d, want %d", x.command, x.length, x.offset, a.errno, x.errno)
		}
		c.inSync()
	}
	a := c.exchange(cmdBlockStatus, 0, 1, bytes-1, nil)
	if want := []blockdev.Extent{{Bytes: bytes - 1, Zero: true}}; !slices.Equal(a.extents, want) {
		t.Fatalf("%v", a.extents)
	}
}

// TestExtendedPayloads: a payload comes only where a flag says so, and is consumed whatever comes of it, unless it is longer
// than any may be.
func TestExtendedPayloads(t *testing.T) {
	b := newBed(t, setup{})
	c := b.attachAs(extended)
	raw := func(kind, flags uint16, length uint64, payload []byte) uint32 {
		t.Helper()
		c.send(append(encodeExtended(nil, command{kind: kind, flags: flags, handle: 9, length: length}), payload...))
		return c.answer(9, kind, flags, 0, length).errno
	}
	const told = cmdFlagPayloadLen
	if got := raw(cmdWrite, 0, 4096, nil); got != nbdEINVAL {
		t.Errorf("a write without a payload: error %d", got)
	}
	if got := raw(cmdWrite, told, 0, nil); got != 0 {
		t.Errorf("a write of nothing: error %d", got)
	}
	for _, kind := range []uint16{cmdRead, cmdFlush, cmdTrim, cmdWriteZeroes, cmdCache, 99} {
		for _, n := range []int{1, 5000, 200000} {
			if got := raw(kind, told, uint64(n), make([]byte, n)); got != nbdEINVAL {
				t.Errorf("command %d with a payload of %d: error %d", kind, n, got)
			}
			c.inSync()
		}
	}
	status := func(length uint64, ids ...uint32) []byte {
		p := binary.BigEndian.AppendUint64(nil, length)
		for _, id := range ids {
			p = binary.BigEndian.AppendUint32(p, id)
		}
		return p
	}
	for _, x := range []struct {
		name    string
		flags   uint16
		payload []byte
		errno   uint32
	}{
		{"the context", 0, status(8192, 1), 0},
		{"one extent", cmdFlagReqOne, status(8192, 1), 0},
		{"too far", 0, status(size+1, 1), 22}, {"nothing", 0, status(0, 1), 22},
		{"unknown context", 0, status(8192, 2), 22}, {"no context", 0, status(8192), 22},
		{"twice", 0, status(8192, 1, 1), 22}, {"two", 0, status(8192, 1, 2), 22},
		{"short", 0, make([]byte, 7), 22}, {"ragged", 0, make([]byte, 13), 22}, {"a MiB", 0, make([]byte, mib), 22},
	} {
		c.send(append(encodeExtended(nil, command{kind: cmdBlockStatus, flags: told | x.flags, handle: 9, length: uint64(len(x.payload))}), x.payload...))
		a := c.answer(9, cmdBlockStatus, x.flags, 0, 8192)
		if a.errno != x.errno || x.errno == 0 && !slices.Equal(a.extents, []blockdev.Extent{{Bytes: 8192, Zero: true}}) {
			t.Errorf("%s: error %d, %v", x.name, a.errno, a.extents)
		}
		c.inSync()
	}
	if got := raw(cmdBlockStatus, told, 0, nil); got != nbdEINVAL {
		t.Errorf("an empty payload: error %d", got)
	}

	for _, kind := range []uint16{cmdWrite, cmdBlockStatus, 99} { // what was begun before is answered
		c := b.attachAs(extended)
		c.send(c.request(cmdRead, 0, 1, 0, 100, nil))
		c.send(encodeExtended(nil, command{kind: kind, flags: told, handle: 2, length: 32*mib + 1}))
		if a := c.answer(1, cmdRead, 0, 0, 100); a.errno != 0 {
			t.Errorf("error %d", a.errno)
		}
		c.closed()
	}
}

// TestStatusNeedsItsContext: BLOCK_STATUS only where the context was chosen for the export that was.
func TestStatusNeedsItsContext(t *testing.T) {
	b := newBed(t, setup{})
	b.export(blockdev.Export{Name: "/other", Device: b.dev})
	query := func(name string, queries ...string) []byte { return metaQuery{name, queries}.encode() }
	for _, x := range []struct {
		name string
		ask  func(c *client)
		may  bool
	}{
		{"chosen", func(*client) {}, true},
		{"chosen without a slash", func(c *client) { c.ask(optSetMeta, query("vm/disk0", "base:allocation")) }, true},
		{"chosen among others", func(c *client) {
			c.ask(optSetMeta, query("/vm/disk0", "qemu:dirty-bitmap:x", "base:allocation", "base:allocation", "base:"))
		}, true},
		{"listed later", func(c *client) { c.ask(optListMeta, query("/other", "base:")) }, true},
		{"of another export", func(c *client) { c.ask(optSetMeta, query("/other", "base:allocation")) }, false},
		{"replaced by nothing", func(c *client) { c.ask(optSetMeta, query("/vm/disk0")) }, false},
		{"replaced by a wildcard", func(c *client) { c.ask(optSetMeta, query("/vm/disk0", "base:")) }, false},
		{"replaced by an unknown", func(c *client) { c.ask(optSetMeta, query("/vm/disk0", "base:allocatio", "x-a:b")) }, false},
		{"replaced by an error", func(c *client) { c.ask(optSetMeta, []byte("?")) }, false},
		{"replaced by no such export", func(c *client) { c.ask(optSetMeta, query("/vm/disk1", "base:allocation")) }, false},
	} {
		for _, s := range []style{structured, extended} {
			c := b.dial().agree(s)
			x.ask(c)
			c.attach("/vm/disk0")
			a := c.exchange(cmdBlockStatus, 0, 0, 4096, nil)
			if may := a.errno == 0; may != x.may || !may && a.errno != 22 {
				t.Errorf("%v, %s: error %d", s, x.name, a.errno)
			}
			c.inSync()
			c.leave()
		}
	}
}

// TestMetaContexts: what is listed, and what is refused. After each the negotiation goes on.
func TestMetaContexts(t *testing.T) {
	b := newBed(t, setup{})
	whole := metaQuery{"/vm/disk0", []string{"base:allocation"}}.encode()
	cut := func(n int) []byte { return whole[:len(whole)-n] }
	none, listed := optionReplies{{ack, ""}}, optionReplies{{4, "\x00\x00\x00\x00base:allocation"}, {ack, ""}}
	for _, x := range []struct {
		name   string
		option uint32
		data   []byte
		want   optionReplies
		errno  uint32
	}{
		{"all", optListMeta, metaQuery{name: "/vm/disk0"}.encode(), listed, 0},
		{"of the only export", optListMeta, metaQuery{name: ""}.encode(), listed, 0},
		{"wildcard", optListMeta, metaQuery{"/vm/disk0", []string{"base:"}}.encode(), listed, 0},
		{"by name", optListMeta, whole, listed, 0},
		{"unknown", optListMeta, metaQuery{"/vm/disk0", []string{"base:x", "x-foo:", "qemu:", ":", "\xff:"}}.encode(), none, 0},
		{"set nothing", optSetMeta, metaQuery{name: "/vm/disk0"}.encode(), none, 0},
		{"no such export", optListMeta, metaQuery{name: "/vm/disk1"}.encode(), nil, 1<<31 | 6},
		{"empty", optListMeta, nil, nil, 1<<31 | 3}, {"nothing but a name", optSetMeta, whole[:13], nil, 1<<31 | 3},
		{"cut", optSetMeta, cut(1), nil, 1<<31 | 3}, {"cut in the length", optSetMeta, cut(17), nil, 1<<31 | 3},
		{"left over", optSetMeta, append(slices.Clone(whole), 0), nil, 1<<31 | 3},
		{"many claimed", optSetMeta, []byte("\x00\x00\x00\x00\xff\xff\xff\xff"), nil, 1<<31 | 3},
		{"a long name claimed", optSetMeta, []byte("\xff\xff\xff\xffabcd\x00\x00"), nil, 1<<31 | 9},
		{"a long query", optListMeta, metaQuery{"", []string{"x:" + string(make([]byte, 4096))}}.encode(), nil, 1<<31 | 9},
		{"no namespace", optListMeta, metaQuery{"/vm/disk0", []string{"allocation"}}.encode(), nil, 1<<31 | 3},
	} {
		for _, s := range []style{structured, extended} {
			c := b.dial().agree(s)
			got := c.ask(x.option, x.data)
			if x.errno == 0 && !slices.Equal(got, x.want) || x.errno != 0 && (len(got) != 1 || got.last() != x.errno) {
				t.Errorf("%v, %s: %v", s, x.name, got)
			}
			c.attach("/vm/disk0").inSync()
			c.leave()
		}
	}
}

// TestStylesAreAgreed: what the options allow one after the other, and which transmission flags come of it.
func TestStylesAreAgreed(t *testing.T) {
	b := newBed(t, setup{})
	c := b.dial().hello(clientFlags)
	c.greets = true
	flags := func() uint16 {
		t.Helper()
		got, ok := c.ask(optInfo, infoRequest{name: ""}.encode()).info(0)
		if !ok {
			t.Fatal("no info")
		}
		return binary.BigEndian.Uint16([]byte(got)[8:])
	}
	const df, payload = 1 << 7, 1 << 12
	context := func(name string) []byte { return metaQuery{name, []string{metaContext}}.encode() }
	for _, x := range []struct {
		option uint32
		data   []byte
		want   uint32
		flags  uint16
	}{
		{optListMeta, nil, 1<<31 | 3, 0}, {optStructuredReply, nil, ack, df}, {optStructuredReply, nil, ack, df},
		{optSetMeta, context("/vm/disk0"), ack, df}, {optExtendedHeaders, nil, ack, df | payload},
		{optStructuredReply, nil, 1<<31 | 10, df | payload}, {optExtendedHeaders, nil, ack, df | payload},
		{optSetMeta, nil, 1<<31 | 3, df}, {optSetMeta, context(""), ack, df | payload}, {optSetMeta, context("/other"), 1<<31 | 6, df},
		{optSetMeta, context("/vm/disk0"), ack, df | payload},
	} {
		if got := c.ask(x.option, x.data); got.last() != x.want || x.data == nil && len(got) != 1 {
			t.Fatalf("option %d: %v", x.option, got)
		}
		if got := flags(); got != writableFlags|x.flags {
			t.Fatalf("option %d: flags %x", x.option, got)
		}
	}
	c.style = extended
	c.attach("").inSync()

	for _, s := range styles { // the oldest way to choose an export knows structured replies, not extended headers
		c := b.dial().agree(s)
		c.option(optExportName, 9, []byte("/vm/disk0"))
		if s == extended {
			c.closed()
			continue
		}
		c.take(10)
		if a := c.exchange(cmdBlockStatus, 0, 0, 4096, nil); (a.errno == 0) != (s == structured) {
			t.Errorf("%v: error %d", s, a.errno)
		}
	}
}

// TestErrorTexts: an error comes with the words that the log has, as a string that a client may print.
func TestErrorTexts(t *testing.T) {
	b := newBed(t, setup{readOnly: true})
	for _, s := range []style{structured, extended} {
		c := b.attachAs(s)
		for want, got := range map[string]answer{
			"past the end of the device":              c.exchange(cmdRead, 0, size, 1, nil),
			"the export is read-only":                 c.exchange(cmdWrite, 0, 0, 3, []byte("abc")),
			"unknown command":                         c.exchange(77, 0, 0, 1, nil),
			"more than 33554432 bytes in one request": c.exchange(cmdRead, 0, 0, 1<<31, nil),
		} {
			if got.errno == 0 || got.text != want {
				t.Errorf("%v: error %d, %q, want %q", s, got.errno, got.text, want)
			}
		}
	}
	if got := errorText(blocktree.E("a\x00b\xff", blocktree.IO, nil)); got != "a?b?: i/o error" && !bytes.HasPrefix([]byte(got), []byte("a?b?")) {
		t.Errorf("%q", got)
	}
	long := errorText(blocktree.E(string(bytes.Repeat([]byte("ä"), 3000)), blocktree.IO, nil))
	if len(long) > errorTextBytesMax || len(long) < errorTextBytesMax-1 || long[len(long)-2:] != "ä" {
		t.Errorf("%d bytes, ending in %q", len(long), long[len(long)-3:])
	}
}
