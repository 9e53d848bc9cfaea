package route

import (
	"errors"
	"strings"
	"testing"

	"blocktree"
)

// A step is one line, however many errors it came to.
func TestStepIsALine(t *testing.T) {
	err := errors.Join(errors.New("one"), errors.New("two"))
	root := blocktree.RootPath(blocktree.PrincipalOf([]byte("root")))
	for _, what := range []StepKind{StepUnreachable, StepDenied, StepRefused, StepSeeds} {
		if s := (Step{What: what, Scope: root, Directory: root, Err: err}).String(); strings.Contains(s, "\n") || !strings.Contains(s, "one; two") {
			t.Errorf("%s: %q", what, s)
		}
	}
}
