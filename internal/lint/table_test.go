package lint

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// tableSection is the part of README.md whose table says what is supported, and what proves it.
const tableSection = "\n## NBD\n"

// proof is a word of that table that names what proves a row: a Go test of blockdev/nbd or of the package in front of it, or a script.
func proof() *regexp.Regexp {
	return regexp.MustCompile("`((?:[a-z0-9/]+\\.)?(?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9]*|test/shown/[^`]+)`")
}

// checkTable wants a proof in each row of the table that promises something, and every proof to be there. tests are "dir.TestName";
// script says whether a file is one that can be run.
func checkTable(readme string, tests map[string]bool, script func(string) bool) (complaints []string) {
	_, section, found := strings.Cut(readme, tableSection)
	section, _, _ = strings.Cut(section, "\n## ")
	rows := 0
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "|") || len(cells) != 3 || strings.HasPrefix(cells[0], "---") || strings.TrimSpace(cells[1]) == "today" {
			continue
		}
		rows++
		row, proofs := strings.TrimSpace(cells[0]), proof().FindAllStringSubmatch(cells[2], -1)
		if len(proofs) == 0 && strings.TrimSpace(cells[1]) != "not yet" {
			complaints = append(complaints, "README.md: nothing proves: "+row)
		}
		for _, p := range proofs {
			name := p[1]
			switch {
			case strings.HasPrefix(name, "test/"):
				if !script(name) {
					complaints = append(complaints, "README.md: "+name+" cannot be run, and is to prove: "+row)
				}
			case !strings.Contains(name, "."):
				name = "blockdev/nbd." + name
				fallthrough
			default:
				if !tests[name] {
					complaints = append(complaints, "README.md: there is no "+name+", which is to prove: "+row)
				}
			}
		}
	}
	if !found || rows < 3 {
		complaints = append(complaints, "README.md: no table of what is supported")
	}
	return complaints
}

// TestTable: whoever renames or drops a test that the table of README.md names has to look at the table. test/shown/4-01-table runs them.
func TestTable(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(rootDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	report(t, checkTable(string(readme), tests(sources(t)), func(name string) bool {
		info, err := os.Stat(filepath.Join(rootDir, name))
		return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
	}))
}

// tests are the test functions of the repository.
func tests(all []*source) map[string]bool {
	names := map[string]bool{}
	for _, s := range all {
		for _, d := range s.tree.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && s.test && f.Recv == nil && testName().MatchString(f.Name.Name) {
				names[s.dir+"."+f.Name.Name] = true
			}
		}
	}
	return names
}

func testName() *regexp.Regexp { return regexp.MustCompile(`^(Test|Fuzz|Benchmark)[A-Z]`) }

func TestTableRule(t *testing.T) {
	there := tests([]*source{mustParse(t, "blockdev/nbd/a_test.go", "package nbd\nfunc TestA(t *testing.T) {}\nfunc (x) TestB() {}\n"),
		mustParse(t, "p/q/a_test.go", "package q\nfunc FuzzC(f *testing.F) {}\n"), mustParse(t, "p/q/a.go", "package q\nfunc TestD() {}\n")})
	script := func(name string) bool { return name == "test/shown/9-01-x" }
	table := func(rows ...string) string {
		return "\n## NBD\n\n| feature | today | proof |\n|---|---|---|\n| one | yes | `TestA` |\n| two | not yet | |\n" +
			strings.Join(rows, "\n") + "\n\n## Next\n\n| a | b | c |\n"
	}
	for row, want := range map[string]string{
		"| three | yes | `TestA`, `p/q.FuzzC`, `test/shown/9-01-x` |": "",
		"| three | yes | by hand |":                                   "nothing proves: three",
		"| three | yes, `TestA` | |":                                  "nothing proves: three",
		"| three | yes | `TestZ` |":                                   "no blockdev/nbd.TestZ, which is to prove: three",
		"| three | yes | `TestB` |":                                   "no blockdev/nbd.TestB",
		"| three | yes | `FuzzC` |":                                   "no blockdev/nbd.FuzzC",
		"| three | yes | `p/q.TestD` |":                               "no p/q.TestD",
		"| three | yes | `test/shown/9-02-y` |":                       "test/shown/9-02-y cannot be run",
	} {
		if want == "" {
			expect(t, row, checkTable(table(row), there, script))
		} else {
			expect(t, row, checkTable(table(row), there, script), want)
		}
	}
	expect(t, "none", checkTable("# x\n", there, script), "no table")
}
