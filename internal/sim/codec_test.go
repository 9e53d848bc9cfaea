package sim

import (
	"math/rand/v2"
	"testing"

	"blocktree"
	"blocktree/cluster/stripe"
)

// Any k shards give a run back, and shards of two writes give an error.
func TestCodec(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, c := range Configs() {
		for range 200 {
			a, sealsA := encode(c.Code, 7, 10, 3)
			b, sealsB := encode(c.Code, 8, 10, 3)
			pick := r.Perm(c.Code.Shards())[:c.Code.Data]
			var runs []stripe.ShardRun
			for _, x := range pick {
				runs = append(runs, stripe.ShardRun{Shard: blocktree.ShardIndex(x), Payload: a[x], Seals: sealsA})
			}
			values, err := decodeRun(c.Code, 10, 3, runs)
			if err != nil || len(values) != 3 || values[0] != 7 || values[2] != 7 {
				t.Fatalf("%v from %v: %v %v", c.Code, pick, values, err)
			}
			if _, err := decodeRun(c.Code, 11, 3, runs); err == nil {
				t.Fatalf("%v: decoded in another place", c.Code)
			}
			target := blocktree.ShardIndex(r.IntN(c.Code.Shards()))
			p, s, err := codec{code: c.Code}.Rebuild(target, stripe.Piece{First: 10, Count: 3, Kind: stripe.Data, Shards: runs})
			if err != nil || string(p) != string(a[target]) || string(s) != string(sealsA) {
				t.Fatalf("%v: rebuilding %d: %v", c.Code, target, err)
			}
			runs[0] = stripe.ShardRun{Shard: runs[0].Shard, Payload: b[pick[0]], Seals: sealsB}
			if _, err := decodeRun(c.Code, 10, 3, runs); err == nil && c.Code.Data > 1 {
				t.Fatalf("%v: shards of two writes were taken for one", c.Code)
			}
		}
	}
}

func TestQueueIsOrdered(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var q queue
	for range 1000 {
		q.push(event{at: r.Int64N(50)})
	}
	var last event
	for range 1000 {
		e := q.pop()
		if e.at < last.at || e.at == last.at && e.n < last.n {
			t.Fatal("out of order")
		}
		last = e
	}
}
