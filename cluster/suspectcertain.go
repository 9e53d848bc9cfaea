package cluster

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
)

const (
	// suspectFilesMax bounds of how many files one accused node has the layout asked for: twice what six honest nodes name, one for each kind of act.
	suspectFilesMax = 64
	// suspectAllFilesMax bounds of how many a status asks in all, whoever is accused.
	suspectAllFilesMax = 256
)

// sighting is where a node says that it has met an act: of the file's layout it is told who could have.
type sighting struct {
	file   blocktree.FileID
	sector blocktree.SectorIndex
}

// keptBy is who keeps the region of a sighting, and how many of those may lie.
type keptBy struct {
	members []blocktree.NodeID // ascending
	parity  int
}

// keptByOf is what one node's word for the layout says of a sighting; false where that makes no sense.
func keptByOf(l *stripe.Layout, at sighting) (k keptBy, ok bool) {
	if l == nil || l.File != at.file || l.Code.Validate() != nil || l.RegionSectors == 0 || uint64(at.sector) >= l.Sectors {
		return k, false
	}
	k.parity = l.Code.Parity
	for _, m := range l.View(l.RegionOf(at.sector)).Members {
		k.members = append(k.members, m.Node)
	}
	slices.Sort(k.members)
	return k, len(slices.Compact(slices.Clone(k.members))) == l.Code.Shards()
}

// agreed is what more than half of so many nodes say of a sighting, each by the layout that it tells.
func agreed(words []*stripe.Layout, nodes int, at sighting) (keptBy, bool) {
	var said []keptBy
	for _, l := range words {
		if k, ok := keptByOf(l, at); ok {
			said = append(said, k)
		}
	}
	for _, k := range said {
		same := 0
		for _, other := range said {
			if k.parity == other.parity && slices.Equal(k.members, other.members) {
				same++
			}
		}
		if same > nodes/2 {
			return k, true
		}
	}
	return keptBy{}, false
}

// named lists the files whose layouts decide anything: those that were named by one of several accusers of the same act. Where there are too many each accused node has its share, of those that most name.
func (t *suspectSum) named() (files []blocktree.FileID) {
	times := map[blocktree.NodeID]map[blocktree.FileID]int{}
	for key, z := range t.of {
		if len(z.nodes) < 2 {
			continue
		}
		if times[key.node] == nil {
			times[key.node] = map[blocktree.FileID]int{}
		}
		for _, at := range z.nodes {
			times[key.node][at.file]++
		}
	}
	type share struct {
		files []blocktree.FileID
		most  int // that name one of them
	}
	shares := make([]share, 0, len(times))
	for _, node := range slices.Sorted(maps.Keys(times)) {
		of := times[node]
		list := slices.Collect(maps.Keys(of))
		slices.SortFunc(list, func(a, b blocktree.FileID) int {
			return cmp.Or(of[b]-of[a], cmp.Compare(a.Generation, b.Generation), cmp.Compare(a.Inode, b.Inode))
		})
		shares = append(shares, share{list[:min(len(list), suspectFilesMax)], of[list[0]]})
	}
	slices.SortStableFunc(shares, func(a, b share) int { return b.most - a.most })
	for turn := range suspectFilesMax {
		for _, s := range shares {
			if turn < len(s.files) && len(files) < suspectAllFilesMax && !slices.Contains(files, s.files[turn]) {
				files = append(files, s.files[turn])
			}
		}
	}
	return files
}

// weigh says of each act whether it is certain (docs/design/0038): more members of one region, the accused among them, have seen it than may lie there. A sighting counts
// where both who saw it and the accused keep what it is of; kept says who does, by the word of the metadata group. Whatever nodes say beside that changes nothing.
func (t *suspectSum) weigh(kept func(sighting) (keptBy, bool)) {
	for key, z := range t.of {
		var seen []blocktree.NodeID // by whom it can be believed
		var regions []keptBy
		for node, at := range z.nodes {
			k, ok := kept(at)
			if ok && slices.Contains(k.members, node) && slices.Contains(k.members, key.node) {
				seen, regions = append(seen, node), append(regions, k)
			}
		}
		z.Certain = slices.ContainsFunc(regions, func(k keptBy) bool {
			members := 0
			for _, node := range seen {
				if slices.Contains(k.members, node) {
					members++
				}
			}
			return members > max(1, k.parity)
		})
	}
}

// weigh has a sum weighed by the layouts that the nodes tell: who is named in a status must not depend on one of them.
func (w *statusWalk) weigh(sum *suspectSum, nodes []blocktree.NodeID) {
	words := map[blocktree.FileID][]*stripe.Layout{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	tokens := make(chan struct{}, statusAsksMax)
	for _, file := range sum.named() {
		for _, node := range nodes {
			tokens <- struct{}{}
			wg.Go(func() {
				defer func() { <-tokens }()
				l, err := w.c.askLayout(w.ctx, node, file)
				if err != nil {
					return // it does not say: then it is not one of more than half
				}
				w.heard()
				mu.Lock()
				defer mu.Unlock()
				words[file] = append(words[file], l)
			})
		}
	}
	wg.Wait()
	sum.weigh(func(at sighting) (keptBy, bool) { return agreed(words[at.file], len(nodes), at) })
}

// askLayout asks one node for the layout of a file, as it is in the metadata group.
func (c *Client) askLayout(ctx context.Context, node blocktree.NodeID, file blocktree.FileID) (*stripe.Layout, error) {
	a, err := c.queryNode(ctx, node, meta.Query{Kind: meta.QueryLayout, File: file})
	return a.Layout, err
}

// queryNode asks one node, once. A refusal is an error.
func (c *Client) queryNode(ctx context.Context, node blocktree.NodeID, q meta.Query) (meta.Answer, error) {
	conn := c.peers.conn(node)
	if conn == nil {
		return meta.Answer{}, blocktree.E("query", blocktree.Unavailable, nil)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	q.Caller = behind(ctx, nil)
	reply, err := conn.CallWait(ctx, codeQuery, nil, meta.EncodeQuery(nil, q))
	if err != nil {
		return meta.Answer{}, err
	}
	defer reply.Release()
	a, err := meta.DecodeAnswer(append([]byte(nil), reply.Body...))
	if err == nil {
		err = a.Err("cluster")
	}
	return a, err
}
