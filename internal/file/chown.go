package file

import (
	"context"
	"errors"
	"fmt"

	"blocktree"
	"blocktree/cluster"
)

// Chown gives what is at path another owner and group; nil: the one that it has. An access record names the owner, too, so it gets the next one, which the client signs. No
// reader key is needed for that, as who reads stays the same. Order: 1. the owner in the metadata, so that who was it changes no record any more; 2. the record. Done again
// it goes on where it failed. Kinds: NotFound, Permission (only user id 0 gives something to another user), Invalid, Unavailable.
func (d *Admin) Chown(ctx context.Context, path blocktree.Path, uid, gid *uint32) (cluster.Applied, error) {
	applied, err := d.Client.SetOwner(ctx, path, uid, gid)
	if err != nil || uid == nil {
		return applied, err
	}
	if err := d.handOver(ctx, path, *uid); err != nil {
		return applied, &blocktree.Error{Op: "access record", Path: path.Short(), Err: fmt.Errorf("user %d owns it now, but its access record still names the owner of before: %w", *uid, err),
			Hint: "say chown again, with credentials of user 0: until then user 0 alone changes its key and readers"}
	}
	return applied, nil
}

// handOver has the record of what is at path name an owner.
func (d *Admin) handOver(ctx context.Context, path blocktree.Path, uid uint32) error {
	for range changesMax {
		inode, err := d.Client.Stat(ctx, path)
		if err != nil || len(inode.Access) == 0 {
			return err
		}
		a, err := recordOf(path, inode, d.Pins)
		if err != nil || a.Number == 0 || a.Owner == uid { // what nobody has signed names nobody
			return err
		}
		if me := d.Client.Identity(); me.Anonymous() || me.UID != 0 { // whom Follows believes
			return &blocktree.Error{Kind: blocktree.Permission, Err: fmt.Errorf("only user id 0 gives it to another user, these credentials are of user %d", me.UID)}
		}
		n := a.WithOwner(uid)
		switch err = putRecord(ctx, d.Client, path, inode.ID, n); {
		case blocktree.KindOf(err) == blocktree.StaleView:
			continue
		case err == nil && d.Pins != nil:
			return d.Pins.SetPin(path, n.Pin())
		}
		return err
	}
	return blocktree.E("chown", blocktree.StaleView, errors.New("somebody else changes the record over and over"))
}
