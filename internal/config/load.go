package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"unicode"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"

	"blocktree"
	"blocktree/internal/cli"
)

// Source is where a configuration comes from.
type Source struct {
	File  string                 // a YAML file
	Flags map[string]*pflag.Flag // by key, "log.level"; a flag that was given wins over file and environment
}

// LoadNode reads btnode.yaml. Errors are of the kinds Invalid, NewerFormat, NotFound, Permission, TooLarge and IO.
func LoadNode(s Source) (*Node, error) {
	c := new(Node)
	if err := load(s, c); err != nil {
		return nil, err
	}
	return c, inFile(s.File, c.validate())
}

// LoadNBD reads btnbd.yaml. Errors as LoadNode.
func LoadNBD(s Source) (*NBD, error) {
	c := new(NBD)
	if err := load(s, c); err != nil {
		return nil, err
	}
	return c, inFile(s.File, c.validate())
}

// LoadClient reads what a client needs from client.yaml, from a btnode.yaml or from a btnbd.yaml. Errors as LoadNode.
func LoadClient(s Source) (*Client, error) {
	c := new(anything)
	if err := load(s, c); err != nil {
		return nil, err
	}
	return &Client{Base: c.Base, ReaderKey: c.ReaderKey}, inFile(s.File, c.Base.validate())
}

// LoadAnonymous is LoadClient for who asks as nobody in particular: path and identity may be left out, and are not used. Errors as LoadNode.
func LoadAnonymous(s Source) (*Client, error) {
	c := new(anything)
	if err := load(s, c); err != nil {
		return nil, err
	}
	const unused = "/-"
	c.Path, c.Identity = unused, Identity{Key: unused, Credentials: unused} // nothing is loaded from there
	err := c.Base.validate()
	c.Path, c.Identity = "", Identity{}
	return &Client{Base: c.Base}, inFile(s.File, err)
}

// load reads the file into target and lays environment and flags over it.
func load(s Source, target any) error {
	text, err := read(s.File)
	if err != nil {
		return err
	}
	return inFile(s.File, decode(text, filepath.Dir(s.File), s.Flags, target))
}

// decode is load without the disk.
func decode(text []byte, dir string, flags map[string]*pflag.Flag, target any) error {
	first := reflect.New(reflect.TypeOf(target).Elem()).Interface()
	tree, err := strict(text, first)
	if err != nil {
		return err
	}
	anchor(tree, dir)
	v := viper.New()
	if err := v.MergeConfigMap(tree); err != nil {
		return blocktree.E("merge", blocktree.Invalid, err)
	}
	for _, key := range scalars(reflect.TypeOf(target).Elem(), "") {
		if err := v.BindEnv(key, envName(key)); err != nil {
			return blocktree.E("environment", blocktree.Invalid, err)
		}
	}
	for key, flag := range flags {
		if !flag.Changed {
			continue // its default is for help texts
		}
		if err := v.BindPFlag(key, flag); err != nil {
			return blocktree.E("flags", blocktree.Invalid, err)
		}
	}
	fromText := viper.DecodeHook(mapstructure.ComposeDecodeHookFunc(
		mapstructure.TextUnmarshallerHookFunc(), mapstructure.StringToSliceHookFunc(",")))
	if err := v.Unmarshal(target, fromText); err != nil {
		return overlayError(err)
	}
	return nil
}

// overlayError gives what mapstructure says a kind: the file was decoded before, so a flag or variable is wrong.
func overlayError(err error) error {
	var e *blocktree.Error
	if errors.As(err, &e) {
		return err
	}
	return cli.Invalid("look at the flags and at the environment variables that start with BT_", "%w", err)
}

// read reads a file of bounded size.
func read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		kind, hint := blocktree.IO, ""
		switch {
		case errors.Is(err, fs.ErrNotExist):
			kind, hint = blocktree.NotFound, "`btnode playground --generate` writes a set of files; configs/ has commented examples"
		case errors.Is(err, fs.ErrPermission):
			kind, hint = blocktree.Permission, "run as the user that owns the file"
		}
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, &blocktree.Error{Op: "config", Path: name, Kind: kind, Err: err, Hint: hint}
	}
	defer f.Close() // only read from
	text, err := io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	if err != nil {
		return nil, &blocktree.Error{Op: "config", Path: name, Kind: blocktree.IO, Err: err}
	}
	if len(text) > fileBytesMax {
		return nil, &blocktree.Error{Op: "config", Path: name, Kind: blocktree.TooLarge, Err: fmt.Errorf("more than %d bytes", fileBytesMax)}
	}
	return text, nil
}

// inFile says which file an error is about.
func inFile(name string, err error) error {
	if err == nil {
		return nil
	}
	return &blocktree.Error{Op: "config", Path: name, Err: err}
}

// anchor makes the file names of a tree relative to the directory of its file.
func anchor(tree map[string]any, dir string) {
	for _, key := range fileKeys() {
		m, last := tree, key
		if head, tail, ok := strings.Cut(key, "."); ok {
			m, _ = tree[head].(map[string]any)
			last = tail
		}
		if name, ok := m[last].(string); ok && (key != "control" || name != off) {
			m[last] = inDirectory(dir, name)
		}
	}
	if m, ok := tree["metrics"].(map[string]any); ok {
		if address, ok := m["listen"].(string); ok {
			m["listen"] = socketInDirectory(dir, address)
		}
	}
	switch listen := tree["listen"].(type) {
	case string:
		tree["listen"] = socketInDirectory(dir, listen)
	case []any:
		for i, address := range listen {
			if text, ok := address.(string); ok {
				listen[i] = socketInDirectory(dir, text)
			}
		}
	}
}

// socketInDirectory does that with the address of a unix socket.
func socketInDirectory(dir, address string) string {
	before, name, ok := strings.Cut(address, "unix:")
	if !ok || before != "" && before != tlsPrefix && before != plainPrefix {
		return address
	}
	return before + "unix:" + inDirectory(dir, name)
}

// scalars lists the keys of a struct type that an environment variable can give: all but lists of structs.
func scalars(t reflect.Type, path string) (keys []string) {
	for name, ft := range fields(t) {
		key := join(path, name)
		_, text := reflect.New(ft).Interface().(interface{ UnmarshalText([]byte) error })
		switch {
		case text, ft.Kind() != reflect.Struct && ft.Kind() != reflect.Slice:
			keys = append(keys, key)
		case ft.Kind() == reflect.Struct:
			keys = append(keys, scalars(ft, key)...)
		case ft.Elem().Kind() == reflect.String:
			keys = append(keys, key)
		}
	}
	return keys
}

// envName is the variable that stands for a key: "identity.key" is BT_IDENTITY_KEY, "readerKey" is BT_READER_KEY, "tls.clientCA" is
// BT_TLS_CLIENT_CA.
func envName(key string) string {
	var b strings.Builder
	b.WriteString("BT_")
	upper := false // the one before
	for _, r := range key {
		switch {
		case r == '.':
			b.WriteByte('_')
		case unicode.IsUpper(r) && upper:
			b.WriteRune(r)
		case unicode.IsUpper(r):
			b.WriteByte('_')
			b.WriteRune(r)
		default:
			b.WriteRune(unicode.ToUpper(r))
		}
		upper = unicode.IsUpper(r)
	}
	return b.String()
}

// Marshal prints a configuration so that Load reads it, below comment lines of its own.
func Marshal(comment string, c any) ([]byte, error) {
	var b bytes.Buffer
	for line := range strings.Lines(comment) {
		b.WriteString("# " + line)
	}
	b.WriteString("\n")
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(c); err != nil {
		return nil, blocktree.E("config.Marshal", blocktree.Invalid, err)
	}
	if err := enc.Close(); err != nil {
		return nil, blocktree.E("config.Marshal", blocktree.Invalid, err)
	}
	return b.Bytes(), nil
}
