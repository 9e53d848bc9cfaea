package meta

import (
	"blocktree"
	"blocktree/internal/wire"
)

// getTarget reads the target of a symbolic link.
func getTarget(d *wire.Decoder, i *Inode) {
	if i.Target = d.String(blocktree.LinkBytesMax); i.Target == "" {
		bad(d, "a link to nothing")
	}
}
