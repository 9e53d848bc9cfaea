package cluster

import (
	"fmt"
	"time"

	"blocktree/cluster/meta"
)

// opWords says what a command does, and on what, for the audit. None of it is of an access record.
func opWords(op meta.Op) (what string, on any) {
	switch o := op.(type) {
	case meta.MakeDir:
		return "make directory", o.Path.Short()
	case meta.CreateFile:
		return "make file", o.Path.Short()
	case meta.CreateFlushFile:
		return "make file", o.Path.Short()
	case meta.CreateTreeFile:
		return "make file", o.Path.Short()
	case meta.Remove:
		return "remove", o.Path.Short()
	case meta.SetAttr:
		return attrWords(o), o.File
	case meta.PutGrant:
		return "grant " + o.Grant.Rights.String() + " to " + o.Grant.Subject.String() + untilWords(o.Grant.Until), o.File
	case meta.RemoveGrant:
		return "revoke from " + o.Subject.String(), o.File
	case meta.SetAccess:
		return "set access record", o.File
	case meta.SetLength:
		return "set the length", o.File
	case meta.NoteAccess:
		return "tell of the access record", o.File
	case meta.RevokePrincipal:
		return "revoke principal " + o.Principal.String() + untilWords(o.Until), o.Scope.Short()
	case meta.OpenSession:
		return "open a session", o.Path.Short()
	case meta.RenewSession:
		return "renew a session", ""
	case meta.CloseSession:
		return "close a session", ""
	case meta.Release:
		return "release", o.File
	case meta.PutRuntime:
		return "put process record", o.Runtime.Path.Short()
	case meta.RemoveRuntime:
		return "remove process record", o.Path.Short()
	case meta.Found:
		return "found the cluster", o.Dir.Short()
	case meta.StartNode:
		return "start store " + o.Node.String(), ""
	case meta.StartVolatile:
		return "start store " + o.Node.String(), ""
	case meta.LeaveViews:
		return "have store " + o.Node.String() + " copied up", ""
	case meta.Resize:
		return fmt.Sprintf("resize to %d bytes", o.SizeBytes), o.File
	case meta.AskShrink:
		return fmt.Sprintf("ask its holder to resize to %d bytes", o.SizeBytes), o.File
	case meta.ResizeTree:
		return opWords(o.Resize)
	case meta.Acquire:
		return "hold", o.File
	case meta.ClaimLease:
		return "take over", o.File
	case meta.Anchor:
		return "anchor a record", o.File
	case meta.ChangeView:
		return "change views", o.Change.File
	case meta.ReplaceHost:
		return "replace node", o.Path.Short()
	case meta.RetireHost:
		return "remove node", o.Path.Short()
	case meta.DrainHost:
		return "drain node", o.Path.Short()
	}
	return treeWords(op)
}

// treeWords is opWords of what has to do with delegated directories, and of what came after.
func treeWords(op meta.Op) (what string, on any) {
	switch o := op.(type) {
	case meta.AskShrinkTree:
		return opWords(o.AskShrink)
	case meta.MakeDirKept:
		return "make directory", o.Path.Short()
	case meta.NameFile:
		return "name file " + o.File.String(), o.Path.Short()
	case meta.MakeSpares:
		return fmt.Sprintf("make %d spares", o.N), ""
	case meta.Leave:
		return fmt.Sprintf("leave %d directories and %d spares", len(o.Dirs), len(o.Spares)), ""
	case meta.Want:
		return "look for what is not named yet", o.Dir
	case meta.CreateHeld:
		return "make file", o.Path.Short()
	case meta.SetEnd:
		return "set the end", o.File
	case meta.PutBelow:
		return "add node " + o.Runtime.Node.String(), o.Runtime.Path.Short()
	case meta.RemoveBelow:
		return "remove process record", o.Path.Short()
	case meta.AssignGeneration:
		return "give a generation to store " + o.Founder.String(), o.Dir.Short()
	case meta.Delegate:
		return fmt.Sprintf("delegate to generation %d, founded by store %v", o.Generation, o.Founder), o.Dir.Short()
	case meta.HandOver:
		return fmt.Sprintf("hand over to generation %d", o.Generation), o.Dir.Short()
	case meta.HandOverSum:
		return fmt.Sprintf("hand over %d entries to generation %d", o.Sum.Count, o.Generation), o.Dir.Short()
	case meta.DropMoved:
		return "drop what has moved", o.Dir.Short()
	case meta.TakeBack:
		return fmt.Sprintf("take back from generation %d", o.Generation), o.Dir.Short()
	case meta.RemoveMoved:
		return "remove", o.File
	case meta.DropEntry:
		return "remove entry", o.Path.Short()
	case meta.FoundChild:
		return "found the cluster", o.Dir.Short()
	case meta.SetAbove:
		return "note what is above", ""
	case meta.TakeEntries:
		return "take entries over", o.Dir.Short()
	case meta.EndTaking:
		return "answer for the directory", ""
	case meta.RenameOver:
		return treeWords(o.Rename)
	case meta.Unlink:
		return "remove", o.Path.Short()
	case meta.Forget:
		return "free", o.File
	case meta.Rename:
		return "rename to " + o.To.Short(), o.From.Short()
	}
	return moveWords(op)
}

// moveWords is opWords of what has to do with moves.
func moveWords(op meta.Op) (what string, on any) {
	switch o := op.(type) {
	case meta.BeginMove:
		return "make a copy of file " + o.From.String(), o.Path.Short()
	case meta.DropCopy:
		return "drop copy", o.File
	case meta.Depart:
		return "leave for " + o.To.String(), o.File
	case meta.Stay:
		return "stay", o.File
	case meta.Adopt:
		return "adopt " + o.File.String() + " in place of " + o.From.String(), o.Path.Short()
	case meta.RemoveLeft:
		return "remove what was left", o.File
	case meta.EndMove:
		return "end the move of", o.File
	case meta.Touch:
		return "say when it wrote", o.File
	case meta.ReleaseAt:
		return "release", o.File
	case meta.ReleaseEnd:
		return "set the end, and release", o.File
	case meta.SetTimes:
		return "set the time of", o.File
	case meta.Symlink:
		return "make symbolic link", o.Path.Short()
	case meta.SetXattr:
		return "set an attribute", o.File
	case meta.PutXattrs:
		return "carry attributes over", o.File
	}
	return fmt.Sprintf("%T", op), ""
}

func attrWords(o meta.SetAttr) string {
	what := "set"
	if o.Mask&meta.AttrMode != 0 {
		what += fmt.Sprintf(" mode %04o", o.Mode)
	}
	if o.Mask&meta.AttrOwner != 0 {
		what += fmt.Sprintf(" owner %d:%d", o.UID, o.GID)
	}
	if o.Mask&meta.AttrAccess != 0 {
		what += " access record"
	}
	if o.Mask&meta.AttrModified != 0 {
		what += " time"
	}
	return what
}

func untilWords(until int64) string {
	if until == 0 {
		return ""
	}
	return " until " + time.Unix(0, until).UTC().Format(time.RFC3339)
}

// queryWords says what a query asks, and of what.
func queryWords(q *meta.Query) (what string, on any) {
	on = q.File
	if q.Path != "" {
		on = q.Path.Short()
	}
	switch q.Kind {
	case meta.QueryAllowed, meta.QueryToRead:
		if q.Want != 0 {
			return "open for " + q.Want.String(), on
		}
		return "stat", on
	case meta.QueryStat, meta.QueryStatID, meta.QueryShrink:
		return "stat", on
	case meta.QueryList, meta.QueryFiles:
		return "list", on
	case meta.QueryLayout:
		return "layout", on
	case meta.QueryLease:
		return "lease", on
	case meta.QueryRuntimes, meta.QueryStarts, meta.QueryDraining, meta.QueryStatus:
		return "list nodes", ""
	case meta.QueryRevoked:
		return "list revocations", ""
	case meta.QueryUnkeyed:
		return "look for a key", on
	case meta.QueryXattrs:
		return "read attributes", on
	case meta.QueryMoves:
		return "list moves", ""
	case meta.QueryChildren:
		return "list clusters beneath", on
	case meta.QueryKnown:
		return "ask what is above", ""
	}
	return "ask", ""
}
