package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cluster"
	"blocktree/crypto/cred"
	"blocktree/internal/cli"
	"blocktree/internal/config"
)

// addFlags say who is added.
type addFlags struct {
	config, credentials, principal, store string
	endpoints                             []string
	filesystem                            bool
}

func newNodeAdd() *cobra.Command {
	var f addFlags
	c := &cobra.Command{
		Use:   "add PATH (--credentials FILE | --principal ID) --endpoint HOST:PORT... [--store ID] [--filesystem] --config FILE",
		Short: "Add a node to a directory, whose cluster it founds or joins",
		Long: `add puts the process record of a sector host at PATH, which lies in a directory that is there (btnode mkdir). The first node in a directory that has none yet, whichever that is, founds a cluster of
its own for the directory when it is started: the directory's entries move over to it once, files that are made in it from then on are kept there, and files of before stay where they are, under the same names. Further
nodes join it, and get their places in new files. Until its first nodes run nothing changes.

The node's configuration has cluster.directory, the same store.id, no cluster.members, and in domain.seeds some nodes of the root directory, or the name of these in domain.dns. It takes user id 0. Asked again it changes the node's addresses.
A directory that has got a cluster of its own keeps it. In the root directory the node's configuration lists the members, itself among them.`,
		Example: `  btnode mkdir /rack1 --config client.yaml
  btnode node add /rack1/node-a --credentials node-a.cred --endpoint 192.0.2.11:7001 --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH"),
	}
	addConfig(c, &f.config, "configuration of any node or client of the domain")
	c.Flags().StringVar(&f.credentials, "credentials", "", "the node's credentials, which say its principal")
	c.Flags().StringVar(&f.principal, "principal", "", "the node's principal, instead of --credentials")
	c.Flags().StringVar(&f.store, "store", "", "the id of the node's store, store.id of its configuration (default: that of its record, if it has one; else one is drawn, and printed)")
	c.Flags().StringArrayVar(&f.endpoints, "endpoint", nil, "an address of the node as others reach it; may be given several times")
	c.Flags().BoolVar(&f.filesystem, "filesystem", false, "the node is a filesystem service, too")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := cli.RequireFlags(c, "config"); err != nil {
			return err
		}
		return withCluster(c, f.config, func(ctx context.Context, cfg *config.Client, client *cluster.Client) error {
			r, err := f.runtime(cfg, args[0])
			if err != nil {
				return err
			}
			if f.store == "" { // who is there already keeps its store
				err = keepStore(ctx, client, &r)
			}
			if err == nil {
				err = client.AddNode(ctx, r)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s is added, with store %v; start it on an empty directory\n", r.Path.Short(), r.Node)
			return err
		})
	}
	return c
}

// runtime is the process record that the flags describe.
func (f *addFlags) runtime(cfg *config.Client, name string) (r blocktree.Runtime, err error) {
	if r.Path, err = cfg.Resolve(name); err != nil {
		return r, err
	}
	switch {
	case f.credentials != "" && f.principal != "":
		return r, cli.Invalid("say one of them", "--credentials and --principal say the same twice")
	case f.credentials != "":
		r.Principal, err = f.principalIn(cfg, r.Path)
	case f.principal != "":
		r.Principal, err = blocktree.ParsePrincipal(f.principal)
		err = cli.WithHint(err, "the id of a principal is the letter e and 52 letters or digits")
	default:
		return r, cli.Invalid("give --credentials or --principal", "who the node is was not said")
	}
	if err != nil {
		return r, err
	}
	if r.Node = cluster.NewStore(); f.store != "" {
		if r.Node, err = blocktree.ParseNodeID(f.store); err != nil {
			return r, cli.WithHint(err, "a store's id is 16 hexadecimal digits, for example 00c0ffee00c0ffee")
		}
	}
	r.Endpoints, r.Services = f.endpoints, []string{blocktree.ServiceSector}
	if f.filesystem {
		r.Services = append(r.Services, blocktree.ServiceFilesystem)
	}
	return r, config.CheckEndpoints(r.Endpoints)
}

// keepStore gives a record the store of the one that is there at its path, if there is one.
func keepStore(ctx context.Context, client *cluster.Client, r *blocktree.Runtime) error {
	_, records, err := client.Below(ctx, r.Path.Parent())
	for _, x := range records {
		if x.Path == r.Path && x.Node != 0 {
			r.Node = x.Node
		}
	}
	return err
}

// principalIn is whom the credentials of the node at path are of.
func (f *addFlags) principalIn(cfg *config.Client, path blocktree.Path) (p blocktree.Principal, err error) {
	file := f.credentials
	chain, err := cred.Load(file)
	if err != nil {
		return p, err
	}
	id, err := cred.Verify(chain, cfg.Root(), time.Now())
	if err != nil {
		return p, &blocktree.Error{Op: "identity", Path: file, Err: err}
	}
	if id.Path != path {
		return p, cli.Invalid("issue credentials for the path that the node is to be at", "%s is for %s", file, id.Path.Short())
	}
	if !id.Allows(blocktree.ServiceSector) {
		return p, cli.Invalid("issue credentials with --services sector", "%s does not have the service sector", file)
	}
	if f.filesystem && !id.Allows(blocktree.ServiceFilesystem) {
		return p, cli.Invalid("issue credentials with --services sector,filesystem --uid 0, or leave --filesystem out", "%s does not have the service filesystem", file)
	}
	return id.Principal, nil
}
