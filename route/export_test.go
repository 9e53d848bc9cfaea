package route

import (
	"fmt"

	"blocktree/internal/wire"
)

// SealUnchecked is Seal of who lies.
func SealUnchecked(s Signer, a Answer) []byte {
	var e wire.Encoder
	e.U8(formatAnswer)
	body := EncodeAnswer(a)
	e.Bytes(body)
	e.Bytes(s.Credentials.Encode())
	e.Raw(s.Key.Sign(append([]byte(signedAs), body...)))
	return e.Buf
}

// EncodeAnswer and DecodeAnswer are the body's codec.
func EncodeAnswer(a Answer) []byte {
	var e wire.Encoder
	a.encode(&e)
	return e.Buf
}

// DecodeAnswer reads it.
func DecodeAnswer(in []byte) (Answer, error) { return decodeAnswer(in) }

// Queriers is of how many queriers the Answerer keeps something.
func (a *Answerer) Queriers() int {
	a.rates.mu.Lock()
	defer a.rates.mu.Unlock()
	return len(a.rates.queriers)
}

// Admit is the rate bound by itself.
func (a *Answerer) Admit(q Querier) bool { return a.rates.admit(q, a.cfg.Now()) }

// Verify looks whether everything in the cache hangs together.
func (c *Cache) Verify() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.scopes
	used, kept, refs, depths := 0, 0, map[uint32]uint32{}, t.depths
	for _, x := range t.slots {
		if x.first == 0 {
			continue
		}
		used++
		depths[t.records[x.first].depth]--
		of := t.records[x.first].place
		if x.tag != of.tag() || t.headOf(&of) != x.first {
			return fmt.Errorf("the scope of record %d is not found", x.first)
		}
		for i := x.first; i != 0; i = t.records[i].next {
			r := &t.records[i]
			if r.kind == 0 || r.place != of || r.depth != t.records[x.first].depth || t.of(x.first, r.kind, r.service) != i {
				return fmt.Errorf("record %d is of another scope, or there is another of its kind: %+v", i, *r)
			}
			kept++
			refs[r.set]++
		}
	}
	unused := 0
	for i := t.free; i != 0 && unused < len(t.records); i = t.records[i].next {
		unused++
	}
	if kept+unused+1 != len(t.records) {
		return fmt.Errorf("of %d records %d are kept and %d free", len(t.records), kept, unused)
	}
	for i, s := range c.sets.list {
		if i != 0 && s.refs != refs[uint32(i)] {
			return fmt.Errorf("set %d has %d users, counts %d", i, refs[uint32(i)], s.refs)
		}
	}
	if depths != [len(depths)]uint32{} {
		return fmt.Errorf("scopes by depth, too many: %v", depths)
	}
	if used != t.used || kept != t.kept {
		return fmt.Errorf("%d scopes, %d records; counted %d, %d", used, kept, t.used, t.kept)
	}
	return nil
}
