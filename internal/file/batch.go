package file

// Cork implements blocktree.Batcher.
func (f *File) Cork() {
	if f.handle != nil {
		f.handle.Cork()
	}
}

// Uncork implements blocktree.Batcher.
func (f *File) Uncork() {
	if f.handle != nil {
		f.handle.Uncork()
	}
}

// AfterBatch implements blocktree.Batcher.
func (f *File) AfterBatch(do func()) bool { return f.handle != nil && f.handle.AfterBatch(do) }
