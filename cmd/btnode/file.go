package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cmd/internal/parts"
	"blocktree/internal/cli"
	"blocktree/internal/config"
)

// fileTimeout bounds how long a command about files waits for the cluster.
const fileTimeout = 15 * time.Second

func newFile() *cobra.Command {
	group := cli.NewGroup("file", "Make, list, describe, resize and remove files",
		`file works with the files of a cluster by path: /vm/disk0 is meant inside the domain of the configuration. The
configuration may be that of any node, client or NBD server of the cluster.`)
	group.AddCommand(newFileCreate(), newFileLs(), newFileStat(), newFileResize(), newFileRm())
	return group
}

// withCluster loads the configuration, connects, and runs do with a context that ends after fileTimeout.
func withCluster(c *cobra.Command, file string, do func(ctx context.Context, cfg *config.Client, client *cluster.Client) error) error {
	return withClusterFor(c, file, fileTimeout, do)
}

// withClusterFor is withCluster with a bound of its own.
func withClusterFor(c *cobra.Command, file string, timeout time.Duration, do func(ctx context.Context, cfg *config.Client, client *cluster.Client) error) error {
	cfg, err := config.LoadClient(config.Source{File: file})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context(), timeout)
	defer cancel()
	client, err := parts.Dial(ctx, &cfg.Base, parts.QuietLogger(c.ErrOrStderr(), &cfg.Base))
	if err != nil {
		return err
	}
	defer client.Close()
	return do(ctx, cfg, client)
}

// addIntegrity adds the flag of commands that make files.
func addIntegrity(c *cobra.Command, integrity *string) {
	c.Flags().StringVar(integrity, "integrity", "sector", "sector, or tree to notice nodes that all go back in time")
	completeWords(c, "integrity", config.Integrities())
}

func newFileCreate() *cobra.Command {
	var file, encryption string
	var create config.Create
	var more []string
	c := &cobra.Command{
		Use:   "create PATH --size SIZE [--code K+M] [--sector-size SIZE] [--encryption on|none] [--durability ack|flush] [--integrity sector|tree] [--readers KEY] --config FILE",
		Short: "Make a file",
		Long: `create makes a file, all zeros, which costs no space until it is written; resize changes its size. Directories above it are made
as needed. Its key is wrapped to the readers of the configuration, to those of --readers, and to the nearest directory above that has a key (file
mkdir --readers); whoever has none of their secret keys sees noise.

Without --code the file gets 2+1, or what fits a cluster of fewer than three nodes.

What was written to a file of durability ack, and answered, survives the loss of power of all nodes at once. In one of durability flush it
survives that after the next FLUSH, or two seconds, as on a disk with a cache of its own: faster where few writes are in flight. If power takes
what was answered before that, whoever has the file open is told by errors.

With integrity tree whoever opens the file notices if all nodes together answer with what is older than it has seen, and refuses: "rollback
detected". A server keeps the newest root that it saw; btnode file stat prints it, for others to demand. It costs speed, how much is not shown yet;
such a file is encrypted, is made smaller only with a reader key while nobody has it open, and zeros and TRIM take as much room as any data. What was flushed is covered some seconds later.`,
		Example: `  btnode file create /vm/disk1 --size 10GiB --config client.yaml
  btnode file create /vm/disk2 --size 500M --code 1+2 --sector-size 512 --config client.yaml
  btnode file create /vm/scratch --size 10GiB --durability flush --config client.yaml
  btnode file create /vm/vault --size 10GiB --integrity tree --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH"),
	}
	addConfig(c, &file, "configuration of any node or client of the cluster")
	addSize(c, &create.Size, "", "size of the file, a whole number of sectors")
	addCode(c, &create.Code, "")
	c.Flags().Var(&create.SectorSize, "sector-size", "bytes per sector, a power of two from 512 to 64KiB (default 4KiB)")
	c.Flags().StringVar(&encryption, "encryption", "on", "on, or none to keep integrity without secrecy")
	completeWords(c, "encryption", []string{"on", "none"})
	addDurability(c, &create.Durability)
	addReaders(c, &more, "reader who is to read it, too: a public key, or a file with one or with a reader key")
	addIntegrity(c, &create.Integrity)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := cli.RequireFlags(c, "config", "size"); err != nil {
			return err
		}
		create.Encryption = encryption
		return createFile(c, file, args[0], &create, more)
	}
	return c
}

func createFile(c *cobra.Command, file, name string, create *config.Create, more []string) error {
	cfg, err := config.LoadClient(config.Source{File: file})
	if err != nil {
		return err
	}
	path, err := cfg.Resolve(name)
	if err != nil {
		return err
	}
	given, members := create.Code.Data != 0, len(cfg.Cluster.Members)
	if !given {
		_ = create.Code.Set(defaultCode(members)) // constants
	}
	if err := create.Validate(0); err != nil {
		return err
	}
	readers, err := parts.Readers(&cfg.Base, nil, more...)
	if err != nil {
		return err
	}
	return withCluster(c, file, func(ctx context.Context, _ *config.Client, client *cluster.Client) error {
		if members == 0 || create.Validate(members) != nil { // its directory's cluster may be another
			if members, err = hostsFor(ctx, cfg, client, path); err != nil {
				return err
			}
			if !given {
				_ = create.Code.Set(defaultCode(members)) // constants
			}
			if err := create.Validate(members); err != nil {
				return err
			}
		}
		if _, err := parts.CreateFile(ctx, client, path, create, readers, nil); err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %s, code %s\n", path.Short(), create.Size.String(), create.Code.String())
		return err
	})
}

// hostsFor is how many sector hosts the cluster of a file's directory has; of the configuration's own as many as it lists, which it must do.
func hostsFor(ctx context.Context, cfg *config.Client, client *cluster.Client, path blocktree.Path) (int, error) {
	of, err := client.ClusterOf(ctx, path.Parent())
	if err != nil || of == client && len(cfg.Cluster.Members) > 0 {
		return len(cfg.Cluster.Members), err
	}
	hosts, err := of.Hosts(ctx)
	return len(hosts), err
}

// defaultCode is the code of a file in a cluster of so many members when nobody said.
func defaultCode(members int) string {
	switch members {
	case 1:
		return "1+0"
	case 2:
		return "1+1"
	}
	return "2+1"
}

func newFileRm() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "rm PATH --config FILE",
		Short: "Remove a file that nobody has open, or an empty directory",
		Long: `rm removes a file and gives its space back to the nodes. A file that an NBD server serves is busy: stop that first.
There is no way back.`,
		Example:               `  btnode file rm /vm/disk1 --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH"),
	}
	addConfig(c, &file, "configuration of any node or client of the cluster")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := cli.RequireFlags(c, "config"); err != nil {
			return err
		}
		return withCluster(c, file, func(ctx context.Context, cfg *config.Client, client *cluster.Client) error {
			path, err := cfg.Resolve(args[0])
			if err != nil {
				return err
			}
			return client.Remove(ctx, path)
		})
	}
	return c
}
