package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"blocktree"
)

func TestOutcomesAreTotal(t *testing.T) {
	table := outcomes()
	for k := range blocktree.Kinds() {
		o, ok := table[blocktree.Kind(k)]
		if !ok {
			t.Errorf("kind %v has no exit code", blocktree.Kind(k))
			continue
		}
		if o.code != ExitFailure && o.code != ExitUsage {
			t.Errorf("kind %v exits with %d", blocktree.Kind(k), o.code)
		}
		if o.hint == "" {
			t.Errorf("kind %v has no hint", blocktree.Kind(k))
		}
	}
	if len(table) != blocktree.Kinds() {
		t.Errorf("%d outcomes for %d kinds", len(table), blocktree.Kinds())
	}
}

func TestExitCode(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{io.EOF, 1},
		{Invalid("h", "no"), 2},
		{fmt.Errorf("outer: %w", blocktree.E("op", blocktree.TooLarge, nil)), 2},
		{blocktree.E("op", blocktree.Other, blocktree.E("in", blocktree.Invalid, nil)), 2},
		{WithHint(blocktree.E("op", blocktree.Invalid, nil), "h"), 2},
		{WithHint(io.EOF, "h"), 1},
		{blocktree.E("op", blocktree.Kind(250), nil), 1},
	} {
		if got := ExitCode(tc.err); got != tc.want {
			t.Errorf("ExitCode(%v) = %d, want %d", tc.err, got, tc.want)
		}
	}
}

func TestPrintError(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{Invalid("use one", "nodes: %d", 0), "bt: error: invalid: nodes: 0\nbt: hint: use one\n"},
		{WithHint(blocktree.E("x", blocktree.Busy, nil), "stop it"), "bt: error: x: busy\nbt: hint: stop it\n"},
		{WithHint(Invalid("first", "y"), "second"), "bt: error: invalid: y\nbt: hint: first\n"},
		{blocktree.E("x", blocktree.ReadOnly, nil), "bt: error: x: read-only\nbt: hint: " + outcomes()[blocktree.ReadOnly].hint + "\n"},
	} {
		var b strings.Builder
		PrintError(&b, "bt", tc.err)
		if b.String() != tc.want {
			t.Errorf("got  %q\nwant %q", b.String(), tc.want)
		}
	}
	if WithHint(nil, "h") != nil {
		t.Error("a hint made an error of nothing")
	}
}

func TestParseSize(t *testing.T) {
	good := map[string]uint64{
		"1": 1, "4096": 4096, "512B": 512, "1K": 1 << 10, "1k": 1 << 10, "1KiB": 1 << 10, "1KB": 1 << 10, "64MiB": 64 << 20,
		"3M": 3 << 20, "1G": 1 << 30, "1GiB": 1 << 30, "1gib": 1 << 30, "2T": 2 << 40, "2TiB": 2 << 40,
		"9223372036854775807": 1<<63 - 1, "8388607T": 8388607 << 40,
	}
	for s, want := range good {
		if got, err := ParseSize(s); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "0", "0K", "-1", "-1G", "+1", "1.5G", "12parsecs", "G", "1 G", " 1", "1G ", "1KiBB", "0x10",
		"9223372036854775808", "8388608T", "99999999999999999999", "1P", "1iB"} {
		_, err := ParseSize(s)
		if blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
			t.Errorf("ParseSize(%q): %v (hint %q), want Invalid with a hint", s, err, blocktree.HintOf(err))
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"1GiB", "0", "12parsecs", "-1", "9223372036854775807", "7kb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseSize(s)
		if err != nil {
			return
		}
		if n == 0 || n > 1<<63-1 {
			t.Fatalf("ParseSize(%q) = %d", s, n)
		}
		if again, err := ParseSize(FormatSize(n)); err != nil || again != n {
			t.Fatalf("%q is %d, printed %q, read back %d, %v", s, n, FormatSize(n), again, err)
		}
	})
}

func TestCodeValue(t *testing.T) {
	var c Code
	if err := c.Set("2+1"); err != nil || c.Data != 2 || c.Parity != 1 || c.String() != "2+1" {
		t.Errorf("2+1: %v, %v", c, err)
	}
	for _, s := range []string{"0+1", "200+100", "2", "a+b", "", "2+5", "-1+1"} {
		if err := c.Set(s); blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
			t.Errorf("code %q: %v", s, err)
		}
	}
}

// program is a small tree with one of everything.
func program(run func(*cobra.Command, []string) error) *cobra.Command {
	root := NewRoot("prog", "Do things", "prog does things.", "  prog file make X")
	group := NewGroup("file", "Things", "file holds things.")
	var size Size
	leaf := &cobra.Command{Use: "make NAME", Short: "Make one", Args: Args("NAME"), RunE: run}
	leaf.Flags().Var(&size, "size", "its size")
	group.AddCommand(leaf)
	root.AddCommand(group)
	return root
}

func TestRun(t *testing.T) {
	ok := func(*cobra.Command, []string) error { return nil }
	for _, tc := range []struct {
		args   string
		run    func(*cobra.Command, []string) error
		code   int
		stderr string
	}{
		{"version", ok, 0, ""},
		{"", ok, 0, ""},
		{"file make a", ok, 0, ""},
		{"file make a --size 1G", ok, 0, ""},
		{"file make a --size 0", ok, 2, "is zero\nprog: hint: " + sizeHint},
		{"file make a --frob", ok, 2, "unknown flag: --frob\nprog: hint: see `prog file make --help`"},
		{"file make", ok, 2, "NAME is missing\nprog: hint: usage: prog file make NAME"},
		{"file make a b", ok, 2, `"b" is one argument too many`},
		{"file mak", ok, 2, "did you mean `prog file make`?"},
		{"fil", ok, 2, "did you mean `prog file`?"},
		{"file make a", func(*cobra.Command, []string) error { return blocktree.E("x", blocktree.Busy, nil) }, 1, "prog: error: x: busy\nprog: hint: "},
	} {
		var out, errs bytes.Buffer
		code := RunContext(context.Background(), program(tc.run), strings.Fields(tc.args), &out, &errs)
		if code != tc.code || !strings.Contains(errs.String(), tc.stderr) || (tc.stderr == "") != (errs.Len() == 0) {
			t.Errorf("%q: exit %d, stderr %q; want %d, %q", tc.args, code, errs.String(), tc.code, tc.stderr)
		}
	}
}

// An error of who asked for JSON is one line of it, whatever was wrong; the exit code is that of the words.
func TestErrorsAsJSON(t *testing.T) {
	busy := func(*cobra.Command, []string) error {
		return WithHint(blocktree.E("x", blocktree.Busy, nil), `stop "it"`)
	}
	for _, tc := range []struct {
		args, want string
		code       int
	}{
		{"file make a --json", `{"error":{"kind":"busy","message":"x: busy","hint":"stop \"it\""}}`, 1},
		{"file make a --json=false", "prog: error: x: busy", 1},
		{"file make a", "prog: error: x: busy", 1},
		{"file make a --frob --json", `{"error":{"kind":"invalid","message":"invalid: unknown flag: --frob","hint":"see ` + "`prog file make --help`" + `"}}`, 2},
		{"file make a --frob --json=true", `{"error":{"kind":"invalid","message":"invalid: unknown flag: --frob","hint":"see ` + "`prog file make --help`" + `"}}`, 2},
		{"file make a --frob --json=false", "prog: error: ", 2},
		{"file make --json", `{"error":{"kind":"invalid","message":"invalid: NAME is missing","hint":"usage: prog file make NAME [flags]"}}`, 2},
		{"file make a -- --json", "prog: error: ", 2},
		{"file mak --json", "prog: error: ", 2},
	} {
		root := program(busy)
		c, _, err := root.Find([]string{"file", "make"})
		if err != nil {
			t.Fatal(err)
		}
		c.Flags().Bool("json", false, "")
		var out, errs bytes.Buffer
		code := RunContext(context.Background(), root, strings.Fields(tc.args), &out, &errs)
		if code != tc.code || !strings.HasPrefix(errs.String(), tc.want) || out.Len() > 0 {
			t.Errorf("%q: exit %d, %q, stdout %q; want %d, %q", tc.args, code, errs.String(), out.String(), tc.code, tc.want)
		}
		if tc.want[0] == '{' && errs.String() != tc.want+"\n" {
			t.Errorf("%q: %q is not one line", tc.args, errs.String())
		}
	}
}

func TestStopIsNotAFailure(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	stopped := func(c *cobra.Command, _ []string) error { return c.Context().Err() }
	if code := RunContext(ctx, program(stopped), []string{"file", "make", "a"}, io.Discard, io.Discard); code != 0 {
		t.Errorf("a stop by signal exits with %d", code)
	}
	failed := func(*cobra.Command, []string) error { return blocktree.E("x", blocktree.IO, nil) }
	if code := RunContext(ctx, program(failed), []string{"file", "make", "a"}, io.Discard, io.Discard); code != 1 {
		t.Errorf("a failure during a stop exits with %d", code)
	}
}

func TestManPages(t *testing.T) {
	run := func(*cobra.Command, []string) error { return nil }
	pages, err := ManPages(program(run))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(pages["prog-file-make.1"], []byte(`size`)) || !bytes.Contains(pages["prog.md"], []byte("--size size")) {
		t.Errorf("flag not in pages: %v", keys(pages))
	}
	for name := range pages {
		if strings.Contains(name, "completion") || strings.Contains(name, "-man") {
			t.Errorf("page %s is of no use", name)
		}
	}
	again, _ := ManPages(program(run))
	for name := range pages {
		if !bytes.Equal(pages[name], again[name]) {
			t.Errorf("%s differs from run to run", name)
		}
	}
}

func keys(m map[string][]byte) (names []string) {
	for n := range m {
		names = append(names, n)
	}
	return names
}

func TestLogger(t *testing.T) {
	for _, l := range append(LogLevels(), "") {
		if _, err := NewLogger(io.Discard, l); err != nil {
			t.Errorf("level %q: %v", l, err)
		}
	}
	if _, err := NewLogger(io.Discard, "loud"); blocktree.KindOf(err) != blocktree.Invalid {
		t.Errorf("level loud: %v", err)
	}
	var b strings.Builder
	log, _ := NewLogger(&b, "warn")
	log.Info("quiet")
	log.Warn("heard")
	if strings.Contains(b.String(), "quiet") || !strings.Contains(b.String(), "heard") {
		t.Errorf("logged %q", b.String())
	}
}

func TestRequireFlags(t *testing.T) {
	c := &cobra.Command{Use: "x"}
	c.Flags().String("config", "", "")
	if err := RequireFlags(c, "config"); blocktree.KindOf(err) != blocktree.Invalid {
		t.Errorf("missing flag: %v", err)
	}
	_ = c.Flags().Set("config", "f")
	if err := RequireFlags(c, "config"); err != nil {
		t.Errorf("given flag: %v", err)
	}
}

func TestProfile(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	Profile(log, "none")() // without the variable: nothing
	dir := t.TempDir()
	t.Setenv(ProfileEnv, dir)
	stop := Profile(log, "x")
	for range 2 {
		if err := syscall.Kill(os.Getpid(), syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		for begun := false; !begun; time.Sleep(time.Millisecond) {
			names, _ := filepath.Glob(filepath.Join(dir, "x-*"))
			begun = len(names) == 1
		}
	}
	stop()
	names, _ := filepath.Glob(filepath.Join(dir, "x-*-1.pprof"))
	if len(names) != 1 {
		t.Fatalf("profiles: %v", names)
	}
	if info, err := os.Stat(names[0]); err != nil || info.Size() == 0 {
		t.Errorf("an empty profile: %v", err)
	}
}

func ExampleFormatSize() {
	n, _ := ParseSize("1024M")
	fmt.Println(n, FormatSize(n), FormatSize(4097))
	// Output: 1073741824 1GiB 4097
}
