package cluster

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"blocktree"
	"blocktree/cluster/meta"
	"blocktree/crypto/cred"
)

// audit writes a line for every refusal and for every change of rights: who, what, on what, why. Each principal has AuditPerSecond lines of either;
// how many more there were, its next line says, or one of its own a second later.
type audit struct {
	log    *slog.Logger
	clock  blocktree.Clock
	pathOf func(blocktree.FileID) (blocktree.Path, error)

	mu    sync.Mutex
	known map[auditKey]*auditWindow
}

// Audit is the audit of another service of the same runtime, which asks on behalf of others: of what they are refused it writes, and the cluster does not.
type Audit struct{ audit }

// NewAudit makes one. Flush is to be called about once a second.
func NewAudit(log *slog.Logger, clock blocktree.Clock) *Audit {
	return &Audit{audit{log: log, clock: clock}}
}

// Refused writes that somebody was refused something; on is for people.
func (a *Audit) Refused(who cred.Identity, address, what, on string, why error) {
	a.refused(asker{who, address}, what, on, why)
}

// Flush writes what was held back and never said.
func (a *Audit) Flush() { a.flush() }

// auditKey is of what there is one window: a flood of refusals must not hide a change.
type auditKey struct {
	who    blocktree.Principal
	change bool
}

// auditWindow is what was written within the second that begins with since.
type auditWindow struct {
	since time.Duration
	lines int
	held  int // lines that were not written
}

// asker is who asked for something, and from where.
type asker struct {
	cred.Identity
	address string
}

// auditOther stands for all principals beyond AuditPrincipalsMax together.
var auditOther = blocktree.Principal{1}

// refused writes that somebody was refused something on a path (string) or file (blocktree.FileID).
func (a *audit) refused(who asker, what string, on any, why error) {
	if held, ok := a.admit(auditKey{who.Principal, false}); ok {
		a.log.Warn("refused", "principal", who.Principal.String(), "path", shortPath(who.Path), "address", who.address, "what", what, "on", a.named(on),
			"why", why.Error(), "heldBack", held)
	}
}

// changed writes that somebody has changed rights.
func (a *audit) changed(who asker, what string, on any) {
	if held, ok := a.admit(auditKey{who.Principal, true}); ok {
		a.log.Info("rights changed", "principal", who.Principal.String(), "path", shortPath(who.Path), "address", who.address, "what", what, "on", a.named(on),
			"heldBack", held)
	}
}

// named is the path of what a line is about, or what is known of it.
func (a *audit) named(on any) string {
	f, ok := on.(blocktree.FileID)
	if !ok {
		return fmt.Sprint(on)
	}
	if a.pathOf != nil {
		if p, err := a.pathOf(f); err == nil {
			return p.Short()
		}
	}
	return f.String()
}

// admit counts a line, and says whether it is written, and how many were not before it.
func (a *audit) admit(key auditKey) (held int, ok bool) {
	now := a.clock.Boot()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known == nil {
		a.known = map[auditKey]*auditWindow{}
	}
	w := a.known[key]
	if w == nil && len(a.known) >= blocktree.AuditPrincipalsMax {
		key.who = auditOther
		w = a.known[key]
	}
	if w == nil {
		w = &auditWindow{since: now}
		a.known[key] = w
	}
	if now-w.since >= time.Second {
		w.since, w.lines = now, 0
	}
	if w.lines >= blocktree.AuditPerSecond {
		w.held++
		return 0, false
	}
	w.lines++
	held, w.held = w.held, 0
	return held, true
}

// flush writes what was held back and never said, and forgets who is quiet.
func (a *audit) flush() {
	now := a.clock.Boot()
	a.mu.Lock()
	late := map[auditKey]int{}
	for key, w := range a.known {
		if now-w.since < time.Second {
			continue
		}
		if w.held > 0 {
			late[key] = w.held
		}
		delete(a.known, key)
	}
	a.mu.Unlock()
	for key, held := range late {
		who := key.who.String()
		if key.who == auditOther {
			who = "others"
		}
		a.log.Warn("lines of the audit were held back", "principal", who, "changes", key.change, "heldBack", held)
	}
}

// shortPath is a path for people, empty for who has none.
func shortPath(p blocktree.Path) string {
	if p == "" {
		return ""
	}
	return p.Short()
}

// told writes what came of a command: that it was refused, or what it changed about rights. A refusal of one on behalf of another is written by who asked.
func (a *audit) told(who asker, onBehalf bool, op meta.Op, r *meta.Result) {
	what, on := opWords(op)
	if r.Kind == blocktree.Permission || r.Kind == blocktree.Unauthenticated {
		if !onBehalf {
			a.refused(who, what, on, r.Err("cluster"))
		}
		return
	}
	if r.Kind != blocktree.Other {
		return
	}
	switch o := op.(type) {
	case meta.PutGrant, meta.RemoveGrant, meta.RevokePrincipal, meta.SetAccess:
		a.changed(who, what, on)
	case meta.RenameOver:
		a.told(who, onBehalf, o.Rename, r)
	case meta.Rename:
		if o.From.Parent() != o.To.Parent() || len(o.Records) > 0 {
			a.changed(who, what, on)
		}
	case meta.SetAttr:
		if o.Mask&(meta.AttrMode|meta.AttrOwner|meta.AttrAccess) != 0 {
			a.changed(who, what, on)
		}
	}
}
