package nbd

// gather starts r, a WRITE whose payload is what the reader's buffer begins with, together with those behind it that are there in full, each where the
// one before ends: one write of the device, with one answer for all of them, costs little more than each of them would. None waits for what
// is not there yet (docs/design/0023). It returns how many bytes of the buffer that took; 0: nothing happened.
func (c *conn) gather(r *request) int {
	bytes, data, last := int(r.length), int(r.length), r
	n, most := 0, c.dev.StartedBytesMax()
	for {
		h, size, ok := c.following(last, bytes, most-data)
		if !ok || !c.out.tryBegin() {
			break
		}
		last.behind = c.request(h)
		last = last.behind
		n++
		bytes += size
		data += int(h.length)
	}
	if n == 0 {
		return 0
	}
	if buf := c.s.memory.TryGet(data, 0); buf != nil {
		b, _ := c.br.Peek(bytes) // cannot fail: it is there
		to, header := buf.B, 0
		for q := r; q != nil; q = q.behind {
			b = b[header:]
			copy(to, b[:q.length])
			b, to = b[q.length:], to[q.length:]
			header = c.agreed.style.requestBytes()
		}
		started := c.startWrite(r, buf.B)
		buf.Release()
		if started {
			return bytes
		}
	}
	for q := r.behind; q != nil; {
		behind := q.behind
		q.free()
		q = behind
	}
	r.behind = nil
	c.out.unbegin(n)
	return 0
}

// following looks at the request that begins so many bytes into the reader's buffer, and reports whether it can go along with last and those before it: a
// WRITE like that one, there in full, of no more than most bytes, that begins where last ends. size is what of the buffer it takes.
func (c *conn) following(last *request, at, most int) (h command, size int, ok bool) {
	header := c.agreed.style.requestBytes()
	if most <= 0 || c.br.Buffered() < at+header {
		return h, 0, false
	}
	b, _ := c.br.Peek(at + header)
	h, err := c.agreed.style.decode(b[at:])
	if err != nil || h.kind != cmdWrite || h.flags != last.flags || h.payload != h.length || h.length == 0 || h.length > uint64(most) {
		return h, 0, false
	}
	size = header + int(h.length)
	if h.offset != last.offset+last.length || c.br.Buffered() < at+size || c.dev.ChargeBytes(h.offset, h.length) > 0 {
		return h, 0, false
	}
	errno, _ := c.refuse(&request{command: h.kind, flags: h.flags, offset: h.offset, length: h.length})
	return h, size, errno == 0
}
