package lint

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"slices"
	"strings"
	"testing"
)

const (
	fileLinesMax     = 600
	functionLinesMax = 70
)

func generated(s *source) bool { return ast.IsGenerated(s.tree) }

func checkSizes(all []*source) (complaints []string) {
	for _, s := range all {
		if generated(s) {
			continue
		}
		if n := bytes.Count(s.text, []byte("\n")); n > fileLinesMax {
			complaints = append(complaints, fmt.Sprintf("%s: %d lines, at most %d", s.name, n, fileLinesMax))
		}
		for _, d := range s.tree.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && s.lines(f) > functionLinesMax {
				complaints = append(complaints, fmt.Sprintf("%s: %s has %d lines, at most %d", s.at(f), f.Name.Name, s.lines(f), functionLinesMax))
			}
		}
	}
	return complaints
}

func TestSizes(t *testing.T) { report(t, checkSizes(sources(t))) }

func TestSizesRule(t *testing.T) {
	body := func(lines int) string { return "package p\nfunc long() {" + strings.Repeat("\n", lines-1) + "}\n" }
	expect(t, "70 lines", checkSizes([]*source{mustParse(t, "p/a.go", body(70))}))
	expect(t, "71 lines", checkSizes([]*source{mustParse(t, "p/a.go", body(71))}), "long has 71 lines")
	expect(t, "600 lines", checkSizes([]*source{mustParse(t, "p/a.go", "package p\n"+strings.Repeat("\n", 599))}))
	expect(t, "601 lines", checkSizes([]*source{mustParse(t, "p/a.go", "package p\n"+strings.Repeat("\n", 600))}), "601 lines")
}

// checkDocs wants a doc.go with the package comment in every package, and no second package comment elsewhere. A program may
// have its comment ("Command name …") in any file.
func checkDocs(all []*source) (complaints []string) {
	dirs, byDir := packages(all)
	for _, dir := range dirs {
		documented := false
		for _, s := range byDir[dir] {
			if s.tree.Doc == nil || s.test {
				continue
			}
			if !strings.HasSuffix(s.name, "doc.go") && !s.main() {
				complaints = append(complaints, s.name+": the package comment belongs into doc.go")
				continue
			}
			words := strings.Fields(s.tree.Doc.Text())
			documented = len(words) > 3 && (words[0] == "Package" && words[1] == s.program || s.main() && words[0] == "Command")
		}
		if !documented {
			complaints = append(complaints, dir+": no doc.go with a package comment (\"Package name …\")")
		}
	}
	return complaints
}

func TestDocs(t *testing.T) { report(t, checkDocs(sources(t))) }

func TestDocsRule(t *testing.T) {
	doc := mustParse(t, "p/doc.go", "// Package p is for tests.\npackage p\n")
	expect(t, "good", checkDocs([]*source{doc, mustParse(t, "p/a.go", "package p\n")}))
	expect(t, "none", checkDocs([]*source{mustParse(t, "p/a.go", "package p\n")}), "p: no doc.go")
	expect(t, "elsewhere", checkDocs([]*source{doc, mustParse(t, "p/a.go", "// Package p too.\npackage p\n")}), "belongs into doc.go")
	expect(t, "program", checkDocs([]*source{mustParse(t, "p/a.go", "// Command p is for tests.\npackage main\n")}))
	expect(t, "bad program", checkDocs([]*source{mustParse(t, "p/a.go", "// p is for tests.\npackage main\n")}), "p: no doc.go")
	expect(t, "other name", checkDocs([]*source{mustParse(t, "p/doc.go", "// Package q is for tests.\npackage p\n")}), "p: no doc.go")
}

// checkExported wants a comment on every exported identifier of a package that can be imported.
func checkExported(all []*source) (complaints []string) {
	for _, s := range all {
		if s.test || s.main() {
			continue
		}
		for _, d := range s.tree.Decls {
			for _, n := range undocumented(d) {
				complaints = append(complaints, s.at(n)+": "+n.Name+" is exported and has no comment")
			}
		}
	}
	return complaints
}

// undocumented returns the exported names of a declaration that have no comment.
func undocumented(d ast.Decl) (names []*ast.Ident) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil && (d.Recv == nil || ast.IsExported(receiver(d))) {
			names = append(names, d.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if spec.Name.IsExported() && d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
					names = append(names, spec.Name)
				}
			case *ast.ValueSpec:
				for _, n := range spec.Names {
					if n.IsExported() && d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
						names = append(names, n)
					}
				}
			}
		}
	}
	return names
}

// receiver names the type of a method.
func receiver(f *ast.FuncDecl) string {
	t := f.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

func TestExported(t *testing.T) { report(t, checkExported(sources(t))) }

func TestExportedRule(t *testing.T) {
	good := "package p\n// A is.\nfunc A() {}\n// B is.\nconst (\nB = 1\n)\ntype c int\nfunc (c) D() {}\nvar (\nE = 1 // is\n)\n"
	expect(t, "good", checkExported([]*source{mustParse(t, "p/a.go", good)}))
	bad := "package p\nfunc A() {}\nconst B = 1\ntype C[T any] int\nfunc (c *C[T]) D() {}\n"
	expect(t, "bad", checkExported([]*source{mustParse(t, "p/a.go", bad)}), "A is", "B is", "C is", "D is")
	expect(t, "test", checkExported([]*source{mustParse(t, "p/a_test.go", bad)}))
}

// checkCalls refuses init, exits outside main packages, and global loggers.
func checkCalls(all []*source) (complaints []string) {
	forbidden := map[string][]string{
		"os": {"Exit"}, "syscall": {"Exit"},
		"log":  {"Fatal", "Fatalf", "Fatalln", "Panic", "Panicf", "Panicln", "Print", "Printf", "Println", "SetOutput", "Default"},
		"slog": {"SetDefault", "Default", "Debug", "Info", "Warn", "Error", "Log", "DebugContext", "InfoContext", "WarnContext", "ErrorContext"},
	}
	for _, s := range all {
		ast.Inspect(s.tree, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Name.Name == "init" && n.Recv == nil {
					complaints = append(complaints, s.at(n)+": no init")
				}
			case *ast.SelectorExpr:
				x, ok := n.X.(*ast.Ident)
				if ok && x.Obj == nil && !s.main() && slices.Contains(forbidden[x.Name], n.Sel.Name) {
					complaints = append(complaints, s.at(n)+": no "+x.Name+"."+n.Sel.Name+" outside main packages")
				}
			}
			return true
		})
	}
	return complaints
}

func TestCalls(t *testing.T) { report(t, checkCalls(sources(t))) }

func TestCallsRule(t *testing.T) {
	bad := "package p\nimport (\"log\"; \"os\")\nfunc init() {}\nfunc f() { os.Exit(1); log.Fatal(); log.New(nil, \"\", 0) }\n"
	expect(t, "bad", checkCalls([]*source{mustParse(t, "p/a.go", bad)}), "no init", "os.Exit", "log.Fatal")
	expect(t, "main", checkCalls([]*source{mustParse(t, "p/a.go", "package main\nfunc f() { os.Exit(1) }\n")}))
	expect(t, "a variable", checkCalls([]*source{mustParse(t, "p/a.go", "package p\nfunc f(log l) { log.Print() }\n")}))
}

// checkFormat wants every file as gofmt would write it.
func checkFormat(all []*source) (complaints []string) {
	for _, s := range all {
		if got, err := format.Source(s.text); err != nil || !bytes.Equal(got, s.text) {
			complaints = append(complaints, s.name+": not formatted: gofmt -w "+s.name)
		}
	}
	return complaints
}

func TestFormat(t *testing.T) { report(t, checkFormat(sources(t))) }

func TestFormatRule(t *testing.T) {
	expect(t, "bad", checkFormat([]*source{mustParse(t, "p/a.go", "package p\nvar  x = 1\n")}), "gofmt -w p/a.go")
	expect(t, "good", checkFormat([]*source{mustParse(t, "p/a.go", "package p\n\nvar x = 1\n")}))
}

// checkFuzz wants a fuzz target in every package that decodes bytes: a function or method whose name starts with decode
// or Decode and that takes a []byte or a *wire.Decoder.
func checkFuzz(all []*source) (complaints []string) {
	dirs, byDir := packages(all)
	for _, dir := range dirs {
		var decoder string
		fuzzed := false
		for _, s := range byDir[dir] {
			for _, d := range s.tree.Decls {
				f, ok := d.(*ast.FuncDecl)
				if !ok {
					continue
				}
				fuzzed = fuzzed || s.test && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Fuzz")
				if !s.test && strings.HasPrefix(strings.ToLower(f.Name.Name), "decode") && takesBytes(f.Type) {
					decoder = s.at(f) + ": " + f.Name.Name
				}
			}
		}
		if decoder != "" && !fuzzed {
			complaints = append(complaints, decoder+" decodes bytes, but the package has no fuzz target")
		}
	}
	return complaints
}

func takesBytes(f *ast.FuncType) bool {
	for _, p := range f.Params.List {
		switch t := p.Type.(type) {
		case *ast.ArrayType:
			if e, ok := t.Elt.(*ast.Ident); ok && t.Len == nil && e.Name == "byte" {
				return true
			}
		case *ast.StarExpr:
			if x, ok := t.X.(*ast.SelectorExpr); ok && x.Sel.Name == "Decoder" {
				return true
			}
		}
	}
	return false
}

func TestFuzzTargets(t *testing.T) { report(t, checkFuzz(sources(t))) }

func TestFuzzTargetsRule(t *testing.T) {
	decoder := mustParse(t, "p/a.go", "package p\nfunc (m *msg) decode(b []byte) error { return nil }\n")
	expect(t, "none", checkFuzz([]*source{decoder}), "p/a.go:2: decode decodes bytes")
	expect(t, "there", checkFuzz([]*source{decoder, mustParse(t, "p/a_test.go", "package p\nfunc FuzzMsg(f *testing.F) {}\n")}))
	wire := mustParse(t, "p/a.go", "package p\nfunc decodeMsg(d *wire.Decoder) {}\n")
	expect(t, "wire", checkFuzz([]*source{wire}), "decodeMsg decodes bytes")
}
