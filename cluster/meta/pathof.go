package meta

import "blocktree"

// pathOfEntriesMax bounds the entries that are looked at to find a path: it is for people, and a directory may be long.
const pathOfEntriesMax = 10000

// PathOf returns the path of a file or directory, as applied here. NotFound, also where it is not found soon: there is no index of that.
func (g *Group) PathOf(f blocktree.FileID) (p blocktree.Path, err error) {
	err = g.view("meta.PathOf", func(s *state) error {
		var ok bool
		if p, ok = s.pathOf(f); !ok {
			return blocktree.E("meta.PathOf", blocktree.NotFound, nil)
		}
		return nil
	})
	return p, err
}

func (s *state) pathOf(f blocktree.FileID) (blocktree.Path, bool) {
	sb, left := s.superblock(), pathOfEntriesMax
	var below string
	n := f.Inode
	for range blocktree.PathDepthMax {
		if n == RootInode {
			return sb.Dir + blocktree.Path(below), sb != nil
		}
		dir, ok := s.parent(n)
		if !ok {
			return "", false
		}
		name := ""
		s.scan(kindEntry, inodeRest(dir), nil, func(rest, v []byte) bool {
			left--
			if e, err := decodeEntryValue(v); err == nil && e.file == (blocktree.FileID{Generation: f.Generation, Inode: n}) {
				name = string(rest)
			}
			return name == "" && left > 0
		})
		if name == "" {
			return "", false
		}
		below, n = "/"+name+below, dir
	}
	return "", false
}
