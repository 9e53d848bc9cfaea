package blockdev

// Cork is for a caller with several requests to start: the file may hold back what they send until Uncork, which the same goroutine calls
// soon, and before it waits for anything. It reports false, and wants no Uncork, where the file has no such ability.
func (d *Device) Cork() bool {
	if d.batches == nil {
		return false
	}
	d.batches.Cork()
	return true
}

// Uncork ends a Cork that returned true.
func (d *Device) Uncork() { d.batches.Uncork() }

// AfterBatch is for a Started that hears of its end: f is called once when all those that end together have heard. It must not block. It
// reports false, and does nothing, where that is not known.
func (d *Device) AfterBatch(f func()) bool { return d.batches != nil && d.batches.AfterBatch(f) }
