package config

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"blocktree"
	"blocktree/internal/cli"
)

// strict decodes the text of a file into target, a pointer to a struct of this package, and returns the same as a tree
// of maps, lists and strings for viper. It refuses what target does not have.
func strict(text []byte, target any) (map[string]any, error) {
	doc, err := parse(text)
	if err != nil {
		return nil, err
	}
	if err := checkVersion(doc); err != nil {
		return nil, err
	}
	tree, err := walk(doc, reflect.TypeOf(target).Elem(), "")
	if err != nil {
		return nil, err
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(target); err != nil {
		return nil, blocktree.E("", blocktree.Invalid, err)
	}
	fields, ok := tree.(map[string]any)
	if !ok {
		return nil, cli.Invalid("start from one of the examples in configs/", "the file holds no keys")
	}
	return fields, nil
}

// parse reads the one document that a file has.
func parse(text []byte) (*yaml.Node, error) {
	var doc, second yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, cli.Invalid("start from one of the examples in configs/", "the file is empty")
		}
		return nil, cli.Invalid("it has to be YAML; start from one of the examples in configs/", "%w", err)
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, cli.Invalid("leave one document in the file", "a second document follows the first")
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, cli.Invalid("start from one of the examples in configs/", "the file holds no keys")
	}
	return doc.Content[0], nil
}

// checkVersion looks at the version before anything else, since a newer file may have anything.
func checkVersion(doc *yaml.Node) error {
	for i := 0; i+1 < len(doc.Content); i += 2 {
		if doc.Content[i].Value != "version" {
			continue
		}
		line := doc.Content[i+1].Line
		v, err := strconv.Atoi(doc.Content[i+1].Value)
		switch {
		case err != nil || v < 1:
			return cli.Invalid("write version: 1", "line %d: %q is not a version", line, doc.Content[i+1].Value)
		case v > FormatVersion:
			return &blocktree.Error{Kind: blocktree.NewerFormat,
				Err:  fmt.Errorf("line %d: version %d, this software reads %d", line, v, FormatVersion),
				Hint: "install the version of blocktree that this file was written for, or a later one"}
		}
		return nil
	}
	return cli.Invalid("the first line is version: 1", "the file has no version")
}

// walk compares a node with the type that will hold it, and returns it as maps, lists and strings; nil for nothing.
func walk(n *yaml.Node, t reflect.Type, path string) (any, error) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return nil, cli.Invalid("write the value out", "line %d: anchors and aliases are not accepted", n.Line)
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil, nil
	}
	if _, ok := reflect.New(t).Interface().(encoding.TextUnmarshaler); ok && (t.Kind() != reflect.Slice || n.Kind == yaml.ScalarNode) {
		return walkScalar(n, t, path) // of a list that may be written as its only entry, that one
	}
	switch t.Kind() {
	case reflect.Struct:
		return walkMap(n, t, path)
	case reflect.Slice:
		return walkList(n, t, path)
	}
	return walkScalar(n, t, path)
}

func walkMap(n *yaml.Node, t reflect.Type, path string) (any, error) {
	if n.Kind != yaml.MappingNode {
		return nil, cli.Invalid("indent its keys below it; see the examples in configs/", "line %d: %s holds keys", n.Line, path)
	}
	known := fields(t)
	out := map[string]any{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		ft, ok := known[key.Value]
		if !ok {
			return nil, cli.Invalid(unknownHint(key.Value, known), "line %d: unknown key %q", key.Line, join(path, key.Value))
		}
		if _, ok := out[key.Value]; ok {
			return nil, cli.Invalid("leave one of them", "line %d: %s is given twice", key.Line, join(path, key.Value))
		}
		v, err := walk(value, ft, join(path, key.Value))
		if err != nil {
			return nil, err
		}
		if v != nil {
			out[key.Value] = v
		}
	}
	return out, nil
}

func walkList(n *yaml.Node, t reflect.Type, path string) (any, error) {
	if n.Kind != yaml.SequenceNode {
		return nil, cli.Invalid("start each entry with a dash", "line %d: %s is a list", n.Line, path)
	}
	out := make([]any, 0, len(n.Content))
	for i, item := range n.Content {
		v, err := walk(item, t.Elem(), fmt.Sprintf("%s[%d]", path, i))
		if err != nil {
			return nil, err
		}
		if v == nil {
			return nil, cli.Invalid("remove the dash, or write something after it", "line %d: an empty entry of %s", item.Line, path)
		}
		out = append(out, v)
	}
	return out, nil
}

func walkScalar(n *yaml.Node, t reflect.Type, path string) (any, error) {
	if n.Kind != yaml.ScalarNode {
		return nil, cli.Invalid("write one value after the colon", "line %d: %s is one value", n.Line, path)
	}
	at := func(err error) error { return fmt.Errorf("line %d: %s: %w", n.Line, path, err) }
	if u, ok := reflect.New(t).Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(n.Value)); err != nil {
			return nil, at(err)
		}
		return n.Value, nil
	}
	switch t.Kind() {
	case reflect.Bool:
		if n.Value != "true" && n.Value != "false" {
			return nil, at(cli.Invalid("write true or false", "%q is neither true nor false", n.Value))
		}
	case reflect.Int:
		if _, err := strconv.Atoi(n.Value); err != nil {
			return nil, at(cli.Invalid("write a whole number", "%q is not a number", n.Value))
		}
	}
	return n.Value, nil
}

// fields returns the keys of a struct type with the types of their values, inlined structs included.
func fields(t reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if strings.Contains(options, "inline") {
			for k, v := range fields(f.Type) {
				out[k] = v
			}
			continue
		}
		out[name] = f.Type
	}
	return out
}

// unknownHint names the known key that is nearest to the one given, or all of them.
func unknownHint(key string, known map[string]reflect.Type) string {
	best, bestDistance := "", 3
	names := make([]string, 0, len(known))
	for k := range known {
		names = append(names, k)
		if d := distance(strings.ToLower(key), strings.ToLower(k)); d < bestDistance || d == bestDistance && k < best {
			best, bestDistance = k, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	slices.Sort(names)
	return "known here: " + strings.Join(names, ", ")
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
