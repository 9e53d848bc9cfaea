package cluster

// What the store says of a member's appends. Records that were committed together are told of together: the machine is asked once what follows, and its lock
// is taken once, however many calls they came by.

// news is what the store has said of calls of Append, AppendLazy and Sync.
type news struct {
	calls, bytes int    // that have ended, and of their records
	written      uint64 // so many of the machine's records are in the log file
	durable      uint64 // and so many are durable
	err          error
}

// add makes n say what both say.
func (n *news) add(more news) {
	n.calls += more.calls
	n.bytes += more.bytes
	n.written, n.durable = max(n.written, more.written), max(n.durable, more.durable)
	if n.err == nil {
		n.err = more.err
	}
}

// told returns the callback of a call that brings n. It runs in the store's writer, without mu. Space that runs out only now is as bad as a broken disk: what the machine
// believes to be in the log is not.
func (m *member) told(n news) func(error) {
	return func(err error) {
		said := n
		if said.err = err; m.together {
			m.news.add(said)
			return
		}
		m.hear(said)
	}
}

// tellGroup is store.Options.OnGroup: the answers of a group go out in one write per connection.
func (m *member) tellGroup(tell func()) {
	if e := m.endpoint.Load(); e != nil {
		e.Cork()
		defer e.Uncork()
	}
	m.together, m.news = true, news{}
	tell()
	m.together = false
	if m.news.calls > 0 {
		m.hear(m.news)
	}
}

// hear gives the machine what the store has said.
func (m *member) hear(n news) {
	m.mu.Lock()
	m.appends -= n.calls
	m.queuedBytes -= n.bytes
	if n.err != nil {
		m.breakDown(n.err)
	}
	if m.closed || m.failed {
		m.mu.Unlock()
		return
	}
	if n.written > 0 {
		m.machine.Written(n.written)
	}
	if m.lazyTo <= n.durable {
		m.lazyTo = 0
	}
	m.tellStored(n.durable)
	fx := m.turn()
	if len(m.backlog) > 0 {
		fx.add(m.unwait())
	}
	m.mu.Unlock()
	m.run(fx)
}
