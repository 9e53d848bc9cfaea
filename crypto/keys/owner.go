package keys

// WithOwner is the next record, of the same key and readers, of another owner. It takes no key: who may make it is judged by who signs it (Verify, Follows). Of a record of the
// first format, which names no path, there is none: whoever makes its first numbered one is its owner.
func (a *Access) WithOwner(uid uint32) *Access {
	n := a.next()
	n.Owner = uid
	return n
}
