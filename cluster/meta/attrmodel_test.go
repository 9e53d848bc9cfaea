package meta

import "blocktree"

// setXattr does what the state machine should do.
func (m *model) setXattr(o SetXattr) blocktree.Kind {
	i := m.byID(o.File)
	switch {
	case i == nil:
		return blocktree.NotFound
	case i.target != "":
		return blocktree.Invalid
	}
	switch _, there := i.xattrs[o.Name]; {
	case there && o.How == XattrCreate:
		return blocktree.Exists
	case !there && o.How >= XattrReplace:
		return blocktree.NotFound
	case o.How == XattrRemove:
		delete(i.xattrs, o.Name)
		return 0
	}
	if i.xattrs == nil {
		i.xattrs = map[string]string{}
	}
	i.xattrs[o.Name] = string(o.Value)
	return 0
}

// extraBytes are those of all targets and attributes.
func (m *model) extraBytes() (n uint64) {
	for _, i := range m.inodes {
		n += uint64(len(i.target))
		for name, value := range i.xattrs {
			n += uint64(len(name) + len(value))
		}
	}
	return n
}
