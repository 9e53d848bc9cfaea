package main

import (
	"os"

	"github.com/spf13/cobra"

	"blocktree/internal/cli"
)

func main() {
	cli.CalmMonitor("run", "mount")
	os.Exit(cli.Run(newRoot(), os.Args[1:], os.Stdout, os.Stderr))
}

// newRoot makes the whole command, new for every call.
func newRoot() *cobra.Command {
	root := cli.NewRoot("btnode", "Run a storage node of Blocktree, and work with its files",
		`btnode runs one storage node: a process that keeps sealed, erasure coded sectors on its disk and its part of the
cluster's metadata. The other commands work with files by path, through the nodes of a cluster.

Files are offered as block devices by btnbd.

The exit code is 0 when all was done, 1 when it failed, or some of several things did, 2 when it cannot succeed as typed.
An error goes to the standard error: two lines for people, or with --json one line of JSON, {"error": {"kind": "not found", "message": …, "hint": …}}, of
which scripts may match the kind.`,
		`  btnode playground --dir /tmp/play --nodes 3 --code 2+1
  btnode run --config /etc/blocktree/btnode.yaml
  btnode file create /vm/disk1 --size 10GiB --config client.yaml
  btnode grant /vm/disk1 --to /host7 --rights read,write,lease --config client.yaml
  btnode put disk.img /vm/disk2 --config client.yaml
  btnode cp -r '/docs/*' /archive --config client.yaml
  btnode mount /docs /mnt/docs --config client.yaml
  btnode rekey /vm/disk1 --reader-key reader.key --wait --config client.yaml
  btnode status --config client.yaml
  btnode locate /vm/disk1 --config client.yaml
  btnode scrub --config client.yaml
  btnode dir migrate /rack1 --reader-key reader.key --config client.yaml
  btnode domain init --dir /media/offline/domain --passphrase
  btnode store check /var/lib/blocktree/store`)
	root.AddCommand(newRun(), newPlayground(), newFile(), newMkdir(), newChmod(), newChown(), newGrant(), newRevoke(), newReader(), newRekey(), newLs(), newStat(), newDu(), newCat(), newGet(),
		newPut(), newCp(), newMv(), newRm(), newLn(), newReadlink(), newMount(), newStatus(), newLocate(), newScrub(), newNode(), newDir(), newStore(), newDomain(), newCredential())
	return root
}
