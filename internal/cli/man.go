package cli

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"blocktree"
)

// manDate is the date printed in man pages: that of the version, so that they are made alike on every day.
func manDate() *time.Time {
	d := time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC)
	return &d
}

// ManPages returns the manual of root and of every command below it: file name → content, one section 1 page per
// command and one "name.md" that holds them all. Hidden commands have none.
func ManPages(root *cobra.Command) (map[string][]byte, error) {
	pages := map[string][]byte{}
	var all bytes.Buffer
	for _, c := range Commands(root) {
		c.DisableAutoGenTag = true
		header := &doc.GenManHeader{Section: "1", Date: manDate(), Source: "blocktree " + Version, Manual: "Blocktree"}
		var page bytes.Buffer
		if err := doc.GenMan(c, header, &page); err != nil {
			return nil, blocktree.E("man page", blocktree.Other, err)
		}
		pages[strings.ReplaceAll(c.CommandPath(), " ", "-")+".1"] = page.Bytes()
		link := func(s string) string { return "#" + strings.TrimSuffix(strings.ReplaceAll(s, "_", "-"), ".md") }
		if err := doc.GenMarkdownCustom(c, &all, link); err != nil {
			return nil, blocktree.E("manual", blocktree.Other, err)
		}
	}
	pages[root.Name()+".md"] = all.Bytes()
	return pages, nil
}

// Commands returns root and every command below it that a person is told about, in the order of their names.
func Commands(root *cobra.Command) []*cobra.Command {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	list := []*cobra.Command{root}
	for _, c := range root.Commands() {
		if !c.IsAvailableCommand() || c.IsAdditionalHelpTopicCommand() || c.Name() == "completion" {
			continue
		}
		list = append(list, below(c)...)
	}
	return list
}

// below returns c and the commands under it.
func below(c *cobra.Command) []*cobra.Command {
	list := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			list = append(list, below(sub)...)
		}
	}
	return list
}

// newMan makes the hidden command that writes the pages of docs/man.
func newMan(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "Write the man pages and the manual into DIR", Hidden: true,
		Args: Args("DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			pages, err := ManPages(root)
			if err != nil {
				return err
			}
			for name, page := range pages {
				if err := os.WriteFile(filepath.Join(args[0], name), page, 0o644); err != nil {
					kind := blocktree.IO
					if errors.Is(err, fs.ErrNotExist) {
						kind = blocktree.NotFound
					}
					return &blocktree.Error{Op: "man", Kind: kind, Err: err, Hint: "make the directory first"}
				}
			}
			return nil
		},
	}
}
