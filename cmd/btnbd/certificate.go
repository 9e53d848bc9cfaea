package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/internal/cli"
)

// What the files are called: as libnbd and qemu look for them.
const (
	caCert, caKey         = "ca-cert.pem", "ca-key.pem"
	serverCert, serverKey = "server-cert.pem", "server-key.pem"
	clientCert, clientKey = "client-cert.pem", "client-key.pem"
)

const (
	privateKey  = "PRIVATE KEY"
	day         = 24 * time.Hour
	daysMax     = 3650
	caDays      = 2 * daysMax // so that what it signs today ends before it
	pemBytesMax = 64 << 10
	namesMax    = 64
)

// certificates is what the flags of `btnbd certificate` say.
type certificates struct {
	dir             string
	servers, client []string
	days            int
	now             time.Time
	out             io.Writer
}

func newCertificate() *cobra.Command {
	var k certificates
	c := &cobra.Command{
		Use:   "certificate --dir DIR [--server NAME]... [--client NAME]...",
		Short: "Make TLS certificates for a server and its clients",
		Long: `certificate makes what the tls section of btnbd.yaml and NBD clients need, if you have no certificate authority of your own:

  DIR/ca-cert.pem, ca-key.pem           the authority, unless it is there already
  DIR/server-cert.pem, server-key.pem   with --server: names and addresses by which clients reach the server
  DIR/NAME/…                            with --client: ca-cert.pem, client-cert.pem and client-key.pem, the directory
                                        that libnbd takes as tls-certificates and qemu as dir of tls-creds-x509

A client's key is an Ed25519 key, and so a principal: it prints as what a clients: list of btnbd.yaml takes, and stays the same when the
certificate is made again with the key that is there. Nothing is overwritten: to renew a certificate, remove its file first. Give the server
ca-cert.pem and its two files, a client its directory; ca-key.pem signs more of them, so keep it where neither can read it.`,
		Example: `  btnbd certificate --dir /etc/blocktree/tls --server nbd.example.org --server 192.0.2.10 --client vm1 --client vm2
  nbdinfo 'nbds://nbd.example.org/vm/disk0?tls-certificates=/etc/blocktree/tls/vm1'`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args(),
	}
	f := c.Flags()
	f.StringVar(&k.dir, "dir", "", "directory of the certificates, made when it is absent")
	f.StringSliceVar(&k.servers, "server", nil, "host name or address of the server; all of them go into one certificate")
	f.StringSliceVar(&k.client, "client", nil, "name of a client, which gets a directory of that name")
	f.IntVar(&k.days, "days", daysMax, "how long what is made is valid")
	_ = c.MarkFlagDirname("dir") // for completion only
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := cli.RequireFlags(c, "dir"); err != nil {
			return err
		}
		k.out, k.now = c.OutOrStdout(), time.Now()
		return k.run()
	}
	return c
}

func (k *certificates) run() error {
	if err := k.validate(); err != nil {
		return err
	}
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return certificateError(k.dir, err)
	}
	ca, key, err := k.authority()
	if err != nil {
		return err
	}
	if len(k.servers) > 0 {
		if err := k.server(ca, key); err != nil {
			return err
		}
	}
	for _, name := range k.client {
		if err := k.clientOf(ca, key, name); err != nil {
			return err
		}
	}
	return nil
}

func (k *certificates) validate() error {
	switch {
	case k.days < 1 || k.days > daysMax:
		return cli.Invalid(fmt.Sprintf("use 1 to %d", daysMax), "--days %d", k.days)
	case len(k.servers) == 0 && len(k.client) == 0:
		return cli.Invalid("for example --server 192.0.2.10 --client vm1", "neither --server nor --client says what to make")
	case len(k.servers) > namesMax || len(k.client) > namesMax:
		return cli.Invalid("make them in several goes", "%d servers and %d clients, at most %d of each", len(k.servers), len(k.client), namesMax)
	}
	for _, name := range k.client {
		if err := blocktree.CheckName(name); err != nil || strings.HasSuffix(name, ".pem") {
			return cli.Invalid("use a name that a directory can have, for example vm1", "--client %q", name)
		}
	}
	for _, name := range k.servers {
		if name == "" || strings.ContainsAny(name, " \t\n/:@*") && net.ParseIP(name) == nil || len(name) > 253 {
			return cli.Invalid("write a host name or an address without port, for example nbd.example.org or 192.0.2.10", "--server %q", name)
		}
	}
	return nil
}

// authority reads the authority, or makes it.
func (k *certificates) authority() (*x509.Certificate, crypto.Signer, error) {
	_, err := os.Stat(filepath.Join(k.dir, caCert))
	fresh := errors.Is(err, fs.ErrNotExist)
	key, err := k.key(filepath.Join(k.dir, caKey), fresh, newEd25519)
	if err != nil {
		return nil, nil, err
	}
	if fresh {
		template := k.template("btnbd certificate authority", caDays)
		template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
		template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		if _, err := k.sign(filepath.Join(k.dir, caCert), template, template, key.Public(), key); err != nil {
			return nil, nil, err
		}
	}
	der, err := readBlock(filepath.Join(k.dir, caCert), "CERTIFICATE")
	if err != nil {
		return nil, nil, err
	}
	ca, err := x509.ParseCertificate(der)
	if err == nil && !samePublicKey(ca.PublicKey, key.Public()) {
		err = errors.New("it is not of the key in " + caKey)
	}
	if err == nil && k.now.After(ca.NotAfter) {
		err = fmt.Errorf("it ended on %s", ca.NotAfter.Format(time.DateOnly))
	}
	if err != nil {
		return nil, nil, &blocktree.Error{Op: "certificate", Path: filepath.Join(k.dir, caCert), Kind: blocktree.Invalid, Err: err,
			Hint: "use another --dir; certificates of another authority are of no use to those who have this one's"}
	}
	return ca, key, nil
}

func (k *certificates) server(ca *x509.Certificate, caKey crypto.Signer) error {
	key, err := k.key(filepath.Join(k.dir, serverKey), true, newECDSA) // what every client knows
	if err != nil {
		return err
	}
	template := k.template(k.servers[0], k.days)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, name := range k.servers {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := k.sign(filepath.Join(k.dir, serverCert), template, ca, key.Public(), caKey)
	if err != nil {
		return err
	}
	return k.print(fmt.Sprintf("server %s, until %s\n  tls:\n    certificate: %s\n    key: %s\n    clientCA: %s\n", strings.Join(k.servers, " "),
		endOf(der).Format(time.DateOnly), filepath.Join(k.dir, serverCert), filepath.Join(k.dir, serverKey), filepath.Join(k.dir, caCert)))
}

func (k *certificates) clientOf(ca *x509.Certificate, caSigner crypto.Signer, name string) error {
	dir := filepath.Join(k.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return certificateError(dir, err)
	}
	if der, err := readBlock(filepath.Join(dir, caCert), "CERTIFICATE"); err == nil && !bytes.Equal(der, ca.Raw) {
		return &blocktree.Error{Op: "certificate", Path: filepath.Join(dir, caCert), Kind: blocktree.Invalid, Err: errors.New("it is of another authority"),
			Hint: "remove it, for the client to know this one; or use the --dir of the other"}
	}
	key, err := k.key(filepath.Join(dir, clientKey), true, newEd25519)
	if err != nil {
		return err
	}
	template := k.template(name, k.days)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	der, err := k.sign(filepath.Join(dir, clientCert), template, ca, key.Public(), caSigner)
	if err != nil {
		return err
	}
	err = writeBlock(filepath.Join(dir, caCert), "CERTIFICATE", ca.Raw, 0o644)
	if err != nil && blocktree.KindOf(err) != blocktree.Exists { // there from before
		return err
	}
	id := "sha256:" + hex.EncodeToString(hashOf(der))
	if public, ok := key.Public().(ed25519.PublicKey); ok {
		id = blocktree.PrincipalOf(public).String()
	}
	return k.print(fmt.Sprintf("client %s, until %s: tls-certificates=%s\n  clients:\n    - certificate: %s\n", name, endOf(der).Format(time.DateOnly), dir, id))
}

func (k *certificates) print(text string) error {
	if _, err := io.WriteString(k.out, text); err != nil {
		return blocktree.E("print", blocktree.IO, err)
	}
	return nil
}

func (k *certificates) template(name string, days int) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // crypto/rand does not fail since Go 1.24
	}
	// Clocks differ: it is valid since an hour ago. No key usage, which qemu would want to have bits that Ed25519 has no use for.
	return &x509.Certificate{SerialNumber: serial.Add(serial, big.NewInt(1)), Subject: pkix.Name{CommonName: name},
		NotBefore: k.now.Add(-time.Hour), NotAfter: k.now.Add(time.Duration(days) * day)}
}

// sign makes a certificate as a new file.
func (k *certificates) sign(name string, template, ca *x509.Certificate, public crypto.PublicKey, key crypto.Signer) ([]byte, error) {
	if template.NotAfter.After(ca.NotAfter) {
		template.NotAfter = ca.NotAfter
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, public, key)
	if err != nil {
		return nil, &blocktree.Error{Op: "certificate", Path: name, Kind: blocktree.Invalid, Err: err}
	}
	return der, writeBlock(name, "CERTIFICATE", der, 0o644)
}

// key reads a secret key, or makes it where it may be made.
func (k *certificates) key(name string, mayMake bool, generate func() (crypto.Signer, error)) (crypto.Signer, error) {
	der, err := readBlock(name, privateKey)
	if blocktree.KindOf(err) == blocktree.NotFound && mayMake {
		key, err := generate()
		if err != nil {
			return nil, blocktree.E("certificate", blocktree.IO, err)
		}
		if der, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
			return nil, blocktree.E("certificate", blocktree.Invalid, err)
		}
		return key, writeBlock(name, privateKey, der, 0o600)
	}
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	key, ok := parsed.(crypto.Signer)
	if err != nil || !ok {
		return nil, &blocktree.Error{Op: "certificate", Path: name, Kind: blocktree.Invalid, Err: errors.New("not a key that signs"), Hint: "remove it to have another one made"}
	}
	return key, nil
}

func newEd25519() (crypto.Signer, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return key, err
}

func newECDSA() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func hashOf(der []byte) []byte {
	sum := sha256.Sum256(der)
	return sum[:]
}

// endOf is when a certificate that was just made ends.
func endOf(der []byte) time.Time {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err) // it was made by the same package
	}
	return c.NotAfter
}

// writeBlock makes a new file.
func writeBlock(name, kind string, der []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return certificateError(name, err)
	}
	err = pem.Encode(f, &pem.Block{Type: kind, Bytes: der})
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(name) // the first error is the one to tell
		return certificateError(name, err)
	}
	return nil
}

// readBlock reads a file of one PEM block.
func readBlock(name, kind string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, certificateError(name, err)
	}
	defer f.Close() // only read from
	info, err := f.Stat()
	if err != nil {
		return nil, certificateError(name, err)
	}
	if kind == privateKey && info.Mode().Perm()&0o077 != 0 {
		return nil, &blocktree.Error{Op: "certificate", Path: name, Kind: blocktree.Permission, Err: fmt.Errorf("others may read or change it (mode %04o)", info.Mode().Perm()),
			Hint: "chmod 600 " + name + "; make a new key if others may have read this one"}
	}
	text, err := io.ReadAll(io.LimitReader(f, pemBytesMax))
	if err != nil {
		return nil, certificateError(name, err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != kind {
		return nil, &blocktree.Error{Op: "certificate", Path: name, Kind: blocktree.Invalid, Err: fmt.Errorf("no PEM block %q", kind),
			Hint: "use another --dir, or put back what was there"}
	}
	return block.Bytes, nil
}

func certificateError(name string, err error) error {
	e := &blocktree.Error{Op: "certificate", Path: name, Kind: blocktree.IO, Err: err}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		e.Err = pe.Err
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		e.Kind, e.Hint = blocktree.Exists, "to renew it remove this file first; the key may stay"
	case errors.Is(err, fs.ErrNotExist):
		e.Kind, e.Hint = blocktree.NotFound, "the authority's certificate and key go together: put it back, or use another --dir"
	case errors.Is(err, fs.ErrPermission):
		e.Kind, e.Hint = blocktree.Permission, "use a directory that this user may write"
	}
	return e
}

// samePublicKey is false also for a key of a kind that this program does not know.
func samePublicKey(a any, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}
