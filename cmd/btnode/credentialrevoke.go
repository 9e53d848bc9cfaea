package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cmd/internal/parts"
	"blocktree/crypto/cred"
	"blocktree/internal/cli"
	"blocktree/internal/config"
)

func newCredentialRevoke() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "revoke PRINCIPAL|FILE --config FILE",
		Short: "Have a principal believed no more",
		Long: `revoke tells the cluster that nobody is to be believed any more who has the principal in its chain: it, and all that it has issued. FILE is that of its credentials. The nodes cut its
connections and refuse new ones; files that it holds are free for others when its lease has run out, within 5 seconds, as of a holder that is gone. Clients
ask every minute whether a node was revoked. A node that is revoked is heard by nobody: see to it that a majority is left, and replace or remove it.

It is said to the cluster of the configuration, and to each cluster beneath that, by name; one that is away is named: it believes the principal until revoke is said again while it runs.

Who asks has user id 0, and what it says holds at and below its own path: use the configuration of an operator at / or above the one that is revoked. It cannot be taken
back: to let somebody in again, issue credentials for a new key. A revocation is kept for ten years, when all that could be issued before it has ended.
Bring all nodes to a version that knows this command before it is used for the first time: nodes of a version before stop.`,
		Example: `  btnode credential revoke laptop.cred --config operator.yaml
  btnode credential revoke eabcd... --config operator.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PRINCIPAL|FILE"),
	}
	addConfig(c, &file, "configuration of an operator: user id 0, at or above the path of who is revoked")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := cli.RequireFlags(c, "config"); err != nil {
			return err
		}
		return withCluster(c, file, func(ctx context.Context, cfg *config.Client, client *cluster.Client) error {
			who, until, err := revokee(args[0], &cfg.Base, client.Identity())
			if err != nil {
				return err
			}
			a, err := client.RevokePrincipal(ctx, who, until)
			if err != nil {
				return err
			}
			out := c.OutOrStdout()
			fmt.Fprintf(out, "%v is revoked at and below %s\n", who, cfg.RuntimePath().Short())
			if len(a.Missing) == 0 {
				_, err = fmt.Fprintln(out, "every node goes by it")
			} else {
				_, err = fmt.Fprintf(out, "not yet heard from %s: a node that is down goes by it before it serves again, one that is cut off when it hears of it\n", paths(a.Missing))
			}
			if err != nil {
				return err
			}
			return sayBeneath(out, a, "a cluster that was not told believes the principal still; revoke again when it runs")
		})
	}
	return c
}

// revokee is who is meant, and until when that is to be kept.
func revokee(arg string, b *config.Base, me cred.Identity) (who blocktree.Principal, until time.Time, err error) {
	until = time.Now().Add(parts.IssueMax)
	bad := func(path blocktree.Path, kind blocktree.Kind, why, hint string) error {
		return &blocktree.Error{Op: "revoke", Path: path.Short(), Kind: kind, Err: errors.New(why), Hint: hint}
	}
	if who, err = blocktree.ParsePrincipal(arg); err != nil {
		chain, err := cred.Load(arg)
		if blocktree.KindOf(err) == blocktree.NotFound {
			return who, until, cli.Invalid("a principal is e and 52 characters; btnode credential show prints it", "%q is no principal and no file", arg)
		}
		if err != nil {
			return who, until, err
		}
		id, err := cred.VerifyForm(chain, b.Root())
		if err != nil {
			return who, until, &blocktree.Error{Op: "revoke", Path: arg, Err: err, Hint: "these are no credentials of this domain"}
		}
		if !id.Path.Within(me.Path) {
			return who, until, bad(id.Path, blocktree.Permission, "it is not at or below "+me.Path.Short(), "use the configuration of an operator above it")
		}
		who, until = id.Principal, later(until, id.NotAfter)
	}
	if slices.Contains(me.Chain, who) {
		return who, until, bad(me.Path, blocktree.Invalid, "who asks would revoke itself, and not hear the answer", "use credentials that were not issued by it")
	}
	return who, until, nil
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// revokedLine is one revocation as `credential revoked --json` prints it.
type revokedLine struct {
	Principal string    `json:"principal"`
	Below     string    `json:"below"`
	Since     time.Time `json:"since"`
	Until     time.Time `json:"until"`
}

func newCredentialRevoked() *cobra.Command {
	var file string
	var asJSON bool
	c := &cobra.Command{
		Use:                   "revoked --config FILE [--json]",
		Short:                 "List who was revoked",
		Long:                  `revoked lists the principals that the cluster believes no more: below which path, since when, and until when that is kept.`,
		Example:               `  btnode credential revoked --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args(),
	}
	addConfig(c, &file, "configuration of any node or client of the cluster")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := cli.RequireFlags(c, "config"); err != nil {
			return err
		}
		return withCluster(c, file, func(ctx context.Context, _ *config.Client, client *cluster.Client) error {
			list, err := client.Revoked(ctx)
			if err != nil {
				return err
			}
			lines := make([]revokedLine, len(list))
			for i, r := range list {
				lines[i] = revokedLine{r.Principal.String(), r.Scope.Short(), time.Unix(0, r.Time).UTC(), time.Unix(0, r.Until).UTC()}
			}
			if asJSON {
				return cli.PrintJSON(c.OutOrStdout(), lines)
			}
			t := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
			if len(lines) > 0 {
				fmt.Fprint(t, "PRINCIPAL\tBELOW\tSINCE\tKEPT UNTIL\n")
			}
			for _, l := range lines {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", l.Principal, l.Below, l.Since.Format(time.RFC3339), l.Until.Format(time.RFC3339))
			}
			return t.Flush()
		})
	}
	return c
}
