package cluster

import (
	"bytes"
	"testing"

	"blocktree/cluster/stripe"
	"blocktree/internal/bttp"
)

// TestEncodedIsItsOwn: what is sent when send returns may be encoded into memory that is used again; what bttp sends later must not be.
func TestEncodedIsItsOwn(t *testing.T) {
	read := func(payload int) *stripe.Message {
		return &stripe.Message{Kind: stripe.KindRead, Answer: true, Payload: bytes.Repeat([]byte{1}, payload), Extents: make([]stripe.Extent, 1)}
	}
	written := func(payload int) *stripe.Message {
		return &stripe.Message{Kind: stripe.KindPrepare, Record: &stripe.Record{Kind: stripe.RecordData, Payload: bytes.Repeat([]byte{1}, payload)}}
	}
	for _, x := range []struct {
		m     *stripe.Message
		later bool // bttp may send it after its call has returned
	}{
		{read(0), false}, {read(bttp.CopiedBytesMax), false}, {read(bttp.CopiedBytesMax + 1), true},
		{written(bttp.CopiedBytesMax), false}, {written(bttp.CopiedBytesMax + 1), true},
		{&stripe.Message{Kind: stripe.KindFence, Answer: true, Regions: make([]stripe.RegionState, 1000)}, true},
	} {
		wantHeader, parts := stripe.EncodeMessage(x.m)
		want := bytes.Join(parts, nil)
		var kept [][]byte
		err := encoded(x.m, func(header []byte, body [][]byte) error {
			if !bytes.Equal(header, wantHeader) || !bytes.Equal(bytes.Join(body, nil), want) {
				t.Errorf("kind %v: another message is sent", x.m.Kind)
			}
			kept = body
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if same := bytes.Equal(bytes.Join(kept, nil), want); x.later && !same || !x.later && same && len(want) > 0 {
			t.Errorf("kind %v, %d bytes: the parts are there after the call: %v, want %v", x.m.Kind, len(want), same, x.later)
		}
	}
}
