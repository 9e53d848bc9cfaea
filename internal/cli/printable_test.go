package cli

import (
	"errors"
	"strings"
	"testing"

	"blocktree"
)

// What somebody named a file does nothing to the terminal of who reads of it.
func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "/docs/a b": "/docs/a b", "/ä/日本": "/ä/日本", `back\slash`: `back\slash`, "it's \"so\"": "it's \"so\"",
		"a\x1b[2Jb": `a\x1b[2Jb`, "a\rb": `a\rb`, "a\u009bb": `a\u009bb`, "a\u202eb": `a\u202eb`, "a\xffb": `a\xffb`, "a\x7f": `a\x7f`,
	} {
		if got := PrintableName(text); got != want {
			t.Errorf("%q is shown as %s, want %s", text, got, want)
		}
		if got := Printable(text); got != want {
			t.Errorf("%q is shown as %s, want %s", text, got, want)
		}
	}
	if got := PrintableName("a\tb\n"); got != `a\tb\n` {
		t.Errorf("%s", got)
	}
	if got := Printable("a\tb\n"); got != "a\tb\n" {
		t.Errorf("%q", got)
	}
	var b strings.Builder
	PrintError(&b, "btnode", &blocktree.Error{Op: "stat", Path: "/a\x1b[1A\rbtnode: all is well", Err: errors.New("x"), Hint: "h\x1b"})
	if strings.ContainsAny(b.String(), "\x1b\r") || strings.Count(b.String(), "\n") != 2 {
		t.Errorf("%q", b.String())
	}
}
