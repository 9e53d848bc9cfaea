package parts

import (
	"blocktree/fs/connect"
	"blocktree/internal/config"
	"blocktree/route"
)

// Seeder is connect.Seeder.
func Seeder(b *config.Base) route.Seeder { return connect.Seeder(b) }
