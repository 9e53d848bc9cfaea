package main

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"blocktree"
	"blocktree/blockdev/attach"
)

// TestFallsBackToIoctl: the kernel's old interface is used where it is asked for, and where there is no other one, which the log says; never because
// the better one failed for another reason.
func TestFallsBackToIoctl(t *testing.T) {
	there := t.TempDir()
	gone := filepath.Join(there, "gone")
	for _, x := range []struct {
		name    string
		old     bool
		netlink blocktree.Kind // how that fails; 0: not at all
		device  string
		ioctl   bool
		warns   bool
		fails   blocktree.Kind
	}{
		{name: "netlink", device: there},
		{name: "no netlink", netlink: blocktree.NotFound, device: there, ioctl: true, warns: true},
		{name: "no module", netlink: blocktree.NotFound, device: gone, fails: blocktree.NotFound},
		{name: "no right", netlink: blocktree.Permission, device: there, fails: blocktree.Permission},
		{name: "no answer", netlink: blocktree.IO, device: there, fails: blocktree.IO},
		{name: "as asked", old: true, device: gone, ioctl: true},
	} {
		t.Run(x.name, func(t *testing.T) {
			var said bytes.Buffer
			asked := false
			kernel, err := preferNetlink(x.old, func() (*attach.Netlink, error) {
				asked = true
				if x.netlink != 0 {
					return nil, blocktree.E("netlink", x.netlink, nil)
				}
				return new(attach.Netlink), nil
			}, x.device, slog.New(slog.NewTextHandler(&said, nil)))
			if asked == x.old {
				t.Errorf("netlink was asked: %t", asked)
			}
			if x.fails != 0 {
				if blocktree.KindOf(err) != x.fails || kernel != nil {
					t.Errorf("%v, %v", kernel, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if kernel.Reconnects() == x.ioctl || x.warns != strings.Contains(said.String(), "cannot be reconnected") {
				t.Errorf("%T, which says %q", kernel, &said)
			}
		})
	}
}
