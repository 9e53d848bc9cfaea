package attach_test

import (
	"fmt"

	"blocktree/blockdev/attach"
)

func ExampleParseTarget() {
	t, err := attach.ParseTarget("unix:/run/btnbd/nbd.sock", "/vm/disk0")
	fmt.Println(t, err)
	_, err = attach.ParseTarget("nbd://192.0.2.7/vm/disk1", "/vm/disk0")
	fmt.Println(err)
	// Output:
	// nbd+unix:///vm/disk0?socket=%2Frun%2Fbtnbd%2Fnbd.sock <nil>
	// server nbd://192.0.2.7/vm/disk1: invalid: it names the export vm/disk1, the command /vm/disk0
}
