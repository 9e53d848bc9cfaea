package metricstest

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// ours is in front of the names that this software gives; others come from client_golang, and its documentation has them.
const ours = "bt_"

// described is what is said of a metric: its kind, and its labels in alphabetical order.
type described struct{ kind, labels string }

func describe(kind string, labels []string) described {
	slices.Sort(labels)
	return described{kind, strings.Join(slices.Compact(labels), " ")}
}

// CheckDocument compares the metrics of a program with the tables in the sections of a document: each is there with its kind and labels, and no
// other is.
func (s *Scrape) CheckDocument(t testing.TB, file string, sections ...string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want, err := readDocument(string(text), sections)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	got := s.described()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if g, ok := got[name]; !ok {
			t.Errorf("%s has %s, and the program does not export it", file, name)
		} else if g != want[name] {
			t.Errorf("%s says of %s: %+v, the program exports %+v", file, name, want[name], g)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			t.Errorf("the program exports %s, and %s does not have it in %q", name, file, sections)
		}
	}
}

// described is what the program says.
func (s *Scrape) described() map[string]described {
	labels := map[string][]string{}
	for _, x := range s.samples {
		name := x.name
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, ok := strings.CutSuffix(name, suffix); ok && s.Kinds[base] == "histogram" {
				name = base
			}
		}
		for l := range x.labels {
			if l != "le" {
				labels[name] = append(labels[name], l)
			}
		}
		labels[name] = labels[name][:len(labels[name]):len(labels[name])]
	}
	all := map[string]described{}
	for name, kind := range s.Kinds {
		if strings.HasPrefix(name, ours) {
			all[name] = describe(kind, labels[name])
		}
	}
	return all
}

// readDocument reads the tables: | `name` | kind | labels | unit | meaning | alert when |.
func readDocument(text string, sections []string) (map[string]described, error) {
	all := map[string]described{}
	seen := map[string]bool{}
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if title, ok := strings.CutPrefix(line, "## "); ok {
			section = title
			seen[section] = true
		}
		if !slices.Contains(sections, section) || !strings.HasPrefix(line, "| `"+ours) {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 6 {
			return nil, fmt.Errorf("%d cells: %s", len(cells), line)
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		name := strings.Trim(cells[0], "`")
		if _, twice := all[name]; twice {
			return nil, fmt.Errorf("%s is there twice", name)
		}
		if cells[4] == "" {
			return nil, fmt.Errorf("%s has no meaning", name)
		}
		all[name] = describe(cells[1], strings.FieldsFunc(cells[2], func(r rune) bool { return r == ',' || r == ' ' }))
	}
	for _, s := range sections {
		if !seen[s] {
			return nil, fmt.Errorf("no section %q", s)
		}
	}
	return all, nil
}

// Names returns the metrics that the tables of a document name, in all sections.
func Names(t testing.TB, file string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "| `"+ours); ok {
			name, _, _ := strings.Cut(rest, "`")
			names[ours+name] = true
		}
	}
	return names
}
