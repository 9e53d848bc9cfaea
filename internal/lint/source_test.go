package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "blocktree"

// source is one Go file.
type source struct {
	dir     string // of the package, relative to the module root, "." for the root
	name    string // "dir/file.go"
	text    []byte
	set     *token.FileSet
	tree    *ast.File
	test    bool   // _test.go
	program string // "main" for programs, else the package's name
}

// line is where a node starts, as editors and people write it.
func (s *source) at(n ast.Node) string {
	p := s.set.Position(n.Pos())
	return s.name + ":" + itoa(p.Line)
}

// lines counts the lines a node spans.
func (s *source) lines(n ast.Node) int {
	return s.set.Position(n.End()).Line - s.set.Position(n.Pos()).Line + 1
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}

func (s *source) main() bool { return s.program == "main" }

// parse makes a source of text; tests of the rules use it too.
func parse(name, text string) (*source, error) {
	s := &source{dir: path.Dir(name), name: name, text: []byte(text), set: token.NewFileSet(), test: strings.HasSuffix(name, "_test.go")}
	tree, err := parser.ParseFile(s.set, name, text, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	s.tree, s.program = tree, tree.Name.Name
	return s, nil
}

// mustParse is parse for the fixtures of rule tests.
func mustParse(t *testing.T, name, text string) *source {
	t.Helper()
	s, err := parse(name, text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const rootDir = "../.."

// walk calls visit with every file of the repository that people wrote: no testdata, no hidden directory but .ci, no bin.
func walk(t *testing.T, visit func(name string)) {
	t.Helper()
	err := filepath.WalkDir(rootDir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(rootDir, p)
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() {
			hidden := strings.HasPrefix(base, ".") && name != "." && base != ".ci"
			if hidden || base == "testdata" || name == "bin" {
				return filepath.SkipDir
			}
			return nil
		}
		if d.Type().IsRegular() {
			visit(filepath.ToSlash(name))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sources parses every Go file of the repository.
func sources(t *testing.T) []*source {
	t.Helper()
	var all []*source
	walk(t, func(name string) {
		if !strings.HasSuffix(name, ".go") {
			return
		}
		text, err := os.ReadFile(filepath.Join(rootDir, name))
		if err != nil {
			t.Fatal(err)
		}
		s, err := parse(name, string(text))
		if err != nil {
			t.Error(err)
			return
		}
		all = append(all, s)
	})
	if len(all) < 20 {
		t.Fatalf("only %d Go files found", len(all))
	}
	return all
}

// packages groups sources by directory, sorted.
func packages(all []*source) (dirs []string, byDir map[string][]*source) {
	byDir = map[string][]*source{}
	for _, s := range all {
		if byDir[s.dir] == nil {
			dirs = append(dirs, s.dir)
		}
		byDir[s.dir] = append(byDir[s.dir], s)
	}
	slices.Sort(dirs)
	return dirs, byDir
}

// report fails the test with each complaint.
func report(t *testing.T, complaints []string) {
	t.Helper()
	slices.Sort(complaints)
	for _, c := range slices.Compact(complaints) {
		t.Error(c)
	}
}

// list reads a list file of this directory: one entry a line, # starts a comment.
func list(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var entries []string
	for l := range strings.Lines(string(text)) {
		l, _, _ = strings.Cut(l, "#")
		if l = strings.TrimSpace(l); l != "" {
			entries = append(entries, l)
		}
	}
	return entries
}

// expect checks what a rule says of a fixture: complaints that contain each of wants, in order, and no others.
func expect(t *testing.T, name string, got []string, wants ...string) {
	t.Helper()
	if len(got) != len(wants) {
		t.Errorf("%s: got %q, want %q", name, got, wants)
		return
	}
	for i := range got {
		if !strings.Contains(got[i], wants[i]) {
			t.Errorf("%s: got %q, want it to contain %q", name, got[i], wants[i])
		}
	}
}
