package lint

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// constructors make values that nothing changes: a variable may be initialised with a call of one.
func constructors() []string {
	return []string{"errors.New", "fmt.Errorf", "blocktree.E", "E", "regexp.MustCompile", "strings.NewReplacer", "crc32.MakeTable",
		"big.NewInt", "reflect.TypeOf", "reflect.TypeFor", "base32.NewEncoding", "WithPadding", "netip.MustParsePrefix", "netip.MustParseAddr"}
}

// checkVars refuses package-level variables that may change, outside tests. A variable passes when it is blank, embedded, a
// sync.Pool (which nobody can observe), or has a constant initial value, a literal or a call of constructors, and no
// function of its package assigns to it, to its elements or fields, or takes its address. allowed holds "dir.name".
func checkVars(all []*source, allowed []string) (complaints []string) {
	dirs, byDir := packages(all)
	for _, dir := range dirs {
		written := map[string]bool{}
		for _, s := range byDir[dir] {
			if !s.test {
				collectWrites(s, written)
			}
		}
		for _, s := range byDir[dir] {
			if s.test {
				continue
			}
			for _, n := range mutableVars(s, written) {
				if !slices.Contains(allowed, dir+"."+n.Name) {
					complaints = append(complaints, s.at(n)+": "+dir+"."+n.Name+" is a package-level variable that may change")
				}
			}
		}
	}
	return complaints
}

func mutableVars(s *source, written map[string]bool) (names []*ast.Ident) {
	for _, d := range s.tree.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR {
			continue
		}
		for _, spec := range g.Specs {
			v := spec.(*ast.ValueSpec)
			if embedded(g.Doc) || embedded(v.Doc) {
				continue
			}
			for i, n := range v.Names {
				if n.Name == "_" {
					continue
				}
				if written[n.Name] || i >= len(v.Values) || !constantValue(v.Values[i]) {
					names = append(names, n)
				}
			}
		}
	}
	return names
}

func embedded(doc *ast.CommentGroup) bool {
	return doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") })
}

// constantValue reports whether an initial value is one that stays what it is unless somebody writes to it.
func constantValue(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.BasicLit, *ast.Ident, *ast.SelectorExpr, *ast.FuncLit:
		return true
	case *ast.CompositeLit:
		if t := name(e.Type); strings.HasPrefix(t, "sync.") && t != "sync.Pool" || strings.HasPrefix(t, "atomic.") {
			return false
		}
		return true
	case *ast.UnaryExpr:
		return constantValue(e.X)
	case *ast.BinaryExpr:
		return constantValue(e.X) && constantValue(e.Y)
	case *ast.CallExpr:
		if sel, ok := e.Fun.(*ast.SelectorExpr); ok {
			if inner, ok := sel.X.(*ast.CallExpr); ok { // base32.NewEncoding(…).WithPadding(…)
				return constantValue(inner) && slices.Contains(constructors(), sel.Sel.Name)
			}
		}
		return slices.Contains(constructors(), name(e.Fun)) || conversion(e)
	}
	return false
}

// conversion recognises []byte("…") and the like.
func conversion(e *ast.CallExpr) bool {
	_, array := e.Fun.(*ast.ArrayType)
	return array && len(e.Args) == 1 && constantValue(e.Args[0])
}

func name(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return name(e.X) + "." + e.Sel.Name
	}
	return ""
}

// collectWrites notes every package-level name that the file assigns to, directly or below, or takes the address of.
func collectWrites(s *source, written map[string]bool) {
	locals := localSpecs(s)
	note := func(e ast.Expr) {
		if id := rootIdent(e); id != nil && packageLevel(id, locals) {
			written[id.Name] = true
		}
	}
	ast.Inspect(s.tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				for _, l := range n.Lhs {
					note(l)
				}
			}
		case *ast.IncDecStmt:
			note(n.X)
		case *ast.UnaryExpr:
			if id, ok := n.X.(*ast.Ident); ok && n.Op == token.AND {
				note(id)
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && (f.Name == "delete" || f.Name == "clear" || f.Name == "copy") && len(n.Args) > 0 {
				note(n.Args[0])
			}
		}
		return true
	})
}

// rootIdent is x of x, x.f, x[i], *x and any mixture.
func rootIdent(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// packageLevel reports whether a name is of the package: found in none of the file's scopes, or declared outside functions.
func packageLevel(id *ast.Ident, locals map[any]bool) bool {
	if id.Obj == nil {
		return true
	}
	spec, ok := id.Obj.Decl.(*ast.ValueSpec)
	return ok && !locals[spec]
}

// localSpecs collects the var declarations inside functions.
func localSpecs(s *source) map[any]bool {
	locals := map[any]bool{}
	ast.Inspect(s.tree, func(n ast.Node) bool {
		if d, ok := n.(*ast.DeclStmt); ok {
			for _, spec := range d.Decl.(*ast.GenDecl).Specs {
				locals[spec] = true
			}
		}
		return true
	})
	return locals
}

func TestVars(t *testing.T) { report(t, checkVars(sources(t), list(t, "vars.txt"))) }

// TestVarsListIsNeeded refuses entries of vars.txt that no source needs.
func TestVarsListIsNeeded(t *testing.T) {
	complaints := strings.Join(checkVars(sources(t), nil), "\n")
	for _, entry := range list(t, "vars.txt") {
		if !strings.Contains(complaints, " "+entry+" is a package-level variable") {
			t.Errorf("vars.txt: %s is not needed", entry)
		}
	}
}

func TestVarsRule(t *testing.T) {
	good := `package p
var errA, errB = errors.New("a"), errors.New("b")
var table = [...]int{1, 2}
var pool = sync.Pool{New: func() any { return 1 }}
var _ I = (*T)(nil)
var alphabet = base32.NewEncoding("x").WithPadding(base32.NoPadding)
//go:embed a.txt
var file string
func f() { table := table; table[0] = 1; var errA int; errA = 2 }
`
	expect(t, "good", checkVars([]*source{mustParse(t, "p/a.go", good)}, nil))
	for name, declaration := range map[string]string{
		"uninitialised": "var x int",
		"a lock":        "var x = sync.Mutex{}",
		"a counter":     "var x atomic.Int64",
		"made":          "var x = make(map[int]int)",
		"assigned":      "var x = 1\nfunc f() { x = 2 }",
		"an element":    "var x = map[int]int{}\nfunc f() { x[1] = 2 }",
		"a field":       "var x = T{}\nfunc f() { x.f[3].g++ }",
		"its address":   "var x = T{}\nfunc f() { use(&x) }",
		"deleted from":  "var x = map[int]int{}\nfunc f() { delete(x, 1) }",
		"many":          "var (\n\ty = 1\n\tx = f()\n)",
	} {
		bad := mustParse(t, "p/a.go", "package p\n"+strings.ReplaceAll(declaration, "\\n", "\n")+"\n")
		expect(t, name, checkVars([]*source{bad}, nil), "p.x is a package-level variable")
		expect(t, name+", allowed", checkVars([]*source{bad}, []string{"p.x"}))
	}
	other := mustParse(t, "p/b.go", "package p\nfunc g() { x = 3 }\n")
	expect(t, "in another file", checkVars([]*source{mustParse(t, "p/a.go", "package p\nvar x = 1\n"), other}, nil), "p.x")
	expect(t, "in a test", checkVars([]*source{mustParse(t, "p/a_test.go", "package p\nvar x int\n")}, nil))
}
