package lint

import (
	"fmt"
	"strings"
	"testing"
)

// The layer of each package, by directory. A directory that is not here has the layer of the nearest one above it that is
// (never the root's or crypto's); it and that one may import each other as far as Go allows, and it may be imported by
// whoever may import that one.
func layers() map[string]int {
	return map[string]int{
		".":                  0,
		"internal/invariant": 1, "internal/cli": 1, "internal/latency": 1, "internal/socket": 1, "internal/wire": 1, "internal/sha256x16": 1, "internal/gcm": 1, "internal/workers": 1, // wire: docs/design/0004-sealing.md says why not 2
		"internal/vfs": 2, "internal/erasure": 2, "internal/config": 2,
		"crypto": 2, "crypto/seal": 2, "crypto/cred": 2, "crypto/keys": 2, "crypto/tree": 2,
		"internal/bttp": 3, "cluster/stripe": 3, "cluster/store": 3,
		"route": 4, "cluster/meta": 4, "internal/dispatch": 4,
		"cluster":       5,
		"internal/file": 6,
		"blockdev":      7, "fs": 7,
		"blockdev/nbd": 8, "blockdev/attach": 8, "internal/node": 8,
		"internal/metrics": 8, // as high as can be, so that nothing but commands counts in it: docs/design/0022-metrics.md
		"cmd":              9,
		"internal/sim":     testOnly, "internal/history": testOnly, "internal/bttest": testOnly, "internal/testenv": testOnly, "internal/lint": testOnly,
		"internal/simnet": testOnly, "internal/fastrung": testOnly, "internal/metrics/metricstest": testOnly, "test": testOnly,
	}
}

// testOnly is the layer of packages that only tests, and each other, may import. They may import everything but commands.
const testOnly = 100

// place returns the table's directory that gives dir its layer, and the layer; ok is false for an unknown package.
func place(dir string) (home string, layer int, ok bool) {
	table := layers()
	for home = dir; ; {
		if layer, ok := table[home]; ok && (home == dir || home != "." && home != "crypto") {
			return home, layer, true
		}
		cut := strings.LastIndexByte(home, '/')
		if cut < 0 {
			return "", 0, false
		}
		home = home[:cut]
	}
}

// checkImport returns why a file in directory from may not import directory to, or "".
func checkImport(from, to string, test bool) string {
	fromHome, fromLayer, ok := place(from)
	if !ok {
		return "has no layer: add it to layers in internal/lint"
	}
	toHome, toLayer, ok := place(to)
	switch {
	case !ok:
		return "imports " + to + ", which has no layer"
	case from == to || fromHome == "cmd" && toHome == "cmd" && sharesCommand(from, to):
		return ""
	case toHome == "cmd":
		return "imports the command " + to
	case toLayer == testOnly && !test && fromLayer != testOnly:
		return "imports " + to + ", which is for tests only"
	case test || fromLayer == testOnly || fromHome == toHome:
		return ""
	case toLayer >= fromLayer:
		return fmt.Sprintf("(layer %d) imports %s (layer %d): only strictly lower layers", fromLayer, to, toLayer)
	case fromLayer == 0:
		return "imports " + to + ": the root imports the standard library only"
	}
	return ""
}

// sharesCommand reports whether a command's directory may import another below cmd: its own ones, and cmd/internal, which all
// commands share.
func sharesCommand(from, to string) bool {
	f, t := strings.Split(from, "/"), strings.Split(to, "/")
	return len(f) > 1 && len(t) > 1 && (f[1] == t[1] || t[1] == "internal")
}

func checkLayers(all []*source) (complaints []string) {
	for _, s := range all {
		if _, _, ok := place(s.dir); !ok {
			complaints = append(complaints, s.dir+" has no layer: add it to layers in internal/lint")
			continue
		}
		for _, i := range s.tree.Imports {
			to := strings.Trim(i.Path.Value, `"`)
			if to != module && !strings.HasPrefix(to, module+"/") {
				if s.dir == "." && !s.test && strings.Contains(strings.Split(to, "/")[0], ".") {
					complaints = append(complaints, s.at(i)+": the root imports the standard library only")
				}
				continue
			}
			to = strings.TrimPrefix(strings.TrimPrefix(to, module), "/")
			if to == "" {
				to = "."
			}
			if why := checkImport(s.dir, to, s.test); why != "" {
				complaints = append(complaints, s.at(i)+": "+s.dir+" "+why)
			}
		}
	}
	return complaints
}

func TestLayers(t *testing.T) { report(t, checkLayers(sources(t))) }

// checkPrometheus lets one package know the library, and its test helper the library's linter.
func checkPrometheus(all []*source) (complaints []string) {
	for _, s := range all {
		for _, i := range s.tree.Imports {
			knows := s.dir == "internal/metrics" || strings.HasPrefix(s.dir, "internal/metrics/")
			if strings.Contains(i.Path.Value, "/prometheus/") && !knows {
				complaints = append(complaints, s.at(i)+": only internal/metrics knows Prometheus")
			}
		}
	}
	return complaints
}

func TestPrometheus(t *testing.T) { report(t, checkPrometheus(sources(t))) }

func TestPrometheusRule(t *testing.T) {
	const text = "package p\nimport _ \"github.com/prometheus/client_golang/prometheus\"\n"
	expect(t, "elsewhere", checkPrometheus([]*source{mustParse(t, "cluster/a.go", text)}), "only internal/metrics")
	expect(t, "in tests", checkPrometheus([]*source{mustParse(t, "cluster/a_test.go", text)}), "only internal/metrics")
	expect(t, "there", checkPrometheus([]*source{mustParse(t, "internal/metrics/a.go", text)}))
}

func TestLayersRule(t *testing.T) {
	for _, x := range []struct {
		from, to string
		test     bool
		want     string
	}{
		{"cluster", "cluster/store", false, ""},
		{"cluster/store", "cluster", false, "only strictly lower"},
		{"cluster/store", "cluster/stripe", false, "only strictly lower"},
		{"cluster/member", "cluster", false, ""},
		{"cluster", "cluster/member", false, ""},
		{"cluster/member", "internal/file", false, "only strictly lower"},
		{"internal/file", "cluster/member", false, ""},
		{"blockdev/nbd", "blockdev", false, ""},
		{"blockdev", "blockdev/nbd", false, "only strictly lower"},
		{"internal/node", "blockdev/nbd", false, "only strictly lower"},
		{"internal/bttp/bareexchange", "internal/bttp", false, ""},
		{"cluster", "internal/bttest", false, "for tests only"},
		{"cluster", "internal/bttest", true, ""},
		{"cluster", "internal/metrics", false, "only strictly lower"},
		{"blockdev/nbd", "internal/metrics", false, "only strictly lower"},
		{"cmd/internal/parts", "internal/metrics", false, ""},
		{"internal/metrics", "internal/latency", false, ""},
		{"internal/metrics", "internal/metrics/metricstest", false, "for tests only"},
		{"internal/testenv", "internal/node", false, ""},
		{"internal/testenv", "internal/bttest", false, ""},
		{"internal/testenv", "cmd/btnbd", false, "the command"},
		{"test/bench/report", "internal/bttp/bareexchange", false, ""},
		{"cmd/btnbd", "internal/node", false, ""},
		{"cmd/btnbd", "cmd/btnbd/demo", false, ""},
		{"cmd/btnbd", "cmd/btnode", false, "the command"},
		{"cmd/btnbd", "cmd/internal/parts", false, ""},
		{"cmd/internal/parts", "cmd/btnbd", false, "the command"},
		{"internal/node", "cmd/internal/parts", false, "the command"},
		{"internal/erasure", "crypto/seal", false, "only strictly lower"},
		{"internal/erasure", "crypto/seal", true, ""},
		{"internal/erasure", ".", false, ""},
		{".", "internal/wire", false, "only strictly lower"},
		{"helpers", ".", false, "no layer"},
		{"crypto/other", ".", false, "no layer"},
		{"cluster", "internal/util", false, "no layer"},
	} {
		got := checkImport(x.from, x.to, x.test)
		if x.want == "" && got != "" || !strings.Contains(got, x.want) {
			t.Errorf("%s imports %s (test %t): %q, want %q", x.from, x.to, x.test, got, x.want)
		}
	}
	broken := mustParse(t, "internal/wire/x.go", "package wire\nimport _ \"blocktree/cluster\"\n")
	expect(t, "wire imports cluster", checkLayers([]*source{broken}), "internal/wire/x.go:2: internal/wire (layer 1) imports cluster (layer 5)")
	root := mustParse(t, "x.go", "package blocktree\nimport _ \"golang.org/x/sys/unix\"\n")
	expect(t, "root imports a module", checkLayers([]*source{root}), "standard library only")
}
