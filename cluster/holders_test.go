package cluster

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
)

// judgeBed is a group of one node, and holders that follow it.
func judgeBed(t *testing.T, runtime blocktree.Runtime) (*holders, func(meta.Op) meta.Result) {
	return judgeBedWith(t, runtime, func(meta.Changes) {})
}

// judgeBedWith is judgeBed that also tells somebody else of changes.
func judgeBedWith(t testing.TB, runtime blocktree.Runtime, also func(meta.Changes)) (*holders, func(meta.Op) meta.Result) {
	h := &holders{nodes: newRoster([]blocktree.Runtime{{Principal: runtime.Principal, Node: 1}}), known: map[blocktree.FileID]holder{}}
	g, err := meta.Open(t.Context(), meta.Config{Dir: "meta", FS: vfs.NewMem(), Node: 1, Founders: []blocktree.Runtime{runtime},
		Send: func(blocktree.NodeID, []byte) {}, Clock: stoppedClock{}, Logger: slog.New(slog.DiscardHandler), OnApply: func(c meta.Changes) { h.applied(c); also(c) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	h.group = g
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return h, func(op meta.Op) meta.Result {
		t.Helper()
		for {
			r, err := g.Propose(ctx, meta.Command{ID: meta.NewCommandID(), Op: op})
			if blocktree.KindOf(err) == blocktree.NotLeader && ctx.Err() == nil {
				time.Sleep(10 * time.Millisecond)
				continue
			}
			if err != nil || r.Kind != blocktree.Other {
				t.Fatalf("%T: %v %v", op, err, r.Err("propose"))
			}
			return r
		}
	}
}

// TestJudge: only the lease's holder, under its epoch, and the cluster's own nodes get through to the machine.
func TestJudge(t *testing.T) {
	root, node, holderP, other := blocktree.Principal{'e', 1}, blocktree.Principal{'e', 2}, blocktree.Principal{'e', 3}, blocktree.Principal{'e', 4}
	dir := blocktree.RootPath(root)
	runtime := blocktree.Runtime{Path: dir.Join("node1"), Principal: node, Node: 1, Services: []string{blocktree.ServiceSector}}
	h, do := judgeBed(t, runtime)
	do(meta.Found{Dir: dir, Generation: 1, Runtimes: []blocktree.Runtime{runtime}, Mode: 0o755})
	do(meta.StartNode{Node: 1, Incarnation: blocktree.Incarnation{1}, StartCounter: 1})
	f := do(meta.CreateFile{Path: dir.Join("f"), SizeBytes: 1 << 20, SectorBytes: 4096, Code: blocktree.Code{Data: 1}, Suite: 2}).Inode.ID
	open := func(p blocktree.Principal) meta.SessionID {
		id := meta.NewSessionID()
		do(meta.OpenSession{Session: id, Principal: p, Path: dir.Join("client")})
		return id
	}
	first, second := open(holderP), open(other)
	epoch := do(meta.Acquire{Session: first, File: f}).Layout.Epoch
	check := func(what string, from blocktree.Principal, m stripe.Message, want verdict) {
		t.Helper()
		m.File = f
		if got := h.judge(from, &m); got != want {
			t.Errorf("%s: verdict %d, want %d", what, got, want)
		}
	}
	for kind := stripe.KindPrepare; kind <= stripe.KindForget; kind++ {
		if kind == stripe.KindRead || kind == stripe.KindLearn {
			continue
		}
		check("holder", holderP, stripe.Message{Kind: kind, Epoch: epoch}, admitted)
		check("stranger", other, stripe.Message{Kind: kind, Epoch: epoch}, denial)
		check("node", node, stripe.Message{Kind: kind, Epoch: epoch}, admitted)
		check("epoch to come", other, stripe.Message{Kind: kind, Epoch: epoch + 1}, unknown)
		check("epoch gone by", holderP, stripe.Message{Kind: kind, Epoch: epoch - 1}, outdated)
	}
	read := stripe.Message{Kind: stripe.KindRead, File: f, Epoch: epoch, Watermark: blocktree.Version{Epoch: epoch, Sequence: 9}}
	if h.judge(other, &read) != admitted || !read.Watermark.IsZero() {
		t.Error("a stranger's read moves the watermark")
	}
	read.Watermark = blocktree.Version{Epoch: epoch, Sequence: 9}
	if h.judge(holderP, &read) != admitted || read.Watermark.IsZero() {
		t.Error("the holder's read lost its watermark")
	}
	do(meta.Release{Session: first, File: f, Epoch: epoch})
	check("released", holderP, stripe.Message{Kind: stripe.KindPrepare, Epoch: epoch}, unknown) // and denied after a Sync
	next := do(meta.Acquire{Session: second, File: f}).Layout.Epoch
	check("the old holder", holderP, stripe.Message{Kind: stripe.KindPrepare, Epoch: epoch}, outdated)
	check("the old holder, new epoch", holderP, stripe.Message{Kind: stripe.KindPrepare, Epoch: next}, denial)
	check("the new holder", other, stripe.Message{Kind: stripe.KindPrepare, Epoch: next}, admitted)
	do(meta.CloseSession{Session: second})
	check("session closed", other, stripe.Message{Kind: stripe.KindPrepare, Epoch: next}, unknown)
}

// TestDecodeRequest: only shards and lists of repairs come with a body, and nobody sends an answer as a request.
func TestDecodeRequest(t *testing.T) {
	for kind := stripe.KindPrepare; kind <= stripe.KindInstall; kind++ {
		for _, x := range []struct {
			what string
			m    stripe.Message
			ok   bool
		}{
			{"bare", stripe.Message{Kind: kind}, true},
			{"payload", stripe.Message{Kind: kind, Payload: make([]byte, 100)}, kind.Carries()},
			{"seals", stripe.Message{Kind: kind, Seals: make([]byte, 72)}, kind.Carries()},
			{"answer", stripe.Message{Kind: kind, Answer: true}, false},
		} {
			header, parts := stripe.EncodeMessage(&x.m)
			_, err := decodeRequest(header, bytes.Join(parts, nil))
			if (err == nil) != x.ok || err != nil && blocktree.KindOf(err) != blocktree.Invalid {
				t.Errorf("kind %d, %s: %v", kind, x.what, err)
			}
		}
	}
}
