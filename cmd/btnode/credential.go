package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cmd/internal/parts"
	"blocktree/crypto/cred"
	"blocktree/crypto/keys"
	"blocktree/internal/cli"
)

func newCredential() *cobra.Command {
	group := cli.NewGroup("credential", "Issue, show, renew and revoke credentials",
		`Credentials are a chain of signed links from a domain's root principal to a runtime: each says that a key is at a path, with a user id, groups and the
services that it may offer, and until when. A link lies at or below the path of who issued it and has no more than that.

key, issue, show and renew need no cluster and no network; revoke and revoked ask the cluster.`)
	group.AddCommand(newCredentialKey(), newCredentialIssue(), newCredentialShow(), newCredentialRenew(), newCredentialRevoke(), newCredentialRevoked())
	return group
}

func newCredentialKey() *cobra.Command {
	var out string
	var p passphraseFlags
	c := &cobra.Command{
		Use:   "key --out FILE [--passphrase] [--passphrase-file FILE]",
		Short: "Make a key, and print its public half",
		Long: `key makes a key in a new file that only its owner can read, and prints its public half and its principal. Make it on the machine where it is to be
used, and give the public half to whoever issues: then no secret travels. A runtime's key has no passphrase, as it starts with nobody there.`,
		Example:               `  btnode credential key --out /etc/blocktree/node.key`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args(),
	}
	c.Flags().StringVar(&out, "out", "", "file of the new key")
	p.addNew(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := cli.RequireFlags(c, "out"); err != nil {
			return err
		}
		key, err := p.makeKey(c, out)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "public key  %s\nprincipal   %s\n", cred.PublicText(key.Public()), key.Principal())
		return err
	}
	return c
}

// issuerFlags say who issues.
type issuerFlags struct {
	key, credentials string
	passphrase       passphraseFlags
	valid            string
}

func (i *issuerFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&i.key, "issuer-key", "", "key of who issues")
	f.StringVar(&i.credentials, "issuer-credentials", "", "what was issued to that key; not for the root key, which has none")
	f.StringVar(&i.valid, "valid", "90d", "for how long, such as 90d or 12h; ten years at most")
	i.passphrase.addFile(c, "file with the passphrase of the issuer's key, which only you can read; else the terminal is asked")
	for _, name := range []string{"issuer-key", "issuer-credentials"} {
		_ = c.MarkFlagFilename(name) // for completion only
	}
}

// load reads the issuer's files.
func (i *issuerFlags) load(c *cobra.Command, now time.Time) (*parts.Issuer, time.Duration, error) {
	if err := cli.RequireFlags(c, "issuer-key"); err != nil {
		return nil, 0, err
	}
	valid, err := parseTerm(i.valid)
	if err != nil {
		return nil, 0, err
	}
	var chain cred.Credentials
	if i.credentials != "" {
		if chain, err = cred.Load(i.credentials); err != nil {
			return nil, 0, err
		}
		if len(chain) == 0 {
			return nil, 0, cli.Invalid("leave --issuer-credentials out for the root key", "%s has no credentials", i.credentials)
		}
	}
	key, err := i.passphrase.load(c, i.key)
	if err != nil {
		return nil, 0, err
	}
	issuer, err := parts.NewIssuer(key, chain, now)
	return issuer, valid, err
}

// parseTerm reads a duration that may be of days.
func parseTerm(s string) (time.Duration, error) {
	const days = 24 * time.Hour
	if number, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(number, 10, 16); err == nil && time.Duration(n)*days <= parts.IssueMax {
			return time.Duration(n) * days, nil
		}
	} else if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return d, nil
	}
	return 0, cli.Invalid("write a number of days, such as 90d, or a duration, such as 12h30m; ten years at most", "--valid: %q", s)
}

// issueFlags are those of `credential issue`.
type issueFlags struct {
	issuer             issuerFlags
	path               string
	newKey, subject    string
	uid, gid           uint32
	groups             []uint
	services           []string
	reader, out        string
	uidGiven, gidGiven bool
}

func newCredentialIssue() *cobra.Command {
	var i issueFlags
	c := &cobra.Command{
		Use:   "issue --issuer-key FILE [--issuer-credentials FILE] --path PATH (--new-key FILE | --subject KEY) --uid N --out FILE [flags]",
		Short: "Issue credentials for a path",
		Long: `issue writes credentials for a key at PATH, which is at or below the issuer's: the chain of the issuer and one link more. They end after --valid, and no later than
the issuer's own. It needs no cluster and no network.

The key is a new one (--new-key), or one that is there: --subject takes the public half, as btnode credential key prints it, or the file of the key.

--uid says as which user the runtime works: 0 may everything in the clusters below its path, as nodes of a playground do. --gid is the user id if it is
not given. An issuer that is not user 0 issues for its own user and among its own groups only, and need not say so.
--services sector is for nodes. An intermediate, which issues to nodes in its turn, has what it is to pass on. --reader names the public key that files
which the runtime may read are wrapped to; versions before this one refuse credentials that have it.`,
		Example: `  btnode credential issue --issuer-key root.key --subject operator.key --path / --uid 0 --services sector --valid 365d --out operator.cred
  btnode credential issue --issuer-key operator.key --issuer-credentials operator.cred --path /node1 --subject ed25519-PUBLIC... \
    --uid 0 --services sector --out node1.cred
  btnode credential issue --issuer-key operator.key --issuer-credentials operator.cred --path /web --new-key web.key --uid 1000 --out web.cred`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args(),
	}
	i.issuer.add(c)
	f := c.Flags()
	f.StringVar(&i.path, "path", "", "where the runtime is, such as /rack1/node-a")
	f.StringVar(&i.newKey, "new-key", "", "make a new key in this file")
	f.StringVar(&i.subject, "subject", "", "public key, or file of the key, that the credentials are for")
	f.Uint32Var(&i.uid, "uid", 0, "user id; 0 may everything")
	f.Uint32Var(&i.gid, "gid", 0, "group id")
	f.UintSliceVar(&i.groups, "groups", nil, "further group ids, with commas")
	f.StringSliceVar(&i.services, "services", nil, "services that it may offer, with commas; sector is that of a node")
	f.StringVar(&i.reader, "reader", "", "public key that files are wrapped to for this runtime (x25519-...)")
	f.StringVar(&i.out, "out", "", "file of the credentials")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := cli.RequireFlags(c, "issuer-key", "path", "out"); err != nil {
			return err
		}
		i.uidGiven, i.gidGiven = f.Changed("uid"), f.Changed("gid")
		return i.run(c)
	}
	return c
}

func (i *issueFlags) run(c *cobra.Command) error {
	now := time.Now()
	if (i.newKey == "") == (i.subject == "") {
		return cli.Invalid("usage: "+c.UseLine(), "say one of --new-key and --subject")
	}
	if i.reader != "" {
		if _, err := keys.ParsePublicKey(i.reader); err != nil {
			return err
		}
	}
	if err := absent(i.out); err != nil {
		return err
	}
	issuer, valid, err := i.issuer.load(c, now)
	if err != nil {
		return err
	}
	r := parts.Request{Path: i.path, Services: i.services, Reader: i.reader, Valid: valid}
	if err := i.attributes(issuer, &r); err != nil {
		return err
	}
	var made cred.Key
	if i.subject != "" {
		r.Subject, err = subject(i.subject)
	} else if err = absent(i.newKey); err == nil {
		if made, err = cred.GenerateKey(); err == nil {
			r.Subject = made.Public()
		}
	}
	if err != nil {
		return err
	}
	chain, cut, err := issuer.Issue(r, now)
	if err != nil {
		return err
	}
	if !made.IsZero() {
		if err := made.Save(i.newKey); err != nil {
			return err
		}
	}
	if err := chain.Save(i.out); err != nil {
		if !made.IsZero() {
			err = errors.Join(err, os.Remove(i.newKey)) // nobody knows it
		}
		return err
	}
	return printIssued(c, chain, i.out, cut)
}

// attributes fills in the user and the groups.
func (i *issueFlags) attributes(issuer *parts.Issuer, r *parts.Request) error {
	uid, gid, any := issuer.Attributes()
	switch {
	case i.uidGiven:
		r.UID = i.uid
	case any:
		return cli.Invalid("0 may everything in the clusters below the path; any other number is a user whose rights are those of modes and grants", "--uid is missing")
	default:
		r.UID = uid
	}
	switch {
	case i.gidGiven:
		r.GID = i.gid
	case any:
		r.GID = r.UID
	default:
		r.GID = gid
	}
	for _, g := range i.groups {
		if uint64(g) > 1<<32-1 {
			return cli.Invalid("a group id is below 2^32", "--groups: %d", g)
		}
		r.Groups = append(r.Groups, uint32(g))
	}
	return nil
}

// subject reads a public key, or finds it in the file of the key.
func subject(s string) (ed25519.PublicKey, error) {
	if strings.HasPrefix(s, "ed25519-") {
		return cred.ParsePublic(s)
	}
	key, err := cred.LoadPublic(s)
	if errors.Is(err, fs.ErrNotExist) || blocktree.KindOf(err) == blocktree.NotFound {
		return nil, cli.WithHint(err, "--subject takes a public key, ed25519-..., or the file of a key")
	}
	return key, err
}

// printIssued says what was issued.
func printIssued(c *cobra.Command, chain cred.Credentials, file string, cut bool) error {
	last := chain[len(chain)-1]
	until := time.Unix(last.NotAfter, 0).UTC().Format(time.RFC3339)
	if cut {
		until += ", when the issuer's own end"
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "%s: %s, principal %v, until %s\n", file, last.Path.Short(), blocktree.PrincipalOf(last.Subject), until)
	return err
}
