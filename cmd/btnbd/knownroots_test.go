package main

import (
	"slices"
	"testing"

	"blocktree"
)

// TestKnownRoots: --root is for exports of the configuration and for files on demand, once for each, and is what is demanded when one is opened.
func TestKnownRoots(t *testing.T) {
	const root, newer = "5-4-bf7f916286706af8836245bba12279f3-29b87239ff8ec28e83e16a43f7de3343", "6-4-bf7f916286706af8836245bba12279f3-29b87239ff8ec28e83e16a43f7de3343-2"
	for _, x := range []struct {
		values []string
		want   []string // of /vm/disk0 and /vm/disk1, which are exports, and of /images/a=b and /images/c, which are on demand; nil: an error
	}{
		{nil, []string{"", newer, "", ""}},
		{[]string{"/vm/disk0=" + root, "/images/a=b=" + newer}, []string{root, newer, newer, ""}},
		{[]string{"/images/c=" + root, "/images/a=b=" + root}, []string{"", newer, root, root}},
		{[]string{"/vm/disk1=" + newer}, nil}, // has one in the configuration
		{[]string{"/vm/disk0=" + root, "/vm/disk0=" + newer}, nil},
		{[]string{"/vm/disk9=" + root}, nil}, {[]string{"/images=" + root}, nil}, {[]string{"images/c=" + root}, nil},
		{[]string{"/vm/disk0"}, nil}, {[]string{"=" + root}, nil}, {[]string{"/vm/disk0="}, nil}, {[]string{"/vm/disk0=none"}, nil}, {[]string{"/vm/disk0=" + root + "0"}, nil},
		{slices.Repeat([]string{"/vm/disk0=" + root}, knownRootsMax+1), nil},
	} {
		s := serverOf(2)
		s.cfg.Domain.Root.Principal = blocktree.PrincipalOf([]byte("root"))
		s.cfg.Exports[1].Root, s.cfg.OnDemand.Below = newer, "/images"
		var err error
		if s.knownRoots, err = knownRoots(s.cfg, x.values); err != nil {
			if x.want != nil || blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
				t.Errorf("%.200v: %v, hint %q", x.values, err, blocktree.HintOf(err))
			}
			continue
		}
		got := []string{s.cfg.Exports[0].Root, s.cfg.Exports[1].Root}
		for _, name := range []string{"/images/a=b", "/images/c"} {
			e, err := s.exportOnDemand(name, true)
			if err != nil || e.Path != name || !e.ReadOnly {
				t.Errorf("%+v, %v", e, err)
			}
			got = append(got, e.Root)
		}
		if !slices.Equal(got, x.want) {
			t.Errorf("%.200v: %q", x.values, got)
		}
	}
}
