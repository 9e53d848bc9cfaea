package config

import (
	"fmt"
	"strings"

	"blocktree"
	"blocktree/internal/cli"
)

// dnsNameBytesMax leaves room for _blocktree._udp. and a final dot in the 254 bytes of a name.
const dnsNameBytesMax = 237

// DNS says by which name, and by which server, runtimes of the root directory are found.
type DNS struct {
	Name   string `yaml:"name,omitempty" mapstructure:"name"`
	Server string `yaml:"server,omitempty" mapstructure:"server"` // host:port; "" is the system's resolver
}

// Seeds returns the runtimes of the root directory that the file names. The configuration must be valid.
func (b *Base) Seeds() []blocktree.Runtime { return b.runtimes(b.Domain.Seeds) }

// validateWay checks how the root directory is found: by seeds, by DNS, or by neither.
func (d *Domain) validateWay(b *Base) error {
	if len(d.Seeds) > 0 && d.DNS != (DNS{}) {
		return cli.Invalid("leave one of them out", "domain.seeds and domain.dns: runtimes of the root directory are found in one way")
	}
	if len(d.Seeds) > blocktree.SeedsMax {
		return cli.Invalid("a few are enough: they know the others", "domain.seeds: %d of them, at most %d", len(d.Seeds), blocktree.SeedsMax)
	}
	once := onlyOnce()
	for i := range d.Seeds {
		if err := d.Seeds[i].validate(b, blocktree.RootPath(b.Root()), fmt.Sprintf("domain.seeds[%d]", i), once); err != nil {
			return err
		}
	}
	return d.DNS.validate()
}

func (d *DNS) validate() error {
	const hint = "write the name that has the SRV records of _blocktree._udp, for example example.net; docs/ROUTES.md has them"
	switch {
	case d.Name == "" && d.Server != "":
		return missing("domain.dns.name", hint)
	case d.Name == "":
		return nil
	case len(d.Name) > dnsNameBytesMax:
		return cli.Invalid(hint, "domain.dns.name: %d bytes, at most %d", len(d.Name), dnsNameBytesMax)
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(d.Name, "."), ".") {
		letters := strings.Trim(strings.ToLower(label), "abcdefghijklmnopqrstuvwxyz0123456789-_")
		if label == "" || len(label) > 63 || letters != "" {
			return cli.Invalid(hint, "domain.dns.name: %q is not a name of DNS", d.Name)
		}
	}
	if d.Server == "" {
		return nil
	}
	return at("domain.dns.server", checkAddress(d.Server))
}
