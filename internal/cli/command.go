package cli

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"blocktree"
)

// Version is the version of the user's surface: commands, flags, configuration, formats. CHANGELOG.md says what it has.
const Version = "0.1.0"

// NewRoot makes the root command of a program: quiet about cobra's own habits, with `version`, `completion` and the
// hidden `man` below it, and with complaints about flags turned into errors of kind Invalid.
func NewRoot(name, short, long, example string) *cobra.Command {
	root := NewGroup(name, short, long)
	root.Example = example
	root.SilenceErrors, root.SilenceUsage = true, true
	root.DisableAutoGenTag = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		hint := blocktree.HintOf(err)
		if hint == "" {
			hint = "see `" + c.CommandPath() + " --help`"
		}
		return Invalid(hint, "%w", err)
	})
	root.AddCommand(newVersion(), newMan(root))
	return root
}

// NewGroup makes a command that only holds others: alone it prints its help, with an unknown word it fails as usage.
func NewGroup(use, short, long string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long,
		Args: cobra.ArbitraryArgs, SuggestionsMinimumDistance: 2,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			hint := "see `" + c.CommandPath() + " --help`"
			if near := c.SuggestionsFor(args[0]); len(near) > 0 {
				hint = fmt.Sprintf("did you mean `%s %s`?", c.CommandPath(), near[0])
			}
			return Invalid(hint, "%q is not a command of %s", args[0], c.CommandPath())
		},
	}
}

// Args accepts exactly the arguments named, for example Args("PATH").
func Args(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		hint := "usage: " + c.UseLine()
		if len(args) > len(names) {
			return Invalid(hint, "%q is one argument too many", args[len(names)])
		}
		return Invalid(hint, "%s is missing", strings.Join(names[len(args):], " and "))
	}
}

// Some accepts the arguments named, and any number more like the last of them, for example Some("PATH").
func Some(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) >= len(names) {
			return nil
		}
		return Invalid("usage: "+c.UseLine(), "%s is missing", strings.Join(names[len(args):], " and "))
	}
}

// RequireFlags fails with kind Invalid when one of the flags was not given.
func RequireFlags(c *cobra.Command, names ...string) error {
	for _, n := range names {
		if f := c.Flags().Lookup(n); f == nil || f.Value.String() == "" {
			return Invalid("usage: "+c.UseLine(), "--%s is missing", n)
		}
	}
	return nil
}

// VersionText is what `version` prints: name, version and, where the build knows it, the commit.
func VersionText(name string) string {
	text := name + " " + Version
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return text
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			text += " " + s.Value[:12]
		}
	}
	return text
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version",
		DisableFlagsInUseLine: true,
		Args:                  Args(),
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), VersionText(c.Root().Name()))
			return err
		},
	}
}
