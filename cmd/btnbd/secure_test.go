package main

import (
	"testing"

	"blocktree"
	"blocktree/blockdev/nbd"
	"blocktree/internal/config"
)

func TestRights(t *testing.T) {
	writer := nbd.Identity{Principal: blocktree.PrincipalOf([]byte("writer")), Fingerprint: [32]byte{1}}
	reader := nbd.Identity{Fingerprint: [32]byte{2}}
	both := nbd.Identity{Principal: blocktree.PrincipalOf([]byte("both")), Fingerprint: [32]byte{3}}
	of := func(i nbd.Identity, fingerprint bool, access string) config.Allowed {
		if fingerprint {
			return config.Allowed{Certificate: config.ClientID{Fingerprint: i.Fingerprint}, Access: access}
		}
		return config.Allowed{Certificate: config.ClientID{Principal: i.Principal}, Access: access}
	}
	c := &config.NBD{Exports: []config.Export{
		{Path: "/open"}, {Path: "/disk", Clients: []config.Allowed{of(writer, false, ""), of(reader, true, "read"), of(both, false, "read"), of(both, true, "write")}}}}
	c.OnDemand.Clients = []config.Allowed{of(writer, false, "read")}
	r := rights(c)
	for _, x := range []struct {
		who    nbd.Identity
		export string
		want   nbd.Access
	}{
		{nbd.Identity{}, "/open", nbd.WriteAccess}, {nbd.Identity{}, "/disk", nbd.NoAccess}, {nbd.Identity{}, "/vm/x", nbd.NoAccess},
		{writer, "/disk", nbd.WriteAccess}, {reader, "/disk", nbd.ReadAccess}, {both, "/disk", nbd.WriteAccess},
		{writer, "/vm/x", nbd.ReadAccess}, {reader, "/vm/x", nbd.NoAccess}, {both, "/open", nbd.WriteAccess},
		{nbd.Identity{Principal: writer.Principal, Fingerprint: [32]byte{9}}, "/disk", nbd.WriteAccess}, // renewed, with the same key
		{nbd.Identity{Principal: blocktree.PrincipalOf([]byte("x")), Fingerprint: [32]byte{9}}, "/disk", nbd.NoAccess},
	} {
		if got := r(x.who, x.export); got != x.want {
			t.Errorf("%v of %s: %v, want %v", x.who, x.export, got, x.want)
		}
	}
	if rights(&config.NBD{Exports: []config.Export{{Path: "/open"}}}) != nil {
		t.Error("rights where nobody is listed")
	}
}

// TestExportNames: a file has one name, whatever it is called, and that of its configured export where there is one.
func TestExportNames(t *testing.T) {
	root := blocktree.PrincipalOf([]byte("root"))
	c := &config.NBD{Exports: []config.Export{{Path: "/vm/disk0"}, {Path: "/" + root.String() + "/vm/disk1"}}}
	c.Domain.Root = config.Principal{Principal: root}
	c.OnDemand.Below = "/vm"
	name := exportNames(c)
	full := "/" + root.String()
	for given, want := range map[string]string{
		"vm/disk0": "/vm/disk0", full + "/vm/disk0": "/vm/disk0", "/vm/disk0/": "/vm/disk0", "/vm/disk1": full + "/vm/disk1",
		"vm/a/b": "/vm/a/b", full + "/vm/x/": "/vm/x", "/vm": "", "": "", "/": "", "/vmx": "", "/vm/../etc": "", "//vm/a": "", "/images/a": "",
		"/" + blocktree.PrincipalOf([]byte("other")).String() + "/vm/a": "",
	} {
		got, err := name(given)
		if got != want || (want == "") != (blocktree.KindOf(err) == blocktree.NotFound) {
			t.Errorf("%q is %q (%v), want %q", given, got, err, want)
		}
	}
	c.OnDemand.Below = "/"
	if got, err := exportNames(c)("images/a"); err != nil || got != "/images/a" {
		t.Errorf("%q, %v", got, err)
	}
}
