package main

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"blocktree"
	"blocktree/fs"
)

// A1 of 0057: whoever asks is told one case, each other one with why it is not that, and what holds for a device.
func TestWhichCase(t *testing.T) {
	root := blocktree.RootPath(blocktree.PrincipalOf([]byte("root")))
	me, home := root.Join("me"), root.Join("lab")
	secret, plain, dir, link := fs.Info{Encrypted: true}, fs.Info{}, fs.Info{Dir: true}, fs.Info{Link: true}
	no := errors.New("the key is not wrapped")
	for name, c := range map[string]struct {
		s      standing
		is     string
		not    string // their numbers
		device string
	}{
		"a node with a key":          {standing{runtime: me, home: home, host: true, info: secret, used: 2, how: "opened here", mayWrite: true}, "1: ", "34", "case 1: btnbd opens it here with the reader key"},
		"a node without":             {standing{runtime: me, home: home, host: true, info: secret, noKey: true, used: 3, how: "by /s"}, "1: ", "24", "no case: "},
		"a node that may not read":   {standing{runtime: me, home: home, host: true, info: secret, noKey: true, err: no}, "1: this runtime is a sector host of the file's cluster itself, but cannot read", "234", "no case: "},
		"a key":                      {standing{runtime: me, home: home, info: secret, used: 2, how: "opened here", mayWrite: true}, "2: opened here", "134", "case 2: btnbd opens it here with the reader key"},
		"a key of who may not write": {standing{runtime: me, home: home, info: secret, used: 2, how: "opened here"}, "2: opened here", "134", "case 2: btnbd opens it here with the reader key; to read only (readOnly: true), as /me may not write it"},
		"another key":                {standing{runtime: me, home: home, info: secret, used: 3, how: "by /s", key: no, mayWrite: true}, "3: by /s", "124", "no case: btnbd seals and opens by itself, and the reader key does not open the file"},
		"another key, no service":    {standing{runtime: me, home: home, info: secret, key: no, err: no, noService: no}, "none: the key is not wrapped", "1234", "no case: "},
		"no key":                     {standing{runtime: me, home: home, info: secret, noKey: true, used: 3, how: "by /s"}, "3: by /s", "124", "no case: btnbd seals and opens by itself, and no reader key is configured"},
		"not encrypted":              {standing{runtime: me, home: home, info: plain, noKey: true, used: 3, how: "by /s", mayWrite: true}, "3: by /s", "124", "case 2: it is not encrypted, which its export has to say (encryption: none); btnbd wants a reader key"},
		"nobody":                     {standing{info: secret, noKey: true, used: 4, how: "by /s"}, "4: by /s", "123", "no case: btnbd needs credentials"},
		"nobody, refused":            {standing{info: secret, noKey: true, err: no}, "none: ", "1234", "no case: btnbd needs credentials"},
		"a directory":                {standing{runtime: me, home: home, info: dir}, "2: names", "", ""},
		"a node's":                   {standing{runtime: me, home: home, host: true, info: dir}, "1: ", "", ""},
		"to nobody":                  {standing{info: dir}, "4: names", "", ""},
		"without a service":          {standing{info: dir, noService: no}, "none: ", "", ""},
		"a symbolic link":            {standing{runtime: me, home: home, info: link, noKey: true}, "2: names", "", ""},
		"a node's link":              {standing{runtime: me, home: home, host: true, info: link, noKey: true}, "1: ", "", ""},
		"a link to nobody":           {standing{info: link}, "4: names", "", ""},
	} {
		var l located
		c.s.say(&l)
		numbers := ""
		for _, n := range l.Not {
			number, why, ok := strings.Cut(n, ": ")
			numbers += number
			if !ok || why == "" || strings.HasPrefix(l.Case, number+":") {
				t.Errorf("%s: %q beside %q", name, n, l.Case)
			}
		}
		if !strings.HasPrefix(l.Case, c.is) || numbers != c.not || !strings.HasPrefix(l.Device, c.device) || c.device == "" && l.Device != "" || !slices.IsSorted(l.Not) {
			t.Errorf("%s: %+v", name, l)
		}
	}
}
