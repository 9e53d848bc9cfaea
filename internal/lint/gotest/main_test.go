package main

import (
	"strings"
	"testing"
)

// TestWatcher plays the events of a run and compares what is printed and whether it failed.
func TestWatcher(t *testing.T) {
	for name, x := range map[string]struct {
		events string
		want   string
		failed bool
	}{
		"passes": {`{"Action":"output","Package":"p","Test":"TestA","Output":"--- PASS: TestA\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p"}
`, "ok  \tp\t0.1s\n", false},
		"fails": {`{"Action":"output","Package":"p","Output":"-test.shuffle 42\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: no\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"--- FAIL: TestA\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p"}
`, "    a_test.go:3: no\n--- FAIL: TestA\nFAIL\tp\t0.1s\n-test.shuffle 42\n", true},
		"panics": {`{"Action":"output","Package":"p","Test":"TestA","Output":"panic: no\n"}
{"Action":"fail","Package":"p"}
`, "panic: no\n", true},
		"does not build": {`{"Action":"build-output","ImportPath":"p","Output":"x.go:1: syntax\n"}
{"Action":"fail","Package":"p","FailedBuild":"p"}
`, "x.go:1: syntax\n", true},
		"skips as allowed": {`{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: needs fio\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"--- SKIP: TestA (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
`, "skipped: 1 × needs fio\n", false},
		"skips for no reason": {`{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: flaky\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
`, "FAIL: skipped with a message that is not on internal/lint/skips.txt: p TestA: \"flaky\"\n", true},
		"skips silently": {`{"Action":"skip","Package":"p","Test":"TestA"}
`, "FAIL: skipped with a message that is not on internal/lint/skips.txt: p TestA: \"\"\n", true},
		"no test files": {`{"Action":"output","Package":"p","Output":"?   \tp\t[no test files]\n"}
{"Action":"skip","Package":"p"}
`, "?   \tp\t[no test files]\n", false},
	} {
		var out strings.Builder
		w := &watcher{out: &out, allowed: []string{"needs fio"}, running: map[[2]string][]string{}, skipped: map[string]int{}}
		if err := w.read(strings.NewReader(x.events)); err != nil {
			t.Fatal(err)
		}
		w.summary()
		if out.String() != x.want || w.failed != x.failed {
			t.Errorf("%s: printed %q, failed %t; want %q, %t", name, out.String(), w.failed, x.want, x.failed)
		}
	}
}
