package nbd

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/memfile"
)

// fuzzBytes is the size of the devices here.
const fuzzBytes = 64 << 10

// served is all that a server says to a client that has said everything already, and what is on the device then. Nothing may be left.
func served(t *testing.T, script []byte, readOnly bool) (said *bytes.Reader, image []byte) {
	t.Helper()
	memory := blockdev.NewMemory(64 << 20)
	dev, err := blockdev.Open(memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: fuzzBytes}, Prompt: true}), blockdev.Options{Memory: memory})
	if err != nil {
		t.Fatal(err)
	}
	var exports blockdev.Exports
	if err := exports.Add(blockdev.Export{Name: "/vm/disk0", Device: dev, ReadOnly: readOnly}); err != nil {
		t.Fatal(err)
	}
	s := NewServer(Config{Exports: &exports, Memory: memory})
	nc := &scripted{Reader: bytes.NewReader(script)}
	newConn(s, nc).serve(func() {})
	image = make([]byte, fuzzBytes)
	if err := dev.ReadAt(t.Context(), image, 0); err != nil {
		t.Fatal(err)
	}
	if s.attachedConns() != 0 || memory.FreeBytes() != 64<<20 {
		t.Fatalf("%d connections are attached, %d bytes are free", s.attachedConns(), memory.FreeBytes())
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(nc.said.Bytes()), image
}

// questions makes requests of anything: 8 bytes each. Lengths and offsets are small, near the end of the device, or anything.
func questions(script []byte, s style) (all []question) {
	number := func(b []byte) uint64 {
		v := uint64(binary.LittleEndian.Uint16(b))
		switch b[2] >> 6 {
		case 1:
			return fuzzBytes - v%8192
		case 2:
			return fuzzBytes + v
		case 3:
			return v << (b[2] & 63)
		}
		return v
	}
	for ; len(script) >= 8 && len(all) < 64; script = script[8:] {
		q := question{rule: &rules[int(script[0]&127)%len(rules)], flags: uint16(script[1]), offset: number(script[2:]), length: number(script[5:]),
			handle: uint64(len(all)) * 0x0101010101010101}
		if q.command == 1 && script[0]>>7 == 0 { // mostly one that can be done
			q.flags &= q.rule.flags[s]
			q.flags |= q.rule.flags[s] & payloadLen
		}
		if s != extended {
			q.length = uint64(uint32(q.length))
		}
		if len(q.wirePayload(s)) > 0 { // now and then one that does not fit into the connection's buffer
			most := uint64(3000)
			if script[4]&7 == 7 {
				most = 70000
			}
			q.length %= most
		}
		all = append(all, q)
	}
	return all
}

// wirePayload is not empty where a payload as long as the length follows.
func (q question) wirePayload(s style) []byte {
	if q.length == 0 || s == extended && q.command == 7 {
		return nil
	}
	q.length = 1
	return q.payload(s)
}

// FuzzTransmission has any requests made, of any style, up to any byte, and judges every answer by the rules and a flat slice.
func FuzzTransmission(f *testing.F) {
	f.Add(uint8(0), uint16(0), []byte("\x01\x00\x05\x00\x00\x10\x20\x00\x00\x00\x00\x00\x00\x00\x20\x00\x06\x00\x01\x00\x00\x00\x10\x00"))
	f.Add(uint8(1), uint16(3), []byte("\x01\x01\x00\x00\x40\x00\x10\x00\x00\x04\x00\x00\x00\x00\x00\x80\x03\x01\x00\x00\x00\x00\x00\x00\x06\x08\x00\x00\x00\x00\x00\x80"))
	f.Add(uint8(2), uint16(40), []byte("\x06\x28\x00\x00\x00\x00\x10\x00\x01\x20\xff\x00\x00\x10\x20\x00\x04\x01\x00\x00\x00\x01\x00\xd0\x03\x20\x10\x00\x00\x10\x00\x00"))
	f.Add(uint8(5), uint16(0), []byte("\x81\xff\x00\x00\x00\x00\x10\x00\x01\x00\x00\x00\x00\x00\x10\x00\x05\x17\x00\x00\x40\x01\x00\x00"))
	f.Fuzz(func(t *testing.T, kind uint8, cut uint16, script []byte) {
		s, readOnly := styles[int(kind)%len(styles)], int(kind)/len(styles)%2 == 1
		meta := metaQuery{"/vm/disk0", []string{metaContext}}.encode()
		say := []byte{0, 0, 0, 3}
		options := []uint32{optGo}
		if s != compact {
			options = []uint32{map[style]uint32{structured: optStructuredReply, extended: optExtendedHeaders}[s], optSetMeta, optGo}
		}
		for _, id := range options {
			say = appendOption(say, id, map[uint32][]byte{optSetMeta: meta, optGo: infoRequest{name: "/vm/disk0"}.encode()}[id])
		}
		all := questions(script, s)
		var ends []int // of each request
		begin := len(say)
		for _, q := range all {
			say = append(say, q.wire(s)...)
			ends = append(ends, len(say))
		}
		say = say[:max(begin, len(say)-int(cut))]

		said, image := served(t, say, readOnly)
		c := greetedBy(t, said, s)
		for _, id := range options {
			if got := c.replies(id); got.last() != ack {
				t.Fatalf("option %d: %v", id, got)
			}
		}
		a := &asker{client: c, readOnly: readOnly, model: make([]byte, fuzzBytes)}
		for i, q := range all {
			if ends[i] <= len(say) {
				a.judge(q)
			}
		}
		if rest, err := io.ReadAll(c.br); err != nil || len(rest) > 0 {
			t.Fatalf("%d bytes too many are said (%v)", len(rest), err)
		}
		if !bytes.Equal(image, a.model) {
			t.Fatal("other bytes than the model's are on the device")
		}
	})
}

// greetedBy is a client that has said everything already, and hears what came of it.
func greetedBy(t *testing.T, said io.Reader, s style) *client {
	t.Helper()
	c := &client{t: t, br: bufio.NewReader(said), style: s}
	if got := c.take(handshakeBytes); !bytes.HasPrefix(got, []byte("NBDMAGICIHAVEOPT")) {
		t.Fatalf("greeted with %q", got)
	}
	return c
}

// spoken is an option with its data.
type spoken struct {
	id   uint32
	data []byte
}

// FuzzHandshake has any options come in any order, most of them with data that means something. Every option has its answers, in order, and
// of the kinds that it may have; GO is the end only when it is acknowledged, and then a request of the style that was agreed is answered.
func FuzzHandshake(f *testing.F) {
	f.Add([]byte("\x08\x00\x0a\x00\x06\x00\x07\x00"))
	f.Add([]byte("\x0b\x00\x08\x00\x0a\x01\x0a\x02\x07\x03\x07\x00"))
	f.Add([]byte("\x03\x05\x05\x00\x09\x00\x01\x00"))
	f.Add([]byte("\x03\x00\x02\x00\x03\x00"))
	f.Fuzz(func(t *testing.T, script []byte) {
		var all []spoken
		say := []byte{0, 0, 0, 3}
		var ends []int
		for ; len(script) >= 2 && len(all) < blocktree.NBDOptionsMax; script = script[2:] {
			o := spoken{uint32(script[0] & 15), optionData(uint32(script[0]&15), script[1], script[2:])}
			all = append(all, o)
			say = appendOption(say, o.id, o.data)
			ends = append(ends, len(say))
		}
		said, _ := served(t, say, false)
		c := greetedBy(t, said, compact)
		last := takeAnswers(c, all)
		if last < 0 || all[last].id == optExportName {
			return // nothing can be told from the answer to EXPORT_NAME without knowing it
		}
		if all[last].id == optGo {
			request := (&client{style: c.style}).request(cmdRead, 0, 9, 5, 10, nil)
			said, _ = served(t, append(say[:ends[last]:ends[last]], request...), false)
			c = greetedBy(t, said, compact)
			takeAnswers(c, all)
			if a := c.answer(9, cmdRead, 0, 5, 10); a.errno != 0 || !bytes.Equal(a.data, make([]byte, 10)) {
				t.Fatalf("error %d, %x", a.errno, a.data)
			}
		}
		if rest, err := io.ReadAll(c.br); err != nil || len(rest) > 0 {
			t.Fatalf("%d bytes too many are said (%v)", len(rest), err)
		}
	})
}

// takeAnswers takes the answers to options, up to the last one: GO or ABORT that was acknowledged, or EXPORT_NAME, whose answer is left. It returns which
// one that was, -1 if none. The client has the style that was agreed then.
func takeAnswers(c *client, all []spoken) (last int) {
	for i, o := range all {
		if o.id == optExportName {
			return i
		}
		got := c.replies(o.id)
		for _, r := range got[:len(got)-1] {
			if may := map[uint32]uint32{optList: 2, optInfo: 3, optGo: 3, optListMeta: 4, optSetMeta: 4}[o.id]; r.kind != may {
				c.t.Fatalf("option %d: %v", o.id, got)
			}
		}
		acked := got.last() == ack
		never := o.id == 0 || o.id == 4 || o.id == optStartTLS || o.id > optExtendedHeaders
		switch {
		case acked && never, !acked && o.id == optAbort:
			c.t.Fatalf("option %d: %v", o.id, got)
		case acked && (o.id == optGo || o.id == optAbort):
			return i
		case acked && o.id == optStructuredReply:
			c.style = structured
		case acked && o.id == optExtendedHeaders:
			c.style = extended
		}
	}
	return -1
}

// optionData is what may come with an option: mostly what means something there.
func optionData(id uint32, kind byte, raw []byte) []byte {
	name := []string{"/vm/disk0", "vm/disk0", "", "/none"}[kind>>1&3]
	var good []byte
	switch id {
	case optExportName:
		good = []byte(name)
	case optInfo, optGo:
		good = infoRequest{name: name, wants: []uint16{1, 2, 3}[:kind>>3&3]}.encode()
	case optListMeta, optSetMeta:
		good = metaQuery{name, []string{"base:allocation", "base:", "x-y:z"}[:kind>>3&3]}.encode()
	}
	if kind&1 == 0 {
		return good
	}
	good = append(good, raw[:min(len(raw), int(kind>>5))]...)
	return good[:len(good)-min(len(good), int(kind>>5&3))]
}
