package file

import (
	"context"
	"errors"
	"fmt"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/crypto/keys"
)

// RenameOptions say how something gets another name.
type RenameOptions struct {
	Keep   bool            // what has the name already stays: Exists
	Reader *keys.ReaderKey // opens what is to be wrapped to the key of another directory; nil: nothing
	Pins   Pins            // nil: none
	Roots  Roots           // nil: none
	// Open, unless zero, is a file that is open by the session of the client: if it is what is replaced the session keeps it (docs/design/0066), and Kept is told.
	Open blocktree.FileID
	Kept func(*cluster.Kept)
}

// Rename gives the file or directory at from the name to (docs/design/0044), in the place of what has it: a file in that of a file that nobody holds, a directory in that of an empty one. It happens at once, or not at all. The
// client signs the next access record of all that has one, there and beneath. Kinds: NotFound, Exists (with Keep), Invalid, Busy, CrossDevice (another cluster keeps a part of it), Permission (the client may not, or is not who signs
// those records, or has no key for what is to be wrapped to another directory), TooLarge, Unavailable (then it may have happened).
func Rename(ctx context.Context, c *cluster.Client, from, to blocktree.Path, o RenameOptions) error {
	for tries := 1; ; tries++ {
		m := &mover{client: c, from: from, to: to, RenameOptions: o, left: meta.RenameEntriesMax}
		err := m.rename(ctx)
		again := blocktree.KindOf(err) == blocktree.StaleView || blocktree.KindOf(err) == blocktree.Exists && !o.Keep // somebody else did something there meanwhile
		if again && tries < changesMax {
			continue
		}
		if err != nil {
			return &blocktree.Error{Op: "rename", Path: from.Short(), Err: err}
		}
		return m.remember()
	}
}

// mover makes one try.
type mover struct {
	RenameOptions
	client   *cluster.Client
	from, to blocktree.Path
	left     int               // entries that are looked at yet
	records  []meta.NextRecord // in the order that meta.Rename wants
	pins     []movedPin
	seen     []seenAtPath // of files of integrity tree

	asked    bool // for the keys above
	old, new keys.PublicKey
	unknown  bool // whether old is that
}

type movedPin struct {
	path blocktree.Path
	pin  keys.Pin
}

// seenAtPath is what is kept of a path.
type seenAtPath struct {
	path blocktree.Path
	seen Seen
}

func (m *mover) rename(ctx context.Context) error {
	there, missing := (*meta.Inode)(nil), error(nil)
	asked := make(chan struct{})
	go func() { // beside the other question
		defer close(asked)
		there, missing = m.client.Stat(ctx, m.to)
	}()
	inode, err := m.client.Stat(ctx, m.from)
	<-asked
	if err != nil {
		return err
	}
	op := meta.Rename{From: m.from, To: m.to, File: inode.ID}
	switch err := missing; {
	case err == nil && m.Keep:
		return &blocktree.Error{Path: m.to.Short(), Kind: blocktree.Exists, Hint: "name something that is not there yet"}
	case err == nil:
		op.Over = there.ID
	case blocktree.KindOf(err) != blocktree.NotFound:
		return err
	}
	if m.from != m.to && !m.to.Within(m.from) { // else there is nothing to be done, or it is refused
		if err := m.collect(ctx, m.from, m.to, inode, true); err != nil {
			return err
		}
	}
	op.Records = m.records
	if op.Over == (blocktree.FileID{}) || op.Over != m.Open {
		return m.client.Rename(ctx, op)
	}
	kept, err := m.client.RenameOver(ctx, op)
	if kept != nil {
		m.Kept(kept)
	}
	if blocktree.KindOf(err) == blocktree.Unsupported { // a cluster of a version before
		return m.client.Rename(ctx, op)
	}
	return err
}

// collect makes the records of what is at from, and beneath. outside says that no directory between that and what is moved has a key.
func (m *mover) collect(ctx context.Context, from, to blocktree.Path, inode *meta.Inode, outside bool) error {
	if keys.NumberOf(inode.Access) > 0 {
		if err := m.add(ctx, from, to, inode, outside); err != nil {
			return &blocktree.Error{Op: "access record", Path: from.Short(), Err: err}
		}
		outside = outside && inode.Kind == meta.KindFile
	}
	if inode.Kind != meta.KindDir {
		return nil
	}
	for after, more := "", true; more; {
		var entries []meta.DirEntry
		var err error
		if entries, more, err = m.client.ListAfter(ctx, from, after, blocktree.ListEntriesMax); err != nil {
			return err
		}
		if m.left -= len(entries); m.left < 0 {
			return nil // the cluster says that this is too much
		}
		for i := range entries {
			e := &entries[i]
			after = e.Name
			if e.Inode.Kind == meta.KindFile && e.Inode.KeyID == (keys.KeyID{}) {
				continue // it has no record
			}
			whole, err := m.client.Stat(ctx, from.Join(e.Name))
			if err == nil {
				err = m.collect(ctx, from.Join(e.Name), to.Join(e.Name), whole, outside)
			}
			if err != nil {
				return err
			}
		}
		more = more && len(entries) > 0
	}
	return nil
}

// add makes the next record of one file or directory.
func (m *mover) add(ctx context.Context, from, to blocktree.Path, inode *meta.Inode, outside bool) error {
	a, err := recordOf(from, inode, m.Pins)
	if err != nil {
		return err
	}
	n := a.WithPath(to)
	if outside && m.from.Parent() != m.to.Parent() {
		if n, err = m.rewrapped(ctx, from, a); err != nil {
			return err
		}
		n.Path = to
	}
	if err = completeRecord(ctx, m.client, to, n); err != nil {
		return err
	}
	m.records = append(m.records, meta.NextRecord{File: inode.ID, Access: n.Append(nil)})
	m.pins = append(m.pins, movedPin{to, n.Pin()})
	return m.carry(from, to, inode, a, n)
}

// carry notes what is kept of a file of integrity tree, for its new name, as of its next record: by when that was signed it is later than what had the name before, however old the file is. What is refused to who
// opens it is refused here.
func (m *mover) carry(from, to blocktree.Path, inode *meta.Inode, a, next *keys.Access) error {
	if m.Roots == nil || inode.Kind != meta.KindFile {
		return nil
	}
	o := OpenOptions{Roots: m.Roots}
	seen, err := remembered(from, inode, &o)
	if err != nil || seen == nil {
		return err
	}
	if !seen.isOf(inode.ID, a) {
		return madeAnew(from, seen, inode, a, &o) // nothing is known of what was made anew
	}
	m.seen = append(m.seen, seenAtPath{to, Seen{File: inode.ID, Root: seen.Root, Key: next.KeyID, Owner: next.Owner, Made: next.Made}})
	return nil
}

// rewrapped is the next record, wrapped to those who are named and to the key of the nearest directory above the new place. It takes a reader key only if that is another one.
func (m *mover) rewrapped(ctx context.Context, from blocktree.Path, a *keys.Access) (*keys.Access, error) {
	if !m.asked {
		hidden := blocktree.Path("")
		var err error
		if m.new, err = newKey(ctx, m.client, m.to.Parent(), m.Pins); err == nil {
			m.old, hidden, err = directoryKey(ctx, m.client, m.from.Parent(), m.Pins)
		}
		if err != nil {
			return nil, err
		}
		m.asked, m.unknown = true, hidden != ""
	}
	switch {
	case m.old == m.new && !(m.unknown && a.Inherits()):
		return a.WithPath(a.Path), nil
	case m.new.IsZero() && !a.Inherits():
		return a.WithPath(a.Path), nil
	case m.new.IsZero() && len(a.Named()) > 0:
		return a.Disinherited(), nil
	case m.new.IsZero():
		return nil, &blocktree.Error{Kind: blocktree.Invalid, Err: errors.New("only whoever reads the directory above reads it, and nobody would be left who does"),
			Hint: "make somebody its reader first: btnode reader add"}
	}
	u := &unlocker{client: m.client, path: from, reader: m.Reader, pins: m.Pins}
	ring, err := u.unlock(ctx, from, a)
	if err != nil {
		return nil, &blocktree.Error{Kind: blocktree.Permission, Err: fmt.Errorf("it is to be read by whoever reads the directory that it gets into: %w", err), Hint: "say by which reader key it is opened"}
	}
	n, err := a.WithReaders(ring[a.Generation], withInherited(a.Named(), m.new))
	if err == nil {
		n.Inherit(m.new)
	}
	return n, err
}

// remember keeps what was seen of what has another name now under that.
func (m *mover) remember() error {
	for _, s := range m.seen {
		if err := m.keep(s); err != nil {
			return err
		}
	}
	if m.Pins == nil {
		return nil
	}
	for _, p := range m.pins {
		if err := m.Pins.SetPin(p.path, p.pin); err != nil {
			return err
		}
	}
	return nil
}

// replacer is a Roots that keeps also what is older than what was kept, of another file.
type replacer interface {
	Replace(path blocktree.Path, s Seen) error
}

// keep has a root kept by its new name, in the place of that of whatever had the name, also of what was made later.
func (m *mover) keep(s seenAtPath) error {
	was, err := m.Roots.Load(s.path)
	if r, ok := m.Roots.(replacer); ok && err == nil && was != nil && !was.sameFile(&s.seen) {
		return r.Replace(s.path, s.seen)
	}
	return m.Roots.Save(s.path, s.seen)
}
