package fs

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"blocktree"
	"blocktree/cluster"
)

// A3 of 0057: a removal that is named has a code of its own: what does not know it refuses, where it would pass over a field. Nobody in particular may ask for it.
func TestRemoveFileIsACode(t *testing.T) {
	if forAnybody(codeRemoveFile) || !known(codeRemoveFile) || ofHandle(codeRemoveFile) || nameOf(codeRemoveFile) != "remove" || codeRemoveFile == codeRemove {
		t.Error("the code is not what it is said to be")
	}
	r := pathRequest{path: testRoot.Join("a"), file: blocktree.FileID{Inode: 1}}
	if got, err := decodePath(encodeRemove(&r)); err == nil {
		t.Errorf("it is a request of a version before: %+v", got)
	}
	if known(cluster.CodesOfOthers - 1) {
		t.Error("another's code is known")
	}
}

// Who made a file is told which it is.
func TestMakeSaysWhich(t *testing.T) {
	b := newBed(t, nil)
	ann, _ := b.dial("ann")
	made, err := ann.Make(t.Context(), testRoot.Join("x"), CreateOptions{SizeBytes: fakeMakes})
	if err != nil || made.Inode != fakeMakes {
		t.Errorf("%v, %v", made, err)
	}
	err = ann.RemoveFile(t.Context(), testRoot.Join("x"), made)
	if err == nil || !strings.Contains(err.Error(), "remove 1024 of /x as /ann") {
		t.Errorf("another one is removed: %v", err)
	}
	wantKind(t, "no file", ann.RemoveFile(t.Context(), testRoot.Join("x"), blocktree.FileID{}), blocktree.Invalid)
}

// remover answers one removal after the other.
type remover struct {
	answers []error
	asked   []blocktree.FileID
}

func (r *remover) RemoveFile(ctx context.Context, _ blocktree.Path, id blocktree.FileID) error {
	r.asked = append(r.asked, id)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return r.answers[min(len(r.asked), len(r.answers))-1]
}

// A2 of 0057: what is removed is what was made, as soon as it can be, also after the caller has gone; what is not there any more is undone; what stays is told.
func TestUndoByIdentity(t *testing.T) {
	reason := blocktree.E("it", blocktree.NoSpace, nil)
	gone := &blocktree.Error{Kind: blocktree.NotFound}
	for name, c := range map[string]struct {
		answers []error
		made    blocktree.FileID
		asked   int // times, at least
		told    bool
	}{
		"removed":                      {[]error{nil}, blocktree.FileID{Inode: 3}, 1, false},
		"another has the name":         {[]error{gone}, blocktree.FileID{Inode: 3}, 1, false},
		"held for a moment":            {[]error{&blocktree.Error{Kind: blocktree.Busy}, &blocktree.Error{Kind: blocktree.Busy}, nil}, blocktree.FileID{Inode: 3}, 3, false},
		"held":                         {[]error{&blocktree.Error{Kind: blocktree.Busy}}, blocktree.FileID{Inode: 3}, 100, true},
		"a service of before":          {[]error{&blocktree.Error{Kind: blocktree.Unsupported}}, blocktree.FileID{Inode: 3}, 1, true},
		"nobody knows what it was":     {nil, blocktree.FileID{}, 0, true},
		"no service is found any more": {[]error{&blocktree.Error{Kind: blocktree.NotFound, Err: errNoService}}, blocktree.FileID{Inode: 3}, 1, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			r := &remover{answers: c.answers}
			err := Undone(ctx, r, testRoot.Join("f"), c.made, reason)
			if !errors.Is(err, reason) || blocktree.KindOf(err) != blocktree.NoSpace || len(r.asked) < c.asked || c.asked <= 1 && len(r.asked) != c.asked {
				t.Errorf("%s: %v, asked %d times", name, err, len(r.asked))
			}
			if told := strings.Contains(err.Error(), "could not be removed"); told != c.told || told && blocktree.HintOf(err) == "" {
				t.Errorf("%s: %v, hint %q", name, err, blocktree.HintOf(err))
			}
			for _, id := range r.asked {
				if id != c.made {
					t.Errorf("%s: %v is removed", name, id)
				}
			}
		})
	}
	if err := Undone(t.Context(), nil, testRoot, blocktree.FileID{}, nil); err != nil {
		t.Error(err)
	}
}
