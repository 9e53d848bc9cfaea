package cluster

// What of a member's log need not be durable yet: writes to files of durability flush (docs/design/0014).

// written returns the callback that says that the first upTo records are in the log file, bytes of which were the last call's.
func (m *member) written(upTo uint64, bytes int) func(error) {
	return m.told(bytes, func() {
		m.machine.Written(upTo)
		m.tellStored(0)
	})
}

// reached is store.Options.OnWritten: the tail mark goes ahead of every answer for what is written only.
func (m *member) reached(sequence uint64) error {
	if mark := m.mark.Load(); mark != nil {
		return mark.reached(sequence)
	}
	return nil
}

// sync has everything made durable that was appended; mu is held.
func (m *member) sync() error {
	upTo := m.handed
	err := m.store.Sync(m.durable(upTo, 0))
	if err == nil {
		m.appends++
		m.syncTo = upTo
	}
	return err
}

// tellStored tells the machine that the first upTo records are durable. When the store has answered every call, of the later ones none was
// appended but those that wait lazily for a sync: without these, they count as durable, else as written; mu is held.
func (m *member) tellStored(upTo uint64) {
	if m.appends == 0 && m.lazyTo == 0 {
		upTo = m.handed
	}
	m.machine.Durable(upTo)
	if m.appends == 0 {
		m.machine.Written(m.handed)
	}
}
