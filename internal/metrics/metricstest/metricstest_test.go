package metricstest

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const answer = `# HELP bt_x_total What.
# TYPE bt_x_total counter
bt_x_total{a="1",b="q\"},=\\"} 3
bt_x_total{a="2",b=""} 4.5
# TYPE bt_y_seconds histogram
bt_y_seconds_bucket{a="1",le="0.1"} 1
bt_y_seconds_bucket{a="1",le="+Inf"} 2
bt_y_seconds_sum{a="1"} 1e-3
bt_y_seconds_count{a="1"} 2
# TYPE go_z gauge
go_z 1
`

const document = `## One
| name | type | labels | unit | meaning | alert |
|---|---|---|---|---|---|
| ` + "`bt_x_total`" + ` | counter | b, a | things | what | |
## Two
| ` + "`bt_y_seconds`" + ` | histogram | a | s | how long | |
`

// recorder is a test that notes what fails.
type recorder struct {
	testing.TB
	errors []string
}

func (r *recorder) Helper() {}
func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, format)
}

func TestRead(t *testing.T) {
	s := Read(t, answer)
	if s.Sum(t, "bt_x_total") != 7.5 || s.Sum(t, "bt_x_total", "a", "1", "b", `q"},=\`) != 3 || s.Sum(t, "bt_y_seconds_count") != 2 || s.Kinds["go_z"] != "gauge" {
		t.Errorf("%+v", s)
	}
	if !s.Has("bt_x_total", "a", "2") || s.Has("bt_x_total", "a", "3") {
		t.Error("labels")
	}
	r := &recorder{TB: t}
	s.Sum(r, "bt_x_total", "a", "3")
	if len(r.errors) != 1 {
		t.Error("a sample that is not there passes")
	}
	s.Expect(t, Exactly("bt_x_total", 3, "a", "1"), AtLeast("bt_x_total", 3))
	s.ExpectGrown(t, s, Exactly("bt_x_total", 0))
	r = &recorder{TB: t}
	s.Expect(r, Exactly("bt_x_total", 3), Exactly("bt_x_total", 8), AtLeast("bt_x_total", 8))
	s.ExpectGrown(r, s, Exactly("bt_x_total", 7.5))
	if len(r.errors) != 4 {
		t.Errorf("only %q", r.errors)
	}
}

// TestCheckDocument: what one side lacks, or says otherwise, is a failure.
func TestCheckDocument(t *testing.T) {
	for _, x := range []struct{ of, old, new, sections, want string }{
		{"", "", "", "One Two", ""},
		{"", "", "", "One", "the program exports %s, and"},
		{"document", "bt_y_seconds", "bt_w_seconds", "One Two", "%s has %s, and the program does not"},
		{"document", "| b, a", "| a", "One Two", "%s says of %s"},
		{"document", "| counter", "| gauge", "One Two", "%s says of %s"},
		{"answer", "bt_x_total", "bt_v_total", "One Two", "%s has %s, and the program does not"},
	} {
		d, a := document, answer
		if x.of == "document" {
			d = strings.Replace(d, x.old, x.new, 1)
		} else if x.of != "" {
			a = strings.ReplaceAll(a, x.old, x.new)
		}
		file := t.TempDir() + "/doc.md"
		if err := os.WriteFile(file, []byte(d), 0o600); err != nil {
			t.Fatal(err)
		}
		r := &recorder{TB: t}
		Read(t, a).CheckDocument(r, file, strings.Fields(x.sections)...)
		got := strings.Join(r.errors, "\n")
		if x.want == "" && got != "" || !strings.Contains(got, x.want) {
			t.Errorf("%+v: %q", x, got)
		}
	}
	if _, err := readDocument(document, []string{"Three"}); err == nil {
		t.Error("a section that is not there passes")
	}
	if _, err := readDocument(document+"| `bt_x_total` | a | b |\n", []string{"Two"}); err == nil {
		t.Error("a short line passes")
	}
}

// TestAlerts: the rules that come with the software are of metrics that there are, and say what is the matter.
func TestAlerts(t *testing.T) {
	text, err := os.ReadFile("../../../configs/prometheus-alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	d := yaml.NewDecoder(strings.NewReader(string(text)))
	d.KnownFields(true)
	if err := d.Decode(&rules); err != nil {
		t.Fatal(err)
	}
	names, used := Names(t, "../../../docs/METRICS.md"), 0
	doc, err := os.ReadFile("../../../docs/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	metric := regexp.MustCompile(`\bbt_[a-z0-9_]+`)
	promised := map[string]bool{}
	for _, name := range regexp.MustCompile(`\bBlocktree[A-Z]\w*`).FindAllString(string(doc), -1) {
		promised[name] = true
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || r.Expr == "" || r.Annotations["summary"] == "" || r.Labels["severity"] == "" {
				t.Errorf("incomplete: %+v", r)
			}
			if strings.Count(r.Expr, "(") != strings.Count(r.Expr, ")") || strings.Count(r.Expr, "{") != strings.Count(r.Expr, "}") {
				t.Errorf("%s: %s", r.Alert, r.Expr)
			}
			if !promised[r.Alert] {
				t.Errorf("docs/METRICS.md does not mention %s", r.Alert)
			}
			delete(promised, r.Alert)
			for _, name := range metric.FindAllString(r.Expr, -1) {
				base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count"), "_sum")
				if !names[name] && !names[base] {
					t.Errorf("%s: there is no %s", r.Alert, name)
				}
				used++
			}
		}
	}
	for name := range promised {
		t.Errorf("docs/METRICS.md says that there is a rule %s", name)
	}
	if used < 10 {
		t.Errorf("only %d uses of metrics found", used)
	}
}
