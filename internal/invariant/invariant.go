package invariant

import "fmt"

// Check panics with the formatted text unless ok. Arguments are evaluated even when ok holds: keep them cheap.
func Check(ok bool, format string, args ...any) {
	if !ok {
		panic("invariant broken: " + fmt.Sprintf(format, args...))
	}
}
