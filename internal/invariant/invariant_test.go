package invariant

import "testing"

func TestCheck(t *testing.T) {
	Check(true, "holds")
	defer func() {
		if got := recover(); got != "invariant broken: sector 7" {
			t.Fatalf("got %v", got)
		}
	}()
	Check(false, "sector %d", 7)
}
