package main

import "testing"

// TestParts: every step does what the next one needs, round after round: what was sealed is opened, what was sent arrives, what was written is read.
func TestParts(t *testing.T) {
	list, end, err := allParts(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	for range 2 {
		for _, p := range list {
			if err := p.do(); err != nil {
				t.Fatalf("%s: %v", p.name, err)
			}
		}
	}
}
