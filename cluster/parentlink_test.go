package cluster

import (
	"testing"

	"blocktree/cluster/meta"
)

// TestDisowned: a founder whose directory is another cluster's ends while it has only begun; a cluster that serves goes on, whatever a node above says.
func TestDisowned(t *testing.T) {
	own, handed, other := &meta.Delegation{Generation: 2, Founder: 1}, &meta.Delegation{Generation: 2, Founder: 1, HandedOver: true}, &meta.Delegation{Generation: 3, Founder: 9}
	for _, x := range []struct {
		taking         meta.Taking
		d              *meta.Delegation
		disowned, ends bool
	}{
		{meta.TakingEntries, own, false, false},
		{meta.TakingEntries, handed, true, true},
		{meta.TakingEntries, other, true, true},
		{meta.TakingEntries, nil, true, true},
		{meta.TakingAnswers, own, false, false},
		{meta.TakingAnswers, handed, false, false},
		{meta.TakingAnswers, other, true, true},
		{meta.TakingNothing, handed, false, false},
		{meta.TakingNothing, other, true, false},
		{meta.TakingNothing, nil, true, false},
	} {
		disowned, ends := disowns(&meta.Superblock{Child: true, Generation: 2, Taking: x.taking}, x.d)
		if disowned != x.disowned || ends != x.ends {
			t.Errorf("taking %d, told of %+v: disowned %v, ends %v", x.taking, x.d, disowned, ends)
		}
	}
}

// TestHasAll: an address that a node has added to its record stays beside those that the directory above has; what is corrected there wins.
func TestHasAll(t *testing.T) {
	for _, x := range []struct {
		own, wanted []string
		has         bool
	}{
		{[]string{"a"}, []string{"a"}, true},
		{[]string{"a", "seen"}, []string{"a"}, true},
		{[]string{"a", "b", "seen"}, []string{"a", "b"}, true},
		{[]string{"a", "seen"}, []string{"b"}, false},
		{[]string{"a", "seen"}, []string{"a", "b"}, false},
		{[]string{"a"}, []string{"a", "b"}, false},
		{[]string{"b", "a"}, []string{"a"}, false},
	} {
		if hasAll(x.own, x.wanted) != x.has {
			t.Errorf("%v of %v: %v", x.own, x.wanted, !x.has)
		}
	}
}
