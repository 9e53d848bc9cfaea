package config

import (
	"testing"

	"blocktree"
)

// TestTreeWantsEncryption: integrity tree without it is refused, and says why.
func TestTreeWantsEncryption(t *testing.T) {
	c := Create{Size: 1 << 20, Integrity: "tree", Encryption: "none"}
	if err := c.Code.Set("2+1"); err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(3); blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
		t.Errorf("%v", err)
	}
	c.Encryption, c.Integrity = "on", "bush"
	if err := c.Validate(3); blocktree.KindOf(err) != blocktree.Invalid || blocktree.HintOf(err) == "" {
		t.Errorf("%v", err)
	}
	c.Integrity = "tree"
	if err := c.Validate(3); err != nil || !c.Tree() {
		t.Errorf("%v", err)
	}
}
