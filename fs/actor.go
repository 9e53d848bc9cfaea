package fs

// actor is what the handle of a connection's owner names: an open file, or a watch. It has one goroutine, which takes what is in its mailbox.
type actor struct {
	handle uint64 // set once
	box    mailbox
	cancel func()    // ends it; the owner's, too
	open   *openFile // that it is; nil: it is a watch
}
