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
	case meta.Resize:
		return fmt.Sprintf("resize to %d bytes", o.SizeBytes), o.File
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
	case meta.QueryAccess:
		if q.Want != 0 {
			return "open for " + q.Want.String(), on
		}
		return "stat", on
	case meta.QueryStat, meta.QueryStatID:
		return "stat", on
	case meta.QueryList:
		return "list", on
	case meta.QueryLayout:
		return "layout", on
	case meta.QueryLease:
		return "lease", on
	}
	return "ask", ""
}
