package nbd

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/memfile"
)

// noting is a file that notes which writes it is to start, and ends them at once, holds them, or fails them.
type noting struct {
	*memfile.File

	mu     sync.Mutex
	starts [][2]uint64 // first sector, count
	sector int         // its bytes; 0: the default
	fail   error
	alone  bool          // runs are not started
	enter  chan struct{} // not nil: the first StartWrite waits for it
	hold   bool
	held   []func(error)
}

// StartWrite implements blocktree.WriteStarter.
func (f *noting) StartWrite(first blocktree.SectorIndex, src []byte, done func(error)) bool {
	if f.alone && len(src) > blocktree.SectorBytesDefault {
		return false
	}
	f.mu.Lock()
	f.starts = append(f.starts, [2]uint64{uint64(first), uint64(len(src) / f.Info().SectorBytes)})
	wait := f.enter
	f.enter = nil
	if f.hold {
		f.held = append(f.held, done)
		done = nil
	}
	f.mu.Unlock()
	if wait != nil {
		<-wait
	}
	if done != nil {
		done(cmp.Or(f.fail, f.WriteSectors(context.Background(), first, src)))
	}
	return true
}

func (f *noting) noted() [][2]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.starts)
}

// said has a server hear a whole session in one piece, and returns what it answers, what its file was asked to start, and what is on it.
func (f *noting) said(t *testing.T, script []byte) (answers, image []byte) {
	t.Helper()
	f.File = memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 64 << 10, SectorBytes: f.sector}})
	s := &stage{t: t, memory: blockdev.NewMemory(stageMemory)}
	var err error
	if s.dev, err = blockdev.Open(f, blockdev.Options{Memory: s.memory}); err != nil {
		t.Fatal(err)
	}
	var exports blockdev.Exports
	if err := exports.Add(blockdev.Export{Name: "/vm/disk0", Device: s.dev}); err != nil {
		t.Fatal(err)
	}
	s.srv = NewServer(Config{Exports: &exports, Memory: s.memory})
	s.srv.negotiationTimeout = time.Hour
	nc := &scripted{Reader: bytes.NewReader(script)}
	s.serve(nc, nil)
	image = make([]byte, s.dev.Size())
	if err := s.dev.ReadAt(t.Context(), image, 0); err != nil {
		t.Fatal(err)
	}
	s.close()
	return nc.said.Bytes(), image
}

// TestAdjacentWritesAreGathered: writes that are there in full, each where the one before ends, are one write of the device, of at most 16 KiB, and answered each;
// all others go by themselves, and what came in part holds nobody up.
func TestAdjacentWritesAreGathered(t *testing.T) {
	const kib = 1 << 10
	w := func(at, length uint64) question {
		return question{rule: &rules[1], offset: at * kib, length: length * kib}
	}
	fua := w(4, 4)
	fua.flags = 1
	unaligned := w(8, 4)
	unaligned.length -= 96
	for _, x := range []struct {
		name   string
		ask    []question
		cut    int // bytes of the last one that do not come
		starts [][2]uint64
	}{
		{"a run", []question{w(0, 4), w(4, 4), w(8, 4)}, 0, [][2]uint64{{0, 3}}},
		{"a long run", []question{w(0, 4), w(4, 4), w(8, 4), w(12, 4), w(16, 4), w(20, 4)}, 0, [][2]uint64{{0, 4}, {4, 2}}},
		{"of several lengths", []question{w(0, 8), w(8, 4), w(12, 8)}, 0, [][2]uint64{{0, 3}, {3, 2}}},
		{"two runs", []question{w(0, 4), w(4, 4), w(32, 4), w(36, 4)}, 0, [][2]uint64{{0, 2}, {8, 2}}},
		{"backwards", []question{w(8, 4), w(4, 4), w(0, 4)}, 0, [][2]uint64{{2, 1}, {1, 1}, {0, 1}}},
		{"over each other", []question{w(0, 8), w(4, 4), w(8, 4)}, 0, [][2]uint64{{0, 2}, {1, 2}}},
		{"the same", []question{w(0, 4), w(0, 4)}, 0, [][2]uint64{{0, 1}, {0, 1}}},
		{"a read between", []question{w(0, 4), {rule: &rules[0], offset: 4 * kib, length: 4 * kib}, w(4, 4)}, 0, [][2]uint64{{0, 1}, {1, 1}}},
		{"FUA", []question{w(0, 4), fua}, 0, [][2]uint64{{0, 1}}},
		{"an unaligned one", []question{w(0, 4), w(4, 4), unaligned}, 0, [][2]uint64{{0, 2}}},
		{"past the end", []question{w(56, 4), w(60, 4), w(64, 4), w(0, 4)}, 0, [][2]uint64{{14, 2}, {0, 1}}},
		{"without its last byte", []question{w(0, 4), w(4, 4), w(8, 4)}, 1, [][2]uint64{{0, 2}}},
		{"without its payload", []question{w(0, 4), w(4, 4)}, 4 * kib, [][2]uint64{{0, 1}}},
		{"without half of its header", []question{w(0, 4), w(4, 4)}, 4*kib + 14, [][2]uint64{{0, 1}}},
	} {
		for _, s := range styles {
			t.Run(fmt.Sprintf("%s/%v", x.name, s), func(t *testing.T) { gathers(t, s, x.ask, x.cut, x.starts) })
		}
	}
}

func gathers(t *testing.T, s style, ask []question, cut int, starts [][2]uint64) {
	say, options := sessionOf(s)
	for i := range ask {
		q := &ask[i]
		q.handle = uint64(i+1) * 0x0101010101010101
		if q.flags &^= payloadLen; s == extended && q.command == 1 {
			q.flags |= payloadLen
		}
		say = append(say, q.wire(s)...)
	}
	f := new(noting)
	said, image := f.said(t, say[:len(say)-cut])
	c := greetedBy(t, bytes.NewReader(said), s)
	for _, id := range options {
		if got := c.replies(id); got.last() != ack {
			t.Fatalf("option %d: %v", id, got)
		}
	}
	a := &asker{client: c, model: make([]byte, len(image))}
	if cut > 0 {
		ask = ask[:len(ask)-1]
	}
	if !slices.ContainsFunc(ask, func(q question) bool { return q.command == 0 }) { // a READ is a goroutine's: its answer may come at any moment
		for _, q := range ask {
			a.judge(q)
		}
		if rest := c.br.Buffered(); rest > 0 || !bytes.Equal(image, a.model) {
			t.Errorf("%d bytes too many are said; what is on the device is right: %t", rest, bytes.Equal(image, a.model))
		}
	}
	if got := f.noted(); !slices.Equal(got, starts) {
		t.Errorf("started were %v, want %v", got, starts)
	}
}

// sessionOf is what a client says before its first request.
func sessionOf(s style) (say []byte, options []uint32) {
	say = []byte{0, 0, 0, 3}
	if s != compact {
		options = append(options, map[style]uint32{structured: optStructuredReply, extended: optExtendedHeaders}[s])
	}
	options = append(options, optGo)
	for _, id := range options {
		say = appendOption(say, id, map[uint32][]byte{optGo: infoRequest{name: "/vm/disk0"}.encode()}[id])
	}
	return say, options
}

// TestGatheredFail: the error of a run is that of each of its writes.
func TestGatheredFail(t *testing.T) {
	say, options := sessionOf(structured)
	for i := range uint64(3) {
		say = append(say, question{rule: &rules[1], offset: i << 12, length: 4096, handle: i}.wire(structured)...)
	}
	f := &noting{fail: blocktree.E("test", blocktree.NoSpace, nil)}
	said, _ := f.said(t, say)
	c := greetedBy(t, bytes.NewReader(said), structured)
	for _, id := range options {
		c.replies(id)
	}
	for i := range uint64(3) {
		if got := c.answer(i, 1, 0, i<<12, 4096); got.errno != nbdENOSPC {
			t.Errorf("write %d: error %d", i, got.errno)
		}
	}
	if got := f.noted(); len(got) != 1 {
		t.Errorf("started were %v", got)
	}
}

// TestGatheredInVain: where a file does not start a run, each of its writes goes by itself, and none has more than its own slot.
func TestGatheredInVain(t *testing.T) {
	say, options := sessionOf(compact)
	const writes = 40
	for i := range uint64(writes) {
		say = append(say, question{rule: &rules[1], offset: i % 15 << 12, length: 4096, handle: i}.wire(compact)...)
	}
	f := &noting{alone: true}
	said, _ := f.said(t, say)
	c := greetedBy(t, bytes.NewReader(said), compact)
	for _, id := range options {
		c.replies(id)
	}
	for i := range uint64(writes) {
		c.wantReply(i, 0)
	}
	if got := f.noted(); len(got) != writes || got[1] != [2]uint64{1, 1} {
		t.Errorf("started were %v", got)
	}
}

// TestGatheredOfSmallSectors: a run has no more sectors than a device starts at a time. Else it would be gathered in vain, again for each of its writes.
func TestGatheredOfSmallSectors(t *testing.T) {
	say, options := sessionOf(compact)
	const writes = 12
	for i := range uint64(writes) {
		say = append(say, question{rule: &rules[1], offset: i << 10, length: 1 << 10, handle: i}.wire(compact)...)
	}
	f := &noting{sector: 512}
	said, _ := f.said(t, say)
	c := greetedBy(t, bytes.NewReader(said), compact)
	for _, id := range options {
		c.replies(id)
	}
	for i := range uint64(writes) {
		c.wantReply(i, 0)
	}
	if got, want := f.noted(), [][2]uint64{{0, 8}, {8, 8}, {16, 8}}; !slices.Equal(got, want) {
		t.Errorf("started were %v, want %v", got, want)
	}
}

// heldRun is a connection with one write by itself and a run of three, all held by the file.
func heldRun(t *testing.T) (*bed, *noting, *client) {
	f := &noting{enter: make(chan struct{}), hold: true}
	enter := f.enter
	b := newBed(t, setup{over: func(m *memfile.File) blocktree.File { f.File = m; return f }})
	c := b.attach()
	payload := bytes.Repeat([]byte{7}, 4096)
	c.send(c.request(cmdWrite, 0, 0, 64<<10, 4096, payload))
	until(t, "the reader is held up", func() bool { return len(f.noted()) == 1 })
	for i := range uint64(3) {
		c.send(c.request(cmdWrite, 0, i+1, i<<12, 4096, payload))
	}
	close(enter)
	until(t, "all are started", func() bool { return len(f.noted()) == 2 })
	if got := f.noted()[1]; got != [2]uint64{0, 3} {
		t.Fatalf("started were %v", f.noted())
	}
	return b, f, c
}

func (f *noting) endAll() {
	f.mu.Lock()
	held := f.held
	f.held = nil
	f.mu.Unlock()
	for _, done := range held {
		done(nil)
	}
}

// TestGatheredIsAnsweredOnce: no write of a run is answered before the run has ended, and each once.
func TestGatheredIsAnsweredOnce(t *testing.T) {
	b, f, c := heldRun(t)
	if _, open := b.onlyConn().out.look(); open != 4 {
		t.Errorf("%d requests are open", open)
	}
	f.endAll()
	for i := range uint64(4) {
		c.wantReply(i, 0)
	}
	f.mu.Lock()
	f.hold = false
	f.mu.Unlock()
	c.inSync()
}

// TestGatheredIsGivenUp: a client that leaves while a run is on its way gives back all of its slots, and the run's end comes to nobody.
func TestGatheredIsGivenUp(t *testing.T) {
	b, f, c := heldRun(t)
	conn := b.onlyConn()
	conn.cut()
	until(t, "nothing is open", func() bool { _, open := conn.out.look(); return open == 0 })
	c.nc.Close()
	f.endAll()
}

// TestGatheredSameBytes: bursts of adjacent writes, some of them with FUA, some not whole sectors, some with a gap before, cut into pieces anywhere, over several connections of every style:
// each is answered once, and what is read afterwards is what was written.
func TestGatheredSameBytes(t *testing.T) {
	const clients, area = 3, 128 << 10
	var turn atomic.Uint32
	hook := func(context.Context, memfile.Call) error {
		if turn.Add(1)%3 == 0 {
			runtime.Gosched()
		}
		return nil
	}
	b := newBed(t, setup{file: memfile.Options{Hook: hook}, cacheBytes: 1 << 20, memory: 256 << 10})
	var wg sync.WaitGroup
	var writes atomic.Int64
	for i := range clients {
		c := b.attachAs(styles[i])
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 71))
			base, model, next := uint64(i*area), make([]byte, area), uint64(0)
			for range 60 {
				at := uint64(r.IntN(area/4096)) * 4096
				var burst []byte
				open := make(map[uint64]flight)
				for range 1 + r.IntN(20) {
					f := flight{command: cmdWrite, off: int(at), length: 4096 * (1 + r.IntN(3))}
					switch r.IntN(12) {
					case 0:
						f.flags = cmdFlagFUA
					case 1:
						f.length -= 1 + r.IntN(4095)
					case 2:
						f.off += 4096
					}
					if f.off+f.length > area {
						break
					}
					at = uint64(f.off + f.length)
					part := model[f.off : f.off+f.length]
					value := r.Uint32()
					for k := range part {
						part[k] = byte(value + uint32(k)/7)
					}
					next++
					open[next] = f
					burst = append(burst, c.request(cmdWrite, f.flags, next, base+uint64(f.off), uint64(f.length), part)...)
				}
				writes.Add(int64(len(open)))
				cut := r.IntN(len(burst) + 1)
				c.send(burst[:cut])
				c.send(burst[cut:])
				p := &pipeliner{client: c, base: base, model: model, flying: open}
				for len(open) > 0 {
					if err := p.land(); err != nil {
						t.Errorf("connection %d: %v", i, err)
						return
					}
				}
			}
			if a := c.exchange(cmdRead, 0, base, area, nil); a.errno != 0 || !bytes.Equal(a.data, model) {
				t.Errorf("connection %d: other bytes than the model's, error %d", i, a.errno)
			}
		})
	}
	wg.Wait()
	if n := b.file.Calls(memfile.Write); n >= writes.Load() {
		t.Errorf("%d writes were %d of the file: none were gathered", writes.Load(), n)
	}
}

// TestRunGivenUpWhileItStarts cuts a connection off just as it starts a run: its writes are answered to nobody, once, and their slots and memory come back.
func TestRunGivenUpWhileItStarts(t *testing.T) {
	memory := blockdev.NewMemory(1 << 20)
	dev, err := blockdev.Open(memfile.New(memfile.Options{Info: blocktree.FileInfo{SizeBytes: 1 << 20}, Starts: true}), blockdev.Options{Memory: memory})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	s := NewServer(Config{Exports: new(blockdev.Exports), Memory: memory})
	payload := make([]byte, 4096)
	said := bytes.Clone(payload)
	for i := range uint64(3) {
		said = append(append(said, header(cmdWrite, 0, i, (i+1)<<12, 4096)...), payload...)
	}
	for range 500 {
		ours, theirs := net.Pipe()
		c := newConn(s, ours)
		c.dev = dev
		c.br.Reset(bytes.NewReader(said))
		if _, err := c.br.Peek(len(said)); err != nil {
			t.Fatal(err)
		}
		c.out.begin()
		r := c.request(command{kind: cmdWrite, length: 4096, payload: 4096})
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			theirs.Close()
			c.cut()
		}()
		if !c.writeInPlace(r) {
			r.finish(nbdEIO, errGivenUp)
			c.out.put(r)
		}
		<-gone
		c.out.drain()
		c.workers.Wait()
		counts, open := c.out.look()
		answered := uint64(0)
		for _, n := range counts.Requests[CommandWrite] {
			answered += n
		}
		if left := c.br.Buffered(); open != 0 || answered != 4 && answered != 1 || answered == 4 && left > 0 {
			t.Fatalf("%d are open, %d were answered, and %d bytes are left", open, answered, left)
		}
	}
	if free := memory.FreeBytes(); free != 1<<20 {
		t.Errorf("%d bytes are missing", 1<<20-free)
	}
}
