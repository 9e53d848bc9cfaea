package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"blocktree"
	"blocktree/internal/cli"
)

// What an address of a listener may have in front, and words of several keys.
const (
	tlsPrefix   = "tls+"
	plainPrefix = "plain+"
	off         = "off"
	require     = "require"
)

// Bounds, and what holds where nothing is said.
const (
	listenersMax          = 16
	allowedMax            = 1024
	onDemandOpenDefault   = 64
	onDemandLingerDefault = 30 * time.Second
)

// Addresses is a list that may be written as its only entry.
type Addresses []string

// UnmarshalText reads the only entry.
func (a *Addresses) UnmarshalText(text []byte) error {
	*a = Addresses{string(text)}
	return nil
}

// MarshalYAML writes a list of one as its only entry.
func (a Addresses) MarshalYAML() (any, error) {
	if len(a) == 1 {
		return a[0], nil
	}
	return []string(a), nil
}

// String is for people.
func (a Addresses) String() string { return strings.Join(a, " ") }

// TLS names the PEM files of a server and says what is asked of its clients. The zero TLS is none.
type TLS struct {
	Certificate        string `yaml:"certificate,omitempty" mapstructure:"certificate"`
	Key                string `yaml:"key,omitempty" mapstructure:"key"`
	ClientCA           string `yaml:"clientCA,omitempty" mapstructure:"clientCA"`
	Mode               string `yaml:"mode,omitempty" mapstructure:"mode"`                             // of listeners that do not say: require (default) or off
	ClientCertificates string `yaml:"clientCertificates,omitempty" mapstructure:"clientCertificates"` // require (default), optional or none
}

// Listener is one address that an NBD server listens on.
type Listener struct {
	Address string // without a prefix
	TLS     bool
}

// Listeners returns where the server listens, in the order of the configuration, which must be valid.
func (n *NBD) Listeners() []Listener {
	list := make([]Listener, 0, len(n.Listen))
	for _, a := range n.Listen {
		l := Listener{Address: a, TLS: n.PassedTLS()}
		if bare, ok := strings.CutPrefix(a, tlsPrefix); ok {
			l = Listener{bare, true}
		} else if bare, ok := strings.CutPrefix(a, plainPrefix); ok {
			l = Listener{bare, false}
		}
		list = append(list, l)
	}
	return list
}

// PassedTLS reports whether listeners that do not say require TLS, as those that a service manager passes.
func (n *NBD) PassedTLS() bool { return n.TLS != TLS{} && n.TLS.Mode != off }

// ControlSocket is the path of the socket that tells who uses what, empty for none: where nothing is said, beside the first unix socket.
func (n *NBD) ControlSocket() string {
	switch n.Control {
	case off:
		return ""
	case "":
	default:
		return n.Control
	}
	for _, l := range n.Listeners() {
		if name, ok := strings.CutPrefix(l.Address, "unix:"); ok {
			return name + ".control"
		}
	}
	return ""
}

// proves reports whether clients of TLS listeners have to prove who they are.
func (t *TLS) proves() bool { return t.ClientCertificates == "" || t.ClientCertificates == require }

func (t *TLS) validate() error {
	const files = "`btnbd certificate` makes the files"
	switch {
	case t.Certificate == "":
		return missing("tls.certificate", "it names the PEM file of this server's certificate; "+files)
	case t.Key == "":
		return missing("tls.key", "it names the PEM file of the certificate's secret key; "+files)
	case t.Mode != "" && t.Mode != off && t.Mode != require:
		return cli.Invalid("use require or off", "tls.mode: %q is neither require nor off", t.Mode)
	case !slices.Contains([]string{"", require, "optional", "none"}, t.ClientCertificates):
		return cli.Invalid("use require, optional or none", "tls.clientCertificates: %q is none of them", t.ClientCertificates)
	case t.ClientCertificates == "none" && t.ClientCA != "":
		return cli.Invalid("leave one of them out", "tls.clientCA is given, and tls.clientCertificates asks for none")
	case t.ClientCertificates != "none" && t.ClientCA == "":
		return missing("tls.clientCA", "it names the PEM file of the authority that signs clients' certificates; or write clientCertificates: none")
	}
	return nil
}

func (n *NBD) validateListeners() error {
	if len(n.Listen) == 0 || n.Listen[0] == "" && len(n.Listen) == 1 {
		return missing("listen", listenHint)
	}
	if len(n.Listen) > listenersMax {
		return cli.Invalid("use fewer", "listen: %d addresses, at most %d", len(n.Listen), listenersMax)
	}
	if n.TLS != (TLS{}) {
		if err := n.TLS.validate(); err != nil {
			return err
		}
	}
	seen := map[string]bool{}
	for _, l := range n.Listeners() {
		if l.TLS && n.TLS == (TLS{}) {
			return missing("tls", "a listener with tls+ in front needs a tls: section with certificate and key")
		}
		if err := CheckListen(l.Address, n.Insecure || l.TLS && n.TLS.proves()); err != nil {
			return at("listen", err)
		}
		if seen[l.Address] {
			return cli.Invalid("leave one of them", "listen: %s is there twice", l.Address)
		}
		seen[l.Address] = true
	}
	if path := n.ControlSocket(); path != "" && n.Control != "" && len(path) > socketPathBytesMax {
		return cli.Invalid("use a shorter directory", "control: the name of the socket has %d bytes, at most %d are possible", len(path), socketPathBytesMax)
	}
	return nil
}

// OnDemand says which files are opened when a client asks for them by their path. Where Below is empty, none are.
type OnDemand struct {
	Below      string    `yaml:"below,omitempty" mapstructure:"below"` // the directory that they are in, or deeper
	ReadOnly   bool      `yaml:"readOnly,omitempty" mapstructure:"readOnly"`
	Encryption string    `yaml:"encryption,omitempty" mapstructure:"encryption"` // on (default) or none
	Open       int       `yaml:"open,omitempty" mapstructure:"open"`             // at most, at a time
	Linger     Duration  `yaml:"linger,omitempty" mapstructure:"linger"`         // how long one stays open that nobody uses
	Clients    []Allowed `yaml:"clients,omitempty" mapstructure:"clients"`       // none: whoever gets past the listener
}

func (o *OnDemand) validate(b *Base) error {
	if o.Below == "" {
		if o.ReadOnly || o.Encryption != "" || o.Open != 0 || o.Linger.Duration != 0 || len(o.Clients) > 0 {
			return missing("below", "it is the directory whose files may be asked for, for example /vm")
		}
		return nil
	}
	if o.Open == 0 {
		o.Open = onDemandOpenDefault
	}
	if o.Linger.Duration == 0 {
		o.Linger.Duration = onDemandLingerDefault
	}
	switch {
	case o.Open < 0 || o.Open > exportsMax:
		return cli.Invalid("write how many files may be open at a time", "open: %d, 1 to %d are possible", o.Open, exportsMax)
	case o.Linger.Duration < 0 || o.Linger.Duration > time.Hour:
		return cli.Invalid("30s is the default", "linger: %v is not from 1ns to 1h", o.Linger)
	}
	if _, err := b.Resolve(o.Below); err != nil {
		return at("below", err)
	}
	return checkEncryption(o.Encryption)
}

// Encrypted reports whether the files must be encrypted ones.
func (o *OnDemand) Encrypted() bool { return o.Encryption != "none" }

// Allowed is a client that may use an export.
type Allowed struct {
	Certificate ClientID `yaml:"certificate" mapstructure:"certificate"`
	Access      string   `yaml:"access,omitempty" mapstructure:"access"` // write (default) or read
}

// Writes reports whether the client may write.
func (a *Allowed) Writes() bool { return a.Access != "read" }

// checkClients checks who may use an export. Listing anybody makes sense only where somebody can prove that it is him.
func (n *NBD) checkClients(key string, list []Allowed) error {
	if len(list) > allowedMax {
		return cli.Invalid("use fewer, or an authority of their own", "%s.clients: %d of them, at most %d", key, len(list), allowedMax)
	}
	seen := map[ClientID]bool{}
	for i, a := range list {
		at := fmt.Sprintf("%s.clients[%d]", key, i)
		switch {
		case a.Certificate == ClientID{}:
			return missing(at+".certificate", clientIDHint)
		case seen[a.Certificate]:
			return cli.Invalid("leave one of them", "%s: %s is there twice", at, a.Certificate)
		case a.Access != "" && a.Access != "read" && a.Access != "write":
			return cli.Invalid("use read or write", "%s.access: %q is neither read nor write", at, a.Access)
		}
		seen[a.Certificate] = true
	}
	secure := n.PassedTLS() || slices.ContainsFunc(n.Listeners(), func(l Listener) bool { return l.TLS })
	if len(list) > 0 && (!secure || n.TLS.ClientCertificates == "none") {
		return cli.Invalid("add a tls: section with clientCA, or leave clients out: then whoever may connect may use it",
			"%s.clients: nobody can prove who he is, since no listener asks for certificates", key)
	}
	return nil
}

const clientIDHint = "write the principal of an Ed25519 certificate, as `btnbd certificate` and the server's log print it, or sha256: and what `openssl x509 -noout -fingerprint -sha256 -in FILE` prints"

// ClientID names a certificate, or the key that certificates are for. One of the two is set.
type ClientID struct {
	Principal   blocktree.Principal
	Fingerprint [sha256.Size]byte
}

// UnmarshalText reads a principal, or sha256: and 64 hexadecimal digits with or without colons.
func (c *ClientID) UnmarshalText(text []byte) error {
	*c = ClientID{}
	digits, ok := strings.CutPrefix(string(text), "sha256:")
	if !ok {
		p, err := blocktree.ParsePrincipal(string(text))
		c.Principal = p
		return cli.WithHint(err, clientIDHint)
	}
	sum, err := hex.DecodeString(strings.ReplaceAll(digits, ":", ""))
	if err != nil || len(sum) != sha256.Size {
		return cli.Invalid(clientIDHint, "%q is not the fingerprint of a certificate", text)
	}
	copy(c.Fingerprint[:], sum)
	if c.Fingerprint == [sha256.Size]byte{} {
		return cli.Invalid(clientIDHint, "%q is no certificate's", text)
	}
	return nil
}

// String prints what UnmarshalText reads.
func (c ClientID) String() string {
	if !c.Principal.IsZero() {
		return c.Principal.String()
	}
	return "sha256:" + hex.EncodeToString(c.Fingerprint[:])
}

// MarshalText prints a client's id.
func (c ClientID) MarshalText() ([]byte, error) { return []byte(c.String()), nil }
