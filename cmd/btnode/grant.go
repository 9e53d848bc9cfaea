package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/cmd/internal/parts"
	"blocktree/crypto/keys"
	"blocktree/crypto/seal"
	"blocktree/internal/cli"
	"blocktree/internal/config"
	"blocktree/internal/file"
)

// whoFlags are those of grant and revoke: of whom the rights are, and which reader key goes with them.
type whoFlags struct {
	adminFlags
	subject, reader string
}

func (w *whoFlags) add(c *cobra.Command, name, subject, reader string) {
	w.adminFlags.add(c)
	c.Flags().StringVar(&w.subject, name, "", subject)
	c.Flags().StringVar(&w.reader, "reader", "", reader)
}

// who is what the flags say. A zero reader is none, a nil admin opens nothing.
type who struct {
	path    blocktree.Path
	subject meta.Subject
	reader  keys.PublicKey
	admin   *file.Admin
}

// parse reads them. With --reader it refuses what has no key, and asks for one to open PATH with, before anything is changed; credentials may name a reader of other files.
func (w *whoFlags) parse(ctx context.Context, c *cobra.Command, cfg *config.Client, client *cluster.Client, name string) (*who, error) {
	var x who
	var err error
	if x.path, err = cfg.Resolve(name); err != nil {
		return nil, err
	}
	if x.subject, x.reader, err = parseSubject(cfg, w.subject); err != nil {
		return nil, err
	}
	if w.reader != "" {
		if x.reader, err = parts.ParseReader(w.reader); err != nil {
			return nil, err
		}
	}
	if x.admin, err = w.admin(cfg, client); err != nil || w.reader == "" {
		return &x, err
	}
	if x.admin == nil {
		return nil, noReaderKey(c)
	}
	ctx, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	if i, err := client.Stat(ctx, x.path); err != nil || len(i.Access) > 0 {
		return &x, err
	}
	return nil, cli.Invalid("leave --reader out, or name an encrypted file, or a directory that was made with --readers; nothing was changed", "%s has no key", x.path.Short())
}

// half is the error of a command that did the half that is about rights, and not, or not all of, the one about keys.
func half(op string, path blocktree.Path, done string, err error, hint string) error {
	return cli.WithHint(&blocktree.Error{Op: op, Path: path.Short(), Err: fmt.Errorf("%s: %w", done, err)}, hint)
}

func newGrant() *cobra.Command {
	var w whoFlags
	var rights, until string
	c := &cobra.Command{
		Use:   "grant PATH --to SUBJECT --rights RIGHTS [--reader KEY] [--reader-key FILE] --config FILE [--until TERM]",
		Short: "Give a runtime rights on a file or directory, and its key",
		Long: `grant gives rights on a file or directory, and on all that lies beneath it, in place of those that the same subject was given there before. A subject is a principal, a file
with credentials (of whose principal it takes), or a path: then it is every runtime at or below that path. Rights, with commas between them:

  read   a file's sectors
  write  a file's sectors and size, a directory's entries
  lease  to hold a file; to open it for writing takes read, write and lease
  list   a directory's entries
  admin  mode and grants; keys too, of somebody with the owner's user id

With --until the grant ends by itself: after 30d, 12h or 90m, or at a time such as 2027-01-31T12:00:00Z. A file or directory has at most 64 grants.

Whoever cannot open an encrypted file reads noise. With read among the rights, grant also wraps the key of PATH to the subject's reader key, as btnode reader add
does: --reader names it, a public key or a file with one, or the credentials do (btnode credential issue --reader). That takes the key of somebody who reads PATH (--reader-key, or readerKey of
the configuration), and the credentials of its owner or of user 0. Where only the rights are given, it says so. A key does not end with its grant: btnode revoke gives a new one.`,
		Example: `  btnode grant /vm/disk0 --to /host7 --rights read,write,lease --reader host7.pub --reader-key alice.key --config client.yaml
  btnode grant /backup --to backup.cred --rights read,list --until 30d --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH"),
	}
	w.add(c, "to", "principal, path or file of credentials that is given the rights", "reader key that goes with the right read: a public key, or a file with one or with a reader key; else that of the credentials, if they name one")
	c.Flags().StringVar(&rights, "rights", "", "read, write, list, lease, admin, with commas between them")
	c.Flags().StringVar(&until, "until", "", "when the grant ends, a time or a term such as 30d; it does not if this is not given")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := cli.RequireFlags(c, "config", "to", "rights"); err != nil {
			return err
		}
		g := meta.Grant{}
		var err error
		if g.Rights, err = meta.ParseRights(rights); err != nil {
			return err
		}
		if g.Until, err = parseUntil(until, time.Now()); err != nil {
			return err
		}
		if w.reader != "" && g.Rights&meta.RightRead == 0 {
			return cli.Invalid("a key opens what the nodes give away; add read to the rights, or leave --reader out", "--reader with rights %s", g.Rights)
		}
		return withClusterFor(c, w.config, 3*fileTimeout, func(ctx context.Context, cfg *config.Client, client *cluster.Client) error {
			x, err := w.parse(ctx, c, cfg, client, args[0])
			if err != nil {
				return err
			}
			g.Subject = x.subject
			return x.grant(ctx, c.OutOrStdout(), client, g)
		})
	}
	return c
}

// grant gives the rights, then the key.
func (x *who) grant(ctx context.Context, w io.Writer, client *cluster.Client, g meta.Grant) error {
	rights, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	a, err := client.Grant(rights, x.path, g)
	if err := sayApplied(w, x.path.Short()+": "+grantWords(&g), a, err); err != nil {
		return err
	}
	how := "btnode reader add " + x.path.Short() + " KEY gives it"
	switch {
	case g.Rights&meta.RightRead == 0:
		return nil
	case !hasKey(rights, client, x.path):
		return nil
	case x.reader.IsZero():
		_, err = fmt.Fprintln(w, "the key was not given: no reader key is named for who was given the rights, and without it they read noise;", how)
		return err
	case x.admin == nil:
		_, err = fmt.Fprintf(w, "the key was not given to %s: neither --reader-key nor the configuration names a key that opens it; %s\n", x.reader.Short(), how)
		return err
	}
	wrap, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	if err := x.admin.Grant(wrap, x.path, x.reader); err != nil {
		return half("grant", x.path, "the rights are given, the key was not", err, how)
	}
	_, err = fmt.Fprintf(w, "%s opens it\n", x.reader.Short())
	if err == nil && g.Until != 0 {
		_, err = fmt.Fprintln(w, "the key does not end with the grant: btnode revoke gives a new one")
	}
	return err
}

func newRevoke() *cobra.Command {
	var w whoFlags
	var wait bool
	c := &cobra.Command{
		Use:   "revoke PATH --from SUBJECT [--reader KEY] [--reader-key FILE] [--wait] --config FILE",
		Short: "Take rights on a file or directory that were granted, and its key",
		Long: `revoke takes what a subject, named as to btnode grant, was granted on PATH. What it may by a mode, by a grant on a directory above, or by another grant that means it
too, it may as before: btnode file stat shows modes and grants.

Each node goes by it as soon as it has applied it: reads and writes that are under way are refused, whatever connection, session or lease they have; a lease ends within 5 seconds. revoke says
which nodes have. One that cannot be reached and hears of no leader of the cluster stops serving readers 10 seconds later, and holders when it hears of it; what they write is not acknowledged
without the others.

Clusters beneath a directory hear of it from the cluster above them within seconds. revoke waits for each, and names those that have not heard: they go by what they knew before until they do.

Then it gives PATH, and all beneath it, a new key without the subject's reader key, as btnode reader remove does: --reader names that, or the credentials do. It takes the key of somebody else who
reads PATH (--reader-key, or readerKey of the configuration), and the credentials of its owner or of user 0. When it returns, what is written from then on is not for the subject; what was
written before stays under the old key until it is re-sealed, which --wait waits for. Where only the rights were taken, it says so; what the subject read before it has still. If the second half fails, the first
is done: btnode reader remove does the second again.`,
		Example: `  btnode revoke /vm/disk0 --from /host7 --config client.yaml
  btnode revoke /vm/disk0 --from /host7 --reader host7.pub --reader-key alice.key --wait --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH"),
	}
	w.add(c, "from", "principal, path or file of credentials whose grant is taken", "reader key that the new key is not for: a public key, or a file with one or with a reader key; else that of the credentials, if they name one")
	addWait(c, &wait)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := cli.RequireFlags(c, "config", "from"); err != nil {
			return err
		}
		return withClusterFor(c, w.config, resealTimeout, func(ctx context.Context, cfg *config.Client, client *cluster.Client) error {
			x, err := w.parse(ctx, c, cfg, client, args[0])
			if err != nil {
				return err
			}
			if wait && (x.reader.IsZero() || x.admin == nil) {
				return cli.Invalid("name the reader with --reader, and a key that opens PATH with --reader-key", "--wait, and no key is to be changed")
			}
			return x.revoke(ctx, c, client, wait)
		})
	}
	return c
}

// revoke takes the rights, then the key.
func (x *who) revoke(ctx context.Context, c *cobra.Command, client *cluster.Client, wait bool) error {
	w := c.OutOrStdout()
	rights, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	a, err := client.Revoke(rights, x.path, x.subject)
	if err := sayApplied(w, fmt.Sprintf("%s: %s has no grant on it any more", x.path.Short(), &x.subject), a, err); err != nil {
		return err
	}
	how := "btnode reader remove " + x.path.Short() + " KEY does that"
	const kept = "the key is as before: whoever had it has it still, gets no sectors from any node, and can open what it kept"
	switch {
	case !hasKey(rights, client, x.path):
		return nil
	case x.reader.IsZero():
		_, err = fmt.Fprintf(w, "%s; no reader key is named that a new one would not be for, %s\n", kept, how)
		return err
	case x.admin == nil:
		_, err = fmt.Fprintf(w, "%s; neither --reader-key nor the configuration names a key that opens it, to make a new one without %s: %s\n", kept, x.reader.Short(), how)
		return err
	}
	const done = "the rights are taken, the key is not changed everywhere"
	if err := x.admin.Reads(rights, x.path, x.reader); err != nil {
		return half("revoke", x.path, "the rights are taken, the key is as before", err, "")
	}
	if err := rekey(ctx, c, x.admin, x.path, wait, x.reader); err != nil {
		return half("revoke", x.path, done, err, how+", again for all beneath")
	}
	words := "what is written from now on is not for %s; what was written before is until it is re-sealed (btnode file stat)\n"
	if wait {
		words = "nothing of it is sealed for %s any more\n"
	}
	_, err = fmt.Fprintf(w, words, x.reader.Short())
	return err
}

// hasKey says whether there is a key beside the rights, as far as the caller may know.
func hasKey(ctx context.Context, client *cluster.Client, path blocktree.Path) bool {
	i, err := client.Stat(ctx, path)
	return err == nil && (len(i.Access) > 0 || i.Kind == meta.KindFile && seal.Suite(i.Suite) != seal.None)
}
