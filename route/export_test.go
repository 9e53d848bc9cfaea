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
	nodes, children, records, refs, bytes := 0, map[uint32]uint32{}, 0, map[uint32]uint32{}, 0
	for _, s := range c.trie.slots {
		n := s.node
		if n == 0 {
			continue
		}
		at := &c.trie.nodes[n]
		nodes++
		children[at.parent]++
		name := c.trie.nameOf(at)
		if len(name) > shortName {
			bytes += longBytes + len(name)
		}
		path := ""
		for up := n; up != topNode; up = c.trie.nodes[up].parent {
			path = "/" + c.trie.nameOf(&c.trie.nodes[up]) + path
		}
		var w way
		found := uint32(topNode)
		c.trie.follow("", path, &w)
		for i := 0; i < w.n && found != 0; i++ {
			found = c.trie.child(found, &w, i)
		}
		if found != n {
			return fmt.Errorf("node %d is not found", n)
		}
		if at.records == 0 && at.children == 0 {
			return fmt.Errorf("node %d is good for nothing", n)
		}
	}
	for n, at := range c.trie.nodes {
		if n != 0 && at.name[0] == 0 && n != topNode {
			continue
		}
		if at.children != children[uint32(n)] {
			return fmt.Errorf("node %d has %d children, counts %d", n, children[uint32(n)], at.children)
		}
		for i := at.records; i != 0; i = c.records[i].next {
			records++
			refs[c.records[i].set]++
			if c.records[i].node != uint32(n) {
				return fmt.Errorf("record %d is in node %d and says %d", i, n, c.records[i].node)
			}
		}
	}
	for i, s := range c.sets.list {
		if i != 0 && s.refs != refs[uint32(i)] {
			return fmt.Errorf("set %d has %d users, counts %d", i, refs[uint32(i)], s.refs)
		}
	}
	if nodes+1 != c.trie.used || records != c.kept || bytes != c.trie.bytes {
		return fmt.Errorf("%d nodes, %d records, %d bytes; counted %d, %d, %d", nodes+1, records, bytes, c.trie.used, c.kept, c.trie.bytes)
	}
	return nil
}
