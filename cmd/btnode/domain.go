package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cmd/internal/parts"
	"blocktree/crypto/cred"
	"blocktree/internal/cli"
)

// rootKeyFile is the name of the root key in the directory of a domain.
const rootKeyFile = "root.key"

func newDomain() *cobra.Command {
	group := cli.NewGroup("domain", "Make a domain",
		`A domain is everything under one root principal: a key that says who is who, by credentials that it, or others in its name, issue. It needs no
server and no cluster; docs/DOMAIN.md sets one up over three servers.`)
	group.AddCommand(newDomainInit(), newDomainSeeds())
	return group
}

func newDomainInit() *cobra.Command {
	var dir string
	var p passphraseFlags
	c := &cobra.Command{
		Use:   "init --dir DIR [--passphrase] [--passphrase-file FILE]",
		Short: "Make the root key of a new domain",
		Long: `init makes the key of a domain's root principal, DIR/root.key, which only its owner can read, and prints the principal. Nothing is overwritten.

Whoever has this key can be anybody in the domain, and without it nobody can be let in once what was issued has ended: keep it off the
machines that are on the network, and keep a copy. It is needed only to issue to an intermediate, whose key does the daily work.
With --passphrase the key is encrypted by a passphrase, typed twice at the terminal or read from a file that only you can read.`,
		Example: `  btnode domain init --dir /media/offline/domain --passphrase
  btnode domain init --dir domain`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args(),
	}
	c.Flags().StringVar(&dir, "dir", "", "directory of the root key, made when it is absent")
	p.addNew(c)
	_ = c.MarkFlagDirname("dir") // for completion only
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := cli.RequireFlags(c, "dir"); err != nil {
			return err
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return &blocktree.Error{Op: "domain", Path: dir, Kind: blocktree.IO, Err: err}
		}
		key, err := p.makeKey(c, filepath.Join(dir, rootKeyFile))
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), `root principal %s

next: have an intermediate do the daily work, and take %s off this machine
  btnode credential key --out operator.key
  btnode credential issue --issuer-key %[2]s --subject operator.key --path / --uid 0 --services sector --valid 365d --out operator.cred
`, key.Principal(), filepath.Join(dir, rootKeyFile))
		return err
	}
	return c
}

// passphraseFlags are those of commands that make or use a key that may have a passphrase.
type passphraseFlags struct {
	wanted bool
	file   string
}

// addNew adds those of a command that makes a key.
func (p *passphraseFlags) addNew(c *cobra.Command) {
	c.Flags().BoolVar(&p.wanted, "passphrase", false, "encrypt the key by a passphrase, asked for at the terminal")
	p.addFile(c, "the same, by the passphrase in a file that only you can read")
}

// addFile adds that of a command that uses one.
func (p *passphraseFlags) addFile(c *cobra.Command, usage string) {
	c.Flags().StringVar(&p.file, "passphrase-file", "", usage)
	_ = c.MarkFlagFilename("passphrase-file") // for completion only
}

// makeKey makes a key in a new file.
func (p *passphraseFlags) makeKey(c *cobra.Command, file string) (cred.Key, error) {
	if err := absent(file); err != nil { // before anybody types a passphrase
		return cred.Key{}, err
	}
	key, err := cred.GenerateKey()
	if err != nil {
		return cred.Key{}, err
	}
	if !p.wanted && p.file == "" {
		return key, key.Save(file)
	}
	passphrase, err := parts.Passphrase(c.Context(), p.file, file, true)
	if err != nil {
		return cred.Key{}, err
	}
	return key, key.SaveWith(file, passphrase)
}

// load reads a key that may have a passphrase.
func (p *passphraseFlags) load(c *cobra.Command, file string) (cred.Key, error) {
	return cred.LoadKeyWith(file, func() ([]byte, error) { return parts.Passphrase(c.Context(), p.file, file, false) })
}

// absent refuses a file that is there: no key is overwritten.
func absent(file string) error {
	if _, err := os.Lstat(file); err == nil {
		return &blocktree.Error{Op: "new file", Path: file, Kind: blocktree.Exists, Hint: "choose another name; what is there is never overwritten"}
	}
	return nil
}
