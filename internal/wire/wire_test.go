package wire

import (
	"bytes"
	"testing"

	"blocktree"
)

func TestRoundTrip(t *testing.T) {
	var e Encoder
	e.U8(7)
	e.Bool(true)
	e.U16(0x0102)
	e.U32(0x01020304)
	e.U64(0x0102030405060708)
	e.Bytes([]byte("shard"))
	e.String("name")
	e.Version(blocktree.Version{Epoch: 3, Sequence: 9})
	e.File(blocktree.FileID{Generation: 1, Inode: 42})
	d := NewDecoder(e.Buf)
	d.Format(7)
	if !d.Bool() || d.U16() != 0x0102 || d.U32() != 0x01020304 || d.U64() != 0x0102030405060708 ||
		string(d.Bytes(5)) != "shard" || d.String(4) != "name" ||
		d.Version() != (blocktree.Version{Epoch: 3, Sequence: 9}) || d.File() != (blocktree.FileID{Generation: 1, Inode: 42}) {
		t.Fatal("a value came back changed")
	}
	if err := d.Finish(); err != nil {
		t.Fatal(err)
	}
}

func TestRefusals(t *testing.T) {
	for _, x := range []struct {
		name string
		in   []byte
		read func(*Decoder)
		kind blocktree.Kind
	}{
		{"short", []byte{1}, func(d *Decoder) { d.U32() }, blocktree.Invalid},
		{"left over", []byte{1, 2}, func(d *Decoder) { d.U8() }, blocktree.Invalid},
		{"claimed length", []byte{255, 255, 255, 255}, func(d *Decoder) { d.Bytes(1 << 20) }, blocktree.TooLarge},
		{"truth value", []byte{2}, func(d *Decoder) { d.Bool() }, blocktree.Invalid},
		{"newer", []byte{9}, func(d *Decoder) { d.Format(1) }, blocktree.NewerFormat},
		{"older", []byte{0}, func(d *Decoder) { d.Format(1) }, blocktree.Invalid},
	} {
		d := NewDecoder(x.in)
		x.read(d)
		if err := d.Finish(); blocktree.KindOf(err) != x.kind {
			t.Errorf("%s: got %v, want kind %v", x.name, err, x.kind)
		}
	}
}

func FuzzDecoder(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, 'a', 'b', 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		d := NewDecoder(in)
		b := d.Bytes(64)
		v := d.Bool()
		if d.Finish() != nil {
			return
		}
		var e Encoder
		e.Bytes(b)
		e.Bool(v)
		if !bytes.Equal(e.Buf, in) {
			t.Fatalf("encode(decode(%x)) = %x", in, e.Buf)
		}
	})
}
