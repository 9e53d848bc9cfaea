package file

import (
	"context"
	"errors"
	"fmt"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/crypto/cred"
	"blocktree/crypto/keys"
)

// Pins remember the newest access record of each path that was gone by, so that an older one, or that of another file, is refused. All methods may be called by
// many goroutines at once.
type Pins interface {
	// Pin returns what was seen of a path, and whether anything was.
	Pin(path blocktree.Path) (keys.Pin, bool, error)
	// SetPin returns when what was seen is durable. A later record of the same key id, seen by somebody else meanwhile, stays.
	SetPin(path blocktree.Path, seen keys.Pin) error
	// Where says where what was seen of a path is kept, for a hint.
	Where(path blocktree.Path) string
}

// FilePins are Pins of files and directories, where a path is of one now and of another later: what is removed and made anew is not refused. What they remember of a path alone is nothing.
type FilePins interface {
	Pins
	// Of is the pin of one of them.
	Of(id blocktree.FileID) Pins
}

// verifier checks signatures of the domain that a path lies in: a path begins with its root principal.
func verifier(path blocktree.Path) keys.Verifier {
	return func(credentials, message, signature []byte, made time.Time) (keys.Signer, error) {
		id, err := cred.VerifySigned(credentials, path.Root(), message, signature, made)
		return keys.Signer{UID: id.UID, Anonymous: err != nil || id.Anonymous()}, err
	}
}

// signRecord completes a record in the client's name. Who makes the first is its owner: of what user 0, as a filesystem service, makes on somebody's behalf that is somebody.
func signRecord(ctx context.Context, c *cluster.Client, a *keys.Access, path blocktree.Path) {
	key, chain, _ := c.Credentials()
	if a.Number == 1 {
		a.Path = path
		if n := len(chain); n > 0 {
			a.Owner = chain[n-1].UID
		}
		if uid, ok := cluster.BehalfUID(ctx); ok && a.Owner == 0 {
			a.Owner = uid
		}
	}
	a.Sign(time.Now(), chain.Encode(), key.Sign)
}

// recordOf decodes the access record of what is at path, and refuses one that is not signed by who may, not of that path, or not one that may
// follow the one that was seen. A record of the version before is signed by nobody, and is taken where no later one was seen.
func recordOf(path blocktree.Path, inode *meta.Inode, pins Pins) (*keys.Access, error) {
	a, err := keys.DecodeAccess(inode.Access)
	if err != nil {
		return nil, err
	}
	if a.Suite != inode.Suite || a.Directory.IsZero() != (inode.Kind == meta.KindFile) {
		return nil, blocktree.E("access record", blocktree.Corrupt, errors.New("it is of something else"))
	}
	signer := keys.Signer{Anonymous: true}
	if a.Number > 0 {
		if signer, err = a.Verify(path, verifier(path)); err != nil {
			return nil, err
		}
	}
	if pins == nil {
		return a, nil
	}
	if files, ok := pins.(FilePins); ok {
		pins = files.Of(inode.ID)
	}
	seen, ok, err := pins.Pin(path)
	if err != nil {
		return nil, err
	}
	if ok {
		if err := a.Follows(seen, signer); err != nil {
			return nil, &blocktree.Error{Op: "access record", Path: path.Short(), Err: err,
				Hint: fmt.Sprintf("if that is meant, as of a file that was removed and made anew, remove %s; else the cluster's nodes are not to be believed", pins.Where(path))}
		}
	}
	if now := a.Pin(); !ok || now != seen {
		if err := pins.SetPin(path, now); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// recordRights are those of which one is enough to be told a directory's record.
const recordRights = meta.RightRead | meta.RightWrite | meta.RightAdmin | meta.RightList

// above calls do with each directory at path or above that has a record, the nearest first, until it returns false; with no record for one that this client may not look at, which
// may have one. Directories that are not there have none.
func above(ctx context.Context, c *cluster.Client, path blocktree.Path, pins Pins, do func(blocktree.Path, *keys.Access) (bool, error)) error {
	for root := blocktree.RootPath(path.Root()); path.Within(root); path = path.Parent() {
		inode, may, err := c.Allowed(ctx, path)
		var a *keys.Access
		tell := false
		switch {
		case blocktree.KindOf(err) == blocktree.Permission:
			tell, err = true, nil
		case blocktree.KindOf(err) == blocktree.NotFound, blocktree.KindOf(err) == blocktree.Invalid: // Invalid: the cluster's directory lies beneath
			err = nil
		case err == nil && inode.Kind == meta.KindDir && len(inode.Access) > 0:
			a, err = recordOf(path, inode, pins)
			tell = true
		case err == nil && inode.Kind == meta.KindDir:
			tell = may.Rights&recordRights == 0 // it may be told that the directory is there, but of no record
		}
		more := true
		if err == nil && tell {
			more, err = do(path, a)
		}
		if err != nil || !more || path == root {
			return err
		}
	}
	return nil
}

// directoryKey is the public key of the nearest directory, at path or above, that has one; the zero key if none has. hidden, unless empty, is a directory nearer than that one which this client may not look
// at: if it has a key, that is the one.
func directoryKey(ctx context.Context, c *cluster.Client, path blocktree.Path, pins Pins) (p keys.PublicKey, hidden blocktree.Path, err error) {
	if at, err := c.Unkeyed(ctx, path); err == nil && at == "" { // else it is looked for from there on, or from here
		return p, "", nil
	} else if err == nil {
		path = at
	}
	err = above(ctx, c, path, pins, func(at blocktree.Path, a *keys.Access) (bool, error) {
		if a == nil {
			if hidden == "" {
				hidden = at
			}
			return true, nil
		}
		p = a.Directory
		return false, nil
	})
	return p, hidden, err
}

// newKey is directoryKey for something new, which is wrapped to the right one or not made: the readers of the nearer directory would not read what is wrapped to the key of one farther
// up. Where none that this client may look at has a key it is wrapped to none.
func newKey(ctx context.Context, c *cluster.Client, path blocktree.Path, pins Pins) (keys.PublicKey, error) {
	p, hidden, err := directoryKey(ctx, c, path, pins)
	if err == nil && hidden != "" && !p.IsZero() {
		return p, &blocktree.Error{Op: "create", Path: path.Short(), Kind: blocktree.Permission,
			Err:  fmt.Errorf("whoever reads %s is to read it, and these credentials may not look whether that has a key", hidden.Short()),
			Hint: "use credentials with the right list or read on " + hidden.Short() + ", as user 0 has"}
	}
	return p, err
}
