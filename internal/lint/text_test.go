package lint

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// text reports whether people read a file as text: by its ending, or by #! where it has none.
func text(name string, content []byte) bool {
	switch path.Ext(name) {
	case ".go", ".md", ".sh", ".yaml", ".yml", ".service", ".socket", ".mod", ".fio", ".py", ".json":
		return true
	case "":
		return path.Base(name) == "Makefile" || bytes.HasPrefix(content, []byte("#!"))
	}
	return path.Ext(name) == ".txt"
}

// leftToDo and machinePath are put together so that this file does not break its own rule.
func leftToDo() *regexp.Regexp {
	return regexp.MustCompile(`\b(` + "TO" + "DO" + `|` + "FIX" + "ME" + `|` + "X" + "XX" + `)\b`)
}

// machinePath finds absolute paths of somebody's machine: a home, a working or a farm directory at the root.
func machinePath() *regexp.Regexp {
	return regexp.MustCompile(`(^|[^A-Za-z0-9_.<>$})*/-])/(home|work|farm|Users|root)/[A-Za-z0-9_.]`)
}

func checkText(name string, content []byte) (complaints []string) {
	if !text(name, content) {
		return nil
	}
	toDo, machine := leftToDo(), machinePath()
	n := 0
	for line := range bytes.Lines(content) {
		n++
		if m := toDo.Find(line); m != nil {
			complaints = append(complaints, fmt.Sprintf("%s:%d: %s: do it, or write an issue", name, n, m))
		}
		if m := machine.Find(line); m != nil {
			complaints = append(complaints, fmt.Sprintf("%s:%d: %q is a path of one machine", name, n, m))
		}
	}
	return complaints
}

func TestText(t *testing.T) {
	walk(t, func(name string) {
		content, err := os.ReadFile(filepath.Join(rootDir, name))
		if err != nil {
			t.Fatal(err)
		}
		report(t, checkText(name, content))
	})
}

func TestTextRule(t *testing.T) {
	for line, want := range map[string]string{
		"// " + "TO" + "DO(me): later":       "do it",
		"// " + "FIX" + "ME":                 "do it",
		"cd " + "/wo" + "rk/main":            "path of one machine",
		`"` + "/ho" + "me/me/x" + `"`:        "path of one machine",
		"mktemp vm.XXXXXX":                   "",
		"/<root>/home/me, ../work/x, a/home": "",
		"the root directory / and /vm/disk0": "",
		"ProtectHome=yes":                    "",
	} {
		got := checkText("p/a.go", []byte("package p\n"+line+"\n"))
		if want == "" {
			expect(t, line, got)
		} else {
			expect(t, line, got, want)
		}
	}
	expect(t, "a script", checkText("test/run", []byte("#!/bin/sh\n# "+"X"+"XX\n")), "do it")
	expect(t, "a picture", checkText("docs/a.png", []byte("X"+"XX\n")))
}

// checkSkips wants every t.Skip and t.Skipf to say something of skips.txt, and no SkipNow, which says nothing. "needs %s" and
// "needs " + program pass here, because gotest sees what they say.
func checkSkips(all []*source, allowed []string) (complaints []string) {
	for _, s := range all {
		ast.Inspect(s.tree, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || !slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) || !s.skips(call, sel) {
				return true
			}
			message := ""
			if len(call.Args) > 0 {
				message = said(call.Args[0])
			}
			if message != "needs " && message != "needs %s" && !slices.Contains(allowed, message) {
				complaints = append(complaints, fmt.Sprintf("%s: skip %q is not on internal/lint/skips.txt", s.at(call), message))
			}
			return true
		})
	}
	return complaints
}

// skips tells testing's methods from others of the name: in a test file, or on a value called t, b, f or tb.
func (s *source) skips(_ *ast.CallExpr, sel *ast.SelectorExpr) bool {
	return s.test || slices.Contains([]string{"t", "b", "f", "tb"}, name(sel.X))
}

// said is the literal text of a message, or of its beginning.
func said(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); e.Kind == token.STRING && err == nil {
			return text
		}
	case *ast.BinaryExpr:
		return said(e.X)
	}
	return ""
}

func TestSkips(t *testing.T) { report(t, checkSkips(sources(t), list(t, "skips.txt"))) }

func TestSkipsRule(t *testing.T) {
	allowed := []string{"needs fio"}
	file := func(statement string) []*source {
		return []*source{mustParse(t, "p/a_test.go", "package p\nfunc TestX(t *testing.T) { "+statement+" }\n")}
	}
	for _, good := range []string{`t.Skip("needs fio")`, `t.Skipf("needs %s", p)`, `t.Skip("needs " + p)`, `t.Log("needs rest")`} {
		expect(t, good, checkSkips(file(good), allowed))
	}
	for _, bad := range []string{`t.Skip("flaky")`, `t.SkipNow()`, `t.Skip()`, `t.Skipf("%s", p)`, `t.Skip(p)`, `t.Skip("flaky " + p)`} {
		expect(t, bad, checkSkips(file(bad), allowed), "is not on internal/lint/skips.txt")
	}
	helper := []*source{mustParse(t, "p/a.go", "package p\nfunc need(t testing.TB) { t.Skip(\"rest\") }\n")}
	expect(t, "a helper", checkSkips(helper, allowed), "rest")
	decoder := []*source{mustParse(t, "p/a.go", "package p\nfunc f(d *decoder) { d.Skip(4) }\n")}
	expect(t, "another Skip", checkSkips(decoder, allowed))
}

// TestListsHaveNoDuplicates refuses an entry that is there twice.
func TestListsHaveNoDuplicates(t *testing.T) {
	for _, file := range []string{"skips.txt", "vars.txt"} {
		entries := list(t, file)
		for i, e := range entries {
			if slices.Contains(entries[:i], e) || strings.TrimSpace(e) == "" {
				t.Errorf("%s: %q is there twice", file, e)
			}
		}
	}
}
