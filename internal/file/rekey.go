package file

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/crypto/keys"
)

// Admin changes who reads files and directories. It needs a reader key that opens them, and credentials that may administer them.
type Admin struct {
	Client *cluster.Client
	Reader *keys.ReaderKey
	Pins   Pins  // nil: none
	Roots  Roots // nil: none
	// Patience bounds each step of RekeyTree: the rekey of one file or directory, a listing. 0: only its context does.
	Patience time.Duration
}

// step is a context for one step.
func (d *Admin) step(ctx context.Context) (context.Context, context.CancelFunc) {
	if d.Patience == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d.Patience)
}

// changesMax is how often a record is changed anew because somebody else changed it meanwhile.
const changesMax = 10

// Described is what an access record says to anybody.
type Described struct {
	Number     uint64 // 0: of the version before, signed by nobody
	Generation uint32
	Older      int              // generations before that sectors may be sealed under
	Readers    []keys.PublicKey // by name
	Inherits   bool             // it is wrapped to the key of a directory above, too
	Directory  keys.PublicKey   // of a directory
	Owner      uint32
}

// Describe reads the access record of an inode, and verifies it; nil if there is none.
func Describe(path blocktree.Path, inode *meta.Inode, pins Pins) (*Described, error) {
	if len(inode.Access) == 0 {
		return nil, nil
	}
	a, err := recordOf(path, inode, pins)
	if err != nil {
		return nil, err
	}
	named := a.Named()
	return &Described{Number: a.Number, Generation: a.Generation, Older: len(a.Older), Readers: named, Inherits: len(named) < len(a.Readers),
		Directory: a.Directory, Owner: a.Owner}, nil
}

// change makes the next record of what is at path by next, until nobody else has changed it meanwhile. It returns the inode as it was, and the record that is there
// now. A nil record of next changes nothing.
func (d *Admin) change(ctx context.Context, path blocktree.Path, next func(i *meta.Inode, a *keys.Access, ring keys.Ring) (*keys.Access, error)) (*meta.Inode, *keys.Access, error) {
	fail := func(err error) (*meta.Inode, *keys.Access, error) {
		return nil, nil, &blocktree.Error{Op: "access record", Path: path.Short(), Err: err}
	}
	for tries := 1; ; tries++ {
		inode, err := d.Client.Stat(ctx, path)
		if err != nil {
			return nil, nil, err
		}
		if len(inode.Access) == 0 {
			return fail(&blocktree.Error{Kind: blocktree.Invalid, Err: errors.New("it has no key"),
				Hint: "a file has one unless it was made with encryption none; a directory that was made with btnode mkdir --readers"})
		}
		a, err := recordOf(path, inode, d.Pins)
		if err != nil {
			return fail(err)
		}
		u := &unlocker{client: d.Client, path: path, reader: d.Reader, pins: d.Pins}
		ring, err := u.unlock(ctx, path, a)
		if err != nil {
			return fail(err)
		}
		n, err := next(inode, a, ring)
		if err != nil {
			return fail(err)
		}
		if n == nil {
			return inode, a, nil
		}
		err = putRecord(ctx, d.Client, path, inode.ID, n)
		switch {
		case blocktree.KindOf(err) == blocktree.StaleView && tries < changesMax:
			continue
		case err != nil:
			return fail(err)
		case d.Pins != nil:
			err = d.Pins.SetPin(path, n.Pin())
		}
		return inode, n, err
	}
}

// putRecord signs a record and has the cluster take it.
func putRecord(ctx context.Context, c *cluster.Client, path blocktree.Path, f blocktree.FileID, a *keys.Access) error {
	if err := completeRecord(ctx, c, path, a); err != nil {
		return err
	}
	return c.SetAccess(ctx, f, a.Append(nil))
}

// completeRecord signs a record, if it is the client's to sign.
func completeRecord(ctx context.Context, c *cluster.Client, path blocktree.Path, a *keys.Access) error {
	key, chain, _ := c.Credentials()
	if len(chain) == 0 || key.IsZero() {
		return &blocktree.Error{Kind: blocktree.Permission, Err: errors.New("who is nobody administers nothing")}
	}
	if a.Path == "" { // the one before was of the first format
		a.Path, a.Owner = path, chain[len(chain)-1].UID
	}
	if uid := chain[len(chain)-1].UID; uid != 0 && uid != a.Owner {
		return &blocktree.Error{Kind: blocktree.Permission, Err: fmt.Errorf("user %d administers it, these credentials are of user %d", a.Owner, uid),
			Hint: "use the configuration of its owner, or of user 0"}
	}
	signRecord(ctx, c, a, path)
	return nil
}

// inherited is to whom the next record of what is at path is wrapped, beside those who are named: the key of the nearest directory above, as it is now.
func (d *Admin) inherited(ctx context.Context, path blocktree.Path) (keys.PublicKey, error) {
	if path == blocktree.RootPath(path.Root()) {
		return keys.PublicKey{}, nil
	}
	p, hidden, err := directoryKey(ctx, d.Client, path.Parent(), d.Pins)
	if hidden != "" {
		return keys.PublicKey{}, err // which is nearer, and may have another one: see unseen
	}
	return p, err
}

// unseen are the keys of directories that a record is wrapped to where the client finds none above: it may not look at that directory.
func unseen(a *keys.Access, above keys.PublicKey) []keys.PublicKey {
	if !above.IsZero() {
		return nil
	}
	named := a.Named()
	return slices.DeleteFunc(a.PublicKeys(), func(p keys.PublicKey) bool { return slices.Contains(named, p) })
}

// withInherited adds it to those who are named.
func withInherited(named []keys.PublicKey, above keys.PublicKey) []keys.PublicKey {
	if above.IsZero() || slices.Contains(named, above) {
		return named
	}
	return append(slices.Clone(named), above)
}

// Grant wraps the key of a file or directory to one more reader: of a directory, everything beneath. It does nothing for one who has it. Rights are another matter. Kinds: NotFound,
// Invalid (it has no key), TooLarge (too many readers), Permission (the reader key does not open it, or the credentials are not of its owner), Unavailable.
func (d *Admin) Grant(ctx context.Context, path blocktree.Path, to keys.PublicKey) error {
	_, _, err := d.change(ctx, path, func(_ *meta.Inode, a *keys.Access, ring keys.Ring) (*keys.Access, error) {
		if slices.Contains(a.Named(), to) {
			return nil, nil
		}
		above, err := d.inherited(ctx, path)
		if err != nil {
			return nil, err
		}
		kept := unseen(a, above)
		readers := withInherited(append(a.Named(), to), above)
		for _, p := range kept {
			readers = withInherited(readers, p)
		}
		n, err := a.WithReaders(ring[a.Generation], readers)
		if err != nil {
			return nil, err
		}
		for _, p := range append(kept, above) {
			n.Inherit(p)
		}
		return n, nil
	})
	return err
}

// Rekeyed says what came of a new key.
type Rekeyed struct {
	Path       blocktree.Path
	ID         blocktree.FileID
	Directory  bool
	Number     uint64 // of the access record
	Generation uint32

	key keys.PublicKey // of a directory
}

// Rekey gives a file a new key, wrapped to those who may read now but for those in without. It returns when whoever has the file open writes under it
// (docs/design/0027); what was written before stays as it is until it is re-sealed. Of a directory only its own key changes: see RekeyTree. Of a file of integrity tree there is a record under the new key by then. Kinds as of Grant, Corrupt (of such a file: it is older than it was), Busy (sectors of too many generations are left), Invalid (nobody would be left who reads it).
func (d *Admin) Rekey(ctx context.Context, path blocktree.Path, without ...keys.PublicKey) (*Rekeyed, error) {
	inode, a, err := d.change(ctx, path, func(i *meta.Inode, a *keys.Access, ring keys.Ring) (*keys.Access, error) {
		above, err := d.inherited(ctx, path)
		if err != nil {
			return nil, err
		}
		if len(unseen(a, above)) > 0 { // it may have another key by now, which the old one's readers do not all have
			return nil, &blocktree.Error{Kind: blocktree.Permission, Err: errors.New("whoever reads the directory above reads it, and these credentials may not look at that"),
				Hint: "use credentials with the right list or read on the directory, as user 0 has"}
		}
		named := slices.DeleteFunc(a.Named(), func(p keys.PublicKey) bool { return slices.Contains(without, p) })
		readers := withInherited(named, above)
		if len(readers) == 0 {
			return nil, &blocktree.Error{Kind: blocktree.Invalid, Err: errors.New("nobody would be left who reads it"), Hint: "grant it to somebody else first"}
		}
		n, _, err := a.Rekey(ring, readers)
		if err == nil {
			n.Inherit(above)
		}
		return n, err
	})
	if err != nil {
		return nil, err
	}
	r := &Rekeyed{Path: path, ID: inode.ID, Directory: inode.Kind == meta.KindDir, Number: a.Number, Generation: a.Generation, key: a.Directory}
	if r.Directory {
		return r, nil
	}
	if inode.Integrity == meta.IntegrityTree {
		if err := d.awaitRecord(ctx, r); err != nil {
			return nil, &blocktree.Error{Op: "rekey", Path: path.Short(), Err: err}
		}
	}
	if err := d.awaitHeard(ctx, r.ID, r.Number); err != nil {
		return nil, &blocktree.Error{Op: "rekey", Path: path.Short(), Err: err}
	}
	return r, nil
}

// heardPause lies between two looks whether a holder has heard.
const heardPause = 100 * time.Millisecond

// awaitHeard returns when nobody holds a file, and no node that matters takes writes of whoever did; or its holder has said that it goes by an access record of a number or
// a later one. Who takes the lease from now on reads that record.
func (d *Admin) awaitHeard(ctx context.Context, f blocktree.FileID, number uint64) error {
	for {
		held, err := d.Client.Holder(ctx, f)
		if err != nil {
			return err
		}
		var done bool
		var unknown []blocktree.Path
		if held == nil {
			done, unknown, err = d.Client.Released(ctx, f)
		} else {
			done, err = d.hasHeard(ctx, f, held, number)
		}
		if blocktree.KindOf(err) == blocktree.NotFound {
			return nil // it was removed
		}
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			if held == nil {
				return &blocktree.Error{Kind: blocktree.Timeout, Err: fmt.Errorf("the new key is there, and nobody has the file open, but of the nodes that keep it not enough say so: %s did not answer", shortPaths(unknown)),
					Hint: "a server that is cut off together with them may go on to write to it under the key before; rekey it again when they are back"}
			}
			return &blocktree.Error{Kind: blocktree.Timeout, Err: fmt.Errorf("the new key is there, and %s, which has the file open, has not said that it writes under it", held.Holder.Short()),
				Hint: "what it writes may be under the key before: stop that server, or bring it to this version"}
		case <-time.After(heardPause):
		}
	}
}

// hasHeard says whether who holds a file goes by a record.
func (d *Admin) hasHeard(ctx context.Context, f blocktree.FileID, held *meta.Lease, number uint64) (bool, error) {
	inode, err := d.Client.StatFile(ctx, f)
	if err != nil {
		return false, err
	}
	return inode.Heard.Epoch >= held.Epoch && inode.Heard.Number >= number, nil
}

func shortPaths(all []blocktree.Path) string {
	short := make([]string, len(all))
	for i, p := range all {
		short[i] = p.Short()
	}
	return strings.Join(short, ", ")
}

// Reads says whether a record names a reader: NotFound, with a hint, if not.
func (d *Admin) Reads(ctx context.Context, path blocktree.Path, who keys.PublicKey) error {
	inode, err := d.Client.Stat(ctx, path)
	if err != nil {
		return err
	}
	described, err := Describe(path, inode, d.Pins)
	if err == nil && (described == nil || !slices.Contains(described.Readers, who)) {
		err = &blocktree.Error{Op: "reader", Path: path.Short(), Kind: blocktree.NotFound, Err: fmt.Errorf("%s does not read it by name", who.Short()),
			Hint: "btnode file stat shows who does; who reads a directory above is taken out there"}
	}
	return err
}

// MakeDir makes a directory; with readers, one with a key pair of a kind: whoever has one of their secret keys, or that of the nearest directory above which has one, reads
// what is made beneath. One that is there gets the key if it has none. Kinds: Exists (it has a key, or no key is asked for), NotFound, those of Grant.
func (d *Admin) MakeDir(ctx context.Context, path blocktree.Path, mode uint32, parents bool, kind keys.KeyKind, readers []keys.PublicKey) error {
	exists := d.Client.MakeDir(ctx, path, mode, parents)
	if len(readers) == 0 || exists != nil && blocktree.KindOf(exists) != blocktree.Exists {
		return exists
	}
	inode, err := d.Client.Stat(ctx, path)
	if err != nil {
		return err
	}
	switch {
	case inode.Kind != meta.KindDir:
		return exists
	case len(inode.Access) > 0:
		return &blocktree.Error{Op: "mkdir", Path: path.Short(), Kind: blocktree.Exists, Err: errors.New("the directory has a key"), Hint: "add readers to it with btnode reader add"}
	}
	var above keys.PublicKey
	if path != blocktree.RootPath(path.Root()) {
		if above, err = newKey(ctx, d.Client, path.Parent(), d.Pins); err != nil {
			return err
		}
	}
	a, _, err := keys.CreateDirectory(kind, withInherited(readers, above))
	if err != nil {
		return err
	}
	a.Inherit(above)
	if err := putRecord(ctx, d.Client, path, inode.ID, a); err != nil {
		return &blocktree.Error{Op: "mkdir", Path: path.Short(), Err: err}
	}
	if d.Pins != nil {
		return d.Pins.SetPin(path, a.Pin())
	}
	return nil
}
