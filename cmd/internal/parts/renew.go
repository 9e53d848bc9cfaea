package parts

import (
	"bytes"
	"log/slog"
	"sync"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
	"blocktree/internal/config"
)

const (
	// lookMax and lookMin bound how long new credentials may lie there unread; in between it is a tenth of what is left of the old.
	lookMax = time.Minute
	lookMin = 500 * time.Millisecond
	// remindEvery is how often the log says that credentials end soon, or cannot be read.
	remindEvery = 24 * time.Hour
)

// Renewal reads a runtime's credentials anew, at SIGHUP and when their file has changed, while the runtime runs.
type Renewal struct {
	base  *config.Base
	log   *slog.Logger
	apply func(cred.Credentials) error
	wake  chan struct{}
	ended chan struct{}
	wg    sync.WaitGroup

	// The goroutine's own.
	have     []byte // encoded, as they are in use
	identity cred.Identity
	reminded map[string]time.Time // by what was said
}

// Renew has apply called with every new credentials of a runtime that runs with those that the configuration names. A runtime that cannot read
// them goes on with those it has, and says so in its log.
func Renew(b *config.Base, log *slog.Logger, apply func(cred.Credentials) error) (*Renewal, error) {
	chain, err := cred.Load(b.Identity.Credentials)
	if err != nil {
		return nil, err
	}
	id, err := cred.VerifyForm(chain, b.Root())
	if err != nil {
		return nil, err
	}
	if err := apply(chain); err != nil { // they may have changed since the runtime read them
		return nil, err
	}
	r := &Renewal{base: b, log: log, apply: apply, wake: make(chan struct{}, 1), ended: make(chan struct{}), have: chain.Encode(), identity: id,
		reminded: map[string]time.Time{}}
	r.wg.Go(r.run)
	return r, nil
}

// Look has the credentials read at once. It does not block; on a nil Renewal it does nothing.
func (r *Renewal) Look() {
	if r == nil {
		return
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Close ends it and waits.
func (r *Renewal) Close() {
	close(r.ended)
	r.wg.Wait()
}

func (r *Renewal) run() {
	for asked := false; ; {
		r.look(asked)
		timer := time.NewTimer(min(max(time.Until(r.identity.NotAfter)/10, lookMin), lookMax))
		select {
		case <-r.ended:
			timer.Stop()
			return
		case <-r.wake:
			asked = true
		case <-timer.C:
			asked = false
		}
		timer.Stop()
	}
}

// look takes what is new, and says what is to be said.
func (r *Renewal) look(asked bool) {
	switch renewed, err := r.renew(); {
	case err != nil && (asked || r.due("new credentials cannot be used")):
		r.log.Error("new credentials cannot be used: the runtime goes on with those it has", "file", r.base.Identity.Credentials, "until", r.identity.NotAfter.UTC(),
			"error", err, "hint", blocktree.HintOf(err))
	case renewed:
		clear(r.reminded)
		r.log.Info("credentials renewed", "until", r.identity.NotAfter.UTC())
	case err == nil && asked:
		r.log.Info("the credentials are those in use", "until", r.identity.NotAfter.UTC())
	}
	if r.identity.EndsSoon(time.Now()) && r.due("the credentials end soon") {
		r.log.Warn("the credentials end soon: renew them (btnode credential renew)", "file", r.base.Identity.Credentials, "until", r.identity.NotAfter.UTC(),
			"left", time.Until(r.identity.NotAfter).Round(time.Second).String())
	}
}

// due reports whether something is to be said, and notes that it is.
func (r *Renewal) due(what string) bool {
	last, said := r.reminded[what]
	if said && time.Since(last) < remindEvery {
		return false
	}
	r.reminded[what] = time.Now()
	return true
}

// renew reads the file, and has the runtime use what is new in it.
func (r *Renewal) renew() (bool, error) {
	chain, err := cred.Load(r.base.Identity.Credentials)
	if err != nil {
		return false, err
	}
	encoded := chain.Encode()
	if bytes.Equal(encoded, r.have) {
		return false, nil
	}
	id, err := cred.Verify(chain, r.base.Root(), time.Now())
	if err != nil {
		return false, err
	}
	if err := r.apply(chain); err != nil {
		return false, err
	}
	r.have, r.identity = encoded, id
	return true, nil
}
