package fastrung

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"blocktree"
	"blocktree/internal/bttp"
	"blocktree/internal/file"
	"blocktree/internal/simnet"
)

const (
	// seedsDefault is how many random walks there are unless SEEDS says otherwise; walkSteps is how long each is.
	seedsDefault = 3
	walkSteps    = 20
)

// TestRandomWalk does random things to the links and to the nodes, under load, heals, and compares everything with the mirror: by
// the holder, by a second one that takes over, and without each node in turn.
func TestRandomWalk(t *testing.T) {
	first, count := uint64(1), uint64(seedsDefault)
	if s := os.Getenv("SEED"); s != "" {
		first, count = number(t, s), 1
	} else if s := os.Getenv("SEEDS"); s != "" {
		count = number(t, s)
	}
	for seed := first; seed < first+count; seed++ {
		transport := []bttp.Transport{bttp.QUIC, bttp.TCP}[seed%2]
		t.Run(fmt.Sprintf("seed=%d/%s", seed, transport), func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("to see it again (the order of goroutines is not the seed's): SEED=%d go test ./internal/fastrung -run TestRandomWalk -v", seed)
				}
			})
			within(t, transport, seed, func(b *bed) { (&walk{bed: b, rng: rand.New(rand.NewPCG(seed, 1))}).run() })
		})
	}
}

func number(t *testing.T, s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		t.Fatalf("SEED and SEEDS are numbers: %v", err)
	}
	return n
}

// walk is one random walk.
type walk struct {
	*bed
	rng     *rand.Rand
	load    *load
	away    int // the node that is stopped, or -1
	takings int
	reader  blocktree.File // without a lease
}

func (w *walk) run() {
	w.away = -1
	reading := w.Client()
	var err error
	w.reader, err = file.Open(w.T.Context(), reading, w.Path("/vm/disk0"), file.OpenOptions{Reader: w.Reader, ReadOnly: true})
	if err != nil {
		w.T.Fatal(err)
	}
	w.T.Cleanup(func() { _ = w.reader.Close() })
	w.load = w.write(w.file, 8)
	w.readAlong()
	for range walkSteps {
		w.step()
		time.Sleep(time.Duration(w.rng.IntN(10_000)) * time.Millisecond)
		if len(w.load.failed()) == len(w.load.acked) { // fenced, or without members for too long
			w.takeOver()
		}
	}
	w.heal()
	w.Healthy(w.client)
	for _, err := range w.load.finish() {
		w.T.Logf("a write failed: %v", err)
	}
	w.T.Logf("%v: %d writes, the slowest took %v, %d reads, %d take-overs, %+v", w.Elapsed(), w.load.total(), w.load.slowest, w.load.reads, w.takings, stats(w.file))
	if w.load.total() < 1000 || w.load.reads < 1000 {
		w.T.Error("next to nothing was done")
	}
	w.takeOver()
	w.load.finishWell()
	w.load.check(w.file, "by the last holder")
	w.load.checkWithout(w.file)
}

// step does one thing.
func (w *walk) step() {
	node := w.rng.IntN(3)
	hosts := w.Everybody()
	from, to := hosts[w.rng.IntN(len(hosts))], hosts[w.rng.IntN(len(hosts))]
	what := w.rng.IntN(9)
	switch what {
	case 0:
		w.Off(w.NodeAddr(node))
	case 1:
		w.Net.Set(from, to, simnet.Link{Cut: true})
	case 2:
		w.Net.Set(from, to, simnet.Link{Loss: 0.3})
		w.Net.Set(to, from, simnet.Link{Loss: 0.3})
	case 3:
		w.SetAll(from, simnet.Link{Delay: time.Duration(w.rng.IntN(400)) * time.Millisecond})
	case 4:
		w.Off(w.ClientAddr(w.clientNow()))
	case 5, 6:
		if w.away < 0 {
			w.away = node
			if what == 5 {
				w.PowerLoss(w.rng.Uint64(), node)
			} else {
				w.Stop(node)
			}
		}
	default:
		w.heal()
	}
	w.T.Logf("%v: did %d to node %d, or to %v and %v", w.Elapsed(), what, node, from, to)
}

// readAlong reads by the holder and without a lease.
func (w *walk) readAlong() {
	w.load.readAlong(w.file, "the holder")
	w.load.readAlong(w.reader, "a reader without a lease")
}

// clientNow is the client that holds the file.
func (w *walk) clientNow() int {
	if w.takings == 0 {
		return 0
	}
	return len(w.Everybody()) - 3 - 1
}

// heal makes all links good and starts who is stopped.
func (w *walk) heal() {
	for _, host := range w.Everybody() {
		w.On(host)
	}
	if w.away >= 0 {
		w.Start(w.away)
		w.away = -1
	}
}

// takeOver gives the file to another client, and the load with it.
func (w *walk) takeOver() {
	w.heal()
	w.load.finish()
	_ = w.file.Close() // it may have lost the file
	w.takings++
	w.client = w.Client()
	w.file = w.open(w.client)
	w.load.check(w.file, "after a take-over")
	w.load.errs = nil
	w.load.forget()
	w.load.start(w.file)
	w.readAlong()
}
