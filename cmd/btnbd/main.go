package main

import (
	"os"

	"github.com/spf13/cobra"

	"blocktree/internal/cli"
)

func main() {
	cli.CalmMonitor("serve", "demo")
	os.Exit(cli.Run(newRoot(), os.Args[1:], os.Stdout, os.Stderr))
}

// newRoot makes the whole command, new for every call.
func newRoot() *cobra.Command {
	root := cli.NewRoot("btnbd", "Offer files of Blocktree as block devices over NBD",
		`btnbd is an NBD server. Every file it exports is a raw block device for nbd-client, qemu, nbdcopy or fio, whose sectors
are sealed here, erasure coded, and kept by the nodes of a cluster. It is also the client that makes such a device, or any other
server's, one of this machine's kernel: attach.`,
		`  btnbd demo
  btnbd serve --config /etc/blocktree/btnbd.yaml
  btnbd attach /vm/disk0 /dev/nbd0 --config /etc/blocktree/btnbd.yaml`)
	root.AddCommand(newServe(), newDemo(), newExports(), newCertificate(), newAttach(), newDetach(), newList())
	return root
}
