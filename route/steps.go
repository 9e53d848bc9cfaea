package route

import (
	"fmt"
	"strings"
	"time"

	"blocktree"
)

// StepKind is what was done on the way to an answer.
type StepKind string

// The kinds of steps.
const (
	StepCached      StepKind = "cached"      // the answer was known
	StepNearest     StepKind = "nearest"     // the question begins at this cluster, which is known
	StepHome        StepKind = "home"        // it begins at the own cluster
	StepSeeds       StepKind = "seeds"       // it begins at the root directory, as seeds name it
	StepFound       StepKind = "found"       // a runtime said who it is
	StepNobody      StepKind = "nobody"      // a runtime said that there is nobody
	StepRedirected  StepKind = "redirected"  // a runtime named another cluster
	StepUnreachable StepKind = "unreachable" // a runtime did not answer
	StepDenied      StepKind = "denied"      // a runtime would not tell us
	StepRefused     StepKind = "refused"     // what a runtime said is not to be believed
	StepForgotten   StepKind = "forgotten"   // nobody of the cluster answered: it is known no more
)

// Step is one step on the way to an answer.
type Step struct {
	What      StepKind
	Scope     blocktree.Scope // that was asked about then; it shortens where a question goes on rootward
	Directory blocktree.Scope // of the cluster that was asked; of what was cached: where it is
	Runtime   string          // that was asked: its path or, of a seed without one, its endpoint
	To        blocktree.Scope // where a redirect leads, or what was found is
	Runtimes  int             // how many were named
	TTL       time.Duration   // how long that holds
	Took      time.Duration
	Err       error
}

// String is one line for people, as `btnode locate` prints it.
func (s Step) String() string {
	asked := fmt.Sprintf("asked %s of %s about %s: ", s.Runtime, s.Directory.Short(), s.Scope.Short())
	ms := fmt.Sprintf(" (%v)", s.Took.Round(100*time.Microsecond))
	switch s.What {
	case StepCached:
		if s.Runtimes == 0 {
			return fmt.Sprintf("cached: nobody, for another %v", s.TTL.Round(time.Second))
		}
		return fmt.Sprintf("cached: %d runtimes in %s, for another %v", s.Runtimes, s.Directory.Short(), s.TTL.Round(time.Second))
	case StepNearest:
		return fmt.Sprintf("the nearest cluster that is known is that of %s", s.Directory.Short())
	case StepHome:
		return fmt.Sprintf("the own cluster is that of %s", s.Directory.Short())
	case StepSeeds:
		if s.Err != nil {
			return fmt.Sprintf("no seeds of the root directory: %s", strings.ReplaceAll(s.Err.Error(), "\n", "; "))
		}
		return fmt.Sprintf("%d seeds of the root directory", s.Runtimes)
	case StepFound:
		return asked + fmt.Sprintf("%d runtimes in %s, for %v", s.Runtimes, s.To.Short(), s.TTL) + ms
	case StepNobody:
		return asked + fmt.Sprintf("nobody, for %v", s.TTL) + ms
	case StepRedirected:
		return asked + fmt.Sprintf("redirected to %s (%d runtimes), for %v", s.To.Short(), s.Runtimes, s.TTL) + ms
	case StepForgotten:
		return fmt.Sprintf("nobody of %s answered as it should: forgotten", s.Directory.Short())
	}
	return asked + strings.ReplaceAll(fmt.Sprintf("%s: %v", s.What, s.Err), "\n", "; ") + ms // several errors are a line each
}
