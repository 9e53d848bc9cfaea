package cluster

import "time"

// What of a member's log need not be durable yet: writes to files of durability flush (docs/design/0014), and notes that the node was in sync (0084).

// syncSoonAfter is how long a note that the node was in sync waits for the sync of something else, before it has one of its own.
const syncSoonAfter = 500 * time.Millisecond

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

// syncSoon has everything made durable a while from now, unless something else has by then.
func (m *member) syncSoon() {
	select {
	case <-m.ctx.Done():
		return
	case <-time.After(syncSoonAfter):
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.syncsSoon = false
	if m.closed || m.failed || m.lazyTo <= m.syncTo {
		return
	}
	if err := m.sync(); err != nil {
		m.breakDown(err)
	}
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
