package cluster

import (
	"bytes"
	"io"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/internal/vfs"
)

func someSuspects() *suspects {
	s := newSuspects(slog.New(slog.NewTextHandler(io.Discard, nil)), func(blocktree.NodeID) string { return "node" })
	s.seen(stripe.Suspect{Node: 1, Kind: stripe.SuspectShard, File: blocktree.FileID{Generation: 1, Inode: 7}, First: 9, Count: 1}, 2)
	s.seen(stripe.Suspect{Node: 1, Kind: stripe.SuspectShard, File: blocktree.FileID{Generation: 1, Inode: 7}, First: 9, Count: 1}, 1)
	s.seen(stripe.Suspect{Node: 2, Kind: stripe.SuspectLost, First: 3, Count: 1}, 1)
	s.tell(blocktree.Principal{5}, hint{suspectKey{3, stripe.SuspectVersion}, blocktree.FileID{Inode: 2}, 4, 1, 6})
	s.tell(blocktree.Principal{6}, hint{suspectKey{3, stripe.SuspectVersion}, blocktree.FileID{Inode: 2}, 5, 1, 6})
	return s
}

// TestSuspectsAreKept: what a node knows outlives it, and what is damaged is as if it were not there.
func TestSuspectsAreKept(t *testing.T) {
	disk := vfs.NewCrash()
	if err := disk.MkdirAll("/s"); err != nil {
		t.Fatal(err)
	}
	s := someSuspects()
	if err := s.save(disk, "/s"); err != nil {
		t.Fatal(err)
	}
	again := newSuspects(s.logger, s.name)
	again.load(disk, "/s")
	if a, b := encodeSuspects(s.all()), encodeSuspects(again.all()); !bytes.Equal(a, b) || len(again.own) != 2 || len(again.told[0].tellers) != 2 {
		t.Errorf("%x, want %x", b, a)
	}
	b, err := readSmallFile(disk, "/s", suspectFile, suspectBytesMax)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 4
		if err := replaceFile(disk, "/s", suspectFile, bad, false); err != nil {
			t.Fatal(err)
		}
		x := newSuspects(s.logger, s.name)
		if x.load(disk, "/s"); len(x.own)+len(x.told) > 0 {
			t.Fatalf("byte %d is damaged, and it is taken", i)
		}
	}
}

// TestSuspectsAreBounded: nothing that others say makes a node keep more than so much, and hints of one window are one.
func TestSuspectsAreBounded(t *testing.T) {
	s := someSuspects()
	s.takeHints()
	for i := range 3 * suspectsMax {
		s.tell(blocktree.Principal{byte(i), byte(i >> 8)}, hint{suspectKey{blocktree.NodeID(i), stripe.SuspectShard}, blocktree.FileID{}, 0, 1, 1})
		s.tell(blocktree.Principal{byte(i), byte(i >> 8)}, hint{suspectKey{3, stripe.SuspectVersion}, blocktree.FileID{}, 0, 1, 1})
		s.seen(stripe.Suspect{Node: 1, Kind: stripe.SuspectShard, First: blocktree.SectorIndex(i), Count: 1}, 1)
	}
	own, told := s.all()
	if len(own) != 2 || len(told) != suspectsMax || len(told[0].tellers) != tellersMax || told[0].count != 12+3*suspectsMax {
		t.Errorf("%d and %d are kept, of %d tellers", len(own), len(told), len(told[0].tellers))
	}
	if b := encodeSuspects(own, told); len(b) > suspectBytesMax {
		t.Errorf("%d bytes", len(b))
	}
	flood := hint{suspectKey{3, stripe.SuspectVersion}, blocktree.FileID{}, 0, 1, 1<<64 - 1}
	s.tell(blocktree.Principal{1}, flood)
	s.tell(blocktree.Principal{1}, flood)
	if _, told = s.all(); told[0].count != 12+3*suspectsMax+2*hintTimesMax {
		t.Errorf("two hints count %d", told[0].count)
	}
	sum := newSuspectSum()
	sum.add(7, nil, told[:1])
	sum.add(8, []suspicion{{suspectKey: told[0].suspectKey, count: 5}}, told[:1])
	sum.add(9, nil, told[:1])
	if got := sum.suspectsOf(3); len(got) != 1 || got[0].Times != 5 {
		t.Errorf("a node has seen it 5 times: %+v", got)
	}
	hs := s.takeHints()
	if len(hs) != 3 || hs[0].times != blocktree.RunSectorsMax {
		t.Errorf("hints: %+v", hs)
	}
	for i := range 2 * hintsMax {
		s.seen(stripe.Suspect{Node: blocktree.NodeID(i), Kind: stripe.SuspectShard}, 1)
	}
	if b := encodeHints(s.takeHints()); len(b) > blocktree.FrameHeaderBytesMax {
		t.Errorf("a message of %d bytes", len(b))
	}
	var l hintLooks
	now, admitted := time.Now(), 0
	for range 10 * hintLooksMax {
		if l.admit(blocktree.Principal{1}, now) {
			admitted++
		}
	}
	if admitted != hintLooksMax || !l.admit(blocktree.Principal{2}, now) || !l.admit(blocktree.Principal{1}, now.Add(hintLooksEvery)) {
		t.Errorf("%d looks of one runtime", admitted)
	}
}

// TestSuspectsAreWeighed: one node that accuses another makes nothing certain, however often it does, nor do any number of clients; more nodes than may lie do. What a
// node says of itself counts for nothing.
func TestSuspectsAreWeighed(t *testing.T) {
	say := func(x blocktree.NodeID, parity int) suspicion {
		return suspicion{suspectKey: suspectKey{x, stripe.SuspectShard}, count: 1000, first: time.Unix(5, 0), last: time.Unix(6, 0), parity: parity}
	}
	told := say(1, 200) // whatever a client says of the file, it can make nothing uncertain either
	for i := range tellersMax {
		told.tellers = append(told.tellers, blocktree.Principal{byte(i)})
	}
	for _, x := range []struct {
		by     []blocktree.NodeID
		parity int
		want   bool
	}{{[]blocktree.NodeID{2}, 1, false}, {[]blocktree.NodeID{1, 2}, 1, false}, {[]blocktree.NodeID{2, 3}, 1, true}, {[]blocktree.NodeID{2, 3}, 2, false},
		{[]blocktree.NodeID{2, 3, 4}, 2, true}, {[]blocktree.NodeID{2}, 0, false}} {
		kept := func(sighting) (keptBy, bool) { return keptBy{[]blocktree.NodeID{1, 2, 3, 4, 9}, x.parity}, true }
		sum := newSuspectSum()
		for _, n := range x.by {
			sum.add(n, []suspicion{say(1, x.parity), say(1, x.parity)}, []suspicion{told}) // twice is once
		}
		sum.weigh(kept)
		got := sum.suspectsOf(1)
		if len(got) != 1 || got[0].Certain != x.want || got[0].Clients != tellersMax || got[0].Times != 1000 {
			t.Errorf("%+v: %+v", x, got)
		}
		sum.add(9, []suspicion{say(1, 255)}, nil) // nor does one node
		sum.weigh(kept)
		if got := sum.suspectsOf(1)[0].Certain; x.want && !got {
			t.Errorf("%+v: one node makes it uncertain", x)
		}
	}
}

// TestMended: a shard is installed again once, who still gives a wrong one lies again, and no more than so many are installed in a second.
func TestMended(t *testing.T) {
	var m mended
	now := time.Now()
	if mend, again := m.may(mendedShard{1, 0}, now); !mend || again {
		t.Error("the first is not mended")
	}
	if mend, again := m.may(mendedShard{1, 0}, now.Add(time.Second)); mend || !again {
		t.Error("it is mended again at once")
	}
	if mend, again := m.may(mendedShard{1, 0}, now.Add(mendEvery)); !mend || again {
		t.Error("it is not mended later")
	}
	mends := 0
	for i := range 1000 {
		if mend, _ := m.may(mendedShard{blocktree.SectorIndex(i + 2), 0}, now.Add(mendEvery)); mend {
			mends++
		}
	}
	if mends != mendsPerSecond-1 {
		t.Errorf("%d in one second", mends)
	}
}

// FuzzSuspects: whatever decodes encodes to the same bytes.
func FuzzSuspects(f *testing.F) {
	s := someSuspects()
	f.Add(encodeSuspects(s.all()))
	f.Add(encodeHints(s.takeHints()))
	f.Fuzz(func(t *testing.T, b []byte) {
		if own, told, err := decodeSuspects(b); err == nil && !bytes.Equal(encodeSuspects(own, told), b) {
			t.Error("suspects")
		}
		if hs, err := decodeHints(b); err == nil {
			if !bytes.Equal(encodeHints(hs), b) {
				t.Error("hints")
			}
			if again, err := decodeHints(encodeHints(hs)); err != nil || !reflect.DeepEqual(hs, again) {
				t.Error("hints again", err)
			}
		}
	})
}
