package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"blocktree"
	"blocktree/internal/bttp"
	"blocktree/route"
)

// inFlight is how many queries a connection of a flood has on their way.
const inFlight = 16

// query asks a seed where the root directory's nodes are.
func (r *runtime) query() route.Query {
	return route.Query{Kind: route.Closest, Scope: blocktree.RootPath(r.base.Root()), Service: blocktree.ServiceSector, Nonce: route.NewNonce()}
}

// flood asks without pause.
func (r *runtime) flood(ctx context.Context, args []string) error {
	seconds, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	connections, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
	defer cancel()
	var answered, refused, lost atomic.Uint64
	var wg sync.WaitGroup
	for range connections {
		e, err := r.endpoint(args[2] == "anonymous")
		if err != nil {
			return err
		}
		defer e.Close()
		conn, err := e.Dial(ctx, r.base.Seeds()[0])
		if err != nil {
			lost.Add(1)
			continue
		}
		for range inFlight {
			wg.Go(func() {
				for ctx.Err() == nil {
					reply, err := conn.CallWait(ctx, codeRoute, nil, r.query().Encode())
					reply.Release()
					switch {
					case err == nil:
						answered.Add(1)
					case blocktree.KindOf(err) == blocktree.Busy:
						refused.Add(1)
					case ctx.Err() == nil:
						lost.Add(1)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	fmt.Printf("answered=%d refused=%d lost=%d\n", answered.Load(), refused.Load(), lost.Load())
	return nil
}

// ask asks fifty times a second, and says how long an answer takes.
func (r *runtime) ask(ctx context.Context, arg string) error {
	seconds, err := strconv.Atoi(arg)
	if err != nil {
		return err
	}
	e, err := r.endpoint(false)
	if err != nil {
		return err
	}
	defer e.Close()
	var conn *bttp.Conn
	if conn, err = e.Dial(ctx, r.base.Seeds()[0]); err != nil {
		return err
	}
	var took []time.Duration
	for range 50 * seconds {
		begun := time.Now()
		reply, err := conn.CallWait(ctx, codeRoute, nil, r.query().Encode())
		if err != nil {
			return err
		}
		reply.Release()
		took = append(took, time.Since(begun))
		time.Sleep(20 * time.Millisecond)
	}
	slices.Sort(took)
	fmt.Printf("median=%d p95=%d\n", took[len(took)/2].Microseconds(), took[len(took)*95/100].Microseconds())
	return nil
}
