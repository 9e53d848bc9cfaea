package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/crypto/seal"
	"blocktree/crypto/tree"
	"blocktree/internal/cli"
	"blocktree/internal/config"
)

// fileLine is a file or directory as --json prints it.
type fileLine struct {
	Path       string      `json:"path"`
	Kind       string      `json:"kind"` // file, directory or link
	ID         string      `json:"id"`
	Size       uint64      `json:"size,omitempty"`
	Length     uint64      `json:"length"` // bytes that cat and get read; size unless the file was given another
	SectorSize uint32      `json:"sectorSize,omitempty"`
	Code       string      `json:"code,omitempty"`
	Encrypted  bool        `json:"encrypted"`
	Durability string      `json:"durability,omitempty"` // ack or flush
	LossNumber uint64      `json:"lossNumber"`           // how often answered writes of a file of durability flush may have been lost
	Integrity  string      `json:"integrity,omitempty"`  // sector or tree
	Root       string      `json:"root,omitempty"`       // of a file of integrity tree, "none" before its first record
	Key        *accessLine `json:"access,omitempty"`     // the access record of what has a key; stat only
	Created    string      `json:"created"`
	Modified   string      `json:"modified"`
	Changed    string      `json:"changed"`          // when anything of it last changed
	Target     string      `json:"target,omitempty"` // of a symbolic link; of ls --anonymous not
	// Who may what: permission bits in octal, owner and group, and what the configuration's runtime may itself.
	Mode   string      `json:"mode"`
	UID    uint32      `json:"uid"`
	GID    uint32      `json:"gid"`
	Rights string      `json:"rights"`
	Grants []grantLine `json:"grants,omitempty"`
}

// grantLine is a grant as --json prints it.
type grantLine struct {
	To     string `json:"to"`
	Rights string `json:"rights"`
	Until  string `json:"until,omitempty"`
}

// access adds what the metadata says of grants, which takes another question to the cluster.
func (l *fileLine) access(a *meta.Allowed) {
	l.Rights = a.Rights.String()
	for i := range a.Grants {
		g := grantLine{To: a.Grants[i].Subject.String(), Rights: a.Grants[i].Rights.String()}
		if u := a.Grants[i].Until; u != 0 {
			g.Until = stamp(u)
		}
		l.Grants = append(l.Grants, g)
	}
}

// bits are the permission bits as ls -l prints them; the plus says that there are grants beside.
func (l *fileLine) bits() string {
	var mode uint32
	_, _ = fmt.Sscanf(l.Mode, "%o", &mode) // line wrote it
	s := []byte("-rwxrwxrwx")
	switch l.Kind {
	case "directory":
		s[0] = 'd'
	case "link":
		s[0] = 'l'
	}
	for i := range 9 {
		if mode>>(8-i)&1 == 0 {
			s[i+1] = '-'
		}
	}
	if len(l.Grants) > 0 {
		s = append(s, '+')
	}
	return string(s)
}

// durable adds what the layout of a file says, which takes another question to the cluster.
func (l *fileLine) durable(ctx context.Context, client *cluster.Client, i *meta.Inode) error {
	if i.Kind != meta.KindFile {
		return nil
	}
	d, err := client.Durability(ctx, i)
	l.Durability, l.LossNumber = d.Durability.String(), d.LossNumber
	return err
}

// line describes an inode.
func line(path string, i *meta.Inode) fileLine {
	l := fileLine{Path: path, Kind: "directory", ID: i.ID.String(), Created: stamp(i.Created), Modified: stamp(i.Modified), Changed: stamp(i.ChangedAt()),
		Mode: fmt.Sprintf("%04o", i.Mode), UID: i.UID, GID: i.GID}
	if i.Kind == meta.KindFile {
		l.Kind, l.Size, l.SectorSize, l.Code, l.Encrypted = "file", i.SizeBytes, i.SectorBytes, i.Code.String(), seal.Suite(i.Suite) != seal.None
		l.Integrity, l.Length = i.Integrity.String(), i.Length()
	}
	if i.Kind == meta.KindLink {
		l.Kind, l.Mode, l.Length, l.Target = "link", "0777", i.Length(), i.Target
	}
	return l
}

// rooted adds the root of a file of integrity tree, which listings do not have.
func (l *fileLine) rooted(i *meta.Inode) error {
	if i.Integrity != meta.IntegrityTree {
		return nil
	}
	l.Root = tree.Root{}.String()
	if i.AnchorNumber == 0 {
		return nil
	}
	r, err := tree.DecodeRecord(i.Anchor)
	if err == nil {
		l.Root = r.Root().String()
	}
	return err
}

func stamp(nanoseconds int64) string { return time.Unix(0, nanoseconds).UTC().Format(time.RFC3339) }

func newFileLs() *cobra.Command {
	var file string
	var asJSON, long bool
	c := &cobra.Command{
		Use:   "ls PATH --config FILE [--long] [--json]",
		Short: "List a directory",
		Long: `ls prints one line per file or directory directly in PATH, in the order of their names. --long begins it with mode, owner and group; a plus says that
somebody has been granted rights on it beside, which btnode file stat shows. It takes the right list on PATH. btnode ls is the same in short, and lists for nobody in particular, too.`,
		Example: `  btnode file ls / --config client.yaml
  btnode file ls /vm -l --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH"),
	}
	addConfig(c, &file, "configuration of any node or client of the cluster")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.Flags().BoolVarP(&long, "long", "l", false, "print mode, owner and group, too")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := cli.RequireFlags(c, "config"); err != nil {
			return err
		}
		return withCluster(c, file, func(ctx context.Context, cfg *config.Client, client *cluster.Client) error {
			path, err := cfg.Resolve(args[0])
			if err != nil {
				return err
			}
			entries, err := client.List(ctx, path)
			if err != nil {
				return err
			}
			lines := make([]fileLine, 0, len(entries))
			for i := range entries {
				l := line(path.Join(entries[i].Name).Short(), &entries[i].Inode)
				if asJSON { // nobody else is shown it
					err = l.durable(ctx, client, &entries[i].Inode)
				}
				if err == nil && (asJSON || long) {
					var a *meta.Allowed
					if _, a, err = client.Allowed(ctx, path.Join(entries[i].Name)); err == nil {
						l.access(a)
					}
				}
				if blocktree.KindOf(err) == blocktree.NotFound {
					continue // removed meanwhile
				}
				if err != nil {
					return err
				}
				lines = append(lines, l)
			}
			return printLines(c, lines, asJSON, long)
		})
	}
	return c
}

func printLines(c *cobra.Command, lines []fileLine, asJSON, long bool) error {
	if asJSON {
		return cli.PrintJSON(c.OutOrStdout(), lines)
	}
	t := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
	for _, l := range lines {
		if long {
			fmt.Fprintf(t, "%s\t%d:%d\t", l.bits(), l.UID, l.GID)
		}
		if l.Kind == "directory" {
			fmt.Fprintf(t, "%s/\n", cli.PrintableName(l.Path))
			continue
		}
		if l.Kind == "link" {
			fmt.Fprintf(t, "%s@", cli.PrintableName(l.Path))
			if l.Target != "" {
				fmt.Fprintf(t, " -> %s", cli.PrintableName(l.Target))
			}
			fmt.Fprintln(t)
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", cli.PrintableName(l.Path), sizeText(l.Size, l.Length), l.Code)
	}
	return t.Flush()
}

// sizeText is a size, and the length where that is another.
func sizeText(size, length uint64) string {
	if length == size {
		return cli.FormatSize(size)
	}
	return fmt.Sprintf("%d of %s", length, cli.FormatSize(size))
}

func newFileStat() *cobra.Command {
	var file string
	var asJSON bool
	c := &cobra.Command{
		Use:   "stat PATH --config FILE [--json]",
		Short: "Describe a file or directory",
		Long: `stat prints what the cluster's metadata says of PATH: its owner, mode and grants too, and what the runtime of the configuration may with it. It takes
some right on PATH, or list on its directory; grants are shown to whoever has a right. How many of its nodes are in sync is in ` + "`btnode status`." + `

Of what has a key, the generation of that is there, the number of the access record and who made its last, who reads it, and how far sectors of older
generations are re-sealed (btnode rekey).

The root of a file of integrity tree is what an export's root: demands: written down somewhere else, it has a server that never saw the file
refuse what is older. stat has no key and believes the nodes; take the root while you trust what is there.`,
		Example:               `  btnode file stat /vm/disk0 --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH"),
	}
	addConfig(c, &file, "configuration of any node or client of the cluster")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := cli.RequireFlags(c, "config"); err != nil {
			return err
		}
		return withCluster(c, file, func(ctx context.Context, cfg *config.Client, client *cluster.Client) error {
			path, err := cfg.Resolve(args[0])
			if err != nil {
				return err
			}
			l, err := describePath(ctx, client, path)
			if err != nil {
				return err
			}
			return printStat(c, l, asJSON)
		})
	}
	return c
}

// describePath is all that the metadata say of a path.
func describePath(ctx context.Context, client *cluster.Client, path blocktree.Path) (fileLine, error) {
	inode, a, err := client.Allowed(ctx, path)
	if err != nil {
		return fileLine{}, err
	}
	l := line(path.Short(), inode)
	l.access(a)
	if err = errors.Join(l.durable(ctx, client, inode), l.rooted(inode)); err == nil {
		l.Key, err = describeAccess(ctx, client, path, inode)
	}
	return l, err
}

func printStat(c *cobra.Command, l fileLine, asJSON bool) error {
	if asJSON {
		return cli.PrintJSON(c.OutOrStdout(), l)
	}
	t := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "path\t%s\nkind\t%s\nid\t%s\n", cli.PrintableName(l.Path), l.Kind, l.ID)
	if l.Kind == "file" {
		fmt.Fprintf(t, "size\t%s (%d bytes)\nsector\t%s\ncode\t%s\nencrypted\t%v\ndurability\t%s\n", cli.FormatSize(l.Size), l.Size,
			cli.FormatSize(uint64(l.SectorSize)), l.Code, l.Encrypted, l.Durability)
		if l.Length != l.Size {
			fmt.Fprintf(t, "length\t%d bytes\n", l.Length)
		}
		if l.Durability != "ack" {
			fmt.Fprintf(t, "losses\t%d\n", l.LossNumber)
		}
		if l.Integrity != "sector" {
			fmt.Fprintf(t, "integrity\t%s\nroot\t%s\n", l.Integrity, l.Root)
		}
	}
	if l.Kind == "link" && l.Target != "" {
		fmt.Fprintf(t, "target\t%s\n", cli.PrintableName(l.Target))
	}
	l.Key.print(t)
	fmt.Fprintf(t, "created\t%s\nmodified\t%s\nchanged\t%s\nmode\t%s\nowner\t%d:%d\nrights\t%s\n", l.Created, l.Modified, l.Changed, l.Mode, l.UID, l.GID, l.Rights)
	for _, g := range l.Grants {
		until := ""
		if g.Until != "" {
			until = " until " + g.Until
		}
		fmt.Fprintf(t, "grant\t%s may %s%s\n", g.To, g.Rights, until)
	}
	return t.Flush()
}
