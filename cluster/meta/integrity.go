package meta

import (
	"blocktree"
	"blocktree/cluster/stripe"
	"blocktree/crypto/tree"
	"blocktree/internal/wire"
)

// Integrity says how it is known that sectors are the newest.
type Integrity uint8

// The integrities, append-only.
const (
	IntegritySector Integrity = iota // by what the members say
	IntegrityTree                    // by the tree whose newest record Inode.Anchor has (docs/design/0028)
	// IntegrityCompanion is that of a file without a name, which holds the pages of Inode.Companion's tree.
	IntegrityCompanion
)

// String names the integrity as configurations do.
func (i Integrity) String() string {
	if i == IntegritySector {
		return "sector"
	}
	return "tree"
}

// AnchorBytesMax bounds a record as it is kept here, opaque; crypto/tree has the exact length.
const AnchorBytesMax = 1024

// CreateTreeFile makes a file of integrity tree, and its companion of TreeBytes, both of a durability. Refused as CreateFile.
type CreateTreeFile struct {
	CreateFile
	Durability stripe.Durability
	TreeBytes  uint64
}

// Anchor keeps the record with a number as the newest of a file, by compare-and-swap on the number before it. NotFound, Invalid (no tree file, or no
// record), Fenced (the lease is not held by Session under Epoch), StaleView (another number is next).
type Anchor struct {
	Session SessionID
	File    blocktree.FileID
	Epoch   blocktree.Epoch
	Number  uint64
	Record  []byte
}

func (CreateTreeFile) opcode() opcode { return opCreateTreeFile }
func (Anchor) opcode() opcode         { return opAnchor }

// putTreeOp writes one of the commands about files of integrity tree.
func putTreeOp(e *wire.Encoder, op Op) {
	switch o := op.(type) {
	case CreateTreeFile:
		putCreateTreeFile(e, &o)
	case Anchor:
		putAnchor(e, &o)
	case ResizeTree:
		putResize(e, &o.Resize)
	case AskShrinkTree:
		putAskShrink(e, &o.AskShrink)
	}
}

func putCreateTreeFile(e *wire.Encoder, o *CreateTreeFile) {
	putCreateFile(e, &o.CreateFile)
	e.U8(uint8(o.Durability))
	e.U64(o.TreeBytes)
}

func getCreateTreeFile(d *wire.Decoder) CreateTreeFile {
	o := CreateTreeFile{getCreateFile(d), stripe.Durability(d.U8()), d.U64()}
	if o.Durability != stripe.DurabilityAck && o.Durability != stripe.DurabilityFlush {
		bad(d, "unknown durability")
	}
	return o
}

func putAnchor(e *wire.Encoder, o *Anchor) {
	e.Raw(o.Session[:])
	e.File(o.File)
	e.U64(uint64(o.Epoch))
	e.U64(o.Number)
	e.Bytes(o.Record)
}

func getAnchor(d *wire.Decoder) Anchor {
	return Anchor{Session: get16(d), File: d.File(), Epoch: blocktree.Epoch(d.U64()), Number: d.U64(), Record: getBytes(d, AnchorBytesMax)}
}

// kindCheckedFile is added to the kind of an encoded inode whose integrity is another than sector: what is said of that follows the rest.
// Versions before refuse such an inode, and so never serve the file as one without a tree.
const kindCheckedFile = KindFile + 1

func putIntegrity(e *wire.Encoder, i *Inode) {
	e.U8(uint8(i.Integrity))
	e.U64(uint64(i.Companion))
	e.U64(i.AnchorNumber)
	e.Bytes(i.Anchor)
}

func getIntegrity(d *wire.Decoder, i *Inode) {
	i.Integrity, i.Companion, i.AnchorNumber, i.Anchor = Integrity(d.U8()), blocktree.Inode(d.U64()), d.U64(), getBytes(d, AnchorBytesMax)
	if i.Integrity != IntegrityTree && i.Integrity != IntegrityCompanion {
		bad(d, "unknown integrity")
	}
}

// CompanionInode describes the companion of a tree file, as far as one needs it to open it.
func (i *Inode) CompanionInode() *Inode {
	shape := tree.NewShape(i.SizeBytes / uint64(i.SectorBytes))
	return &Inode{ID: blocktree.FileID{Generation: i.ID.Generation, Inode: i.Companion}, Kind: KindFile, Mode: i.Mode, UID: i.UID, GID: i.GID,
		Created: i.Created, Modified: i.Modified, SizeBytes: shape.Bytes(), SectorBytes: tree.PageBytes, Code: i.Code, Suite: i.Suite, KeyID: i.KeyID, Access: i.Access,
		Integrity: IntegrityCompanion, Companion: i.ID.Inode}
}

// createTreeFile makes both files, or neither.
func (s *state) createTreeFile(o CreateTreeFile) Result {
	if _, r := s.walk(o.Path); r.Kind != blocktree.Other { // whose hosts are no matter, where it is another cluster's
		return r
	}
	pages := o.CreateFile
	pages.SizeBytes, pages.SectorBytes = o.TreeBytes, tree.PageBytes
	l, r := s.newLayout(pages, o.Durability)
	if r.Kind != blocktree.Other {
		return r
	}
	if full, ok := s.room(blocktree.PathDepthMax+2, 0); !ok {
		return full
	}
	if r = s.createFile(o.CreateFile, o.Durability); r.Kind != blocktree.Other {
		return r
	}
	s.addCompanion(r.Inode, l, &o)
	return r
}

// addCompanion gives a new file the companion that has layout l.
func (s *state) addCompanion(i *Inode, l *stripe.Layout, o *CreateTreeFile) {
	c := s.newInode(KindFile, i.Mode, i.UID, i.GID, o.Time)
	i.Integrity, i.Companion = IntegrityTree, c.ID.Inode
	c.Integrity, c.Companion = IntegrityCompanion, i.ID.Inode
	c.SizeBytes, c.SectorBytes, c.Code, c.Suite, c.KeyID = o.TreeBytes, tree.PageBytes, o.Code, o.Suite, o.KeyID
	s.setInode(i)
	s.setInode(c)
	s.setFile(c.ID, l)
}

// setFile stores the layout of a new file.
func (s *state) setFile(f blocktree.FileID, l *stripe.Layout) {
	l.File = f
	for _, h := range l.Hosts {
		s.set(kindHosted, hostedRest(h, f.Inode), nil)
	}
	s.setLayout(l)
}

// dropFile forgets the layout of a file.
func (s *state) dropFile(f blocktree.FileID) {
	if l := s.layout(f); l != nil {
		for _, h := range l.Hosts {
			s.del(kindHosted, hostedRest(h, f.Inode))
		}
	}
	s.del(kindLayout, inodeRest(f.Inode))
	s.changes.Removed = append(s.changes.Removed, f)
}

// companion is the file that holds the pages of i's tree, zero if it has none.
func (i *Inode) companion() blocktree.FileID {
	if i.Integrity != IntegrityTree {
		return blocktree.FileID{}
	}
	return blocktree.FileID{Generation: i.ID.Generation, Inode: i.Companion}
}

// refuseCompanion refuses what would give a companion attributes of its own: it is judged as its file, and goes by the keys of that.
func refuseCompanion() Result {
	return refuse(blocktree.Invalid, "it holds the tree of another file, and is judged as that")
}

// dropCompanion removes the companion of a file that is being removed.
func (s *state) dropCompanion(i *Inode) {
	if f := i.companion(); f != (blocktree.FileID{}) {
		s.dropFile(f)
		s.del(kindInode, inodeRest(f.Inode))
		s.counts.inodes -= min(s.counts.inodes, 1)
	}
}

func (s *state) anchor(o Anchor) Result {
	i := s.inode(o.File)
	switch {
	case i == nil:
		return refuse(blocktree.NotFound, "no inode %v", o.File)
	case i.Integrity != IntegrityTree || len(o.Record) == 0:
		return refuse(blocktree.Invalid, "no record, or no file of integrity tree")
	case !s.heldBy(o.File, o.Session, o.Epoch):
		return refuse(blocktree.Fenced, "the lease is not held under epoch %d", o.Epoch)
	case o.Number != i.AnchorNumber+1:
		return refuse(blocktree.StaleView, "record %d, the newest is %d", o.Number, i.AnchorNumber)
	}
	i.AnchorNumber, i.Anchor = o.Number, o.Record
	s.setInode(i)
	return Result{}
}
