package cluster

// Cork holds back what is sent to members until Uncork, which the same goroutine calls soon: many requests then go out in one write per
// member (bttp.Endpoint.Cork). It holds back whatever else goes by the client's connections, too.
func (h *Handle) Cork() { h.client.endpoint.Cork() }

// Uncork ends a Cork.
func (h *Handle) Uncork() { h.client.endpoint.Uncork() }

// AfterBatch has f, which must not block, called when the answers that came together have all been handled: whoever hears of several ends then
// does once what each would cost. It reports false, and does nothing, where none are being handled.
func (h *Handle) AfterBatch(f func()) bool { return h.client.endpoint.AfterBatch(f) }
