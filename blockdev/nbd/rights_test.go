package nbd

import (
	"strings"
	"testing"

	"blocktree/blockdev"
)

// TestRightsOfEveryOption: whatever names an export, under whatever name, a client that may not have it learns no more than of one that is not there, and
// nothing is looked up for it.
func TestRightsOfEveryOption(t *testing.T) {
	a := newAuthority(t)
	nobody, _ := a.client("nobody", edKey(t))
	var o onDemand
	b := newBed(t, setup{tls: a.load(CertificatesRequired), config: Config{Demand: o.demand(t), Rights: func(_ Identity, export string) Access {
		if export == "/open" {
			return WriteAccess
		}
		return NoAccess
	}}})
	b.export(blockdev.Export{Name: "/open", Device: b.dev})
	context := func(name string) []byte { return metaQuery{name, []string{metaContext}}.encode() }
	info := func(name string) []byte { return infoRequest{name: name, wants: []uint16{1, 2, 3}}.encode() }
	dial := func() *client {
		c := b.secureDial(a.config(nobody))
		if got := c.ask(optStructuredReply, nil); got.last() != ack {
			t.Fatalf("%v", got)
		}
		return c
	}
	for _, x := range []struct {
		option uint32
		data   func(name string) []byte
	}{{optInfo, info}, {optGo, info}, {optListMeta, context}, {optSetMeta, context}} {
		c := dial() // a connection has a bound of options
		absent := c.ask(x.option, x.data("/absent"))
		for _, name := range []string{"/vm/disk0", "vm/disk0", "vm/disk0/", "/vm/a", "vm/a", "/vm/absent"} {
			if got := c.ask(x.option, x.data(name)); len(got) != 1 || got[0] != absent[0] {
				t.Errorf("option %d, %s: %v, of what is not there %v", x.option, name, got, absent)
			}
		}
	}
	if n := o.stats.Load() + o.opens.Load(); n != 0 {
		t.Errorf("%d things were looked up", n)
	}
	for _, name := range []string{"/vm/disk0", "vm/disk0/", "/vm/a"} {
		c := b.secureDial(a.config(nobody))
		c.option(optExportName, uint32(len(name)), []byte(name))
		c.closed()
	}
	c := dial()
	// A context that was chosen for what it may have is not one of what it may not.
	if got := c.ask(optSetMeta, context("/open")); got.last() != ack {
		t.Fatalf("%v", got)
	}
	if got := c.ask(optSetMeta, context("/vm/disk0")); got.last() == ack || strings.Contains(got[0].data, "disk0") {
		t.Fatalf("%v", got)
	}
	c.style = structured
	c.attach2("/open")
	if got := c.exchange(cmdBlockStatus, 0, 0, 4096, nil); got.errno != nbdEINVAL {
		t.Fatalf("error %d", got.errno)
	}
}
