package nbd

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/memfile"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

const (
	optInfo  = protocol.NEGOTIATION_ID_OPTION_INFO
	optGo    = protocol.NEGOTIATION_ID_OPTION_GO
	optList  = protocol.NEGOTIATION_ID_OPTION_LIST
	optAbort = protocol.NEGOTIATION_ID_OPTION_ABORT

	// writableFlags by their numbers: HAS_FLAGS, FLUSH, FUA, TRIM, WRITE_ZEROES, MULTI_CONN, CACHE, FAST_ZERO.
	writableFlags = 1<<0 | 1<<2 | 1<<3 | 1<<5 | 1<<6 | 1<<8 | 1<<10 | 1<<11
	readOnlyFlags = 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<8 | 1<<10
)

func exportInfo(size uint64, flags uint16) string {
	return string(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64(nil, size), flags))
}

func TestClientFlags(t *testing.T) {
	b := newBed(t, setup{})
	for _, x := range []struct {
		flags uint32
		ok    bool
	}{{3, true}, {1, true}, {2, false}, {0, false}, {4, false}, {7, false}, {1 << 31, false}} {
		c := b.dial().hello(x.flags)
		c.deaf = !x.ok
		c.option(optList, 0, nil)
		if x.ok {
			c.replies(optList)
			continue
		}
		c.closed() // unknown flags, or an option reply that this client would not understand
	}
}

func TestExportName(t *testing.T) {
	b := newBed(t, setup{})
	for _, x := range []struct {
		flags    uint32
		name     string
		trailing int
	}{
		{3, "/vm/disk0", 0}, {2, "vm/disk0", 0}, {1, "", 124}, {0, "/vm/disk0", 124},
	} {
		c := b.dial().hello(x.flags)
		c.option(optExportName, uint32(len(x.name)), []byte(x.name))
		if got := string(c.take(10)); got != exportInfo(1<<20, writableFlags) {
			t.Fatalf("%+v: %x", x, got)
		}
		if zeroes := string(c.take(x.trailing)); zeroes != strings.Repeat("\x00", x.trailing) {
			t.Fatalf("%+v: %x", x, zeroes)
		}
		c.inSync()
	}
	for _, name := range []string{"/vm/disk1", strings.Repeat("x", 4097), strings.Repeat("x", 65536)} {
		c := b.dial().hello(clientFlags)
		c.option(optExportName, uint32(len(name)), []byte(name))
		c.closed()
	}
}

func TestInfoAndGoAgree(t *testing.T) {
	for _, x := range []struct {
		name  string
		setup setup
		size  uint64
		flags uint16
	}{
		{"writable", setup{}, 1 << 20, writableFlags},
		{"read-only export", setup{readOnly: true}, 1 << 20, readOnlyFlags},
		{"read-only file", setup{file: memfile.Options{Info: blocktree.FileInfo{ReadOnly: true}}}, 1 << 20, readOnlyFlags},
		{"large sectors", setup{file: memfile.Options{Info: blocktree.FileInfo{SizeBytes: 1 << 30, SectorBytes: 64 << 10}}},
			1 << 30, writableFlags},
	} {
		t.Run(x.name, func(t *testing.T) {
			b := newBed(t, x.setup)
			c := b.dial().hello(clientFlags)
			for _, name := range []string{"/vm/disk0", "vm/disk0", ""} {
				for _, wants := range [][]uint16{nil, {3}, {1, 2}, {2, 77, 1, 3}} {
					q := infoRequest{name: name, wants: wants}.encode()
					answers := c.ask(optInfo, q)
					checkInfo(t, answers, x.size, x.flags, len(wants) > 1)
				}
			}
			checkInfo(t, c.ask(optGo, infoRequest{name: "/vm/disk0", wants: []uint16{1, 2, 3}}.encode()), x.size, x.flags, true)
			c.inSync()
		})
	}
}

func checkInfo(t *testing.T, answers optionReplies, size uint64, flags uint16, texts bool) {
	t.Helper()
	if answers.last() != ack {
		t.Fatalf("%v", answers)
	}
	if got, _ := answers.info(0); got != exportInfo(size, flags) {
		t.Fatalf("export: %x", got)
	}
	if got, _ := answers.info(3); got != "\x00\x00\x00\x01\x00\x00\x10\x00\x02\x00\x00\x00" {
		t.Fatalf("block sizes: %x", got)
	}
	name, named := answers.info(1)
	text, described := answers.info(2)
	if named != texts || described != texts || texts && (name != "/vm/disk0" || text != "the first disk") {
		t.Fatalf("name %q, description %q", name, text)
	}
}

// TestFileIsTold: the description of an export that is open ends with a word that says which file it is; LIST is for people.
func TestFileIsTold(t *testing.T) {
	info := blocktree.FileInfo{SizeBytes: 1 << 20, ID: blocktree.FileID{Generation: 2, Inode: 17}}
	b := newBed(t, setup{file: memfile.Options{Info: info}})
	b.export(blockdev.Export{Name: "/a", Device: b.dev})
	c := b.dial().hello(clientFlags)
	for name, want := range map[string]string{"/vm/disk0": "the first disk file=anonymous/2.17", "/a": "file=anonymous/2.17"} {
		if got, _ := c.ask(optInfo, infoRequest{name: name, wants: []uint16{infoDescription}}.encode()).info(infoDescription); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := fmt.Sprint(c.ask(optList, nil)); strings.Contains(got, "file=") {
		t.Errorf("%q", got)
	}
}

func TestList(t *testing.T) {
	b := newBed(t, setup{})
	b.export(blockdev.Export{Name: "/a", Device: b.dev})
	c := b.dial().hello(clientFlags)
	if got := c.ask(optList, []byte("data")); got.last() != errTypeInvalid {
		t.Fatalf("%v", got)
	}
	got := c.ask(optList, nil)
	want := "[{2 \x00\x00\x00\x02/a} {2 \x00\x00\x00\x09/vm/disk0the first disk} {1 }]"
	if fmt.Sprint(got) != want {
		t.Fatalf("%q", fmt.Sprint(got))
	}
	if got := c.ask(optAbort, nil); len(got) != 1 || got.last() != ack {
		t.Fatalf("%v", got)
	}
	c.closed()
}

// TestRefusedOptions: after each of them the connection goes on.
func TestRefusedOptions(t *testing.T) {
	b := newBed(t, setup{})
	long := infoRequest{name: strings.Repeat("x", 4097)}.encode()
	good := infoRequest{name: "/vm/disk0", wants: []uint16{1}}.encode()
	for _, x := range []struct {
		name string
		id   uint32
		data []byte
		want uint32
	}{
		{"STARTTLS", 5, nil, 1<<31 | 1},
		{"STRUCTURED_REPLY with data", 8, []byte{0}, 1<<31 | 3},
		{"LIST_META_CONTEXT without structured replies", 9, metaQuery{name: "/vm/disk0"}.encode(), 1<<31 | 3},
		{"SET_META_CONTEXT without structured replies", 10, make([]byte, 65536), 1<<31 | 3},
		{"EXTENDED_HEADERS with data", 11, make([]byte, 65536), 1<<31 | 3},
		{"PEEK_EXPORT", 4, nil, 1<<31 | 1},
		{"unknown", 0xdeadbeef, []byte("IHAVEOPT"), 1<<31 | 1},
		{"no such export", optGo, infoRequest{name: "/vm/disk1"}.encode(), 1<<31 | 6},
		{"two slashes", optGo, infoRequest{name: "//vm/disk0"}.encode(), 1<<31 | 6},
		{"a name too long", optGo, long, 1<<31 | 9},
		{"empty", optGo, nil, 1<<31 | 3},
		{"a claimed name", optInfo, []byte("\xff\xff\xff\xffabcd\x00\x00"), 1<<31 | 9},
		{"a name over the option", optInfo, []byte("\x00\x00\x00\x05abcd\x00\x00"), 1<<31 | 3},
		{"left over", optInfo, append(good[:len(good):len(good)], 0), 1<<31 | 3},
		{"too few kinds", optInfo, good[:len(good)-1], 1<<31 | 3},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := b.dial()
			c.t = t
			c.hello(clientFlags)
			if got := c.ask(x.id, x.data); len(got) != 1 || got.last() != x.want {
				t.Fatalf("%v", got)
			}
			if got := c.ask(optGo, good); got.last() != ack {
				t.Fatalf("%v", got)
			}
			c.inSync()
		})
	}
}

func TestRudeNegotiation(t *testing.T) {
	b := newBed(t, setup{})
	t.Run("claims 4 GiB", func(t *testing.T) {
		for _, id := range []uint32{optGo, optList, 99} {
			c := b.dial().hello(clientFlags)
			c.option(id, 1<<32-1, nil)
			if got := c.replies(id); got.last() != errTypeTooBig {
				t.Fatalf("%v", got)
			}
			c.closed()
		}
		c := b.dial().hello(clientFlags)
		c.option(optExportName, 1<<32-1, []byte("abc"))
		c.closed()
	})
	t.Run("bad magic", func(t *testing.T) {
		c := b.dial().hello(clientFlags)
		c.send([]byte("IHAVEOPS\x00\x00\x00\x03\x00\x00\x00\x00"))
		c.closed()
	})
	t.Run("too many options", func(t *testing.T) {
		c := b.dial().hello(clientFlags)
		for range blocktree.NBDOptionsMax {
			c.ask(optList, nil)
		}
		c.closed()
	})
	t.Run("leaves", func(t *testing.T) {
		for n := range 40 {
			c := b.dial()
			whole := append([]byte{0, 0, 0, 3}, "IHAVEOPT\x00\x00\x00\x07\x00\x00\x00\x0f\x00\x00\x00\x09/vm/disk0\x00\x00"...)
			c.deaf = true
			c.send(whole[:min(n, len(whole))])
			c.nc.Close()
		}
		b.attach().inSync()
	})
}

func TestNegotiationIsTimed(t *testing.T) {
	b := newBed(t, setup{server: func(s *Server) {
		s.negotiationTimeout = time.Second // for a busy machine
		s.negotiating = make(chan struct{}, 2)
	}})
	attached := b.attach()
	silent, slow := b.dial(), b.dial().hello(clientFlags) // both places are taken
	slow.send([]byte("IHAVE"))
	third := b.attach() // waits in the backlog until one of them has to go
	silent.closed()
	slow.closed()
	third.inSync()
	attached.inSync() // who has chosen an export may be silent for longer than that
}

func TestConnectionsPerExport(t *testing.T) {
	b := newBed(t, setup{})
	var all []*client
	for range blocktree.NBDConnectionsPerExportMax {
		all = append(all, b.attach())
	}
	c := b.dial().hello(clientFlags)
	q := infoRequest{name: "/vm/disk0"}.encode()
	if got := c.ask(optGo, q); got.last() != errTypePolicy {
		t.Fatalf("%v", got)
	}
	if got := c.ask(optInfo, q); got.last() != ack {
		t.Fatalf("%v", got)
	}
	all[3].send(header(cmdDisc, 0, 0, 0, 0))
	all[3].closed()
	until(t, "there is room again", func() bool {
		b.srv.mu.Lock()
		defer b.srv.mu.Unlock()
		return b.srv.attached[b.dev].conns < blocktree.NBDConnectionsPerExportMax
	})
	if got := c.ask(optGo, q); got.last() != ack {
		t.Fatalf("%v", got)
	}
	c.inSync()
}
