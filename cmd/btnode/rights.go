package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/cmd/internal/parts"
	"blocktree/crypto/cred"
	"blocktree/crypto/keys"
	"blocktree/internal/cli"
	"blocktree/internal/config"
	"blocktree/internal/file"
)

// withPath runs do with the path that a word of the command line names.
func withPath(c *cobra.Command, file, name string, do func(ctx context.Context, cfg *config.Client, path blocktree.Path, client *cluster.Client) error) error {
	if err := cli.RequireFlags(c, "config"); err != nil {
		return err
	}
	return withCluster(c, file, func(ctx context.Context, cfg *config.Client, client *cluster.Client) error {
		path, err := cfg.Resolve(name)
		if err != nil {
			return err
		}
		return do(ctx, cfg, path, client)
	})
}

// withPaths runs do with each path that a word of the command line names, which may be a pattern.
func withPaths(c *cobra.Command, file, word string, do func(ctx context.Context, path blocktree.Path, client *cluster.Client) error) error {
	return (&doorFlags{config: file, namesOnly: true}).with(c, func(ctx context.Context, d *door) error {
		return d.every(ctx, []string{word}, true, func(path blocktree.Path) error {
			ctx, cancel := context.WithTimeout(ctx, fileTimeout)
			defer cancel()
			return do(ctx, path, d.cluster)
		})
	})
}

func newMkdir() *cobra.Command {
	var configFile, mode, kind string
	var parents bool
	var readers []string
	c := &cobra.Command{
		Use:   "mkdir PATH --config FILE [--mode MODE] [--parents] [--readers KEY] [--key-kind KIND]",
		Short: "Make a directory",
		Long: `mkdir makes a directory. It belongs to whoever makes it: the user and group of the configuration's credentials. What is made in it takes the right
write on it.

With --readers it gets a key of its own: whoever has the secret key of one of these readers reads every encrypted file beneath, those that are made later too, as far as
its rights go, as does whoever reads the nearest directory above that has a key. A directory that is there gets a key if it has none; files that are beneath it by then are not
opened by it until they are rekeyed.`,
		Example: `  btnode mkdir /vm --mode 0750 --config client.yaml
  btnode mkdir /team --readers alice.pub,bob.pub --config client.yaml
  btnode mkdir /alice/disks --parents --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH"),
	}
	addConfig(c, &configFile, "configuration of any node or client of the cluster")
	c.Flags().StringVar(&mode, "mode", "0755", "permission bits, in octal")
	c.Flags().BoolVar(&parents, "parents", false, "make those above it too, and do not mind if it is there")
	addReaders(c, &readers, "reader of the directory and all beneath: a public key, or a file with one or with a reader key")
	addKeyKind(c, &kind, "kind of the directory's key")
	c.RunE = func(c *cobra.Command, args []string) error {
		bits, err := parseMode(mode)
		if err != nil {
			return err
		}
		of, err := keys.ParseKeyKind(kind)
		if err != nil {
			return err
		}
		list, err := parts.Readers(&config.Base{}, nil, readers...)
		if err != nil {
			return err
		}
		return withPath(c, configFile, args[0], func(ctx context.Context, _ *config.Client, path blocktree.Path, client *cluster.Client) error {
			return (&file.Admin{Client: client}).MakeDir(ctx, path, bits, parents, of, list)
		})
	}
	return c
}

func newChmod() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "chmod MODE PATH --config FILE",
		Short: "Change the mode of a file or directory",
		Long: `chmod gives a file or directory another mode, in octal: three digits for its owner, its group and others. 4 is read (of a directory: list), 2 is write, which
of a file takes its lease too (of a directory: make and remove entries); 1 says nothing. The first of the three that fits a caller is the one that counts, user
id 0 may everything, and grants add to it (btnode grant). Whoever holds or reads the file and may not any more is refused at once.

Whoever owns it may, and whoever has the right admin on it. PATH may be a pattern, as for ls.`,
		Example:               `  btnode chmod 0640 /vm/disk0 --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("MODE", "PATH"),
	}
	addConfig(c, &file, "configuration of any node or client of the cluster")
	c.RunE = func(c *cobra.Command, args []string) error {
		mode, err := parseMode(args[0])
		if err != nil {
			return err
		}
		return withPaths(c, file, args[1], func(ctx context.Context, path blocktree.Path, client *cluster.Client) error {
			a, err := client.SetMode(ctx, path, mode)
			return sayApplied(c.OutOrStdout(), fmt.Sprintf("%s: mode %04o", path.Short(), mode), a, err)
		})
	}
	return c
}

func newChown() *cobra.Command {
	var configFile string
	c := &cobra.Command{
		Use:   "chown USER[:GROUP] PATH --config FILE",
		Short: "Change the owner and group of a file or directory",
		Long: `chown gives a file or directory another owner, by user id, and another group, by group id; :GROUP changes the group alone. Only user id 0 may give it to
another user. Its owner may give it to a group that it is in itself.

The access record of an encrypted file, or of a directory with a key, names its new owner from then on (btnode file stat shows it): who owns it changes its key and its readers,
with the reader key of somebody who reads it. Its readers stay who they are: btnode reader adds the new owner and removes the old one. What is beneath a directory keeps its owners. PATH may be a pattern, as for ls.`,
		Example: `  btnode chown 1000:1000 /vm/disk0 --config client.yaml
  btnode chown :100 /vm/disk0 --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("USER[:GROUP]", "PATH"),
	}
	addConfig(c, &configFile, "configuration of any node or client of the cluster")
	c.RunE = func(c *cobra.Command, args []string) error {
		uid, gid, err := parseOwner(args[0])
		if err != nil {
			return err
		}
		return withPaths(c, configFile, args[1], func(ctx context.Context, path blocktree.Path, client *cluster.Client) error {
			a, err := (&file.Admin{Client: client}).Chown(ctx, path, uid, gid)
			return sayApplied(c.OutOrStdout(), path.Short()+": owner "+args[0], a, err)
		})
	}
	return c
}

// sayApplied prints what was done, and which nodes go by it.
func sayApplied(w io.Writer, what string, a cluster.Applied, err error) error {
	if err != nil {
		return err
	}
	if _, err = fmt.Fprintf(w, "%s\napplied by %s\n", what, paths(a.Nodes)); err != nil {
		return err
	}
	if len(a.Missing) > 0 {
		_, err = fmt.Fprintf(w, "not known of %s: cut off from the others, it could serve readers until %s, and who holds a file until it hears of this\n", paths(a.Missing), a.Until.Format(time.TimeOnly))
	}
	if err != nil {
		return err
	}
	return sayBeneath(w, a, "it goes by what it knew before until it hears from the cluster above it")
}

// sayBeneath prints which clusters beneath go by something too, and of those that do not say so what that means.
func sayBeneath(w io.Writer, a cluster.Applied, away string) (err error) {
	for i := range a.Beneath {
		b := &a.Beneath[i]
		switch {
		case err != nil:
		case b.Err != nil:
			_, err = fmt.Fprintf(w, "the cluster of %s could not be asked: %s (%v)\n", b.Dir.Short(), away, b.Err)
		case len(b.Missing) > 0:
			_, err = fmt.Fprintf(w, "the cluster of %s: applied by %s, not known of %s: %s\n", b.Dir.Short(), paths(b.Nodes), paths(b.Missing), away)
		default:
			_, err = fmt.Fprintf(w, "the cluster of %s: applied by %s\n", b.Dir.Short(), paths(b.Nodes))
		}
	}
	if err == nil && a.More {
		_, err = fmt.Fprintf(w, "there are more clusters beneath than were asked: %s\n", away)
	}
	return err
}

func paths(all []blocktree.Path) string {
	if len(all) == 0 {
		return "nobody that could be asked"
	}
	var out []string
	for _, p := range all {
		out = append(out, p.Short())
	}
	return strings.Join(out, ", ")
}

// grantWords describes a grant.
func grantWords(g *meta.Grant) string {
	s := fmt.Sprintf("%s may %s", &g.Subject, g.Rights)
	if g.Until != 0 {
		s += " until " + stamp(g.Until)
	}
	return s
}

// parseMode reads permission bits.
func parseMode(s string) (uint32, error) {
	m, err := strconv.ParseUint(s, 8, 32)
	if err != nil || m > 0o777 {
		return 0, &blocktree.Error{Op: "mode", Kind: blocktree.Invalid, Err: fmt.Errorf("%q is no mode", s), Hint: "three octal digits, for owner, group and others, such as 0640"}
	}
	return uint32(m), nil
}

// parseOwner reads USER, USER:GROUP or :GROUP.
func parseOwner(s string) (uid, gid *uint32, err error) {
	number := func(s string) *uint32 {
		n, e := strconv.ParseUint(s, 10, 32)
		if e != nil {
			err = &blocktree.Error{Op: "owner", Kind: blocktree.Invalid, Err: fmt.Errorf("%q is no user or group id", s), Hint: "ids are numbers: 1000, 1000:100 or :100"}
		}
		v := uint32(n)
		return &v
	}
	user, group, both := strings.Cut(s, ":")
	if user != "" || !both {
		uid = number(user)
	}
	if both {
		gid = number(group)
	}
	return uid, gid, err
}

// parseUntil reads a time or a term, 0 for none.
func parseUntil(s string, now time.Time) (int64, error) {
	if s == "" {
		return 0, nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		var term time.Duration
		if days, ok := strings.CutSuffix(s, "d"); ok {
			var n uint64
			n, err = strconv.ParseUint(days, 10, 16)
			term = time.Duration(n) * 24 * time.Hour
		} else {
			term, err = time.ParseDuration(s)
		}
		at = now.Add(term)
	}
	if err != nil || !at.After(now) || at.Year() > 2200 {
		return 0, &blocktree.Error{Op: "until", Kind: blocktree.Invalid, Err: fmt.Errorf("%q is no time to come", s), Hint: "a term such as 30d or 12h, or a time such as 2027-01-31T12:00:00Z"}
	}
	return at.UnixNano(), nil
}

// parseSubject reads a principal, the name of a file with credentials, or a path of the domain. With credentials comes the reader key that they name, if they do.
func parseSubject(cfg *config.Client, s string) (subject meta.Subject, reader keys.PublicKey, err error) {
	if p, err := blocktree.ParsePrincipal(s); err == nil {
		return meta.Subject{Principal: p}, reader, nil
	}
	if _, err := os.Stat(s); err == nil {
		chain, err := cred.Load(s)
		if err == nil && len(chain) > 0 {
			last := chain[len(chain)-1]
			if last.Reader != "" {
				if reader, err = keys.ParsePublicKey(last.Reader); err != nil {
					return subject, reader, &blocktree.Error{Op: "reader of credentials", Path: s, Err: err}
				}
			}
			return meta.Subject{Principal: blocktree.PrincipalOf(last.Subject)}, reader, nil
		}
		if !strings.HasPrefix(s, "/") {
			return subject, reader, err
		}
	}
	if !strings.HasPrefix(s, "/") {
		return subject, reader, &blocktree.Error{Op: "subject", Kind: blocktree.Invalid, Err: fmt.Errorf("%q is no principal, no path, and no file that is there", s),
			Hint: "a principal as btnode prints it, a path that starts with a slash, or the name of a file with credentials"}
	}
	path, err := cfg.Resolve(s)
	return meta.Subject{Path: path}, reader, err
}
