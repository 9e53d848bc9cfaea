package meta

import (
	"blocktree"
	"blocktree/cluster/stripe"
)

// QueryKind says what a Query asks.
type QueryKind uint8

// The query kinds, append-only.
const (
	QueryStat       QueryKind = iota + 1 // Path
	QueryStatID                          // File
	QueryList                            // Path, After, Limit
	QueryLayout                          // File
	QueryLease                           // File
	QueryRuntimes                        //
	QueryStatus                          // no ReadIndex: what the asked member knows
	QueryStarts                          //
	QueryDraining                        //
	QueryAllowed                         // Path, or File where there is none
	QueryRevoked                         // After: how many to pass over; Limit
	QueryBelow                           // Path: a directory that is, or may get, delegated
	QueryAbove                           // Path: a delegated directory
	QueryGeneration                      // File.Generation
	QueryTake                            // Path, After, Limit: entries of a directory that is handed over, for who takes it
	QueryMoves                           //
	QueryChildren                        // Path: a directory, beneath which there are directories with clusters of their own
	QueryKnown                           //
	QueryShrink                          // File
	QueryXattrs                          // Path, or File where there is none; After: the name of one, else all
	QueryUnkeyed                         // Path: where to look for the access record of the nearest directory at or above that has one, for who makes something there
	QueryFiles                           // Path, After, Limit, Serving, Tell: how the files of a directory are
	QueryToRead                          // File, for who is to read it: what Allowed says of it, and its layout

	queryEnd // keep last
)

// Query is a question to a group that can cross the network. Which fields matter depends on Kind.
type Query struct {
	Kind  QueryKind
	Path  blocktree.Path
	File  blocktree.FileID
	After string // List, Files: entries after this name
	Limit int    // List, Files: at most this many, and at most ListEntriesMax; 0 means that
	// Serving are the nodes that count as reachable, and Tell says which files are told (Files).
	Serving []blocktree.NodeID
	Tell    Tell
	Want    Rights // Allowed, ToRead: refused to who lacks one of these
	// Caller asks it, at Time, as in Command; nil: whoever may know everything.
	Caller *Caller
	Time   int64
}

// Answer is what came of a Query. Kind Other (0) means it was answered.
type Answer struct {
	Kind     blocktree.Kind
	Text     string
	Hint     string
	Inode    *Inode              // Stat, StatID; Shrink: as it is asked to be
	Entries  []DirEntry          // List, ascending by Name
	More     bool                // List: there are entries after the last; Files: after Files.After
	Layout   *stripe.Layout      // Layout; ToRead, of a file
	Lease    *Lease              // Lease, Shrink
	Runtimes []blocktree.Runtime // Runtimes, ascending by Path
	Status   *Status             // Status
	Starts   []NodeStart         // Starts, ascending by Node
	Allowed  *Allowed            // Allowed and ToRead, with Inode
	Draining []blocktree.NodeID  // Draining: stores that are to lose their places, ascending
	Revoked  []Revocation        // Revoked, ascending by Principal and Scope; at most RevokedPageMax, and More
	// Redirect says, with kind Elsewhere and no other, who answers instead.
	Redirect *Redirect
	Above    *Above           // Above; Known: what this cluster has been told itself
	Taken    []TakenEntry     // Take, ascending by Name, with More, and with Runtimes that are records below
	Home     blocktree.Path   // Generation: the directory of its cluster; Unkeyed: where to look, empty: nowhere
	Moves    []Move           // Moves, in the order in which they were begun
	Xattrs   []Xattr          // Xattrs, ascending by Name
	Files    *Files           // Files; Entries are those that are told, ascending by Name
	Kept     *KeptBy          // Stat, List, Allowed, Xattrs, by Path: the directory in which there is nothing of the name, or that is listed, where its names are kept
	Children []blocktree.Path // Children, in the order of their records; at most ChildrenMax, and More
}

// Err returns nil if the query was answered, else an *Error.
func (a *Answer) Err(op string) error {
	r := Result{Kind: a.Kind, Text: a.Text, Hint: a.Hint}
	return r.Err(op)
}
