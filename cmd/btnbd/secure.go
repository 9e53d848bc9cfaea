package main

import (
	"blocktree"
	"blocktree/blockdev/nbd"
	"blocktree/internal/config"
)

// loadTLS reads what the configuration names, if it has a tls section.
func (s *server) loadTLS() error {
	c := &s.cfg.TLS
	if *c == (config.TLS{}) {
		return nil
	}
	t, err := nbd.LoadTLS(nbd.TLSFiles{Certificate: c.Certificate, Key: c.Key, ClientCA: c.ClientCA, Clients: nbd.Certificates(c.ClientCertificates)})
	if err != nil {
		return err
	}
	s.tls = t
	s.log.Info("TLS", "certificate", c.Certificate, "expires", t.Expires())
	return nil
}

// hangup is what SIGHUP does: credentials, certificates and keys are read again.
func (s *server) hangup() {
	s.renewal.Load().Look()
	if s.tls == nil {
		return
	}
	if err := s.tls.Reload(); err != nil {
		s.log.Error("the TLS files were not read again: connections go on with those of before", "error", err, "hint", blocktree.HintOf(err))
		return
	}
	s.log.Info("TLS files read again, for connections that come from now on", "expires", s.tls.Expires())
}

// rights are what the configuration says of clients; nil where it says nothing.
func rights(c *config.NBD) nbd.Rights {
	exports, listed := make(map[string][]config.Allowed, len(c.Exports)), len(c.OnDemand.Clients)
	for _, e := range c.Exports {
		exports[e.Path] = e.Clients
		listed += len(e.Clients)
	}
	if listed == 0 {
		return nil
	}
	return func(who nbd.Identity, export string) nbd.Access {
		allowed, configured := exports[export]
		if !configured {
			allowed = c.OnDemand.Clients
		}
		return accessOf(who, allowed)
	}
}

// accessOf is what a list of clients allows; an empty one allows everybody everything. Who is listed by principal and by certificate may do
// what either says.
func accessOf(who nbd.Identity, allowed []config.Allowed) nbd.Access {
	if len(allowed) == 0 {
		return nbd.WriteAccess
	}
	access := nbd.NoAccess
	for _, a := range allowed {
		id := a.Certificate
		named := !id.Principal.IsZero() && id.Principal == who.Principal ||
			id.Principal.IsZero() && !who.IsZero() && id.Fingerprint == who.Fingerprint
		switch {
		case named && a.Writes():
			return nbd.WriteAccess
		case named:
			access = nbd.ReadAccess
		}
	}
	return access
}
