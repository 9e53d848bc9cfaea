package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cmd/internal/parts"
	"blocktree/crypto/cred"
	"blocktree/internal/cli"
)

// shownLink is one link as `credential show --json` prints it.
type shownLink struct {
	Who       string    `json:"principal"`
	PublicKey string    `json:"publicKey"`
	Issuer    string    `json:"issuer"`
	Path      string    `json:"path"`
	UID       uint32    `json:"uid"`
	GID       uint32    `json:"gid"`
	Groups    []uint32  `json:"groups"`
	Services  []string  `json:"services"`
	Reader    string    `json:"reader,omitempty"`
	From      time.Time `json:"from"`
	Until     time.Time `json:"until"`
}

// shown is all of it.
type shown struct {
	Root  string      `json:"root"`
	Links []shownLink `json:"links"`
	Until time.Time   `json:"until"` // when the first of the links ends
	Wrong string      `json:"wrong"` // now; "" if nothing is
	Soon  bool        `json:"endSoon"`
}

func newCredentialShow() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "show FILE [--json]",
		Short: "Show what credentials, or a key, say",
		Long: `show prints the links of the credentials in FILE from the root principal down: who, where, with which attributes, from when until when, and what is wrong with them
now. Of a key it prints the public half and the principal; it asks for no passphrase. It exits with 0 whatever is wrong: scripts read wrong from --json.
Whether somebody was revoked the cluster knows: btnode credential revoked.`,
		Example: `  btnode credential show /etc/blocktree/node.cred
  btnode credential show node.key`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("FILE"),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		chain, err := cred.Load(args[0])
		if blocktree.KindOf(err) == blocktree.Invalid {
			if key, keyErr := cred.LoadPublic(args[0]); keyErr == nil || blocktree.KindOf(keyErr) == blocktree.Permission {
				return printPublic(c, key, keyErr, asJSON)
			}
		}
		if err != nil {
			return err
		}
		s := describe(chain, time.Now())
		if asJSON {
			return cli.PrintJSON(c.OutOrStdout(), s)
		}
		return s.print(c.OutOrStdout())
	}
	return c
}

func printPublic(c *cobra.Command, key []byte, err error, asJSON bool) error {
	if err != nil {
		return err
	}
	if asJSON {
		return cli.PrintJSON(c.OutOrStdout(), map[string]string{"publicKey": cred.PublicText(key), "principal": blocktree.PrincipalOf(key).String()})
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "public key  %s\nprincipal   %s\n", cred.PublicText(key), blocktree.PrincipalOf(key))
	return err
}

// describe is what there is to say of credentials.
func describe(chain cred.Credentials, now time.Time) *shown {
	s := &shown{Root: chain.Root().String(), Links: []shownLink{}}
	for _, l := range chain {
		x := shownLink{Who: blocktree.PrincipalOf(l.Subject).String(), PublicKey: cred.PublicText(l.Subject), Issuer: blocktree.PrincipalOf(l.Issuer).String(),
			Path: l.Path.Short(), UID: l.UID, GID: l.GID, Groups: append([]uint32{}, l.Groups...), Services: append([]string{}, l.Services...), Reader: l.Reader,
			From: time.Unix(l.NotBefore, 0).UTC(), Until: time.Unix(l.NotAfter, 0).UTC()}
		s.Links = append(s.Links, x)
		if s.Until.IsZero() || x.Until.Before(s.Until) {
			s.Until = x.Until
		}
	}
	id, err := cred.Verify(chain, chain.Root(), now)
	if err != nil {
		s.Wrong = err.Error()
	}
	s.Soon = err == nil && id.EndsSoon(now)
	return s
}

func (s *shown) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "root principal\t%s\n", s.Root)
	for _, l := range s.Links {
		services := strings.Join(l.Services, ",")
		if services == "" {
			services = "none"
		}
		fmt.Fprintf(t, "\n%s\t%s\npublic key\t%s\nissued by\t%s\nuser\t%d, group %d", l.Path, l.Who, l.PublicKey, l.Issuer, l.UID, l.GID)
		for _, g := range l.Groups {
			fmt.Fprintf(t, ", %d", g)
		}
		fmt.Fprintf(t, "\nservices\t%s\nvalid\tfrom %s until %s\n", services, l.From.Format(time.RFC3339), l.Until.Format(time.RFC3339))
		if l.Reader != "" {
			fmt.Fprintf(t, "reader\t%s\n", l.Reader)
		}
	}
	switch {
	case s.Wrong != "":
		fmt.Fprintf(t, "\nwrong\t%s\n", s.Wrong)
	case s.Soon:
		fmt.Fprintf(t, "\nends soon\t%s: renew it\n", s.Until.Format(time.RFC3339))
	}
	return t.Flush()
}

func newCredentialRenew() *cobra.Command {
	var i issuerFlags
	var out string
	c := &cobra.Command{
		Use:   "renew FILE --issuer-key FILE [--issuer-credentials FILE] [--valid TIME] [--out FILE]",
		Short: "Issue the same credentials anew, with later dates",
		Long: `renew issues what the credentials in FILE say again: same key, path and attributes, valid from now on, and no longer than the issuer's own. They take the place of FILE, in one
step, or are written to --out. Copy them over those that a runtime uses, likewise in one step (install, or mv on the same disk): it goes by them
within a minute, or at once at SIGHUP, and what it has open does not notice. It needs no cluster and no network.`,
		Example: `  btnode credential renew node1.cred --issuer-key operator.key --issuer-credentials operator.cred
  btnode credential renew operator.cred --issuer-key /media/offline/domain/root.key --valid 365d`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("FILE"),
	}
	i.add(c)
	c.Flags().StringVar(&out, "out", "", "file of the new credentials, instead of FILE")
	c.RunE = func(c *cobra.Command, args []string) error {
		now := time.Now()
		if err := cli.RequireFlags(c, "issuer-key"); err != nil {
			return err
		}
		if out != "" {
			if err := absent(out); err != nil {
				return err
			}
		}
		old, err := cred.Load(args[0])
		if err != nil {
			return err
		}
		if len(old) == 0 {
			return &blocktree.Error{Op: "renew", Path: args[0], Kind: blocktree.Invalid, Err: errors.New("there are no credentials in it")}
		}
		issuer, valid, err := i.load(c, now)
		if err != nil {
			return err
		}
		l := old[len(old)-1]
		chain, cut, err := issuer.Issue(parts.Request{Subject: l.Subject, Path: string(l.Path), UID: l.UID, GID: l.GID, Groups: l.Groups, Services: l.Services,
			Reader: l.Reader, Valid: valid}, now)
		if err != nil {
			return err
		}
		save := func() error { return chain.Replace(args[0]) }
		file := args[0]
		if out != "" {
			file, save = out, func() error { return chain.Save(out) }
		}
		if err := save(); err != nil {
			return err
		}
		return printIssued(c, chain, file, cut)
	}
	return c
}
