package main

import (
	"slices"
	"strings"

	"blocktree"
	"blocktree/crypto/tree"
	"blocktree/internal/cli"
	"blocktree/internal/config"
)

// knownRootsMax bounds the roots on a command line: what a person writes there, or a script that lists a directory.
const knownRootsMax = 4096

// knownRoots reads the values of --root, PATH=ROOT, of exports of the configuration and of files on demand. Those of the configuration become what it says of them.
func knownRoots(cfg *config.NBD, values []string) (map[blocktree.Path]string, error) {
	if len(values) > knownRootsMax {
		return nil, cli.Invalid("write them as root: of the exports of the configuration", "%d of --root, at most %d", len(values), knownRootsMax)
	}
	known := make(map[blocktree.Path]string, len(values))
	for _, v := range values {
		i := strings.LastIndexByte(v, '=') // a path may have one
		if i <= 0 {
			return nil, cli.Invalid("write --root=PATH=ROOT, the root as btnode file stat prints it", "--root %s: there is no path, or no root", v)
		}
		name, text := v[:i], v[i+1:]
		path, err := cfg.Resolve(name)
		if err != nil {
			return nil, err
		}
		switch root, err := tree.ParseRoot(text); {
		case err != nil:
			return nil, err
		case root.IsZero():
			return nil, cli.Invalid("leave it out, or write the root of a record", "--root %s: that demands nothing", v)
		case known[path] != "":
			return nil, cli.Invalid("write the newer one", "--root: %s has two", name)
		}
		export := slices.IndexFunc(cfg.Exports, func(e config.Export) bool {
			p, err := cfg.Resolve(e.Path)
			return err == nil && p == path
		})
		switch {
		case export >= 0 && cfg.Exports[export].Root != "":
			return nil, cli.Invalid("change that, or leave --root out", "--root: %s has a root in the configuration", name)
		case export >= 0:
			cfg.Exports[export].Root = text
		case !onDemandHas(cfg, path):
			return nil, cli.Invalid("name an export of the configuration, or a file on demand", "--root %s: it is not exported", name)
		}
		known[path] = text
	}
	return known, nil
}

// onDemandHas reports whether a path is one that clients may ask for.
func onDemandHas(cfg *config.NBD, path blocktree.Path) bool {
	if cfg.OnDemand.Below == "" {
		return false
	}
	below, err := cfg.Resolve(cfg.OnDemand.Below)
	return err == nil && path.Within(below) && path != below
}
