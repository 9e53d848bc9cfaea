package parts

import (
	"blocktree/internal/config"
	"blocktree/route"
)

// Seeder returns what names runtimes of the root directory: the seeds of a configuration, or DNS. Nil if it has neither.
func Seeder(b *config.Base) route.Seeder {
	switch {
	case len(b.Domain.Seeds) > 0:
		return route.Seeds(b.Seeds())
	case b.Domain.DNS.Name != "":
		return route.DNS{Root: b.Root(), Name: b.Domain.DNS.Name, Server: b.Domain.DNS.Server}
	}
	return nil
}
