package nbd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync/atomic"
	"time"

	"blocktree"
)

// Certificates is what a listener asks of its clients.
type Certificates string

// The values of Certificates.
const (
	CertificatesRequired Certificates = "require"  // who has none that the authority signed is refused
	CertificatesOptional Certificates = "optional" // none will do, a bad one will not
	CertificatesNone     Certificates = "none"
)

// pemBytesMax bounds a file of certificates: hundreds of them.
const pemBytesMax = 1 << 20

// TLSFiles name the PEM files of a server, and say what it asks of clients.
type TLSFiles struct {
	Certificate string       // of the server, with what is between it and its authority
	Key         string       // readable by its owner only
	ClientCA    string       // the authorities whose certificates clients may have; not read where none are asked for
	Clients     Certificates // "" is CertificatesRequired
}

// TLS is how listeners secure their connections: by the newest files that were good. It is safe for use by many goroutines.
type TLS struct {
	files   TLSFiles
	current atomic.Pointer[tls.Config]
}

// LoadTLS reads the files. It fails with NotFound, Permission (others may read the key), Invalid, TooLarge or IO.
func LoadTLS(files TLSFiles) (*TLS, error) {
	if files.Clients == "" {
		files.Clients = CertificatesRequired
	}
	t := &TLS{files: files}
	return t, t.Reload()
}

// Reload reads the files again, for connections that come from now on. When it fails, as LoadTLS does, nothing has changed.
func (t *TLS) Reload() error {
	cfg, err := t.files.load()
	if err != nil {
		return err
	}
	t.current.Store(cfg)
	return nil
}

// Expires is when the server's certificate ends.
func (t *TLS) Expires() time.Time { return t.current.Load().Certificates[0].Leaf.NotAfter }

// Require returns l as a listener that lets nobody do anything before TLS is started. Server.Serve has to be given it.
func (t *TLS) Require(l net.Listener) net.Listener { return &tlsListener{l, t} }

// tlsListener is a listener that requires TLS. Its connections are plain until their clients start it.
type tlsListener struct {
	net.Listener
	tls *TLS
}

func (f *TLSFiles) load() (*tls.Config, error) {
	certificate, err := readPEM(f.Certificate, false)
	if err != nil {
		return nil, err
	}
	key, err := readPEM(f.Key, true)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, tlsError(f.Certificate, blocktree.Invalid, err,
			"it has to be the PEM certificate of the PEM key, which has no passphrase; `btnbd certificate` makes both")
	}
	cfg := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{pair},
		// Nothing is resumed: who connects proves who he is, each time.
		SessionTicketsDisabled: true,
		// Replies are read whole, so a small first record gains nothing.
		DynamicRecordSizingDisabled: true,
	}
	switch f.Clients {
	case CertificatesNone:
		return cfg, nil
	case CertificatesOptional:
		cfg.ClientAuth = tls.VerifyClientCertIfGiven
	case CertificatesRequired:
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	default:
		return nil, tlsError("", blocktree.Invalid, fmt.Errorf("certificates of clients: %q", f.Clients), "use require, optional or none")
	}
	authorities, err := readPEM(f.ClientCA, false)
	if err != nil {
		return nil, err
	}
	cfg.ClientCAs = x509.NewCertPool()
	if !cfg.ClientCAs.AppendCertsFromPEM(authorities) {
		return nil, tlsError(f.ClientCA, blocktree.Invalid, errors.New("no certificate in it"), "it is the PEM certificate of the authority that signs those of clients")
	}
	return cfg, nil
}

// readPEM reads a file, a secret one only if nobody but its owner may touch it.
func readPEM(name string, secret bool) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, tlsFileError(name, err)
	}
	defer f.Close() // only read from
	info, err := f.Stat()
	if err != nil {
		return nil, tlsFileError(name, err)
	}
	if secret && info.Mode().Perm()&0o077 != 0 {
		return nil, tlsError(name, blocktree.Permission, fmt.Errorf("others may read or change it (mode %04o)", info.Mode().Perm()),
			"chmod 600 "+name+"; make a new key if others may have read this one")
	}
	text, err := io.ReadAll(io.LimitReader(f, pemBytesMax+1))
	if err != nil {
		return nil, tlsFileError(name, err)
	}
	if len(text) > pemBytesMax {
		return nil, tlsError(name, blocktree.TooLarge, fmt.Errorf("more than %d bytes", pemBytesMax), "name a PEM file")
	}
	return text, nil
}

func tlsFileError(name string, err error) error {
	kind, hint := blocktree.IO, ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		kind, hint = blocktree.NotFound, "`btnbd certificate` makes certificates and their keys"
	case errors.Is(err, fs.ErrPermission):
		kind, hint = blocktree.Permission, "run as the user that owns the file"
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return tlsError(name, kind, err, hint)
}

func tlsError(name string, kind blocktree.Kind, err error, hint string) error {
	return &blocktree.Error{Op: "tls", Path: name, Kind: kind, Err: err, Hint: hint}
}
