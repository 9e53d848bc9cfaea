package cluster

// What of a member's log need not be durable yet: writes to files of durability flush (docs/design/0014).

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
	err := m.store.Sync(m.told(news{calls: 1, durable: upTo}))
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
