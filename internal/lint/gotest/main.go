package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

const skipsFile = "internal/lint/skips.txt"

// event is a line of `go test -json` (go doc test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string // of a build-output
	Test       string
	Output     string
}

func main() {
	status, err := run(os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest: error:", err)
		status = 2
	}
	os.Exit(status)
}

func run(args []string, out io.Writer) (status int, err error) {
	allowed, err := readSkips(skipsFile)
	if err != nil {
		return 0, err
	}
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	w := &watcher{out: out, allowed: allowed, running: map[[2]string][]string{}, skipped: map[string]int{}}
	readErr := w.read(events)
	waitErr := cmd.Wait()
	var exit *exec.ExitError
	if waitErr != nil && !errors.As(waitErr, &exit) {
		return 0, waitErr
	}
	if readErr != nil {
		return 0, readErr
	}
	w.summary()
	if waitErr != nil || w.failed {
		return 1, nil
	}
	return 0, nil
}

func readSkips(name string) (allowed []string, err error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("run from the root of the repository: %w", err)
	}
	for line := range strings.Lines(string(content)) {
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line != "" {
			allowed = append(allowed, line)
		}
	}
	return allowed, nil
}

// watcher prints events as go test would, and collects skips.
type watcher struct {
	out     io.Writer
	allowed []string
	running map[[2]string][]string // output of tests that have not ended, by package and test
	skipped map[string]int         // how often each allowed message was said
	refused []string
	failed  bool
}

func (w *watcher) read(events io.Reader) error {
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil && e.Action != "" {
				w.take(e)
			} else {
				w.out.Write(line)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (w *watcher) take(e event) {
	key := [2]string{e.Package, e.Test}
	switch {
	case e.Action == "build-output":
		io.WriteString(w.out, e.Output)
	case e.Action == "output" && e.Test != "":
		w.running[key] = append(w.running[key], e.Output)
	case e.Action == "output":
		if e.Output != "PASS\n" && !strings.HasPrefix(e.Output, "-test.shuffle") {
			io.WriteString(w.out, e.Output)
		} else if strings.HasPrefix(e.Output, "-test.shuffle") {
			w.running[key] = append(w.running[key], e.Output)
		}
	case e.Action == "skip" && e.Test != "":
		w.skip(e, w.running[key])
		delete(w.running, key)
	case e.Action == "pass" || e.Action == "skip":
		delete(w.running, key)
	case e.Action == "fail":
		w.fail(e)
	}
}

// fail prints what a failed test said; of a package that ended badly, what every unfinished test said.
func (w *watcher) fail(e event) {
	w.failed = true
	var keys [][2]string
	for key := range w.running {
		if key[0] == e.Package && (key[1] == e.Test || e.Test == "") {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b [2]string) int { return strings.Compare(a[1], b[1]) })
	for _, key := range keys {
		for _, output := range w.running[key] {
			io.WriteString(w.out, output)
		}
		delete(w.running, key)
	}
}

// skip finds what a skipped test said last: "    file_test.go:12: message".
func (w *watcher) skip(e event, output []string) {
	position := regexp.MustCompile(`^\s+\S+\.go:\d+: (.*)$`)
	message := ""
	for _, line := range output {
		if m := position.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			message = m[1]
		}
	}
	if slices.Contains(w.allowed, message) {
		w.skipped[message]++
		return
	}
	w.failed = true
	w.refused = append(w.refused, fmt.Sprintf("%s %s: %q", e.Package, e.Test, message))
}

func (w *watcher) summary() {
	messages := make([]string, 0, len(w.skipped))
	for m := range w.skipped {
		messages = append(messages, m)
	}
	slices.Sort(messages)
	for _, m := range messages {
		fmt.Fprintf(w.out, "skipped: %d × %s\n", w.skipped[m], m)
	}
	for _, r := range w.refused {
		fmt.Fprintf(w.out, "FAIL: skipped with a message that is not on %s: %s\n", skipsFile, r)
	}
}
