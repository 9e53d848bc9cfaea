package config

import (
	"fmt"
	"slices"

	"blocktree"
	"blocktree/internal/cli"
)

// parentsMax bounds the runtimes of another cluster that a runtime knows by its configuration: as many as vote there, and some to spare.
const parentsMax = 16

// Parent is a runtime of another cluster (docs/design/0034-firewalls.md).
type Parent struct {
	Path      string    `yaml:"path" mapstructure:"path"`
	Principal Principal `yaml:"principal" mapstructure:"principal"`
	Endpoints []string  `yaml:"endpoints,flow" mapstructure:"endpoints"`
}

// validate checks the parents of a cluster.
func (c *Cluster) validateParents(b *Base, dir blocktree.Path) error {
	if len(c.Parents) > parentsMax {
		return cli.Invalid("one of them is enough, three survive the loss of two", "cluster.parents: %d of them, at most %d", len(c.Parents), parentsMax)
	}
	for i := range c.Parents {
		if err := c.Parents[i].validate(b, dir, fmt.Sprintf("cluster.parents[%d]", i)); err != nil {
			return err
		}
	}
	return nil
}

func (p *Parent) validate(b *Base, dir blocktree.Path, key string) error {
	switch {
	case p.Path == "":
		return missing(key+".path", "it is the place of the runtime, directly in the directory of its cluster")
	case p.Principal.IsZero():
		return missing(key+".principal", "it is the id that the runtime has to prove")
	case len(p.Endpoints) == 0 || len(p.Endpoints) > endpointsMax:
		return cli.Invalid("write host:port, the runtime's address as it is reached from here",
			"%s.endpoints: %d of them, 1 to %d are possible", key, len(p.Endpoints), endpointsMax)
	}
	path, err := b.Resolve(p.Path)
	if err != nil {
		return at(key+".path", err)
	}
	if path.Parent() == dir {
		return cli.Invalid("runtimes of the cluster itself are its members", "%s.path: %s is directly in %s, the cluster's own directory", key, path.Short(), dir.Short())
	}
	for _, e := range p.Endpoints {
		if err := checkAddress(e); err != nil {
			return at(key+".endpoints", err)
		}
	}
	return nil
}

// validateParents checks what holds for a node's only: there is an uplink to the cluster above.
func (n *Node) validateParents() error {
	for i, p := range n.Cluster.Parents {
		path, _ := n.Resolve(p.Path) // validated
		if !n.Directory().Within(path.Parent()) {
			return cli.Invalid("a node keeps a connection upward, to the cluster of a directory that its own cluster's lies in",
				"cluster.parents[%d].path: %s is not above %s", i, path.Short(), n.Directory().Short())
		}
	}
	return nil
}

// Parents returns the runtimes of other clusters that are asked for ways. The configuration must be valid.
func (b *Base) Parents() []blocktree.Runtime {
	var list []blocktree.Runtime
	for _, p := range b.Cluster.Parents {
		path, _ := b.Resolve(p.Path) // validated
		list = append(list, blocktree.Runtime{Path: path, Principal: p.Principal.Principal, Endpoints: slices.Clone(p.Endpoints), Services: []string{blocktree.ServiceSector}})
	}
	return list
}
