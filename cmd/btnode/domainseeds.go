package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"blocktree/cmd/internal/parts"
	"blocktree/internal/cli"
	"blocktree/internal/config"
)

func newDomainSeeds() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "seeds --config FILE",
		Short: "Print where the root directory's runtimes are said to be",
		Long: `seeds prints what domain.seeds of the configuration names or, with domain.dns, what DNS says at this moment: a line for each runtime of the root
directory, with the endpoints to reach it, those to be asked first in front. Nobody is connected to.

With domain.dns it fails if the TXT record has another root principal than domain.root, and says which records are missing; docs/ROUTES.md
shows them. That DNS names a machine proves nothing: whoever is reached there has to prove that it is a sector host of the root directory.`,
		Example:               `  btnode domain seeds --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args(),
	}
	addConfig(c, &file, "configuration of any node or client of the domain")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := cli.RequireFlags(c, "config"); err != nil {
			return err
		}
		cfg, err := config.LoadClient(config.Source{File: file})
		if err != nil {
			return err
		}
		seeder := parts.Seeder(&cfg.Base)
		if seeder == nil {
			return cli.Invalid("write domain.seeds or domain.dns; configs/client.yaml has both as comments", "%s: it names no way to the root directory", file)
		}
		seeds, err := seeder.Seeds(c.Context())
		if err != nil {
			return err
		}
		for _, s := range seeds {
			line := strings.Join(s.Endpoints, " ")
			if s.Path != "" {
				line += "  " + s.Path.Short() + " " + s.Principal.String()
			}
			if _, err := fmt.Fprintln(c.OutOrStdout(), line); err != nil {
				return err
			}
		}
		return nil
	}
	return c
}
