package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/pflag"

	"blocktree/internal/cli"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"btnbd": main}) }

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", Cmds: map[string]func(*testscript.TestScript, bool, []string){"await": await}})
}

// await FILE REGEXP: waits until a line of the file matches, since what runs in the background cannot be read otherwise.
func await(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: await FILE REGEXP")
	}
	want := regexp.MustCompile("(?m)" + args[1])
	var text []byte
	for range 1800 {
		text, _ = os.ReadFile(ts.MkAbs(args[0])) // not there yet, perhaps
		if want.Match(text) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	ts.Fatalf("%s has no %s: %s", args[0], args[1], text)
}

// TestManual: the pages of docs/man are those that this command makes, and every flag is in its help, in its man page
// and in the manual.
func TestManual(t *testing.T) {
	const dir = "../../docs/man"
	root := newRoot()
	pages, err := cli.ManPages(root)
	if err != nil {
		t.Fatal(err)
	}
	for name, page := range pages {
		stored, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !bytes.Equal(stored, page) {
			t.Errorf("docs/man/%s is not what the command makes (%v); run: go run ./cmd/btnbd man docs/man", name, err)
		}
	}
	manual := string(pages["btnbd.md"])
	for _, c := range cli.Commands(root) {
		page := string(pages[strings.ReplaceAll(c.CommandPath(), " ", "-")+".1"])
		help := c.UsageString()
		c.Flags().VisitAll(func(f *pflag.Flag) {
			dashed := strings.ReplaceAll("--"+f.Name, "-", "\\-")
			if !strings.Contains(help, "--"+f.Name) || !strings.Contains(manual, "--"+f.Name) || !strings.Contains(page, dashed) &&
				!strings.Contains(page, "--"+f.Name) {
				t.Errorf("%s --%s is not in help, man page and manual", c.CommandPath(), f.Name)
			}
		})
		if c.Long == "" && c.Name() != "version" || c.Short == "" || c.HasParent() && !c.HasSubCommands() && c.Example == "" && c.Name() != "version" {
			t.Errorf("%s lacks a text or an example", c.CommandPath())
		}
	}
}
