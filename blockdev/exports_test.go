package blockdev

import (
	"strings"
	"testing"

	"blocktree"
)

func TestExports(t *testing.T) {
	d, _ := openMem(t, sized(1<<20, 4096), Options{})
	ro, _ := openMem(t, sized(1<<20, 4096), Options{ReadOnly: true})
	var x Exports
	if _, err := x.Lookup(""); blocktree.KindOf(err) != blocktree.NotFound {
		t.Fatal(err)
	}
	for _, c := range []struct {
		e    Export
		kind blocktree.Kind
	}{
		{Export{Name: "/vm/disk0"}, blocktree.Invalid},
		{Export{Name: "", Device: d}, blocktree.Invalid},
		{Export{Name: "/", Device: d}, blocktree.Invalid},
		{Export{Name: "/a\x00b", Device: d}, blocktree.Invalid},
		{Export{Name: "/" + strings.Repeat("a", 4096), Device: d}, blocktree.TooLarge},
		{Export{Name: "/a", Description: strings.Repeat("a", 1025), Device: d}, blocktree.TooLarge},
	} {
		if err := x.Add(c.e); blocktree.KindOf(err) != c.kind {
			t.Errorf("%.20q: %v", c.e.Name, err)
		}
	}
	if err := x.Add(Export{Name: "/vm/disk0", Device: ro}); err != nil {
		t.Fatal(err)
	}
	if err := x.Add(Export{Name: "vm/disk0", Device: d}); blocktree.KindOf(err) != blocktree.Exists {
		t.Fatal(err)
	}
	for _, name := range []string{"/vm/disk0", "vm/disk0", "", "/"} {
		if e, err := x.Lookup(name); err != nil || e.Device != ro || !e.ReadOnly {
			t.Errorf("%q: %+v, %v", name, e, err)
		}
	}
	if err := x.Add(Export{Name: "/a", Device: d}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "/", "//vm/disk0", "vm", "/vm/disk0/"} {
		if _, err := x.Lookup(name); blocktree.KindOf(err) != blocktree.NotFound {
			t.Errorf("%q: %v", name, err)
		}
	}
	if all := x.List(); len(all) != 2 || all[0].Name != "/a" || all[1].Name != "/vm/disk0" {
		t.Errorf("%+v", all)
	}
	if e, err := x.Remove("/vm/disk0"); err != nil || e.Device != ro {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := x.Remove("/vm/disk0"); blocktree.KindOf(err) != blocktree.NotFound {
		t.Error(err)
	}
	if e, err := x.Lookup(""); err != nil || e.Name != "/a" {
		t.Errorf("%+v, %v", e, err)
	}
}
