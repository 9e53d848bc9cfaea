package main

import "strings"

// deviation is one that is decided: what is done, what both say, and why (docs/design/0068-real-programs.md, and btnode-mount(1)). A '*' is anything.
type deviation struct{ statement, local, mount, why string }

// deviations are all that are decided.
func deviations() []deviation {
	return []deviation{
		{"* link *", "OK", "EPERM", "hard links: a file has one name"},
	}
}

// decided is why a deviation is, "" where nothing says so.
func decided(statement, local, mount string) string {
	for _, d := range deviations() {
		if fits(d.statement, statement) && fits(d.local, local) && fits(d.mount, mount) {
			return d.why
		}
	}
	return ""
}

// fits compares with a pattern, whose stars are any bytes.
func fits(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	rest, ok := strings.CutPrefix(s, parts[0])
	for _, p := range parts[1:] {
		if !ok {
			return false
		}
		i := strings.Index(rest, p)
		if p == parts[len(parts)-1] {
			i = strings.LastIndex(rest, p)
			if !strings.HasSuffix(rest, p) {
				return false
			}
		}
		if i < 0 {
			return false
		}
		rest = rest[i+len(p):]
	}
	return ok && (len(parts) > 1 || rest == "")
}
